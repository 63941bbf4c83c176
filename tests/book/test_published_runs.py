"""Runs that are kept: what they found and how they were made, as the run wrote it."""

import json

import pytest
from typer.testing import CliRunner

from ctd.book import published_runs, results
from ctd.book.recorder import Recorder
from ctd.book.run_folder import RunFolder
from ctd.cli import app

MANIFEST = {
    "notebook": "notebooks/10_teaching.ipynb",
    "parameters": {"teacher": "organism", "dataset": "heart-failure"},
    "overrides": {"weights": [1.0, 0.0], "note": "a"},
    "hardware": {"cpu": "a chip", "cores": 2, "gpu": None}, "commit": "0123456789abcdef",
    "start": "2026-11-29T10:00:00+00:00",
}  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of chapter 10, and an empty folder for what is kept."""
    monkeypatch.setattr(published_runs, "FOLDER", tmp_path / "results")
    monkeypatch.delenv("CTD_DEBUG", raising=False)
    recorder = Recorder(tmp_path / "mine")
    over = {"interval_over": "documents", "n": 1007}
    recorder.record("documents", 1007, "documents")
    recorder.record("documents", 5, "documents", dataset="other")
    recorder.record("ndcg@5", 0.25, "fraction", (0.125, 0.5), **over, arm="cot", traces=64)
    recorder.record("ndcg@5", 0.5, "fraction", (0.25, 0.75), **over, arm="a", baseline="cot", traces=1024)
    recorder.record("ndcg@5", 0.75, "fraction", (0.5, 1.0), **over, arm="cot")
    recorder.close()
    (tmp_path / "mine" / "manifest.json").write_text(json.dumps(MANIFEST))
    return RunFolder(tmp_path / "mine")


def test_a_run_that_is_kept_is_what_it_wrote_and_says_how_it_was_made(run):
    published = published_runs.keep(run, "one")
    assert published.path == published_runs.FOLDER / "one"
    assert published.rows == run.rows
    assert len(published.rows) == 5
    assert published.manifest == MANIFEST
    (row,) = published_runs.overview([published]).to_dict("records")
    assert row == {
        "run": "one", "teacher": "organism", "data": "heart-failure", "traces": "", "documents": 1007,
        "made on": "2 cores (a chip), commit 01234567", "with": 'weights=[1.0, 0.0], note="a"',
    }  # fmt: skip
    for machine, words in (
        ({"gpu": "a GPU", "cores": 2}, "a GPU, "),
        ({"gpu": None, "cores": 1, "cpu": "b"}, "1 core (b)"),
    ):
        (run.path / "manifest.json").write_text(json.dumps(MANIFEST | {"hardware": machine}))
        assert published_runs.how_made(RunFolder(run.path)).startswith(words)


def test_a_run_without_a_dataset_to_choose_was_made_on_constructed_vignettes(run):
    (run.path / "manifest.json").write_text(json.dumps(MANIFEST | {"parameters": {"teacher": "organism-planted"}}))
    (row,) = published_runs.overview([RunFolder(run.path)]).to_dict("records")
    assert (row["teacher"], row["data"]) == ("organism-planted", "organism")


def test_what_runs_found_is_a_row_a_number_with_its_intervals_beside_each_other(run):
    gain = {"metric": "exact_match", "unit": "fraction", "value": 0.5, "n": 9, "interval_method": "BCa"}
    gain |= {"arm": "a", "baseline": "cot", "budget": "equal_steps"}
    over = {"documents": (0.25, 0.75), "seeds": (0.0, 1.0), "documents and seeds": (-1.0, 1.0)}
    rows = [results.Row(**gain, interval_over=name, interval=ends) for name, ends in over.items()]
    results.write([*run.rows, *rows], run.path / "results.json")
    table = published_runs.results_table([published_runs.keep(RunFolder(run.path), "one")])
    assert list(table) == ["run", "teacher", "what", "measure", "over documents", "over seeds"]
    assert table["what"].tolist() == ["cot, 64 traces", "a - cot, 1,024 traces", "cot", "a - cot, equal steps"]
    assert table["measure"].tolist() == ["ndcg@5"] * 3 + ["exact_match"]
    last = table.iloc[-1].str.replace("\N{NO-BREAK SPACE}", " ")
    assert (last["over documents"], last["over seeds"]) == ("0.500 [0.250, 0.750]", "0.500 [0.000, 1.000]")
    assert table.iloc[0]["over seeds"] == ""


def test_what_tells_numbers_of_a_run_apart_is_said(run):
    number = {"metric": "head_score", "unit": "score", "value": 1.5, "interval": (1.0, 2.0), "n": 9}
    number |= {"interval_method": "BCa", "interval_over": "documents"}
    rows = [results.Row(**number, score="RefineScore", layer=layer, head=2, phase=2) for layer in (0, 3)]
    results.write(rows, run.path / "results.json")
    table = published_runs.results_table([published_runs.keep(RunFolder(run.path), "one")])
    assert table["what"].tolist() == [f"Phase 2, RefineScore, layer: {layer}, head: 2" for layer in (0, 3)]


def test_a_run_that_could_not_answer_says_why(run):
    reason = results.Row(metric=results.NOT_TESTABLE, unit="reason", value="nobody compares")
    results.write([reason], run.path / "results.json")
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published_runs.report, "say", shown.append)
        published_runs.show([published_runs.keep(RunFolder(run.path), "one")])
    assert shown == ["`one`, not testable: nobody compares."]


def test_the_learning_curve_is_what_was_found_over_numbers_of_traces(run):
    assert published_runs.learning_curve(run).to_dict("records") == [
        {"traces": 64, "arm": "cot", "value": 0.25, "low": 0.125, "high": 0.5},
        {"traces": 1024, "arm": "a - cot", "value": 0.5, "low": 0.25, "high": 0.75},
    ]
    results.write([row for row in run.rows if row.traces is None], run.path / "results.json")
    assert published_runs.learning_curve(RunFolder(run.path)).empty


def test_runs_are_found_by_chapter_and_parameters_and_those_of_a_killed_copy_are_not(run):
    assert published_runs.of("10") == []
    published_runs.keep(run, "one").path.rename(published_runs.FOLDER / ".three.1.partial")
    published_runs.keep(run, "two")
    published_runs.keep(run, "one")
    assert [folder.path.name for folder in published_runs.of("10")] == ["one", "two"]
    assert [folder.path.name for folder in published_runs.of("10", teacher="organism")] == ["one", "two"]
    assert published_runs.of("10", teacher="other") == published_runs.of("1") == published_runs.of("11") == []


def test_keeping_replaces_what_had_the_name_and_a_run_that_is_not_whole_replaces_nothing(run):
    published_runs.keep(run, "one")
    results.write([], run.path / "results.json")
    assert published_runs.keep(RunFolder(run.path), "one").rows == []
    (run.path / "results.json").unlink()
    with pytest.raises(FileNotFoundError):
        published_runs.keep(RunFolder(run.path), "one")
    assert published_runs.of("10")[0].rows == []


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "/a"])
def test_a_name_that_is_no_folders_is_refused(run, name):
    with pytest.raises(ValueError, match="the name is that of a folder"):
        published_runs.keep(run, name)
    assert not published_runs.FOLDER.exists()


def test_the_command_keeps_and_says_where(run):
    result = CliRunner().invoke(app, ["keep", str(run.path), "one"])
    assert result.exit_code == 0
    where, then = result.stdout.splitlines()
    assert where == f"kept as {published_runs.FOLDER / 'one'}"
    assert then.endswith("ctd validate --write-golden 17_claims/smoke"), "or the golden results lack its verdicts"
    refused = CliRunner().invoke(app, ["keep", str(run.path), "a/b"])
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: the name is that of a folder")
