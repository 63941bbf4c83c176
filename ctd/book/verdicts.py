"""Five verdicts, and how they follow from intervals.

Notes: a claim says of each of its numbers that it lies above a null value, below it, or at it. Three things can be
shown of a number: that it lies on the claimed side, on the other side, or within a bound about the null value that was
set beforehand. What is none of these is inconclusive; no claim holds because nothing was found. The tests are one-sided
at 2.5 %, so that a claimed side is shown where the whole 95 % interval lies there. Superiority, inferiority and
equivalence may be tested side by side without correction (Goeman, Solari & Stijnen, 2010); equivalence is two
one-sided tests (Schuirmann, 1987).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import norm

from ctd import stats
from ctd.book.results import Row
from ctd.stats import Interval

SIDE = 0.025  # the level of each one-sided test
Z95 = float(norm.ppf(1 - SIDE))
Z80 = float(norm.ppf(0.8))  # for a power of 80 %
SIMULATED = 2000  # studies

Claimed = Literal["above", "below", "at"]


class Verdict(StrEnum):
    REPRODUCED = "reproduced"
    CONTRADICTED = "contradicted"
    EQUIVALENT = "equivalent to nothing"
    INCONCLUSIVE = "inconclusive"
    NOT_TESTABLE = "not testable"
    NOT_RUN = "not run"


TESTED = (Verdict.REPRODUCED, Verdict.CONTRADICTED, Verdict.EQUIVALENT, Verdict.INCONCLUSIVE)


class Estimate(NamedTuple):
    """A recorded value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, interval: tuple[float, float], n: int) -> Estimate:
        """A recorded number. An interval without width says that nothing differed, and is widened.

        n: how many the number rests on. What never happened in n of them may happen in up to 1 - 0.025^(1/n) of others
            (the rule of three; Hanley & Lippman-Hand, 1983), for values of at most 1.
        """
        least = 0.0 if interval[1] > interval[0] else 1 - SIDE ** (1 / n)
        return cls(value, interval[0] - least, interval[1] + least)

    @classmethod
    def of_row(cls, row: Row | None) -> Estimate | None:
        """A recorded number; None where there is none, or it has no interval."""
        if row is None or row.interval is None or row.n is None or not isinstance(row.value, int | float):
            return None
        return cls.of(row.value, row.interval, row.n)

    def less(self, other: Estimate) -> Estimate:
        """The difference of two estimates, as if they were independent.

        Source: MOVER (Zou & Donner, 2008). Where both rest on the same documents, the interval is usually too wide.
        """
        first, second = (Interval(*map(np.asarray, numbers)) for numbers in (self, other))
        return Estimate(*first.less(second).scalar)

    def times(self, factor: float) -> Estimate:
        low, high = sorted((self.low * factor, self.high * factor))
        return Estimate(self.value * factor, low, high)


class Evidence(NamedTuple):
    """One-sided p-values for three statements about a number; a small one supports its statement.

    holds: it lies where the claim says.
    opposite: it lies on the other side. For a claim that it is at its null value: it lies outside the bound.
    nothing: it lies within the bound of the null value; 1 where this is the claim itself.
    """

    holds: float
    opposite: float
    nothing: float


def evidence(estimate: Estimate, claimed: Claimed, bound: float, null: float = 0.0) -> Evidence:
    """What an estimate shows, by the normal distribution whose 2.5 % tails begin at the ends of its interval.

    estimate: with its 95 % interval.
    claimed: where the number should lie: "above" or "below" the null value, or "at" it.
    bound: the smallest difference from the null value that would matter.
    null: what the number is held against.
    Raises ValueError for a bound that is not above 0.
    """
    if not bound > 0:
        raise ValueError(f"a bound must be above 0, got {bound}")
    within = max(_beyond(estimate, null - bound), _short_of(estimate, null + bound))
    if claimed == "at":
        outside = min(_beyond(estimate, null + bound), _short_of(estimate, null - bound))
        return Evidence(within, outside, 1.0)
    above, below = _beyond(estimate, null), _short_of(estimate, null)
    return Evidence(above, below, within) if claimed == "above" else Evidence(below, above, within)


def _beyond(estimate: Estimate, least: float) -> float:
    """p-value of the hypothesis that the number is at most `least`."""
    return _tail(estimate.value - least, estimate.value - estimate.low)


def _short_of(estimate: Estimate, most: float) -> float:
    """p-value of the hypothesis that the number is at least `most`."""
    return _tail(most - estimate.value, estimate.high - estimate.value)


def _tail(distance: float, half_width: float) -> float:
    """Upper tail of the normal distribution; 1 where an interval has no width on that side."""
    return math.erfc(distance / half_width * Z95 / math.sqrt(2)) / 2 if half_width > 0 else 1.0


@dataclass(frozen=True)
class Judgement:
    """What a claim's numbers show together.

    verdict: before correction for the other claims.
    p: one-sided p-value of that verdict; of an inconclusive claim, of what came closest.
    """

    verdict: Verdict
    p: float


def judge(parts: Sequence[Evidence]) -> Judgement:
    """A claim whose every number must lie where it says.

    Reproduced takes all of them, so it needs no correction (intersection-union test; Berger, 1982). One number on the
    other side, or one that is nothing, refutes the claim: those are corrected by Bonferroni for the number of parts.
    """
    several = len(parts)
    shown = {
        Verdict.CONTRADICTED: min(1.0, several * min(part.opposite for part in parts)),
        Verdict.EQUIVALENT: min(1.0, several * min(part.nothing for part in parts)),
        Verdict.REPRODUCED: max(part.holds for part in parts),
    }
    for verdict, p in shown.items():
        if p <= SIDE:
            return Judgement(verdict, p)
    return Judgement(Verdict.INCONCLUSIVE, min(shown.values()))


def corrected(judgements: Sequence[Judgement]) -> list[Judgement]:
    """The same within a family of claims: by Holm, what does not stand among the others is inconclusive.

    Returns judgements whose p is Holm's, two-sided.
    """
    p_values = stats.holm(np.minimum(1.0, [2 * judgement.p for judgement in judgements]))
    return [
        Judgement(judgement.verdict if p <= 2 * SIDE else Verdict.INCONCLUSIVE, float(p))
        for judgement, p in zip(judgements, p_values, strict=True)
    ]


def smallest_seen(estimate: Estimate) -> float:
    """The smallest effect that a study of this width shows with a power of 80 % (our definition)."""
    return (Z95 + Z80) / Z95 * (estimate.high - estimate.low) / 2


def simulate(
    parts: Sequence[tuple[Claimed, float]], truths: Sequence[float], errors: Sequence[float]
) -> dict[Verdict, float]:
    """How often each verdict is given where the truth is known: its errors and its power.

    parts: of each number what is claimed, and its bound; the null value is 0.
    truths: of each number.
    errors: the standard error of each number; numbers are drawn independently, from normal distributions.
    """
    values = np.random.default_rng(0).normal(truths, errors, size=(SIMULATED, len(parts)))
    halves = Z95 * np.asarray(errors)
    counts = dict.fromkeys(TESTED, 0)
    for study in values:
        estimates = [Estimate(v, v - half, v + half) for v, half in zip(study, halves, strict=True)]
        shown = [evidence(each, *part) for each, part in zip(estimates, parts, strict=True)]
        counts[judge(shown).verdict] += 1
    return {verdict: count / SIMULATED for verdict, count in counts.items()}
