"""What the heads of a phase compute along a trace: read from a teacher once and kept, from a student in every step.

Notes: the same reading serves both, so that a student that equals its teacher has nothing to learn. Phase 1 is read at
the queries up to the phase boundary, Phase 2 at those of the comparisons (`ctd.reasoning.annotate`). b passages of a
batch, padded on the right to s tokens; n1, n2 queries of the two phases in all of them; k heads of a phase; d
dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor
from tqdm.auto import tqdm

from ctd.cache import atomic, cache_dir, digest, once
from ctd.keys import Maker
from ctd.mechanism import attention
from ctd.mechanism.attention import Attended, Head
from ctd.mechanism.phases import Phase
from ctd.mechanism.writes import margin_gradient
from ctd.reasoning import architecture
from ctd.reasoning.annotate import AnnotatedTrace

SIGNALS = Maker("signals", "ctd.distill.signals", ("model", "annotated_traces", "heads"))
TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Places:
    """Where the phases are read in a batch: rows and queries, the document, mentions of gold label and near miss.

    gold_token, near_token: what the margin of each Phase-2 query weighs. gold, near: the keys of their mentions.
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
        """The same on another device."""
        return Places(*(getattr(self, field.name).to(device) for field in fields(self)))


def places(passages: Sequence[AnnotatedTrace], length: int) -> Places:
    """The places of some passages, padded on the right to `length` tokens.

    Raises ValueError for a passage that is longer.
    """
    first: list[tuple[int, int]] = []
    second: list[tuple[int, int, int, int]] = []
    document = torch.zeros(len(passages), length, dtype=torch.bool)
    mentions: dict[str, list[Tensor]] = {"gold": [], "near": []}
    for row, one in enumerate(passages):
        if len(one.ids) > length:
            raise ValueError(f"passage {one.uid!r} has {len(one.ids)} tokens, more than the {length} of the batch")
        document[row, slice(*one.document)] = True
        first += [(row, query) for query in range(*one.early)]
        for pair in one.comparisons:
            second += [(row, query, pair.gold_token, pair.near_token) for query in range(*pair.queries)]
            for name, spans in (("gold", pair.gold_mentions), ("near", pair.near_mentions)):
                keys = torch.zeros(length, dtype=torch.bool)
                keys[list(chain.from_iterable(range(*span) for span in spans))] = True
                mentions[name] += [keys] * (pair.queries.end - pair.queries.start)
    row1, query1 = torch.tensor(first, dtype=torch.int64).reshape(-1, 2).T
    row2, query2, gold_token, near_token = torch.tensor(second, dtype=torch.int64).reshape(-1, 4).T
    gold, near = (torch.stack(of) if of else torch.zeros(0, length, dtype=torch.bool) for of in mentions.values())
    return Places(row1, query1, document, row2, query2, gold, near, gold_token, near_token)


@dataclass(frozen=True, eq=False)
class Signals:
    """What the heads of both phases computed in a batch, reduced to what the losses compare.

    attention: mean attention row of the Phase-1 heads over the document, summing to 1. write1: sum of their writes.
    gram1: of each passage, cosines between its heads' writes over the phase's queries, heads as chosen. split: mean
    attention mass of the Phase-2 heads on the gold label, on its near miss, elsewhere. along: their summed write
    along the gradient of the margin, which passes through the final norm and is held fixed. gram2: as gram1; 0 where a
    passage has no comparison.
    """

    attention: Float[Tensor, "n1 s"]
    write1: Float[Tensor, "n1 d"]
    gram1: Float[Tensor, "b k k"]
    split: Float[Tensor, "n2 3"]
    along: Float[Tensor, " n2"]
    gram2: Float[Tensor, "b k k"]


