"""What a control arm is taught in place of the teacher's chosen heads, so that a gain can be told from its look-alikes.

Notes: a control changes the signals that the student is taught and nothing else: the student's heads, the terms, their
weights and the steps stay those of the arm that it is held against. A new control is a function and a line in
`CONTROLS`. All are our definition.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ctd.cache import digest
from ctd.distill import students
from ctd.distill.experiment import Experiment
from ctd.distill.trace_signals import ChosenHeads, TraceSignals
from ctd.keys import source_digest
from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase
from ctd.reasoning import architecture

Control = Callable[[Experiment, Callable[[], ChosenHeads], int], Sequence[TraceSignals]]
"""The signals that are taught, from the experiment, the student's heads (called only where they matter) and a seed."""


def chosen_heads(experiment: Experiment, student_heads: Callable[[], ChosenHeads], seed: int) -> Sequence[TraceSignals]:
    """No control: what the teacher's chosen heads compute."""
    return experiment.teacher_signals


def copied_heads(experiment: Experiment, student_heads: Callable[[], ChosenHeads], seed: int) -> Sequence[TraceSignals]:
    """What the teacher's heads compute that the student's heads were copied from: an anchor to the beginning.

    Raises ValueError for a student that is not made of the teacher's layers.
    """
    if not experiment.shares_basis:
        raise ValueError(
            "control copied needs a student made of the teacher's layers (no student, student_heads 0): the heads of "
            "this one were copied from none"
        )
    layers = students.sources(experiment.language_model.model, experiment.plan.layers)
    return experiment.signals(
        {phase: [Head(layers[layer], head) for layer, head in heads] for phase, heads in student_heads().items()}
    )


def random_heads(experiment: Experiment, student_heads: Callable[[], ChosenHeads], seed: int) -> Sequence[TraceSignals]:
    """What other heads of the same layers compute, as many of each layer, drawn by the seed.

    Chosen heads are among them only where a layer has too few others.
    """
    n_heads = architecture.shape(experiment.language_model.model).heads
    rng = np.random.default_rng(seed)
    drawn = {phase: list(_others(chosen, n_heads, rng)) for phase, chosen in experiment.teacher_heads.items()}
    return experiment.signals(drawn)


def _others(chosen: Sequence[Head], n_heads: int, rng: np.random.Generator) -> Iterator[Head]:
    """For each head one of its layer that was not drawn before, the unchosen ones first."""
    left: dict[int, list[int]] = {}
    for layer, _ in chosen:
        if layer not in left:
            taken = {head for at, head in chosen if at == layer}
            order = rng.permutation(n_heads).tolist()
            left[layer] = [head for head in order if head not in taken] + [head for head in order if head in taken]
        yield Head(layer, left[layer].pop(0))


def lowest_heads(experiment: Experiment, student_heads: Callable[[], ChosenHeads], seed: int) -> Sequence[TraceSignals]:
    """What the teacher's heads with the lowest scores of each phase compute, the lowest first."""
    numbers = {phase: len(chosen) for phase, chosen in experiment.teacher_heads.items()}
    rankings = experiment.teacher_rankings
    return experiment.signals({phase: rankings[phase][::-1][:number] for phase, number in numbers.items()})


def wrong_phase(experiment: Experiment, student_heads: Callable[[], ChosenHeads], seed: int) -> Sequence[TraceSignals]:
    """What the heads of each phase compute at the queries of the other, taught to the student's heads of the other.

    Raises ValueError where the phases have different numbers of heads.
    """
    first, second = (experiment.teacher_heads[phase] for phase in (Phase.SHORTLIST, Phase.REFINE))
    if len(first) != len(second):
        raise ValueError(
            f"control wrong-phase exchanges the heads of the phases, which need the same number, got {len(first)} and "
            f"{len(second)}"
        )
    return experiment.signals({Phase.SHORTLIST: second, Phase.REFINE: first})


class Shuffled(Sequence[TraceSignals]):
    """Signals whose queries are permuted within each trace and phase: the same values, at other places.

    signals: of every trace.
    seed: draws the permutations, with the number of the trace.
    """

    def __init__(self, signals: Sequence[TraceSignals], seed: int) -> None:
        self.signals, self.seed = signals, seed

    def __len__(self) -> int:
        return len(self.signals)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(len(self)))]
        signals, rng = self.signals[row], np.random.default_rng((self.seed, range(len(self))[row]))
        first, second = rng.permutation(len(signals.attention)), rng.permutation(len(signals.split))
        return replace(
            signals,
            attention=signals.attention[first],
            write1=signals.write1[first],
            split=signals.split[second],
            along=signals.along[second],
        )


def shuffled_trace(
    experiment: Experiment, student_heads: Callable[[], ChosenHeads], seed: int
) -> Sequence[TraceSignals]:
    """What the chosen heads compute, its queries permuted within each trace."""
    return Shuffled(experiment.teacher_signals, seed)


def untrained_teacher(
    experiment: Experiment, student_heads: Callable[[], ChosenHeads], seed: int
) -> Sequence[TraceSignals]:
    """What the chosen heads compute in a model of the teacher's shape with random weights."""
    teacher = experiment.language_model
    key = digest([teacher.key, "untrained", str(seed), source_digest(__name__)])
    return experiment.signals(experiment.teacher_heads, replace(teacher, model=untrained(teacher.model, seed), key=key))


def untrained(model: Any, seed: int) -> Any:
    """A model of the same shape, type and device with random weights, drawn by the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh = type(model)(copy.deepcopy(model.config))
    return fresh.to(model.device, model.dtype).eval()


def uniform_rows(experiment: Experiment, student_heads: Callable[[], ChosenHeads], seed: int) -> Sequence[TraceSignals]:
    """What the chosen heads would compute if each looked at every token before it alike."""
    return experiment.signals(experiment.teacher_heads, uniform=True)


CONTROLS: dict[str, Control] = {
    "none": chosen_heads,
    "copied": copied_heads,
    "random": random_heads,
    "lowest": lowest_heads,
    "wrong-phase": wrong_phase,
    "shuffled": shuffled_trace,
    "untrained": untrained_teacher,
    "uniform": uniform_rows,
}


def check(name: str) -> str:
    """The name of a control. Raises ValueError for an unknown one."""
    if name not in CONTROLS:
        raise ValueError(f"control must be one of {', '.join(CONTROLS)}, got {name!r}")
    return name


def summary(name: str) -> str:
    """What a control teaches, in a sentence: the first one of its docstring."""
    return (inspect.getdoc(CONTROLS[name]) or "").partition("\n")[0].rstrip(".")
