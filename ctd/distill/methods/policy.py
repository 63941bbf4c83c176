"""Losses of the student's own texts, which count by their rewards: kdrl, trrd and rlvr.

Notes: a round is a stage. The student as the stage before left it writes some texts about each document, without the
grammar of labels, so that their probabilities are its own; then it learns from them. A text's advantage is its F1 less
the mean of its document's texts, in their standard deviations. n targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ctd.distill.examples import IGNORED, Batch, Example
from ctd.distill.experiment import Experiment
from ctd.distill.methods.method import Course
from ctd.distill.methods.scoring import batch_log_p, target_log_p
from ctd.distill.methods.student_samples import own_texts
from ctd.distill.methods.texts import f1, gold_labels
from ctd.distill.token_loss import Loss, token_loss

Value = Callable[..., Float[Tensor, " n"]]
"""The loss of targets from their log-probabilities now, before the round and by the teacher, their text's advantage,
and the fraction of the round that is done."""


def own_samples(experiment: Experiment, student: Any, n_documents: int = 64, group: int = 4) -> list[Example]:
    """The student's own texts about the first documents, each with its advantage.

    student: as the stage before left it.
    n_documents: how many documents it writes about.
    group: texts about each.
    Raises ValueError for fewer than two texts, of which none could be better than another.
    """
    if group < 2:
        raise ValueError(f"group must be at least 2, got {group}: texts count against others about their document")
    documents = experiment.traces[: int(n_documents)]
    gold, texts = gold_labels(experiment), own_texts(experiment, student, documents, int(group))
    learned = []
    for place in range(0, len(texts), int(group)):
        part = texts[place : place + int(group)]
        right = gold[documents[place // int(group)].uid]
        rewards = [f1(set(text.trace.answered), right) for text in part]
        learned += [text.example._replace(value=value) for text, value in zip(part, advantages(rewards), strict=True)]
    return learned


def advantages(rewards: Sequence[float]) -> list[float]:
    """How much better each text of a group is than their mean, in standard deviations."""
    centred = np.array(rewards) - np.mean(rewards)
    values: list[float] = (centred / (np.std(rewards) + 1e-4)).tolist()
    return values


def kdrl(course: Course, first: float = 5e-3, last: float = 1e-3, clip: float = 0.2) -> Loss:
    """The student's better texts become likelier, and its tokens are held near the teacher's probabilities (k2).

    first: weight of the teacher at the beginning of a round, from which it falls in a line.
    last: its weight at the end.
    clip: by how much a probability may change in a round.

    Source: KDRL, arXiv:2506.02208, equations 8 and 21, as third parties state them.
    """
    return Policy(course, partial(with_k2, first=first, last=last, clip=clip))


def trrd(course: Course, own: float = 0.5, clip: float = 0.2) -> Loss:
    """The student's better texts become likelier, measured against a mixture of itself before and its teacher.

    own: share of itself before the round in that mixture; at 1 it is rlvr.
    clip: by how much a probability may change against the mixture.

    Source: Reinforcement-aware Knowledge Distillation, arXiv:2602.22495, equation 5, as third parties state it.
    """
    return Policy(course, partial(against_mixture, own=own, clip=clip))


def rlvr(course: Course, clip: float = 0.2) -> Loss:
    """The student's better texts become likelier, and its worse ones less likely.

    clip: by how much a probability may change in a round.

    Source: AlphaMed, arXiv:2505.17952, which learns from no trace at all; here a few teach the format (ours).
    """
    return Policy(course, partial(against_mixture, own=1.0, clip=clip))


def against_mixture(
    now: Float[Tensor, " n"],
    before: Float[Tensor, " n"],
    teacher: Float[Tensor, " n"],
    advantage: Float[Tensor, " n"],
    done: float = 0.0,
    own: float = 1.0,
    clip: float = 0.2,
) -> Float[Tensor, " n"]:
    """GRPO's loss of targets, whose ratio is against a mixture of the student before and the teacher."""
    ratio = (now - own * before - (1 - own) * teacher).exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def with_k2(
    now: Float[Tensor, " n"],
    before: Float[Tensor, " n"],
    teacher: Float[Tensor, " n"],
    advantage: Float[Tensor, " n"],
    done: float = 0.0,
    first: float = 5e-3,
    last: float = 1e-3,
    clip: float = 0.2,
) -> Float[Tensor, " n"]:
    """GRPO's loss of targets, and half the square of what the teacher's log-probability differs by."""
    weight = first + (last - first) * done
    return against_mixture(now, before, teacher, advantage, clip=clip) + weight * (teacher - now) ** 2 / 2


class Policy(nn.Module):
    """The sum of a loss over the targets of the student's texts, in training mode; otherwise the token loss.

    course: its student is that which wrote the texts, as it stands now.
    value: the loss of some targets.
    """

    def __init__(self, course: Course, value: Value) -> None:
        super().__init__()
        self.value = value
        self.advantages = [example.value for example in course.examples]
        self.before = target_log_p(course.student, course.examples)
        self.teacher = target_log_p(course.experiment.language_model.model, course.examples)

    def forward(self, model: Any, batch: Batch) -> Float[Tensor, ""]:
        """The loss summed over the batch's targets."""
        if not (model.training and batch.n_targets):
            return token_loss(model, batch)
        now = batch_log_p(model, batch)
        before, teacher = (
            torch.cat([values[row] for row in batch.rows]).to(now) for values in (self.before, self.teacher)
        )
        advantage = now.new_tensor([self.advantages[row] for row in batch.rows])
        each = advantage.repeat_interleave((batch.targets != IGNORED).sum(1))
        return self.value(now, before, teacher, each, batch.done).sum()
