"""Contrasts of trajectories: before against after t*, measured against a control, one model's curve against another's.

Notes: n documents, g grid points. All forms are our definition.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from ctd.mechanism import curve_means
from ctd.mechanism.breakpoints import FIXED
from ctd.mechanism.curve_means import GRID, check_grid, check_lengths, defined
from ctd.mechanism.trajectories import Trajectories
from ctd.mechanism.untestable import NotTestable
from ctd.stats import Interval

RISING, FALLING = ("focus", "focus_document"), ("confusion", "margin")


def phase_contrast(
    measured: Trajectories,
    t_star: float | Float[np.ndarray, " n"] | None = None,
    control: Trajectories | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Do two phases show? Least-squares slopes per document before and after t*, per unit of t.

    Rows: for Focus its rise before t*; for Confusion and the margin their fall after t* (slope with the sign turned);
    and for each metric the contrast, slope before less slope after. The contrast is positive for what rises first and
    then stays (Focus), and for what stays first and then falls (Confusion).

    With a control the rows are the paired differences of the contrasts, measured less control. A mean over ever more
    words levels off in any order, so the contrast of Focus counts only as far as it exceeds the control's.

    measured: curves of the documents.
    t_star: one for all, or one per document; None for the marked ones of `measured`. A document without one, or with
        fewer than two points on a side, is left out.
    control: curves of the same documents under a control.
    Returns columns metric, statistic, estimate, low, high (bootstrap over documents), n, shows (low > 0).
    Raises ValueError for t_star outside (0, 1), none marked, lengths or grids that differ.
    """
    split = _split(measured, t_star)
    statistics = _statistics(measured, split)
    if control is not None:
        check_lengths(documents=len(split), **{"documents of the control": len(control.boundary)})
        if not np.array_equal(measured.grid, control.grid):
            raise ValueError("measured and control need the same grid of t")
        others = _statistics(control, split)
        statistics = {key: statistics[key] - others[key] for key in statistics if key[1] == "contrast"}
    values = np.stack(list(statistics.values()), axis=1)
    mean = curve_means.mean(values, draws, seed)
    table = pd.DataFrame(list(statistics), columns=["metric", "statistic"])
    return table.assign(
        estimate=mean.estimate, low=mean.low, high=mean.high, n=defined(values).sum(axis=0), shows=mean.low > 0
    )


def two_phases(*tables: pd.DataFrame, metrics: Sequence[str] = ("focus", "confusion")) -> bool:
    """Whether every row of these metrics in the tables of `phase_contrast` has its interval above 0.

    All of them must, so each may be tested at its own level (intersection-union test).

    Raises ValueError where a table has no row of a metric.
    """
    for metric in metrics:
        for table in tables:
            if metric not in set(table["metric"]):
                raise ValueError(f"the table has no metric {metric!r}, only {', '.join(table['metric'].unique())}")
    return all(bool(table.loc[table["metric"].isin(metrics), "shows"].all()) for table in tables)


def area_between(
    a: Float[np.ndarray, "n g"],
    b: Float[np.ndarray, "m g"] | Float[np.ndarray, " g"],
    grid: Float[np.ndarray, " g"] = GRID,
    paired: bool = True,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """How far two models' mean curves are apart: their absolute difference, averaged over t by the trapezoid rule.

    It is taken over the t at which both are defined and divided by the length of that stretch: over [0, 1] it is the
    area itself, in cosines. An absolute value is never below 0, and neither is its interval: noise alone gives a small
    area.

    a: one model's curves.
    b: another model's curves, or one curve without documents, such as a published one.
    grid: the points t.
    paired: row i of both is the same document, and they are drawn together; else apart.
    Raises NotTestable for fewer than two t at which both are defined, ValueError for lengths that differ.
    """
    grid, rng = check_grid(grid), np.random.default_rng(seed)
    single = np.ndim(b) == 1
    b = np.atleast_2d(b)
    check_lengths(a=a.shape[1], b=b.shape[1], grid=len(grid))
    weights = curve_means.resample(len(a), draws, rng)
    if paired and not single:
        check_lengths(**{"documents of a": len(a), "documents of b": len(b)})
        others = weights
    else:
        others = np.ones((draws + 1, 1)) if single else curve_means.resample(len(b), draws, rng)
    apart = np.abs(curve_means.weighted_means(a, weights) - curve_means.weighted_means(b, others))
    if (points := int(defined(apart[0]).sum())) < 2:
        raise NotTestable(f"an area needs at least 2 points at which both curves are defined, got {points}")
    area = np.full(len(apart), np.nan)
    for rows, pattern in curve_means.by_pattern(defined(apart)):
        if pattern.sum() > 1:
            t = grid[pattern]
            area[rows] = np.trapezoid(apart[np.ix_(rows, pattern)], t, axis=1) / (t[-1] - t[0])
    return curve_means.interval(area)


def _split(measured: Trajectories, t_star: float | Float[np.ndarray, " n"] | None) -> Float[np.ndarray, " n"]:
    """t* of each document, checked."""
    n = len(measured.boundary)
    values = measured.boundary if t_star is None else np.asarray(t_star, np.float64)
    if np.isnan(values).all():
        raise ValueError(f"none of the {n} traces marks a boundary: give t_star, such as {FIXED} or a detected one")
    if values.ndim:
        check_lengths(documents=n, t_star=len(values))
    if (wrong := values[~np.isnan(values) & ~((values > 0) & (values < 1))]).size:
        raise ValueError(f"t_star must lie between 0 and 1 (both excluded), got {wrong.flat[0]:g}")
    return np.broadcast_to(values, n)


def _statistics(curves: Trajectories, split: Float[np.ndarray, " n"]) -> dict[tuple[str, str], Float[np.ndarray, " n"]]:
    """The statistics of `phase_contrast` for every document."""
    statistics = {}
    for metric in (*RISING, *FALLING):
        values = getattr(curves, metric)
        before = _slopes(values, curves.grid, curves.grid <= split[:, None])
        after = _slopes(values, curves.grid, curves.grid >= split[:, None])
        name, slope = ("rise before", before) if metric in RISING else ("fall after", -after)
        statistics[metric, name], statistics[metric, "contrast"] = slope, before - after
    return statistics


def _slopes(
    values: Float[np.ndarray, "n g"], grid: Float[np.ndarray, " g"], inside: Bool[np.ndarray, "n g"]
) -> Float[np.ndarray, " n"]:
    """Least-squares slope of each row over the points inside that are defined; NaN for fewer than two."""
    usable = inside & defined(values)
    count = usable.sum(axis=1, keepdims=True)
    t = np.where(usable, grid - np.where(usable, grid, 0).sum(axis=1, keepdims=True) / np.maximum(count, 1), 0)
    rise, run = (t * np.nan_to_num(values)).sum(axis=1), np.square(t).sum(axis=1)
    return np.divide(rise, run, out=np.full(len(rise), np.nan), where=count[:, 0] > 1)
