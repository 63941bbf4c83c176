"""Attention heads of a Hugging Face model, read and patched while it runs.

Notes: one attention function is registered with transformers and chosen for as long as a context lasts. All heads are
computed by the library's scaled dot product, as in a plain run; what is read or patched is computed again, for the
heads asked for and layer by layer, so that all patterns are never held at once. Queries and keys come after rotation
and normalisation. b rows of a batch, q queries, k keys, h heads, g key heads, c dimensions of a head, d of the residual
stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from ctd.reasoning.architecture import attention_modules, shape

NAME = "ctd"

Rows = Sequence[int] | slice
ALL = slice(None)
What = Literal["pattern", "output"]
Noise = Literal["run", "gaussian", "uniform"]


class Head(NamedTuple):
    """A head by its layer and its number in the layer, both from 0."""

    layer: int
    head: int


@dataclass
class Attended:
    """What the attention of one layer was given, and what it gives: `output` may be replaced.

    mask: what each query sees; None where that is all up to itself (no row is padded). softcap: bound of the scores
    (Gemma 2), or None.
    """

    layer: int
    query: Float[Tensor, "b h q c"]
    key: Float[Tensor, "b g k c"]
    value: Float[Tensor, "b g k c"]
    mask: Bool[Tensor, "b 1 q k"] | None
    scaling: float
    softcap: float | None
    output: Float[Tensor, "b q h c"]

    def scores(self, heads: Sequence[int], rows: Rows = ALL, queries: slice = ALL) -> Float[Tensor, "b h q k"]:
        """Scores of some heads in some rows of the batch before the mask, in float32."""
        query = self.query[rows][:, list(heads), queries].float()
        key = self.key[rows][:, self.key_heads(heads)].float()
        return self._capped(query @ key.transpose(-1, -2) * self.scaling)

    def patterns(self, heads: Sequence[int], rows: Rows = ALL, queries: slice = ALL) -> Float[Tensor, "b h q k"]:
        """Attention patterns of some heads in some rows, in float32; zero where a query is padding."""
        return _softmax(self.scores(heads, rows, queries), self.visible(rows, queries))

    def patterns_at(
        self, heads: Sequence[int], row: Int[Tensor, " n"], query: Int[Tensor, " n"]
    ) -> Float[Tensor, "n h k"]:
        """Attention patterns of some heads at single queries, as `patterns`. row: of the batch, never falling."""
        counts = row.bincount(minlength=len(self.query))
        place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
        at = query.new_zeros(len(counts), int(counts.max()))
        at[row, place] = query
        chosen = self.query[:, list(heads)]
        chosen = chosen.gather(2, at[:, None, :, None].expand(-1, chosen.shape[1], -1, chosen.shape[3])).float()
        scores = self._capped(chosen @ self.key[:, self.key_heads(heads)].float().transpose(-1, -2) * self.scaling)
        if self.mask is None:
            visible = torch.arange(self.key.shape[2], device=at.device) <= at[..., None]
        else:
            visible = self.mask[torch.arange(len(at), device=at.device)[:, None], 0, at]
        return _softmax(scores, visible[:, None])[row, :, place]

    def pair_scores(self, row: Int[Tensor, " p"], head: Int[Tensor, " p"]) -> Float[Tensor, "p q k"]:
        """Scores of one head in one row each, for p pairs of them, as `scores`."""
        query, key = self.query[row, head].float(), self.key[row, self.key_head(head)].float()
        return self._capped(query @ key.transpose(-1, -2) * self.scaling)

    def visible(self, rows: Rows = ALL, queries: slice = ALL) -> Bool[Tensor, "b 1 q k"]:
        """What each query sees."""
        if self.mask is not None:
            return self.mask[rows][:, :, queries]
        (n_rows, _, n, _), n_keys = self.query[rows].shape, self.key.shape[2]
        seen = torch.ones(n, n_keys, dtype=torch.bool, device=self.query.device)
        return (seen.tril() if n > 1 else seen)[queries].expand(n_rows, 1, -1, -1)

    def key_heads(self, heads: Sequence[int]) -> list[int]:
        """The key head that each head shares with its group."""
        group = self.query.shape[1] // self.key.shape[1]
        return [head // group for head in heads]

    def key_head(self, head: Int[Tensor, " p"]) -> Int[Tensor, " p"]:
        """As `key_heads`, of a tensor."""
        return head // (self.query.shape[1] // self.key.shape[1])

    def _capped(self, scores: Float[Tensor, "... q k"]) -> Float[Tensor, "... q k"]:
        return scores if self.softcap is None else self.softcap * torch.tanh(scores / self.softcap)


def _softmax(scores: Float[Tensor, "... q k"], visible: Bool[Tensor, "... q k"]) -> Float[Tensor, "... q k"]:
    return scores.masked_fill(~visible, -torch.inf).softmax(-1).masked_fill(~visible, 0.0)


Visit = Callable[[Attended], None]
_visits: dict[int, list[Visit]] = {}  # by the attention module they are for


def check(model: Any, heads: Iterable[Head]) -> list[Head]:
    """The heads in order. Raises ValueError for one that the model has not."""
    found = shape(model)
    checked = sorted({Head(*head) for head in heads})
    for layer, head in checked:
        if not (0 <= layer < found.layers and 0 <= head < found.heads):
            raise ValueError(
                f"heads must be below layer {found.layers} and head {found.heads}, got layer {layer}, head {head}"
            )
    return checked


def all_heads(model: Any) -> list[Head]:
    """Every head, layer by layer."""
    found = shape(model)
    return [Head(layer, head) for layer in range(found.layers) for head in range(found.heads)]


@contextmanager
def attention_hooks(model: Any, visit: Visit, layers: Iterable[int] | None = None) -> Iterator[None]:
    """The model with `visit` called in each forward pass by the attention of these layers (None: all), first to last.

    Contexts may be nested: the outermost visits first. Raises ValueError for a model whose attention has no `o_proj`.
    """
    attentions = attention_modules(model)
    chosen = [id(attentions[layer]) for layer in (range(len(attentions)) if layers is None else sorted(set(layers)))]
    before = model.config._attn_implementation
    if before != NAME:
        model.set_attn_implementation(NAME)
    for module in chosen:
        _visits.setdefault(module, []).append(visit)
    try:
        yield
    finally:
        for module in chosen:
            _visits[module].remove(visit)
            if not _visits[module]:
                del _visits[module]
        if before != NAME:
            model.set_attn_implementation(before)


@dataclass
class Recording:
    """What some heads did in each forward pass: under each layer a tensor a pass (one of a step of `generate`).

    heads: those of each layer, in the order of the tensors. patterns: [b, h, q, k], float32. outputs: [b, q, h, c],
    before W_O.
    """

    heads: dict[int, list[int]]
    patterns: dict[int, list[Float[Tensor, "b h q k"]]] = field(default_factory=dict)
    outputs: dict[int, list[Float[Tensor, "b q h c"]]] = field(default_factory=dict)


@contextmanager
def record(
    model: Any, heads: Iterable[Head] | None = None, patterns: bool = True, outputs: bool = False
) -> Iterator[Recording]:
    """What heads (None: all) do while the context lasts, in a forward pass or in `generate`.

    Patterns are the model's own, outputs those after the patches of contexts around this one. Holding every head's
    patterns of a long text takes much memory: choose heads, or use `attention_hooks`. Raises ValueError for a head that
    the model has not.
    """
    wanted = check(model, all_heads(model) if heads is None else heads)
    by_layer: dict[int, list[int]] = {}
    for layer, head in wanted:
        by_layer.setdefault(layer, []).append(head)
    recording = Recording(by_layer)

    def keep(attended: Attended) -> None:
        of = by_layer[attended.layer]
        if patterns:
            recording.patterns.setdefault(attended.layer, []).append(attended.patterns(of))
        if outputs:
            recording.outputs.setdefault(attended.layer, []).append(attended.output[:, :, of])

    with attention_hooks(model, keep, by_layer):
        yield recording


@contextmanager
def patch(
    model: Any,
    heads: Bool[Tensor, "b layers h"],
    source: Int[Tensor, " b"] | Sequence[int] = (),
    what: What = "pattern",
    noise: Noise = "run",
    sigma: float = 1.0,
    seed: int = 0,
    queries: Bool[Tensor, "b s"] | None = None,
) -> Iterator[None]:
    """The model with some heads of some rows of its batch patched; the rows themselves say what is put in.

    heads: which ones in each row. noise: what replaces them: "run", what the same head does in row `source` of the same
    batch, which must be as long and padded alike; "gaussian", the row's own scores with noise of `sigma` times their
    standard deviation over what the query sees (drawn by seed); "uniform", an even pattern over it. what: "pattern"
    mixes the row's own values by the new pattern; "output" takes the source's head output (only with "run").
    queries: which positions are patched (None: all); what `generate` adds behind them is.
    Raises ValueError for heads of another model, a source outside the batch, runs of unequal length, or an unknown
    kind.
    """
    found = shape(model)
    if what not in get_args(What) or noise not in get_args(Noise):
        raise ValueError(
            f"what must be one of {', '.join(get_args(What))} and noise one of {', '.join(get_args(Noise))}, "
            f"got {what!r} and {noise!r}"
        )
    if what == "output" and noise != "run":
        raise ValueError(f"an output is replaced by another run's: noise must be 'run', got {noise!r}")
    if heads.ndim != 3 or heads.shape[1:] != (found.layers, found.heads):
        raise ValueError(f"heads must be [rows, {found.layers} layers, {found.heads} heads], got {list(heads.shape)}")
    sources = [int(row) for row in source] if noise == "run" else list(range(len(heads)))
    if len(sources) != len(heads) or not all(0 <= row < len(heads) for row in sources):
        raise ValueError(f"source must name a row of the batch (0 to {len(heads) - 1}) for each row, got {sources}")
    generator = torch.Generator().manual_seed(seed)
    came_from = torch.tensor(sources)

    def put_in(attended: Attended) -> None:
        chosen = heads[:, attended.layer]
        if len(attended.output) != len(chosen):
            raise ValueError(f"the batch must have the {len(chosen)} rows of heads, got {len(attended.output)}")
        row, head = (of.to(attended.output.device) for of in chosen.nonzero().T)
        come = came_from.to(row.device)[row]
        _check_length(attended, row, come)
        if what == "output":
            new = attended.output[come, :, head]
        else:
            pattern = _pattern(attended, come, head, noise, sigma, generator)
            values = attended.value[row, attended.key_head(head)]
            new = pattern.to(values.dtype) @ values
        where = _where(queries, row, attended)
        output = attended.output.clone()
        output[row, :, head] = torch.where(where, new, output[row, :, head])
        attended.output = output

    layers = heads.any(0).any(1).nonzero()[:, 0].tolist()
    with attention_hooks(model, put_in, layers):
        yield


def _pattern(
    attended: Attended,
    row: Int[Tensor, " p"],
    head: Int[Tensor, " p"],
    noise: Noise,
    sigma: float,
    generator: torch.Generator,
) -> Float[Tensor, "p q k"]:
    """What replaces the pattern of a head in a row, for each of p pairs of them."""
    if noise == "run":  # many rows come from one
        pairs, place = torch.stack([row, head]).unique(dim=1, return_inverse=True)
        return _softmax(attended.pair_scores(*pairs), attended.visible()[pairs[0], 0])[place]
    visible = attended.visible()[row, 0]
    if noise == "uniform":
        return _softmax(torch.zeros(visible.shape, device=visible.device), visible)
    scores = attended.pair_scores(row, head)
    n = visible.sum(-1, keepdim=True).clamp(min=1)
    mean = scores.where(visible, 0.0).sum(-1, keepdim=True) / n
    spread = (((scores - mean) ** 2).where(visible, 0.0).sum(-1, keepdim=True) / n).sqrt()
    drawn = torch.randn(scores.shape, generator=generator).to(scores.device)
    return _softmax(scores + sigma * spread * drawn, visible)


def _where(queries: Bool[Tensor, "b s"] | None, row: Int[Tensor, " p"], attended: Attended) -> Bool[Tensor, "p q 1"]:
    """Which of a pass's queries are patched in each row."""
    n, end = attended.output.shape[1], attended.key.shape[2]
    patched = torch.ones(len(row), n, dtype=torch.bool, device=row.device)
    if queries is not None:
        asked = queries.to(row.device)[row, end - n : end]
        patched[:, : asked.shape[1]] = asked
    return patched[..., None]


