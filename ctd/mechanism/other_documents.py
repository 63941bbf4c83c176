"""Head scores under another document's anchors and labels: what a score owes to its own document.

Notes: all forms are our definition. A score that ranks heads alike with the anchors of any other document does not
measure anchors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from ctd.reasoning.annotate import AnnotatedTrace

Anchors = tuple[int, ...]


def contrasts(model: Any, traces: Sequence[AnnotatedTrace]) -> dict[Anchors, Float[Tensor, " d"]]:
    """The direction of each document's anchors less the mean direction of all documents with other anchors.

    Directions are mean unembedding rows of the anchors' tokens, of length 1. NaN where all documents have the same
    anchors. The cosine of a write with a document's direction, less the mean of those with the others', is the dot
    product of the write's direction with this difference.
    """
    weight = model.get_output_embeddings().weight
    counts = Counter(trace.anchors for trace in traces)
    units = {anchors: normalize(weight[list(anchors)].detach().float().mean(0), dim=0) for anchors in counts}
    total = torch.stack([n * units[anchors] for anchors, n in counts.items()]).sum(0)
    differences = {}
    for anchors, n in counts.items():
        n_others = len(traces) - n
        others = (total - n * units[anchors]) / n_others if n_others else torch.full_like(total, torch.nan)
        differences[anchors] = units[anchors] - others
    return differences


def twins(traces: Sequence[AnnotatedTrace]) -> list[AnnotatedTrace]:
    """Each document's trace with the anchors, and the labels compared, of the next document that has others.

    A judgement of one label becomes one of the next candidate in the document's own list. A trace has no anchors left
    where all documents have the same, and no comparisons where no other compares.
    """
    return [_twin(trace, [*traces[row + 1 :], *traces[:row]]) for row, trace in enumerate(traces)]


def _twin(trace: AnnotatedTrace, others: Sequence[AnnotatedTrace]) -> AnnotatedTrace:
    anchors = next((other.anchors for other in others if other.anchors != trace.anchors), ())
    labels = {(pair.gold, pair.near) for pair in trace.comparisons}
    elsewhere = ([pair for pair in other.comparisons if (pair.gold, pair.near) not in labels] for other in others)
    pairs = next(filter(None, elsewhere), [])
    comparisons = [
        comparison._replace(gold=other.gold, near=other.near, gold_token=other.gold_token, near_token=other.near_token)
        for comparison, other in zip(trace.comparisons, pairs * len(trace.comparisons), strict=False)
    ]
    judgements = tuple(judged.of_another() for judged in trace.judgements)
    return replace(trace, anchors=anchors, comparisons=tuple(comparisons), judgements=judgements)
