"""What a way to teach a student consists of: texts, loss, stages, and how the student is asked afterwards."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

from torch import Tensor, nn

from ctd.distill.examples import Example
from ctd.distill.experiment import Experiment
from ctd.distill.loss_forms import ORIGINAL, Forms
from ctd.distill.losses import Weights
from ctd.distill.methods.answering import plainly
from ctd.distill.methods.texts import trace_examples
from ctd.distill.methods.token_by_token import Seen, TokenByToken
from ctd.distill.token_loss import Loss, token_loss
from ctd.reasoning import predict
from ctd.reasoning.rank_answers import Prediction

Need = Literal["distribution", "heads", "hidden", "model", "gold", "samples"]
Known = Literal["code", "paper", "third party", "abstract", "ours"]
Setting = float | str
WEIGHTS = "weights"
Recipe = Callable[..., list[Example]]
"""What is learned from: a function of the experiment and its settings, and of the `student` so far if it has a
parameter of that name."""


@dataclass(frozen=True)
class Course:
    """What the loss of one student is made from.

    experiment: what all students share.
    examples: what the student learns from.
    student: its model.
    weights: of the mechanistic terms.
    anneal_fraction: fraction of the steps over which these weights fall to zero; 0 for never.
    forms: of these terms.
    control: what is taught in place of the teacher's chosen heads.
    draw: draws what is random in the control.
    base_loss: what the terms are added to.
    """

    experiment: Experiment
    examples: Sequence[Example]
    student: Any
    weights: Weights = field(default_factory=Weights)
    anneal_fraction: float = 0.0
    forms: Forms = ORIGINAL
    control: str = "none"
    draw: int = 0
    base_loss: Loss = token_loss


def cross_entropy(course: Course) -> Loss:
    """Cross-entropy of the text."""
    return token_loss


def defaults(part: Callable[..., Any]) -> dict[str, Setting]:
    """The arguments of a function that have a default, which are its settings."""
    arguments = inspect.signature(part).parameters.values()
    return {argument.name: argument.default for argument in arguments if argument.default is not argument.empty}


@dataclass(frozen=True)
class Stage:
    """One stage of a training: what is learned from, and the loss.

    tokens: the loss of a token: a function of what was `Seen` of some targets, or a class of such functions where the
        loss has a state (see `ctd.distill.stateful`). None where `loss` makes it.
    loss: makes the loss of one student from its `Course`.
    examples: the recipe of what is learned from.
    share: of the steps, where a stage comes before the last one, which takes the rest.
    rate: of learning, times the plan's.
    rank: of the adapters that are trained in place of all weights; 0 for none.
    expert: name of a student of its own that is taught in this stage, beginning as all students do; "" for the student
        that the stages before left.
    """

    tokens: Callable[..., Tensor] | type[nn.Module] | None = None
    loss: Callable[..., Loss] = cross_entropy
    examples: Recipe = trace_examples
    share: float = 0.5
    rate: float = 1.0
    rank: int = 0
    expert: str = ""

    @property
    def parts(self) -> tuple[Callable[..., Any], ...]:
        """The functions that it is made of."""
        return (self.tokens or self.loss, self.examples)

    @property
    def of_text(self) -> bool:
        """Whether its loss is the cross-entropy of its texts."""
        return self.tokens is None and self.loss is cross_entropy

    @property
    def defaults(self) -> dict[str, Setting]:
        """Its settings: the arguments with a default of the functions that it is made of."""
        return {name: value for part in self.parts for name, value in defaults(part).items()}

    @property
    def reads_student(self) -> bool:
        """Whether what is learned from depends on the student as the stages before left it."""
        return "student" in inspect.signature(self.examples).parameters

    def texts(self, experiment: Experiment, student: Any, settings: Mapping[str, Setting]) -> list[Example]:
        """What is learned from.

        student: as the stages before left it.
        settings: those that differ from the defaults.
        """
        arguments = inspect.signature(self.examples).parameters
        values = {**settings, "student": student}
        return self.examples(experiment, **{name: value for name, value in values.items() if name in arguments})

    def make(self, course: Course, settings: Mapping[str, Setting]) -> Loss:
        """The loss of one student.

        settings: those that differ from the defaults.
        """
        arguments = inspect.signature(self.tokens or self.loss).parameters
        chosen = {name: value for name, value in settings.items() if name in arguments}
        if self.tokens is None:
            return self.loss(course, **chosen)
        return by_token(
            course, self.tokens(**chosen) if isinstance(self.tokens, type) else partial(self.tokens, **chosen)
        )


def by_token(course: Course, tokens: Callable[[Seen], Tensor]) -> Loss:
    """A loss of single tokens, of the teacher's distribution too, which is stored or live as the experiment says."""
    experiment = course.experiment
    return TokenByToken(tokens, experiment.language_model.model, experiment.teacher_states(course.examples))


