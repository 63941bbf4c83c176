"""A tiny experiment that the tests of students share."""

import importlib.util
import sys

import pytest

from ctd.cache import ROOT
from ctd.distill.experiment import Plan
from ctd.distill.methods import Arm

PLAN = Plan(layers=5, n_traces=6, n_steps=3, n_test=4, max_tokens=200)
COT, FULL = Arm("cot", "cot"), Arm("mechanistic", "mechanistic")


@pytest.fixture(scope="session")
def my_arm():
    """The worked example of the page "Add your own arm", as a module."""
    spec = importlib.util.spec_from_file_location("my_arm", ROOT / "book" / "_static" / "my_arm.py")
    sys.modules["my_arm"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def experiment(my_arm):
    return my_arm.small_experiment(PLAN)
