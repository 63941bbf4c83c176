"""A teacher that is told the gold labels: pid learns its traces, opsd its distribution along the student's own texts.

Notes: it is told by the shortlist, to which the gold labels are added; no other prompt was taught to these models.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ctd.distill import examples
from ctd.distill.examples import IGNORED, Batch, Example, collate
from ctd.distill.experiment import Experiment
from ctd.distill.methods.answering import PHASE_2
from ctd.distill.methods.method import Course
from ctd.distill.methods.student_samples import in_place_of_teacher
from ctd.distill.methods.teacher_samples import f1_of, sample_example, written
from ctd.distill.methods.texts import gold_labels
from ctd.distill.methods.token_by_token import Seen, TokenByToken, fixed, kl_divergence
from ctd.distill.methods.writers import listing
from ctd.distill.token_loss import Loss, last_hidden, token_loss
from ctd.reasoning import predict
from ctd.reasoning.token_spans import Span
from ctd.reasoning.traces import OPEN, Trace


def told_traces(experiment: Experiment, at_least: float = 1.0) -> list[Example]:
    """What the teacher writes when its shortlist holds the gold labels, where that is right: all of it is learned.

    The student is told nothing. This is the offline part of the source (its alpha = 0, with rewards of 0 and 1).

    at_least: F1 from which an answer is right.
    Raises ValueError where no answer is.

    Source: Privileged Information Distillation, arXiv:2602.04942, as its authors and third parties explain it.
    """
    gold = gold_labels(experiment)
    begun = [before_phase_2(listing(trace, experiment, sorted(gold[trace.uid]))) for trace in experiment.traces]
    request = predict.Request(beginnings=begun)
    texts = written(experiment, experiment.teacher, "the teacher, told the gold labels", request)
    right = [
        text
        for text, value in zip(texts, f1_of(experiment, texts), strict=True)
        if value >= at_least and not text.error
    ]
    if not right:
        raise ValueError(f"at_least must be lower than {at_least:g}: the teacher that is told has no answer of that F1")
    return [sample_example(text, experiment.language_model.tokenizer) for text in right]


def before_phase_2(trace: Trace) -> str:
    """A trace's text up to the heading of its comparisons; nothing but its opening for one out of the format."""
    text = trace.text
    return text[: text.index(PHASE_2) + len(PHASE_2)] if PHASE_2 in text and trace.free_form is None else OPEN


def own_texts_told(experiment: Experiment, student: Any) -> list[Example]:
    """The student's own text about every document, of which Phase 2 and the answer are learned.

    Beside it stands the text as one who is told reads it. Texts out of the format are left out.

    student: as the stage before left it.
    Raises ValueError where no text is in the format.
    """
    gold, tokenizer = gold_labels(experiment), experiment.language_model.tokenizer
    learned = []
    writer, request = in_place_of_teacher(experiment, student), predict.Request(temperature=1.0)
    for trace in written(experiment, writer, "the student's own texts", request):
        if not trace.error:
            listed = listing(trace, experiment, sorted(gold[trace.uid]))
            plain, with_gold = from_phase_2(trace, tokenizer), from_phase_2(listed, tokenizer)
            if targets(plain) == targets(with_gold):
                learned.append(plain._replace(paired=with_gold))
    if not learned:
        raise ValueError("opsd needs texts of the student in the format, and there is none: let it learn longer before")
    return learned


def from_phase_2(trace: Trace, tokenizer: Any) -> Example:
    """A trace of which the comparisons and the answer are learned, and all before is read."""
    read = Span(0, len(before_phase_2(trace)) - len(OPEN))
    return examples.example(trace.prompt + OPEN, trace.text[len(OPEN) :], tokenizer, [read])


def targets(text: Example) -> list[int]:
    """The tokens that a text teaches."""
    batch = collate([text], [0])
    learned: list[int] = batch.targets[batch.targets != IGNORED].tolist()
    return learned


def opsd(course: Course) -> Loss:
    """KL(student || the same student, told the gold labels) over the next token of its own texts.

    Source: on-policy self-distillation with privileged information, arXiv:2602.04942, as third parties state it.
    """
    return Told(course)


def reverse_kl(seen: Seen) -> Float[Tensor, " m"]:
    """KL from the student's distribution to one that is taken as given."""
    return kl_divergence(seen.log_p, fixed(seen.teacher_log_p))


class Told(TokenByToken):
    """The loss, whose teacher is the student as it stands in each pass.

    course: each of its examples has the text as one who is told reads it, with the same targets.
    """

    def __init__(self, course: Course) -> None:
        self.told = [example.paired for example in course.examples]
        super().__init__(reverse_kl, course.student, lambda batch: torch.empty(0))

    def forward(self, model: Any, batch: Batch) -> Float[Tensor, ""]:
        """The loss summed over the batch's targets."""
        if not (model.training and batch.n_targets):
            return token_loss(model, batch)
        with_gold = collate(self.told, batch.rows, batch.ids.device)
        with torch.no_grad():
            states = last_hidden(model, with_gold, with_gold.targets != IGNORED)
        hidden = last_hidden(model, batch, batch.targets != IGNORED)
        return self.summed(model, hidden, batch, states, self.tokens)
