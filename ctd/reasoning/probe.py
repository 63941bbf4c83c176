"""What a model does with its heads, seen on the model itself: a few tokens are run, and what cannot be right is said.

Notes: a head can be scored and patched where its pattern times its values is what the output projection reads, and
where what that writes is what the residual stream gains. That is checked on every layer, not read off a configuration,
on rows of which one is padded, and beyond the sliding window, which is made short for it. b rows of a batch, q queries,
k keys, h heads, g key heads, c dimensions of a head, d of the residual stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.pytorch_utils import Conv1D

from ctd.reasoning import residual

NAME = "ctd-probe"
SINKS = "attention sinks are not supported: their share of each row would be missing"
ROWS, LENGTH, PADDED = 2, 12, 4  # of the tokens that are run, and how many of the last row are padding
WINDOW = 5  # of a model with sliding windows or chunks, while it is probed
WINDOWS = ("sliding_window", "attention_chunk_size")  # what configurations call it
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


class Parts(NamedTuple):
    """What of a model is probed, first layer first.

    layers: those that attend.
    attentions: the attention module of each.
    projections: the output projection of each.
    final_norm: the norm before the output embeddings.
    added: what a layer is said to add to the residual stream, given its number and what its projection puts out.
    """

    layers: Sequence[nn.Module]
    attentions: Sequence[nn.Module]
    projections: Sequence[Any]
    final_norm: nn.Module
    added: Callable[[int, Tensor], Tensor]


@dataclass
class _Call:
    """What a layer's attention took in and put out.

    sizes: of its heads.
    problem: why they cannot be read, "" where they can.
    output: of its heads.
    seen: which rows and queries see anything.
    turn: how many calls of attention came before.
    """

    sizes: HeadSizes
    problem: str
    output: Float[Tensor, "b q h c"]
    seen: Bool[Tensor, "b q"]
    turn: int


_calls: dict[int, list[_Call]] = {}  # by attention module, while a model is probed


@torch.no_grad()
def logits(model: Any) -> Float[Tensor, "b q vocabulary"]:
    """What a model gives for a few tokens that are always the same, in float32."""
    with at_rest(model):
        return model(input_ids=_tokens(model), use_cache=False).logits.float()


@torch.no_grad()
def head_sizes(model: Any, parts: Parts) -> HeadSizes:
    """The sizes of a model's heads, found by running it.

    Raises ValueError, saying why, where the heads cannot be read and patched exactly.
    """
    read: dict[int, Tensor] = {}
    norms: list[int] = []  # how many layers were read before each call of the last norm
    batch = padded_batch(model)
    real = batch["attention_mask"].bool()
    with at_rest(model), short_windows(model), ExitStack() as hooks:
        with residual.measuring(*parts[:3], parts.added, nearly(model.dtype)) as problems:
            plain = model(**batch, use_cache=False).logits.float()
        for number, projection in enumerate(parts.projections):
            hooks.callback(projection.register_forward_pre_hook(_noting(read, number)).remove)
        hooks.callback(parts.final_norm.register_forward_pre_hook(lambda *_: norms.append(len(read))).remove)
        hooks.enter_context(_probing(model, parts.attentions))
        by_patterns = model(**batch, use_cache=False).logits.float()
        calls = [_calls[id(module)] for module in parts.attentions]
    for number, layer_calls in enumerate(calls):
        if problem := _problem_of_layer(layer_calls, read.get(number), parts.projections[number]):
            raise ValueError(f"layer {number}: {problem}")
    sizes = _alike(calls)
    if problems := problems + _problems_of_order(parts.attentions, calls):
        raise ValueError(problems[0])
    if not norms or norms[-1] < len(calls):
        raise ValueError("its last norm is not called behind the last layer")
    if not plain[real].isfinite().all():
        raise ValueError("its logits are no finite numbers: its weights are damaged, or overflow their dtype")
    if not near(by_patterns[real], plain[real], model.dtype):
        raise ValueError(
            "its logits are others when its attention is computed from queries, keys, values and mask alone"
        )
    return sizes


def matrix(projection: Any) -> Tensor:
    """The weight of an output projection, [d, h c]: a linear layer's, or GPT-2's the other way round."""
    weight: Tensor = projection.weight
    return weight.T if isinstance(projection, Conv1D) else weight


def _alike(calls: Sequence[Sequence[_Call]]) -> HeadSizes:
    sizes = {layer_calls[0].sizes for layer_calls in calls}
    if len(sizes) > 1:
        first, second = list(sizes)[:2]
        raise ValueError(f"its layers have heads of several sizes ({tuple(first)} and {tuple(second)})")
    return sizes.pop()


def _problems_of_order(attentions: Sequence[nn.Module], calls: Sequence[Sequence[_Call]]) -> list[str]:
    """Layers that run, or keep what they read, in another order than they are counted in."""
    turns = [layer_calls[0].turn for layer_calls in calls]
    problems = [f"layer {n}: it runs before layer {n - 1}" for n in range(1, len(turns)) if turns[n] < turns[n - 1]]
    indices = [getattr(module, "layer_idx", None) for module in attentions]
    known = [number for number in indices if number is not None]
    if known != sorted(set(known)):
        at = next(n for n in range(1, len(known)) if known[n] <= known[n - 1])
        problems.append(f"layer {at}: it calls itself layer {known[at]} behind layer {known[at - 1]}, so that its mask "
                        "and its cache are those of another layer")  # fmt: skip
    return problems


def _problem_of_layer(calls: Sequence[_Call], read: Tensor | None, projection: Any) -> str:
    if len(calls) != 1 or read is None:
        return f"its attention is called {len(calls)} times in a pass through the interface that heads are read by"
    call = calls[0]
    if call.problem:
        return call.problem
    weight: Any = getattr(projection, "weight", None)
    if getattr(weight, "ndim", 0) != 2 or matrix(projection).shape[1] != call.sizes.heads * call.sizes.head_size:
        return "its output projection is no matrix over all heads"
    output = call.output.flatten(2)
    if read.shape != output.shape or not near(read[call.seen], output[call.seen]):
        return "what its heads put out is changed (by a gate or a norm) before the output projection reads it"
    return ""


def _noting(read: dict[int, Tensor], number: int) -> Any:
    def note(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        read[number] = args[0]

    return note


def _tokens(model: Any) -> Int[Tensor, "b q"]:
    embedding = model.get_input_embeddings().weight
    return ((torch.arange(ROWS * LENGTH).view(ROWS, LENGTH) * 37 + 11) % len(embedding)).to(embedding.device)


def padded_batch(model: Any) -> dict[str, Int[Tensor, "b q"]]:
    """The same tokens, the first of the last row hidden as padding."""
    ids = _tokens(model)
    mask = torch.ones_like(ids)
    mask[-1, :PADDED] = 0
    return {"input_ids": ids, "attention_mask": mask}


@contextmanager
def short_windows(model: Any) -> Iterator[None]:
    """The model with windows so short that a few tokens reach beyond them."""
    configs = {id(config): config for config in (model.config, model.config.get_text_config())}.values()
    windows = [
        (config, name, size)
        for config in configs
        for name in WINDOWS
        if isinstance(size := getattr(config, name, None), int) and size > WINDOW
    ]
    for config, name, _ in windows:
        setattr(config, name, WINDOW)
    try:
        yield
    finally:
        for config, name, size in windows:
            setattr(config, name, size)


@contextmanager
def at_rest(model: Any) -> Iterator[None]:
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
    seen = visible.any(-1).expand(len(query), *visible.shape[1:-1]) if visible.ndim > 2 else visible.any(-1)[None, None]
    seen = seen.any(1).expand(len(query), -1)
    group = query.shape[1] // key.shape[1]
    scores = query.float() @ key.float().repeat_interleave(group, 1).transpose(-1, -2)
    scores = scores * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    patterns = scores.masked_fill(~visible, -torch.inf).softmax(-1).masked_fill(~visible, 0.0)
    output = (patterns @ value.float().repeat_interleave(group, 1)).transpose(1, 2).to(value.dtype).contiguous()
    if softcap is None and not problem:
        library, _ = sdpa_attention_forward(module, query, key, value, attention_mask, 0.0, scaling, **options)
        alike = near(output[seen], library[seen])
        problem = "" if alike else "its attention depends on more than queries, keys and mask"
    if id(module) in _calls:
        sizes = HeadSizes(query.shape[1], key.shape[1], value.shape[-1])
        _calls[id(module)].append(_Call(sizes, problem, output, seen, sum(map(len, _calls.values()))))
    return output, None


def nearly(dtype: torch.dtype) -> float:
    """How far two ways of computing the same may be apart, relative to their size."""
    return NEARLY.get(dtype, NEARLY_IN_OTHERS)


def near(first: Tensor, second: Tensor, dtype: torch.dtype | None = None) -> bool:
    """Whether two ways of computing the same came out the same, up to rounding; dtype: of a whole model."""
    apart, size = (first.float() - second.float()).abs(), second.float().abs()
    allowed = nearly(dtype or second.dtype)
    if dtype:  # of many layers' sums: one expert of a mixture that is chosen differently does not count
        return bool(apart.mean() <= allowed * size.mean())
    return bool(apart.max() <= allowed * size.max().clamp(min=1e-6))


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
