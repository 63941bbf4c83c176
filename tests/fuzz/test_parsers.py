"""Whatever others wrote is read, or refused in one line; whatever we write is read again as it was.

CTD_EXAMPLES says how many examples each test takes (make test-all: 1000). tests/fuzz/atheris_run.py goes on for longer.
"""

# ruff: noqa: E501 (lists of pieces)
import gzip
import json
import math
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctd.book import results
from ctd.book.parameters import parameter_of, read_yaml
from ctd.book.run_folder import RunFolder
from ctd.book.settings import DocumentTokens, TraceCount
from ctd.reasoning import trace_parser, traces
from tests.fuzz.foreign import LABELS, PARSERS, SEEDS, SPACE
from tests.reasoning.test_traces import NASTY

PIECES = [
    *(piece.encode() for piece in NASTY if piece.isprintable()), b"\x00", b"\xff", b"\xef\xbb\xbf", b"\r\n", b"\n\n",
    b'"', b"'", b"{", b"}", b"[[[[", b"null", b"NaN", b"-1", b"9" * 30, b"9" * 5000, b"\\ud800", b"1e999", b"$(", b"$)",
    b"$.", b"${", b"$}", b"$p", b"$=", b"<!DOCTYPE a [<!ENTITY x 'y'>]>", b"&x;", b"]]>", b"<PMID/>", b"<PubmedArticle>",
    b'encoding="foo"', b"encoding='utf-16'", b",", b"icd_code,icd_code", b"Answer:", b"</think>", b"[" * 3000, b"-" * 9000,
]  # fmt: skip


@st.composite
def spoilt(draw, kind):
    """What the parser reads, with some of it cut, doubled, overwritten or packed."""
    content = draw(st.sampled_from(SEEDS[kind]))
    for _ in range(draw(st.integers(0, 4))):
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(content))] * 2)))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=4) | st.just(content[start:end]))
        content = draw(st.sampled_from([
            content[:start] + piece + content[start:], content[:start] + content[end:], content[:start] + piece + content[end:],
        ]))  # fmt: skip
    if draw(st.integers(0, 9)) == 0:
        packed = gzip.compress(content, 1)
        content = packed[: draw(st.integers(0, len(packed)))]
    return content


@pytest.mark.parametrize("kind", PARSERS)
def test_foreign_text_is_read_or_refused_in_one_line(kind, tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreign")

    @given(spoilt(kind) | st.binary(max_size=60))
    def check(content):
        PARSERS[kind](content, folder)

    check()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("pubmed", b'<?xml version="1.0" encoding="foo"?><a/>'),  # LookupError
        ("pubmed", b'<?xml version="1.0" encoding="shift_jis"?><a/>'),  # ValueError without the file's name
        ("json-lines", b'{"labels": "[' + b"-" * 100_000 + b'1]"}'),  # MemoryError
        ("json-lines", b'{"labels": "[{[]: 1}]"}'),  # TypeError
        ("json-lines", b'{"labels": "[' + b"9" * 5000 + b']"}'),
        ("mimic", b'not_id,sube_id,subject_,"b\nc"\n'),  # a complaint of two lines
        ("mimic", b"note_id,subject_id,hadm_id,text\nn1,1,11,a,more\n"),  # columns were shifted by one
        ("xc", b"9" * 5000 + b" 1"),  # more digits than Python turns into a number
    ],
)
def test_what_once_broke_a_parser(kind, content, tmp_path):
    PARSERS[kind](content, tmp_path)


WORDS = st.lists(st.sampled_from(NASTY) | st.text(max_size=3), min_size=1, max_size=5).map("".join)
TEXTS = WORDS.filter(lambda text: text.isprintable() or "\n" in text).filter(str.strip)


@st.composite
def written_traces(draw):
    listed = draw(st.lists(st.sampled_from(LABELS), min_size=1, max_size=4, unique=True))
    pair = st.lists(st.sampled_from(LABELS), min_size=2, max_size=2, unique=True)
    sentences = [
        f"{traces.mark(a)} over {traces.mark(b)}, {traces.quote(draw(WORDS.filter(bool)))}."
        for a, b in draw(st.lists(pair, max_size=3))
    ]
    return traces.write(draw(WORDS), listed, sentences, listed[: draw(st.integers(1, len(listed)))])


@given(written_traces())
def test_every_written_trace_is_parsed_as_it_was_written(text):
    assert traces.format(trace_parser.parse(text, SPACE, "u", "d")) == text


def tried(call):
    """What a call returns, and its complaint, "" for none."""
    try:
        return call(), ""
    except ValueError as error:
        return None, str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(string.ascii_lowercase, max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip


@given(st.lists(st.tuples(st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(max_size=5) | st.none(),
                          st.text(min_size=1, max_size=5)), max_size=4))  # fmt: skip
def test_results_are_read_as_they_were_written(tmp_path_factory, values):
    rows = [results.Row(metric=f"m{row}", unit=unit, value=value) for row, (value, unit) in enumerate(values)]
    file = tmp_path_factory.getbasetemp() / "results.json"
    results.write(rows, file, figures=[])
    assert results.read(file) == rows


@given(JSON | st.dictionaries(st.sampled_from(["notebook", "start", "parameters", "rows", "schema", "versions"]), JSON))
def test_any_manifest_and_any_results_are_read_or_refused_in_one_line(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "run"
    folder.mkdir(exist_ok=True)
    if isinstance(content, dict) and "schema" in content:
        content["schema"] = results.SCHEMA
    for name in ("manifest.json", "results.json"):
        (folder / name).write_text(json.dumps(content))
    run = RunFolder(folder)
    for read in (lambda: (run.stem, run.manifest["start"].replace("T", " ")), lambda: run.rows):
        _, complaint = tried(read)
        assert not complaint or (str(folder) in complaint and "\n" not in complaint)


PARAMETERS = [parameter_of("n", DocumentTokens, 0), parameter_of("m", TraceCount, 2)]
YAML = [
    "[", "]", "{", "}", ":", ",", "&a", "*a", "!!int", "'", '"', "2026-13-45", "1e9", "0o9", "0x", "1:2:3", "#", "- ",
    "\n", "~", "<<: *a", "1_0", ".nan", "9" * 5000,
]  # fmt: skip


@given(st.lists(st.sampled_from(YAML) | st.text(max_size=4), max_size=6).map("".join), st.sampled_from(PARAMETERS))
def test_any_word_for_a_parameter_is_a_value_within_its_bound_or_refused(text, parameter):
    value, complaint = tried(lambda: parameter.check(parameter.parse(text)))
    if complaint:
        assert parameter.name in complaint
        assert "\n" not in complaint.strip()
    else:
        assert type(value) is int


@given(JSON.filter(lambda value: not _has_nan(value)))
def test_values_are_read_from_yaml_as_json_writes_them(value):
    assert read_yaml(json.dumps(value), "x") == value


def _has_nan(value):
    if isinstance(value, dict | list):
        return any(map(_has_nan, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and not math.isfinite(value)
