"""Comparing two runs names what differs, with units, and is silent about the rest."""

import copy
import json

import pytest

from ctd.book import results
from ctd.book.compare import Difference, differences, page
from ctd.book.results import Row
from ctd.book.run_folder import RunFolder

MANIFEST = {
    "notebook": "notebooks/01_x.ipynb",
    "profile": "smoke",
    "commit": "0123456789abcdef",
    "dirty": False,
    "notebook_hash": "aa",
    "ctd_hash": "bb",
    "inputs_hash": "cc",
    "parameters": {"n": 5, "ks": [1, 2]},
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "hardware": {"cpu": "one", "cores": 2, "gpu": None},
    "start": "2026-01-01T00:00:00+00:00",
}
OVER = {"interval_over": "documents", "interval_method": "BCa", "n": 9}
ROWS = [
    {"metric": "recall", "k": 5, "value": 0.25, "unit": "fraction", "interval": [0.2, 0.3], **OVER},
    {"metric": "labels", "value": 663973, "unit": "labels"},
    {"metric": "best", "value": "bm25", "unit": "retriever"},
]


@pytest.fixture
def pair(tmp_path):
    """Writes two runs, the second with changes, and returns what differs."""

    def compare(change):
        changed = copy.deepcopy((MANIFEST, ROWS))
        change(*changed)
        for name, (manifest, rows) in {"a": (MANIFEST, ROWS), "b": changed}.items():
            (tmp_path / name).mkdir()
            (tmp_path / name / "manifest.json").write_text(json.dumps(manifest))
            results.write([Row(**row) for row in rows], tmp_path / name / "results.json")
        return differences(RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b"))

    return compare


def test_equal_runs_do_not_differ_whenever_they_ran(pair):
    assert pair(lambda manifest, rows: manifest.update(start="2027-01-01T00:00:00+00:00")) == []


def test_the_page_shows_every_difference_and_nothing_of_it_is_markup(tmp_path):
    runs = RunFolder(tmp_path / "a<b"), RunFolder(tmp_path / "c")
    changes = [Difference("results", "a <b> & c", "1", "2", "+1"), Difference("code", "commit", "x", "y")]
    shown = page(*runs, changes)
    assert "<td>a &lt;b&gt; &amp; c</td><td>1</td><td>2</td><td>+1</td>" in shown
    assert shown.count("<table>") == 2
    assert "a&lt;b" in shown
    assert "a<b" not in shown
    assert "http" not in shown
    assert "Nothing differs." in page(*runs, [])


def test_every_section_is_compared(pair):
    def change(manifest, rows):
        manifest["parameters"] = {"ks": [1, 2], "new": True}
        manifest["commit"] = "fedcba9876543210"
        manifest["versions"]["torch"] = "2.14.0"
        manifest["hardware"]["gpu"] = "H100"

    assert pair(change) == [
        Difference("parameters", "n", "5", "-"),
        Difference("parameters", "new", "-", "True"),
        Difference("code", "commit", "0123456789ab", "fedcba987654"),
        Difference("versions", "torch", "2.13.0", "2.14.0"),
        Difference("hardware", "gpu", "None", "H100"),
    ]


@pytest.mark.parametrize(
    ("new", "second", "note"),
    [
        ({"value": 0.28, "interval": [0.25, 0.31]}, "0.28 [0.25, 0.31] fraction", "+0.03, intervals overlap"),
        ({"value": 0.1, "interval": [0.05, 0.15]}, "0.1 [0.05, 0.15] fraction", "-0.15, intervals apart"),
        ({"n": 10}, "0.25 [0.2, 0.3] fraction", "0, intervals overlap"),
        ({"value": None, "interval": None, "interval_method": None}, "None fraction", ""),
    ],
)
def test_results_are_told_apart_with_units_and_intervals(pair, new, second, note):
    differing = pair(lambda manifest, rows: rows[0].update(new))
    first = "0.25 [0.2, 0.3] fraction"
    assert differing == [Difference("results", "recall@5", first, second, note)]


def test_results_on_one_side_only_are_named(pair):
    def change(manifest, rows):
        rows[1]["value"] = 600000
        rows[2] = {"metric": "worst", "value": "prior", "unit": "retriever"}

    assert pair(change) == [
        Difference("results", "labels", "663,973 labels", "600,000 labels", "-63,973"),
        Difference("results", "best", "bm25 retriever", "-"),
        Difference("results", "worst", "-", "prior retriever"),
    ]
