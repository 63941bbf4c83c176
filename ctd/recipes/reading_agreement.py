"""How far two readings of the same texts agree, and how well the book's rules find what they marked.

Notes: n texts, k kinds, b weightings of the texts, m = 1 + k. All intervals are bootstraps over texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from ctd import stats
from ctd.recipes.natural_marks import KINDS, Reading, TextMarks
from ctd.stats import Interval

LEFT_OUT = "?"  # the kind of a sentence that does not count
Boundaries = Sequence[int | None]


def kappas(a: Reading, b: Reading, draws: int = 1000) -> dict[str, Interval]:
    """Cohen's kappa of the kinds of sentences: "" for all kinds at once, a kind's letter for that kind or not.

    NaN for a kind that both give to no sentence, or to every one.

    draws: resamples of the texts.
    """
    tables = np.array([_table(first.kinds, second.kinds) for first, second in zip(a, b, strict=True)])
    interval = stats.bootstrap_weighted(
        lambda weights: _kappas(np.einsum("bn,nij->bij", weights, tables)), len(tables), draws
    )
    return {kind: interval[column] for column, kind in enumerate(("", *KINDS))}


def _table(first: str, second: str) -> Float[np.ndarray, "k k"]:
    """How many sentences of a text have each pair of kinds."""
    letters = list(KINDS)
    table = np.zeros((len(letters), len(letters)))
    for pair in zip(first, second, strict=True):
        table[letters.index(pair[0]), letters.index(pair[1])] += 1
    return table


def _kappas(tables: Float[np.ndarray, "b k k"]) -> Float[np.ndarray, "b m"]:
    """Cohen's kappa of all kinds, and of each against the rest.

    Source: Cohen (1960).
    """
    shares = tables / tables.sum(axis=(1, 2), keepdims=True)
    first, second, same = shares.sum(axis=2), shares.sum(axis=1), np.diagonal(shares, axis1=1, axis2=2)
    observed = np.column_stack([same.sum(axis=1), 1 - first - second + 2 * same])
    by_chance = np.column_stack([(first * second).sum(axis=1), first * second + (1 - first) * (1 - second)])
    room = 1 - by_chance
    return np.divide(observed - by_chance, room, out=np.full(room.shape, np.nan), where=room > 1e-12)


def same_kind(a: Reading, b: Reading) -> Interval:
    """The share of sentences to which both give the same letter."""
    pairs = list(zip(a, b, strict=True))
    same = [sum(x == y for x, y in zip(first.kinds, second.kinds, strict=True)) for first, second in pairs]
    return stats.bootstrap_ratio(np.array(same), np.array([len(first.kinds) for first, _ in pairs]))


def boundaries(a: Boundaries, b: Boundaries) -> dict[str, Interval]:
    """How far two lists of boundaries agree, with None for a text without one.

    "both or neither": the share of texts in which both have a boundary, or neither has.
    "both": the share in which both have one.
    "within one sentence": of the texts in which both have one, the share with boundaries at most a sentence apart.
    "sentences apart": the mean distance in these texts.
    """
    first, second = (np.array([np.nan if place is None else place for place in places]) for places in (a, b))
    in_first, in_second = ~np.isnan(first), ~np.isnan(second)
    both = in_first & in_second
    distance = np.where(both, np.abs(first - second), 0.0)
    return {
        "both or neither": stats.bootstrap_mean(in_first == in_second),
        "both": stats.bootstrap_mean(both),
        "within one sentence": stats.bootstrap_ratio(both & (distance <= 1), both),
        "sentences apart": stats.bootstrap_ratio(distance, both),
    }


def rule_scores(kind: str, by_rule: Sequence[str], reading: Reading) -> Interval:
    """Precision, recall and F1 of the sentences that a rule gives a letter, against a reading.

    by_rule: the letters of each text's sentences. Sentences that the reading has as `LEFT_OUT` do not count.
    """
    counts = []
    for letters, text in zip(by_rule, reading, strict=True):
        pairs = [pair for pair in zip(letters, text.kinds, strict=True) if pair[1] != LEFT_OUT]
        hits = sum(rule == kind == truth for rule, truth in pairs)
        predicted, true = (sum(pair[side] == kind for pair in pairs) for side in (0, 1))
        counts.append([[hits, hits, 2 * hits], [predicted, true, predicted + true]])
    above, below = np.moveaxis(np.array(counts), 1, 0)
    return stats.bootstrap_ratio(above, below)


def before_the_answer(reading: Reading) -> Reading:
    """A reading in which no sentence counts from the first one of the answer on."""
    cut = [text.kinds.partition("A")[0] for text in reading]
    return [
        TextMarks(kinds.ljust(len(text.kinds), LEFT_OUT), text.boundary)
        for kinds, text in zip(cut, reading, strict=True)
    ]


def agreed(a: Reading, b: Reading) -> tuple[Reading, Bool[np.ndarray, " n"]]:
    """What both readings say, with `LEFT_OUT` for other sentences, and the texts for which they have one boundary."""
    kinds = [
        "".join(
            letter if letter == other else LEFT_OUT for letter, other in zip(first.kinds, second.kinds, strict=True)
        )
        for first, second in zip(a, b, strict=True)
    ]
    reading = [TextMarks(letters, text.boundary) for letters, text in zip(kinds, a, strict=True)]
    return reading, np.array([first.boundary == second.boundary for first, second in zip(a, b, strict=True)])
