"""Is a head necessary, is it sufficient? Attention patterns and head outputs, exchanged between two runs.

Notes: the corrupted run's document has its anchors' words replaced by another document's, token for token; the trace is
the same, teacher-forced. Noising puts the corrupted run's patterns into the clean run (what is lost without these
heads?), denoising the clean run's into the corrupted one (what do they restore?). Heads are patched while the trace is
read or written, not while the document is (its own head scores are of the trace's queries too). They come in cumulative
bins, the highest ranked first, beside random heads and the lowest ranked, as many. The bins are the paper's
(arXiv:2606.06840); the corruption, the patched queries and the readouts are our definition. All runs of a document
stand side by side in one batch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, cycle, islice
from operator import itemgetter
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformers import GenerationConfig, PreTrainedTokenizerBase

from ctd import stats
from ctd.cache import DATA
from ctd.mechanism import attention, heads
from ctd.mechanism.attention import Head, Noise, What
from ctd.mechanism.head_scores import HeadScores
from ctd.mechanism.heads import Direction
from ctd.mechanism.phases import Phase
from ctd.mechanism.scores import PAPER
from ctd.reasoning import architecture
from ctd.reasoning.annotate import AnnotatedTrace
from ctd.reasoning.traces import CLOSE

Way = Literal["noising", "denoising"]
BINS, OF = (3, 8, 16, 40, 100), 5120  # heads, of the paper's model (80 layers of 64)
PANELS = (
    ("focus", Phase.SHORTLIST, "noising", "phase1_noising_focus_percent", 100),
    ("confusion", Phase.REFINE, "denoising", "phase2_denoising_confusion", 1),
    ("confusion", Phase.REFINE, "noising", "phase2_noising_confusion", 1),
)
"""What the paper shows of text written under an intervention, and its name and unit in `data/published.json`."""
TOP, LOWEST, RANDOM = "top", "lowest", "random"
ANCHOR, MARGIN = "anchor", "margin"  # the readouts of Phase 1 and Phase 2


def corrupt(passage: AnnotatedTrace, other: AnnotatedTrace) -> AnnotatedTrace:
    """The passage with its document's anchor words replaced by the other's, token for token (our definition).

    Raises ValueError where either document never mentions its anchor.
    """
    for one in (passage, other):
        if not one.anchor_mentions:
            raise ValueError(f"document {one.uid!r} never mentions its anchor: there is nothing to corrupt")
    foreign = cycle(list(chain.from_iterable(other.ids[start:end] for start, end in other.anchor_mentions)))
    ids = list(passage.ids)
    for start, end in passage.anchor_mentions:
        ids[start:end] = islice(foreign, end - start)
    return replace(passage, ids=tuple(ids))


def pairs(passages: Sequence[AnnotatedTrace], seed: int = 0) -> tuple[list[tuple[AnnotatedTrace, AnnotatedTrace]], int]:
    """Clean and corrupted passage of each document, and how many were left out: those that never mention their anchor.

    Raises ValueError where fewer than two do.
    """
    told = [one for one in passages if one.anchor_mentions]
    if len(told) < 2:
        raise ValueError(f"corruption takes words from other documents, got {len(told)} that mention their anchor")
    order = np.random.default_rng(seed).permutation(len(told))
    others = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    return [(one, corrupt(one, told[others[row]])) for row, one in enumerate(told)], len(passages) - len(told)


@dataclass(frozen=True, eq=False)
class Trial:
    """Heads ranked on some documents, and others to patch them on.

    rankings: of all heads, by phase, the highest first. pairs: clean and corrupted passage of each document patched.
    left_out: how many documents were not, by the reason.
    """

    scored: HeadScores
    rankings: dict[Phase, list[Head]]
    pairs: list[tuple[AnnotatedTrace, AnnotatedTrace]]
    left_out: dict[str, int]


def trial(
    model: Any,
    made: Sequence[AnnotatedTrace],
    n_scored: int,
    n_patched: int,
    direction: Direction = "unembedding",
    seed: int = 0,
) -> Trial:
    """Heads ranked by the paper's scores on the first n_scored passages, and n_patched of the others at most.

    Patched are those that mention their anchor and compare a label that is kept. direction: of CoarseScore (see
    `heads.score`). Raises what `heads.score`, `HeadScores.ranking` and `pairs` raise.
    """
    ranked_on = [one for one in made[:n_scored] if one.anchor_mentions or direction == "unembedding"]
    patched_on = [one for one in made[n_scored:] if any(pair.decided for pair in one.comparisons)]
    scored = heads.score(model, ranked_on, direction)
    rankings = {phase: scored.ranking(name) for phase, name in PAPER.items()}
    found, silent = pairs(patched_on, seed)
    left_out = {"anchor never mentioned": silent, "no comparison": len(made[n_scored:]) - len(patched_on)}
    return Trial(scored, rankings, found[:n_patched], left_out)


def bins(n_heads: int, published: Sequence[int] = BINS, of: int = OF) -> list[int]:
    """The paper's bins as the same fractions of n heads; of a model too small for that, from 1 head to a third.

    of: heads of the paper's model. The sizes of a small model are even on a log scale, each larger than the one before
    (our definition). Raises ValueError for fewer than twice as many heads as bins.
    """
    if n_heads < 2 * len(published):
        raise ValueError(f"{len(published)} bins need at least {2 * len(published)} heads, got {n_heads}")
    scaled = [round(size * n_heads / of) for size in published]
    if scaled[0] < 1 or len(set(scaled)) < len(scaled):
        scaled = np.geomspace(1, n_heads / 3, len(published)).round().astype(int).tolist()
    for place in range(1, len(scaled)):
        scaled[place] = max(scaled[place], scaled[place - 1] + 1)
    return scaled


def selections(
    rankings: Mapping[Phase, Sequence[Head]], sizes: Sequence[int], n_random: int = 5, seed: int = 0
) -> dict[tuple[str, int], list[Head]]:
    """Which heads are patched, by kind and size: "P, top" and "P, lowest" of each phase P, "random 1", "random 2" ...

    rankings: of all heads, by phase. Each kind's selections are cumulative. Raises ValueError for a size that a ranking
    does not fill.
    """
    orders: dict[str, list[Head]] = {}
    for phase, ranking in rankings.items():
        if not all(1 <= size <= len(ranking) for size in sizes):
            raise ValueError(f"bins must be between 1 and {len(ranking)} heads, got {list(sizes)}")
        orders |= {f"{phase}, {TOP}": list(ranking), f"{phase}, {LOWEST}": list(ranking)[::-1]}
    rng, every = np.random.default_rng(seed), sorted(next(iter(rankings.values())))
    orders |= {f"{RANDOM} {n + 1}": [every[row] for row in rng.permutation(len(every))] for n in range(n_random)}
    return {(kind, size): order[:size] for kind, order in orders.items() for size in sizes}


@dataclass(frozen=True, eq=False)
class Effects:
    """Readouts of every run of every document: `values[readout]` is [documents, runs]; NaN where one is not defined.

    The first two runs are the clean and the corrupted one, the others those of `keys`. way: noising or denoising.
    """

    way: Way
    keys: tuple[tuple[str, int], ...]
    values: dict[str, Float[np.ndarray, "n runs"]]

    def runs(self, readout: str, key: tuple[str, int]) -> tuple[Float[np.ndarray, " n"], ...]:
        """A readout of the clean, the corrupted and the patched run of each document that has one.

        A key of kind "random" stands for the mean of all its draws. Raises ValueError for another key.
        """
        patched = [2 + n for n, (kind, size) in enumerate(self.keys) if size == key[1] and kind.startswith(key[0])]
        if not patched:
            raise ValueError(f"key must be one of {sorted(set(self.keys))}, got {key}")
        values = self.values[readout]
        values = values[~np.isnan(values).any(1)]
        return values[:, 0], values[:, 1], values[:, patched].mean(1)

    def moved(self, readout: str, key: tuple[str, int]) -> Float[np.ndarray, " n"]:
        """What a patch takes from the clean run (noising) or gives to the corrupted one (denoising), a document.

        key, errors: as in `runs`.
        """
        clean, corrupted, patched = self.runs(readout, key)
        return clean - patched if self.way == "noising" else patched - corrupted

    def between(self, readout: str, seed: int = 0) -> stats.Interval:
        """What the corruption takes: mean of clean - corrupted, with its interval."""
        clean, corrupted, _ = self.runs(readout, self.keys[0])
        return stats.bootstrap_mean(clean - corrupted, seed=seed)

    def fraction(self, readout: str, key: tuple[str, int], draws: int = 1000, seed: int = 0) -> stats.Interval:
        """How much of clean - corrupted is lost (noising) or restored (denoising), mean over mean, with interval.

        Says little where the corruption itself takes nothing (`between`). key, errors: as in `runs`.
        """
        clean, corrupted, _ = self.runs(readout, key)
        return stats.bootstrap_ratio(self.moved(readout, key), clean - corrupted, draws, seed=seed)

    def table(self, seed: int = 0) -> pd.DataFrame:
        """What each kind and size moves, mean over documents: columns readout, heads, size, value, low, high."""
        kinds = dict.fromkeys((RANDOM if kind.startswith(RANDOM) else kind, size) for kind, size in self.keys)
        rows = [
            (readout, *key, *stats.bootstrap_mean(self.moved(readout, key), seed=seed).scalar)
            for readout in self.values
            for key in kinds
        ]
        return pd.DataFrame(rows, columns=["readout", "heads", "size", "value", "low", "high"])


@torch.no_grad()
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

    documents: clean and corrupted passage of each, as `pairs` makes them; the trace is the same in both. noise: what is
    put in (see `attention.patch`); for denoising only "run". rows: runs of a batch at most.
    Raises ValueError for an unknown way, noise with denoising, no documents, or passages of unequal length.
    """
    _check(documents, way, noise)
    masks = [_mask(model, heads) for heads in selected.values()]
    values: dict[str, list[list[float]]] = {ANCHOR: [], MARGIN: []}
    with tqdm(total=len(documents), desc=desc or way, unit=" documents") as bar:
        for clean, corrupted in documents:
            told: list[dict[str, float]] = []
            for start in range(0, len(masks), rows - 2):
                part = _run(model, clean, corrupted, masks[start : start + rows - 2], way, what, noise)
                told += part if not told else part[2:]
            for readout, of in values.items():
                of.append([one[readout] for one in told])
            bar.update()
    return Effects(way, tuple(selected), {name: np.array(of) for name, of in values.items()})


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


