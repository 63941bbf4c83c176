"""What heads are patched on: documents with their corrupted twins, and heads ranked on other documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ctd.mechanism import corruptions, heads
from ctd.mechanism.attention import Head
from ctd.mechanism.corruptions import LEFT_OUT, Corruption, Pair
from ctd.mechanism.head_scores import HeadScores
from ctd.mechanism.heads import Direction
from ctd.mechanism.phases import Phase
from ctd.mechanism.scores import PAPER
from ctd.mechanism.untestable import require_comparisons
from ctd.reasoning.annotate import AnnotatedTrace


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
    pairs: list[Pair]
    left_out: dict[str, int]


def trial(
    model: Any,
    traces: Sequence[AnnotatedTrace],
    n_scored: int,
    n_patched: int,
    direction: Direction = "unembedding",
    seed: int = 0,
    corruption: Corruption = "anchors",
) -> Trial:
    """Rank heads on the first documents by the paper's scores, and pair others with corrupted twins.

    traces: of all documents.
    n_scored: on how many of the first ones heads are ranked.
    n_patched: how many of the others are used at most: those that decide a comparison and can be corrupted.
    direction: of CoarseScore (see `heads.score`).
    corruption: of the twins.
    Raises NotTestable where no text that heads are ranked on compares labels, and what `heads.score` and
    `corruptions.pairs` raise.
    """
    ranked_on = [trace for trace in traces[:n_scored] if trace.anchor_mentions or direction == "unembedding"]
    comparing = [trace for trace in traces[n_scored:] if any(pair.decided for pair in trace.comparisons)]
    require_comparisons(ranked_on, least=1)
    paired, whole = corruptions.pairs(comparing, seed, corruption)  # refuses too few, and costs nothing
    scored = heads.score(model, ranked_on, direction)
    rankings = {phase: scored.ranking(name) for phase, name in PAPER.items()}
    left_out = {LEFT_OUT[corruption]: whole, "no comparison": len(traces[n_scored:]) - len(comparing)}
    return Trial(scored, rankings, paired[:n_patched], left_out)
