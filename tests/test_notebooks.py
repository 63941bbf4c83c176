"""The book's own notebooks: their shape, their parameters, and their smoke runs run again."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ctd.book import chapters, notebook_files, run_folder, runs
from ctd.book.parameter_cells import MODEL, TAG, cell_source
from ctd.book.validate import validate

NOTEBOOKS = {path.stem: path for path in notebook_files.notebooks()}
SHOWS = re.compile(r"^\s*report\.(say|table|text|attended)\(", re.MULTILINE)
TELL_TIMES = {"14_baselines": 1, "16_performance": 2}  # cells whose words no two runs share


def tags_of(cell):
    return cell.metadata.get("tags", ())


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_a_notebook_is_thin_clean_and_ends_with_its_answer(stem):
    cells = notebook_files.read_notebook(NOTEBOOKS[stem]).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    lines = [len(cell.source.split("\n")) - cell.source.count("\n\n") for cell in code]
    assert max(lines) <= 25
    for cell in code:
        if "figure" in cell.metadata.get("mystnb", {}):  # its name is given to everything that the cell shows
            assert not SHOWS.search(cell.source)
    headings = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    assert cells[0].source.startswith("# ")
    assert "**The question.**" in cells[0].source
    for part in ("## What you need", "## What it means", "## What next"):
        assert part in headings
    assert sum("start(Settings, globals())" in cell.source for cell in code) == 1
    assert sum("run.answer(" in cell.source for cell in code) == 1
    for cell in code:
        if "start(Settings" in cell.source:
            assert "hide-cell" in cell.metadata["tags"]
        if "run.figure(" in cell.source:
            assert cell.metadata["mystnb"]["figure"]["caption"].endswith(".")
            assert "hide-input" in cell.metadata["tags"]


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_a_notebook_calls_what_the_package_has_and_binds_no_name_of_a_module(stem):
    """A notebook is run by the book's tests alone; this finds in a second what a renaming has left behind."""
    cells = [cell for cell in notebook_files.read_notebook(NOTEBOOKS[stem]).cells if cell.cell_type == "code"]
    nodes = list(ast.walk(ast.parse("\n".join(cell.source for cell in cells))))
    imported = {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module.startswith("ctd"):
            for alias in node.names:
                parent = importlib.import_module(node.module)
                if not hasattr(parent, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
                imported[alias.asname or alias.name] = getattr(parent, alias.name)
    bound = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assert not bound & imported.keys()
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = imported.get(node.value.id)
            assert not inspect.ismodule(module) or hasattr(module, node.attr), ast.unparse(node)


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_the_parameters_cell_says_what_its_model_says(stem):
    cells = notebook_files.read_notebook(NOTEBOOKS[stem]).cells
    (cell,) = [cell for cell in cells if TAG in tags_of(cell)]
    model = getattr(chapters, MODEL.search("\n".join(cell.source for cell in cells))[1])
    ruff = [Path(sys.executable).with_name("ruff"), "format", "--line-length=120", "-"]
    formatted = subprocess.run(ruff, input=cell_source(model), capture_output=True, text=True, check=True).stdout
    assert cell.source == formatted.rstrip("\n")


@pytest.mark.parametrize("profile", ["smoke", "default", "full", "paper"])
@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_every_profile_is_accepted(stem, profile):
    assert runs.plan(NOTEBOOKS[stem], profile).parameters["seed"] == 0


@pytest.mark.book
@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_a_smoke_run_run_again_says_the_same_and_what_it_said_before(site, stem):
    run = run_folder.RunFolder((run_folder.RUNS / stem / "smoke").absolute())
    speaking = [cell for cell in notebook_files.read_notebook(run.notebook).cells if SHOWS.search(cell.source)]
    report = validate(run)
    assert report.problems == []
    assert report.golden
    assert report.cells >= len(speaking) - TELL_TIMES.get(stem, 0) > 2, "every cell that says something is compared"
