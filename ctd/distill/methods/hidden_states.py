"""Losses of last hidden states: the token loss, and a term that compares the student with the teacher in each text.

Notes: a method of this kind is a term, which is a function of one `Text` (`relations` in `trg.py` is the shortest), and
a function that puts it into `HiddenStates`. It needs "hidden": the teacher's states along its own traces, computed once
for all students. s tokens of a text; n queries of a trace, from the first of its reasoning on; k vectors; e, d
dimensions of student and teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ctd.distill import loss_forms
from ctd.distill.examples import IGNORED, Batch, Example, collate
from ctd.distill.experiment import Experiment
from ctd.distill.methods.method import Course
from ctd.distill.methods.texts import trace_examples
from ctd.distill.token_loss import token_loss
from ctd.reasoning import architecture
from ctd.reasoning.annotate import AnnotatedTrace


class Text(NamedTuple):
    """What the term of one text is computed from.

    number: of the trace that it was made from.
    example: the text as the student reads it.
    trace: the annotated trace.
    student: the student's last hidden state at each token of the example.
    teacher: the teacher's at each query of the trace, from the first of its reasoning on.
    """

    number: int
    example: Example
    trace: AnnotatedTrace
    student: Float[Tensor, "s e"]
    teacher: Float[Tensor, "n d"]

    def teacher_at(self, queries: Iterable[int]) -> Float[Tensor, "k d"]:
        """The teacher's states at queries of the trace."""
        return self.teacher[[query - self.trace.cot.start for query in queries]]


Term = Callable[[Text], Float[Tensor, ""]]


class HiddenStates(nn.Module):
    """The token loss plus a term of each text, in training mode; otherwise the token loss.

    course: its examples are whole traces, or stand in the order of the traces that they were made from.
    term: of one text, and counts for each of its targets. Where it is a module, its parameters are trained too.
    weight: of the term; at 0 it is the token loss alone.
    of_tokens: weight of the token loss.
    Raises ValueError for a weight below 0.
    """

    def __init__(self, course: Course, term: Term, weight: float, of_tokens: float = 1.0) -> None:
        super().__init__()
        if not weight >= 0:
            raise ValueError(f"weight must be at least 0, got {weight}")
        self.term, self.weight, self.of_tokens = term, weight, of_tokens
        self.examples, self.traces = course.examples, course.experiment.annotated_traces
        self.numbers = [row if example.trace < 0 else example.trace for row, example in enumerate(course.examples)]
        self.teacher = TeacherAlong(course.experiment)

    def forward(self, model: Any, batch: Batch) -> Float[Tensor, ""]:
        """The loss summed over the batch's targets."""
        if not (model.training and self.weight and batch.n_targets):
            return token_loss(model, batch)
        with states_of(model) as read:
            total = token_loss(model, batch)
        exact = torch.promote_types(next(model.parameters()).dtype, torch.float32)
        n_targets = (batch.targets != IGNORED).sum(1)
        numbers = [self.numbers[row] for row in batch.rows]
        with torch.autocast(batch.ids.device.type, enabled=False):
            values = [
                self.term(Text(number, self.examples[row], self.traces[number], student.to(exact), teacher.to(exact)))
                for number, row, student, teacher in zip(
                    numbers, batch.rows, read[0], self.teacher(numbers, batch.ids.device), strict=True
                )
            ]
            return self.of_tokens * total + self.weight * (n_targets * torch.stack(values)).sum()


@contextmanager
def states_of(model: Any) -> Iterator[list[Float[Tensor, "b s e"]]]:
    """The last hidden states of every pass of a model inside."""
    states: list[Tensor] = []
    hook = model.get_decoder().register_forward_hook(lambda module, inputs, out: states.append(out.last_hidden_state))
    try:
        yield states
    finally:
        hook.remove()


class TeacherAlong:
    """The teacher's last hidden states along its own traces, by their numbers."""

    def __init__(self, experiment: Experiment) -> None:
        self.examples = trace_examples(experiment)
        self.states = experiment.teacher_states(self.examples)

    def __call__(self, numbers: Sequence[int], device: torch.device | str = "cpu") -> list[Float[Tensor, "n d"]]:
        """The states of each trace."""
        batch = collate(self.examples, numbers, device)
        return list(self.states(batch).split((batch.targets != IGNORED).sum(1).tolist()))


class Projection(nn.Module):
    """1 - cos of the teacher's vectors, taken to the student's width, and the student's; their mean.

    matrix: takes the one to the other.
    learned: whether it is trained with the student, and dropped with the loss.
    """

    def __init__(self, matrix: Float[Tensor, "d e"], learned: bool) -> None:
        super().__init__()
        if learned:
            self.matrix: Tensor = nn.Parameter(matrix)
        else:
            self.register_buffer("matrix", matrix)

    def forward(self, teacher: Float[Tensor, "k d"], student: Float[Tensor, "k e"]) -> Float[Tensor, ""]:
        """The mean over all vectors; 0 where there is none."""
        return loss_forms.write_cosine(teacher @ self.matrix, student)


def projection(course: Course, form: str) -> Projection:
    """How a student's vectors are compared with the teacher's.

    form: "learned" for a map that is trained along, from the identity on; "fixed" for none, or where the student is not
        made of the teacher's layers, one that is fitted to the two vocabularies before.
    Raises ValueError for another form.
    """
    if form not in ("learned", "fixed"):
        raise ValueError(f"projection_form must be one of learned, fixed, got {form!r}")
    experiment, teacher = course.experiment, course.experiment.language_model.model
    if form == "fixed" and not experiment.shares_basis:
        matrix = loss_forms.fit_to_vocabularies(teacher, course.student)
    else:
        matrix = torch.eye(*(architecture.shape(model).width for model in (teacher, course.student)))
    dtype = torch.promote_types(next(course.student.parameters()).dtype, torch.float32)
    return Projection(matrix.to(dtype), form == "learned")
