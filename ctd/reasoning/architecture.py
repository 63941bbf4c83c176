"""What a family of models needs said: where heads write, how they are shared, what a model can hold, what is refused.

Notes: a family whose modules are named otherwise is one entry of `ctd.reasoning.families`. The rest is seen on the
model itself: how many heads there are and whether they can be read exactly (`ctd.reasoning.probe` runs it on a few
tokens); its configuration says how many tokens fit, each call of its attention the scaling and the cap of the scores,
and the mask where a sliding window ends.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import LinearAttentionCacheLayerMixin

from ctd.reasoning import probe
from ctd.reasoning.families import COMMON, FAMILIES, Family
from ctd.reasoning.probe import SINKS, Parts

PROBE_LOGIT = 200.0  # far above where any model caps its logits


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


def layers_with_attention(model: Any) -> list[Any]:
    """The layers that attend, first layer first.

    Layers without attention are not counted: a head's layer is the place of its attention in this list.
    Raises ValueError for a model that lacks attention or its output projection, and for a family that is refused.
    """
    names = family(model)
    if names.refused:
        raise Unfit(model, names.refused)
    decoder = model.get_decoder()
    layers = [at for at in getattr(decoder, names.layers, ()) if getattr(at, names.attention, None) is not None]
    if not layers or not all(hasattr(getattr(layer, names.attention), names.output) for layer in layers):
        raise Unfit(model, f"it has no {names.attention}.{names.output} in its layers")
    if not isinstance(getattr(decoder, names.final_norm, None), nn.Module):
        raise Unfit(model, f"it has no {names.final_norm} behind its layers")
    return layers


def attention_modules(model: Any) -> list[Any]:
    """The attention modules, first layer first. Raises ValueError as `layers_with_attention` does."""
    return [getattr(layer, family(model).attention) for layer in layers_with_attention(model)]


class Unfit(ValueError):
    """Raised for a model whose heads cannot be read and patched exactly."""

    def __init__(self, model: Any, reason: str) -> None:
        super().__init__(unfit(type(model).__name__, reason))
        self.reason = reason


def unfit(name: str, reason: str) -> str:
    """One line that says why the heads of a model cannot be read, and what can be done with it."""
    return (
        f"the heads of {name} cannot be read and patched exactly: {reason}. It can write texts, but no head of it can "
        "be scored, patched or imitated: take another teacher for that"
    )


def output_projections(model: Any) -> list[Any]:
    """The linear maps W_O by which the heads of each layer write to the residual stream, first layer first.

    Raises ValueError as `attention_modules` does.
    """
    return [getattr(attention, family(model).output) for attention in attention_modules(model)]


def output_weights(model: Any, layer: int) -> Float[Tensor, "d h c"]:
    """W_O of each head of a layer: a head's output z is written to the residual stream as W_O z.

    A constant factor and the weights of a norm behind the projection are multiplied into it; the length by which that
    norm divides is another for each token, see `write_scale`.
    """
    sizes, names, at = shape(model), family(model), layers_with_attention(model)[layer]
    weight = probe.matrix(getattr(getattr(at, names.attention), names.output))
    if names.post_norm:
        weight = weight * getattr(at, names.post_norm)(torch.ones_like(weight[:, 0]))[:, None]
    if names.factor:
        weight = weight * getattr(at, names.factor)
    return weight.unflatten(1, (sizes.heads, sizes.head_size))


def write_scale(model: Any, layer: int, outputs: Float[Tensor, "n h c"]) -> Float[Tensor, "n 1"] | None:
    """The number of each token by which a norm behind the output projection multiplies all that the heads write.

    layer: whose heads.
    outputs: of all its heads.
    None for a model without such a norm.
    """
    names = family(model)
    if not names.post_norm:
        return None
    at = layers_with_attention(model)[layer]
    norm, projection = getattr(at, names.post_norm), getattr(getattr(at, names.attention), names.output)
    projected = projection(outputs.flatten(1)).float()
    unscaled = projected * norm(torch.ones_like(projected[0])).float()
    along = (norm(projected.to(outputs.dtype)).float() * unscaled).sum(-1, keepdim=True)
    return along / (unscaled**2).sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)


def added(model: Any, layer: int, projected: Float[Tensor, "b q d"]) -> Float[Tensor, "b q d"]:
    """What a layer's attention adds to the residual stream, by the entry of its family."""
    names, at = family(model), layers_with_attention(model)[layer]
    added = getattr(at, names.post_norm)(projected) if names.post_norm else projected
    return added * getattr(at, names.factor) if names.factor else added


def final_norm(model: Any) -> Any:
    """The norm between the residual stream and the output embeddings."""
    return getattr(model.get_decoder(), family(model).final_norm)


def shape(model: Any) -> Shape:
    """A model's layers and heads, seen by running it once.

    Raises ValueError as `attention_modules` does, and, with the reason, where its heads cannot be read exactly.
    """
    parts = Parts(
        layers_with_attention(model),
        attention_modules(model),
        output_projections(model),
        final_norm(model),
        partial(added, model),
    )
    ids = tuple(map(id, parts.attentions))
    if _shapes.get(model, ((), None))[0] != ids:
        try:
            sizes = probe.head_sizes(model, parts)
            measured: Shape | str = Shape(len(ids), *sizes, len(probe.matrix(parts.projections[0])))
        except torch.OutOfMemoryError:
            raise
        except ValueError as error:
            measured = " ".join(str(error).split())[:300]
        except (RuntimeError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError) as error:
            measured = f"a few tokens could not be run ({' '.join(f'{type(error).__name__}: {error}'.split())[:250]})"
        _shapes[model] = ids, measured
    shape = _shapes[model][1]
    if isinstance(shape, str):
        raise Unfit(model, shape)
    return shape


def problem(model: Any) -> str:
    """Why a model's heads cannot be read and patched exactly, "" where they can."""
    try:
        shape(model)
    except Unfit as error:
        return error.reason
    return ""


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