def asked(passage: AnnotatedTrace) -> list[int]:
    """The queries that the readouts need, in order."""
    decided = chain.from_iterable(pair.decided for pair in passage.comparisons)
    return sorted({*range(*passage.topics), *decided})


def readouts(logits: Float[Tensor, "n v"], passage: AnnotatedTrace) -> dict[str, Float[Tensor, ""]]:
    """What one run says, from its logits at the queries of `asked`; NaN where the passage has no such place.

    anchor: mean log-probability of the tokens of its line of topics (nats). margin: mean, over the places where
    comparisons and answer name a gold label, of its logit less the near miss's, in their first distinguishing token.
    """
    place = {query: row for row, query in enumerate(asked(passage))}
    told = dict.fromkeys((ANCHOR, MARGIN), torch.tensor(torch.nan))
    if topics := [*range(*passage.topics)]:
        wanted = torch.tensor([passage.ids[query + 1] for query in topics], device=logits.device)
        rows = logits[[place[query] for query in topics]].float().log_softmax(-1)
        told[ANCHOR] = rows.gather(1, wanted[:, None]).mean()
    decided = [
        (place[query], pair.gold_token, pair.near_token) for pair in passage.comparisons for query in pair.decided
    ]
    if decided:
        at, gold, near = torch.tensor(decided, device=logits.device).T
        told[MARGIN] = (logits[at, gold] - logits[at, near]).float().mean()
    return told


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
    kept = torch.tensor(asked(clean), device=model.device) - start
    with attention.patch(model, heads, sources, what, noise):
        logits = model(input_ids=ids[:, start:], past_key_values=before, logits_to_keep=kept).logits
    return [{name: value.item() for name, value in readouts(of, clean).items()} for of in logits]


