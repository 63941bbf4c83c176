"""SemCoT: pause tokens stand for the reasoning, and the student's states there are held near those of the teacher."""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor, nn

from ctd.distill import examples
from ctd.distill.examples import Example
from ctd.distill.experiment import Experiment
from ctd.distill.methods.hidden_states import HiddenStates, Projection, Text, projection
from ctd.distill.methods.method import Course
from ctd.distill.token_loss import Loss

PAUSE = ".\n"


def pauses(n_pauses: int = 5) -> str:
    """What stands between the prompt and the answer.

    Raises ValueError for fewer than none.
    """
    if n_pauses < 0:
        raise ValueError(f"n_pauses must be at least 0, got {n_pauses}")
    return PAUSE * int(n_pauses)


def paused_answers(experiment: Experiment, n_pauses: int = 5) -> list[Example]:
    """Every trace with pauses in place of its reasoning: prompt and pauses are read, the answer is learned.

    The pauses are the first span that is only read, and the answer's heading is the second.

    n_pauses: lines with a dot; 0 gives the texts of `answer`.
    """
    tokenizer, between = experiment.language_model.tokenizer, pauses(n_pauses)
    texts = []
    for trace in experiment.traces:
        text = examples.answer_example(replace(trace, prompt=trace.prompt + between), tokenizer)
        if between:
            start, end = (
                len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
                for prompt in (trace.prompt, trace.prompt + between)
            )
            text = Example(text.ids, start, ((start, end), (end, text.n_prompt)))
        texts.append(text)
    return texts


def semcot(course: Course, share: float = 0.5, projection_form: str = "learned") -> Loss:
    """Cross-entropy of the answer, and 1 - cos of the student's mean state at the pauses and the teacher's reasoning.

    The student answers here. In the source the frozen teacher does, from a small model's states, which are compared by
    an encoder cut from the teacher and trained on rationales and their short forms. In its place stands the teacher's
    mean last hidden state over its reasoning (ours).

    share: of the pauses in the loss, against that of the answer (1 - share); at 0 it is an answer after pauses.
    projection_form: how widths are compared (see `hidden_states.projection`).
    Raises ValueError for a share outside 0 .. 1.

    Source: SemCoT, arXiv:2510.24940, and the authors' code.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share must be at least 0 and below 1, got {share}")
    if not any(example.only_read for example in course.examples):
        share = 0.0
    return HiddenStates(course, Pauses(projection(course, projection_form)), share, 1 - share)


class Pauses(nn.Module):
    """The term: the pauses of a text for the teacher's reasoning.

    compare: the teacher's mean with the student's.
    """

    def __init__(self, compare: Projection) -> None:
        super().__init__()
        self.compare = compare

    def forward(self, text: Text) -> Float[Tensor, ""]:
        """1 - cos of the two means."""
        (start, end), *_ = text.example.only_read
        student = text.student[start:end].mean(0, keepdim=True)
        return self.compare(text.teacher_at(range(*text.trace.cot)).mean(0, keepdim=True), student)
