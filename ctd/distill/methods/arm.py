"""An arm: one group of students of an experiment."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ctd.distill import controls
from ctd.distill.controls import CONTROLS
from ctd.distill.examples import Example
from ctd.distill.experiment import Experiment
from ctd.distill.loss_forms import ORIGINAL, Forms
from ctd.distill.losses import Weights
from ctd.distill.methods.answering import AnsweringStudent, plainly
from ctd.distill.methods.method import Course, Method, Need, Setting, Stage
from ctd.distill.methods.registry import METHODS
from ctd.distill.methods.texts import trace_examples
from ctd.distill.token_loss import Loss
from ctd.distill.trace_signals import ChosenHeads
from ctd.reasoning.rank_answers import Prediction


@dataclass(frozen=True)
class Arm:
    """One group of students of an experiment: a method with its settings.

    name: what tables call it.
    method: a name in `METHODS`.
    weights: weights of the mechanistic terms.
    anneal_fraction: fraction of the steps over which these weights fall to zero; 0 for never.
    step_multiplier: how many times the plan's steps this arm takes.
    base_loss: the method whose texts and loss the mechanistic terms are added to.
    settings: the method's own settings (or the base loss's) that differ from their defaults, each a name and a value.
    forms: of the mechanistic terms.
    control: what is taught in place of the teacher's chosen heads, a name in `CONTROLS`.
    draw: draws what is random in the control: the student's seed, which `teach` puts here.
    Raises ValueError for an unknown method or setting, a number out of range, or a base loss without mechanistic terms.
    """

    name: str
    method: str
    weights: Weights = field(default_factory=Weights)
    anneal_fraction: float = 0.0
    step_multiplier: float = 1.0
    base_loss: str = "cot"
    settings: tuple[tuple[str, Setting], ...] = ()
    forms: Forms = ORIGINAL
    control: str = "none"
    draw: int = 0

    def __post_init__(self) -> None:
        check(self.method)
        if not 0 <= self.anneal_fraction <= 1:
            raise ValueError(f"anneal_fraction must be between 0 and 1, got {self.anneal_fraction}")
        if not self.step_multiplier > 0:
            raise ValueError(f"step_multiplier must be above 0, got {self.step_multiplier}")
        check(self.base_loss, "base_loss", base_losses())
        if self.base_loss != "cot" and not METHODS[self.method].reads_heads:
            raise ValueError(
                f"base_loss is what the mechanistic terms are added to, and {self.method} has none: leave it out, or "
                "use method mechanistic"
            )
        controls.check(self.control)
        if self.control != "none" and not METHODS[self.method].reads_heads:
            raise ValueError(
                f"control is for what heads compute, which {self.method} does not teach: leave it out, or use method "
                "mechanistic"
            )
        known = self.base.settings
        for name, value in self.settings:
            if name not in known:
                described = ", ".join(f"{setting} ({default})" for setting, default in known.items()) or "none"
                raise ValueError(f"settings of {self.method_names[-1]} are {described}, got {name!r}")
            if isinstance(value, str) != isinstance(known[name], str):
                raise ValueError(f"setting {name} must be like {known[name]!r}, got {value!r}")

    @property
    def method_names(self) -> tuple[str, ...]:
        """Its method and, where mechanistic terms are added to one, its base loss."""
        return (self.method, self.base_loss) if METHODS[self.method].reads_heads else (self.method,)

    @property
    def base(self) -> Method:
        """The method whose texts are learned: that of the base loss where mechanistic terms are added to it."""
        return METHODS[self.method_names[-1]]

    @property
    def needs(self) -> frozenset[Need]:
        """What the arm needs beside traces: its method, and what the mechanistic terms are added to."""
        return METHODS[self.method].needs | self.base.needs

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of its training, in their order."""
        return self.base.stages

    @property
    def after_prompt(self) -> str:
        """What stands between a document's prompt and the student's text."""
        function = self.base.after_prompt
        return function(**self._settings_of(function)) if function else ""

    @property
    def writes_traces(self) -> bool:
        """Whether its students answer each document with one whole trace."""
        return self.base.mode == "trace" and self.base.answers is plainly

    def answers(self, student: AnsweringStudent) -> list[Prediction]:
        """What a student answers about documents, in its method's way."""
        return self.base.answers(student, **self._settings_of(self.base.answers))

    def _settings_of(self, function: Callable[..., Any]) -> dict[str, Setting]:
        return {name: value for name, value in self.settings if name in inspect.signature(function).parameters}

    def texts(self, experiment: Experiment, stage: Stage | None = None, student: Any = None) -> list[Example]:
        """What is learned from in one of its stages.

        stage: the last one by default.
        student: as the stages before left it.
        """
        return (stage or self.base).texts(experiment, student, dict(self.settings))

    def loss(
        self,
        experiment: Experiment,
        student: Any,
        stage: Stage | None = None,
        examples: Sequence[Example] | None = None,
    ) -> Loss:
        """The loss of one student in a stage. The mechanistic terms are added in the last one.

        stage: the last one by default.
        examples: the texts of the stage, made anew by default.
        """
        stage = stage or self.base
        texts = self.texts(experiment, stage, student) if examples is None else examples
        course = Course(
            experiment, texts, student, self.weights, self.anneal_fraction, self.forms, self.control, self.draw
        )
        base_loss = stage.make(course, dict(self.settings))
        if stage is not self.base or not METHODS[self.method].reads_heads:
            return base_loss
        return METHODS[self.method].make(replace(course, base_loss=base_loss), {})


def check(method: str, what: str = "method", known: Iterable[str] = METHODS) -> str:
    """The name of a method. Raises ValueError for an unknown one.

    what: what the error calls it.
    known: names to choose from.
    """
    if method not in (names := list(known)):
        raise ValueError(f"{what} must be one of {', '.join(names)}, got {method!r}")
    return method


def base_losses() -> list[str]:
    """The methods that the mechanistic terms can be added to: those that learn whole traces."""
    return [name for name, method in METHODS.items() if method.whole_traces and not method.reads_heads]


def arms(*names: str) -> tuple[Arm, ...]:
    """An arm of each method, in the order of the registry. Raises ValueError for an unknown name."""
    for name in names:
        check(name)
    return tuple(Arm(name, name) for name in METHODS if name in names)


STANDARD = arms("answer", "cot", "fkl", "rkl")  # what chapter 09 compares


def read_teacher(experiment: Experiment, arms: Iterable[Arm]) -> None:
    """Compute what the arms need of the teacher, once, before the processes that share it begin."""
    for arm in arms:
        if "heads" in arm.needs:
            CONTROLS[arm.control](experiment, partial(_student_heads, experiment, arm), arm.draw)
        for stage in arm.stages:
            if not stage.reads_student and "distribution" in arm.needs and not stage.of_text:
                experiment.teacher_states(arm.texts(experiment, stage))
            elif not stage.reads_student and "samples" in arm.needs:
                arm.texts(experiment, stage)
        if "hidden" in arm.needs:
            experiment.teacher_states(trace_examples(experiment))


def _student_heads(experiment: Experiment, arm: Arm) -> ChosenHeads:
    return experiment.student_heads(experiment.initial_student(arm.draw))


def is_packaged(arm: Arm) -> bool:
    """Whether all that an arm names is part of ctd, so that other processes know it too."""
    methods = [METHODS[name] for name in arm.method_names]
    return all(method.is_packaged for method in methods) and CONTROLS[arm.control].__module__.startswith("ctd.")
