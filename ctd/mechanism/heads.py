"""What each attention head does in each phase: the paper's two scores, each factor apart, and simpler ones.

Notes: CoarseScore and RefineScore are the paper's (arXiv:2606.06840); where it is silent the form is our definition.
A head's write is what it adds to the residual stream, W_O z. Everything is taken from one forward pass over document
and trace, teacher-forced; patterns are reduced layer by layer and never kept. n queries, h heads, c dimensions of a
head, d of the residual stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import kendalltau
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

from ctd import stats
from ctd.cache import atomic
from ctd.mechanism import attention
from ctd.mechanism.attention import Attended, Head
from ctd.mechanism.phases import Phase
from ctd.reasoning import architecture
from ctd.reasoning.annotate import AnnotatedTrace
from ctd.reasoning.generate import batches
from ctd.reasoning.traces import Span
from ctd.stats import Interval

Direction = Literal["unembedding", "mentions"]
Side = Literal["right", "left"]
STAGES = 5

COARSE, REFINE = "CoarseScore", "RefineScore"
KURTOSIS, WRITE_COSINE, ON_DOCUMENT = "kurtosis", "write cosine", "mass on the document"
PREFERENCE, GAIN, ON_GOLD = "preference", "gain", "mass on the gold label"
PHASES = {
    Phase.SHORTLIST: (COARSE, KURTOSIS, WRITE_COSINE, ON_DOCUMENT),
    Phase.REFINE: (REFINE, PREFERENCE, GAIN, ON_GOLD),
}
"""The scores of each phase: the paper's, its two factors, and the attention mass that it may be no better than."""


