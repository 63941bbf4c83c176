"""A default stands once: settings of students mean the same in code, on the command line and in the notebooks."""

from dataclasses import astuple, fields

import pytest
import typer

from ctd import cli
from ctd.book.notebook_files import find_notebook, parameters_of
from ctd.distill.experiment import Plan
from ctd.distill.losses import Weights
from ctd.distill.methods import Arm

OPTIONS = {"n_traces": "traces", "n_steps": "steps", "n_heads": "heads"}  # of the command line, where named otherwise
CHAPTERS = ("09", "10", "11", "12", "13")


def command():
    options = typer.main.get_command(cli.app).commands["distill"].params
    return {option.name: option.default for option in options}


def plan():
    return {field.name: field.default for field in fields(Plan)}


def test_the_command_line_has_the_defaults_of_a_plan_and_of_an_arm():
    options, arm = command(), Arm("", "mechanistic")
    named = {name: options[OPTIONS.get(name, name)] for name in plan() if OPTIONS.get(name, name) in options}
    assert len(named) == 13
    assert named == {name: plan()[name] for name in named}
    assert tuple(options["weights"]) == astuple(Weights()) == astuple(arm.weights)
    assert (options["base_loss"], options["anneal_fraction"]) == (arm.base_loss, arm.anneal_fraction)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_notebooks_have_the_defaults_of_a_plan_and_of_the_command_line(chapter):
    cell = {name: parameter.default for name, parameter in parameters_of(find_notebook(chapter)).items()}
    if chapter == "11":
        cell["n_traces"] = max(cell["n_traces"])
    if chapter == "10":
        assert cell["base_losses"] == [command()["base_loss"]]
    shared = {name: value for name, value in cell.items() if name in plan()}
    assert len(shared) >= 7
    assert shared == {name: plan()[name] for name in shared}
    if "weights" in cell:
        assert tuple(cell["weights"]) == astuple(Weights())
    options = command()
    for name, option in {"dataset": "dataset", "encoder": "encoder", "n_clusters": "clusters"}.items():
        if name in cell:
            assert cell[name] == options[option]
