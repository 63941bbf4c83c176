"""What a patched run is judged by: how likely it finds the topics, and the gold label over its near miss."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor

from ctd.mechanism.phases import Phase
from ctd.reasoning.annotate import AnnotatedTrace
from ctd.reasoning.token_spans import Span

ANCHOR, MARGIN = READOUTS = "anchor", "margin"
READS = {Phase.SHORTLIST: ANCHOR, Phase.REFINE: MARGIN}
"""What each phase is judged by."""
UNITS = {ANCHOR: "nats a token", MARGIN: "logits"}


def phase_queries(trace: AnnotatedTrace, phase: Phase | None) -> Span:
    """The queries of a phase: of Phase 2 to the end of the answer; those of the whole trace where it is None."""
    start, end = trace.cot.start, len(trace.ids)
    if phase is None:
        return Span(start, end)
    return Span(start, trace.boundary) if phase is Phase.SHORTLIST else Span(trace.boundary, end)


def queries_read(trace: AnnotatedTrace, names: Sequence[str] = READOUTS) -> list[int]:
    """The queries whose logits these readouts need, in order."""
    topics = range(*trace.topics) if ANCHOR in names else ()
    decided = chain.from_iterable(pair.decided for pair in trace.comparisons) if MARGIN in names else ()
    return sorted({*topics, *decided})


def read_out(
    logits: Float[Tensor, "n v"], trace: AnnotatedTrace, names: Sequence[str] = READOUTS
) -> dict[str, Float[Tensor, ""]]:
    """The readouts of one run; NaN where the trace has no such place.

    "anchor" is the mean log-probability of the tokens of the trace's line of topics (nats). "margin" is the logit of
    the gold label minus that of the near miss, in their first distinguishing token, averaged over the comparisons that
    name the gold label first. Our definition.

    logits: at the queries of `queries_read`.
    names: of the readouts.
    """
    place = {query: row for row, query in enumerate(queries_read(trace, names))}
    values = dict.fromkeys(names, torch.tensor(torch.nan))
    if ANCHOR in names and (topics := [*range(*trace.topics)]):
        tokens = torch.tensor([trace.ids[query + 1] for query in topics], device=logits.device)
        rows = logits[[place[query] for query in topics]].float().log_softmax(-1)
        values[ANCHOR] = rows.gather(1, tokens[:, None]).mean()
    pairs = trace.comparisons if MARGIN in names else ()
    decided = [(place[query], pair.gold_token, pair.near_token) for pair in pairs for query in pair.decided]
    if decided:
        rows, gold, near = torch.tensor(decided, device=logits.device).T
        values[MARGIN] = (logits[rows, gold] - logits[rows, near]).float().mean()
    return values
