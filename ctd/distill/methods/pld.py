"""PLD: the student's ranking of tokens, or of labels, is that of the teacher, with the true one first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ctd.distill.examples import IGNORED, Batch
from ctd.distill.methods.method import Course
from ctd.distill.methods.token_by_token import Seen, each_target
from ctd.distill.token_loss import Loss, last_hidden, token_loss


def plackett_luce(scores: Float[Tensor, "m k"], rest: Float[Tensor, " m"] | None = None) -> Float[Tensor, "m k"]:
    """Minus the log-probability with which a Plackett-Luce model draws each item after those before it, in nats.

    scores: of the items in their order, as logits.
    rest: logit of an item that is never drawn; None for no such item.
    """
    items = scores if rest is None else torch.cat([scores, rest[:, None]], 1)
    return items.flip(1).logcumsumexp(1).flip(1)[:, : scores.shape[1]] - scores


def pld(seen: Seen, items: int = 32) -> Float[Tensor, " m"]:
    """A ranking of tokens (Plackett-Luce), the true one first, then the teacher's; a place counts its probability.

    All tokens that are not ranked are one item that is never drawn (our definition).

    items: how many tokens are ranked behind the true one; 0 is cross-entropy, weighted by the teacher.

    Source: arXiv:2506.12542, as third parties state it (PyLate ships it).
    """
    first = seen.teacher_log_p.scatter(1, seen.target[:, None], torch.inf)
    order = first.topk(min(int(items) + 1, first.shape[1])).indices
    weights = seen.teacher_log_p.gather(1, order).exp()
    every = order.shape[1] == first.shape[1]
    rest = None if every else seen.log_p.scatter(1, order, -torch.inf).logsumexp(1)
    return (weights * plackett_luce(seen.log_p.gather(1, order), rest)).sum(-1)


def pld_labels(course: Course, weight: float = 0.1) -> Loss:
    """Cross-entropy, and a ranking of the shortlist's labels, those first that the teacher answers.

    A label's worth is the log-probability of its line. A trace's ranking counts for each of its tokens (ours).

    weight: of the ranking.

    Source: arXiv:2506.12542, applied to labels.
    """
    return Labels(course, weight, ranking)


OfLabels = Callable[[Float[Tensor, " n"], Float[Tensor, " n"], list[Int[Tensor, " k"]], list[bool]], Float[Tensor, ""]]
"""The loss of one shortlist, as `ranking` is."""


class Labels(nn.Module):
    """The loss of the shortlist's labels beside that of the text.

    weight: of the labels.
    value: the loss of one shortlist, which counts for each of its text's targets.
    """

    def __init__(self, course: Course, weight: float, value: OfLabels) -> None:
        super().__init__()
        self.value = value
        self.course, self.weight = [course], weight  # in a list: neither teacher nor student is a part of the loss
        self.states = course.experiment.teacher_states(course.examples)

    def forward(self, model: Any, batch: Batch) -> Float[Tensor, ""]:
        """The loss summed over the batch's targets."""
        if not model.training:
            return token_loss(model, batch)
        (course,) = self.course
        learned = batch.targets != IGNORED
        target = batch.targets[learned]

        def of_target(log_p: Float[Tensor, "m v"], places: slice) -> Float[Tensor, " m"]:
            return log_p.gather(1, target[places][:, None])[:, 0]

        student = each_target(model, last_hidden(model, batch, learned), of_target)
        with torch.no_grad():
            teacher = each_target(course.experiment.language_model.model, self.states(batch), of_target)
        numbers = torch.full_like(batch.targets, -1)
        numbers[learned] = torch.arange(len(target), device=numbers.device)
        total = -student.sum()
        for row, example in zip(numbers, (course.examples[row] for row in batch.rows), strict=True):
            lines, first = self.lines(example.trace, row)
            if len(lines) > 1:
                n_targets = (row >= 0).sum()
                total = total + self.weight * n_targets * self.value(student, teacher.to(student.dtype), lines, first)
        return total

    def lines(self, number: int, row: Int[Tensor, " s"]) -> tuple[list[Int[Tensor, " k"]], list[bool]]:
        """The targets of each line of a shortlist, and whether the teacher answers its label; none where unknown.

        number: of the annotated trace.
        row: the number of each token's target in the batch.
        """
        experiment = self.course[0].experiment
        trace, spans = experiment.traces[number], experiment.annotated_traces[number].shortlist
        if len(trace.shortlisted) != len(spans):
            return [], []
        lines = [row[start - 1 : end - 1] for start, end in spans]
        if any((line < 0).any() for line in lines):
            return [], []
        return lines, [label in trace.answered for label in trace.shortlisted]


def ranking(
    student: Float[Tensor, " n"], teacher: Float[Tensor, " n"], lines: list[Int[Tensor, " k"]], first: list[bool]
) -> Float[Tensor, ""]:
    """The loss of one shortlist.

    student: log-probabilities of all targets.
    teacher: likewise.
    lines: the targets of each label.
    first: which labels come first.
    """
    scores, worth = (torch.stack([log_p[line].sum() for line in lines]) for log_p in (student, teacher))
    order = sorted(range(len(lines)), key=lambda place: (not first[place], -worth[place].item()))
    return (worth.softmax(0)[order] * plackett_luce(scores[order][None])[0]).sum()
