"""DeAR: labels are scored one by one first, and reasoned about as a list then."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, kl_div

from ctd.distill.examples import Example
from ctd.distill.experiment import Experiment
from ctd.distill.methods.method import Course
from ctd.distill.methods.pld import Labels
from ctd.distill.methods.texts import trace_examples
from ctd.distill.token_loss import Loss


def phase_2(experiment: Experiment) -> list[Example]:
    """Every trace, of which Phase 2 and the answer are learned; Phase 1 is read."""
    return [
        example._replace(only_read=((example.n_prompt, trace.boundary + 1),))
        for example, trace in zip(trace_examples(experiment), experiment.annotated_traces, strict=True)
    ]


def pointwise(course: Course, label_weight: float = 0.1) -> Loss:
    """Cross-entropy, and scores of the shortlist's labels: answered or not, in the teacher's order, near its scores.

    A label's score is the mean log-probability of a token of its line (ours). The source scores passages, adds an
    adapter for each stage, and learns the list from a language model's reasoning.

    label_weight: of the scores.

    Source: DeAR, arXiv:2508.16998, and the authors' code.
    """
    return Labels(course, label_weight, scored)


def scored(
    student: Float[Tensor, " n"], teacher: Float[Tensor, " n"], lines: list[Int[Tensor, " k"]], answered: list[bool]
) -> Float[Tensor, ""]:
    """The loss of one shortlist: cross-entropy of each label, RankNet, and KL from the teacher's scores.

    student: log-probabilities of all targets.
    teacher: likewise.
    lines: the targets of each label.
    answered: which labels the teacher answers.
    """
    scores, worth = (torch.stack([log_p[line].mean() for line in lines]) for log_p in (student, teacher))
    right = torch.tensor(answered, device=scores.device)
    one_by_one = -torch.where(right, scores, torch.log1p(-scores.exp().clamp(max=1 - 1e-6))).mean()
    return one_by_one + ranknet(scores, worth) + kl_div(scores.log_softmax(0), worth.softmax(0), reduction="sum")


def ranknet(scores: Float[Tensor, " k"], teacher: Float[Tensor, " k"]) -> Float[Tensor, ""]:
    """RankNet: cross-entropy of which of two labels is higher, a mean over all pairs, with the teacher's odds."""
    first, second = torch.triu_indices(len(scores), len(scores), 1, device=scores.device)
    odds = (teacher[first] - teacher[second]).sigmoid()
    return binary_cross_entropy_with_logits(scores[first] - scores[second], odds)
