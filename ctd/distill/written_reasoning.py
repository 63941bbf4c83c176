"""What the reasoning of students is worth: how near it moves to the teacher's, and how much of the answer it explains.

Notes: a student that writes no reasoning has neither (NaN). Both forms are our definition. n documents, g grid points.

    outcomes = measured(outcomes, experiment)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from ctd.distill import explanations, simulatability
from ctd.distill.experiment import Experiment
from ctd.distill.measures import Outcome
from ctd.mechanism import cot_prefixes, targets
from ctd.mechanism.curve_means import defined, weighted_means
from ctd.mechanism.trajectories import Trajectories
from ctd.mechanism.untestable import NotTestable
from ctd.reasoning.traces import Trace
from ctd.retrieval import shortlists as sl

N_NEAR_MISSES = 10  # of a document
N_RETRIEVED = 5  # retrieved labels among the candidates of a document
CURVES = ("focus", "confusion")


def measured(outcomes: Sequence[Outcome], experiment: Experiment) -> list[Outcome]:
    """Outcomes with both measures among their values."""
    return with_las(with_trajectory_distance(outcomes, experiment), experiment)


def with_trajectory_distance(outcomes: Sequence[Outcome], experiment: Experiment) -> list[Outcome]:
    """Outcomes with `trajectory_distance` among their values: see `distance`.

    Documents for which the teacher has no curve are left out.
    """
    plan, n, encoder = experiment.plan, len(experiment.test_documents), experiment.index.encoder
    goals = targets.task_targets(
        experiment.task, experiment.index, plan.topic_depth, plan.n_topics, N_NEAR_MISSES, range(n)
    )

    def curves(cots: Sequence[str]) -> Trajectories:
        return cot_prefixes.embed_prefixes([Trace("", "", cot, ()) for cot in cots], encoder).towards(goals)

    teacher = curves([answer.trace.cot for answer in experiment.teacher_answers])
    measured = []
    for outcome in outcomes:
        values = distance(curves(outcome.cots), teacher) if any(outcome.cots) else np.full(n, np.nan)
        values = values[defined(distance(teacher, teacher))]
        measured.append(replace(outcome, values=outcome.values | {"trajectory_distance": values}))
    return measured


def distance(student: Trajectories, teacher: Trajectories) -> Float[np.ndarray, " n"]:
    """How far a student's curve of a document is from the teacher's, in cosines.

    It is the absolute difference, averaged over the t at which the teacher's curve is defined, and over Focus and
    Confusion. Where the student has written no word yet, or nothing at all, its cosine counts as 0.
    Returns NaN where the teacher has neither curve.
    """
    apart = [np.abs(np.nan_to_num(getattr(student, name)) - getattr(teacher, name)) for name in CURVES]
    means = [_means(curve) for curve in apart]
    return _means(np.stack(means, axis=1))


def _means(values: Float[np.ndarray, "n m"]) -> Float[np.ndarray, " n"]:
    """The mean of each row over what is defined; NaN where nothing is."""
    return weighted_means(values.T, np.ones((1, values.shape[1])))[0]


def with_las(outcomes: Sequence[Outcome], experiment: Experiment) -> list[Outcome]:
    """Outcomes with `las_balanced` among their values: the mean over an arm's students and documents is its LAS.

    The simulators are asked about one set of candidates, as in `explanations.of_students`. A value is what one document
    adds to the LAS of its arm (`simulatability.pseudo_values`), NaN where the arm has no LAS.
    """
    task, split, n = experiment.task, experiment.plan.split, len(experiment.test_documents)
    encoder = experiment.index.encoder
    writers = [outcome for outcome in outcomes if any(outcome.cots)]
    teacher = experiment.teacher_answers
    candidates = explanations.shared_candidates(
        [[answer.ranking for answer in teacher], *(outcome.answers for outcome in writers)],
        [[answer.trace.cot for answer in teacher], *(outcome.cots for outcome in writers)],
        sl.retrieve(experiment.index, task.select(split, np.arange(n)), split, N_RETRIEVED).tolist(),
        task.space,
    )
    values: dict[Outcome, Float[np.ndarray, " n"]] = {}
    for arm in dict.fromkeys(outcome.arm for outcome in writers):
        students = [outcome for outcome in writers if outcome.arm == arm]
        answers, cots = [student.answers for student in students], [student.cots for student in students]
        try:
            sums = explanations.sums_of_students(
                answers, cots, experiment.test_documents, candidates, task.space, encoder
            )
        except NotTestable:  # nothing was answered, or everything
            continue
        values |= zip(students, simulatability.pseudo_values(sums), strict=True)
    return [
        replace(outcome, values=outcome.values | {"las_balanced": values.get(outcome, np.full(n, np.nan))})
        for outcome in outcomes
    ]
