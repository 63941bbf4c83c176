"""Arms of every kind side by side: what their answers are worth, which gains hold, and which arm is worth its cost.

Notes: an arm is named by its method; "fkl + mechanistic" adds the mechanistic terms to the loss of fkl. Every arm is
compared with cot, and one that sees gold labels with filtered as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from ctd import stats
from ctd.distill import methods, tables
from ctd.distill.experiment import Experiment
from ctd.distill.loss_forms import ORIGINAL, Forms
from ctd.distill.losses import Weights
from ctd.distill.measures import Outcome
from ctd.distill.methods import METHODS, Arm
from ctd.retrieval import metrics

RETRIEVAL = "retrieval"  # the one system that is no student, see `ctd.distill.retrieval_arm`
ADDED = " + mechanistic"
BASELINE, CONTROL = "cot", "filtered"
MEASURES = (
    "exact_match", "ndcg@5", "psp@5", "shortlist_recall", "token_probability", "las_balanced", "trajectory_distance",
    "tokens",
)  # fmt: skip
UNITS = {"tokens": "tokens", "trajectory_distance": "cosine"}  # of measures that are no fractions
PLACES = 5  # of an answer that count in nDCG and PSP


def check(name: str) -> str:
    """The name of an arm. Raises ValueError for an unknown method, or one that the terms cannot be added to."""
    if name.endswith(ADDED):
        methods.check(name.removesuffix(ADDED), "what the mechanistic terms are added to", methods.base_losses())
    else:
        methods.check(name, "an arm", [RETRIEVAL, *METHODS])
    return name


def named(names: Sequence[str], weights: Weights, forms: Forms = ORIGINAL) -> list[Arm]:
    """The arms of these names that are students, each once.

    names: as `check` takes them.
    weights: of the mechanistic terms, where an arm has them.
    forms: of these terms.
    """
    arms = []
    for name in dict.fromkeys(names):
        method, base = ("mechanistic", name.removesuffix(ADDED)) if name.endswith(ADDED) else (name, "cot")
        if name != RETRIEVAL:
            has_terms = METHODS[method].reads_heads
            arms.append(Arm(name, method, weights, base_loss=base, forms=forms) if has_terms else Arm(name, method))
    return arms


def sees_gold(name: str) -> bool:
    """Whether an arm learns from the gold labels of training documents."""
    return name == RETRIEVAL or any("gold" in arm.needs for arm in named([name], Weights()))


def with_psp(outcomes: Sequence[Outcome], experiment: Experiment) -> list[Outcome]:
    """Outcomes with PSP@5 among their values.

    The value of a document is the inverse propensity of its hits over the mean, over all test documents, of the most
    that could be hit. So the mean over documents is PSP@5; intervals take what it is divided by as given (ours).
    """
    inverse = metrics.inverse_propensity(experiment.task.gold("train"))
    extended = []
    for outcome in outcomes:
        ranking = np.array([(*answer, *[-1] * PLACES)[:PLACES] for answer in outcome.answers])
        hits, most = metrics.psp_at_k(ranking, experiment.gold, PLACES, inverse, average=False)
        extended.append(replace(outcome, values=outcome.values | {"psp@5": hits / most.mean()}))
    return extended


def levels(outcomes: Sequence[Outcome], seed: int = 0) -> pd.DataFrame:
    """Every measure of every arm that has it.

    seed: draws the bootstrap's samples.
    Returns columns arm and measure; value, the mean over documents and seeds; low and high, its interval over
    documents; both_low and both_high, that over documents and seeds (NaN for a single seed).
    """
    rows = []
    for measure in MEASURES:
        for arm, values in tables.by_document(outcomes, measure).items():
            if np.isnan(values).any():
                continue
            crossed = np.stack([outcome.values[measure] for outcome in outcomes if outcome.arm == arm])
            both = stats.crossed_interval(crossed).scalar[1:] if len(crossed) > 1 else (np.nan, np.nan)
            rows.append((arm, measure, *stats.bootstrap_mean(values, seed=seed).scalar, *both))
    return pd.DataFrame(rows, columns=["arm", "measure", "value", "low", "high", "both_low", "both_high"])


def gains(outcomes: Sequence[Outcome], seed: int = 0) -> pd.DataFrame:
    """Each arm less what it is compared with, in every measure but the number of tokens.

    seed: draws the bootstrap's samples.
    Returns the columns of `tables.gains`, with `against` and `measure`; Holm's correction covers all rows together.
    Raises ValueError where cot is missing or has no other arm beside it.
    """
    names = list(dict.fromkeys(outcome.arm for outcome in outcomes))
    if BASELINE not in names or len(names) < 2:
        raise ValueError(f"a comparison needs {BASELINE} and another arm, got {', '.join(names) or 'none'}")
    compared = {BASELINE: [name for name in names if name != BASELINE]}
    if CONTROL in names:
        compared[CONTROL] = [name for name in names if sees_gold(name) and name != CONTROL]
    parts = []
    for baseline, arms in compared.items():
        for measure in MEASURES[:-1]:
            among = [
                outcome
                for outcome in outcomes
                if outcome.arm in (baseline, *arms) and not np.isnan(outcome.values[measure]).any()
            ]
            if len({outcome.arm for outcome in among}) > 1:
                parts.append(tables.gains(among, baseline, measure, seed).assign(against=baseline, measure=measure))
    together = pd.concat(parts, ignore_index=True)
    return together.assign(p_holm=stats.holm(together["p"].to_numpy()))


def on_front(cost: Float[np.ndarray, " n"], quality: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Whether each of n arms is on the Pareto front: none is as good for less, or better for as much.

    cost: of each; one without a cost (NaN) is on no front.
    quality: of each.
    """
    no_more, no_worse = cost[None] <= cost[:, None], quality[None] >= quality[:, None]
    better = (cost[None] < cost[:, None]) | (quality[None] > quality[:, None])
    return ~(no_more & no_worse & better).any(axis=1) & ~np.isnan(cost)
