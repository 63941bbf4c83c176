"""The summary of a pull request: which results changed beyond what another machine may change, verdicts first."""

import pytest
from typer.testing import CliRunner

from ctd.book import changes
from ctd.cli import app
from tests.book.ledger_runs import key, write

RECALL, DEPTH = key("recall", k=5), key("mean_depth", heads="top")
VERDICT = key("verdict", None, claim="las")


@pytest.fixture
def folders(tmp_path):
    """Two folders of runs: one chapter as it was, one changed, and one that each has alone."""
    before, after = tmp_path / "before", tmp_path / "after"
    for folder in (before, after):
        write(folder, "01_same", {RECALL: (0.5, 0.4, 0.6)})
    write(before, "02_changed", {RECALL: (0.5, 0.4, 0.6), DEPTH: (0.5, 0.4, 0.6), VERDICT: "inconclusive"})
    write(after, "02_changed", {RECALL: (0.52, 0.42, 0.62), DEPTH: (0.9, 0.8, 1.0), VERDICT: "reproduced"})
    write(before, "03_gone", {RECALL: (0.5, 0.4, 0.6)})
    write(after, "04_new", {RECALL: (0.5, 0.4, 0.6)})
    return before, after


def test_changed_results_are_counted_by_run_and_listed_with_verdicts_first(folders):
    lines = changes.summary(*folders).splitlines()
    assert lines[0] == "**2 of 4 results changed**, in 1 of 2 runs."
    assert "| 01_same/smoke | 1 |  |  |" in lines
    assert "| 02_changed/smoke | 3 | 2 |  |" in lines  # a recall of 0.02 more is within the tolerance
    assert "Only before: 03_gone/smoke." in lines
    assert "Only after: 04_new/smoke." in lines
    listed = lines[lines.index("### All changed results") + 4 :]
    assert [line.split(" | ")[1:] for line in listed] == [
        ["verdict (claim=las)", "inconclusive verdict", "reproduced verdict", " |"],
        ["mean_depth (heads=top)", "0.5 [0.4, 0.6] units", "0.9 [0.8, 1] units", "+0.4, intervals apart |"],
    ]


def test_two_runs_are_compared_and_equal_ones_have_no_list(folders):
    before, after = folders
    assert "###" not in changes.summary(before / "01_same" / "smoke", after / "01_same" / "smoke")
    assert "| 02_changed | 3 | 2 |  |" in changes.summary(
        before / "02_changed" / "smoke", after / "02_changed" / "smoke"
    )


def test_a_long_list_is_cut_and_says_so(folders, monkeypatch):
    monkeypatch.setattr(changes, "MOST", 1)
    text = changes.summary(*folders)
    assert "### 1 of 2 results" in text
    assert "mean_depth" not in text


def test_the_command_prints_it_and_names_a_folder_without_runs(folders, tmp_path):
    before, after = map(str, folders)
    printed = CliRunner().invoke(app, ["compare", "--markdown", before, after])
    assert (printed.exit_code, printed.stdout) == (0, changes.summary(*folders))
    refused = CliRunner().invoke(app, ["compare", "--markdown", before, str(tmp_path / "none")])
    assert refused.exit_code == 2
    assert "no run" in refused.output
