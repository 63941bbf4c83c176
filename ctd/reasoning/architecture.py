"""What a family of models needs said: where heads write, how they are shared, what a model can hold, what is refused.

Notes: a family whose modules are named otherwise is one entry of `FAMILIES`. The rest is seen on the model itself: how
many heads there are and whether they can be read exactly (`ctd.reasoning.probe` runs it on a few tokens); its
configuration says how many tokens fit, each call of its attention the scaling and the cap of the scores, and the mask
where a sliding window ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import LinearAttentionCacheLayerMixin

from ctd.reasoning import probe
from ctd.reasoning.probe import SINKS

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
FAMILIES = {
    "gpt_oss": Family(refused=SINKS),
    "jamba": Family(final_norm="final_layernorm"),
}


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

    Layers without attention are not counted: a head's layer is the place of its attention in this list.
    Raises ValueError for a model that lacks them or their output projection, and for a family that is refused.
    """
    names = family(model)
    if names.refused:
        raise _unfit(model, names.refused)
    decoder = model.get_decoder()
    layers = getattr(decoder, "layers", ())
    attentions = [getattr(layer, names.attention) for layer in layers if hasattr(layer, names.attention)]
    if not attentions or not all(hasattr(attention, names.output) for attention in attentions):
        raise _unfit(model, f"it has no {names.attention}.{names.output} in its layers")
    if not hasattr(decoder, names.final_norm):
        raise _unfit(model, f"it has no {names.final_norm} behind its layers")
    return attentions


def _unfit(model: Any, reason: str) -> ValueError:
    return ValueError(
        f"the heads of {type(model).__name__} cannot be read and patched exactly: {reason}. It can write texts, but no "
        "head of it can be scored, patched or imitated: take another teacher for that"
    )


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
    """A model's layers and heads, seen by running it once.

    Raises ValueError as `attention_modules` does, and, with the reason, where its heads cannot be read exactly.
    """
    attentions, projections = attention_modules(model), output_projections(model)
    ids = tuple(map(id, attentions))
    if _shapes.get(model, ((), None))[0] != ids:
        try:
            sizes = probe.head_sizes(model, attentions, projections, final_norm(model))
            found: Shape | str = Shape(len(attentions), *sizes, projections[0].weight.shape[0])
        except torch.OutOfMemoryError:
            raise
        except (ValueError, RuntimeError, TypeError, AttributeError, KeyError, IndexError) as error:
            found = " ".join(str(error).split())[:300]
        _shapes[model] = ids, found
    shape = _shapes[model][1]
    if isinstance(shape, str):
        raise _unfit(model, shape)
    return shape


_shapes: WeakKeyDictionary[nn.Module, tuple[tuple[int, ...], Shape | str]] = WeakKeyDictionary()


def rows_may_leave(cache: DynamicCache) -> bool:
    """Whether rows of a batch can be taken out of what a model keeps of it while the others go on."""
    return all(
        hasattr(layer, "batch_select_indices") and not isinstance(layer, LinearAttentionCacheLayerMixin)
        for layer in cache.layers
    )


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
