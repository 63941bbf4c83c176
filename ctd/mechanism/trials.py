"""What heads are patched on: documents with their corrupted twins, and heads ranked on other documents.

Notes: a corrupted document has its anchors' words replaced by another document's, token for token (our definition).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, cycle, islice
from typing import Any

import numpy as np

from ctd.mechanism import heads
from ctd.mechanism.attention import Head
from ctd.mechanism.head_scores import HeadScores
from ctd.mechanism.heads import Direction
from ctd.mechanism.phases import Phase
from ctd.mechanism.scores import PAPER
from ctd.reasoning.annotate import AnnotatedTrace


def corrupt(trace: AnnotatedTrace, other: AnnotatedTrace) -> AnnotatedTrace:
    """The trace with its document's anchor words replaced by the other document's, token for token.

    Raises ValueError where either document never mentions its anchor.
    """
    for silent in (trace, other):
        if not silent.anchor_mentions:
            raise ValueError(f"document {silent.uid!r} never mentions its anchor: there is nothing to corrupt")
    foreign = cycle(list(chain.from_iterable(other.ids[start:end] for start, end in other.anchor_mentions)))
    ids = list(trace.ids)
    for start, end in trace.anchor_mentions:
        ids[start:end] = islice(foreign, end - start)
    return replace(trace, ids=tuple(ids))


def pairs(traces: Sequence[AnnotatedTrace], seed: int = 0) -> tuple[list[tuple[AnnotatedTrace, AnnotatedTrace]], int]:
    """Clean and corrupted trace of each document, and how many were left out for never mentioning their anchor.

    Raises ValueError where fewer than two mention it.
    """
    usable = [trace for trace in traces if trace.anchor_mentions]
    if len(usable) < 2:
        raise ValueError(f"corruption takes words from other documents, got {len(usable)} that mention their anchor")
    order = np.random.default_rng(seed).permutation(len(usable))
    others = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    return [(trace, corrupt(trace, usable[others[row]])) for row, trace in enumerate(usable)], len(traces) - len(usable)


@dataclass(frozen=True, eq=False)
class Trial:
    """Heads ranked on some documents, and others to patch them on.

    scored: the scores of all heads.
    rankings: of all heads, by phase, the highest first.
    pairs: clean and corrupted trace of each document to patch on.
    left_out: how many documents were not used, by the reason.
    """

    scored: HeadScores
    rankings: dict[Phase, list[Head]]
    pairs: list[tuple[AnnotatedTrace, AnnotatedTrace]]
    left_out: dict[str, int]


def trial(
    model: Any,
    traces: Sequence[AnnotatedTrace],
    n_scored: int,
    n_patched: int,
    direction: Direction = "unembedding",
    seed: int = 0,
) -> Trial:
    """Rank heads on the first documents by the paper's scores, and pair others with corrupted twins.

    traces: of all documents.
    n_scored: on how many of the first ones heads are ranked.
    n_patched: how many of the others are used at most: those that mention their anchor and decide a comparison.
    direction: of CoarseScore (see `heads.score`).
    Raises what `heads.score`, `HeadScores.ranking` and `pairs` raise.
    """
    ranked_on = [trace for trace in traces[:n_scored] if trace.anchor_mentions or direction == "unembedding"]
    comparing = [trace for trace in traces[n_scored:] if any(pair.decided for pair in trace.comparisons)]
    scored = heads.score(model, ranked_on, direction)
    rankings = {phase: scored.ranking(name) for phase, name in PAPER.items()}
    paired, silent = pairs(comparing, seed)
    left_out = {"anchor never mentioned": silent, "no comparison": len(traces[n_scored:]) - len(comparing)}
    return Trial(scored, rankings, paired[:n_patched], left_out)
