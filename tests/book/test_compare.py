"""Comparing two runs names what differs, with units, and is silent about the rest."""

import copy
import json

import pytest

from ctd.book.compare import Difference, differences
from ctd.book.runs import RunFolder

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
RESULTS = [
    {"name": "recall", "value": 0.25, "unit": "fraction", "interval": [0.2, 0.3]},
    {"name": "labels", "value": 663973, "unit": "labels", "interval": None},
    {"name": "best", "value": "bm25", "unit": "retriever", "interval": None},
]


@pytest.fixture
def pair(tmp_path):
    """Writes two runs, the second with changes, and returns what differs."""

    def compare(change):
        made = copy.deepcopy((MANIFEST, RESULTS))
        change(*made)
        for name, (manifest, results) in {"a": (MANIFEST, RESULTS), "b": made}.items():
            (tmp_path / name).mkdir()
            (tmp_path / name / "manifest.json").write_text(json.dumps(manifest))
            (tmp_path / name / "results.json").write_text(json.dumps({"results": results}))
        return differences(RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b"))

    return compare


def test_equal_runs_do_not_differ_whenever_they_ran(pair):
    assert pair(lambda manifest, results: manifest.update(start="2027-01-01T00:00:00+00:00")) == []


def test_every_section_is_compared(pair):
    def change(manifest, results):
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
        ({"value": 0.5, "interval": None}, "0.5 fraction", "+0.25"),
        ({"value": 25.0, "unit": "percent"}, "25 [0.2, 0.3] percent", ""),
        ({"value": None, "interval": None}, "None fraction", ""),
    ],
)
def test_results_are_told_apart_with_units_and_intervals(pair, new, second, note):
    found = pair(lambda manifest, results: results[0].update(new))
    assert found == [Difference("results", "recall", "0.25 [0.2, 0.3] fraction", second, note)]


def test_results_on_one_side_only_are_named(pair):
    def change(manifest, results):
        results[1]["value"] = 600000
        results[2] = {"name": "worst", "value": "prior", "unit": "retriever", "interval": None}

    assert pair(change) == [
        Difference("results", "labels", "663,973 labels", "600,000 labels", "-63,973"),
        Difference("results", "best", "bm25 retriever", "-"),
        Difference("results", "worst", "-", "prior retriever"),
    ]
