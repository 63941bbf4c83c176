"""Ways to teach a student: what it learns from, what it minimises, and how it answers.

Notes: all arms of an experiment begin with the same student and see the same traces, in the order of the seed, for the
same number of steps. They differ in their method alone. A new method is a function that makes its loss and a line in
`METHODS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from ctd.distill import examples, loss_forms, losses
from ctd.distill.controls import CONTROLS
from ctd.distill.examples import Example
from ctd.distill.experiment import Experiment
from ctd.distill.loss_forms import ORIGINAL, Forms
from ctd.distill.losses import Divergence, Weights
from ctd.distill.token_loss import Loss, token_loss
from ctd.distill.trace_signals import ChosenHeads
from ctd.reasoning import predict

Need = Literal["distribution", "heads", "model"]


@dataclass(frozen=True)
class Arm:
    """One group of students of an experiment: a method with its settings.

    name: what tables call it.
    method: a name in `METHODS`.
    weights: weights of the mechanistic terms.
    anneal_fraction: fraction of the steps over which these weights fall to zero; 0 for never.
    step_multiplier: how many times the plan's steps this arm takes.
    base_loss: the method whose loss the mechanistic terms are added to.
    forms: of the mechanistic terms.
    control: what is taught in place of the teacher's chosen heads, a name in `CONTROLS`.
    draw: draws what is random in the control: the student's seed, which `teach` puts here.
    Raises ValueError for an unknown method, a number out of range, or a base loss without mechanistic terms.
    """

    name: str
    method: str
    weights: Weights = field(default_factory=Weights)
    anneal_fraction: float = 0.0
    step_multiplier: float = 1.0
    base_loss: str = "cot"
    forms: Forms = ORIGINAL
    control: str = "none"
    draw: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if not 0 <= self.anneal_fraction <= 1:
            raise ValueError(f"anneal_fraction must be between 0 and 1, got {self.anneal_fraction}")
        if not self.step_multiplier > 0:
            raise ValueError(f"step_multiplier must be above 0, got {self.step_multiplier}")
        if self.base_loss not in base_losses():
            raise ValueError(f"base_loss must be one of {', '.join(base_losses())}, got {self.base_loss!r}")
        if self.control not in CONTROLS:
            raise ValueError(f"control must be one of {', '.join(CONTROLS)}, got {self.control!r}")
        if self.base_loss != "cot" and not METHODS[self.method].reads_heads:
            raise ValueError(
                f"base_loss is what the mechanistic terms are added to, and {self.method} has none: leave it out, or "
                "use method mechanistic"
            )
        if self.control != "none" and not METHODS[self.method].reads_heads:
            raise ValueError(
                f"control is for what heads compute, which {self.method} does not teach: leave it out, or use method "
                "mechanistic"
            )

    @property
    def needs(self) -> frozenset[Need]:
        """What the arm needs of the teacher: its method, and what the mechanistic terms are added to."""
        method = METHODS[self.method]
        return method.needs | METHODS[self.base_loss].needs if method.reads_heads else method.needs


def trace_examples(experiment: Experiment) -> list[Example]:
    """Every trace: the prompt is read, the reasoning and the answer are learned."""
    end = [experiment.language_model.tokenizer.eos_token_id]
    return [Example([*trace.ids, *end], trace.cot.start + 1) for trace in experiment.annotated_traces]


def answer_examples(experiment: Experiment) -> list[Example]:
    """Every trace without its reasoning: the prompt is read, the answer is learned."""
    tokenizer = experiment.language_model.tokenizer
    return [examples.answer_example(trace, tokenizer) for trace in experiment.traces]


@dataclass(frozen=True)
class Method:
    """A way to teach a student.

    loss: makes the loss of one student from the experiment, the arm and the student's model.
    examples: what the student learns from.
    mode: how the student is asked about the test documents (see `ctd.reasoning.predict`).
    needs: what the loss needs of the teacher beside its traces: its "distribution" over the next token or what its
        "heads" compute, both computed once for all students (`read_teacher`), or its "model", which runs in every step.
    """

    loss: Callable[[Experiment, Arm, Any], Loss]
    examples: Callable[[Experiment], list[Example]] = trace_examples
    mode: predict.Mode = "trace"
    needs: frozenset[Need] = frozenset()

    @property
    def reads_heads(self) -> bool:
        """Whether the loss compares heads, and so depends on anchors, comparisons and the arm's weights."""
        return "heads" in self.needs

    @property
    def is_packaged(self) -> bool:
        """Whether it is part of ctd, so that other processes know it too."""
        return all(part.__module__.startswith("ctd.") for part in (self.loss, self.examples))