class Reading:
    """Collects what a forward pass inside `reading` shows; `signals` reduces it."""

    def __init__(self, model: Any, where: Places, chosen: Mapping[Phase, Sequence[Head]]) -> None:
        self.model, self.where = model, where
        self.by_layer = {
            phase: {layer: [head for at, head in chosen[phase] if at == layer] for layer, _ in chosen[phase]}
            for phase in Phase
        }
        self.order = {
            phase: [sorted(of, key=lambda head: head[0]).index(head) for head in of] for phase, of in chosen.items()
        }
        self.rows: dict[Phase, list[Tensor]] = {phase: [] for phase in Phase}
        self.writes: dict[Phase, list[Tensor]] = {phase: [] for phase in Phase}
        self.final: list[Tensor] = []

    def visit(self, attended: Attended) -> None:
        """Keep one layer's rows and writes of the queries that are asked for."""
        at = {Phase.SHORTLIST: (self.where.row1, self.where.query1), Phase.REFINE: (self.where.row2, self.where.query2)}
        for phase, (row, query) in at.items():
            if of := self.by_layer[phase].get(attended.layer):
                self.rows[phase].append(attended.patterns_at(of, row, query).sum(1))
                weight = architecture.output_weights(self.model, attended.layer)[:, of]
                outputs = attended.output[row, query][:, of]
                self.writes[phase].append(torch.einsum("nkc,dkc->nkd", outputs, weight.to(outputs.dtype)).float())

    def signals(self) -> Signals:
        """The batch's signals, differentiable where the model was run so."""
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


def gram(writes: Float[Tensor, "n k d"], row: Int[Tensor, " n"], n_rows: int) -> Float[Tensor, "b k k"]:
    """Cosines between the writes of heads over each row's queries, taken together; 0 where a row has none."""
    products = torch.einsum("nkd,nld->nkl", writes, writes)
    summed = products.new_zeros(n_rows, *products.shape[1:]).index_add(0, row, products)
    lengths = summed.diagonal(dim1=1, dim2=2).clamp(min=TINY).sqrt()
    return summed / (lengths[:, :, None] * lengths[:, None])


@contextmanager
def reading(model: Any, where: Places, chosen: Mapping[Phase, Sequence[Head]]) -> Iterator[Reading]:
    """The model with the heads of both phases read in the forward pass inside; gradients pass through.

    chosen: heads of each phase, in an order that teacher and student share. Raises ValueError for a phase
    without heads, one that the model has not, or a model whose attention has no `o_proj`.
    """
    for phase in Phase:
        if not chosen.get(phase):
            raise ValueError(f"{phase} needs at least one head, got none")
        attention.check(model, chosen[phase])
    found = Reading(model, where, chosen)
    hook = architecture.final_norm(model).register_forward_pre_hook(lambda _, args: found.final.append(args[0]))
    try:
        with attention.attention_hooks(
            model, found.visit, {layer for phase in Phase for layer in found.by_layer[phase]}
        ):
            yield found
    finally:
        hook.remove()


@dataclass(frozen=True, eq=False)
class Kept:
    """The teacher's signals of one passage, kept small: attention over the document's tokens alone."""

    attention: Float[np.ndarray, "q doc"]
    write1: Float[np.ndarray, "q d"]
    gram1: Float[np.ndarray, "k k"]
    split: Float[np.ndarray, "r 3"]
    along: Float[np.ndarray, " r"]
    gram2: Float[np.ndarray, "k k"]


def keep(
    model: Any,
    passages: Sequence[AnnotatedTrace],
    chosen: Mapping[Phase, Sequence[Head]],
    rows: int = 16,
    desc: str = "signals",
) -> list[Kept]:
    """The teacher's signals of every passage, in order; attention and writes in half precision.

    Raises what `reading` raises, and ValueError without passages.
    """
    if not passages:
        raise ValueError("there is nothing to read signals from: no passage was given")
    parts = [passages[start : start + rows] for start in range(0, len(passages), rows)]
    return [one for part in tqdm(parts, desc=desc, unit=" batches") for one in _kept(model, part, chosen)]


