"""What the heads of a phase compute along a trace, read in a forward pass.

Notes: teacher and student are read by the same code, so that a student that equals its teacher has nothing to learn.
Phase 1 is read at the queries up to the phase boundary, Phase 2 at those of the comparisons (`ctd.reasoning.annotate`).
b traces of a batch, padded on the right to s tokens; n1, n2 queries of the two phases in all of them; k heads of a
phase; d dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ctd.mechanism import attention
from ctd.mechanism.attention import Attended, Head
from ctd.mechanism.phases import Phase
from ctd.mechanism.writes import margin_gradient
from ctd.reasoning import architecture
from ctd.reasoning.annotate import AnnotatedTrace

TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Places:
    """Where the phases are read in a batch.

    row1: the trace of each query of Phase 1.
    query1: its position.
    document: the tokens of each trace's document.
    row2: the trace of each query of Phase 2.
    query2: its position.
    gold: the keys at which the gold label was mentioned before each query of Phase 2.
    near: likewise for the near miss.
    gold_token: the token whose logit counts for the gold label in the margin of each query of Phase 2.
    near_token: likewise for the near miss.
    """

    row1: Int[Tensor, " n1"]
    query1: Int[Tensor, " n1"]
    document: Bool[Tensor, "b s"]
    row2: Int[Tensor, " n2"]
    query2: Int[Tensor, " n2"]
    gold: Bool[Tensor, "n2 s"]
    near: Bool[Tensor, "n2 s"]
    gold_token: Int[Tensor, " n2"]
    near_token: Int[Tensor, " n2"]

    def on(self, device: torch.device | str) -> Places:
        """The places on another device."""
        return Places(*(getattr(self, field.name).to(device) for field in fields(self)))


def places(traces: Sequence[AnnotatedTrace], length: int) -> Places:
    """The places of some traces, padded on the right to `length` tokens.

    Raises ValueError for a trace that is longer.
    """
    first: list[tuple[int, int]] = []
    second: list[tuple[int, int, int, int]] = []
    document = torch.zeros(len(traces), length, dtype=torch.bool)
    mentions: dict[str, list[Tensor]] = {"gold": [], "near": []}
    for row, trace in enumerate(traces):
        if len(trace.ids) > length:
            raise ValueError(f"trace {trace.uid!r} has {len(trace.ids)} tokens, more than the {length} of the batch")
        document[row, slice(*trace.document)] = True
        first += [(row, query) for query in range(*trace.early)]
        for pair in trace.comparisons:
            second += [(row, query, pair.gold_token, pair.near_token) for query in range(*pair.queries)]
            for name, spans in (("gold", pair.gold_mentions), ("near", pair.near_mentions)):
                keys = torch.zeros(length, dtype=torch.bool)
                keys[list(chain.from_iterable(range(*span) for span in spans))] = True
                mentions[name] += [keys] * (pair.queries.end - pair.queries.start)
    row1, query1 = torch.tensor(first, dtype=torch.int64).reshape(-1, 2).T
    row2, query2, gold_token, near_token = torch.tensor(second, dtype=torch.int64).reshape(-1, 4).T
    none = torch.zeros(0, length, dtype=torch.bool)
    gold, near = (torch.stack(keys) if keys else none for keys in mentions.values())
    return Places(row1, query1, document, row2, query2, gold, near, gold_token, near_token)


@dataclass(frozen=True, eq=False)
class Signals:
    """What the heads of both phases computed in a batch, reduced to what the losses compare.

    attention: mean attention of the Phase-1 heads over the document; each row sums to 1.
    write1: sum of their writes to the residual stream.
    gram1: for each trace, cosines between its heads' writes over the phase's queries, in the order of the heads.
    split: mean attention of the Phase-2 heads to the gold label, to its near miss, and elsewhere.
    along: their summed write along the gradient of the margin, which passes through the final norm and is held fixed.
    gram2: as gram1; 0 for a trace without comparisons.
    """

    attention: Float[Tensor, "n1 s"]
    write1: Float[Tensor, "n1 d"]
    gram1: Float[Tensor, "b k k"]
    split: Float[Tensor, "n2 3"]
    along: Float[Tensor, " n2"]
    gram2: Float[Tensor, "b k k"]


class Reading:
    """Collects attention and writes during a forward pass inside `reading`; `signals` reduces them.

    model: the model that is run.
    where: where its heads are read.
    chosen: heads of each phase.
    uniform: read what the heads would compute if each looked at every token before it alike.
    """

    def __init__(
        self, model: Any, where: Places, chosen: Mapping[Phase, Sequence[Head]], uniform: bool = False
    ) -> None:
        self.model, self.where, self.uniform = model, where, uniform
        self.by_layer = {
            phase: {layer: [head for at, head in chosen[phase] if at == layer] for layer, _ in chosen[phase]}
            for phase in Phase
        }
        self.order = {
            phase: [sorted(heads, key=lambda head: head[0]).index(head) for head in heads]
            for phase, heads in chosen.items()
        }
        self.rows: dict[Phase, list[Tensor]] = {phase: [] for phase in Phase}
        self.writes: dict[Phase, list[Tensor]] = {phase: [] for phase in Phase}
        self.final: list[Tensor] = []

    def visit(self, attended: Attended) -> None:
        """Collect one layer's attention and writes at the queries of each phase."""
        attended = without_preference(attended) if self.uniform else attended
        at = {Phase.SHORTLIST: (self.where.row1, self.where.query1), Phase.REFINE: (self.where.row2, self.where.query2)}
        for phase, (row, query) in at.items():
            if heads := self.by_layer[phase].get(attended.layer):
                self.rows[phase].append(attended.patterns_at(heads, row, query).sum(1))
                weight = architecture.output_weights(self.model, attended.layer)[:, heads]
                outputs = attended.output[row, query]
                writes = torch.einsum("nkc,dkc->nkd", outputs[:, heads], weight.to(outputs.dtype)).float()
                scale = architecture.write_scale(self.model, attended.layer, outputs)
                self.writes[phase].append(writes if scale is None else writes * scale[..., None])

    def signals(self) -> Signals:
        """The signals of the batch; gradients pass through."""
        where, n_rows = self.where, len(self.where.document)
        first, second = (
            torch.stack(self.rows[phase]).sum(0) / sum(map(len, self.by_layer[phase].values())) for phase in Phase
        )
        writes1, writes2 = (torch.cat(self.writes[phase], 1)[:, self.order[phase]] for phase in Phase)
        inside = first * where.document[where.row1]
        gold, near = ((second * keys).sum(-1) for keys in (where.gold, where.near))
        elsewhere = (1 - gold - near).clamp(min=0)
        hidden = self.final[-1][where.row2, where.query2]
        if len(hidden):
            gradient = margin_gradient(self.model, hidden, where.gold_token.tolist(), where.near_token.tolist())
            along = (writes2.sum(1) * gradient).sum(-1)
        else:
            along = writes2.new_zeros(0)
        return Signals(
            inside / inside.sum(-1, keepdim=True).clamp(min=TINY),
            writes1.sum(1),
            gram(writes1, where.row1, n_rows),
            torch.stack([gold, near, elsewhere], -1),
            along,
            gram(writes2, where.row2, n_rows),
        )


