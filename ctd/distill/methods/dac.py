"""DAC: the part of the teacher's distribution between two learned bounds, and how probabilities go together in labels.

Notes: k pairs of neighbouring tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid
from torch.utils.checkpoint import checkpoint

from ctd.distill.examples import IGNORED, Batch
from ctd.distill.methods.method import Course
from ctd.distill.methods.token_by_token import TokenByToken, each_target, fixed, kl_divergence
from ctd.distill.token_loss import LOGITS_AT_ONCE, Loss, last_hidden, token_loss

BEGIN = (-9.0, 3.0)  # log-probabilities between which all lies at first


def dac(course: Course, text: float = 1.0, spans: float = 0.1, likeliest: int = 64) -> Loss:
    """Cross-entropy, KL from the dense part of the teacher's distribution, and products of probabilities in labels.

    A small network sees the likeliest probabilities of both models and sets the bounds of that part. Bounds are soft,
    so that it can learn, and labels of the shortlist are the spans (ours; the source finds spans by a parser). The
    source's correction of the student's own texts is left out.

    text: weight of the cross-entropy.
    spans: weight of the products.
    likeliest: how many probabilities the network sees, and products are compared.
    Raises ValueError for fewer than one.

    Source: Liu et al. (2024), arXiv:2407.10068, as third parties state it.
    """
    if likeliest < 1:
        raise ValueError(f"likeliest must be at least 1, got {likeliest}")
    return Clipped(course, text, spans, int(likeliest))


def clipped(
    teacher: Float[Tensor, "m v"], student: Float[Tensor, "m v"], bounds: Float[Tensor, "m 2"]
) -> Float[Tensor, " m"]:
    """KL of a part of the teacher's distribution, which is made to sum to 1, from the student's.

    teacher: log-probabilities of all tokens.
    student: likewise.
    bounds: the log-probabilities between which a token belongs to the part; it fades out beyond them.
    """
    low, high = bounds[:, :1], bounds[:, 1:]
    part = (teacher + logsigmoid(teacher - low) + logsigmoid(high - teacher)).log_softmax(-1)
    return kl_divergence(part, student)


class Bounds(nn.Module):
    """The bounds from the likeliest probabilities of both models, which are taken as given.

    likeliest: how many of each.
    seed: of the first weights.
    """

    def __init__(self, likeliest: int, seed: int, width: int = 64) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2 * likeliest, width), nn.Linear(width, 2)
        drawn = torch.randn(self.first.weight.shape, generator=torch.Generator().manual_seed(seed))
        self.first.weight.data = drawn / (2 * likeliest) ** 0.5
        self.last.bias.data = torch.tensor(BEGIN)
        for zero in (self.first.bias, self.last.weight):
            nn.init.zeros_(zero)

    def forward(self, teacher: Float[Tensor, "m v"], student: Float[Tensor, "m v"]) -> Float[Tensor, "m 2"]:
        """The log-probabilities of the lower and the upper bound."""
        n = self.first.in_features // 2
        seen = torch.cat([fixed(log_p).topk(n).values.exp() for log_p in (teacher, student)], 1)
        return self.last(torch.tanh(self.first(seen)))


class Clipped(TokenByToken):
    """The loss with its network, whose gradient passes through the output layer's pieces.

    course: what the loss of one student is made from.
    text: weight of the text itself, beside the clipped divergence.
    spans: weight of the products over tokens that stand together in a label.
    likeliest: probabilities that the network sees.
    """

    def __init__(self, course: Course, text: float, spans: float, likeliest: int) -> None:
        experiment, model = course.experiment, course.experiment.language_model.model
        super().__init__(lambda seen: seen.target_log_p, model, experiment.teacher_states(course.examples))
        n_words = model.get_output_embeddings().weight.shape[0]
        weight = course.student.get_output_embeddings().weight
        self.bounds = Bounds(min(likeliest, n_words), course.draw)
        self.bounds.to(torch.promote_types(weight.dtype, torch.float32))
        self.text, self.spans, self.likeliest = text, spans, min(likeliest, n_words)
        self.lines = [experiment.annotated_traces[example.trace].shortlist for example in course.examples]

    def forward(self, model: Any, batch: Batch) -> Float[Tensor, ""]:
        """The loss summed over the batch's targets."""
        if not (model.training and batch.n_targets):
            return token_loss(model, batch)
        learned = batch.targets != IGNORED
        hidden, states, target = last_hidden(model, batch, learned), self.states(batch), batch.targets[learned]

        def value(log_p: Float[Tensor, "m v"], places: slice) -> Float[Tensor, " m"]:
            teacher = self.teacher_log_p(states[places], log_p.dtype)
            right = log_p.gather(1, target[places][:, None])[:, 0]
            return clipped(teacher, log_p, self.bounds(teacher, log_p)) - self.text * right

        total = each_target(model, hidden, value).sum()
        first, weights = self.pairs(batch)
        if not (self.spans and len(first)):
            return total
        return total + self.spans * (weights.to(total) * self.products(model, hidden, states, first)).sum()

    def pairs(self, batch: Batch) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
        """The first target of every two that stand together in a label, and what the two count.

        A text's pairs count as much together as it has targets.
        """
        numbers = torch.full_like(batch.targets, -1)
        learned = batch.targets != IGNORED
        numbers[learned] = torch.arange(int(learned.sum()), device=numbers.device)
        first, weights = [], []
        for row, line in zip(numbers, (self.lines[row] for row in batch.rows), strict=True):
            places = [place - 1 for start, end in line for place in range(start, end - 1)]
            pairs = row[places][(row[places] >= 0) & (row[[place + 1 for place in places]] >= 0)]
            first.append(pairs)
            weights.append(torch.full((len(pairs),), (row >= 0).sum().item() / max(len(pairs), 1)))
        return torch.cat(first), torch.cat(weights)

    def products(
        self, model: Any, hidden: Float[Tensor, "n e"], states: Float[Tensor, "n d"], first: Int[Tensor, " k"]
    ) -> Float[Tensor, " k"]:
        """The squared distance of two neighbours' products of probabilities, at the teacher's largest ones."""
        weight = model.get_output_embeddings().weight
        exact = torch.promote_types(weight.dtype, torch.float32)

        def piece(hidden: Tensor, weight: Tensor, first: Tensor) -> Tensor:
            teacher = self.teacher_log_p(states[first], exact) + self.teacher_log_p(states[first + 1], exact)
            largest, words = teacher.topk(self.likeliest)
            before, after = (linear(hidden[place], weight).to(exact).log_softmax(-1) for place in (first, first + 1))
            student = before.gather(1, words) + after.gather(1, words)
            return ((largest.exp() - student.exp()) ** 2).sum(-1)

        parts = first.split(LOGITS_AT_ONCE)
        return torch.cat([checkpoint(piece, hidden, weight, part, use_reentrant=False) for part in parts])
