"""Is a head necessary, is it sufficient? Attention patterns and head outputs, exchanged between two runs.

Notes: the corrupted run's document has its anchors' words replaced by another document's, token for token; the trace is
the same, teacher-forced. Noising puts the corrupted run's patterns into the clean run (what is lost without these
heads?), denoising the clean run's into the corrupted one (what do they restore?). Heads come in cumulative bins, the
highest ranked first, beside random heads and the lowest ranked, as many. The bins are the paper's (arXiv:2606.06840);
the corruption and the readouts are our definition. All runs of a document stand side by side in one batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, cycle, islice
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm.auto import tqdm

from ctd import attention, stats
from ctd.attention import Head, Noise, What
from ctd.passages import Passage

Way = Literal["noising", "denoising"]
BINS = (3, 8, 16, 40, 100)  # heads, of the paper's 5,120 (80 layers of 64)
RANDOM, LOWEST = "random", "lowest"
ANCHOR, MARGIN = "anchor", "margin"  # the readouts of Phase 1 and Phase 2


def corrupt(passage: Passage, other: Passage) -> Passage:
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


def pairs(passages: Sequence[Passage], seed: int = 0) -> tuple[list[tuple[Passage, Passage]], int]:
    """Clean and corrupted passage of each document, and how many were left out: those that never mention their anchor.

    Raises ValueError where fewer than two do.
    """
    told = [one for one in passages if one.anchor_mentions]
    if len(told) < 2:
        raise ValueError(f"corruption takes words from other documents, got {len(told)} that mention their anchor")
    order = np.random.default_rng(seed).permutation(len(told))
    others = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    return [(one, corrupt(one, told[others[row]])) for row, one in enumerate(told)], len(passages) - len(told)


def bins(n_heads: int, published: Sequence[int] = BINS, of: int = 5120) -> list[int]:
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
    ranking: Sequence[Head], sizes: Sequence[int], n_random: int = 5, seed: int = 0
) -> dict[tuple[str, int], list[Head]]:
    """Which heads are patched, by kind and size: "top", "lowest", and "random 1" ... of the heads.

    Each kind's selections are cumulative. Raises ValueError for a size that the ranking does not fill.
    """
    if not all(1 <= size <= len(ranking) for size in sizes):
        raise ValueError(f"bins must be between 1 and {len(ranking)} heads, got {list(sizes)}")
    rng = np.random.default_rng(seed)
    orders = {"top": list(ranking), LOWEST: list(ranking)[::-1]}
    orders |= {f"{RANDOM} {n + 1}": [ranking[row] for row in rng.permutation(len(ranking))] for n in range(n_random)}
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
        """A readout of the clean, the corrupted and the patched run of each document.

        A key of kind "random" stands for the mean of all its draws. Raises ValueError for another key.
        """
        patched = [2 + n for n, (kind, size) in enumerate(self.keys) if size == key[1] and kind.startswith(key[0])]
        if not patched:
            raise ValueError(f"key must be one of {sorted(set(self.keys))}, got {key}")
        values = self.values[readout]
        return values[:, 0], values[:, 1], values[:, patched].mean(1)

    def fraction(self, readout: str, key: tuple[str, int], draws: int = 1000, seed: int = 0) -> stats.Interval:
        """How much of clean - corrupted is lost (noising) or restored (denoising), mean over mean, with interval.

        key, errors: as in `runs`.
        """
        clean, corrupted, patched = self.runs(readout, key)
        moved = clean - patched if self.way == "noising" else patched - corrupted
        told = ~np.isnan(moved)
        return stats.bootstrap_ratio(moved[told], (clean - corrupted)[told], draws, seed=seed)

    def table(self, seed: int = 0) -> pd.DataFrame:
        """A row a readout, kind and size: columns readout, heads, size, value, low, high."""
        kinds = dict.fromkeys((RANDOM if kind.startswith(RANDOM) else kind, size) for kind, size in self.keys)
        rows = [
            (readout, *key, *self.fraction(readout, key, seed=seed).scalar) for readout in self.values for key in kinds
        ]
        return pd.DataFrame(rows, columns=["readout", "heads", "size", "value", "low", "high"])


@torch.no_grad()
def effects(
    model: Any,
    documents: Sequence[tuple[Passage, Passage]],
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


def asked(passage: Passage) -> list[int]:
    """The queries that the readouts need, in order."""
    decided = chain.from_iterable(pair.decided for pair in passage.comparisons)
    return sorted({*range(*passage.topics), *decided})


def readouts(logits: Float[Tensor, "n v"], passage: Passage) -> dict[str, float]:
    """What one run says, from its logits at the queries of `asked`; NaN where the passage has no such place.

    anchor: mean log-probability of the tokens of its line of topics (nats). margin: mean, over the places where
    comparisons and answer name a gold label, of its logit less the near miss's, in their first distinguishing token.
    """
    place = {query: row for row, query in enumerate(asked(passage))}
    told = {ANCHOR: float("nan"), MARGIN: float("nan")}
    if topics := [*range(*passage.topics)]:
        wanted = torch.tensor([passage.ids[query + 1] for query in topics], device=logits.device)
        rows = logits[[place[query] for query in topics]].float().log_softmax(-1)
        told[ANCHOR] = rows.gather(1, wanted[:, None]).mean().item()
    margins = [
        (logits[place[query], pair.gold_token] - logits[place[query], pair.near_token]).item()
        for pair in passage.comparisons
        for query in pair.decided
    ]
    if margins:
        told[MARGIN] = float(np.mean(margins))
    return told


def _run(
    model: Any, clean: Passage, corrupted: Passage, masks: Sequence[Tensor], way: Way, what: What, noise: Noise
) -> list[dict[str, float]]:
    into, source = (clean, 1) if way == "noising" else (corrupted, 0)
    ids = torch.tensor([clean.ids, corrupted.ids, *[into.ids] * len(masks)], device=model.device)
    heads = torch.stack([torch.zeros_like(masks[0]), torch.zeros_like(masks[0]), *masks])
    kept = torch.tensor(asked(clean), device=model.device)
    with attention.patch(model, heads, [0, 1, *[source] * len(masks)], what, noise):
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits
    return [readouts(of, clean) for of in logits]


def _mask(model: Any, heads: Sequence[Head]) -> Bool[Tensor, "layers h"]:
    found = attention.shape(model)
    mask = torch.zeros(found.layers, found.heads, dtype=torch.bool)
    for layer, head in attention.check(model, heads):
        mask[layer, head] = True
    return mask


def dissociation(
    parts: Mapping[str, Effects], key: tuple[str, int], control: str = RANDOM, seed: int = 0
) -> pd.DataFrame:
    """The double dissociation: how much each readout loses when each phase's heads are noised, less the control's.

    parts: effects of noising by phase. key: which of them, such as ("top", 3). A row a phase and readout: columns
    noised, readout, value, low, high (paired bootstrap over documents).
    """
    rows = []
    for phase, of in parts.items():
        for readout in of.values:
            clean, corrupted, patched = of.runs(readout, key)
            beyond = of.runs(readout, (control, key[1]))[2] - patched
            told = ~np.isnan(beyond)
            share = stats.bootstrap_ratio(beyond[told], (clean - corrupted)[told], seed=seed)
            rows.append((phase, readout, *share.scalar))
    return pd.DataFrame(rows, columns=["noised", "readout", "value", "low", "high"])
