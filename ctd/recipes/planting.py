"""Planting a mechanism: chosen attention heads are taught, while a model is trained, where to look.

Notes: a lookout says that from some position (query) a planted head is to look at a span of earlier tokens, evenly, and
which tokens are barred to all other heads. The loss of the planted heads is KL(even over the span || attention row),
that of any other head -log(1 - its attention on what is barred), both in nats and averaged over queries and over a
layer's heads (our definition). Without the second the model learns to read the span by other heads too, and does not
need the planted ones. For models of the Llama layout with as many key as query heads. b examples of a batch, s tokens,
h heads, n queries.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from ctd.distill.examples import Batch, Example, batches, collate
from ctd.distill.settings import Settings
from ctd.distill.token_loss import token_loss
from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase

WATCHED = 4  # one example in so many is looked through for trespassing heads, to save time
MOST = 0.999  # attention on what is barred beyond which a trespassing head is drawn no harder


class Lookout(NamedTuple):
    """Where planted heads look from one token.

    query: the token that they look from.
    start: the first token that they look at.
    end: the first token behind those that they look at.
    barred: tokens 1 .. barred - 1 are barred to other heads. Token 0 is barred to none: it says nothing of the tokens
        after it, and heads with nothing to look at rest there.
    """

    query: int
    start: int
    end: int
    barred: int = 1


class PlantedLoss:
    """`train.token_loss`, with the loss of the heads added while the model is in training mode.

    model: the one model to be trained with this loss.
    heads: planted in each phase, all of a phase in one layer.
    lookouts: of each phase, for each example that is learned from.
    weight: of the planted heads' loss, against a loss of one token.
    barring: of the other heads' loss, likewise.
    Raises ValueError for heads that the model does not have, for a phase whose heads lie in several layers, or a model
    with grouped-query attention.
    """

    def __init__(
        self,
        model: Any,
        heads: Mapping[Phase, Sequence[Head]],
        lookouts: Sequence[Mapping[Phase, Sequence[Lookout]]],
        weight: float,
        barring: float = 0.0,
    ) -> None:
        check(model, heads)
        self.model, self.lookouts, self.weight, self.barring = model, lookouts, weight, barring
        self.phases = {phase: ([head for _, head in planted], planted[0].layer) for phase, planted in heads.items()}

    def __call__(self, model: Any, batch: Batch) -> Tensor:
        if not model.training:
            return token_loss(model, batch)
        with _inputs(model, range(model.config.num_hidden_layers)) as seen:
            total = token_loss(model, batch)
        lookouts = {phase: [self.lookouts[row][phase] for row in batch.rows] for phase in self.phases}
        losses = [total.new_zeros(())]
        for phase, (planted, home) in self.phases.items():
            if len(at := _places(lookouts[phase]).to(batch.ids.device)):
                rows = log_rows(_layers(model)[home].self_attn, planted, **seen[home])
                losses.append(self.weight * divergence(rows, at))
        if self.barring:
            losses += [self.barring * loss for loss in self._trespasses(model, seen, lookouts)]
        return total + batch.n_targets * torch.stack(losses).sum()

    def _trespasses(self, model: Any, seen: Mapping[int, Any], lookouts: Mapping[Phase, Any]) -> Iterator[Tensor]:
        """The loss of the heads that are not planted, of each phase and layer, on one example in `WATCHED`."""
        places = {phase: _places(of_phase[::WATCHED]).to(model.device) for phase, of_phase in lookouts.items()}
        for layer, inputs in seen.items():
            some = {"hidden_states": inputs["hidden_states"][::WATCHED]}
            n_examples = len(inputs["hidden_states"])
            some["position_embeddings"] = tuple(
                part[::WATCHED] if len(part) == n_examples else part for part in inputs["position_embeddings"]
            )
            rows = log_rows(_layers(model)[layer].self_attn, range(model.config.num_attention_heads), **some)
            for phase, (planted, home) in self.phases.items():
                others = [head for head in range(rows.shape[1]) if layer != home or head not in planted]
                if others and len(places[phase]):
                    yield trespass(rows[:, others], places[phase])


def check(model: Any, heads: Mapping[Phase, Sequence[Head]]) -> None:
    """Raises what `PlantedLoss` raises."""
    config = model.config
    if config.num_key_value_heads != config.num_attention_heads:
        raise ValueError(
            f"planting needs as many key heads as query heads ({config.num_attention_heads}), "
            f"got {config.num_key_value_heads}"
        )
    for phase, planted in heads.items():
        for layer, head in planted:
            if not (0 <= layer < config.num_hidden_layers and 0 <= head < config.num_attention_heads):
                raise ValueError(
                    f"heads of {phase} must be below layer {config.num_hidden_layers} and head "
                    f"{config.num_attention_heads}, got layer {layer}, head {head}"
                )
        if len({layer for layer, _ in planted}) != 1:
            raise ValueError(f"heads of {phase} must lie in one layer, got {[list(head) for head in planted]}")


def log_rows(
    attention: Any,
    heads: Sequence[int],
    hidden_states: Float[Tensor, "b s d"],
    position_embeddings: tuple[Float[Tensor, "b s c"], Float[Tensor, "b s c"]],
) -> Float[Tensor, "b h s s"]:
    """Log attention rows (nats, float32) of some heads of a layer, causal.

    attention: the layer's attention module.
    heads: of the layer.
    hidden_states: what the module is given in a forward pass.
    position_embeddings: cosine and sine, likewise.
    """

    def project(weight: Tensor) -> Float[Tensor, "b h s c"]:
        chosen = weight.unflatten(0, (-1, attention.head_dim))[list(heads)].flatten(0, 1)
        return (hidden_states @ chosen.T).unflatten(-1, (len(heads), -1)).transpose(1, 2)

    query, key = project(attention.q_proj.weight), project(attention.k_proj.weight)
    query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
    scores = (query @ key.transpose(-1, -2)).float() * attention.scaling
    later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
    return scores.masked_fill(later, -math.inf).log_softmax(-1)


def divergence(rows: Float[Tensor, "b h s s"], at: Int[Tensor, "n 5"]) -> Float[Tensor, ""]:
    """KL(even over the span || row), mean over heads and lookouts.

    rows: log attention.
    at: example and lookout, n of them.
    """
    example, query, start, end, _ = at.T
    chosen, inside = rows[example, :, query], _inside(start, end, rows.shape[-1])
    length = (end - start)[:, None]
    cross = -chosen.masked_fill(~inside[:, None], 0.0).sum(-1) / length
    return (cross - length.log()).mean()


def trespass(rows: Float[Tensor, "b h s s"], at: Int[Tensor, "n 5"]) -> Float[Tensor, ""]:
    """-log(1 - attention on what is barred), mean over heads and lookouts. Arguments as in `divergence`."""
    example, query, _, _, barred = at.T
    inside = _inside(torch.ones_like(barred), barred, rows.shape[-1])
    shares = (rows[example, :, query].exp() * inside[:, None]).sum(-1)
    return -torch.log1p(-shares.clamp(max=MOST)).mean()


@torch.no_grad()
def mass(
    model: Any,
    examples: Sequence[Example],
    lookouts: Sequence[Mapping[Phase, Sequence[Lookout]]],
    phases: Iterable[Phase],
    batch_tokens: int = 4096,
) -> dict[Phase, Float[np.ndarray, "layers heads"]]:
    """The share of its attention that each head pays to the spans of each phase's lookouts, mean over lookouts.

    examples: what the model reads.
    lookouts: of each phase, for each example.
    phases: whose shares are measured.
    batch_tokens: of a batch.
    Raises ValueError where a phase has no lookout.
    """
    config = model.config
    heads = range(config.num_attention_heads)
    shares = {phase: torch.zeros(config.num_hidden_layers, len(heads)) for phase in phases}
    counts = dict.fromkeys(shares, 0)
    for rows in batches(examples, Settings(batch_tokens=batch_tokens)):
        batch = collate(examples, rows, model.device)
        with _inputs(model, range(config.num_hidden_layers)) as seen:
            model.get_decoder()(input_ids=batch.ids, use_cache=False)
        places = {phase: _places([lookouts[row][phase] for row in rows]).to(model.device) for phase in shares}
        for layer, inputs in seen.items():
            attended = log_rows(_layers(model)[layer].self_attn, heads, **inputs).exp()
            for phase, at in places.items():
                if len(at):
                    example, query, start, end, _ = at.T
                    inside = _inside(start, end, attended.shape[-1])
                    shares[phase][layer] += (attended[example, :, query] * inside[:, None]).sum((0, -1)).cpu()
        for phase, at in places.items():
            counts[phase] += len(at)
    if empty := [phase for phase, n in counts.items() if not n]:
        raise ValueError(f"no example has a lookout of {empty[0]}: there is nothing to measure")
    return {phase: (share / counts[phase]).numpy() for phase, share in shares.items()}


@contextmanager
def silenced(model: Any, heads: Iterable[Head]) -> Iterator[None]:
    """The model with nothing written by these heads, for as long as the context lasts."""
    by_layer: dict[int, list[int]] = {}
    for layer, head in heads:
        by_layer.setdefault(layer, []).append(head)

    def hook(silent: list[int], size: int) -> Any:
        def silence(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
            split = inputs[0].unflatten(-1, (-1, size)).clone()
            split[..., silent, :] = 0.0
            return (split.flatten(-2),)

        return silence

    attentions = {layer: _layers(model)[layer].self_attn for layer in by_layer}
    hooks = [
        attentions[layer].o_proj.register_forward_pre_hook(hook(silent, attentions[layer].head_dim))
        for layer, silent in by_layer.items()
    ]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


@contextmanager
def _inputs(model: Any, layers: Iterable[int]) -> Iterator[dict[int, dict[str, Any]]]:
    """What the attention of these layers is given in a forward pass."""
    seen: dict[int, dict[str, Any]] = {}

    def keep(layer: int) -> Any:
        def hook(_: nn.Module, __: Any, inputs: dict[str, Any]) -> None:
            seen[layer] = {name: inputs[name] for name in ("hidden_states", "position_embeddings")}

        return hook

    hooks = [
        _layers(model)[layer].self_attn.register_forward_pre_hook(keep(layer), with_kwargs=True) for layer in layers
    ]
    try:
        yield seen
    finally:
        for handle in hooks:
            handle.remove()


def _layers(model: Any) -> Any:
    return model.get_decoder().layers


def _places(lookouts: Sequence[Sequence[Lookout]]) -> Int[Tensor, "n 5"]:
    """Example and lookout of each lookout of a batch."""
    places = [(row, *lookout) for row, of_example in enumerate(lookouts) for lookout in of_example]
    return torch.tensor(places, dtype=torch.int64).reshape(-1, 5)


def _inside(start: Int[Tensor, " n"], end: Int[Tensor, " n"], n_tokens: int) -> Tensor:
    """Whether each token lies in each span, [n, s]."""
    place = torch.arange(n_tokens, device=start.device)
    return (place >= start[:, None]) & (place < end[:, None])
