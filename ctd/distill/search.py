"""A small search, the same for every arm: which learning rate, and which settings that are ours, are best?

Notes: every arm gets as many students as there are learning rates, with the first seed. An arm whose method names
settings to search (`Method.searched`) tries another value of them with each rate, so that its budget is that of an arm
without any. Settings that a source states are not searched. Students answer validation documents; test documents are
not read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ctd.distill import pool
from ctd.distill.experiment import Experiment
from ctd.distill.measures import Outcome
from ctd.distill.methods import METHODS, Arm
from ctd.distill.methods.method import WEIGHTS
from ctd.distill.prepare import prepare

MEASURE = "ndcg@5"


@dataclass(frozen=True)
class Choice:
    """What an arm is taught with.

    factor: its learning rate, times the plan's.
    settings: those that differ from the defaults, each a name and a value; `WEIGHTS` are factors.
    """

    factor: float = 1.0
    settings: tuple[tuple[str, float], ...] = ()

    def of(self, arm: Arm) -> Arm:
        """The arm with these settings."""
        chosen = dict(self.settings)
        weights = arm.weights.times(chosen.pop(WEIGHTS, 1.0))
        return replace(arm, weights=weights, settings=tuple((dict(arm.settings) | chosen).items()))

    @property
    def distance(self) -> tuple[float, int]:
        """How far it is from an arm that was not searched."""
        return abs(math.log(self.factor)), len(self.settings)

    def __str__(self) -> str:
        changed = "".join(f", {name}{' times' if name == WEIGHTS else ''} {value:g}" for name, value in self.settings)
        return f"learning rate times {self.factor:g}{changed}"


def choices(arm: Arm, factors: Iterable[float], seed: int) -> list[Choice]:
    """What an arm tries: one choice a learning rate, in their order.

    The rate nearest to the plan's has the defaults. The others have other values, drawn without regard to the arms
    beside it (Bergstra and Bengio, 2012); each value is drawn once before any is drawn again.

    factors: learning rates, times the plan's.
    seed: draws the values.
    """
    distinct = sorted(set(map(float, factors)))
    plain = min(distinct, key=lambda factor: Choice(factor).distance)
    others = [factor for factor in distinct if factor != plain]
    settings: dict[float, list[tuple[str, float]]] = {factor: [] for factor in distinct}
    rng = np.random.default_rng([seed, *arm.name.encode()])
    for method in map(METHODS.__getitem__, arm.method_names):
        for name, values in method.searched.items():
            rest = [value for value in values if value != method.tuned[name]]
            order = [place % len(rest) for place in range(len(others))]
            for factor, place in zip(others, rng.permutation(order), strict=True):
                settings[factor].append((name, rest[place]))
    return [Choice(factor, tuple(settings[factor])) for factor in distinct]


def validated(experiment: Experiment, arms: Sequence[Arm], factors: Sequence[float], seed: int) -> pd.DataFrame:
    """What a student of each arm reaches on validation documents with each of its `choices`.

    factors: learning rates, times the plan's. A single one is not tried.
    seed: of the students; it draws the training documents too, and what is chosen.
    Returns columns arm, choice and value: nDCG@5, NaN where nothing was tried.
    Raises ValueError for a task without validation documents.
    """
    by_arm = {arm.name: choices(arm, factors, seed) for arm in arms}
    distinct = sorted(set(map(float, factors)))
    if len(distinct) == 1:
        rows = [(arm.name, by_arm[arm.name][0], math.nan) for arm in arms]
    else:
        plan = replace(experiment.plan, split="validation")
        held_out = prepare(experiment.teacher, experiment.task, experiment.index, plan, seed, experiment.live)
        rows = []
        for place, factor in enumerate(distinct):
            tried = [by_arm[arm.name][place].of(arm) for arm in arms]
            for outcome in pool.run(at_rate(held_out, factor), tried, [seed]):
                rows.append((outcome.arm, by_arm[outcome.arm][place], float(outcome.values[MEASURE].mean())))
    return pd.DataFrame(rows, columns=["arm", "choice", "value"])


def best(tried: pd.DataFrame) -> dict[str, Choice]:
    """The choice of each arm with the highest value; of equal ones that nearest to the defaults.

    tried: as `validated` makes it.
    """
    chosen: dict[str, tuple[float, Choice]] = {}
    for arm, choice, value in tried.itertuples(index=False):
        known = chosen.get(arm)
        if known is None or (-value, choice.distance) < (-known[0], known[1].distance):
            chosen[arm] = (value, choice)
    return {arm: choice for arm, (_, choice) in chosen.items()}


def run(
    experiment: Experiment,
    arms: Sequence[Arm],
    chosen: Mapping[str, Choice],
    seeds: Sequence[int],
    folder: Path | None = None,
) -> list[Outcome]:
    """Teach every arm with every seed as was chosen for it.

    arms: as `Choice.of` made them.
    chosen: by the name of the arm; its learning rate is read here.
    folder: as in `pool.run`.
    Returns the outcomes in the order of arms, then seeds.
    """
    outcomes: dict[str, list[Outcome]] = {}
    for factor in dict.fromkeys(chosen[arm.name].factor for arm in arms):
        alike = [arm for arm in arms if chosen[arm.name].factor == factor]
        for outcome in pool.run(at_rate(experiment, factor), alike, seeds, folder):
            outcomes.setdefault(outcome.arm, []).append(outcome)
    return [outcome for arm in arms for outcome in outcomes[arm.name]]


def at_rate(experiment: Experiment, factor: float) -> Experiment:
    """The experiment at another learning rate; itself at a factor of 1.

    factor: the rate, times the plan's.
    """
    return experiment if factor == 1 else experiment.with_plan(learning_rate=experiment.plan.learning_rate * factor)
