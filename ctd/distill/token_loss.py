"""The loss of a text: cross-entropy of its target tokens, or another loss of the distribution over the next token.

Notes: the output layer is computed by pieces, so that the logits of all tokens are never held at once, and for target
tokens alone. torch's own `linear_cross_entropy` does the same for cross-entropy, but sums the loss in bfloat16 under
autocast and took one and a half to six times as long there. b examples of a batch, s tokens, n targets, d dimensions,
v words; m of the targets at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ctd.distill.examples import IGNORED, Batch, Example, collate
from ctd.reasoning import architecture

LOGITS_AT_ONCE = 256  # rows of the output layer: more do not stay in the processor's cache

Loss = Callable[[nn.Module, Batch], Tensor]  # summed over the batch's targets
Criterion = Callable[[Float[Tensor, "m v"], slice], tuple[Float[Tensor, ""], Float[Tensor, "m v"]]]
"""A loss of some targets (which ones, as a slice) from their log-probabilities, and its gradient by the logits.

It may overwrite the log-probabilities."""


def token_loss(model: Any, batch: Batch) -> Tensor:
    """Summed cross-entropy of a batch's targets (nats), each times its weight.

    For models whose logits are the last hidden state times one matrix; `check_head` refuses others.
    """
    learned = batch.targets != IGNORED
    targets = batch.targets[learned][:, None]
    weights = None if batch.weights is None else batch.weights[learned][:, None]

    def cross_entropy(log_p: Float[Tensor, "m v"], rows: slice) -> tuple[Float[Tensor, ""], Float[Tensor, "m v"]]:
        wanted = targets[rows]
        values = -log_p.gather(1, wanted)
        gradient = log_p.exp_().scatter_add_(1, wanted, log_p.new_full(wanted.shape, -1.0))
        if weights is None:
            return values.sum(), gradient
        return (values * weights[rows]).sum(), gradient.mul_(weights[rows])

    return next_token_loss(model, last_hidden(model, batch, learned), cross_entropy)


def last_hidden(model: Any, batch: Batch, learned: Bool[Tensor, "b s"]) -> Float[Tensor, "n d"]:
    """The last hidden state of each token after which something is learned."""
    hidden: Tensor = model.get_decoder()(input_ids=batch.ids, use_cache=False).last_hidden_state
    return hidden[learned]


def next_token_loss(model: Any, hidden: Float[Tensor, "n d"], criterion: Criterion) -> Float[Tensor, ""]:
    """The sum of a loss of the distribution over the next token.

    hidden: the last hidden state of each target.
    criterion: the loss of some of them.
    """
    weight = model.get_output_embeddings().weight
    weight = weight if torch.is_grad_enabled() else weight.detach()
    return _OutputLayer.apply(hidden, weight, criterion)


class _OutputLayer(torch.autograd.Function):
    """Output layer and loss, some rows at a time; the gradient is computed on the way forward.

    Under autocast the products are computed in its precision, and what is summed in float32.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Float[Tensor, "n d"], weight: Float[Tensor, "v d"], criterion: Criterion
    ) -> Float[Tensor, ""]:
        of_hidden, of_weight, _ = ctx.needs_input_grad
        exact = torch.promote_types(weight.dtype, torch.float32)
        device = weight.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        matrix = weight.to(dtype)  # once: autocast would do it anew for every piece
        total, grads = hidden.new_zeros((), dtype=exact), []
        grad_weight = torch.zeros_like(weight, dtype=exact) if of_weight else None
        for start in range(0, len(hidden), LOGITS_AT_ONCE):
            rows = slice(start, start + LOGITS_AT_ONCE)
            part = hidden[rows].to(dtype)
            value, gradient = criterion((part @ matrix.T).to(exact).log_softmax(-1), rows)
            total += value
            gradient = gradient.to(dtype)
            if of_hidden:
                grads.append(gradient @ matrix)
            if grad_weight is not None:
                grad_weight += gradient.T @ part
        ctx.grads = torch.cat(grads).to(hidden.dtype) if grads else None
        ctx.grad_weight = grad_weight.to(weight.dtype) if grad_weight is not None else None
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (by,) = upstream
        hidden, weight = (None if grad is None else (grad * by).to(grad.dtype) for grad in (ctx.grads, ctx.grad_weight))
        return hidden, weight, None


def check_head(model: Any, example: Example) -> None:
    """Raises ValueError for a model that `token_loss` does not fit."""
    architecture.check_logits(model, collate([example], [0], next(model.parameters()).device).ids[:, :8])
