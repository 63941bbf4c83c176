"""Runs that are kept: what they found and how they were made, as the run wrote it."""

import json

import pytest
from typer.testing import CliRunner

from ctd.book import published_runs
from ctd.book.results import Recorder
from ctd.book.runs import RunFolder
from ctd.cli import app

MANIFEST = {
    "notebook": "notebooks/10_teaching.ipynb",
    "parameters": {"teacher": "organism", "dataset": "heart-failure"},
    "overrides": {"weights": [1.0, 0.0], "note": "a"},
    "hardware": {"cpu": "a chip", "cores": 2, "gpu": None}, "commit": "0123456789abcdef",
}  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of chapter 10, and an empty folder for what is kept."""
    monkeypatch.setattr(published_runs, "FOLDER", tmp_path / "results")
    monkeypatch.delenv("CTD_DEBUG", raising=False)
    made = Recorder(tmp_path / "mine")
    made.record("documents", 1007, "documents")
    made.record("nDCG@5/a/b", 0.25, "fraction", (0.125, 0.5))
    made.record("all", 0.5, "fraction", (0.25, 0.75))
    made.record("written/tokens", 3.5, "tokens")
    made.close()
    (tmp_path / "mine" / "manifest.json").write_text(json.dumps(MANIFEST))
    return RunFolder(tmp_path / "mine")


def test_a_run_that_is_kept_is_what_it_wrote_and_says_how_it_was_made(run):
    one = published_runs.keep(run, "one")
    assert one.path == published_runs.FOLDER / "one"
    assert one.results == run.results
    assert one.manifest == MANIFEST
    assert published_runs.table(one).to_dict("records") == [
        {"metric": "nDCG@5", "of": "a/b", "value": 0.25, "low": 0.125, "high": 0.5}
    ]
    assert published_runs.title(one) == (
        "By a run that is kept with the book in `data/results/one`: **organism, heart-failure**, 1,007 documents "
        '(2 cores (a chip), commit 01234567), with `weights=[1.0, 0.0]`, `note="a"`.'
    )
    record = json.loads((run.path / "results.json").read_text())
    record["results"].append({"name": "traces", "value": 1591, "unit": "traces", "interval": None})
    (run.path / "results.json").write_text(json.dumps(record))
    (run.path / "manifest.json").write_text(json.dumps(MANIFEST | {"overrides": {}}))
    assert published_runs.title(RunFolder(run.path)).endswith(
        "1,591 traces, 1,007 documents (2 cores (a chip), commit 01234567)."
    )
    for machine, words in (
        ({"gpu": "a GPU", "cores": 2}, "a GPU, "),
        ({"gpu": None, "cores": 1, "cpu": "b"}, "1 core (b)"),
    ):
        (run.path / "manifest.json").write_text(json.dumps(MANIFEST | {"hardware": machine}))
        assert published_runs.made(RunFolder(run.path)).startswith(words)


def test_runs_are_found_by_chapter_and_parameters_and_those_of_a_killed_copy_are_not(run):
    assert published_runs.of("10") == []
    published_runs.keep(run, "one").path.rename(published_runs.FOLDER / ".three.1.partial")
    published_runs.keep(run, "two")
    published_runs.keep(run, "one")
    assert [one.path.name for one in published_runs.of("10")] == ["one", "two"]
    assert [one.path.name for one in published_runs.of("10", teacher="organism")] == ["one", "two"]
    assert published_runs.of("10", teacher="other") == published_runs.of("1") == published_runs.of("11") == []


def test_keeping_replaces_what_had_the_name_and_a_run_that_is_not_whole_replaces_nothing(run):
    published_runs.keep(run, "one")
    (run.path / "results.json").write_text('{"results": []}')
    assert published_runs.keep(RunFolder(run.path), "one").results == {}
    (run.path / "results.json").unlink()
    with pytest.raises(FileNotFoundError):
        published_runs.keep(RunFolder(run.path), "one")
    assert published_runs.of("10")[0].results == {}


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "/a"])
def test_a_name_that_is_no_folders_is_refused(run, name):
    with pytest.raises(ValueError, match="the name is that of a folder"):
        published_runs.keep(run, name)
    assert not published_runs.FOLDER.exists()


def test_the_command_keeps_and_says_where(run):
    said = CliRunner().invoke(app, ["keep", str(run.path), "one"])
    assert said.exit_code == 0
    where, then = said.stdout.splitlines()
    assert where == f"kept as {published_runs.FOLDER / 'one'}"
    assert then.endswith("ctd validate --write-golden 13_claims/smoke"), "or the golden results lack its verdicts"
    refused = CliRunner().invoke(app, ["keep", str(run.path), "a/b"])
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: the name is that of a folder")
