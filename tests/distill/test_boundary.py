"""Boundaries against scikit-learn and curves whose boundary is known; phases that fail together and apart."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from ctd.distill import boundary
from ctd.distill.boundary import BEYOND, BOTH, FORETOLD, PHASE_1, PHASE_2
from ctd.reasoning.traces import Trace

RNG = np.random.default_rng(0)
HARD = np.repeat(np.arange(20.0, 80.0), 3)


def share(middle, width):
    """The share of many students that are right about each document: half of them in the middle."""
    return 1 / (1 + np.exp((HARD - middle) / width))


def reached(right, accuracy=0.5):
    """The boundaries at an accuracy, and the shares, by part."""
    reach = boundary.reach(HARD, right)
    limits = reach.boundaries[reach.boundaries["accuracy"] == accuracy]
    return limits.set_index("part"), reach.shares.set_index("part")


def test_the_curve_is_that_of_scikit_learn():
    right = (RNG.uniform(size=len(HARD)) < share(50, 6)).astype(float)
    weights, at = RNG.integers(0, 3, len(HARD)).astype(float), np.array([30.0, 50.0, 70.0])
    model = LogisticRegression(C=np.inf, tol=1e-8).fit(HARD[:, None], right, sample_weight=weights)
    expected = model.predict_proba(at[:, None])[:, 1]
    np.testing.assert_allclose(boundary.curve(HARD, right, weights[None], at)[0], expected, atol=2e-3)


@pytest.mark.parametrize("right", [np.ones(len(HARD)), np.zeros(len(HARD)), (HARD < 50) * 1.0, (HARD > 50) * 1.0])
def test_newtons_method_ends_where_nothing_can_be_bettered(right):
    shares = boundary.curve(HARD, right, np.ones((1, len(HARD))), HARD)[0]
    slope, level = np.polyfit(HARD, np.log(shares / (1 - shares)), 1)
    place = (HARD - HARD.mean()) / HARD.std()
    coefficients = np.array([level + slope * HARD.mean(), slope * HARD.std()])
    gradient = np.array([(right - shares).sum(), ((right - shares) * place).sum()]) - boundary.RIDGE * coefficients
    np.testing.assert_allclose(gradient, 0, atol=1e-3)


def test_the_boundaries_of_phases_that_fail_apart_foretell_that_of_both():
    first, second = share(60.5, 5), share(50.5, 5)
    limits, shares = reached({PHASE_1: first, PHASE_2: second, BOTH: first * second})
    assert limits.loc[PHASE_1, "value"] == pytest.approx(60, abs=1)
    assert limits.loc[PHASE_2, "value"] == pytest.approx(50, abs=1)
    assert limits.loc[FORETOLD, "value"] == pytest.approx(HARD[first * second >= 0.5].max(), abs=1)
    assert shares.loc[BEYOND, "value"] == pytest.approx(0, abs=0.01)
    assert shares.loc[PHASE_1, "value"] == pytest.approx(first[0] - first[-1], abs=0.01)
    assert (shares.loc[[PHASE_1, PHASE_2, BOTH], "p"] == 0.001).all()


def test_the_curves_of_a_figure_are_those_of_the_shares():
    first, second = share(60, 5), share(50, 5)
    curves = boundary.reach(HARD, {PHASE_1: first, PHASE_2: second, BOTH: first * second}).curves
    for row in curves[curves["part"] != BOTH].itertuples():  # a product of logistic curves is none
        expected = {PHASE_1: first, PHASE_2: second, FORETOLD: first * second}[row.part][row.difficulty == HARD][0]
        assert row.value == pytest.approx(expected, abs=0.02)
        assert row.low <= row.value <= row.high
    assert sorted(set(curves["difficulty"])) == [20, 35, 50, 64, 79]


def test_phases_that_fail_together_are_right_beyond_what_is_foretold():
    same = share(50, 15)
    _, shares = reached({PHASE_1: same, PHASE_2: same, BOTH: same})
    assert shares.loc[BEYOND, "value"] == pytest.approx((same - same**2).mean(), abs=0.01)
    assert shares.loc[BEYOND, "low"] > 0


def test_a_boundary_beyond_the_documents_is_at_their_edge():
    limits, _ = reached({PHASE_1: np.ones(len(HARD)), PHASE_2: np.zeros(len(HARD)), BOTH: share(50, 5)})
    assert limits["value"].tolist() == [79, 20, 50, 20]


def test_a_lower_accuracy_is_reached_by_harder_documents():
    right = {part: share(50, 6) for part in boundary.PARTS}
    values = [reached(right, accuracy)[0].loc[BOTH, "value"] for accuracy in boundary.ACCURACIES]
    assert values == pytest.approx([50 - 6 * np.log(9), 50, 50 + 6 * np.log(9)], abs=1)


def test_what_does_not_depend_on_difficulty_does_not_fall_more_than_shuffled():
    p = [boundary.falls_by_chance(HARD[::3], RNG.integers(0, 2, 60).astype(float)) for _ in range(20)]
    assert 0.2 < np.mean(p) < 0.8


def test_each_phase_is_judged_by_itself(experiment, monkeypatch):
    gold = [row.indices.tolist() for row in experiment.gold]
    lists = boundary.shortlists(experiment)
    assert all(set(labels) <= set(listed) for labels, listed in zip(gold, lists, strict=True))
    assert all(len(set(listed)) == len(listed) >= 2 * len(labels) for labels, listed in zip(gold, lists, strict=True))
    answers = experiment.teacher_answers
    right = boundary.right(experiment, experiment.teacher, answers, lists)
    for row, (answer, labels) in enumerate(zip(answers, gold, strict=True)):
        assert right[PHASE_1][row] == (not set(labels) - set(answer.trace.shortlisted))
        assert right[BOTH][row] == (sorted(answer.ranking) == sorted(labels))
    beginnings = []

    def reason(teacher, documents, index, request, **_):
        beginnings.extend(request.beginnings)
        return [
            type(answer)(Trace("", "", "", ()), tuple(labels), (), 1, True, 1, 1)
            for answer, labels in zip(answers, gold, strict=True)
        ]

    monkeypatch.setattr(boundary.predict, "reason", reason)
    assert boundary.right(experiment, experiment.teacher, answers, lists)[PHASE_2].all()
    texts = experiment.task.space.texts
    for begun, listed in zip(beginnings, lists, strict=True):
        assert [line[2:] for line in begun.split("Shortlist:\n")[1].split("\nCompare:")[0].split("\n")] == [
            texts[label] for label in listed
        ]
