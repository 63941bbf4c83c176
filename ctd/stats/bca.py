"""Bias-corrected and accelerated bootstrap intervals, BCa (Efron & Tibshirani, 1993, chapter 14).

Notes: those of `scipy.stats.bootstrap`, for all columns at once. m columns.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri

from ctd.stats.interval import Interval

Method = Literal["BCa", "percentile"]


def interval_of_draws(
    estimate: Float[np.ndarray, " m"],
    drawn: Float[np.ndarray, "draws m"],
    left_out: Float[np.ndarray, "n m"],
    level: float,
    method: Method,
) -> Interval:
    """The interval of a statistic from its bootstrap draws.

    estimate: the statistic of all documents.
    drawn: the statistic of each draw; NaN draws are left out.
    left_out: the statistic without each of its documents.
    level: the coverage aimed at.
    method: "BCa", or "percentile" for the plain quantiles of the draws. Columns whose draws all lie to one side of the
        estimate have plain quantiles too, because the bias cannot be told.
    """
    at = np.tile([[(1 - level) / 2], [(1 + level) / 2]], len(estimate))
    if method == "BCa":
        at = _corrected(at, estimate, drawn, _acceleration(left_out))
    low, high = _quantiles(drawn, at)
    undefined = np.isnan(estimate)
    low[undefined] = high[undefined] = np.nan
    return Interval(estimate, low, high, method=method)


def _acceleration(left_out: Float[np.ndarray, "n m"]) -> Float[np.ndarray, " m"]:
    """How fast the standard error changes with the statistic: skewness of the jackknife's influences."""
    n, defined = len(left_out), ~np.isnan(left_out)
    mean = np.divide(np.nansum(left_out, axis=0), defined.sum(axis=0), where=defined.any(axis=0), out=left_out[0] * 0.0)
    influence = np.where(defined, mean - left_out, 0.0) * (n - 1) / n
    cubes, squares = (influence**3).sum(axis=0), (influence**2).sum(axis=0)
    return np.divide(cubes, 6 * squares**1.5, out=np.zeros(np.shape(squares)), where=squares**1.5 > 0)


def _corrected(
    at: Float[np.ndarray, "2 m"],
    estimate: Float[np.ndarray, " m"],
    drawn: Float[np.ndarray, "draws m"],
    acceleration: Float[np.ndarray, " m"],
) -> Float[np.ndarray, "2 m"]:
    """Which quantiles of the draws are the ends, by BCa; unmoved where all draws lie to one side."""
    same = np.isclose(drawn, estimate, rtol=1e-12, atol=1e-12)
    valid = np.maximum((~np.isnan(drawn)).sum(axis=0), 1)
    below = (((drawn < estimate) & ~same).sum(axis=0) + same.sum(axis=0) / 2) / valid
    bias = ndtri(below)
    with np.errstate(invalid="ignore"):
        shifted = bias + ndtri(at)
        moved = ndtr(bias + shifted / (1 - acceleration * shifted))
    return np.where(np.isfinite(bias), moved, at)


def _quantiles(drawn: Float[np.ndarray, "draws m"], at: Float[np.ndarray, "2 m"]) -> Float[np.ndarray, "2 m"]:
    """Quantiles of each column at its own places, linear between draws; NaN draws left out."""
    ordered = np.sort(drawn, axis=0)
    last = np.maximum((~np.isnan(drawn)).sum(axis=0) - 1, 0)
    place = at * last
    left = np.floor(place).astype(int)
    right = np.minimum(left + 1, last)
    low, high = (np.take_along_axis(ordered, ends, axis=0) for ends in (left, right))
    return low + (high - low) * (place - left)
