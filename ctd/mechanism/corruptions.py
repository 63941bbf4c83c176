"""Corrupted twins of traces: what a head looked at is gone, or stands elsewhere. All are our definition.

Notes: a corrupted run is as long as the clean one, token for token.

"anchors": the words of the document's anchors are replaced by another document's, in place. Heads look at the same
    positions in both runs, so that an exchange of attention patterns between the two changes little.
"sentences": the document's sentences change places.
"document": another document stands in its place, cut or repeated to the same length.
"shortlist": the lines of the trace's shortlist change places, the document stays. It moves what a later comparison
    looks at in the trace; the others leave that where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, cycle, islice
from typing import Literal, get_args

import numpy as np

from ctd.mechanism.untestable import NotTestable
from ctd.reasoning.annotate import AnnotatedTrace
from ctd.reasoning.token_spans import Span

Corruption = Literal["anchors", "sentences", "document", "shortlist"]
LEFT_OUT: dict[Corruption, str] = {
    "anchors": "anchor never mentioned",
    "sentences": "document of one sentence",
    "document": "no document",
    "shortlist": "shortlist of one line",
}
"""Why a trace has no corrupted twin."""

Pair = tuple[AnnotatedTrace, AnnotatedTrace]


def usable(trace: AnnotatedTrace, corruption: Corruption) -> bool:
    """Whether a trace can be corrupted so, and another by its words."""
    _check(corruption)
    pieces: dict[Corruption, int] = {
        "anchors": 1 + bool(trace.anchor_mentions),
        "sentences": len(trace.sentences),
        "document": 1 + (trace.document.end > trace.document.start),
        "shortlist": len(trace.shortlist),
    }
    return pieces[corruption] > 1


def pairs(
    traces: Sequence[AnnotatedTrace], seed: int = 0, corruption: Corruption = "anchors"
) -> tuple[list[Pair], int]:
    """Clean and corrupted trace of each document, and how many cannot be corrupted so (see `LEFT_OUT`).

    Raises ValueError where fewer than two can, or for an unknown corruption.
    """
    chosen = [trace for trace in traces if usable(trace, corruption)]
    if len(chosen) < 2:
        raise NotTestable(
            f"corruption {corruption!r} needs two documents or more, got {len(chosen)} "
            f"(reason for leaving others out: {LEFT_OUT[corruption]})"
        )
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(chosen))
    others = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    corrupted = [(trace, corrupt(trace, chosen[others[row]], corruption, rng)) for row, trace in enumerate(chosen)]
    return corrupted, len(traces) - len(chosen)


def corrupt(
    trace: AnnotatedTrace, other: AnnotatedTrace, corruption: Corruption, rng: np.random.Generator
) -> AnnotatedTrace:
    """The corrupted twin of a trace; its spans stay those of the clean one.

    other: the document that words are taken from.
    rng: draws the new order.
    """
    if corruption in ("sentences", "shortlist"):
        return _reordered(trace, trace.sentences if corruption == "sentences" else trace.shortlist, rng)
    ids = list(trace.ids)
    if corruption == "document":
        places = [trace.document]
        foreign = cycle(other.ids[slice(*other.document)])
    else:
        places = list(trace.anchor_mentions)
        foreign = cycle(list(chain.from_iterable(other.ids[start:end] for start, end in other.anchor_mentions)))
    for start, end in places:
        ids[start:end] = islice(foreign, end - start)
    return replace(trace, ids=tuple(ids))


def _reordered(trace: AnnotatedTrace, pieces: Sequence[Span], rng: np.random.Generator) -> AnnotatedTrace:
    """The trace with pieces that stand side by side in another order, none where one stood before."""
    order = rng.permutation(len(pieces))
    successor = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    moved = chain.from_iterable(trace.ids[slice(*pieces[successor[place]])] for place in range(len(pieces)))
    start, end = pieces[0].start, pieces[-1].end
    return replace(trace, ids=(*trace.ids[:start], *moved, *trace.ids[end:]))


def _check(corruption: Corruption) -> None:
    if corruption not in get_args(Corruption):
        raise ValueError(f"corruption must be one of {', '.join(get_args(Corruption))}, got {corruption!r}")
