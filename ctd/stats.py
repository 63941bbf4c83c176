"""How sure we are: bootstrap intervals over documents, a paired permutation test, Holm's correction, effect sizes.

Notes: a draw resamples documents (rows), never single predictions. All columns of a call share the same draws, so
intervals of one call can be compared column by column. Intervals are bias-corrected and accelerated, BCa (Efron &
Tibshirani, 1993, chapter 14): those of `scipy.stats.bootstrap`, as one matrix product for all columns, with the
jackknife that strata need (Davison & Hinkley, 1997, section 5.3). Axes: n documents, b weightings of them, m columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import stats as scipy_stats
from scipy.special import ndtr, ndtri

CELLS = 2**22  # weights (draws x documents) held at once: bounds the working memory, not the result
Method = Literal["BCa", "percentile"]
Statistic = Callable[[Float[np.ndarray, "b sums m"]], Float[np.ndarray, "b m"]]
Weighted = Callable[[Float[np.ndarray, "b n"]], Float[np.ndarray, "b m"]]


@dataclass(frozen=True, eq=False)
class Interval:
    """An estimate and its confidence interval: `interval[i]` is that of entry i, printed as `0.372 [0.351, 0.394]`.

    estimate: an array [*m], 0-d for a single number.
    low: the lower ends, of the same shape.
    high: the upper ends, of the same shape.
    method: how the ends were found.
    """

    estimate: Float[np.ndarray, " ..."]
    low: Float[np.ndarray, " ..."]
    high: Float[np.ndarray, " ..."]
    method: Literal["BCa", "percentile", "Student's t"] = field(default="BCa", kw_only=True)

    def __getitem__(self, entry: int | tuple[int, ...] | slice) -> Interval:
        return Interval(*(np.asarray(part[entry]) for part in (self.estimate, self.low, self.high)), method=self.method)

    @property
    def scalar(self) -> tuple[float, float, float]:
        """Estimate, low and high as floats. Raises ValueError when there is more than one number."""
        if self.estimate.size != 1:
            raise ValueError(f"scalar needs an interval of 1 number, got {self.estimate.size}; index it first")
        return self.estimate.item(), self.low.item(), self.high.item()

    def __str__(self) -> str:
        entries = zip(self.estimate.flat, self.low.flat, self.high.flat, strict=True)
        return "\n".join(f"{estimate:.3f} [{low:.3f}, {high:.3f}]" for estimate, low, high in entries)


def bootstrap(
    values: Float[np.ndarray, "n sums ..."],
    statistic: Statistic,
    draws: int = 1000,
    level: float = 0.95,
    seed: int | np.random.Generator = 0,
    strata: Int[np.ndarray, " n"] | None = None,
    method: Method = "BCa",
) -> Interval:
    """Interval of a statistic of sums over documents, such as Yule's Q of four counts; one for each of m columns.

    A column whose statistic is NaN has a NaN interval. A draw in which it is NaN (it missed all documents of a rare
    group) is left out of that column's quantiles.

    values: what is summed, for each document.
    statistic: from sums [b, sums, m] to values [b, m], NaN where undefined.
    draws: the number of resamples.
    level: the coverage aimed at, such as 0.95.
    seed: of the draws.
    strata: the group of each document. Every draw keeps the size of each group, so that two groups, compared, are a
        bootstrap of two samples. None: all documents are one group.
    method: "BCa", or "percentile" for the plain quantiles of the draws.
    Raises ValueError for n = 0, draws < 1, a level not between 0 and 1, an unknown method, strata of another length.
    """
    values = np.asarray(values, np.float64)
    if values.ndim < 2:
        raise ValueError(f"a bootstrap needs at least 1 document (row), got shape {values.shape}")
    n, sums, shape = len(values), values.shape[1], values.shape[2:]
    _check(n, draws, level, method, strata, values.shape)
    flat = values.reshape(n, -1)

    def of_totals(totals: Float[np.ndarray, "b x"]) -> Float[np.ndarray, "b m"]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return statistic(totals.reshape(len(totals), sums, -1))

    weights = resample_weights(n, draws, np.random.default_rng(seed), strata)
    interval = _interval(
        estimate=of_totals(flat.sum(axis=0, keepdims=True))[0],
        drawn=np.concatenate([of_totals(chunk @ flat) for chunk in weights]),
        left_out=map(of_totals, _totals_without_each(flat, strata)),
        level=level,
        method=method,
    )
    return Interval(*(part.reshape(shape) for part in (interval.estimate, interval.low, interval.high)), method=method)


def bootstrap_weighted(
    statistic: Weighted,
    n: int,
    draws: int = 1000,
    level: float = 0.95,
    seed: int | np.random.Generator = 0,
    strata: Int[np.ndarray, " n"] | None = None,
    method: Method = "BCa",
) -> Interval:
    """Interval of any statistic of documents that count more than once or not at all, such as a macro F1.

    Costs draws + n evaluations of the statistic. Where it is a function of sums, `bootstrap` is faster.

    statistic: from weights [b, n], how often each document counts, to values [b, m], NaN where undefined.
    n: the number of documents.
    draws, level, seed, strata, method: as in `bootstrap`, which also says what NaN means and what is raised.
    """
    _check(n, draws, level, method, strata, (n,))
    return _interval(
        estimate=statistic(np.ones((1, n)))[0],
        drawn=np.concatenate(
            [statistic(chunk) for chunk in resample_weights(n, draws, np.random.default_rng(seed), strata)]
        ),
        left_out=map(partial(_in_chunks, statistic), _weights_without_each(n, strata)),
        level=level,
        method=method,
    )


def bootstrap_ratio(
    numerators: Float[np.ndarray, "n ..."],
    denominators: Float[np.ndarray, "n ..."],
    draws: int = 1000,
    level: float = 0.95,
    seed: int | np.random.Generator = 0,
    strata: Int[np.ndarray, " n"] | None = None,
    method: Method = "BCa",
) -> Interval:
    """Interval of a ratio of sums over documents, such as PSP@k; one for each column, NaN for denominators of 0.

    numerators: what is summed above, for each document.
    denominators: what is summed below, of the same shape.
    draws, level, seed, strata, method: as in `bootstrap`.
    Raises what `bootstrap` raises, and ValueError for shapes that differ.
    """
    above, below = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    if above.shape != below.shape:
        raise ValueError(f"numerators and denominators need the same shape, got {above.shape} and {below.shape}")
    if not above.ndim or not len(above):
        raise ValueError(f"a bootstrap needs at least 1 document (row), got shape {above.shape}")
    return bootstrap(np.stack([above, below], axis=1), ratio, draws, level, seed, strata, method)


def bootstrap_mean(
    values: Float[np.ndarray, "n ..."],
    draws: int = 1000,
    level: float = 0.95,
    seed: int | np.random.Generator = 0,
    strata: Int[np.ndarray, " n"] | None = None,
    method: Method = "BCa",
) -> Interval:
    """Interval of the mean over documents, such as nDCG@k; one for each column.

    values: of each document.
    draws, level, seed, strata, method: as in `bootstrap`, which also says what NaN means and what is raised.
    """
    return bootstrap_ratio(values, np.ones(np.shape(values)), draws, level, seed, strata, method)


def bootstrap_difference(
    a: Float[np.ndarray, "n ..."],
    b: Float[np.ndarray, "n ..."],
    draws: int = 1000,
    level: float = 0.95,
    seed: int | np.random.Generator = 0,
    strata: Int[np.ndarray, " n"] | None = None,
    method: Method = "BCa",
) -> Interval:
    """Interval of mean(a) - mean(b) over the same documents, paired.

    a: of each document.
    b: of the same documents, in the same order.
    draws, level, seed, strata, method: as in `bootstrap`.
    Raises what `bootstrap` raises, and ValueError for shapes that differ.
    """
    if np.shape(a) != np.shape(b):
        raise ValueError(f"a and b need the same shape (paired documents), got {np.shape(a)} and {np.shape(b)}")
    return bootstrap_mean(np.subtract(a, b, dtype=np.float64), draws, level, seed, strata, method)


def ratio(sums: Float[np.ndarray, "b 2 m"]) -> Float[np.ndarray, "b m"]:
    """The first of two sums over the second; NaN where that is 0."""
    above, below = sums[:, 0], sums[:, 1]
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)


def resample_weights(
    n: int, draws: int, rng: np.random.Generator, strata: Int[np.ndarray, " n"] | None = None
) -> Iterator[Float[np.ndarray, "b n"]]:
    """How often each document comes up in each draw: multinomial counts, a bounded chunk of draws at a time.

    n: the number of documents.
    draws: the number of resamples.
    rng: draws the documents.
    strata: as in `bootstrap`.
    """
    size, groups = max(1, CELLS // n), _groups(n, strata)
    for start in range(0, draws, size):
        chunk = min(size, draws - start)
        picked = np.concatenate([rows[rng.integers(len(rows), size=(chunk, len(rows)))] for rows in groups], axis=1)
        picked += np.arange(chunk)[:, None] * n
        yield np.bincount(picked.ravel(), minlength=chunk * n).reshape(chunk, n).astype(np.float64)


def sign_flip_test(differences: Float[np.ndarray, " n"], draws: int = 9999, seed: int = 0) -> float:
    """Two-sided p-value of a mean of paired differences, by flipping their signs (`scipy.stats.permutation_test`).

    differences: of each document.
    draws: the number of random flips; exact where all 2^n flips are no more than that.
    seed: of the flips.
    Raises ValueError for fewer than 2 differences, or a NaN.
    """
    values = np.asarray(differences, np.float64)
    if values.ndim != 1 or len(values) < 2 or np.isnan(values).any():
        raise ValueError(f"a sign-flip test needs at least 2 numbers and no NaN, got {values!r}")
    result = scipy_stats.permutation_test(
        (values,),
        lambda flipped, axis: flipped.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=draws,
        batch=max(1, CELLS // len(values)),
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def t_interval(values: Float[np.ndarray, " n"], level: float = 0.95) -> Interval:
    """The mean of a few values, such as one per seed, with Student's interval.

    values: the few values; the ends are NaN where there is only one.
    level: the coverage aimed at.
    Raises ValueError without values.
    """
    if not len(values):
        raise ValueError("a mean needs at least one value, got none")
    mean, half = np.mean(values), np.array(np.nan)
    if len(values) > 1:
        half = scipy_stats.t.ppf((1 + level) / 2, len(values) - 1) * scipy_stats.sem(values)
    return Interval(mean, mean - half, mean + half, method="Student's t")


def holm(p_values: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """p-values corrected for the number of tests (Holm, 1979).

    Rejecting below 0.05 keeps the chance of any false rejection below 0.05.

    p_values: of all tests that are made together.
    Raises ValueError for a value outside 0 .. 1.
    """
    values = np.asarray(p_values, np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p-values must be between 0 and 1, got {values}")
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def cohen_d(differences: Float[np.ndarray, " n"]) -> float:
    """Mean of paired differences over their standard deviation (Cohen's d_z); NaN where they are all alike."""
    values = np.asarray(differences, np.float64)
    spread = values.std(ddof=1) if len(values) > 1 else 0.0
    return float(values.mean() / spread) if spread > 0 else float("nan")


def dominance(differences: Float[np.ndarray, " n"]) -> float:
    """Share of documents with a difference above 0, minus the share with one below 0 (Cliff, 1993, paired)."""
    return float(np.sign(differences).mean())


def compared(
    differences: Mapping[str, Float[np.ndarray, " n"]],
    seed: int = 0,
    denominators: Float[np.ndarray, " n"] | None = None,
) -> pd.DataFrame:
    """Paired comparisons, a row each: name, value, low, high, p, p_holm, cohen_d, dominance.

    p is that of `sign_flip_test`, p_holm is corrected over the rows.

    differences: for each comparison, the difference of each document.
    seed: of the draws and flips.
    denominators: of each document, where the value is a ratio of sums (PSP@k); None for means.
    """
    below = np.ones(len(next(iter(differences.values())))) if denominators is None else denominators
    rows = [
        (
            name,
            *bootstrap_ratio(values, below, seed=seed).scalar,
            sign_flip_test(values, seed=seed),
            cohen_d(values),
            dominance(values),
        )
        for name, values in differences.items()
    ]
    table = pd.DataFrame(rows, columns=["name", "value", "low", "high", "p", "cohen_d", "dominance"])
    table.insert(5, "p_holm", holm(table["p"].to_numpy()))
    return table


def _check(
    n: int, draws: int, level: float, method: str, strata: Int[np.ndarray, " n"] | None, shape: tuple[int, ...]
) -> None:
    if n < 1:
        raise ValueError(f"a bootstrap needs at least 1 document (row), got shape {shape}")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1 (both excluded), got {level}")
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
    if strata is not None and np.shape(strata) != (n,):
        raise ValueError(f"strata need one group a document ({n}), got shape {np.shape(strata)}")


def _groups(n: int, strata: Int[np.ndarray, " n"] | None) -> list[Int[np.ndarray, " rows"]]:
    """The rows of each stratum."""
    return [np.arange(n)] if strata is None else [np.flatnonzero(strata == name) for name in np.unique(strata)]


def _totals_without_each(
    values: Float[np.ndarray, "n x"], strata: Int[np.ndarray, " n"] | None
) -> Iterator[Float[np.ndarray, "rows x"]]:
    """For each stratum, the sums without each of its documents, the rest of the stratum scaled up to its size."""
    total = values.sum(axis=0)
    for rows in _groups(len(values), strata):
        part = values[rows]
        if len(rows) > 1:
            yield total - part.sum(axis=0) + (part.sum(axis=0) - part) * (len(rows) / (len(rows) - 1))


def _weights_without_each(n: int, strata: Int[np.ndarray, " n"] | None) -> Iterator[Iterator[Float[np.ndarray, "b n"]]]:
    """For each stratum, the weights without each of its documents, as in `_totals_without_each`, in chunks."""
    for rows in _groups(n, strata):
        if len(rows) > 1:
            yield _leave_one_out(n, rows)


def _leave_one_out(n: int, rows: Int[np.ndarray, " rows"]) -> Iterator[Float[np.ndarray, "b n"]]:
    size = max(1, CELLS // n)
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size]
        weights = np.ones((len(chunk), n))
        weights[:, rows] = len(rows) / (len(rows) - 1)
        weights[np.arange(len(chunk)), chunk] = 0
        yield weights


def _in_chunks(statistic: Weighted, chunks: Iterable[Float[np.ndarray, "b n"]]) -> Float[np.ndarray, "rows m"]:
    return np.concatenate([statistic(chunk) for chunk in chunks])


def _interval(
    estimate: Float[np.ndarray, " m"],
    drawn: Float[np.ndarray, "draws m"],
    left_out: Iterable[Float[np.ndarray, "rows m"]],
    level: float,
    method: Method,
) -> Interval:
    """The interval from the draws; left_out: for each stratum, the statistic without each of its documents."""
    at = np.tile([[(1 - level) / 2], [(1 + level) / 2]], len(estimate))
    if method == "BCa":
        at = _corrected(at, estimate, drawn, _acceleration(left_out))
    low, high = _quantiles(drawn, at)
    undefined = np.isnan(estimate)
    low[undefined] = high[undefined] = np.nan
    return Interval(estimate, low, high, method=method)


def _acceleration(left_out: Iterable[Float[np.ndarray, "rows m"]]) -> Float[np.ndarray, " m"]:
    """How fast the standard error changes with the statistic: skewness of the jackknife's influences, over strata."""
    cubes, squares = np.array(0.0), np.array(0.0)
    for left in left_out:
        size, defined = len(left), ~np.isnan(left)
        mean = np.divide(np.nansum(left, axis=0), defined.sum(axis=0), where=defined.any(axis=0), out=left[0] * 0.0)
        influence = np.where(defined, mean - left, 0.0) * (size - 1) / size
        cubes, squares = cubes + (influence**3).sum(axis=0), squares + (influence**2).sum(axis=0)
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
