"""Curves over t, the normalised position in a chain of thought: their grid, and their means over documents.

Notes: a row per document; NaN where a document has no value, and NaN is left out of every mean. n documents, g grid
points, w weightings of the documents (the first counts each once, the others are resamples).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from ctd import stats
from ctd.stats import Interval

GRID: Float[np.ndarray, " g"] = np.arange(21) / 20  # the published points


def check_grid(grid: Float[np.ndarray, " g"]) -> Float[np.ndarray, " g"]:
    """The grid as float64. Raises ValueError unless it is one strictly increasing row of points in [0, 1]."""
    points = np.asarray(grid, np.float64)
    if points.ndim != 1 or not len(points):
        raise ValueError(f"grid must be a row of at least 1 point, got shape {points.shape}")
    if not ((points >= 0) & (points <= 1)).all():
        raise ValueError(f"grid must lie in [0, 1], got {points.min():g} to {points.max():g}")
    if (flat := np.flatnonzero(np.diff(points) <= 0)).size:
        raise ValueError(f"grid must increase, got {points[flat[0]]:g} before {points[flat[0] + 1]:g}")
    return points


def check_lengths(**lengths: int) -> None:
    """Raises ValueError unless all these lengths, given by their names, are equal."""
    if len(set(lengths.values())) > 1:
        raise ValueError("lengths must agree, got " + ", ".join(f"{name} {count}" for name, count in lengths.items()))


def defined(values: Float[np.ndarray, ...]) -> Bool[np.ndarray, ...]:
    """Where there is a value."""
    return ~np.isnan(values)


def mean(values: Float[np.ndarray, "n ..."], draws: int, seed: int) -> Interval:
    """`stats.bootstrap_mean`, but with NaN left out, column by column."""
    return stats.bootstrap_ratio(np.nan_to_num(values), defined(values), draws=draws, seed=seed)


def resample(n: int, draws: int, rng: np.random.Generator) -> Float[np.ndarray, "1+draws n"]:
    """How often each of n documents counts: once in the estimate (row 0), then as drawn."""
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    return np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), size=draws)])


def weighted_means(values: Float[np.ndarray, "n g"], weights: Float[np.ndarray, "w n"]) -> Float[np.ndarray, "w g"]:
    """The mean curve under each weighting."""
    above, below = weights @ np.nan_to_num(values), weights @ defined(values)
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)


def interval(drawn: Float[np.ndarray, " 1+draws"]) -> Interval:
    """The estimate (entry 0), and the percentile interval of the other entries that are defined."""
    return stats.percentile_interval(drawn[0], drawn[1:][defined(drawn[1:])])


def by_pattern(where: Bool[np.ndarray, "m g"]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows grouped by which of their points are defined: row numbers, and that pattern."""
    patterns, group = np.unique(where, axis=0, return_inverse=True)
    return [(np.flatnonzero(group.ravel() == place), pattern) for place, pattern in enumerate(patterns)]