def _side_by_side(
    model: Any, clean: AnnotatedTrace, corrupted: AnnotatedTrace, masks: Sequence[Tensor], way: Way
) -> tuple[Int[Tensor, "b s"], Bool[Tensor, "b layers h"], list[int]]:
    """Clean run, corrupted run and one for each mask as a batch: tokens, patched heads, and the row they come from."""
    into, source = (clean, 1) if way == "noising" else (corrupted, 0)
    ids = torch.tensor([clean.ids, corrupted.ids, *[into.ids] * len(masks)], device=model.device)
    none = torch.zeros_like(masks[0])
    return ids, torch.stack([none, none, *masks]), [0, 1, *[source] * len(masks)]


@torch.no_grad()
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
    """The CoT written of each document in each run of `effects`, from the prompt on, greedily, under the intervention.

    All runs of a batch are written side by side; a run that ends before the others is cut there, and none grows longer
    than the document's own CoT or max_tokens. Errors: as in `effects`.
    """
    _check(documents, way)
    masks = [_mask(model, heads) for heads in selected.values()]
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    written: list[list[str]] = []
    for clean, corrupted in tqdm(documents, desc=desc or f"{way}, written", unit=" documents"):
        start, texts = clean.cot.start + 1, list[str]()
        longest = min(max_tokens, clean.cot.end - clean.cot.start)
        config = GenerationConfig(max_new_tokens=longest, do_sample=False, **ends)
        for first in range(0, len(masks), rows - 2):
            ids, heads, sources = _side_by_side(model, clean, corrupted, masks[first : first + rows - 2], way)
            queries = torch.zeros(len(ids), start, dtype=torch.bool)
            queries[:, start - 1 :] = True
            with attention.patch(model, heads, sources, queries=queries):
                said = model.generate(ids[:, :start], generation_config=config)[:, start:]
            part = [text.partition(CLOSE)[0] for text in tokenizer.batch_decode(said, skip_special_tokens=True)]
            texts += part if not texts else part[2:]
        written.append(texts)
    return written


