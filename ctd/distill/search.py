"""A small search, the same for every arm: which learning rate is best on validation documents?

Notes: each arm gets one student a rate, with the first seed. Test documents are not read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from ctd.distill import pool
from ctd.distill.experiment import Experiment
from ctd.distill.measures import Outcome
from ctd.distill.methods import Arm
from ctd.distill.prepare import prepare

MEASURE = "ndcg@5"


def validated(
    experiment: Experiment, arms: Sequence[Arm], factors: Sequence[float], seed: int, folder: Path | None = None
) -> pd.DataFrame:
    """What a student of each arm reaches on validation documents at each learning rate.

    factors: learning rates, times the plan's. A single one is not tried.
    seed: of the students; it draws the training documents too.
    folder: where students are kept; the cache's own by default.
    Returns columns arm, factor and value: nDCG@5, NaN where nothing was tried.
    Raises ValueError for a task without validation documents.
    """
    distinct = sorted(set(map(float, factors)))
    if len(distinct) == 1:
        rows = [(arm.name, distinct[0], math.nan) for arm in arms]
    else:
        plan = replace(experiment.plan, split="validation")
        held_out = prepare(experiment.teacher, experiment.task, experiment.index, plan, seed, experiment.live)
        rows = [
            (outcome.arm, factor, float(outcome.values[MEASURE].mean()))
            for factor in distinct
            for outcome in pool.run(at_rate(held_out, factor), arms, [seed], folder)
        ]
    return pd.DataFrame(rows, columns=["arm", "factor", "value"])


def best(tried: pd.DataFrame) -> dict[str, float]:
    """The factor of each arm with the highest value; of equal ones that nearest to 1.

    tried: as `validated` makes it.
    """
    nearness = -tried["factor"].map(math.log).abs()
    ranked = tried.assign(nearness=nearness).sort_values(["value", "nearness"], ascending=False, kind="stable")
    return dict(ranked.groupby("arm", sort=False)["factor"].first())


def run(
    experiment: Experiment,
    arms: Sequence[Arm],
    factors: Mapping[str, float],
    seeds: Sequence[int],
    folder: Path | None = None,
) -> list[Outcome]:
    """Teach every arm with every seed at its own learning rate, as `pool.run` does.

    factors: learning rate of each arm, times the plan's.
    Returns the outcomes in the order of arms, then seeds.
    """
    outcomes: dict[str, list[Outcome]] = {}
    for factor in dict.fromkeys(factors[arm.name] for arm in arms):
        alike = [arm for arm in arms if factors[arm.name] == factor]
        for outcome in pool.run(at_rate(experiment, factor), alike, seeds, folder):
            outcomes.setdefault(outcome.arm, []).append(outcome)
    return [outcome for arm in arms for outcome in outcomes[arm.name]]


def at_rate(experiment: Experiment, factor: float) -> Experiment:
    """The experiment at another learning rate; itself at a factor of 1.

    factor: the rate, times the plan's.
    """
    return experiment if factor == 1 else experiment.with_plan(learning_rate=experiment.plan.learning_rate * factor)
