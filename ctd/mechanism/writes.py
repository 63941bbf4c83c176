"""What heads write to the residual stream, and how far that moves a margin between two labels.

Notes: a head's write is W_O z, times what a norm behind the projection makes of it (see `architecture.write_scale`):
the writes of a layer's heads sum to what its attention adds to the residual stream, less its bias. Length and direction
of a write are told without building it. n queries, h heads, c dimensions of a head, d of the residual stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ctd.reasoning import architecture


class Writes:
    """The output weights of a model, and the products of them that lengths and directions of writes need."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.n_layers, self.n_heads = architecture.shape(model)[:2]
        self.weights = [architecture.output_weights(model, layer) for layer in range(self.n_layers)]
        self.grams = [torch.einsum("dhc,dhe->hce", w.float(), w.float()) for w in self.weights]

    def along(self, layer: int, outputs: Float[Tensor, "n h c"], u: Float[Tensor, "n d"]) -> Float[Tensor, "n h"]:
        """Dot product of each write with a vector of its query."""
        weight = self.weights[layer]
        along = (torch.einsum("nd,dhc->nhc", u.to(weight.dtype), weight).float() * outputs.float()).sum(-1)
        return self._scaled(layer, outputs, along)

    def lengths(self, layer: int, outputs: Float[Tensor, "n h c"]) -> Float[Tensor, "n h"]:
        """Euclidean length of each write."""
        z = outputs.float()
        lengths = torch.einsum("nhc,hce,nhe->nh", z, self.grams[layer], z).clamp(min=0).sqrt()
        return self._scaled(layer, outputs, lengths)

    def cosines(self, layer: int, outputs: Float[Tensor, "n h c"], u: Float[Tensor, " d"]) -> Float[Tensor, "n h"]:
        """Cosine of each write with a vector; 0 where nothing is written, NaN for a vector of NaN."""
        length = self.lengths(layer, outputs) * u.float().norm()
        along = self.along(layer, outputs, u.expand(len(outputs), -1))
        return torch.where(length == 0, 0.0, along / length.clamp(min=torch.finfo(torch.float32).tiny))

    def _scaled(
        self, layer: int, outputs: Float[Tensor, "n h c"], values: Float[Tensor, "n h"]
    ) -> Float[Tensor, "n h"]:
        scale = architecture.write_scale(self.model, layer, outputs)
        return values if scale is None else values * scale


def margin_gradient(
    model: Any, hidden: Float[Tensor, "n d"], gold: Sequence[int], near: Sequence[int]
) -> Float[Tensor, "n d"]:
    """Gradient of logit(gold) - logit(near) with respect to the residual stream before the final norm, float32.

    hidden: that residual stream, a row per query.
    gold: the token of the gold label, an id per query. Logits are taken before any cap.
    near: the token of the near miss, likewise.
    """
    weight = model.get_output_embeddings().weight
    return gradient_along(model, hidden, (weight[list(gold)] - weight[list(near)]).float())


def gradient_along(model: Any, hidden: Float[Tensor, "n d"], difference: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """The same of a difference of logits, given as a difference of unembedding rows, one for each query."""
    with torch.enable_grad():
        leaf = hidden.detach().float().requires_grad_()
        margin = (architecture.final_norm(model)(leaf).float() * difference).sum()
        return torch.autograd.grad(margin, leaf)[0]
