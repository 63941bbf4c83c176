"""Traces as files: whole or not at all, and read strictly."""

import gzip
import json

import pytest

from ctd.reasoning import read_text, trace_files, trace_parser
from ctd.reasoning.token_spans import Span
from ctd.reasoning.traces import Comparison, Trace
from tests.reasoning.test_traces import TEXT


@pytest.fixture
def tiny(space):
    """The seven labels, read from the text above."""
    return trace_parser.parse(TEXT, space, "u1", "Serum calcium and the liver.")


@pytest.mark.parametrize("name", ["traces.jsonl", "traces.jsonl.gz"])
def test_saved_traces_come_back_equal_and_the_file_is_the_same_each_time(tiny, space, tmp_path, name):
    written = [tiny, read_text.read("心不全\u2028 Liver", space, uid="2"), Trace("3", "", "", (), error="line 1")]
    path = tmp_path / "deep" / name
    trace_files.save(written, path)
    assert trace_files.load(path) == written
    assert isinstance(trace_files.load(path)[0].comparisons[0], Comparison)
    assert isinstance(trace_files.load(path)[0].shortlist, Span)
    first = path.read_bytes()
    trace_files.save(iter(written), path)
    assert path.read_bytes() == first
    lines = (gzip.decompress(first) if name.endswith("gz") else first).decode().split("\n")
    assert json.loads(lines[0])["uid"] == "u1"


def test_a_save_that_fails_leaves_the_old_file(tiny, tmp_path):
    path = tmp_path / "traces.jsonl"
    trace_files.save([tiny], path)

    def broken():
        yield tiny
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        trace_files.save(broken(), path)
    assert trace_files.load(path) == [tiny]
    assert [file.name for file in tmp_path.iterdir()] == ["traces.jsonl"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.pop("cot"), "cot: Field required"),
        (lambda row: row.update(extra=1), "extra: Unexpected keyword argument"),
        (lambda row: row.update(uid=3), "uid: Input should be a valid string"),
        (lambda row: row.update(mentions=[[1, 2]]), "mentions"),
        (lambda row: row.update(mentions=[[0, 5, 9999]]), "must lie within its"),
    ],
)
def test_a_line_that_is_no_trace_is_refused_with_file_and_line(tiny, tmp_path, change, message):
    path = tmp_path / "traces.jsonl"
    trace_files.save([tiny, tiny], path)
    good, bad = path.read_text().splitlines()
    row = json.loads(bad)
    change(row)
    path.write_text(f"{good}\n{json.dumps(row)}\n")
    with pytest.raises(ValueError, match=f"traces.jsonl, line 2: .*{message}"):
        trace_files.load(path)


def test_a_torn_file_is_refused(tiny, tmp_path):
    path = tmp_path / "traces.jsonl.gz"
    trace_files.save([tiny] * 50, path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="traces.jsonl.gz, after line .*not a whole gzip file"):
        trace_files.load(path)
