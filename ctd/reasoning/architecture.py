"""What a family of models needs said: where heads write, how they are shared, what a model can hold, what is refused.

A family whose modules are named otherwise, or whose heads cannot be read, is one entry of `FAMILIES`. The rest a model
of transformers says itself: its configuration how many heads share a key head and how many tokens fit; each call of
its attention the scaling and the cap of the scores; the mask where a sliding window ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

SINKS = "attention sinks are not supported: their share of each row would be missing"
PROBE_LOGIT = 200.0  # far above where any model caps its logits


@dataclass(frozen=True)
class Family:
    """How a family of models names what is read and patched.

    attention: the attention module of a layer.
    output: the attention's output projection, W_O.
    final_norm: the decoder's last norm.
    refused: why heads cannot be read, "" where they can.
    """

    attention: str = "self_attn"
    output: str = "o_proj"
    final_norm: str = "norm"
    refused: str = ""


COMMON = Family()
FAMILIES = {"gpt_oss": Family(refused=SINKS)}  # by model_type; all others are as `COMMON`


class Shape(NamedTuple):
    """How many heads a model has, and their sizes.

    layers: of the model.
    heads: of a layer.
    key_heads: of a layer; several heads may share one.
    head_size: dimensions of a head.
    width: dimensions of the residual stream.
    """

    layers: int
    heads: int
    key_heads: int
    head_size: int
    width: int


def family(model: Any) -> Family:
    """The entry of a model."""
    return FAMILIES.get(str(model.config.get_text_config().model_type), COMMON)


def attention_modules(model: Any) -> list[Any]:
    """The attention modules, first layer first.

    Raises ValueError for a model that lacks them or their output projection, and for a family that is refused.
    """
    names = family(model)
    if names.refused:
        raise ValueError(names.refused)
    layers = model.get_decoder().layers
    attentions = [getattr(layer, names.attention) for layer in layers if hasattr(layer, names.attention)]
    if not attentions or not all(hasattr(attention, names.output) for attention in attentions):
        raise ValueError(
            f"{type(model).__name__} has no {names.attention}.{names.output} in its layers, which heads are read and "
            "patched by"
        )
    return attentions


def output_projections(model: Any) -> list[Any]:
    """The linear maps W_O by which the heads of each layer write to the residual stream, first layer first.

    Raises ValueError as `attention_modules` does.
    """
    return [getattr(attention, family(model).output) for attention in attention_modules(model)]


def output_weights(model: Any, layer: int) -> Float[Tensor, "d h c"]:
    """W_O of each head of a layer: a head's output z is written to the residual stream as W_O z."""
    sizes = shape(model)
    return output_projections(model)[layer].weight.unflatten(1, (sizes.heads, sizes.head_size))


def final_norm(model: Any) -> Any:
    """The norm between the residual stream and the output embeddings."""
    return getattr(model.get_decoder(), family(model).final_norm)


def shape(model: Any) -> Shape:
    """A model's layers and heads. Raises ValueError as `attention_modules` does."""
    attentions = attention_modules(model)
    size = attentions[0].head_dim
    width, written = output_projections(model)[0].weight.shape
    key_heads = model.config.get_text_config().num_key_value_heads
    return Shape(len(attentions), written // size, key_heads, size, width)


def context(model: Any) -> int | None:
    """How many tokens a model takes at most; None where its configuration does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def check_attention(options: dict[str, Any]) -> None:
    """Refuse what a call of the attention brings and a pattern computed again would lack.

    options: what transformers passes to the attention beside queries, keys and values.
    """
    if options.get("s_aux") is not None:
        raise ValueError(SINKS)


@torch.no_grad()
def check_logits(model: Any, ids: Int[Tensor, "b q"]) -> None:
    """Refuse a family that does more between its last hidden state and its logits than one matrix.

    Tried with hidden states so long that a cap must show, however small the weights.

    ids: a few tokens.
    """
    head, plain = model.get_output_embeddings(), []

    def lengthen(_: nn.Module, __: Any, output: Any) -> None:
        largest = (output.last_hidden_state @ head.weight.T).abs().max().clamp(min=1e-6)
        output.last_hidden_state = output.last_hidden_state * (PROBE_LOGIT / largest)
        plain.append(output.last_hidden_state @ head.weight.T)

    hook = model.get_decoder().register_forward_hook(lengthen)
    try:
        logits = model(input_ids=ids, use_cache=False).logits
    finally:
        hook.remove()
    biased = getattr(head, "bias", None) is not None
    if biased or not torch.allclose(logits.float(), plain[0].float(), rtol=0, atol=0.01 * PROBE_LOGIT):
        raise ValueError(
            f"{type(model).__name__} scales, caps or shifts its logits, which token_loss does not: pass a loss= of "
            "your own"
        )
