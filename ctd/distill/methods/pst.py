"""Post-Semantic-Thinking: the answer comes first, and the reasoning behind it is held near the teacher's."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from ctd.distill.examples import Example
from ctd.distill.experiment import Experiment
from ctd.distill.methods.hidden_states import HiddenStates, Projection, Text, projection
from ctd.distill.methods.method import Course
from ctd.distill.methods.texts import answer_examples
from ctd.distill.token_loss import Loss
from ctd.reasoning.token_spans import Span, TokenizedText, tokenize
from ctd.reasoning.traces import Trace

LINE = re.compile(r"^(?!Shortlist:$|Compare:$).*\S.*$", re.MULTILINE)


def answers_before_reasoning(experiment: Experiment) -> list[Example]:
    """Every trace with its answer before its reasoning: the answer is learned, the reasoning read.

    The reasoning stands behind the answer's end token, so that students answer as those of `answer` do (ours).
    """
    tokenizer, texts = experiment.language_model.tokenizer, []
    rows = zip(answer_examples(experiment), experiment.annotated_traces, experiment.traces, strict=True)
    for answer, annotated, trace in rows:
        opening = tokens_of(trace, tokenizer).span(len(trace.prompt), len(trace.prompt) + 1).start
        ids = [*answer.ids, *annotated.ids[opening : annotated.cot.end + 1]]
        texts.append(Example(ids, answer.n_prompt, ((len(answer.ids), len(ids)),)))
    return texts


def pst(course: Course, weight: float = 1.0, projection_form: str = "learned") -> Loss:
    """Cross-entropy of the answer, and 1 - cos of student and teacher in each line of the reasoning behind it.

    A line is its mean last hidden state (ours; as far as we know, the source says that hidden states are compared, and
    not how). The teacher reads its trace in its own order, which it was taught.

    weight: of the lines; at 0 the loss is that of `answer`.
    projection_form: how widths are compared (see `hidden_states.projection`).

    Source: Chen et al. (2024), arXiv:2404.09170v2.
    """
    tokenizer = course.experiment.language_model.tokenizer
    lines = [lines_of(trace, tokenizer) for trace in course.experiment.traces]
    return HiddenStates(course, Lines(lines, projection(course, projection_form)), weight)


class Lines(nn.Module):
    """The term: the lines of a text's reasoning, with which the student's text ends.

    lines: the queries of each line, of every trace.
    compare: the means of the teacher's lines with those of the student's.
    """

    def __init__(self, lines: Sequence[Sequence[Span]], compare: Projection) -> None:
        super().__init__()
        self.lines, self.compare = lines, compare

    def forward(self, text: Text) -> Float[Tensor, ""]:
        """The mean over the lines."""
        shift = len(text.example.ids) - (text.trace.cot.end + 1)
        lines = self.lines[text.number]
        if not lines:
            return text.student.sum() * 0
        student = torch.stack([text.student[start + shift : end + shift].mean(0) for start, end in lines])
        teacher = torch.stack([text.teacher_at(range(*line)).mean(0) for line in lines])
        return self.compare(teacher, student)


def lines_of(trace: Trace, tokenizer: PreTrainedTokenizerBase) -> list[Span]:
    """The queries of each line of a trace's reasoning, but for its headings."""
    tokens, start = tokens_of(trace, tokenizer), len(trace.prompt)
    return [
        tokens.queries(start + line.start(), start + line.end()) for line in LINE.finditer(trace.text, *trace.cot_span)
    ]


def tokens_of(trace: Trace, tokenizer: PreTrainedTokenizerBase) -> TokenizedText:
    """A trace's prompt and text as tokens."""
    return trace.tokens or tokenize(trace.prompt + trace.text, tokenizer)