def _check_length(attended: Attended, row: Int[Tensor, " p"], source: Int[Tensor, " p"]) -> None:
    mask = attended.mask
    if mask is None or torch.equal(mask[row], mask[source]):
        return
    pairs = zip(row.tolist(), source.tolist(), strict=True)
    one, other = next((one, other) for one, other in pairs if not torch.equal(mask[one], mask[other]))
    lengths = [int(mask[of, 0].any(0).sum()) for of in (one, other)]
    raise ValueError(
        f"runs must be equally long and padded alike to be patched, row {one} has {lengths[0]} tokens and its "
        f"source, row {other}, {lengths[1]}"
    )


def _attend(
    module: nn.Module,
    query: Float[Tensor, "b h q c"],
    key: Float[Tensor, "b g k c"],
    value: Float[Tensor, "b g k c"],
    attention_mask: Bool[Tensor, "b 1 q k"] | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    **options: Any,
) -> tuple[Float[Tensor, "b q h c"], None]:
    """The registered attention: sdpa for all heads (eager where scores are capped), then the visits."""
    if options.get("s_aux") is not None:
        raise ValueError("attention sinks are not supported: their share of each row would be missing")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    mask = None if attention_mask is None else attention_mask[:, :, :, : key.shape[2]]
    attended = Attended(
        int(getattr(module, "layer_idx", 0)), query, key, value, mask, scaling, softcap, query.transpose(1, 2)
    )
    if softcap is None:
        attended.output, _ = sdpa_attention_forward(module, query, key, value, mask, dropout, scaling, **options)
    else:
        every = range(query.shape[1])
        patterns = attended.patterns(every).to(value.dtype)
        patterns = nn.functional.dropout(patterns, dropout, module.training)
        attended.output = (patterns @ value[:, attended.key_heads(every)]).transpose(1, 2)
    for visit in _visits.get(id(module), ()):
        visit(attended)
    return attended.output.contiguous(), None


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
