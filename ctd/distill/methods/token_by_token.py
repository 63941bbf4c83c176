"""A loss of single tokens: a function of student's and teacher's distributions over the next token.

Notes: the output layer is computed by pieces, and the gradient by the logits of each piece at once, so that the logits
of all tokens are never held. n targets of a batch, m of them at once, v words, d dimensions of the teacher.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from ctd.distill.examples import IGNORED, Batch
from ctd.distill.stateful import Stateful
from ctd.distill.teacher_states import States
from ctd.distill.token_loss import LOGITS_AT_ONCE, last_hidden, next_token_loss, token_loss


class Seen(NamedTuple):
    """What the loss of some targets is computed from.

    log_p: the student's log-probabilities of the next token.
    teacher_log_p: the teacher's.
    target: the tokens that follow in the text.
    places: which targets of the batch they are.
    done: the fraction of the training's steps that were taken before.
    """

    log_p: Float[Tensor, "m v"]
    teacher_log_p: Float[Tensor, "m v"]
    target: Int[Tensor, " m"]
    places: slice = slice(None)
    done: float = 0.0

    @property
    def target_log_p(self) -> Float[Tensor, " m"]:
        """The student's log-probability of each token that follows."""
        return self.log_p.gather(1, self.target[:, None])[:, 0]


def fixed(value: Tensor) -> Tensor:
    """A value that is taken as given: no gradient passes through it."""
    return value.detach()


def entropy(log_p: Float[Tensor, "m v"]) -> Float[Tensor, " m"]:
    """The entropy of each distribution, in nats."""
    return -(log_p.exp() * log_p).sum(-1)


def kl_divergence(p: Float[Tensor, "m v"], q: Float[Tensor, "m v"]) -> Float[Tensor, " m"]:
    """KL(p || q) of each pair of distributions, given as log-probabilities, in nats."""
    return (p.exp() * (p - q)).sum(-1)


def each_target(
    model: Any, hidden: Float[Tensor, "n e"], function: Callable[[Float[Tensor, "m v"], slice], Float[Tensor, " m"]]
) -> Float[Tensor, " n"]:
    """A value of each target, computed by pieces, whose logits are computed again on the way back.

    hidden: the student's last hidden states.
    function: the values of some targets from their log-probabilities.
    """
    weight = model.get_output_embeddings().weight
    exact = torch.promote_types(weight.dtype, torch.float32)

    def piece(part: Tensor, weight: Tensor, places: slice) -> Tensor:
        return function(linear(part, weight).to(exact).log_softmax(-1), places)

    places = [slice(start, start + LOGITS_AT_ONCE) for start in range(0, len(hidden), LOGITS_AT_ONCE)]
    parts = [checkpoint(piece, hidden[part], weight, part, use_reentrant=False) for part in places]
    return torch.cat(parts) if parts else hidden.sum(-1)


class TokenByToken(nn.Module):
    """The sum of a loss over a batch's targets, in training mode; otherwise the token loss.

    tokens: the loss of each target from what was `Seen`.
    teacher: its model, whose output layer is used.
    states: the teacher's last hidden states.
    """

    def __init__(self, tokens: Callable[[Seen], Float[Tensor, " m"]], teacher: Any, states: States) -> None:
        super().__init__()
        self.tokens, self.states = tokens, states
        self.head = [teacher.get_output_embeddings()]  # in a list: the teacher's weights are not the loss's own

    def forward(self, model: Any, batch: Batch) -> Float[Tensor, ""]:
        """The loss summed over the batch's targets."""
        if not model.training:
            return token_loss(model, batch)
        learned = batch.targets != IGNORED
        hidden = last_hidden(model, batch, learned)
        total = self.summed(model, hidden, batch, self.states(batch), self.tokens)
        if isinstance(self.tokens, Stateful):
            self.tokens.note(total, len(hidden))
        return total

    def summed(
        self,
        model: Any,
        hidden: Float[Tensor, "n e"],
        batch: Batch,
        states: Float[Tensor, "n d"],
        tokens: Callable[[Seen], Float[Tensor, " m"]],
    ) -> Float[Tensor, ""]:
        """The sum over all targets.

        hidden: the student's last hidden states.
        states: the teacher's.
        tokens: the loss of each target.
        """
        learned = batch.targets != IGNORED
        target = batch.targets[learned]
        weights = None if batch.weights is None else batch.weights[learned]

        def criterion(log_p: Float[Tensor, "m v"], rows: slice) -> tuple[Float[Tensor, ""], Float[Tensor, "m v"]]:
            teacher = self.teacher_log_p(states[rows], log_p.dtype)
            with torch.enable_grad():
                leaf = log_p.detach().requires_grad_()
                values = tokens(Seen(leaf, teacher, target[rows], rows, batch.done))
                value = (values if weights is None else values * weights[rows]).sum()
                (gradient,) = torch.autograd.grad(value, leaf)
            by_logits = gradient - leaf.detach().exp() * gradient.sum(-1, keepdim=True)
            return value.detach(), by_logits

        return next_token_loss(model, hidden, criterion)

    @torch.no_grad()
    def teacher_log_p(self, states: Float[Tensor, "m d"], dtype: torch.dtype) -> Float[Tensor, "m v"]:
        """The teacher's log-probabilities of the next token."""
        return self.head[0](states).to(dtype).log_softmax(-1)
