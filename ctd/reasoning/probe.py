"""What a model does with its heads, seen on the model itself: a few tokens are run, and what cannot be right is said.

Notes: a head can be scored and patched where its pattern times its values is what the output projection reads, and
where nothing comes between. That is checked on every layer, not read off a configuration. b rows of a batch, q queries,
k keys, h heads, g key heads, c dimensions of a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "ctd-probe"
SINKS = "attention sinks are not supported: their share of each row would be missing"
ROWS, LENGTH = 2, 12  # of the tokens that are run
NEARLY = {torch.float32: 1e-3}  # how far two ways of computing the same may be apart, by dtype
NEARLY_IN_OTHERS = 0.1


class HeadSizes(NamedTuple):
    """What one layer's heads are like.

    heads: how many.
    key_heads: how many; several heads may share one.
    head_size: dimensions of a head's output.
    """

    heads: int
    key_heads: int
    head_size: int


@dataclass
class _Call:
    """What a layer's attention took in and put out."""

    sizes: HeadSizes
    problem: str
    output: Float[Tensor, "b q h c"]


_calls: dict[int, list[_Call]] = {}  # by attention module, while a model is probed


@torch.no_grad()
def logits(model: Any) -> Float[Tensor, "b q vocabulary"]:
    """What a model gives for a few tokens that are always the same, in float32."""
    with _at_rest(model):
        return model(input_ids=_tokens(model), use_cache=False).logits.float()


@torch.no_grad()
def head_sizes(model: Any, attentions: Sequence[nn.Module], projections: Sequence[Any], final_norm: Any) -> HeadSizes:
    """The sizes of a model's heads, found by running it.

    attentions: the attention modules, first layer first.
    projections: the output projection of each.
    final_norm: the norm before the output embeddings.
    Raises ValueError, saying why, where the heads cannot be read and patched exactly.
    """
    read: dict[int, Tensor] = {}
    normed: list[Tensor] = []
    plain, ids = logits(model), _tokens(model)
    with _at_rest(model), ExitStack() as hooks:
        for number, projection in enumerate(projections):
            hooks.callback(projection.register_forward_pre_hook(_noting(read, number)).remove)
        hooks.callback(final_norm.register_forward_pre_hook(lambda _, args: normed.append(args[0])).remove)
        hooks.enter_context(_probing(model, attentions))
        by_patterns = model(input_ids=ids, use_cache=False).logits.float()
        calls = [_calls[id(module)] for module in attentions]
    for number, made in enumerate(calls):
        if problem := _problem_of_layer(made, read.get(number), projections[number]):
            raise ValueError(f"layer {number}: {problem}")
    sizes = {made[0].sizes for made in calls}
    if len(sizes) > 1:
        first, second = list(sizes)[:2]
        raise ValueError(f"its layers have heads of several sizes ({tuple(first)} and {tuple(second)})")
    if len(normed) != 1:
        raise ValueError(f"its last norm is called {len(normed)} times in a pass, not once behind the last layer")
    if not plain.isfinite().all():
        raise ValueError("its logits are no finite numbers: its weights are damaged, or overflow their dtype")
    if not near(by_patterns, plain, model.dtype):
        raise ValueError(
            "its logits are others when its attention is computed from queries, keys, values and mask alone"
        )
    return sizes.pop()


def _problem_of_layer(calls: Sequence[_Call], read: Tensor | None, projection: Any) -> str:
    if len(calls) != 1 or read is None:
        return f"its attention is called {len(calls)} times in a pass through the interface that heads are read by"
    call = calls[0]
    if call.problem:
        return call.problem
    weight: Any = getattr(projection, "weight", None)
    if getattr(weight, "ndim", 0) != 2 or weight.shape[1] != call.sizes.heads * call.sizes.head_size:
        return "its output projection is no matrix over all heads"
    if read.shape != call.output.flatten(2).shape or not near(read, call.output.flatten(2)):
        return "what its heads put out is changed (by a gate or a norm) before the output projection reads it"
    return ""


def _noting(read: dict[int, Tensor], number: int) -> Any:
    def note(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        read[number] = args[0]

    return note


def _tokens(model: Any) -> Int[Tensor, "b q"]:
    embedding = model.get_input_embeddings().weight
    return ((torch.arange(ROWS * LENGTH).view(ROWS, LENGTH) * 37 + 11) % len(embedding)).to(embedding.device)


@contextmanager
def _at_rest(model: Any) -> Iterator[None]:
    """The model without dropout."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _probing(model: Any, attentions: Sequence[nn.Module]) -> Iterator[None]:
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    _calls.update({id(module): [] for module in attentions})
    try:
        yield
    finally:
        for module in attentions:
            del _calls[id(module)]
        model.set_attn_implementation(before)


def _attend(
    module: nn.Module,
    query: Float[Tensor, "b h q c"],
    key: Float[Tensor, "b g k c"],
    value: Float[Tensor, "b g k v"],
    attention_mask: Bool[Tensor, "b 1 q k"] | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    **options: Any,
) -> tuple[Float[Tensor, "b q h v"], None]:
    """Attention from patterns alone, held against the library's own."""
    problem = SINKS if options.get("s_aux") is not None else ""
    visible = attention_mask
    if visible is None:
        visible = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()
    elif visible.dtype != torch.bool:
        kind = str(visible.dtype).removeprefix("torch.")
        problem = problem or f"its mask is made of {kind} weights, and does not just say what is seen"
        visible = visible >= 0
    group = query.shape[1] // key.shape[1]
    scores = query.float() @ key.float().repeat_interleave(group, 1).transpose(-1, -2)
    scores = scores * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    patterns = scores.masked_fill(~visible, -torch.inf).softmax(-1).masked_fill(~visible, 0.0)
    output = (patterns @ value.float().repeat_interleave(group, 1)).transpose(1, 2).to(value.dtype).contiguous()
    if softcap is None and not problem:
        library, _ = sdpa_attention_forward(module, query, key, value, attention_mask, 0.0, scaling, **options)
        problem = "" if near(output, library) else "its attention depends on more than queries, keys and mask"
    if id(module) in _calls:
        sizes = HeadSizes(query.shape[1], key.shape[1], value.shape[-1])
        _calls[id(module)].append(_Call(sizes, problem, output))
    return output, None


def near(first: Tensor, second: Tensor, dtype: torch.dtype | None = None) -> bool:
    """Whether two ways of computing the same came out the same, up to rounding; dtype: of a whole model."""
    apart, size = (first.float() - second.float()).abs(), second.float().abs()
    allowed = NEARLY.get(dtype or second.dtype, NEARLY_IN_OTHERS)
    if dtype:  # of many layers' sums: one expert of a mixture that is chosen differently does not count
        return bool(apart.mean() <= allowed * size.mean())
    return bool(apart.max() <= allowed * size.max().clamp(min=1e-6))


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
