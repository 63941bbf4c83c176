"""The search of learning rates: validation documents alone, the same budget for every arm, and the best is taken."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ctd.distill import pool, search, teach
from ctd.distill.methods import Arm
from tests.distill.conftest import COT

ARMS = [COT, Arm("answer", "answer")]


def outcome(arm, seed, value):
    return SimpleNamespace(arm=arm.name, seed=seed, values={"ndcg@5": np.array([value, value])})


@pytest.fixture
def runs(monkeypatch):
    """Every run, in place of training: a student is the better the nearer its rate is to twice or half the plan's."""
    kept = []

    def run(experiment, arms, seeds, folder=None):
        kept.append((experiment, [arm.name for arm in arms], list(seeds)))
        wanted = {"cot": 4e-3, "answer": 1e-3}
        off = {arm.name: abs(math.log(experiment.plan.learning_rate / wanted[arm.name])) for arm in arms}
        return [outcome(arm, seed, 1 - off[arm.name] / 10) for arm in arms for seed in seeds]

    monkeypatch.setattr(pool, "run", run)
    return kept


def test_every_arm_tries_every_rate_once_on_validation_documents(experiment, runs):
    tried = search.validated(experiment, ARMS, [1, 0.5, 2, 2], 3)
    assert list(zip(tried["arm"], tried["factor"], strict=True)) == [
        (arm.name, factor) for factor in (0.5, 1.0, 2.0) for arm in ARMS
    ]
    validation = list(experiment.task.documents["validation"]["text"])[: experiment.plan.n_test]
    assert [tuple(names) for _, names, _ in runs] == [("cot", "answer")] * 3
    assert [seeds for *_, seeds in runs] == [[3]] * 3
    for held_out, _, _ in runs:
        assert held_out.test_documents == validation
        assert not set(held_out.test_documents) & set(experiment.test_documents)
    assert [held_out.plan.learning_rate for held_out, _, _ in runs] == [1e-3, 2e-3, 4e-3]
    assert search.best(tried) == {"cot": 2.0, "answer": 0.5}


def test_students_are_tried_on_the_traces_that_they_learn_from(experiment, runs):
    search.validated(experiment, ARMS, [1, 2], 0)
    assert [trace.text for trace in runs[0][0].traces] == [trace.text for trace in experiment.traces]


def test_a_single_rate_is_not_tried(experiment, runs):
    tried = search.validated(experiment, ARMS, [1.0], 0)
    assert not runs
    assert tried["value"].isna().all()
    assert search.best(tried) == {"cot": 1.0, "answer": 1.0}


def test_of_equal_rates_that_of_the_plan_is_taken():
    tried = pd.DataFrame([("cot", 4.0, 0.5), ("cot", 0.5, 0.5), ("cot", 1.0, 0.5)], columns=["arm", "factor", "value"])
    assert search.best(tried) == {"cot": 1.0}


def test_each_arm_is_taught_at_its_own_rate_in_the_order_of_arms(experiment, runs):
    outcomes = search.run(experiment, ARMS, {"cot": 2.0, "answer": 0.5}, [0, 1])
    assert [(one.arm, one.seed) for one in outcomes] == [("cot", 0), ("cot", 1), ("answer", 0), ("answer", 1)]
    assert all((one.values["ndcg@5"] == 1).all() for one in outcomes)


def test_without_a_search_students_are_those_of_a_plain_run(experiment):
    assert search.at_rate(experiment, 1.0) is experiment
    assert teach.key(search.at_rate(experiment, 2.0), COT, 0) != teach.key(experiment, COT, 0)
