"""Where the first phase ends: t* as traces mark it, as the mean curve shows it, and where the paper puts it.

Notes: m curves, g grid points.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float

from ctd.mechanism.curve_means import (
    GRID,
    by_pattern,
    check_grid,
    check_lengths,
    defined,
    interval,
    mean,
    resample,
    weighted_means,
)
from ctd.mechanism.trajectories import METRICS, Trajectories
from ctd.mechanism.untestable import NotTestable

FIXED = 0.5  # where the paper draws t*
FEWEST = 5  # points of a curve that has a breakpoint


def detect(curve: Float[np.ndarray, " g"], grid: Float[np.ndarray, " g"] = GRID) -> float:
    """t* by its shape: the breakpoint of the continuous two-segment linear least-squares fit (our definition).

    The exact minimum: a breakpoint between two points is where the lines fitted to either side meet, else it is a
    point of the grid (Hudson, 1966). NaN points are left out; NaN for a straight line, which has no breakpoint.

    Raises NotTestable for fewer than 5 points, ValueError for lengths that differ or a grid that `check_grid` refuses.
    """
    grid = check_grid(grid)
    check_lengths(curve=len(curve), grid=len(grid))
    if (points := int((~np.isnan(curve)).sum())) < FEWEST:
        raise NotTestable(
            f"a breakpoint needs a curve of at least {FEWEST} points, got {points}: if the texts are too short or "
            "not in the form, as the table of what the teacher wrote says, take another teacher or a higher max_tokens"
        )
    return float(_breakpoints(np.asarray(curve, np.float64)[None], grid)[0])


def boundaries(measured: Trajectories, metric: str = "focus", draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """The three t* side by side: rows marked, detected and fixed; columns t, low, high, n documents.

    "marked" is the mean of the traces' own boundaries. "detected" is `detect` on the mean curve, with its percentile
    interval over documents (draws without a breakpoint left out). "fixed" is 0.5, where the paper draws it.

    metric: whose mean curve is searched.
    Raises ValueError for an unknown metric, or where `detect` does.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    values = getattr(measured, metric)
    means = weighted_means(values, resample(len(values), draws, np.random.default_rng(seed)))
    detect(means[0], measured.grid)
    detected = interval(_breakpoints(means, measured.grid))
    marked = mean(measured.boundary, draws, seed)
    rows = {
        "marked": (*marked.scalar, int(defined(measured.boundary).sum())),
        "detected": (*detected.scalar, int(defined(values).any(axis=1).sum())),
        "fixed": (FIXED, np.nan, np.nan, len(values)),
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["t", "low", "high", "n"]).rename_axis("boundary")


def _breakpoints(curves: Float[np.ndarray, "m g"], grid: Float[np.ndarray, " g"]) -> Float[np.ndarray, " m"]:
    """Breakpoint of each curve; NaN for a straight one, or one with too few points."""
    places = np.full(len(curves), np.nan)
    for rows, pattern in by_pattern(defined(curves)):
        if pattern.sum() >= FEWEST:
            places[rows] = _hudson(curves[np.ix_(rows, pattern)], grid[pattern])
    return places


def _hudson(curves: Float[np.ndarray, "m g"], t: Float[np.ndarray, " g"]) -> Float[np.ndarray, " m"]:
    """The best of all breakpoints: each inner grid point, and between each two where the lines of both sides meet."""
    _, best = _fit(curves, t)
    best = best - 1e-12 * np.square(curves).sum(axis=1)
    place = np.full(len(curves), np.nan)
    for knot in t[1:-1]:
        _, error = _fit(curves, t, np.maximum(t - knot, 0))
        best, place = np.where(error < best, [error, np.full(len(curves), knot)], [best, place])
    for left in range(2, len(t) - 1):
        low, before = _fit(curves[:, :left], t[:left])
        high, after = _fit(curves[:, left:], t[left:])
        turn = high[1] - low[1]
        meet = np.divide(low[0] - high[0], turn, out=np.full(len(turn), np.nan), where=turn != 0)
        better = (before + after < best) & (t[left - 1] < meet) & (meet < t[left])
        best, place = np.where(better, [before + after, meet], [best, place])
    return place


def _fit(
    curves: Float[np.ndarray, "m g"], *columns: Float[np.ndarray, " g"]
) -> tuple[Float[np.ndarray, "c m"], Float[np.ndarray, " m"]]:
    """Least squares on a constant and the columns: coefficients, sums of squared residuals."""
    design = np.stack([np.ones(curves.shape[1]), *columns], axis=1)
    coefficients, *_ = np.linalg.lstsq(design, curves.T)
    return coefficients, np.square(curves.T - design @ coefficients).sum(axis=0)