@dataclass(frozen=True, kw_only=True)
class Method(Stage):
    """A way to teach a student. Its last stage, which is the only one of most, and:

    source: where it is from.
    known: how well we know the source: its "code" or the full "paper" was read, a "third party"'s account of it, or
        the "abstract" alone; "ours" where there is none.
    before: the stages before.
    mode: how the student is asked about the test documents (see `ctd.reasoning.predict`).
    after_prompt: what stands between prompt and text when it is asked, such as pauses: a function of settings; None for
        nothing.
    answers: how it answers: a function of an `AnsweringStudent` and of settings.
    needs: what it needs beside the teacher's traces: the teacher's "distribution" over the next token, what its "heads"
        compute, its last "hidden" states along its traces, or its "samples", all computed once for all students
        (`read_teacher`); its "model", which runs in every step; or the "gold" labels of training documents.
    cost: seconds of training at equal steps, times those of cot: measured for the first five, else estimated.
    whole_traces: whether the last stage learns from whole traces, so that the mechanistic terms can be added.
    searched: its settings whose values are ours, each with the values that a search tries (see `ctd.distill.search`),
        the default among them. `WEIGHTS` stands for the weights of the mechanistic terms, and its values are factors.
    Raises ValueError for an unknown need or searched setting, or stages before the last one that leave it no steps.
    """

    source: str = ""
    known: Known = "ours"
    before: tuple[Stage, ...] = ()
    mode: predict.Mode = "trace"
    after_prompt: Callable[..., str] | None = None
    answers: Callable[..., list[Prediction]] = plainly
    needs: frozenset[Need] = frozenset()
    cost: float = 1.0
    whole_traces: bool = True
    searched: Mapping[str, tuple[float, ...]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for need in self.needs:
            if need not in get_args(Need):
                raise ValueError(f"needs must be some of {', '.join(get_args(Need))}, got {need!r}")
        if not sum(stage.share for stage in self.before) < 1:
            raise ValueError("the stages before the last one must leave it a share of the steps")
        for name, values in self.searched.items():
            if name not in self.tuned or self.tuned[name] not in values:
                raise ValueError(f"searched must be settings, each with its default among the values, got {name!r}")

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages in their order."""
        return (*self.before, self)

    @property
    def settings(self) -> dict[str, Setting]:
        """The settings of all stages, and of its way to answer, with their defaults."""
        of_stages = {name: value for stage in self.stages for name, value in stage.defaults.items()}
        return of_stages | defaults(self.answers)

    @property
    def tuned(self) -> dict[str, Setting]:
        """What a search may change, with the defaults: its settings, and the weights of the mechanistic terms."""
        return self.settings | ({WEIGHTS: 1.0} if self.reads_heads else {})

    @property
    def all_parts(self) -> list[Callable[..., Any]]:
        """The functions that it is made of."""
        answering = [self.after_prompt, self.answers] if self.after_prompt else [self.answers]
        return [part for stage in self.stages for part in stage.parts] + answering

    @property
    def reads_heads(self) -> bool:
        """Whether the loss compares heads, and so depends on anchors, comparisons and the arm's weights."""
        return "heads" in self.needs

    @property
    def is_packaged(self) -> bool:
        """Whether it is part of ctd, so that other processes know it too."""
        return all(part.__module__.startswith("ctd.") for part in self.all_parts)

    @property
    def summary(self) -> str:
        """What it does: the first sentence of the docstring of what tells it from cot.

        That is its way to answer, else its loss, or its recipe where that is cross-entropy.
        """
        maker = self.examples if self.of_text else self.tokens or self.loss
        docstring = inspect.getdoc(maker if self.answers is plainly else self.answers) or ""
        return docstring.partition("\n")[0].rstrip(".")
