"""Students of a student: what is measured, by hand, and the verdicts on curves that are made up."""

import re

import numpy as np
import pytest

from ctd.distill import ask_again, hacking, measures, pool
from ctd.distill.hacking import BEYOND, CONTROL, GOLDEN, PROXY
from ctd.distill.methods import Arm
from ctd.mechanism.untestable import NotTestable
from tests.distill.conftest import COT

NOISE = np.random.default_rng(0).normal(0, 0.01, (2, 30))


def made_up(proxy, golden, control):
    """Losses at 8 and 16 steps that rise by so much."""
    rises = {PROXY: proxy, GOLDEN: golden, CONTROL: control}
    return {curve: {8: 1 + NOISE[0], 16: 1 + rise + NOISE[1]} for curve, rise in rises.items()}


@pytest.mark.parametrize(
    ("rises", "verdict"),
    [
        ((-0.2, 0.2, 0.05), "hacked"),
        ((-0.2, 0.2, 0.2), "inconclusive"),  # the control loses as much
        ((-0.2, -0.1, -0.3), "not hacked"),
        ((0.2, 0.2, 0.0), "overfitting"),
        ((-0.2, 0.0, 0.0), "inconclusive"),
    ],
)
def test_verdicts(rises, verdict):
    assert hacking.verdicts(hacking.changes(made_up(*rises))) == {"8 to 16 steps": verdict}


def test_changes_are_paired_and_the_control_is_taken_off():
    table = hacking.changes(made_up(-0.2, 0.3, 0.1)).set_index("curve")
    shift = (NOISE[1] - NOISE[0]).mean()
    assert table["value"].to_dict() == pytest.approx(
        {PROXY: -0.2 + shift, GOLDEN: 0.3 + shift, CONTROL: 0.1 + shift, BEYOND: 0.2}
    )
    assert set(table["n"]) == {30}


def test_without_a_student_that_teaches_there_is_the_control_alone():
    losses = {CONTROL: made_up(0, 0, 0.1)[CONTROL]}
    assert hacking.changes(losses)["curve"].tolist() == [CONTROL]
    assert hacking.verdicts(hacking.changes(losses)) == {"8 to 16 steps": "not testable"}


@pytest.fixture(scope="module")
def folder(experiment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("students")
    pool.run(experiment, [COT], [0], folder)
    return folder


def test_a_chain_whose_student_is_the_teacher_agrees_with_the_control(experiment, folder):
    chain = hacking.chain(experiment, experiment.teacher)
    assert [list(text.ids) for text in chain.texts] == [list(text.ids) for text in experiment.teacher_examples]
    losses = hacking.losses(experiment, chain, [2, 1], [0], folder)
    assert list(losses[PROXY]) == [3, 6]
    for steps in (3, 6):
        np.testing.assert_array_equal(losses[PROXY][steps], losses[CONTROL][steps])
        np.testing.assert_array_equal(losses[GOLDEN][steps], losses[CONTROL][steps])


def test_a_student_teaches_its_own_texts_and_new_students_begin_as_all_do(experiment, folder):
    teaching = ask_again.as_teacher(experiment, COT, 0, folder)
    chain = hacking.chain(experiment, teaching)
    assert chain.experiment.traces != experiment.traces
    assert [trace.uid for trace in chain.experiment.traces] == [
        trace.uid for trace in experiment.traces if trace.uid in {text.uid for text in chain.experiment.traces}
    ]
    first, new = experiment.initial_student(0), chain.experiment.initial_student(0)
    assert all((a == b).all() for a, b in zip(first.parameters(), new.parameters(), strict=True))
    losses = hacking.losses(experiment, chain, [1, 2], [0], folder)
    student = ask_again.language_model(chain.experiment, Arm("any", "cot"), 0, folder).model
    by_hand = [-np.log(measures.token_probability(student, [text])[0]) for text in chain.texts]
    np.testing.assert_allclose(losses[PROXY][3], by_hand)


@pytest.mark.parametrize(("factors", "steps"), [([1], "[3]"), ([1, 1.1], "[3, 3]"), ([0.1, 1], "[0, 3]")])
def test_a_chain_needs_students_of_different_numbers_of_steps(experiment, factors, steps):
    with pytest.raises(
        ValueError, match=f"at least 2 numbers of steps that differ, all above 0, got {re.escape(steps)}"
    ):
        hacking.losses(experiment, None, factors, [0])


def test_a_student_whose_texts_cannot_be_learned_teaches_none(experiment, monkeypatch):
    def prepare(*_):
        raise NotTestable("a student needs at least 2 traces to learn from")

    monkeypatch.setattr(hacking, "prepare", prepare)
    assert hacking.chain(experiment, experiment.teacher) is None
