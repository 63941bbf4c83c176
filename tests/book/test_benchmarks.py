"""Timed in turns, kept, and read again; the machine's limit is worked out by hand."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from ctd.book import benchmarks, search_costs
from ctd.book.benchmarks import Work


def test_ratios_are_of_turns_and_survive_the_file(tmp_path, monkeypatch):
    clock = iter(np.cumsum([0.0, 9, 0, 6, 0, 2, 0, 8, 0, 4]).tolist())
    made_up = SimpleNamespace(process_time=lambda: next(clock), strftime=time.strftime, gmtime=time.gmtime)
    monkeypatch.setattr(benchmarks, "time", made_up)
    rows = benchmarks.compare(Work("search", "labels", 5), {"theirs": int, "ours": int}, "theirs", runs=2)
    peer, ctd_row = rows
    assert (peer.seconds, peer.ratio) == (7, 1)
    assert (ctd_row.seconds, ctd_row.ratio, ctd_row.low, ctd_row.high) == (3, 2.5, 2, 3)
    monkeypatch.setattr(benchmarks, "peak_gflops", lambda: 50.0)
    monkeypatch.setattr(benchmarks.hardware, "bandwidth", lambda: 10.0)
    monkeypatch.setattr(benchmarks.hardware, "machine", lambda: {"cpu": "made up"})
    path = benchmarks.keep("search", rows, tmp_path)
    [content] = benchmarks.stored(tmp_path)
    assert content["rows"] == rows
    assert content["machine"] == {"cpu": "made up", "gflops": 50.0, "gigabytes_a_second": 10.0}
    path.write_text('{"schema": 0}')
    with pytest.raises(ValueError, match="no benchmark of schema 1: run make bench"):
        benchmarks.read(path)


def test_the_limit_is_the_slower_of_computing_and_reading():
    rows = [
        benchmarks.Row("q", "w", "w", "labels", 1, 1.0, 1.0, 1.0, 1.0, 5, operations, n_bytes)
        for operations, n_bytes in ((100e9, 1e9), (1e9, 30e9), (0, 0))
    ]
    limits = benchmarks.frame(rows, 50.0, 10.0)["limit"].tolist()
    assert limits[:2] == [2.0, 3.0]
    assert np.isnan(limits[2])


def test_what_is_kept_can_be_read_and_names_its_peer():
    for content in benchmarks.stored():
        assert {row.question for row in content["rows"]} == {content["question"]}
        assert {row.runs for row in content["rows"]} == {benchmarks.RUNS}
        assert {row.peer for row in content["rows"]} <= {row.way for row in content["rows"]}


def test_of_few_labels_the_scan_finds_all():
    rows = search_costs.curve([256], 2, 16, 60, 0)
    assert [row.recall for row in rows] == [None, 1.0]
