"""Every chapter ends with three exercises whose commands can be given."""

import itertools
import shlex
import subprocess
import sys

import pandas as pd
import pytest

from ctd.book import exercises, notebook_files, results
from ctd.book.notebook_files import find_notebook, parameters_of
from ctd.book.parameters import check_all, parse_assignments

BECOMES = {
    "same": lambda before, after: (before["value"] == after["value"]).all(),
    "other": lambda before, after: (before["value"] != after["value"]).any(),
    "higher": lambda before, after: after["value"].mean() > before["value"].mean(),
    "lower": lambda before, after: after["value"].mean() < before["value"].mean(),
    "wider": lambda before, after: width(after) > width(before),
}
ALL = [(stem, exercise) for stem, each in exercises.exercises().items() for exercise in each]


def test_every_chapter_has_three():
    assert {stem: len(each) for stem, each in exercises.exercises().items()} == {
        path.stem: 3 for path in notebook_files.notebooks()
    }


@pytest.mark.parametrize(("stem", "exercise"), ALL, ids=[exercise.command for _, exercise in ALL])
def test_a_command_changes_parameters_that_its_notebook_has(stem, exercise):
    words = shlex.split(exercise.command)
    assert words[:2] == ["ctd", "run"]
    notebook = find_notebook(words[2])
    assert stem in (notebook.stem, "17_claims"), "the ledger's reader runs another chapter"
    flags = dict(itertools.pairwise(words[3:]))
    assert set(words[3::2]) <= {"-p", "--profile"}
    notebook_files.profile_values(notebook, flags.get("--profile", "default"))
    parameters = parse_assignments(
        parameters_of(notebook), [word for flag, word in itertools.pairwise(words) if flag == "-p"]
    )
    assert parameters
    assert check_all(parameters_of(notebook), parameters, exercise.command)[1] == []
    profile = notebook_files.profile_values(notebook, flags.get("--profile", "default"))
    for name, value in parameters.items():
        assert value != profile.get(name, parameters_of(notebook)[name].default), "nothing changes"
    assert exercise.task[-1] in ".?"
    assert exercise.expect.endswith(".")


def test_a_section_folds_each_solution():
    section = exercises.section("01_retrieval_shortlists")
    assert section.startswith("## Exercises")
    assert section.count("{dropdown} What to expect") == 3
    assert section.count("```sh") == 3
    assert exercises.section("99_none") == ""


def width(rows):
    return (rows["high"] - rows["low"]).mean()


def table(path):
    return results.frame(results.read(path / results.RESULTS)).replace({None: pd.NA})


def came(before, after, becomes, **columns):
    """Whether the rows of a run with these columns became so in another run; those that both have."""
    keys = [name for name in results.COLUMNS if name not in ("value", "low", "high", "interval_method", "n", "k")]
    old, new = (results.select(run, **columns) for run in (before, after))
    if becomes != "wider" and set(old["k"].dropna()) & set(new["k"].dropna()):  # else k is what the exercise changes
        keys += ["k"]
    old, new = old.set_index(keys), new.set_index(keys)
    both = old.index.intersection(new.index)
    assert len(both), f"no rows of both runs have {columns}"
    numbers = ["value", "low", "high"]
    return bool(BECOMES[becomes](old.loc[both, numbers], new.loc[both, numbers]))


def test_what_became_of_rows_is_told():
    over = {"interval_over": "documents", "interval_method": "BCa", "n": 9}

    def run(*values):
        rows = [
            results.Row(metric="recall", unit="fraction", method=name, value=value, interval=(0, high), **over)
            for name, value, high in values
        ]
        return results.frame(rows)

    before, after = run(("a", 0.5, 0.7), ("b", 0.5, 0.7)), run(("a", 0.5, 0.7), ("b", 0.25, 0.8))
    true = {becomes for becomes in BECOMES if came(before, after, becomes, method="b")}
    assert true == {"other", "lower", "wider"}
    assert {becomes for becomes in BECOMES if came(after, before, becomes, method="b")} == {"other", "higher"}
    assert {becomes for becomes in BECOMES if came(before, after, becomes, method="a")} == {"same"}
    with pytest.raises(AssertionError, match="no rows of both runs have"):
        came(before, after, "same", method="c")


@pytest.mark.parametrize("exercise", [exercise for _, exercise in ALL], ids=lambda exercise: exercise.command)
def test_results_of_an_exercise_are_named_by_columns(exercise):
    for check in exercise.results:
        assert check["becomes"] in BECOMES
        assert set(check) - {"becomes"} <= set(results.COLUMNS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stem", "exercise"),
    [(stem, exercise) for stem, exercise in ALL if exercise.results],
    ids=[exercise.command for _, exercise in ALL if exercise.results],
)
def test_an_exercise_comes_out_as_its_solution_says(stem, exercise, tmp_path_factory):
    unchanged, changed = (tmp_path_factory.getbasetemp() / f"{stem}-{run}" for run in ("own", "exercise"))
    commands = {unchanged: f"ctd run {stem[:2]} --profile smoke", changed: f"{exercise.command} --force"}
    for out, command in commands.items():  # a second exercise finds the chapter's own run there, and keeps it
        words = [*shlex.split(command)[1:], "--out", str(out)]
        subprocess.run([sys.executable, "-m", "ctd.cli", *words], check=True)
    before, after = table(unchanged), table(changed)
    wrong = [dict(check) for check in exercise.results if not came(before, after, **check)]
    assert wrong == []
