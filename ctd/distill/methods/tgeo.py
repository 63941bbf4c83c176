"""Trilateral geometry: how much a trace teaches by teacher and by text follows from how far apart student, teacher and
text are.

Notes: n targets, b texts, k distances and a bias.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ctd.distill.examples import IGNORED, Batch, Example, collate
from ctd.distill.experiment import Experiment
from ctd.distill.methods.method import Course
from ctd.distill.methods.texts import trace_examples
from ctd.distill.methods.token_by_token import Seen, TokenByToken, each_target, fixed, kl_divergence
from ctd.distill.stateful import Stateful
from ctd.distill.token_loss import Loss, last_hidden, token_loss

N_SEEN = 4  # three distances and a bias
SHORT = 0.01  # length of the steps by which a derivative along a direction is measured


def all_but_held(experiment: Experiment, n_held: int = 16) -> list[Example]:
    """Every trace but the last ones, on which the loss looks ahead.

    n_held: how many are held out, a quarter of all at most.
    """
    whole = trace_examples(experiment)
    return whole[: -_n_held(len(whole), n_held)]


def _n_held(n: int, wanted: int) -> int:
    return max(1, min(int(wanted), n // 4))


def tgeo(course: Course, n_held: int = 16, every: int = 10, rate: float = 0.1, stride: float = 0.1) -> Loss:
    """Each trace's own mixture of cross-entropy and a KL to the teacher, by the distances of student, teacher and text.

    The mixture is a logistic function of the mean distances of the three distributions. Its weights take a step now and
    then, down the loss that traces which are held out would have after a step of the student. The distances to the
    teacher's mean prediction of a class, which the source has beside them, are left out: texts have no class.

    n_held: traces that are held out.
    every: steps of the student to a step of the weights.
    rate: length of such a step (ours).
    stride: length of the step of the student that is looked ahead (ours).
    Raises ValueError for fewer than one step.

    Source: Trilateral Geometry, arXiv:2312.15112, as third parties state it; there the samples are images.
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    held = trace_examples(course.experiment)
    return Trilateral(course, held[-_n_held(len(held), n_held) :], int(every), rate, stride)


class Mixture(Stateful):
    """The weights of the mixture: at first all 0, so that teacher and text count alike.

    rate: length of a step.
    """

    def __init__(self, rate: float) -> None:
        super().__init__(N_SEEN, weights=[0.0] * N_SEEN, step=0)
        self.rate = rate

    def forward(self, distances: Float[Tensor, "b k"]) -> Float[Tensor, " b"]:
        """How much the teacher counts in each text."""
        return (distances @ distances.new_tensor(self.state["weights"])).sigmoid()

    def update(self, sums: Sequence[float], done: float) -> None:
        """Count a step; the weights follow the gradient where one was noted."""
        norm = sum(value**2 for value in sums) ** 0.5
        if norm > 0:
            moved = zip(self.state["weights"], sums, strict=True)
            self.state["weights"] = [weight - self.rate * value / norm for weight, value in moved]
        self.state["step"] += 1


