"""Trajectory distance against curves by hand, and LAS of an arm as a mean over its students and documents."""

from dataclasses import replace

import numpy as np
import pytest

from ctd.distill import explanations, written_reasoning
from ctd.distill.measures import Outcome
from ctd.mechanism.trajectories import Trajectories
from ctd.retrieval import shortlists as sl

NAN = float("nan")


def curves(focus, confusion):
    focus, confusion = np.atleast_2d(focus), np.atleast_2d(confusion)
    nothing = np.full(focus.shape, NAN)
    return Trajectories(np.array([0, 0.5, 1]), np.full(len(focus), NAN), focus, nothing, confusion, nothing)


@pytest.fixture
def teacher_outcome(experiment, own_cache):
    """A student that writes what its teacher writes."""
    answers = experiment.teacher_answers
    cots, labels = [answer.trace.cot for answer in answers], [list(answer.ranking) for answer in answers]
    return Outcome("same", 0, {}, labels, cots, 0, 0, 0, 0, 0, 0, 0)


class TestDistance:
    teacher = curves([NAN, 0.2, 0.6], [NAN, 0.5, 0.1])

    def test_by_hand(self):
        student = curves([NAN, 0.3, 0.3], [NAN, 0.4, 0.1])
        distances = written_reasoning.distance(student, self.teacher)
        assert distances == pytest.approx([((0.1 + 0.3) / 2 + 0.1 / 2) / 2])

    def test_what_is_not_written_counts_as_0(self):
        student = curves([NAN, NAN, 0.6], [NAN, NAN, 0.1])
        assert written_reasoning.distance(student, self.teacher) == pytest.approx([(0.2 / 2 + 0.5 / 2) / 2])

    def test_only_where_the_teacher_has_a_curve(self):
        student = curves([[0.1, 0.3, 0.6]] * 2, [[0.1, 0.5, 0.3]] * 2)
        teacher = curves([[NAN] * 3, [NAN, 0.2, 0.6]], [[NAN] * 3, [NAN] * 3])
        np.testing.assert_allclose(written_reasoning.distance(student, teacher), [NAN, 0.05])


class TestOnTheOrganism:
    def test_a_student_that_writes_the_same_is_at_0(self, experiment, teacher_outcome):
        n = len(experiment.test_documents)
        others = replace(teacher_outcome, cots=[*teacher_outcome.cots[1:], teacher_outcome.cots[0]])
        silent = replace(teacher_outcome, cots=[""] * n)
        same, swapped, none = (
            outcome.values["trajectory_distance"]
            for outcome in written_reasoning.with_trajectory_distance([teacher_outcome, others, silent], experiment)
        )
        np.testing.assert_allclose(same, np.zeros(n), atol=1e-9)
        assert (swapped > 0.01).all()
        assert np.isnan(none).all()

    def test_las_is_that_of_the_students_together(self, experiment, teacher_outcome):
        n, task = len(experiment.test_documents), experiment.task
        cots = teacher_outcome.cots
        second = replace(teacher_outcome, seed=1, cots=[*cots[1:], cots[0]])
        silent = replace(teacher_outcome, arm="silent", cots=[""] * n)
        outcomes = written_reasoning.measured([teacher_outcome, silent, second], experiment)
        assert [outcome.arm for outcome in outcomes] == ["same", "silent", "same"]
        assert np.isnan(outcomes[1].values["las_balanced"]).all()
        candidates = explanations.shared_candidates(
            [teacher_outcome.answers], [cots, second.cots], sl.retrieve(
                experiment.index, task.select("test", np.arange(n)), "test", written_reasoning.N_RETRIEVED
            ), task.space,
        )  # fmt: skip
        together = explanations.of_students(
            [teacher_outcome.answers] * 2, [cots, second.cots], experiment.test_documents, candidates, task.space,
            experiment.index.encoder,
        )  # fmt: skip
        values = [outcome.values["las_balanced"] for outcome in (outcomes[0], outcomes[2])]
        assert np.mean(values) == pytest.approx(together.balanced.scalar[0])

    def test_without_an_answer_there_is_no_las(self, experiment, teacher_outcome):
        n = len(experiment.test_documents)
        silent = replace(teacher_outcome, arm="no answer", answers=[[] for _ in range(n)])
        outcomes = written_reasoning.with_las([teacher_outcome, silent], experiment)
        assert np.isnan(outcomes[1].values["las_balanced"]).all()
        assert set(outcomes[1].values) == {"las_balanced"}
