"""Tables over the students of an experiment: means, gains over a baseline, learning curves, costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from ctd import stats
from ctd.distill.measures import MEASURES, Outcome


def by_document(outcomes: Sequence[Outcome], measure: str) -> dict[str, Float[np.ndarray, " n"]]:
    """A measure of each document, mean over seeds, by arm."""
    arms = dict.fromkeys(outcome.arm for outcome in outcomes)
    return {
        arm: np.mean([outcome.values[measure] for outcome in outcomes if outcome.arm == arm], axis=0) for arm in arms
    }


def table(outcomes: Sequence[Outcome], seed: int = 0) -> pd.DataFrame:
    """Every measure of every arm.

    seed: draws the bootstrap's samples.
    Returns columns arm and measure; value, the mean over documents and seeds; low and high, its interval over
    documents; sd, the standard deviation from seed to seed of the mean over documents.
    """
    rows = []
    for measure in MEASURES:
        for arm, values in by_document(outcomes, measure).items():
            means = [outcome.values[measure].mean() for outcome in outcomes if outcome.arm == arm]
            sd = float(np.std(means, ddof=1)) if len(means) > 1 else float("nan")
            rows.append((arm, measure, *stats.bootstrap_mean(values, seed=seed).scalar, sd))
    return pd.DataFrame(rows, columns=["arm", "measure", "value", "low", "high", "sd"])


def gains(outcomes: Sequence[Outcome], baseline: str, measure: str = "exact_match", seed: int = 0) -> pd.DataFrame:
    """Each arm less the baseline, paired over documents.

    Another draw of documents and another order of training are two questions, so there are two intervals, and a third
    for both at once.
    baseline: name of the arm that the others are held against.
    measure: one of `MEASURES`.
    seed: draws the bootstrap's samples.
    Returns the columns of `stats.compared` (value, low, high: over documents; Holm's correction over the rows);
    seeds, the number of seeds with which the arm is above the baseline; seed_low and seed_high, Student's interval for
    the mean over seeds; both_low and both_high, the interval for other documents and other seeds (NaN for one seed).
    Raises ValueError for an unknown baseline.
    """
    values = by_document(outcomes, measure)
    if baseline not in values:
        raise ValueError(f"baseline must be one of {', '.join(values)}, got {baseline!r}")
    differences = {arm: scores - values[baseline] for arm, scores in values.items() if arm != baseline}
    compared = stats.compared(differences, seed)
    scores = {(outcome.arm, outcome.seed): outcome.values[measure] for outcome in outcomes}
    crossed = [
        np.stack([values - scores[baseline, number] for (name, number), values in scores.items() if name == arm])
        for arm in compared["name"]
    ]
    by_seed = [differences.mean(axis=1) for differences in crossed]
    low, high = np.array([stats.t_interval(means).scalar[1:] for means in by_seed]).T
    alone = (np.nan, np.nan)
    both = [alone if len(each) < 2 else stats.crossed_interval(each).scalar[1:] for each in crossed]
    both_low, both_high = np.array(both).T
    above = [int((means > 0).sum()) for means in by_seed]
    return compared.assign(seeds=above, seed_low=low, seed_high=high, both_low=both_low, both_high=both_high)


def final_loss(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The loss at the end of training, its terms included (nats a token), by arm, mean over seeds."""
    arms = dict.fromkeys(outcome.arm for outcome in outcomes)
    return {arm: float(np.mean([outcome.loss for outcome in outcomes if outcome.arm == arm])) for arm in arms}


def costs(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """What each arm took, mean over seeds: steps, tokens, seconds of training, of a step (median) and of an answer.

    The step whose weights were taken is among them where that is not the last one.
    """
    stopped = any(outcome.chosen_step < outcome.steps for outcome in outcomes)
    rows = [
        {
            "arm": outcome.arm, "steps": outcome.steps,
            **({"weights of step": outcome.chosen_step} if stopped else {}),
            "tokens": outcome.tokens, "training s": outcome.seconds,
            "step s": outcome.step_seconds, "answer s": outcome.answer_seconds,
        }
        for outcome in outcomes
    ]  # fmt: skip
    means = pd.DataFrame(rows).groupby("arm", sort=False).mean().reset_index()
    counts = [name for name in ("steps", "weights of step", "tokens") if name in means]
    return means.round(dict.fromkeys(counts, 0)).astype(dict.fromkeys(counts, int))
