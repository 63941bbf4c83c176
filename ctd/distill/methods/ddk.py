"""DDK: topics in which the student is furthest behind its teacher count more."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.special import softmax
from torch import Tensor

from ctd.distill.examples import IGNORED, Batch
from ctd.distill.experiment import Experiment
from ctd.distill.methods.method import Course
from ctd.distill.methods.token_by_token import Seen, TokenByToken, fixed, kl_divergence
from ctd.distill.stateful import Stateful
from ctd.distill.token_loss import Loss, last_hidden, token_loss


def ddk(course: Course, gamma: float = 0.2, rounds: int = 30, smoothing: float = 0.5) -> Loss:
    """Cross-entropy and a KL to the teacher, where the topics count more in which the student is behind.

    The source draws documents by topic for the next round, and measures perplexities on validation texts. Here the
    topics are weighted, which is the same in expectation, and measured on the texts of the round (ours). The topic of a
    text is the highest node of the label tree above the first label that the teacher answers.

    gamma: weight of the KL.
    rounds: how often the weights change.
    smoothing: share of the measured weights; the rest is the same for all topics.
    Raises ValueError for fewer than one round, or a share that is below 0 or not below 1.

    Source: Liu et al. (2024), arXiv:2407.16154, equations 1 and 2.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing must be at least 0 and below 1, got {smoothing}")
    topics = topics_of(course.experiment)
    return ByTopic(course, topics[[example.trace for example in course.examples]], gamma, int(rounds), smoothing)


def topics_of(experiment: Experiment) -> Int[np.ndarray, " traces"]:
    """A number for the topic of each trace, from 0 on; one of its own for no label; the same where there is no tree."""
    space = experiment.task.space
    first = np.array([next(iter((*trace.answered, *trace.shortlisted)), -1) for trace in experiment.traces])
    topics = np.zeros_like(first) if space.parents is None else space.ancestor(first.clip(min=0), 0)
    return np.unique(np.where(first < 0, -1, topics), return_inverse=True)[1]


class ByTopic(TokenByToken):
    """The loss with the weights of the topics.

    topics: the number of each example's topic.
    """

    def __init__(
        self, course: Course, topics: Int[np.ndarray, " examples"], gamma: float, rounds: int, smoothing: float
    ) -> None:
        experiment = course.experiment
        super().__init__(
            partial(with_kl, gamma=gamma), experiment.language_model.model, experiment.teacher_states(course.examples)
        )
        self.topics = torch.from_numpy(topics)
        self.behind = Behind(np.bincount(topics).tolist(), rounds, smoothing)

    def forward(self, model: Any, batch: Batch) -> Float[Tensor, ""]:
        """The loss summed over the batch's targets."""
        if not model.training:
            return token_loss(model, batch)
        learned = batch.targets != IGNORED
        topic = self.topics.to(learned.device)[list(batch.rows)][learned.nonzero()[:, 0]]
        factors = torch.tensor(self.behind.factors(), dtype=torch.float64, device=learned.device)
        sums = torch.zeros(3, len(factors), dtype=torch.float64, device=learned.device)

        def tokens(seen: Seen) -> Float[Tensor, " m"]:
            where, teacher = topic[seen.places], seen.teacher_log_p.gather(1, seen.target[:, None])[:, 0]
            for place, value in enumerate((-fixed(seen.target_log_p), -teacher, torch.ones_like(teacher))):
                sums[place].index_add_(0, where, value.double())
            return factors.to(seen.log_p)[where] * self.tokens(seen)

        total = self.summed(model, last_hidden(model, batch, learned), batch, self.states(batch), tokens)
        self.behind.note(sums)
        return total


def with_kl(seen: Seen, gamma: float) -> Float[Tensor, " m"]:
    """Cross-entropy and a KL from the teacher's distribution."""
    return gamma * kl_divergence(seen.teacher_log_p, seen.log_p) - seen.target_log_p


class Behind(Stateful):
    """How much each topic counts: its share of what is learned, and what is known of the perplexities.

    n_texts: how many texts each topic has.
    rounds: how often the shares change.
    smoothing: part of a measured share.
    """

    def __init__(self, n_texts: Sequence[int], rounds: int, smoothing: float) -> None:
        n = len(n_texts)
        super().__init__(3 * n, shares=[1 / n] * n, ratios=[1.0] * n, sums=[0.0] * 3 * n, round=0)
        self.n_texts, self.rounds, self.smoothing = n_texts, rounds, smoothing

    def factors(self) -> list[float]:
        """What a text of each topic counts, so that its topic has its share."""
        shares, total = self.state["shares"], sum(self.n_texts)
        return [share * total / max(n, 1) for share, n in zip(shares, self.n_texts, strict=True)]

    def update(self, sums: Sequence[float], done: float) -> None:
        """Note a step's losses; where it begins a round, the shares change by those of the round before.

        sums: of each topic the student's loss, then the teacher's, then the number of targets.
        """
        if int(done * self.rounds) > self.state["round"]:
            self.state |= {"round": int(done * self.rounds), "ratios": self.measured()}
            self.state |= {"shares": next_shares(self.state["shares"], self.state["ratios"], self.smoothing)}
            self.state["sums"] = [0.0] * len(sums)
        self.state["sums"] = [before + now for before, now in zip(self.state["sums"], sums, strict=True)]

    def measured(self) -> list[float]:
        """The student's perplexity of each topic over the teacher's; as before where the topic had no text."""
        student, teacher, n = np.array(self.state["sums"]).reshape(3, -1)
        ratios = np.exp((student - teacher) / n.clip(min=1))
        return np.where(n > 0, ratios, self.state["ratios"]).tolist()


def next_shares(shares: Sequence[float], ratios: Sequence[float], smoothing: float) -> list[float]:
    """The shares of the next round: equation 2, in logarithms, so that no perplexity is too large."""
    grown = softmax(np.log(shares) + np.array(ratios))
    return (smoothing * grown + (1 - smoothing) / len(shares)).tolist()
