"""A model made fast on a processor for as long as it writes: its weights and its attention, its results the same.

Notes: oneDNN multiplies a few rows by a weight 1.2 to 1.6 times as fast where the weight lies in a layout of its own,
in float32 as well as in bfloat16. PyTorch has both steps for its compiler, which calls them as they are called here.
The attention of one new token per text is a small product for each head, for which PyTorch's kernel prepares longer
than it computes: where the processor multiplies in bfloat16, one product of all heads takes half as long.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "ctd-decode"
NOT_PLAIN = ("softcap", "s_aux", "position_bias")  # what a model may ask of its attention beside the product


@contextmanager
def fast_decoding(model: Any, rows: int) -> Iterator[None]:
    """The model made fast inside, where it lies on a processor. Its weights must not change meanwhile.

    rows: texts that are written side by side.
    """
    multiplies = {torch.float32: torch.backends.mkldnn.is_available(), torch.bfloat16: _has_bfloat16()}
    packed = model.device.type == "cpu" and multiplies.get(model.dtype, False)
    modules = [module for module in model.modules() if type(module) is nn.Linear and "forward" not in vars(module)]
    linear = modules if packed else []
    attention = model.config._attn_implementation
    decodes = packed and model.dtype == torch.bfloat16 and attention == "sdpa"
    try:
        for module in linear:
            vars(module)["forward"] = partial(_multiply, _packed(module.weight, rows), module.bias)
        if decodes:
            model.set_attn_implementation(NAME)
        yield
    finally:
        for module in linear:
            vars(module).pop("forward", None)
        if decodes:
            model.set_attn_implementation(attention)


def _has_bfloat16() -> bool:
    """Whether oneDNN multiplies in bfloat16 here."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _packed(weight: Float[Tensor, "out in"], rows: int) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)


def _multiply(weight: Tensor, bias: Tensor | None, x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _attend(
    module: nn.Module,
    query: Float[Tensor, "b h q c"],
    key: Float[Tensor, "b g k c"],
    value: Float[Tensor, "b g k c"],
    attention_mask: Bool[Tensor, "b 1 q k"] | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Float[Tensor, "b q h c"], None]:
    """One product of all heads where each text has one new token; PyTorch's kernel otherwise."""
    plain = query.shape[2] == 1 and all(options.get(name) is None for name in NOT_PLAIN)
    if not plain or attention_mask is None or attention_mask.dtype != torch.bool or attention_mask.shape[1] > 1:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    batch, heads, _, size = query.shape
    grouped = query.reshape(batch, key.shape[1], -1, size)
    scores = (grouped * (size**-0.5 if scaling is None else scaling)) @ key.transpose(2, 3)
    pattern = scores.masked_fill_(~attention_mask, -torch.inf).softmax(-1)  # summed in float32
    return (pattern @ value).reshape(batch, 1, heads, -1), None


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
