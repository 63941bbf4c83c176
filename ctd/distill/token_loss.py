"""The loss of a text: cross-entropy of its target tokens, the output layer computed by pieces to keep memory small.

Notes: b examples of a batch, s tokens, n targets, d dimensions, v words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ctd.distill.examples import IGNORED, Batch, Example, collate
from ctd.reasoning import architecture

LOGITS_AT_ONCE = 256  # rows of the output layer: more do not stay in the processor's cache

Loss = Callable[[nn.Module, Batch], Tensor]  # summed over the batch's targets


def token_loss(model: Any, batch: Batch) -> Tensor:
    """Summed cross-entropy of a batch's targets (nats), output layer by pieces to keep memory small.

    For models whose logits are the last hidden state times one matrix; `check_head` refuses others.
    """
    hidden = model.get_decoder()(input_ids=batch.ids, use_cache=False).last_hidden_state
    wanted = batch.targets != IGNORED
    weight = model.get_output_embeddings().weight
    weight = weight if torch.is_grad_enabled() else weight.detach()
    return _OutputLayer.apply(hidden[wanted], batch.targets[wanted], weight)


class _OutputLayer(torch.autograd.Function):
    """Output layer and cross-entropy, some rows at a time; the gradient is computed on the way forward."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Float[Tensor, "n d"], targets: Int[Tensor, " n"], weight: Float[Tensor, "v d"]
    ) -> Float[Tensor, ""]:
        of_hidden, _, of_weight = ctx.needs_input_grad
        exact = torch.promote_types(weight.dtype, torch.float32)
        total, grads = hidden.new_zeros((), dtype=exact), []
        grad_weight = torch.zeros_like(weight, dtype=exact) if of_weight else None
        for rows, wanted in zip(hidden.split(LOGITS_AT_ONCE), targets.split(LOGITS_AT_ONCE), strict=True):
            log_p = (rows @ weight.T).to(exact).log_softmax(-1)
            total -= log_p.gather(1, wanted[:, None]).sum()
            if of_hidden or of_weight:
                p = log_p.exp_()
                p.scatter_add_(1, wanted[:, None], p.new_full((len(wanted), 1), -1.0))
            if of_hidden:
                grads.append(p.to(weight.dtype) @ weight)
            if grad_weight is not None:
                grad_weight += p.T @ rows.to(exact)
        ctx.grads = torch.cat(grads) if grads else None
        ctx.grad_weight = grad_weight.to(weight.dtype) if grad_weight is not None else None
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        (by,) = upstream
        hidden, weight = (None if grad is None else (grad * by).to(grad.dtype) for grad in (ctx.grads, ctx.grad_weight))
        return hidden, None, weight


def check_head(model: Any, example: Example) -> None:
    """Raises ValueError for a model that `token_loss` does not fit."""
    architecture.check_logits(model, collate([example], [0], next(model.parameters()).device).ids[:, :8])
