"""The search of rates and settings: validation documents alone, the same budget for every arm, the best is taken."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ctd.distill import pool, search, teach
from ctd.distill.losses import Weights
from ctd.distill.methods import METHODS, Arm
from tests.distill.conftest import COT

ARMS = [COT, Arm("answer", "answer"), Arm("pst", "pst")]


def outcome(arm, seed, value):
    return SimpleNamespace(arm=arm.name, seed=seed, values={"ndcg@5": np.array([value, value])})


@pytest.fixture
def runs(monkeypatch):
    """Every run, in place of training: a student is the better the nearer its rate is to twice or half the plan's."""
    calls = []

    def run(experiment, arms, seeds, folder=None):
        calls.append((experiment, arms, list(seeds)))
        wanted = {"cot": 4e-3, "answer": 1e-3, "pst": 4e-3}
        off = {arm.name: abs(math.log(experiment.plan.learning_rate / wanted[arm.name])) for arm in arms}
        return [outcome(arm, seed, 1 - off[arm.name] / 10) for arm in arms for seed in seeds]

    monkeypatch.setattr(pool, "run", run)
    return calls


class TestChoices:
    def test_every_arm_of_the_registry_has_the_same_budget(self):
        for name in METHODS:
            choices = search.choices(Arm(name, name), [4, 1, 0.5, 2, 2], 0)
            assert [choice.factor for choice in choices] == [0.5, 1, 2, 4]

    def test_the_methods_of_the_first_groups_whose_settings_are_ours_name_them(self):
        names = {name for name, method in METHODS.items() if method.searched}
        assert {"pst", "semcot", "trg", "lelp", "first", "dear", "copt", "mechanistic"} <= names
        assert not names & {"cot", "answer", "fkl", "taid", "skew", "ddk"}
        assert all(len(values) == 4 for method in METHODS.values() for values in method.searched.values())

    def test_each_value_is_tried_once_and_the_plain_arm_is_among_them(self):
        arm = Arm("pst", "pst")
        choices = search.choices(arm, [0.5, 1, 2, 4], 3)
        assert [choice.of(arm) for choice in choices].count(arm) == 1
        assert choices[1].of(arm) == arm
        assert sorted(dict(choice.of(arm).settings).get("weight", 1.0) for choice in choices) == [0.3, 1.0, 3.0, 10.0]

    def test_they_depend_on_the_seed_and_on_no_arm_beside(self):
        arm = Arm("pst", "pst")
        drawn = [search.choices(arm, [0.5, 1, 2, 4], seed) for seed in range(8)]
        assert search.choices(arm, [0.5, 1, 2, 4], 3) == drawn[3]
        assert len({tuple(choices) for choices in drawn}) > 1

    def test_with_more_rates_than_values_each_is_drawn_before_any_is_drawn_again(self):
        choices = search.choices(Arm("pst", "pst"), [0.125, 0.25, 0.5, 1, 2, 4, 8], 0)
        drawn = [value for choice in choices for _, value in choice.settings]
        assert sorted(drawn) == [0.3, 0.3, 3.0, 3.0, 10.0, 10.0]

    def test_without_the_plans_rate_the_nearest_one_has_the_defaults(self):
        choices = search.choices(Arm("pst", "pst"), [4, 3, 0.1], 0)
        assert [bool(choice.settings) for choice in choices] == [True, False, True]

    def test_the_weights_of_the_mechanistic_terms_are_multiplied_beside_the_settings_of_the_base_loss(self):
        arm = Arm("lelp + mechanistic", "mechanistic", Weights(2.0), base_loss="lelp")
        choices = search.choices(arm, [0.5, 1], 0)
        (changed,) = (choice for choice in choices if choice.settings)
        values = dict(changed.settings)
        assert set(values) == {"weight", "weights"}
        assert changed.of(arm).weights == Weights(2.0).times(values["weights"])
        assert changed.of(arm).settings == (("weight", values["weight"]),)
        assert str(changed).startswith("learning rate times 0.5, weight")
        assert f"weights times {values['weights']:g}" in str(changed)

    def test_a_method_names_settings_with_their_defaults(self):
        with pytest.raises(ValueError, match="searched must be settings, each with its default .*, got 'share'"):
            replace(METHODS["pst"], searched={"share": (0.5, 1.0)})
        with pytest.raises(ValueError, match="got 'weight'"):
            replace(METHODS["pst"], searched={"weight": (0.5, 2.0)})
        with pytest.raises(ValueError, match="got 'weights'"):
            replace(METHODS["pst"], searched={"weights": (0.5, 1.0)})


def test_every_arm_tries_every_choice_once_on_validation_documents(experiment, runs):
    tried = search.validated(experiment, ARMS, [1, 0.5, 2, 2], 3)
    assert [(arm, choice.factor) for arm, choice in zip(tried["arm"], tried["choice"], strict=True)] == [
        (arm.name, factor) for factor in (0.5, 1.0, 2.0) for arm in ARMS
    ]
    validation = list(experiment.task.documents["validation"]["text"])[: experiment.plan.n_test]
    assert [seeds for *_, seeds in runs] == [[3]] * 3
    for (held_out, arms, _), place in zip(runs, range(3), strict=True):
        assert held_out.test_documents == validation
        assert not set(held_out.test_documents) & set(experiment.test_documents)
        assert arms == [search.choices(arm, [0.5, 1, 2], 3)[place].of(arm) for arm in ARMS]
    assert [held_out.plan.learning_rate for held_out, _, _ in runs] == [1e-3, 2e-3, 4e-3]
    best = search.best(tried)
    assert {arm: choice.factor for arm, choice in best.items()} == {"cot": 2.0, "answer": 0.5, "pst": 2.0}
    assert best["pst"] == search.choices(ARMS[2], [0.5, 1, 2], 3)[2]


def test_students_are_tried_on_the_traces_that_they_learn_from(experiment, runs):
    search.validated(experiment, ARMS, [1, 2], 0)
    assert [trace.text for trace in runs[0][0].traces] == [trace.text for trace in experiment.traces]


def test_a_single_rate_is_not_tried(experiment, runs):
    tried = search.validated(experiment, ARMS, [1.0], 0)
    assert not runs
    assert tried["value"].isna().all()
    assert search.best(tried) == dict.fromkeys(["cot", "answer", "pst"], search.Choice())


def test_of_equal_choices_that_nearest_to_the_defaults_is_taken():
    rows = [("cot", search.Choice(4.0), 0.5), ("cot", search.Choice(1.0, (("weight", 3.0),)), 0.5)]
    rows += [("cot", search.Choice(1.0), 0.5), ("cot", search.Choice(0.5), 0.4), ("fkl", search.Choice(2.0), 0.1)]
    tried = pd.DataFrame(rows, columns=["arm", "choice", "value"])
    assert search.best(tried) == {"cot": search.Choice(1.0), "fkl": search.Choice(2.0)}


def test_each_arm_is_taught_at_its_own_rate_in_the_order_of_arms(experiment, runs):
    chosen = {"cot": search.Choice(2.0), "answer": search.Choice(0.5)}
    outcomes = search.run(experiment, ARMS[:2], chosen, [0, 1])
    assert [(result.arm, result.seed) for result in outcomes] == [("cot", 0), ("cot", 1), ("answer", 0), ("answer", 1)]
    assert all((result.values["ndcg@5"] == 1).all() for result in outcomes)


def test_without_a_search_students_are_those_of_a_plain_run(experiment):
    assert search.at_rate(experiment, 1.0) is experiment
    assert teach.key(search.at_rate(experiment, 2.0), COT, 0) != teach.key(experiment, COT, 0)
