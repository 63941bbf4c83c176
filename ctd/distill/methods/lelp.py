"""LELP: the two verdicts of a comparison are split into subclasses by what else the teacher's state says."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.special import softmax
from sklearn.decomposition import PCA  # type: ignore[import-untyped]
from torch import Tensor, nn

from ctd.distill.experiment import Experiment
from ctd.distill.methods.hidden_states import HiddenStates, TeacherAlong, Text
from ctd.distill.methods.method import Course
from ctd.distill.token_loss import Loss
from ctd.reasoning import architecture
from ctd.reasoning.annotate import Compared


class Decisions(NamedTuple):
    """The decided comparisons of all traces.

    trace: its number.
    query: at which it is decided.
    verdict: 0 where the label that wins was named before the other one, else 1.
    states: the teacher's there, without what moves the margin between the two labels.
    sure: the probability that the teacher gives to its verdict, of the two.
    """

    trace: Int[np.ndarray, " k"]
    query: Int[np.ndarray, " k"]
    verdict: Int[np.ndarray, " k"]
    states: Float[np.ndarray, "k d"]
    sure: Float[np.ndarray, " k"]


def lelp(course: Course, weight: float = 0.1, subclasses: int = 4, temperature: float = 1.0) -> Loss:
    """Cross-entropy, and that of subclasses of the verdict of each comparison, which a linear map of the state tells.

    The classes are ours: whether the label that wins a comparison was named before the other one.

    weight: of the subclasses.
    subclasses: of each verdict; with one it is the distillation of the verdict alone.
    temperature: at which a state belongs to the subclasses of a verdict.
    Raises ValueError for fewer than one subclass, or a temperature that is not above 0.

    Source: LELP, arXiv:2409.20449, as third parties state it.
    """
    if subclasses < 1:
        raise ValueError(f"subclasses must be at least 1, got {subclasses}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    decided = decisions(course.experiment)
    targets = subclass_targets(decided, int(subclasses), temperature, course.draw)
    width = architecture.shape(course.student).width
    dtype = torch.promote_types(next(course.student.parameters()).dtype, torch.float32)
    return HiddenStates(course, Subclasses(decided, targets, width, dtype), weight)


class Subclasses(nn.Module):
    """The term: a linear map of the student's states, trained with it, and its cross-entropy with the targets.

    decided: the decisions of all traces.
    targets: the probabilities of their subclasses.
    width: of the student.
    """

    def __init__(
        self, decided: Decisions, targets: Float[np.ndarray, "k c"], width: int, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.head = nn.Linear(width, targets.shape[1], dtype=dtype)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)
        self.decided, self.targets = decided, torch.from_numpy(targets).to(dtype)

    def forward(self, text: Text) -> Float[Tensor, ""]:
        """The mean over the decisions of a trace; 0 where it has none."""
        rows = np.flatnonzero(self.decided.trace == text.number)
        if not len(rows):
            return text.student.sum() * 0
        log_p = self.head(text.student[self.decided.query[rows]]).log_softmax(-1)
        return -(self.targets[rows].to(log_p) * log_p).sum(-1).mean()


@torch.no_grad()
def decisions(experiment: Experiment) -> Decisions:
    """The decided comparisons of all traces, in their order."""
    model, along = experiment.language_model.model, TeacherAlong(experiment)
    rows, states, sure = [], [], []
    weight = model.get_output_embeddings().weight.double()
    for number, trace in enumerate(experiment.annotated_traces):
        if not (decided := [pair for pair in trace.comparisons if pair.decided]):
            continue
        (teacher,) = along([number], weight.device)
        for pair in decided:
            state = teacher[pair.decided[0] - trace.cot.start].double()
            margin = weight[pair.gold_token] - weight[pair.near_token]
            states.append((state - margin * (state @ margin) / (margin @ margin)).cpu().numpy())
            sure.append(torch.sigmoid(state @ margin).item())
            rows.append((number, pair.decided[0], verdict(pair)))
    traces, queries, verdicts = np.array(rows, np.int64).reshape(-1, 3).T
    width = architecture.shape(model).width
    return Decisions(traces, queries, verdicts, np.array(states).reshape(-1, width), np.array(sure))


def verdict(pair: Compared) -> int:
    """0 where the gold label was named before the near miss, else 1."""
    gold, near = (min((start for start, _ in spans), default=0) for spans in (pair.gold_mentions, pair.near_mentions))
    return int(near < gold)


def subclass_targets(
    decided: Decisions, subclasses: int, temperature: float = 1.0, seed: int = 0
) -> Float[np.ndarray, "k c"]:
    """The teacher's probabilities of all subclasses, those of verdict 0 first; of a verdict they sum to its own.

    A state belongs to the subclasses of a verdict by its principal components among the states of that verdict, each
    with variance 1, turned at random.

    seed: of the turn.
    """
    turn, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((subclasses, subclasses)))
    parts = []
    for number in range(2):
        coordinates = components(decided.states, decided.states[decided.verdict == number], subclasses)
        probability = np.where(decided.verdict == number, decided.sure, 1 - decided.sure)
        parts.append(probability[:, None] * softmax(coordinates @ turn / temperature, axis=1))
    return np.concatenate(parts, 1)


def components(
    states: Float[np.ndarray, "k d"], of_verdict: Float[np.ndarray, "m d"], n: int
) -> Float[np.ndarray, "k n"]:
    """The first principal components of one verdict's states, for all states; 0 where there are fewer."""
    coordinates = np.zeros((len(states), n))
    n_defined = min(n, len(of_verdict) - 1, states.shape[1])
    if n_defined > 0:
        coordinates[:, :n_defined] = PCA(n_defined, whiten=True, svd_solver="full").fit(of_verdict).transform(states)
    return coordinates