def _mask(model: Any, heads: Sequence[Head]) -> Bool[Tensor, "layers h"]:
    found = architecture.shape(model)
    mask = torch.zeros(found.layers, found.heads, dtype=torch.bool)
    for layer, head in attention.check(model, heads):
        mask[layer, head] = True
    return mask


def dissociation(found: Effects, phases: Sequence[Phase], size: int, seed: int = 0) -> pd.DataFrame:
    """The double dissociation: what each readout loses by a phase's highest heads beyond what it loses by random ones.

    found: of noising, with `selections` of these phases. A row a phase and readout, in the readout's units: columns
    noised, readout, value, low, high (paired bootstrap over documents). Raises ValueError for a size that was not run.
    """
    rows = []
    for phase in phases:
        for readout in found.values:
            beyond = found.moved(readout, (f"{phase}, {TOP}", size)) - found.moved(readout, (RANDOM, size))
            rows.append((str(phase), readout, *stats.bootstrap_mean(beyond, seed=seed).scalar))
    return pd.DataFrame(rows, columns=["noised", "readout", "value", "low", "high"])


def written_table(said: Mapping[str, Effects], n_heads: int, seed: int = 0) -> pd.DataFrame:
    """Focus and Confusion of what was written, beside the published values (arXiv:2606.06840, authors' figure notes).

    said: by way, with the readouts of `trajectories.at_end` and `selections` of Phase 1 and Phase 2. n_heads: of the
    model. Columns panel, line, share (of all heads; 0 where none is patched), value, low, high (NaN where published).
    """
    notes, rows = json.loads((DATA / "published.json").read_text())["patching"], []
    for readout, phase, way, name, unit in PANELS:
        found, panel = said[way], f"{readout}, {phase}, {way}"
        for line, kind in (("heads of the phase", f"{phase}, {TOP}"), ("random heads", RANDOM)):
            keys = sorted((key for key in found.keys if key[0].startswith(kind)), key=itemgetter(1))
            start = found.runs(readout, keys[0])[0 if way == "noising" else 1]
            runs = [(0, start), *((key[1], found.runs(readout, key)[2]) for key in keys)]
            rows += [(panel, line, size / n_heads, *stats.bootstrap_mean(of, seed=seed).scalar) for size, of in runs]
        values = [notes[name].get("clean", notes[name].get("corrupted")), *notes[name]["patched"]]
        rows += [
            (panel, "published", size / OF, value / unit, np.nan, np.nan)
            for size, value in zip((0, *BINS), values, strict=True)
        ]
    return pd.DataFrame(rows, columns=["panel", "line", "share", "value", "low", "high"])
