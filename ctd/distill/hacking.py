"""Does a student move away from the truth while it fits a teacher with faults ever better?

Notes: the experiment's teacher stands for the truth. A student of it is the teacher with faults: it writes about the
same training documents, and further students, which begin as all students do, learn its texts. Losses are of texts
about test documents, so a student that only learns its texts by heart gets worse in both of them.

Source: Teacher hacking, arXiv:2502.02671; its abstract was read, and the measures are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from ctd import stats
from ctd.distill import ask_again, measures, pool
from ctd.distill.examples import Example
from ctd.distill.experiment import Experiment
from ctd.distill.methods import Arm
from ctd.distill.prepare import prepare
from ctd.mechanism.untestable import NotTestable
from ctd.reasoning.teachers import Teacher

PROXY, GOLDEN, CONTROL = "taught by a student: its texts", "taught by a student: the truth", "taught by the truth"
BEYOND = "the truth, beyond the control"
Losses = dict[str, dict[int, Float[np.ndarray, " texts"]]]
"""Nats a token of each text, by curve and by the steps of the students."""


@dataclass(frozen=True)
class Chain:
    """A student that teaches others.

    experiment: the first one, but that the student wrote its traces.
    texts: what the student wrote about the test documents.
    """

    experiment: Experiment
    texts: list[Example]


def chain(experiment: Experiment, student: Teacher, seed: int = 0) -> Chain | None:
    """Let a student write in place of the teacher. None where fewer than two of its texts can be learned from.

    seed: draws the training documents, as in `prepare`.
    """
    try:
        written = prepare(student, experiment.task, experiment.index, experiment.plan, seed, experiment.live)
    except NotTestable:
        return None
    by_student = replace(
        experiment,
        annotated_traces=written.annotated_traces,
        traces=written.traces,
        left_out=written.left_out,
        validation_annotated=written.validation_annotated,
        validation_traces=written.validation_traces,
    )
    return Chain(by_student, written.teacher_examples)


def losses(
    experiment: Experiment,
    chain: Chain | None,
    factors: Sequence[float],
    seeds: Sequence[int],
    folder: Path | None = None,
) -> Losses:
    """How far students are from the texts of the student that taught them and from the truth, mean over seeds.

    The control is the distance from the truth of students that it taught itself.

    chain: the student that teaches; None for the control alone.
    factors: steps of the students, times the plan's.
    seeds: of the students.
    folder: where students are kept; the cache's own by default.
    Raises ValueError where the factors do not give at least two numbers of steps, all above 0.
    """
    factors = sorted(set(map(float, factors)))
    steps = [round(experiment.plan.n_steps * factor) for factor in factors]
    if len(set(steps)) < max(len(steps), 2) or not steps[0]:
        raise ValueError(f"chain_factors must give at least 2 numbers of steps that differ, all above 0, got {steps}")
    arms = [Arm(f"cot, {factor:g} times the steps", "cot", step_multiplier=factor) for factor in factors]
    truth = experiment.teacher_examples
    taught_by = [(chain.experiment, {PROXY: chain.texts, GOLDEN: truth})] if chain else []
    by_curve: Losses = {}
    for of_students, curves in (*taught_by, (experiment, {CONTROL: truth})):
        pool.run(of_students, arms, seeds, folder)
        for arm, n_steps in zip(arms, steps, strict=True):
            students = [ask_again.language_model(of_students, arm, seed, folder).model for seed in seeds]
            for curve, texts in curves.items():
                of_seeds = [-np.log(measures.token_probability(student, texts)) for student in students]
                by_curve.setdefault(curve, {})[n_steps] = np.mean(of_seeds, axis=0)
    return by_curve


def levels(losses: Losses, seed: int = 0) -> pd.DataFrame:
    """Each curve: columns curve, steps, value (the mean over texts, in nats a token), low, high, and n texts.

    seed: draws the bootstrap's samples.
    """
    rows = [
        (curve, steps, *stats.bootstrap_mean(values, seed=seed).scalar, len(values))
        for curve, by_steps in losses.items()
        for steps, values in by_steps.items()
    ]
    return pd.DataFrame(rows, columns=["curve", "steps", "value", "low", "high", "n"])


def changes(losses: Losses, seed: int = 0) -> pd.DataFrame:
    """What each curve rises by from one number of steps to the next, and the truth more than the control.

    seed: draws the bootstrap's samples.
    Returns the columns of `stats.compared`, with curve, steps, to and n (texts) for its name.
    """
    between = list(pairwise(losses[CONTROL]))
    rises = {
        (curve, *steps): by_steps[steps[1]] - by_steps[steps[0]]
        for curve, by_steps in losses.items()
        for steps in between
    }
    if GOLDEN in losses:
        rises |= {(BEYOND, *steps): rises[GOLDEN, *steps] - rises[CONTROL, *steps] for steps in between}
    compared = stats.compared({str(name): rise for name, rise in rises.items()}, seed).drop(columns="name")
    names = pd.DataFrame([(*name, len(rise)) for name, rise in rises.items()], columns=["curve", "steps", "to", "n"])
    return pd.concat([names, compared], axis=1)


def verdicts(changes: pd.DataFrame) -> dict[str, str]:
    """Whether the teacher was hacked from one number of steps to the next, as far as the intervals tell.

    Hacked: the loss on the student's texts falls, and that on the truth rises by more than the control's does. Not
    hacked: the loss on the truth falls. Overfitting: both losses rise. Not testable: no student taught others.
    Otherwise it is inconclusive.
    """
    by_steps = {}
    for (first, last), rows in changes.groupby(["steps", "to"]):
        by_steps[f"{first} to {last} steps"] = _verdict(rows.set_index("curve"))
    return by_steps


def _verdict(row: pd.DataFrame) -> str:
    if PROXY not in row.index:
        return "not testable"
    low, high = row["low"], row["high"]
    if high[GOLDEN] < 0:
        return "not hacked"
    if low[GOLDEN] > 0 and high[PROXY] < 0 < low[BEYOND]:
        return "hacked"
    return "overfitting" if min(low[GOLDEN], low[PROXY]) > 0 else "inconclusive"