def without_preference(attended: Attended) -> Attended:
    """The same attention with equal scores: each query looks at every token that it sees alike."""
    level = replace(attended, query=torch.zeros_like(attended.query))
    heads = range(attended.query.shape[1])
    values = attended.value[:, attended.key_heads(heads)]
    return replace(level, output=(level.patterns(heads).to(values.dtype) @ values).transpose(1, 2))


def gram(writes: Float[Tensor, "n k d"], row: Int[Tensor, " n"], n_rows: int) -> Float[Tensor, "b k k"]:
    """Cosines between the writes of heads, over all queries of a row together; 0 where a row has none."""
    products = torch.einsum("nkd,nld->nkl", writes, writes)
    summed = products.new_zeros(n_rows, *products.shape[1:]).index_add(0, row, products)
    lengths = summed.diagonal(dim1=1, dim2=2).clamp(min=TINY).sqrt()
    return summed / (lengths[:, :, None] * lengths[:, None])


@contextmanager
def reading(
    model: Any, where: Places, chosen: Mapping[Phase, Sequence[Head]], uniform: bool = False
) -> Iterator[Reading]:
    """Read the heads of both phases in the forward pass inside; gradients pass through.

    where: where they are read.
    chosen: heads of each phase, in an order that teacher and student share.
    uniform: as in `Reading`.
    Raises ValueError for a phase without heads, one that the model has not, or a model whose attention has no `o_proj`.
    """
    for phase in Phase:
        if not chosen.get(phase):
            raise ValueError(f"{phase} needs at least one head, got none")
        attention.check(model, chosen[phase])
    collected = Reading(model, where, chosen, uniform)
    hook = architecture.final_norm(model).register_forward_pre_hook(lambda _, args: collected.final.append(args[0]))
    try:
        with attention.attention_hooks(
            model, collected.visit, {layer for phase in Phase for layer in collected.by_layer[phase]}
        ):
            yield collected
    finally:
        hook.remove()
