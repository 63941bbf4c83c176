"""How sure we are: percentile bootstrap intervals over documents (Efron & Tibshirani, 1993, chapter 13).

Notes: documents (rows) are resampled, never single predictions, and all columns of a call share the same draws,
so intervals of one call may be compared column by column. The same as `scipy.stats.bootstrap(method="percentile")`,
as one matrix product instead of a gather per column.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

CELLS = 2**22  # weights (draws x documents) held at once: bounds the working memory, not the result


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


def bootstrap_ratio(
    numerators: Float[np.ndarray, "n ..."],
    denominators: Float[np.ndarray, "n ..."],
    draws: int = 1000,
    level: float = 0.95,
    seed: int | np.random.Generator = 0,
) -> Interval:
    """Interval of a ratio of sums over n documents, such as PSP@k; one for each of the m columns.

    draws: resamples. level: coverage aimed at, such as 0.95.
    A column with a NaN or with denominators that sum to 0 has a NaN estimate and interval. A draw whose
    denominators sum to 0 (a rare group, all of whose documents it missed) is left out of that column's quantiles.
    Raises ValueError for shapes that differ, n = 0, draws < 1, or level not between 0 and 1.
    """
    above, below = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    if above.shape != below.shape:
        raise ValueError(f"numerators and denominators need the same shape, got {above.shape} and {below.shape}")
    if not above.ndim or not len(above):
        raise ValueError(f"a bootstrap needs at least 1 document (row), got shape {above.shape}")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1 (both excluded), got {level}")

    n, shape = len(above), above.shape[1:]
    above, below = above.reshape(n, -1), below.reshape(n, -1)
    rng = np.random.default_rng(seed)
    with np.errstate(invalid="ignore"):
        estimate = _ratio(above.sum(axis=0), below.sum(axis=0))
        drawn = np.concatenate([_ratio(w @ above, w @ below) for w in resample_weights(n, draws, rng)])
    ends = np.full((2, len(estimate)), np.nan)
    if (defined := ~np.isnan(estimate) & ~np.isnan(drawn).all(axis=0)).any():
        ends[:, defined] = np.nanquantile(drawn[:, defined], [(1 - level) / 2, (1 + level) / 2], axis=0)
    low, high = ends
    return Interval(estimate.reshape(shape), low.reshape(shape), high.reshape(shape))


def bootstrap_mean(
    values: Float[np.ndarray, "n ..."],
    draws: int = 1000,
    level: float = 0.95,
    seed: int | np.random.Generator = 0,
) -> Interval:
    """Interval of the mean over n documents, such as nDCG@k; one for each of the m columns.

    draws, level, NaN and errors: as in `bootstrap_ratio`.
    """
    return bootstrap_ratio(values, np.ones(np.shape(values)), draws, level, seed)


def bootstrap_difference(
    a: Float[np.ndarray, "n ..."],
    b: Float[np.ndarray, "n ..."],
    draws: int = 1000,
    level: float = 0.95,
    seed: int | np.random.Generator = 0,
) -> Interval:
    """Interval of mean(a) - mean(b) over the same n documents: paired, row i of both is document i.

    draws, level, NaN and errors: as in `bootstrap_ratio`.
    """
    if np.shape(a) != np.shape(b):
        raise ValueError(f"a and b need the same shape (paired documents), got {np.shape(a)} and {np.shape(b)}")
    return bootstrap_mean(np.subtract(a, b, dtype=np.float64), draws, level, seed)


def resample_weights(n: int, draws: int, rng: np.random.Generator) -> Iterator[Float[np.ndarray, "chunk n"]]:
    """How often each document comes up in each draw: multinomial counts, a bounded chunk of draws at a time."""
    size = max(1, CELLS // n)
    for start in range(0, draws, size):
        chunk = min(size, draws - start)
        picked = rng.integers(n, size=(chunk, n)) + np.arange(chunk)[:, None] * n
        yield np.bincount(picked.ravel(), minlength=chunk * n).reshape(chunk, n).astype(np.float64)


def _ratio(above: Float[np.ndarray, " ..."], below: Float[np.ndarray, " ..."]) -> Float[np.ndarray, " ..."]:
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)
