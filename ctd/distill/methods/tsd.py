"""TSD-KD: the teacher is followed most where it is surer than the student, and ranks the student's own candidates."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ctd.distill.examples import IGNORED, Batch
from ctd.distill.methods.method import Course
from ctd.distill.methods.pld import plackett_luce
from ctd.distill.methods.token_by_token import Seen, TokenByToken, each_target, entropy, fixed, kl_divergence
from ctd.distill.token_loss import Loss, last_hidden, token_loss


def tsd(
    course: Course,
    beta: float = 0.9,
    ranking: float = 0.1,
    candidates: int = 10,
    opener: float = 0.1,
    confidence: float = 1.0,
    uncertain: float = 0.1,
) -> Loss:
    """Jensen-Shannon where the teacher is surer, its ranking of the student's candidates, and the student's entropy.

    Two faults of the released code are not copied: its ranking loss rewards the reverse order, and its entropy term
    takes nine tokens of ten in place of the most uncertain tenth. Means are over a trace, where the code's opener is of
    the whole batch.

    beta: of the divergence, as in jsd.
    ranking: weight of the ranking loss.
    candidates: how many of the student's likeliest tokens the teacher ranks.
    opener: share of a trace's entropy that the tokens have, from the first on, where they are ranked.
    confidence: weight of the entropy of the most uncertain tokens.
    uncertain: share of a trace's tokens that are the most uncertain ones.

    Source: Kim and Baek (2026), arXiv:2603.13260, and the authors' code, off-policy (their lambda = 0).
    """
    experiment = course.experiment
    states = experiment.teacher_states(course.examples)
    model = experiment.language_model.model
    values = partial(selective, beta=beta, candidates=int(candidates))
    return _Selective(values, model, states, ranking, opener, confidence, uncertain)


class _Selective(TokenByToken):
    """The loss with what it selects in each trace from the entropies of the whole trace."""

    def __init__(self, tokens: Any, teacher: Any, states: Any, *weights: float) -> None:
        super().__init__(tokens, teacher, states)
        self.selective, self.weights = tokens, weights

    def forward(self, model: Any, batch: Batch) -> Float[Tensor, ""]:
        if not model.training:
            return token_loss(model, batch)
        ranking, opener, confidence, uncertain = self.weights
        learned = batch.targets != IGNORED
        hidden, text = last_hidden(model, batch, learned), learned.nonzero()[:, 0]
        with torch.no_grad():
            entropies = each_target(model, hidden, lambda log_p, places: entropy(log_p))
        ranked = ranking * mean_over(opening(entropies, text, opener), text)
        uncertain_ones = confidence * mean_over(most(entropies, text, uncertain), text)
        tokens = partial(self.selective, ranked=ranked, confidence=uncertain_ones)
        return self.summed(model, hidden, batch, self.states(batch), tokens)


def selective(
    seen: Seen, ranked: Float[Tensor, " n"], confidence: Float[Tensor, " n"], beta: float = 0.9, candidates: int = 10
) -> Float[Tensor, " m"]:
    """The loss of each target.

    ranked: of all targets, the weight of the ranking loss.
    confidence: of all targets, the weight of the student's entropy.
    """
    student, teacher = seen.log_p, seen.teacher_log_p
    uncertainty = entropy(student)
    surer = fixed(torch.sigmoid(uncertainty - entropy(teacher)))
    mixture = torch.logaddexp(student + math.log1p(-beta), teacher + math.log(beta))
    divergence = beta * kl_divergence(teacher, mixture)
    divergence = divergence + (1 - beta) * kl_divergence(student, mixture)
    chosen = fixed(student).topk(min(candidates, student.shape[1])).indices
    order = chosen.gather(1, teacher.gather(1, chosen).argsort(1, descending=True))
    listed = plackett_luce(student.gather(1, order)).sum(-1)
    return surer * divergence + ranked[seen.places] * listed + confidence[seen.places] * uncertainty


def opening(entropies: Float[Tensor, " n"], text: Int[Tensor, " n"], share: float) -> Float[Tensor, " n"]:
    """1 for the tokens of the shortest beginning of each text with a share of its summed entropy, else 0.

    text: which text each token is of; those of one text stand together.
    """
    chosen = torch.zeros_like(entropies)
    for number in text.unique().tolist():
        here = text == number
        before = entropies[here].cumsum(0) - entropies[here]
        chosen[here] = (before < share * entropies[here].sum()).to(chosen.dtype)
    return chosen


def most(entropies: Float[Tensor, " n"], text: Int[Tensor, " n"], share: float) -> Float[Tensor, " n"]:
    """1 for a share of each text's tokens, those with the highest entropy and at least one, else 0."""
    chosen = torch.zeros_like(entropies)
    for number in text.unique().tolist():
        places = (text == number).nonzero()[:, 0]
        chosen[places[entropies[places].topk(math.ceil(share * len(places))).indices]] = 1
    return chosen


def mean_over(chosen: Float[Tensor, " n"], text: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Weights whose sum over a text's targets is a mean over its chosen ones, times the number of its targets."""
    weights = chosen.clone()
    for number in text.unique().tolist():
        here = text == number
        weights[here] *= here.sum() / chosen[here].sum().clamp(min=1)
    return weights
