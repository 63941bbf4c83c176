"""What a patched run is judged by: how likely it finds the topics, and the gold label over its near miss."""

from __future__ import annotations

from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor

from ctd.reasoning.annotate import AnnotatedTrace

ANCHOR, MARGIN = "anchor", "margin"  # the readouts of Phase 1 and Phase 2


def queries_read(trace: AnnotatedTrace) -> list[int]:
    """The queries whose logits the readouts need, in order."""
    decided = chain.from_iterable(pair.decided for pair in trace.comparisons)
    return sorted({*range(*trace.topics), *decided})


def read_out(logits: Float[Tensor, "n v"], trace: AnnotatedTrace) -> dict[str, Float[Tensor, ""]]:
    """The readouts of one run; NaN where the trace has no such place.

    "anchor" is the mean log-probability of the tokens of the trace's line of topics (nats). "margin" is the logit of
    the gold label minus that of the near miss, in their first distinguishing token, averaged over the places where
    comparisons and answer name the gold label. Our definition.

    logits: at the queries of `queries_read`.
    """
    place = {query: row for row, query in enumerate(queries_read(trace))}
    values = dict.fromkeys((ANCHOR, MARGIN), torch.tensor(torch.nan))
    if topics := [*range(*trace.topics)]:
        tokens = torch.tensor([trace.ids[query + 1] for query in topics], device=logits.device)
        rows = logits[[place[query] for query in topics]].float().log_softmax(-1)
        values[ANCHOR] = rows.gather(1, tokens[:, None]).mean()
    decided = [(place[query], pair.gold_token, pair.near_token) for pair in trace.comparisons for query in pair.decided]
    if decided:
        rows, gold, near = torch.tensor(decided, device=logits.device).T
        values[MARGIN] = (logits[rows, gold] - logits[rows, near]).float().mean()
    return values
