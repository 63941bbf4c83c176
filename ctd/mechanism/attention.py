"""Attention heads of a Hugging Face model, read while it runs.

Notes: one attention function is registered with transformers and chosen for as long as a context lasts. All heads are
computed by the library's scaled dot product, as in a plain run. What is read or patched is computed again, for the
heads in question and layer by layer, so that all patterns are never held at once. Queries and keys come after rotation
and normalisation. b rows of a batch, q queries, k keys, h heads, g key heads, c dimensions of a head, d of the residual
stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from ctd.reasoning.architecture import attention_modules, check_attention, shape

NAME = "ctd"

Rows = Sequence[int] | slice
ALL = slice(None)
BLOCK = 64  # queries whose scores are in the processor's cache at once


class Head(NamedTuple):
    """A head by its layer and its number in the layer, both from 0."""

    layer: int
    head: int


@dataclass
class Attended:
    """What the attention of one layer takes in and puts out.

    layer: number of the layer among those with attention, from 0.
    first: position of the first query in its text: what was read in passes before stands before it.
    query: of each head.
    key: of each key head, which several heads may share.
    value: likewise.
    mask: what each query sees; None where that is every token up to itself (no row is padded).
    scaling: factor of the scores.
    softcap: bound of the scores (Gemma 2), or None.
    output: of each head; a hook may replace it.
    """

    layer: int
    first: int
    query: Float[Tensor, "b h q c"]
    key: Float[Tensor, "b g k c"]
    value: Float[Tensor, "b g k c"]
    mask: Bool[Tensor, "b 1 q k"] | None
    scaling: float
    softcap: float | None
    output: Float[Tensor, "b q h c"]

    def scores(self, heads: Sequence[int], rows: Rows = ALL, queries: slice = ALL) -> Float[Tensor, "b h q k"]:
        """Scores of some heads in some rows of the batch before the mask, in float32."""
        return self._scores(*self._chosen(heads, rows, queries))

    def patterns(self, heads: Sequence[int], rows: Rows = ALL, queries: slice = ALL) -> Float[Tensor, "b h q k"]:
        """Attention patterns of some heads in some rows, in float32; zero where a query is padding.

        On a CPU, and without gradients, the scores of a long text are made a block of queries at a time, over the keys
        that those see, and are never held as a whole.
        """
        query, key = self._chosen(heads, rows, queries)
        visible = self.visible(rows, queries)[: 1 if self.mask is None else None]
        differentiable = query.requires_grad or key.requires_grad
        if differentiable or query.device.type != "cpu" or query.shape[2] <= BLOCK:
            return masked_softmax(self._scores(query, key), visible)
        patterns = query.new_zeros(*query.shape[:3], key.shape[2])
        for start in range(0, query.shape[2], BLOCK):
            block = slice(start, start + BLOCK)
            n_keys = n_reached(visible[:, 0, block])
            bias, sees = (part.expand(len(query), -1, -1) for part in _mask(visible[:, 0, block, :n_keys]))
            for row in range(len(query)):
                scores = self._scores(query[row, :, block], key[row, :, :n_keys])
                patterns[row, :, block, :n_keys] = _softmax(scores, bias[row], sees[row])
        return patterns

    def patterns_at(
        self, heads: Sequence[int], row: Int[Tensor, " n"], query: Int[Tensor, " n"]
    ) -> Float[Tensor, "n h k"]:
        """Attention patterns of some heads at single queries, as `patterns`.

        heads: of the layer.
        row: of the batch, for each query, in ascending order.
        query: their places among the queries of the pass.
        """
        counts = row.bincount(minlength=len(self.query))
        place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
        at = query.new_zeros(len(counts), int(counts.max()))
        at[row, place] = query
        chosen = self.query[:, list(heads)]
        chosen = chosen.gather(2, at[:, None, :, None].expand(-1, chosen.shape[1], -1, chosen.shape[3])).float()
        scores = self._scores(chosen, self.key[:, self.key_heads(heads)].float())
        if self.mask is None:
            before = self.key.shape[2] - self.query.shape[2]
            visible = torch.arange(self.key.shape[2], device=at.device) <= before + at[..., None]
        else:
            visible = self.mask[torch.arange(len(at), device=at.device)[:, None], 0, at]
        return masked_softmax(scores, visible[:, None])[row, :, place]

    def pair_scores(self, row: Int[Tensor, " p"], head: Int[Tensor, " p"]) -> Float[Tensor, "p q k"]:
        """As `scores`, for p pairs of a row and a head."""
        return self._scores(self.query[row, head].float(), self.key[row, self.key_head(head)].float())

    def visible(self, rows: Rows = ALL, queries: slice = ALL) -> Bool[Tensor, "b 1 q k"]:
        """What each query sees."""
        if self.mask is not None:
            return self.mask[rows][:, :, queries]
        (n_rows, _, n, _), n_keys = self.query[rows].shape, self.key.shape[2]
        seen = torch.ones(n, n_keys, dtype=torch.bool, device=self.query.device)
        return seen.tril(n_keys - n)[queries].expand(n_rows, 1, -1, -1)

    def key_heads(self, heads: Sequence[int]) -> list[int]:
        """The key head that each head shares with its group."""
        group = self.query.shape[1] // self.key.shape[1]
        return [head // group for head in heads]

    def key_head(self, head: Int[Tensor, " p"]) -> Int[Tensor, " p"]:
        """As `key_heads`, for a tensor of heads."""
        return head // (self.query.shape[1] // self.key.shape[1])

    def _chosen(
        self, heads: Sequence[int], rows: Rows, queries: slice
    ) -> tuple[Float[Tensor, "b h q c"], Float[Tensor, "b h k c"]]:
        """Queries and keys of some heads in some rows, in float32."""
        key = self.key[rows][:, self.key_heads(heads)]
        return self.query[rows][:, list(heads), queries].float(), key.float()

    def _scores(self, query: Float[Tensor, "... q c"], key: Float[Tensor, "... k c"]) -> Float[Tensor, "... q k"]:
        scores = (query @ key.transpose(-1, -2)).mul_(self.scaling)
        return scores if self.softcap is None else self.softcap * torch.tanh(scores / self.softcap)


def n_reached(visible: Bool[Tensor, "b q k"]) -> int:
    """How many keys there are up to the last one that some query sees."""
    seen = visible.any((0, 1)).nonzero()
    return int(seen[-1]) + 1 if len(seen) else 0


def masked_softmax(scores: Float[Tensor, "... q k"], visible: Bool[Tensor, "... q k"]) -> Float[Tensor, "... q k"]:
    """Softmax over what each query sees; zero where it sees nothing. It overwrites the scores."""
    return _softmax(scores, *_mask(visible))


def _mask(visible: Bool[Tensor, "... q k"]) -> tuple[Float[Tensor, "... q k"], Float[Tensor, "... q 1"]]:
    """What is added to the scores, and 1 for each query that sees something."""
    return (~visible).float().mul_(torch.finfo(torch.float32).min), visible.any(-1, keepdim=True).float()


def _softmax(
    scores: Float[Tensor, "... q k"], bias: Float[Tensor, "... q k"], sees: Float[Tensor, "... q 1"]
) -> Float[Tensor, "... q k"]:
    scores += bias
    if scores.requires_grad:
        return scores.softmax(-1) * sees
    return torch.softmax(scores, -1, out=scores).mul_(sees)


Visit = Callable[[Attended], None]


@dataclass
class _Site:
    """An attention module that is visited.

    layer: its place among the attention modules.
    first: position of the first query of the pass.
    visits: what is called, the outermost first.
    """

    layer: int
    first: int = 0
    visits: list[Visit] = field(default_factory=list)


_sites: dict[int, _Site] = {}  # by the attention module


def check(model: Any, heads: Iterable[Head]) -> list[Head]:
    """The heads in order. Raises ValueError for one that the model does not have."""
    sizes = shape(model)
    checked = sorted({Head(*head) for head in heads})
    for layer, head in checked:
        if not (0 <= layer < sizes.layers and 0 <= head < sizes.heads):
            raise ValueError(
                f"heads must be below layer {sizes.layers} and head {sizes.heads}, got layer {layer}, head {head}"
            )
    return checked


def all_heads(model: Any) -> list[Head]:
    """Every head, layer by layer."""
    sizes = shape(model)
    return [Head(layer, head) for layer in range(sizes.layers) for head in range(sizes.heads)]


@contextmanager
def attention_hooks(model: Any, visit: Visit, layers: Iterable[int] | None = None) -> Iterator[None]:
    """Call a function in the attention of each layer, first to last, in every forward pass inside the context.

    Contexts may be nested: the function of the outermost is called first.

    visit: called with what the layer's attention takes in and puts out.
    layers: which ones; None for all.
    Raises ValueError for a model whose heads cannot be read exactly.
    """
    n_layers, attentions = shape(model).layers, attention_modules(model)
    chosen = {layer: id(attentions[layer]) for layer in (range(n_layers) if layers is None else sorted(set(layers)))}
    before = model.config._attn_implementation
    if before != NAME:
        model.set_attn_implementation(NAME)
    for layer, module in chosen.items():
        _sites.setdefault(module, _Site(layer)).visits.append(visit)
    noting = model.get_decoder().register_forward_pre_hook(partial(_note_position, chosen.values()), with_kwargs=True)
    try:
        yield
    finally:
        noting.remove()
        for module in chosen.values():
            _sites[module].visits.remove(visit)
            if not _sites[module].visits:
                del _sites[module]
        if before != NAME:
            model.set_attn_implementation(before)


def _note_position(modules: Iterable[int], _: nn.Module, __: Any, inputs: dict[str, Any]) -> None:
    """Note how many tokens were read before this pass. A layer with a window holds fewer keys than that."""
    past = inputs.get("cache", inputs.get("past_key_values"))  # its name from transformers 5.24 on, and before
    n_read = 0 if past is None else int(past.get_seq_length())
    for module in modules:
        _sites[module].first = n_read


@dataclass
class Recording:
    """What some heads did: for each layer, a tensor per forward pass (each step of `generate` is one).

    heads: those of each layer, in the order of the tensors.
    patterns: attention, float32.
    outputs: before W_O.
    """

    heads: dict[int, list[int]]
    patterns: dict[int, list[Float[Tensor, "b h q k"]]] = field(default_factory=dict)
    outputs: dict[int, list[Float[Tensor, "b q h c"]]] = field(default_factory=dict)


@contextmanager
def record(
    model: Any, heads: Iterable[Head] | None = None, patterns: bool = True, outputs: bool = False
) -> Iterator[Recording]:
    """Record what heads do while the context lasts, in a forward pass or in `generate`.

    Patterns are the model's own, outputs those after the patches of contexts around this one. Holding every head's
    patterns of a long text takes much memory: choose heads, or use `attention_hooks`.

    heads: which ones; None for all.
    patterns: whether attention patterns are recorded.
    outputs: whether the heads' outputs are.
    Raises ValueError for a head that the model does not have.
    """
    wanted = check(model, all_heads(model) if heads is None else heads)
    by_layer: dict[int, list[int]] = {}
    for layer, head in wanted:
        by_layer.setdefault(layer, []).append(head)
    recording = Recording(by_layer)

    def keep(attended: Attended) -> None:
        chosen = by_layer[attended.layer]
        if patterns:
            recording.patterns.setdefault(attended.layer, []).append(attended.patterns(chosen))
        if outputs:
            recording.outputs.setdefault(attended.layer, []).append(attended.output[:, :, chosen])

    with attention_hooks(model, keep, by_layer):
        yield recording


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
    check_attention(options)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    mask = None if attention_mask is None else attention_mask[:, :, :, : key.shape[2]]
    site = _sites.get(id(module), _Site(0))
    attended = Attended(site.layer, site.first, query, key, value, mask, scaling, softcap, query.transpose(1, 2))
    if softcap is None:
        attended.output, _ = sdpa_attention_forward(module, query, key, value, mask, dropout, scaling, **options)
    else:
        every = range(query.shape[1])
        patterns = attended.patterns(every).to(value.dtype)
        patterns = nn.functional.dropout(patterns, dropout, module.training)
        attended.output = (patterns @ value[:, attended.key_heads(every)]).transpose(1, 2)
    for visit in site.visits:
        visit(attended)
    return attended.output.contiguous(), None


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
