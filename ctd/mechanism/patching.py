"""Is a head necessary, is it sufficient? Attention patterns and head outputs, exchanged between two runs.

Notes: the trace is the same in the clean and the corrupted run, teacher-forced; their documents differ
(`ctd.mechanism.trials`). Noising puts the corrupted run's patterns into the clean run: what is lost without these
heads? Denoising puts the clean run's patterns into the corrupted one: what do they restore? Heads are patched while the
trace is read or written, not while the document is: their scores are of the trace's queries too (our definition). All
runs of a document stand side by side in one batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformers import GenerationConfig, PreTrainedTokenizerBase

from ctd import hardware, workers
from ctd.mechanism import attention, attention_patches
from ctd.mechanism.attention import Head
from ctd.mechanism.attention_patches import Noise, What
from ctd.mechanism.patch_effects import Effects, Way
from ctd.mechanism.readouts import ANCHOR, MARGIN, queries_read, read_out
from ctd.reasoning import architecture
from ctd.reasoning.annotate import AnnotatedTrace
from ctd.reasoning.traces import CLOSE


@dataclass(frozen=True, eq=False)
class _Patching:
    """What all documents of `effects` or `generated` share; passed to the processes that patch them.

    model: whose heads are patched.
    masks: the heads of each run that are patched.
    way: noising or denoising.
    what: is exchanged.
    noise: what is put in.
    rows: runs of a batch at most.
    tokenizer: of the model, where it writes.
    max_tokens: that it writes at most.
    """

    model: Any
    masks: list[Bool[Tensor, "layers h"]]
    way: Way
    what: What = "pattern"
    noise: Noise = "run"
    rows: int = 24
    tokenizer: PreTrainedTokenizerBase | None = None
    max_tokens: int = 0

    def parts(self) -> Iterator[list[Bool[Tensor, "layers h"]]]:
        """The masks of each batch, which also has the clean and the corrupted run."""
        for start in range(0, len(self.masks), self.rows - 2):
            yield self.masks[start : start + self.rows - 2]

    def seconds(self, n_tokens: float) -> float:
        """About how long a document takes of which so many tokens are read, or written, in each run."""
        return hardware.seconds_to_read(self.model, round(n_tokens * (len(self.masks) + 2)))


def effects(
    model: Any,
    documents: Sequence[tuple[AnnotatedTrace, AnnotatedTrace]],
    selected: Mapping[tuple[str, int], Sequence[Head]],
    way: Way = "noising",
    what: What = "pattern",
    noise: Noise = "run",
    rows: int = 24,
    desc: str = "",
) -> Effects:
    """The readouts of each document's clean and corrupted run, and of one run for each selection of heads.

    documents: clean and corrupted trace of each (see `trials.pairs`).
    selected: heads to patch together, by kind and number.
    way: noising or denoising.
    what: is exchanged, a head's "pattern" or its "output".
    noise: what is put in (see `attention.patch`); for denoising only "run".
    rows: runs of a batch at most.
    desc: label of the progress bar.
    Raises ValueError for an unknown way, noise with denoising, no documents, or traces of unequal length.
    """
    _check(documents, way, noise)
    shared = _Patching(model, [_mask(model, heads) for heads in selected.values()], way, what, noise, rows)
    seconds = shared.seconds(fmean(len(clean.ids) - clean.cot.start for clean, _ in documents))
    with tqdm(total=len(documents), desc=desc or way, unit=" documents") as bar:
        runs = list(workers.run(_runs, documents, shared, workers=_alone(model), seconds=seconds, bar=bar))
    values = {readout: [[run[readout] for run in of_document] for of_document in runs] for readout in (ANCHOR, MARGIN)}
    return Effects(way, tuple(selected), {readout: np.array(by_document) for readout, by_document in values.items()})


def generated(
    model: Any,
    documents: Sequence[tuple[AnnotatedTrace, AnnotatedTrace]],
    selected: Mapping[tuple[str, int], Sequence[Head]],
    tokenizer: PreTrainedTokenizerBase,
    way: Way = "noising",
    max_tokens: int = 256,
    rows: int = 24,
    desc: str = "",
) -> list[list[str]]:
    """The CoT of each document in each run of `effects`, written from the prompt on, greedily, under the intervention.

    All runs of a batch are written side by side; a run that ends before the others is cut there.

    documents, selected, way, rows, desc, errors: as in `effects`.
    tokenizer: of the model.
    max_tokens: of a CoT at most; it never grows longer than the document's own.
    """
    _check(documents, way)
    masks = [_mask(model, heads) for heads in selected.values()]
    shared = _Patching(model, masks, way, rows=rows, tokenizer=tokenizer, max_tokens=max_tokens)
    seconds = shared.seconds(fmean(clean.cot.end for clean, _ in documents))
    with tqdm(total=len(documents), desc=desc or f"{way}, written", unit=" documents") as bar:
        return list(workers.run(_texts, documents, shared, workers=_alone(model), seconds=seconds, bar=bar))


def _alone(model: Any) -> int:
    """1 where the model lies on an accelerator, which several processes would only share; else 0."""
    return int(hardware.on_accelerator(model))


@torch.no_grad()
def _runs(shared: _Patching, document: tuple[AnnotatedTrace, AnnotatedTrace]) -> list[dict[str, float]]:
    """The readouts of every run of a document."""
    runs: list[dict[str, float]] = []
    for masks in shared.parts():
        batch = _run(shared.model, *document, masks, shared.way, shared.what, shared.noise)
        runs += batch if not runs else batch[2:]
    return runs


@torch.no_grad()
def _texts(shared: _Patching, document: tuple[AnnotatedTrace, AnnotatedTrace]) -> list[str]:
    """The CoT that is written in every run of a document."""
    (clean, corrupted), model, tokenizer = document, shared.model, shared.tokenizer
    assert tokenizer
    start, texts = clean.cot.start + 1, list[str]()
    longest = min(shared.max_tokens, clean.cot.end - clean.cot.start)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = GenerationConfig(max_new_tokens=longest, do_sample=False, **ends)
    for masks in shared.parts():
        ids, heads, sources = _side_by_side(model, clean, corrupted, masks, shared.way)
        queries = torch.zeros(len(ids), start, dtype=torch.bool)
        queries[:, start - 1 :] = True
        with attention_patches.patch(model, heads, sources, queries=queries):
            tokens = model.generate(ids[:, :start], generation_config=config)[:, start:]
        batch = [text.partition(CLOSE)[0] for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]
        texts += batch if not texts else batch[2:]
    return texts


def _check(documents: Sequence[tuple[AnnotatedTrace, AnnotatedTrace]], way: Way, noise: Noise = "run") -> None:
    if way not in get_args(Way):
        raise ValueError(f"way must be one of {', '.join(get_args(Way))}, got {way!r}")
    if way == "denoising" and noise != "run":
        raise ValueError(f"denoising puts the clean run back: noise must be 'run', got {noise!r}")
    if not documents:
        raise ValueError("there is nothing to patch: no document was given")
    for clean, corrupted in documents:
        if len(clean.ids) != len(corrupted.ids):
            raise ValueError(
                f"clean and corrupted run of {clean.uid!r} must be equally long, got {len(clean.ids)} and "
                f"{len(corrupted.ids)} tokens"
            )


def _run(
    model: Any,
    clean: AnnotatedTrace,
    corrupted: AnnotatedTrace,
    masks: Sequence[Tensor],
    way: Way,
    what: What,
    noise: Noise,
) -> list[dict[str, float]]:
    """The readouts of clean run, corrupted run and one for each mask; what comes before the trace is read once."""
    ids, heads, sources = _side_by_side(model, clean, corrupted, masks, way)
    start = clean.cot.start
    before = model.get_decoder()(input_ids=ids[:2, :start], use_cache=True).past_key_values
    before.batch_select_indices(torch.tensor([0, 1, *[way == "denoising"] * len(masks)], device=model.device).long())
    queries = torch.tensor(queries_read(clean), device=model.device) - start
    with attention_patches.patch(model, heads, sources, what, noise):
        logits = model(input_ids=ids[:, start:], past_key_values=before, logits_to_keep=queries).logits
    return [{name: value.item() for name, value in read_out(run, clean).items()} for run in logits]


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