def cross_entropy(experiment: Experiment, arm: Arm, student: Any) -> Loss:
    """Cross-entropy of the text."""
    return token_loss


def distillation(experiment: Experiment, arm: Arm, divergence: Divergence, beta: float = 0.1) -> Loss:
    """A divergence from the teacher's distribution over the next token (see `losses.TokenDistillation`)."""
    states = experiment.teacher_states(METHODS[arm.method].examples(experiment))
    return losses.TokenDistillation(experiment.language_model.model, divergence, beta, states)


def forward_kl(experiment: Experiment, arm: Arm, student: Any) -> Loss:
    """KL(teacher || student) over the next token."""
    return distillation(experiment, arm, "fkl")


def reverse_kl(experiment: Experiment, arm: Arm, student: Any) -> Loss:
    """KL(student || teacher) over the next token."""
    return distillation(experiment, arm, "rkl")


def mechanistic(experiment: Experiment, arm: Arm, student: Any) -> Loss:
    """The base loss, and what the teacher's heads of both phases compute, or a control in their place."""
    student_heads = experiment.student_heads(student)
    return losses.Mechanistic(
        experiment.annotated_traces,
        CONTROLS[arm.control](experiment, lambda: student_heads, arm.draw),
        student_heads,
        arm.weights,
        loss_forms.write_term(arm.forms.write, experiment.language_model.model, student, experiment.shares_basis),
        arm.anneal_fraction,
        METHODS[arm.base_loss].loss(experiment, arm, student),
        arm.forms,
    )


METHODS = {
    "answer": Method(cross_entropy, answer_examples, mode="answer"),
    "cot": Method(cross_entropy),
    "fkl": Method(forward_kl, needs=frozenset({"distribution"})),
    "rkl": Method(reverse_kl, needs=frozenset({"distribution"})),
    "mechanistic": Method(mechanistic, needs=frozenset({"heads"})),
}


def read_teacher(experiment: Experiment, arms: Iterable[Arm]) -> None:
    """Compute what the arms need of the teacher, once, before the processes that share it begin."""
    for arm in arms:
        if "heads" in arm.needs:
            CONTROLS[arm.control](experiment, partial(_student_heads, experiment, arm), arm.draw)
        if "distribution" in arm.needs:
            experiment.teacher_states(METHODS[arm.method].examples(experiment))


def _student_heads(experiment: Experiment, arm: Arm) -> ChosenHeads:
    return experiment.student_heads(experiment.initial_student(arm.draw))


def is_packaged(arm: Arm) -> bool:
    """Whether all that an arm names is part of ctd, so that other processes know it too."""
    named = [METHODS[arm.method], METHODS[arm.base_loss]]
    return all(method.is_packaged for method in named) and CONTROLS[arm.control].__module__.startswith("ctd.")


def base_losses() -> list[str]:
    """The methods whose loss the mechanistic terms can be added to: those that learn whole traces."""
    return [name for name, method in METHODS.items() if method.examples is trace_examples and not method.reads_heads]


STANDARD = tuple(Arm(name, name) for name, method in METHODS.items() if not method.reads_heads)
