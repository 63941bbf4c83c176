"""A tiny experiment that the tests of students share."""

import pytest

from ctd.data import readers
from ctd.distill.experiment import Plan, prepare
from ctd.distill.methods import Arm
from ctd.reasoning import teachers
from ctd.retrieval import encoders

PLAN = Plan(layers=5, n_traces=6, n_steps=3, n_test=4, max_tokens=200)
COT, FULL = Arm("cot", "cot"), Arm("mechanistic", "mechanistic")


@pytest.fixture(scope="session")
def experiment():
    task, index = teachers.with_topics(readers.load("organism"), encoders.load("wordllama"), 0)
    return prepare(teachers.load("organism"), task, index, PLAN)
