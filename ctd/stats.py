"""How sure we are: bootstrap intervals over documents, a paired permutation test, Holm's correction, effect sizes.

Notes: documents (rows) are resampled, never single predictions, and all columns of a call share the same draws,
so intervals of one call may be compared column by column. Intervals are bias-corrected and accelerated, BCa (Efron &
Tibshirani, 1993, chapter 14): the same as `scipy.stats.bootstrap`, as one matrix product for all columns, with the
jackknife that strata need (Davison & Hinkley, 1997, section 5.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import stats as scipy_stats
from scipy.special import ndtr, ndtri

CELLS = 2**22  # weights (draws x documents) held at once: bounds the working memory, not the result
Method = Literal["BCa", "percentile"]
Statistic = Callable[[Float[np.ndarray, "b sums m"]], Float[np.ndarray, "b m"]]


@dataclass(frozen=True, eq=False)
class Interval:
    """An estimate and the ends of its confidence interval, each an array [*m] (0-d for a single number).

    `interval[i]` is the interval of entry i; printed it reads `0.372 [0.351, 0.394]`, one line an entry.
    """

    estimate: Float[np.ndarray, " ..."]
    low: Float[np.ndarray, " ..."]
    high: Float[np.ndarray, " ..."]

    def __getitem__(self, entry: int | tuple[int, ...] | slice) -> Interval:
        return Interval(*(np.asarray(part[entry]) for part in (self.estimate, self.low, self.high)))

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
    """Interval of any statistic of sums over n documents, such as Yule's Q of four counts; one for each of m columns.

    values: of each document what is summed. statistic: from sums [batch, sums, m] to [batch, m], NaN where undefined.
    draws: resamples. level: coverage aimed at, such as 0.95. strata: a group of each document; each group keeps its
    size in every draw (two groups, compared, are a bootstrap of two samples). None: all are one group.
    A column whose statistic is NaN has a NaN interval. A draw in which it is NaN (a rare group, all of whose documents
    it missed) is left out of that column's quantiles.
    Raises ValueError for n = 0, draws < 1, a level not between 0 and 1, an unknown method, strata of another length.
    """
    values = np.asarray(values, np.float64)
    if values.ndim < 2 or not len(values):
        raise ValueError(f"a bootstrap needs at least 1 document (row), got shape {values.shape}")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1 (both excluded), got {level}")
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
    n, sums, shape = len(values), values.shape[1], values.shape[2:]
    if strata is not None and np.shape(strata) != (n,):
        raise ValueError(f"strata need one group a document ({n}), got shape {np.shape(strata)}")
    flat = values.reshape(n, -1)

    def of(totals: Float[np.ndarray, "b x"]) -> Float[np.ndarray, "b m"]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return statistic(totals.reshape(len(totals), sums, -1))

    estimate = of(flat.sum(axis=0, keepdims=True))[0]
    drawn = np.concatenate([of(w @ flat) for w in resample_weights(n, draws, np.random.default_rng(seed), strata)])
    at = np.tile([[(1 - level) / 2], [(1 + level) / 2]], len(estimate))
    if method == "BCa":
        at = _corrected(at, estimate, drawn, _acceleration(flat, strata, of))
    low, high = _quantiles(drawn, at)
    undefined = np.isnan(estimate)
    low[undefined] = high[undefined] = np.nan
    return Interval(*(part.reshape(shape) for part in (estimate, low, high)))


def bootstrap_ratio(
    numerators: Float[np.ndarray, "n ..."],
    denominators: Float[np.ndarray, "n ..."],
    draws: int = 1000,
    level: float = 0.95,
    seed: int | np.random.Generator = 0,
    strata: Int[np.ndarray, " n"] | None = None,
    method: Method = "BCa",
) -> Interval:
    """Interval of a ratio of sums over n documents, such as PSP@k; one for each of the m columns.

    NaN where the denominators sum to 0. draws, level, strata, method: as in `bootstrap`, which raises what this raises;
    also ValueError for shapes that differ.
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
    """Interval of the mean over n documents, such as nDCG@k; one for each of the m columns.

    draws, level, strata, method, NaN and errors: as in `bootstrap`.
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
    """Interval of mean(a) - mean(b) over the same n documents: paired, row i of both is document i.

    draws, level, strata, method, NaN and errors: as in `bootstrap`.
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
) -> Iterator[Float[np.ndarray, "chunk n"]]:
    """How often each document comes up in each draw: multinomial counts, a bounded chunk of draws at a time.

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

    Exact where all 2^n flips are no more than `draws`. Raises ValueError for fewer than 2 differences, or a NaN.
    """
    values = np.asarray(differences, np.float64)
    if values.ndim != 1 or len(values) < 2 or np.isnan(values).any():
        raise ValueError(f"a sign-flip test needs at least 2 numbers and no NaN, got {values!r}")
    found = scipy_stats.permutation_test(
        (values,),
        lambda drawn, axis: drawn.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=draws,
        batch=max(1, CELLS // len(values)),
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def t_interval(values: Float[np.ndarray, " n"], level: float = 0.95) -> Interval:
    """The mean of a few values, such as one of each seed, with Student's interval; its ends are NaN for a single one.

    Raises ValueError without values.
    """
    if not len(values):
        raise ValueError("a mean needs at least one value, got none")
    mean = np.mean(values)
    if len(values) < 2:
        return Interval(mean, np.array(np.nan), np.array(np.nan))
    half = scipy_stats.t.ppf((1 + level) / 2, len(values) - 1) * scipy_stats.sem(values)
    return Interval(mean, mean - half, mean + half)


def holm(p_values: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """p-values of m tests corrected for being m (Holm, 1979): below 0.05 keeps the chance of any false one below 0.05.

    Raises ValueError for a value outside 0 .. 1.
    """
    given = np.asarray(p_values, np.float64)
    if not ((given >= 0) & (given <= 1)).all():
        raise ValueError(f"p-values must be between 0 and 1, got {given}")
    order = np.argsort(given, kind="stable")
    stepped = np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1))
    corrected = np.empty(len(given))
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def cohen_d(differences: Float[np.ndarray, " n"]) -> float:
    """Mean of paired differences in their own standard deviations (Cohen's d_z); NaN where they are all alike."""
    values = np.asarray(differences, np.float64)
    spread = values.std(ddof=1) if len(values) > 1 else 0.0
    return float(values.mean() / spread) if spread > 0 else float("nan")


def dominance(differences: Float[np.ndarray, " n"]) -> float:
    """Share of documents with a difference above 0, less the share with one below 0 (paired dominance, Cliff 1993)."""
    return float(np.sign(differences).mean())


def compared(
    differences: Mapping[str, Float[np.ndarray, " n"]],
    seed: int = 0,
    denominators: Float[np.ndarray, " n"] | None = None,
) -> pd.DataFrame:
    """Several paired comparisons at once, as many rows: name, value, low, high, p, p_holm, cohen_d, dominance.

    differences: of each document, by comparison. denominators: of each document, where the value is a ratio of sums
    (PSP@k); None for means. p: of `sign_flip_test`; p_holm: corrected over the rows.
    """
    below = np.ones(len(next(iter(differences.values())))) if denominators is None else denominators
    rows = [
        (name, *bootstrap_ratio(of, below, seed=seed).scalar, sign_flip_test(of, seed=seed), cohen_d(of), dominance(of))
        for name, of in differences.items()
    ]
    table = pd.DataFrame(rows, columns=["name", "value", "low", "high", "p", "cohen_d", "dominance"])
    table.insert(5, "p_holm", holm(table["p"].to_numpy()))
    return table


def _groups(n: int, strata: Int[np.ndarray, " n"] | None) -> list[Int[np.ndarray, " rows"]]:
    """The rows of each stratum."""
    return [np.arange(n)] if strata is None else [np.flatnonzero(strata == name) for name in np.unique(strata)]


def _acceleration(
    values: Float[np.ndarray, "n x"],
    strata: Int[np.ndarray, " n"] | None,
    of: Callable[[Float[np.ndarray, "b x"]], Float[np.ndarray, "b m"]],
) -> Float[np.ndarray, " m"]:
    """How fast the standard error changes with the statistic: skewness of the jackknife's influences, over strata."""
    total, cubes, squares = values.sum(axis=0), np.array(0.0), np.array(0.0)
    for rows in _groups(len(values), strata):
        size, part = len(rows), values[rows]
        if size < 2:
            continue
        without = (part.sum(axis=0) - part) * (size / (size - 1))
        left = of(total - part.sum(axis=0) + without)
        defined = ~np.isnan(left)
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
