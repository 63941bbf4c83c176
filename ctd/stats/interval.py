"""An estimate with its confidence interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import stats as scipy_stats


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
    method: Literal["BCa", "percentile", "Student's t", "Satterthwaite"] = field(default="BCa", kw_only=True)

    def __getitem__(self, entry: int | tuple[int, ...] | slice) -> Interval:
        return Interval(*(np.asarray(part[entry]) for part in (self.estimate, self.low, self.high)), method=self.method)

    @property
    def scalar(self) -> tuple[float, float, float]:
        """Estimate, low and high as floats. Raises ValueError when there is more than one number."""
        if self.estimate.size != 1:
            raise ValueError(f"scalar needs an interval of 1 number, got {self.estimate.size}; index it first")
        return self.estimate.item(), self.low.item(), self.high.item()

    def less(self, other: Interval) -> Interval:
        """The difference of two estimates, as if they were independent.

        Source: MOVER (Zou & Donner, 2008).
        """
        below = np.hypot(self.estimate - self.low, other.high - other.estimate)
        above = np.hypot(self.high - self.estimate, other.estimate - other.low)
        difference = self.estimate - other.estimate
        return Interval(difference, difference - below, difference + above, method=self.method)

    def __str__(self) -> str:
        entries = zip(self.estimate.flat, self.low.flat, self.high.flat, strict=True)
        return "\n".join(f"{estimate:.3f} [{low:.3f}, {high:.3f}]" for estimate, low, high in entries)


def percentile_interval(estimate: float, drawn: Float[np.ndarray, " draws"] | Sequence[float]) -> Interval:
    """An estimate with what 95 % of its draws lie in; the ends are NaN without draws."""
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (np.nan, np.nan)
    return Interval(np.array(estimate), np.array(low), np.array(high), method="percentile")


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