@dataclass(frozen=True, eq=False)
class HeadScores:
    """Scores of every head, one entry a document: `values[name]` is [documents, 1 + stages, layers, heads].

    Entry 0 of the second axis is the phase (Q_early for CoarseScore and its factors, comparisons for RefineScore and
    its), the others the CoT's stages, first to last; NaN where a document has no such query.
    """

    uids: tuple[str, ...]
    values: dict[str, Float[np.ndarray, "n stages layers heads"]]

    def mean(self, name: str, stage: int = 0, draws: int = 1000, seed: int = 0) -> Interval:
        """Mean over documents with its interval, [layers, heads]; documents without such queries are left out."""
        values = self.of(name)[:, stage]
        told = ~np.isnan(values)
        return stats.bootstrap_ratio(np.where(told, values, 0.0), told.astype(float), draws, seed=seed)

    def of(self, name: str) -> Float[np.ndarray, "n stages layers heads"]:
        """The raw values. Raises ValueError for an unknown score."""
        if name not in self.values:
            raise ValueError(f"score must be one of {', '.join(self.values)}, got {name!r}")
        return self.values[name]

    def ranking(self, name: str) -> list[Head]:
        """All heads, the highest mean score of the phase first. Raises ValueError where no document tells the score."""
        means = _means(self.of(name)[:, 0])
        if np.isnan(means).all():
            raise ValueError(
                f"none of the {len(self.uids)} documents tells {name}"
                + (": none weighs a label that is kept against one that is not" if name in PHASES[Phase.REFINE] else "")
            )
        order = np.argsort(-np.nan_to_num(means, nan=-np.inf).ravel(), kind="stable")
        return [Head(*divmod(int(place), means.shape[1])) for place in order]

    def top(self, name: str, k: int, seed: int = 0) -> pd.DataFrame:
        """The k highest heads in order: columns layer, head, value, low, high."""
        mean = self.mean(name, seed=seed)
        rows = [(*head, *mean[head].scalar) for head in self.ranking(name)[:k]]
        return pd.DataFrame(rows, columns=["layer", "head", "value", "low", "high"])

    def depth(self, name: str, k: int, draws: int = 1000, seed: int = 0) -> Interval:
        """Mean depth of the k highest heads, 0 the first layer and 1 the last; interval over documents, ranked anew."""
        n_layers, n_heads = self.of(name).shape[2:]
        depths = [
            (np.argsort(-of, kind="stable")[:k] // n_heads).mean() / max(n_layers - 1, 1)
            for of in self._resampled(name, draws, seed)
        ]
        return Interval(np.array(depths[0]), *(np.array(end) for end in np.quantile(depths[1:], [0.025, 0.975])))

    def course(self, name: str, groups: Mapping[str, Sequence[Head]], seed: int = 0) -> pd.DataFrame:
        """Each group of heads, their mean score in each stage of the CoT: columns heads, stage, value, low, high."""
        values, rows = self.of(name), []
        for group, heads in groups.items():
            layers, numbers = np.array(heads).T
            of = values[:, 1:, layers, numbers].mean(-1)
            told = ~np.isnan(of)
            mean = stats.bootstrap_ratio(np.where(told, of, 0.0), told.astype(float), seed=seed)
            rows += [(group, stage + 1, *mean[stage].scalar) for stage in range(of.shape[1])]
        return pd.DataFrame(rows, columns=["heads", "stage", "value", "low", "high"]).dropna()

    def stability(self, name: str, draws: int = 200, seed: int = 0) -> Interval:
        """Kendall's tau between the ranking of all documents and that of a bootstrap resample: median and 95 %."""
        whole, *drawn = self._resampled(name, draws, seed)
        taus = [kendalltau(whole, of).statistic for of in drawn]
        return Interval(*(np.array(end) for end in np.quantile(taus, [0.5, 0.025, 0.975])))

    def _resampled(self, name: str, draws: int, seed: int) -> Iterator[Float[np.ndarray, " heads"]]:
        """The phase's mean of every head over all documents that have one, then the sums over each resample of them."""
        values = self.of(name)[:, 0].reshape(len(self.uids), -1)
        values = values[~np.isnan(values).any(1)]
        yield values.mean(0)
        for chunk in stats.resample_weights(len(values), draws, np.random.default_rng(seed)):
            yield from chunk @ values

    def table(self) -> pd.DataFrame:
        """Every value in a row of document, stage (0 the phase), layer and head; a column a score."""
        shape = next(iter(self.values.values())).shape
        index = pd.MultiIndex.from_product(
            [self.uids, *(range(n) for n in shape[1:])], names=["document", "stage", "layer", "head"]
        )
        return pd.DataFrame({name: values.ravel() for name, values in self.values.items()}, index).reset_index()

    def save(self, path: Path) -> None:
        """Write the table as Parquet."""
        with atomic(path) as scratch:
            self.table().to_parquet(scratch, index=False)


@torch.no_grad()
def score(
    model: Any,
    passages: Sequence[AnnotatedTrace],
    direction: Direction = "unembedding",
    batch_tokens: int = 4096,
    padding: Side = "right",
    desc: str = "scoring heads",
) -> HeadScores:
    """Every head's scores on every passage, in the order given.

    CoarseScore: excess kurtosis of the attention row over the document, times the cosine of the write with the anchor
    direction, mean over queries. RefineScore: (cosine of the head's query with its mean key over mentions of the gold
    label, less that over the near miss's) times the write along the gradient of the margin, mean over queries.
    direction: the anchor's: "unembedding", mean row of its tokens; "mentions", mean residual stream, where the layer
    reads it, at the document's words for it. batch_tokens: of a batch when padded (or one passage alone).
    Raises ValueError without passages, for a passage longer than the model's context, one without mentions of its
    anchor where those give the direction, or a model without `o_proj`.
    """
    if direction not in get_args(Direction):
        raise ValueError(f"direction must be one of {', '.join(get_args(Direction))}, got {direction!r}")
    if not passages:
        raise ValueError("there is nothing to score heads on: no passage was given")
    context = architecture.context(model)
    for one in passages:
        if context and len(one.ids) > context:
            raise ValueError(
                f"document {one.uid!r} has {len(one.ids)} tokens with its trace, the model's context is {context}: "
                "leave it out"
            )
        if direction == "mentions" and not one.anchor_mentions:
            raise ValueError(f"document {one.uid!r} never mentions its anchor: leave it out, or use 'unembedding'")
    writes = _Writes(model)
    scored: dict[int, dict[str, np.ndarray]] = {}
    with tqdm(total=len(passages), desc=desc, unit=" documents") as bar:
        for rows in batches([len(one.ids) for one in passages], 0, batch_tokens):
            batch = [passages[row] for row in rows]
            for row, values in zip(rows, _score_batch(model, batch, writes, direction, padding), strict=True):
                scored[row] = values
            bar.update(len(rows))
    names = (*PHASES[Phase.SHORTLIST], *PHASES[Phase.REFINE])
    return HeadScores(
        tuple(one.uid for one in passages),
        {name: np.stack([scored[row][name] for row in range(len(passages))]) for name in names},
    )


def margin_gradient(
    model: Any, hidden: Float[Tensor, "n d"], gold: Sequence[int], near: Sequence[int]
) -> Float[Tensor, "n d"]:
    """Gradient of logit(gold) - logit(near) with respect to the residual stream before the final norm, float32.

    hidden: that residual stream, a query a row. gold, near: token ids of each. Of the logits before any cap.
    """
    weight = model.get_output_embeddings().weight
    apart = (weight[list(gold)] - weight[list(near)]).float()
    with torch.enable_grad():
        at = hidden.detach().float().requires_grad_()
        margin = (model.get_decoder().norm(at).float() * apart).sum()
        return torch.autograd.grad(margin, at)[0]


def kurtosis(rows: Float[Tensor, "... k"]) -> Float[Tensor, " ..."]:
    """Excess (Fisher) kurtosis along the last axis, float32; 0 where all are alike."""
    centred = rows.float() - rows.float().mean(-1, keepdim=True)
    largest = centred.abs().amax(-1, keepdim=True)
    alike = largest <= torch.finfo(torch.float32).tiny
    centred = centred / largest.masked_fill(alike, 1.0)  # fourth powers of tiny attention would be zero
    fourth, second = (centred**4).mean(-1), (centred**2).mean(-1)
    return torch.where(alike[..., 0], 0.0, fourth / second.masked_fill(alike[..., 0], 1.0) ** 2 - 3.0)


@torch.no_grad()
def word_weights(
    model: Any, passage: AnnotatedTrace, head: Head, queries: Span, of: Span, tokenizer: Any
) -> tuple[list[str], list[float]]:
    """The words of some tokens, and how much of its attention a head lays on each, mean over queries."""
    (checked,) = attention.check(model, [head])
    with attention.record(model, [checked]) as seen:
        model.get_decoder()(input_ids=torch.tensor([passage.ids], device=model.device), use_cache=False)
    row = seen.patterns[checked.layer][0][0, 0, slice(*queries)].mean(0)
    words: list[str] = []
    weights: list[float] = []
    for place in range(*of):
        piece = tokenizer.decode([passage.ids[place]])
        if not words or piece[:1].isspace() or words[-1][-1:].isspace():
            words.append("")
            weights.append(0.0)
        words[-1] += piece
        weights[-1] += row[place].item()
    return [word.strip() or "\N{PILCROW SIGN}" for word in words], weights


class _Writes:
    """What is needed of W_O to tell lengths and directions of writes without building them."""

    def __init__(self, model: Any) -> None:
        self.model = model
        layers = range(architecture.shape(model).layers)
        self.weights = [architecture.output_weights(model, layer) for layer in layers]
        self.grams = [torch.einsum("dhc,dhe->hce", w.float(), w.float()) for w in self.weights]

    def along(self, layer: int, outputs: Float[Tensor, "n h c"], u: Float[Tensor, "n d"]) -> Float[Tensor, "n h"]:
        """Dot product of each write with a vector of its query."""
        weight = self.weights[layer]
        return (torch.einsum("nd,dhc->nhc", u.to(weight.dtype), weight).float() * outputs.float()).sum(-1)

    def lengths(self, layer: int, outputs: Float[Tensor, "n h c"]) -> Float[Tensor, "n h"]:
        z = outputs.float()
        return torch.einsum("nhc,hce,nhe->nh", z, self.grams[layer], z).clamp(min=0).sqrt()

    def cosines(self, layer: int, outputs: Float[Tensor, "n h c"], u: Float[Tensor, " d"]) -> Float[Tensor, "n h"]:
        """Cosine of each write with a vector; 0 where nothing is written."""
        length = self.lengths(layer, outputs) * u.float().norm()
        along = self.along(layer, outputs, u.expand(len(outputs), -1))
        return torch.where(length > 0, along / length.clamp(min=torch.finfo(torch.float32).tiny), 0.0)


@dataclass
class _Seen:
    """What the visits of one forward pass leave of one passage, a tensor a layer."""

    outputs: list[Tensor]  # [n, h, c] of the CoT's queries
    kurtosis: list[Tensor]  # [n, h]
    on_document: list[Tensor]  # [n, h]
    preference: list[Tensor]  # [m, h], of the comparisons' queries
    on_gold: list[Tensor]  # [m, h]


def _score_batch(
    model: Any, batch: Sequence[AnnotatedTrace], writes: _Writes, direction: Direction, padding: Side
) -> list[dict[str, np.ndarray]]:
    ids = [torch.tensor(one.ids) for one in batch]
    given = pad_sequence(ids, batch_first=True, padding_side=padding).to(model.device)
    mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True, padding_side=padding).to(model.device)
    shifts = [given.shape[1] - len(one.ids) if padding == "left" else 0 for one in batch]
    seen = [_Seen([], [], [], [], []) for _ in batch]
    residual: list[Tensor] = []
    heads = range(writes.weights[0].shape[1])

    def visit(attended: Attended) -> None:
        for row, (one, shift, kept) in enumerate(zip(batch, shifts, seen, strict=True)):
            _visit(attended, row, one, shift, kept, heads)

    decoder = model.get_decoder()
    hooks = [decoder.norm.register_forward_pre_hook(lambda _, args: residual.append(args[0]))]
    if direction == "mentions":
        hooks += [
            layer.register_forward_pre_hook(lambda _, args, __: residual.append(args[0]), with_kwargs=True)
            for layer in decoder.layers
        ]
    try:
        with attention.attention_hooks(model, visit):
            decoder(input_ids=given, attention_mask=mask, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    final = residual.pop()
    return [
        _reduce(model, one, seen[row], final[row, shift:], [layer[row, shift:] for layer in residual], writes)
        for row, (one, shift) in enumerate(zip(batch, shifts, strict=True))
    ]


def _visit(attended: Attended, row: int, one: AnnotatedTrace, shift: int, kept: _Seen, heads: Sequence[int]) -> None:
    """Reduce one layer's patterns of one passage."""
    queries = slice(one.cot.start + shift, one.cot.end + shift)
    pattern = attended.patterns(heads, [row], queries)[0]
    document = pattern[:, :, one.document.start + shift : one.document.end + shift]
    kept.outputs.append(attended.output[row, queries])
    kept.kurtosis.append(kurtosis(document).T)
    kept.on_document.append(document.sum(-1).T)
    preference, on_gold = [], []
    for pair in one.comparisons:
        asked = attended.query[row, :, pair.queries.start + shift : pair.queries.end + shift].float()
        keys = attended.key[row][attended.key_heads(heads)].float()
        of_gold, of_near = (
            torch.nn.functional.cosine_similarity(asked, _mean_over(keys, mentions, shift)[:, None], dim=-1)
            for mentions in (pair.gold_mentions, pair.near_mentions)
        )
        preference.append((of_gold - of_near).T)
        start, end = (place - one.cot.start for place in pair.queries)
        mass = torch.stack([pattern[:, start:end, a + shift : b + shift].sum(-1) for a, b in pair.gold_mentions])
        on_gold.append(mass.sum(0).T)
    nothing = pattern.new_zeros(0, len(heads))
    kept.preference.append(torch.cat(preference) if preference else nothing)
    kept.on_gold.append(torch.cat(on_gold) if on_gold else nothing)


def _mean_over(keys: Float[Tensor, "h k c"], mentions: Sequence[Span], shift: int) -> Float[Tensor, "h c"]:
    return torch.cat([keys[:, start + shift : end + shift] for start, end in mentions], 1).mean(1)


def _reduce(
    model: Any, one: AnnotatedTrace, seen: _Seen, final: Tensor, residual: Sequence[Tensor], writes: _Writes
) -> dict[str, np.ndarray]:
    """One passage's scores, [1 + stages, layers, heads]."""
    layers = range(len(seen.outputs))
    if residual:
        at = torch.tensor([place for mention in one.anchor_mentions for place in range(*mention)])
        anchors = [of_layer[at.to(of_layer.device)].float().mean(0) for of_layer in residual]
    else:
        rows = model.get_output_embeddings().weight[list(one.anchors)].float()
        anchors = [rows.mean(0)] * len(layers)
    cosine = [writes.cosines(layer, seen.outputs[layer], anchors[layer]) for layer in layers]
    early = [one.early, *one.stages(STAGES)]
    coarse = {
        COARSE: [k * c for k, c in zip(seen.kurtosis, cosine, strict=True)],
        KURTOSIS: seen.kurtosis,
        WRITE_COSINE: cosine,
        ON_DOCUMENT: seen.on_document,
    }
    queries = np.arange(*one.cot)
    scores = {name: _by_stage(values, queries, early) for name, values in coarse.items()}

    asked = [(query, pair) for pair in one.comparisons for query in range(*pair.queries)]
    compared = [query for query, _ in asked]
    inside = torch.tensor(compared, dtype=torch.int64) - one.cot.start
    gain = seen.preference
    if compared:
        gold, near = [pair.gold_token for _, pair in asked], [pair.near_token for _, pair in asked]
        gradient = margin_gradient(model, final[torch.tensor(compared)], gold, near)
        gain = [writes.along(layer, seen.outputs[layer][inside], gradient) for layer in layers]
    refine = {
        REFINE: [p * g for p, g in zip(seen.preference, gain, strict=True)],
        PREFERENCE: seen.preference,
        GAIN: gain,
        ON_GOLD: seen.on_gold,
    }
    late = [Span(0, len(one.ids)), *one.stages(STAGES)]
    return scores | {name: _by_stage(values, np.array(compared), late) for name, values in refine.items()}


def _by_stage(
    values: Sequence[Float[Tensor, "n h"]], queries: np.ndarray, spans: Sequence[Span]
) -> Float[np.ndarray, "stages layers heads"]:
    """Mean over the queries of each span; NaN where a span has none."""
    whole = torch.stack(list(values)).cpu().double().numpy()
    means = np.full((len(spans), whole.shape[0], whole.shape[2]), np.nan)
    for place, (start, end) in enumerate(spans):
        if (inside := (queries >= start) & (queries < end)).any():
            means[place] = whole[:, inside].mean(1)
    return means


def _means(values: Float[np.ndarray, "n layers heads"]) -> Float[np.ndarray, "layers heads"]:
    told = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(told, values, 0.0).sum(0) / told.sum(0)