class Trilateral(TokenByToken):
    """The loss with its mixture.

    held: texts that are looked at ahead.
    every, rate, stride: as in `tgeo`.
    """

    def __init__(self, course: Course, held: Sequence[Example], every: int, rate: float, stride: float) -> None:
        experiment = course.experiment
        super().__init__(
            lambda seen: seen.target_log_p, experiment.language_model.model, experiment.teacher_states(course.examples)
        )
        self.held, self.every, self.stride, self.mixture = list(held), every, stride, Mixture(rate)

    def forward(self, model: Any, batch: Batch) -> Float[Tensor, ""]:
        """The loss summed over the batch's targets."""
        if not (model.training and batch.n_targets):
            return token_loss(model, batch)
        learned = batch.targets != IGNORED
        states, text = self.states(batch), learned.nonzero()[:, 0]
        distances = self.distances(model, batch, states, text)
        if self.mixture.state["step"] % self.every == 0:
            self.mixture.note(self.slope(model, batch, states, text, distances))
        share = fixed(self.mixture(distances))[text]
        return self.mixed(model, batch, states, share)

    def mixed(
        self, model: Any, batch: Batch, states: Float[Tensor, "n d"], share: Float[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        """The loss where the teacher counts for its share of each target."""

        def tokens(seen: Seen) -> Float[Tensor, " m"]:
            part = share[seen.places]
            return part * kl_divergence(seen.teacher_log_p, seen.log_p) - (1 - part) * seen.target_log_p

        return self.summed(model, last_hidden(model, batch, batch.targets != IGNORED), batch, states, tokens)

    @torch.no_grad()
    def distances(
        self, model: Any, batch: Batch, states: Float[Tensor, "n d"], text: Int[Tensor, " n"]
    ) -> Float[Tensor, "b k"]:
        """The mean distances of each text: student and teacher, teacher and text, student and text; and 1."""
        learned = batch.targets != IGNORED
        target = batch.targets[learned]

        def of_targets(log_p: Float[Tensor, "m v"], places: slice) -> Float[Tensor, "m k"]:
            student, teacher = log_p.exp(), self.teacher_log_p(states[places], log_p.dtype).exp()
            right = torch.zeros_like(student).scatter_(1, target[places][:, None], 1.0)
            pairs = ((student, teacher), (teacher, right), (student, right))
            ones = torch.ones_like(student[:, 0])
            return torch.stack([*((first - second).norm(dim=1) for first, second in pairs), ones], 1)

        return self.by_text(each_target(model, last_hidden(model, batch, learned), of_targets), batch, text)

    @staticmethod
    def by_text(values: Float[Tensor, "n k"], batch: Batch, text: Int[Tensor, " n"]) -> Float[Tensor, "b k"]:
        """The means of values over each text's targets; 0 for a text without any."""
        counts = text.bincount(minlength=len(batch.ids)).clamp(min=1).to(values)
        return values.new_zeros(len(batch.ids), values.shape[1]).index_add(0, text, values) / counts[:, None]

    def slope(
        self,
        model: Any,
        batch: Batch,
        states: Float[Tensor, "n d"],
        text: Int[Tensor, " n"],
        distances: Float[Tensor, "b k"],
    ) -> Float[Tensor, " k"]:
        """The gradient of the held-out loss after a step of the student, by the weights of the mixture.

        The student's gradient is linear in the shares. So the slope of a share is minus the step's length times how
        fast a text's KL less its cross-entropy grows along the held-out gradient, which two passes measure.
        """
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        share = self.mixture(distances)
        with torch.enable_grad():
            of_batch = _gradient(self.mixed(model, batch, states, share[text]) / len(text), weights)
        ahead = collate(self.held, range(len(self.held)), batch.ids.device)
        with moved(weights, of_batch, -self.stride), torch.enable_grad():
            of_held = _gradient(token_loss(model, ahead) / ahead.n_targets, weights)
        short = SHORT / max(torch.cat([part.flatten() for part in of_held]).norm().item(), 1e-12)
        parts = []
        for sign in (short, -short):
            with moved(weights, of_held, sign), torch.no_grad():
                parts.append(self.excess(model, batch, states, text))
        by_share = -self.stride * (parts[0] - parts[1]) / (2 * short)
        return ((by_share * share * (1 - share))[:, None] * distances).sum(0)

    def excess(
        self, model: Any, batch: Batch, states: Float[Tensor, "n d"], text: Int[Tensor, " n"]
    ) -> Float[Tensor, " b"]:
        """Each text's KL minus its cross-entropy, weighted as in the mean of the step."""
        learned = batch.targets != IGNORED
        target = batch.targets[learned]

        def of_targets(log_p: Float[Tensor, "m v"], places: slice) -> Float[Tensor, " m"]:
            teacher = self.teacher_log_p(states[places], log_p.dtype)
            return kl_divergence(teacher, log_p) + log_p.gather(1, target[places][:, None])[:, 0]

        values = each_target(model, last_hidden(model, batch, learned), of_targets)
        return values.new_zeros(len(batch.ids)).index_add(0, text, values) / len(text)


def _gradient(value: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(value, weights, materialize_grads=True))


@contextmanager
def moved(weights: Sequence[Tensor], directions: Sequence[Tensor], length: float) -> Iterator[None]:
    """Weights moved along a direction inside, and as they were after it."""
    before = [weight.detach().clone() for weight in weights]
    try:
        for weight, direction in zip(weights, directions, strict=True):
            weight.data.add_(direction, alpha=length)
        yield
    finally:
        for weight, values in zip(weights, before, strict=True):
            weight.data.copy_(values)
