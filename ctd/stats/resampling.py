"""Bootstrap intervals over documents.

Notes: a draw resamples documents (rows), never single predictions. All columns of a call share the same draws, so
intervals of one call can be compared column by column. Axes: n documents, b weightings of them, m columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypedDict, Unpack, get_args

import numpy as np
from jaxtyping import Float

from ctd.stats.bca import Method, interval_of_draws
from ctd.stats.interval import Interval

CELLS = 2**22  # weights (draws x documents) held at once: bounds the working memory, not the result
Statistic = Callable[[Float[np.ndarray, "b sums m"]], Float[np.ndarray, "b m"]]
Weighted = Callable[[Float[np.ndarray, "b n"]], Float[np.ndarray, "b m"]]


class Options(TypedDict, total=False):
    """How documents are drawn and what becomes of the draws; `bootstrap` says what each means."""

    draws: int
    level: float
    seed: int | np.random.Generator
    method: Method


def bootstrap(
    values: Float[np.ndarray, "n sums ..."],
    statistic: Statistic,
    draws: int = 1000,
    level: float = 0.95,
    seed: int | np.random.Generator = 0,
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
    method: "BCa", or "percentile" for the plain quantiles of the draws.
    Raises ValueError for n = 0, draws < 1, a level not between 0 and 1, an unknown method.
    """
    values = np.asarray(values, np.float64)
    if values.ndim < 2:
        raise ValueError(f"a bootstrap needs at least 1 document (row), got shape {values.shape}")
    n, sums, shape = len(values), values.shape[1], values.shape[2:]
    _check(n, draws, level, method, values.shape)
    flat = values.reshape(n, -1)

    def of_totals(totals: Float[np.ndarray, "b x"]) -> Float[np.ndarray, "b m"]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return statistic(totals.reshape(len(totals), sums, -1))

    total = flat.sum(axis=0, keepdims=True)
    weights = resample_weights(n, draws, np.random.default_rng(seed))
    interval = interval_of_draws(
        estimate=of_totals(total)[0],
        drawn=np.concatenate([of_totals(chunk @ flat) for chunk in weights]),
        left_out=of_totals((total - flat) * (n / max(n - 1, 1))),
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
    method: Method = "BCa",
) -> Interval:
    """Interval of any statistic of documents that count more than once or not at all, such as a macro F1.

    Costs draws + n evaluations of the statistic. Where it is a function of sums, `bootstrap` is faster.

    statistic: from weights [b, n], how often each document counts, to values [b, m], NaN where undefined.
    n: the number of documents.
    draws, level, seed, method: as in `bootstrap`, which also says what NaN means and what is raised.
    """
    _check(n, draws, level, method, (n,))
    return interval_of_draws(
        estimate=statistic(np.ones((1, n)))[0],
        drawn=np.concatenate([statistic(chunk) for chunk in resample_weights(n, draws, np.random.default_rng(seed))]),
        left_out=np.concatenate([statistic(chunk) for chunk in _leave_one_out(n)]),
        level=level,
        method=method,
    )


def bootstrap_ratio(
    numerators: Float[np.ndarray, "n ..."], denominators: Float[np.ndarray, "n ..."], **options: Unpack[Options]
) -> Interval:
    """Interval of a ratio of sums over documents, such as PSP@k; one for each column, NaN for denominators of 0.

    numerators: what is summed above, for each document.
    denominators: what is summed below, of the same shape.
    options: as in `bootstrap`.
    Raises what `bootstrap` raises, and ValueError for shapes that differ.
    """
    above, below = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    if above.shape != below.shape:
        raise ValueError(f"numerators and denominators need the same shape, got {above.shape} and {below.shape}")
    if not above.ndim or not len(above):
        raise ValueError(f"a bootstrap needs at least 1 document (row), got shape {above.shape}")
    return bootstrap(np.stack([above, below], axis=1), ratio, **options)


def bootstrap_mean(values: Float[np.ndarray, "n ..."], **options: Unpack[Options]) -> Interval:
    """Interval of the mean over documents, such as nDCG@k; one for each column.

    values: of each document.
    options: as in `bootstrap`, which also says what NaN means and what is raised.
    """
    return bootstrap_ratio(values, np.ones(np.shape(values)), **options)


def bootstrap_difference(
    a: Float[np.ndarray, "n ..."], b: Float[np.ndarray, "n ..."], **options: Unpack[Options]
) -> Interval:
    """Interval of mean(a) - mean(b) over the same documents, paired.

    a: of each document.
    b: of the same documents, in the same order.
    options: as in `bootstrap`.
    Raises what `bootstrap` raises, and ValueError for shapes that differ.
    """
    if np.shape(a) != np.shape(b):
        raise ValueError(f"a and b need the same shape (paired documents), got {np.shape(a)} and {np.shape(b)}")
    return bootstrap_mean(np.subtract(a, b, dtype=np.float64), **options)


def ratio(sums: Float[np.ndarray, "b 2 m"]) -> Float[np.ndarray, "b m"]:
    """The first of two sums over the second; NaN where that is 0."""
    above, below = sums[:, 0], sums[:, 1]
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)


def resample_weights(n: int, draws: int, rng: np.random.Generator) -> Iterator[Float[np.ndarray, "b n"]]:
    """How often each document comes up in each draw: multinomial counts, a bounded chunk of draws at a time.

    n: the number of documents.
    draws: the number of resamples.
    rng: draws the documents.
    """
    size = max(1, CELLS // n)
    for start in range(0, draws, size):
        chunk = min(size, draws - start)
        picked = rng.integers(n, size=(chunk, n)) + np.arange(chunk)[:, None] * n
        yield np.bincount(picked.ravel(), minlength=chunk * n).reshape(chunk, n).astype(np.float64)


def _check(n: int, draws: int, level: float, method: str, shape: tuple[int, ...]) -> None:
    if n < 1:
        raise ValueError(f"a bootstrap needs at least 1 document (row), got shape {shape}")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1 (both excluded), got {level}")
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")


def _leave_one_out(n: int) -> Iterator[Float[np.ndarray, "b n"]]:
    """The weights without each document, the others scaled up to their number, in chunks."""
    size = max(1, CELLS // n)
    for start in range(0, n, size):
        left_out = np.arange(start, min(start + size, n))
        weights = np.full((len(left_out), n), n / max(n - 1, 1))
        weights[np.arange(len(left_out)), left_out] = 0
        yield weights
