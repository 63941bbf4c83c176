"""How hard may a document be before a phase fails, and do the two phases fail on the same documents?

Notes: Phase 1 is right where its shortlist holds all gold labels; Phase 2 where it answers exactly these from an
oracle's shortlist, which is the same for all models; both where the whole trace does. A document is as hard as it is
long, in words. The share of right documents is a logistic curve of difficulty. What both are foretold is the product of
the two curves: it holds where the phases fail apart. n documents, b weightings of them, g difficulties.

Source: Reasoning Boundary, arXiv:2410.05695; its abstract was read. Its law of combined parts has two free factors for
each part, which two phases always satisfy; so the product, which has none, stands in its place (ours).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import expit

from ctd import stats
from ctd.distill import ask_again
from ctd.distill.experiment import Experiment
from ctd.distill.methods import Arm
from ctd.mechanism import isolation
from ctd.reasoning import predict
from ctd.reasoning.rank_answers import Prediction
from ctd.reasoning.teachers import Teacher
from ctd.retrieval.shortlists import as_array

PHASE_1, PHASE_2, BOTH, FORETOLD = "Phase 1", "Phase 2", "both", "both, foretold"
BEYOND = "both, beyond foretold"
PARTS = (PHASE_1, PHASE_2, BOTH)
NEAR_MISSES = 10  # in a shortlist of the oracle at most
ACCURACIES = (0.9, 0.5, 0.1)  # shares right that the hardest document within a boundary has; the source has no 0.5
SHOWN = 5  # difficulties of a curve in a figure
RIDGE = np.array([0.01, 0.1])  # of level and slope: without it, where all are right there would be none
STEPS = 30  # of Newton's method
SHUFFLES = 999


def shortlists(experiment: Experiment, seed: int = 0) -> list[list[int]]:
    """An oracle's shortlist of each test document: all its gold labels, then near misses and what the teacher listed.

    It is as long as the teacher's own, but at least twice as long as there are gold labels. In random order.

    seed: draws the order.
    """
    gold, of_teacher = experiment.gold, isolation.own_shortlists(experiment.teacher_answers)
    near = isolation.near_misses(experiment.index, gold, experiment.test_documents, NEAR_MISSES)
    lengths = [max(len(listed), 2 * row.nnz, 1) for listed, row in zip(of_teacher, gold, strict=True)]
    return isolation.oracle(gold, near, as_array(of_teacher), lengths, seed)


def right(
    experiment: Experiment, answerer: Teacher, answers: Sequence[Prediction], shortlists: Sequence[Sequence[int]]
) -> dict[str, Float[np.ndarray, " n"]]:
    """Whether a model is right about each test document, 0 or 1, in each of `PARTS`.

    answerer: the model.
    answers: what it wrote about them.
    shortlists: the oracle's.
    """
    gold, texts = [set(row.indices.tolist()) for row in experiment.gold], experiment.task.space.texts
    begun = [
        predict.with_shortlist(answer.trace, listed, texts) for answer, listed in zip(answers, shortlists, strict=True)
    ]
    refined = predict.reason(
        answerer,
        experiment.test_documents,
        experiment.index,
        predict.Request(beginnings=begun),
        max_tokens=experiment.plan.max_tokens,
        desc="Phase 2 alone",
    )
    parts = {
        PHASE_1: [labels <= set(answer.trace.shortlisted) for answer, labels in zip(answers, gold, strict=True)],
        PHASE_2: [set(answer.ranking) == labels for answer, labels in zip(refined, gold, strict=True)],
        BOTH: [set(answer.ranking) == labels for answer, labels in zip(answers, gold, strict=True)],
    }
    return {part: np.array(values, float) for part, values in parts.items()}


def right_students(
    experiment: Experiment, arm: Arm, seeds: Sequence[int], shortlists: Sequence[Sequence[int]]
) -> dict[str, Float[np.ndarray, " n"]]:
    """The share of an arm's students that are right about each test document, in each of `PARTS`.

    arm: one whose students write whole traces.
    """
    each = [
        right(
            experiment,
            ask_again.as_teacher(experiment, arm, seed),
            ask_again.answers(experiment, arm, seed),
            shortlists,
        )
        for seed in seeds
    ]
    return {part: np.mean([student[part] for student in each], axis=0) for part in PARTS}


def difficulty(experiment: Experiment) -> Float[np.ndarray, " n"]:
    """How hard each test document is: its words, as far as the teacher sees it."""
    return np.array([len(answer.trace.document.split()) for answer in experiment.teacher_answers], float)


@dataclass(frozen=True)
class Reach:
    """How far a model reaches.

    boundaries: columns part (`PARTS` and `FORETOLD`), accuracy, value, low and high. One at the easiest or the hardest
        document may lie beyond.
    shares: columns part, value, low and high: the fall of each part's curve from the easiest document to the hardest
        with p of the control `falls_by_chance`, and, as `BEYOND`, the share of documents that both get right more than
        foretold.
    curves: columns part, difficulty, value, low and high.
    """

    boundaries: pd.DataFrame
    shares: pd.DataFrame
    curves: pd.DataFrame


def reach(difficulty: Float[np.ndarray, " n"], right: Mapping[str, Float[np.ndarray, " n"]], seed: int = 0) -> Reach:
    """How far a model reaches, with percentile intervals over documents.

    difficulty: of each document, a whole number.
    right: the share of students that are right about each, in each of `PARTS`.
    seed: of draws and shuffles.
    """
    grid = np.arange(difficulty.min(), difficulty.max() + 1)
    places = np.unique(np.linspace(0, len(grid) - 1, SHOWN).round().astype(int))
    outcomes = np.stack([right[part] for part in PARTS])

    def statistic(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "b m"]:
        at = np.concatenate([grid, difficulty])
        each = [curve(difficulty, values, weights, at) for values in outcomes]
        curves = np.stack([*each, each[0] * each[1]], axis=1)
        on_grid, on_documents = curves[..., : len(grid)], curves[..., len(grid) :]
        reached = [np.where(on_grid >= accuracy, grid, grid[0]).max(-1) for accuracy in ACCURACIES]
        falls = on_grid[:, : len(PARTS), 0] - on_grid[:, : len(PARTS), -1]
        beyond = (weights * (outcomes[-1] - on_documents[:, -1])).sum(1) / weights.sum(1)
        return np.concatenate([*reached, falls, beyond[:, None], *np.moveaxis(on_grid[..., places], 2, 0)], axis=1)

    interval = stats.bootstrap_weighted(statistic, len(difficulty), seed=seed, method="percentile")
    rows = iter(zip(interval.estimate.tolist(), interval.low.tolist(), interval.high.tolist(), strict=True))
    parts = (*PARTS, FORETOLD)
    boundaries = pd.DataFrame(
        [(part, accuracy, *next(rows)) for accuracy in ACCURACIES for part in parts],
        columns=["part", "accuracy", "value", "low", "high"],
    )
    shares = pd.DataFrame([(part, *next(rows)) for part in (*PARTS, BEYOND)], columns=["part", "value", "low", "high"])
    curves = pd.DataFrame(
        [(part, grid[place], *next(rows)) for place in places for part in parts],
        columns=["part", "difficulty", "value", "low", "high"],
    )
    by_chance = [falls_by_chance(difficulty, values, seed) for values in outcomes]
    return Reach(boundaries, shares.assign(p=[*by_chance, np.nan]), curves)


def falls_by_chance(difficulty: Float[np.ndarray, " n"], right: Float[np.ndarray, " n"], seed: int = 0) -> float:
    """The control: how often a curve falls as far as the model's, if difficulties are shuffled among the documents.

    difficulty: of each document.
    right: the share of students that are right about it.
    seed: shuffles.
    """
    rng = np.random.default_rng(seed)
    shuffled = np.stack([right, *(rng.permutation(right) for _ in range(SHUFFLES))])
    ends = np.array([difficulty.min(), difficulty.max()])
    shares = curve(difficulty, shuffled, np.ones_like(shuffled), ends)
    falls = shares[:, 0] - shares[:, 1]
    return float((falls >= falls[0] - 1e-9).mean())


def curve(
    difficulty: Float[np.ndarray, " n"],
    right: Float[np.ndarray, "#b n"] | Float[np.ndarray, " n"],
    weights: Float[np.ndarray, "b n"],
    at: Float[np.ndarray, " g"],
) -> Float[np.ndarray, "b g"]:
    """The share of right documents as a logistic curve of difficulty, fitted with a small ridge by Newton's method.

    difficulty: of each document.
    right: the share of students that are right about it.
    weights: how often each document counts.
    at: the difficulties at which the curve is wanted.
    """
    middle, spread = difficulty.mean(), difficulty.std() or 1.0
    design, wanted = (np.stack([np.ones(len(x)), (x - middle) / spread], axis=1) for x in (difficulty, at))
    coefficients = np.zeros((len(weights), 2))
    for _ in range(STEPS):
        share = expit(coefficients @ design.T)
        slope = (weights * (right - share)) @ design - RIDGE * coefficients
        bend = np.einsum("bn,ni,nj->bij", weights * share * (1 - share), design, design) + np.diag(RIDGE)
        coefficients += np.linalg.solve(bend, slope[..., None])[..., 0]
    return expit(coefficients @ wanted.T)
