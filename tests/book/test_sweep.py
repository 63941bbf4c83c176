"""A sweep: the cells of a grid, checked before one runs, each run once, and one table of what they found."""

import csv
import json

import pytest
from typer.testing import CliRunner

from ctd.book import kernel, sweep
from ctd.cli import app
from tests.book.test_runs import BODY, no_kernel, write_notebook  # noqa: F401 (a fixture)

GRID = 'grid: {n: [1, 2, 3], note: [a, "b c"]}\nexclude: [{n: 3, note: a}]\ninclude: [{n: 9}]\n'


@pytest.fixture
def call(tmp_path, monkeypatch, no_kernel):  # noqa: F811
    """`ctd sweep` of a notebook in an empty project; executing it starts no kernel."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CTD_DEBUG", raising=False)
    write_notebook(tmp_path / "notebooks" / "01_first.ipynb", *BODY)

    def call(text, *words, code=0):
        (tmp_path / "grid.yml").write_text(text)
        done = CliRunner().invoke(app, ["sweep", "01", "grid.yml", "--jobs", "2", *words], catch_exceptions=False)
        assert done.exit_code == code, done.output
        return done

    return call


def test_every_cell_runs_once_into_a_folder_of_its_name_and_one_table(call, no_kernel, tmp_path):  # noqa: F811
    assert "6 cells" in call(GRID).stdout
    assert len(no_kernel) == 6
    home = tmp_path / "runs" / "01_first"
    assert {"default-n=1,note=a", "default-n=2,note=a", "default-n=9"} < {folder.name for folder in home.iterdir()}
    rows = list(csv.DictReader((home / "default-grid.csv").open()))
    doubles = [(row["parameter.n"], row["parameter.note"], row["value"]) for row in rows if row["metric"] == "double"]
    assert doubles == [
        ("1", "a", "2"), ("1", "b c", "2"), ("2", "a", "4"), ("2", "b c", "4"), ("3", "b c", "6"), ("9", "a=b", "18"),
    ]  # fmt: skip
    again = call(GRID, "--json")
    assert len(no_kernel) == 6
    assert json.loads(again.stdout) == json.loads((home / "default-grid.json").read_text())
    call("grid: {n: [1, 4], note: [a]}")
    assert len(no_kernel) == 7


def test_a_cell_whose_kernel_dies_is_tried_again_and_one_that_fails_is_not(call, monkeypatch):
    execute, tried = kernel.execute_notebook, []

    def fails_at_first(notebook, copy, parameters, seed):
        n = parameters.get("n", 5)
        tried.append(n)
        if n == 1 and tried.count(1) < 3:
            raise kernel.KernelDied("the kernel died")
        if n == 2:
            raise kernel.RunFailed("cell [1] raised")
        return execute(notebook, copy, parameters, seed)

    monkeypatch.setattr(kernel, "execute_notebook", fails_at_first)
    assert "cell [1] raised" in call("grid: {n: [1, 2, 3]}", code=1).stderr
    assert sorted(tried) == [1, 1, 1, 2, 3]


def test_an_interrupt_leaves_what_is_finished_and_says_how_to_go_on(call, monkeypatch, no_kernel):  # noqa: F811
    execute = kernel.execute_notebook

    def interrupted(notebook, copy, parameters, seed):
        if parameters["n"] == 3:
            raise KeyboardInterrupt
        return execute(notebook, copy, parameters, seed)

    monkeypatch.setattr(kernel, "execute_notebook", interrupted)
    errors = call("grid: {n: [1, 2, 3]}", "--jobs", "1", code=130).stderr
    assert "2 of 3 cells are finished: the same command goes on" in errors
    monkeypatch.setattr(kernel, "execute_notebook", execute)
    call("grid: {n: [1, 2, 3]}")
    assert len(no_kernel) == 3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("grid: {n: [1, 999]}", "n must be a whole number between 1 and 100, got 999"),
        ("grid: {m: [1]}", "no parameter m"),
        ("grid: {n: 1}", "must map each parameter to a list"),
        ("gird: {n: [1]}", "did you mean grid?"),
        ("grid: {n: [1]}\nexclude: [{n: 2}]", "is no part of the grid"),
        ("grid: {n: [1]}\nexclude: [{n: 1}]", "has no cell"),
        ("grid: {n: [1, 1]}", "has a cell twice"),
        ("grid: {n: [1]}\ninclude: [3]", "include must be a list"),
        ("grid: [", "not YAML"),
        ("grid: {3: [1]}", "must be text"),
    ],
)
def test_a_wrong_grid_is_refused_in_one_line_before_anything_runs(call, no_kernel, text, complaint):  # noqa: F811
    error = call(text, code=2).stderr
    assert complaint in error
    assert error.count("\n") == 1
    assert no_kernel == []


def test_names_of_cells_are_names_of_folders():
    names = [sweep.cell_name({"teacher": text}) for text in ("a/b", "a_b", "../x", "y" * 300, "a,b=c", "é" * 110)]
    assert len(set(names)) == 6
    assert all("/" not in name and len(name.encode()) < 150 for name in names)
