"""What a family of models needs said: where its attention writes, how its heads are shared, what it can hold."""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor


class Shape(NamedTuple):
    """How many layers, heads of a layer and key heads a model has, and the dimensions of a head and of its residual
    stream."""

    layers: int
    heads: int
    key_heads: int
    head_size: int
    width: int


def shape(model: Any) -> Shape:
    """A model's layers and heads. Raises ValueError for a model whose attention has no `o_proj`."""
    attentions = attention_modules(model)
    config = model.config.get_text_config()
    size = attentions[0].head_dim
    width, written = attentions[0].o_proj.weight.shape
    return Shape(len(attentions), written // size, config.num_key_value_heads, size, width)


def context(model: Any) -> int | None:
    """How many tokens a model takes at most; None where its configuration does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def output_weights(model: Any, layer: int) -> Float[Tensor, "d h c"]:
    """What each head of a layer writes to the residual stream for its output: a head's write is W_O z."""
    found = shape(model)
    return attention_modules(model)[layer].o_proj.weight.unflatten(1, (found.heads, found.head_size))


def attention_modules(model: Any) -> list[Any]:
    """The attention modules, first layer first."""
    found = [layer.self_attn for layer in model.get_decoder().layers if hasattr(layer, "self_attn")]
    if not found or not all(hasattr(attention, "o_proj") for attention in found):
        raise ValueError(
            f"{type(model).__name__} has no self_attn.o_proj in its layers, which heads are read and patched by"
        )
    return found