@torch.no_grad()
def _kept(model: Any, passages: Sequence[AnnotatedTrace], chosen: Mapping[Phase, Sequence[Head]]) -> list[Kept]:
    """As `keep`, all passages in one batch."""
    longest = max(len(one.ids) for one in passages)
    where = places(passages, longest).on(model.device)
    ids = torch.zeros(len(passages), longest, dtype=torch.int64)
    for row, one in enumerate(passages):
        ids[row, : len(one.ids)] = torch.tensor(one.ids)
    with reading(model, where, chosen) as found:
        model.get_decoder()(input_ids=ids.to(model.device), use_cache=False)
    whole = found.signals()
    kept = []
    for row, one in enumerate(passages):
        early, late = where.row1 == row, where.row2 == row
        kept.append(
            Kept(
                whole.attention[early, one.document.start : one.document.end].half().cpu().numpy(),
                whole.write1[early].half().cpu().numpy(),
                whole.gram1[row].cpu().numpy(),
                whole.split[late].cpu().numpy(),
                whole.along[late].cpu().numpy(),
                whole.gram2[row].cpu().numpy(),
            )
        )
    return kept


class Live(Sequence[Kept]):
    """Signals that are read whenever they are asked for: nothing on disk, a pass of the teacher each time."""

    def __init__(self, model: Any, passages: Sequence[AnnotatedTrace], chosen: Mapping[Phase, Sequence[Head]]) -> None:
        self.model, self.passages, self.chosen = model, passages, chosen

    def __len__(self) -> int:
        return len(self.passages)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return _kept(self.model, self.passages[row], self.chosen)
        return _kept(self.model, [self.passages[row]], self.chosen)[0]


class Stored(Sequence[Kept]):
    """Kept signals in a file, of which only what is asked for is read: hundreds of KiB a trace of a large teacher."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = safe_open(path, "np")
        self._n = int(self._file.metadata()["passages"])

    @property
    def nbytes(self) -> int:
        """Bytes that the file takes."""
        return self.path.stat().st_size

    def __reduce__(self) -> tuple[type[Stored], tuple[Path]]:
        return Stored, (self.path,)

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(self._n))]
        place = range(self._n)[row]
        return Kept(**{field.name: self._file.get_tensor(f"{place}/{field.name}") for field in fields(Kept)})


def content(records: Sequence[Any]) -> str:
    """SHA-256 of records by content, 64 hex digits; a hundred times as fast as `keys.fingerprint` for long ones.

    records: dataclasses of plain values and tuples, such as annotated traces.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        return [type(value).__name__, {field.name: getattr(value, field.name) for field in fields(value)}]

    return digest([json.dumps(record, default=plain) for record in records])


def stored(
    model: Any,
    key: str,
    passages: Sequence[AnnotatedTrace],
    chosen: Mapping[Phase, Sequence[Head]],
    folder: Path | None = None,
) -> Stored:
    """As `keep`, but read once for all processes: the signals lie in a file of the cache, or of a folder.

    key: of the model's weights, such as a LanguageModel's. Raises what `keep` raises.
    """
    name = SIGNALS.key(model=key, annotated_traces=content(passages), heads={**chosen})
    path = (folder or cache_dir("signals")) / f"{name}.safetensors"
    with once(path) as missing:
        if missing:
            arrays = {
                f"{row}/{field.name}": np.ascontiguousarray(getattr(one, field.name))
                for row, one in enumerate(keep(model, passages, chosen))
                for field in fields(one)
            }
            with atomic(path) as scratch:
                save_file(arrays, scratch, {"passages": str(len(passages))})
    return Stored(path)


def together(
    kept: Sequence[Kept], passages: Sequence[AnnotatedTrace], length: int, device: torch.device | str = "cpu"
) -> Signals:
    """Kept signals of some passages as those of a batch, padded on the right to `length` tokens; float32."""
    rows = np.zeros((sum(len(one.attention) for one in kept), length), np.float32)
    start = 0
    for one, passage in zip(kept, passages, strict=True):
        rows[start : start + len(one.attention), slice(*passage.document)] = one.attention
        start += len(one.attention)
    flat = {name: np.concatenate([getattr(one, name) for one in kept]) for name in ("write1", "split", "along")}
    stacked = {name: np.stack([getattr(one, name) for one in kept]) for name in ("gram1", "gram2")}
    arrays = {"attention": rows, **flat, **stacked}
    return Signals(**{name: torch.from_numpy(of).float().to(device) for name, of in arrays.items()})
