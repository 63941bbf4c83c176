"""Is a head necessary, is it sufficient? Attention patterns and head outputs, replaced while a model reads a trace.

Notes: the trace is the same in the clean and the corrupted run, teacher-forced; their documents differ
(`ctd.mechanism.corruptions`). Noising disturbs heads of the clean run: what is lost without them? What is put in comes
from the corrupted run, or needs no other run (`attention_patches.Noise`). Denoising puts the clean run's patterns or
outputs into the corrupted one: what do they restore? Heads are patched at queries of the trace, not of the document,
because they are scored there too (our definition). All runs of a document stand side by side in a batch. Tokens before
the first patched query are read once; tokens after the last readout are not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformers import GenerationConfig, PreTrainedTokenizerBase

from ctd import hardware, progress, workers
from ctd.mechanism import attention, attention_patches, head_bins, mean_ablation
from ctd.mechanism.attention import Head
from ctd.mechanism.attention_patches import Noise, What
from ctd.mechanism.corruptions import Pair
from ctd.mechanism.mean_ablation import MeanHeads
from ctd.mechanism.patch_effects import Effects, Way, joined
from ctd.mechanism.phases import Phase
from ctd.mechanism.readouts import READOUTS, phase_queries, queries_read, read_out
from ctd.mechanism.untestable import NotTestable
from ctd.reasoning import architecture
from ctd.reasoning.annotate import AnnotatedTrace
from ctd.reasoning.token_spans import Span
from ctd.reasoning.traces import CLOSE

PASS_TOKENS = 4096


@dataclass(frozen=True)
class Intervention:
    """How heads are patched.

    way: noising or denoising.
    what: is replaced, a head's "pattern" or its "output".
    noise: what replaces it (see `attention_patches.patch`); for denoising only "run".
    phase: whose queries are patched; None for all of the trace.
    Raises ValueError for an unknown way, or noise with denoising.
    """

    way: Way = "noising"
    what: What = "pattern"
    noise: Noise = "run"
    phase: Phase | None = None

    def __post_init__(self) -> None:
        if self.way not in get_args(Way):
            raise ValueError(f"way must be one of {', '.join(get_args(Way))}, got {self.way!r}")
        if self.way == "denoising" and self.noise != "run":
            raise ValueError(f"denoising puts the clean run back: noise must be 'run', got {self.noise!r}")

    def put_in(self, model: Any, documents: Sequence[Pair]) -> list[Noise | MeanHeads]:
        """What replaces a head in each document. Raises ValueError for a mean without other documents."""
        if self.noise == "mean":
            return list(mean_ablation.mean_heads(model, [clean for clean, _ in documents]))
        return [self.noise] * len(documents)


@dataclass(frozen=True, eq=False)
class _Patching:
    """What all documents of `effects` or `generated` share; passed to the processes that patch them.

    model: whose heads are patched.
    masks: the heads of each run that are patched.
    how: they are patched.
    names: of the readouts.
    rows: runs of a batch at most.
    tokenizer: of the model, where it writes.
    max_tokens: that it writes at most.
    """

    model: Any
    masks: list[Bool[Tensor, "layers h"]]
    how: Intervention
    names: tuple[str, ...] = READOUTS
    rows: int = 0
    tokenizer: PreTrainedTokenizerBase | None = None
    max_tokens: int = 0

    def seconds(self, spans: Sequence[Span]) -> float:
        """About how long a document takes, from the queries that are read, or written, in each run."""
        n_tokens = fmean(end - start for start, end in spans)
        return hardware.seconds_to_read(self.model, round(n_tokens * (len(self.masks) + 2)))

    def workers(self) -> int:
        """1 where the model lies on an accelerator, which several processes would only share; else 0."""
        return int(hardware.on_accelerator(self.model))


def effects(
    model: Any,
    documents: Sequence[Pair],
    selected: Mapping[tuple[str, int], Sequence[Head]],
    how: Intervention = Intervention(),
    names: Sequence[str] = READOUTS,
    rows: int = 0,
    desc: str | None = "",
) -> Effects:
    """The readouts of each document's clean and corrupted run, and of one run for each selection of heads.

    documents: clean and corrupted trace of each (see `corruptions.pairs`).
    selected: heads to patch together, by kind and number.
    how: they are patched.
    names: of the readouts.
    rows: runs of a batch at most; 0 for as many as make 4,096 tokens.
    desc: label of the progress bar; None for none.
    Raises ValueError for no documents, traces of unequal length, or what `attention_patches.patch` refuses.
    """
    _check(documents)
    shared = _Patching(model, [_mask(model, heads) for heads in selected.values()], how, tuple(names), rows)
    pieces = list(zip(documents, how.put_in(model, documents), strict=True))
    seconds = shared.seconds([phase_queries(clean, how.phase) for clean, _ in documents])
    with progress.bar(desc is not None, total=len(documents), desc=desc or how.way, unit=" documents") as bar:
        runs = list(workers.run(_runs, pieces, shared, workers=shared.workers(), seconds=seconds, bar=bar))
    values = {name: np.array([[run[name] for run in by_document] for by_document in runs]) for name in names}
    return Effects(how.way, tuple(selected), values)


def phase_effects(
    model: Any,
    documents: Sequence[Pair],
    selected: Mapping[tuple[str, int], Sequence[Head]],
    how: Intervention = Intervention(),
    limited: bool = True,
) -> Effects:
    """As `effects`, each phase's heads patched at the queries of that phase alone.

    selected: heads of both phases, their kinds named as by `head_bins.selections`.
    limited: False to patch all of them at all queries of the trace.
    """
    if not limited:
        return effects(model, documents, selected, how)
    parts = {phase: head_bins.of_phase(selected, phase) for phase in Phase}
    return joined(
        [
            effects(model, documents, heads, replace(how, phase=phase), desc=f"{how.way}, {phase}")
            for phase, heads in parts.items()
        ]
    )


def generated(
    model: Any,
    documents: Sequence[Pair],
    selected: Mapping[tuple[str, int], Sequence[Head]],
    tokenizer: PreTrainedTokenizerBase,
    how: Intervention = Intervention(),
    max_tokens: int = 256,
    rows: int = 24,
    desc: str = "",
) -> list[list[str]]:
    """The CoT of each document in each run of `effects`, written from the prompt on, greedily, under the intervention.

    All runs of a batch are written side by side; a run that ends before the others is cut there.

    documents, selected, desc, errors: as in `effects`.
    tokenizer: of the model.
    how: heads are patched. The queries of a phase are where the document's own CoT has them.
    max_tokens: of a CoT at most; it never grows longer than the document's own.
    rows: runs of a batch at most.
    """
    _check(documents)
    masks = [_mask(model, heads) for heads in selected.values()]
    shared = _Patching(model, masks, how, rows=rows, tokenizer=tokenizer, max_tokens=max_tokens)
    pieces = list(zip(documents, how.put_in(model, documents), strict=True))
    seconds = shared.seconds([Span(0, clean.cot.end) for clean, _ in documents])
    with tqdm(total=len(documents), desc=desc or f"{how.way}, written", unit=" documents") as bar:
        return list(workers.run(_texts, pieces, shared, workers=shared.workers(), seconds=seconds, bar=bar))


def phase_generated(
    model: Any,
    documents: Sequence[Pair],
    selected: Mapping[tuple[str, int], Sequence[Head]],
    tokenizer: PreTrainedTokenizerBase,
    how: Intervention = Intervention(),
    limited: bool = True,
    max_tokens: int = 256,
) -> list[list[str]]:
    """As `generated`, each phase's heads patched at the queries of that phase alone; the runs in the order of selected.

    selected, limited: as in `phase_effects`.
    """
    if not limited:
        return generated(model, documents, selected, tokenizer, how, max_tokens)
    by_key: list[dict[tuple[str, int], str]] = [{} for _ in documents]
    unpatched: list[list[str]] = []
    for phase in Phase:
        heads = head_bins.of_phase(selected, phase)
        desc = f"{how.way}, {phase}, written"
        texts = generated(model, documents, heads, tokenizer, replace(how, phase=phase), max_tokens, desc=desc)
        unpatched = [runs[:2] for runs in texts]
        for written, runs in zip(by_key, texts, strict=True):
            written |= zip(heads, runs[2:], strict=True)
    return [[*runs, *(written[key] for key in selected)] for runs, written in zip(unpatched, by_key, strict=True)]


def _check(documents: Sequence[Pair]) -> None:
    if not documents:
        raise NotTestable("there is nothing to patch: no document was given")
    for clean, corrupted in documents:
        if len(clean.ids) != len(corrupted.ids):
            raise ValueError(
                f"clean and corrupted run of {clean.uid!r} must be equally long, got {len(clean.ids)} and "
                f"{len(corrupted.ids)} tokens"
            )


class _Prefix(NamedTuple):
    """What clean and corrupted run read before the first patched query: tokens, logits where asked, and the cache."""

    start: int
    logits: Float[Tensor, "2 n v"]
    cache: Any


@torch.no_grad()
def _runs(shared: _Patching, piece: tuple[Pair, Noise | MeanHeads]) -> list[dict[str, float]]:
    """The readouts of every run of a document."""
    (clean, corrupted), noise = piece
    return _Document(shared.model, clean, corrupted, shared.how, noise, shared.names).run(shared.masks, shared.rows)


@torch.no_grad()
def _texts(shared: _Patching, piece: tuple[Pair, Noise | MeanHeads]) -> list[str]:
    """The CoT that is written in every run of a document."""
    (clean, corrupted), noise = piece
    model, tokenizer, how = shared.model, shared.tokenizer, shared.how
    assert tokenizer
    start, texts = clean.cot.start + 1, list[str]()
    longest = min(shared.max_tokens, clean.cot.end - clean.cot.start)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = GenerationConfig(max_new_tokens=longest, do_sample=False, **ends)
    for first in range(0, len(shared.masks), shared.rows - 2):
        masks = shared.masks[first : first + shared.rows - 2]
        ids, heads, sources = _side_by_side(model, clean, corrupted, masks, how.way)
        queries = _queries(clean, how.phase, len(ids))
        with attention_patches.patch(model, heads, sources, how.what, noise, queries=queries):
            tokens = model.generate(ids[:, :start], generation_config=config)[:, start:]
        batch = [text.partition(CLOSE)[0] for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]
        texts += batch if not texts else batch[2:]
    return texts


@dataclass(frozen=True, eq=False)
class _Document:
    """The runs of one document."""

    model: Any
    clean: AnnotatedTrace
    corrupted: AnnotatedTrace
    how: Intervention
    noise: Noise | MeanHeads
    names: tuple[str, ...]

    def run(self, masks: Sequence[Tensor], rows: int) -> list[dict[str, float]]:
        """The readouts of clean run, corrupted run and one for each mask."""
        start, places = phase_queries(self.clean, self.how.phase).start, queries_read(self.clean, self.names)
        end = max([start, *(place + 1 for place in places)])
        rows = rows or max(8, PASS_TOKENS // max(end - start, 1))
        prefix = self._prefix(start, [place for place in places if place < start])
        runs: list[dict[str, float]] = []
        for first in range(0, len(masks), rows - 2):
            batch = self._batch(masks[first : first + rows - 2], prefix, [place for place in places if place >= start])
            runs += batch if not runs else batch[2:]
        return runs

    def _prefix(self, start: int, places: list[int]) -> _Prefix:
        """Clean and corrupted run before the first query that is patched."""
        ids = torch.tensor([self.clean.ids[:start], self.corrupted.ids[:start]], device=self.model.device)
        read = self.model(input_ids=ids, use_cache=True, logits_to_keep=_places(places, self.model))
        return _Prefix(start, read.logits, read.past_key_values)

    def _batch(self, masks: Sequence[Tensor], prefix: _Prefix, places: list[int]) -> list[dict[str, float]]:
        """The readouts of clean run, corrupted run and some of the patched ones."""
        ids, heads, sources = _side_by_side(self.model, self.clean, self.corrupted, masks, self.how.way)
        origin = torch.tensor([0, 1, *[self.how.way == "denoising"] * len(masks)], device=ids.device).long()
        logits = prefix.logits[origin]
        if places:
            cache = deepcopy(prefix.cache)
            cache.batch_select_indices(origin)
            queries = _queries(self.clean, self.how.phase, len(ids))
            at = _places([place - prefix.start for place in places], self.model)
            with attention_patches.patch(self.model, heads, sources, self.how.what, self.noise, queries=queries):
                seen = ids[:, prefix.start : places[-1] + 1]
                read = self.model(input_ids=seen, past_key_values=cache, logits_to_keep=at)
            logits = torch.cat([logits, read.logits], 1)
        return [{name: value.item() for name, value in read_out(run, self.clean, self.names).items()} for run in logits]


def _places(places: Sequence[int], model: Any) -> Int[Tensor, " n"]:
    return torch.tensor(places, dtype=torch.long, device=model.device)


def _side_by_side(
    model: Any, clean: AnnotatedTrace, corrupted: AnnotatedTrace, masks: Sequence[Tensor], way: Way
) -> tuple[Int[Tensor, "b s"], Bool[Tensor, "b layers h"], list[int]]:
    """Clean run, corrupted run and one for each mask as a batch: tokens, patched heads, and the row they come from."""
    into, source = (clean, 1) if way == "noising" else (corrupted, 0)
    ids = torch.tensor([clean.ids, corrupted.ids, *[into.ids] * len(masks)], device=model.device)
    none = torch.zeros_like(masks[0])
    return ids, torch.stack([none, none, *masks]), [0, 1, *[source] * len(masks)]


def _mask(model: Any, heads: Sequence[Head]) -> Bool[Tensor, "layers h"]:
    shape = architecture.shape(model)
    mask = torch.zeros(shape.layers, shape.heads, dtype=torch.bool)
    for layer, head in attention.check(model, heads):
        mask[layer, head] = True
    return mask


def _queries(trace: AnnotatedTrace, phase: Phase | None, rows: int) -> Bool[Tensor, "b s"]:
    """Which queries are patched."""
    patched = torch.zeros(rows, len(trace.ids), dtype=torch.bool)
    patched[:, slice(*phase_queries(trace, phase))] = True
    return patched
