"""DASD: samples at two temperatures, chosen by lines that only the teacher finds likely, and drafts of the student."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from math import log
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from ctd.distill.examples import Example
from ctd.distill.experiment import Experiment
from ctd.distill.methods.scoring import line_means, lines_of, target_log_p
from ctd.distill.methods.student_samples import in_place_of_teacher
from ctd.distill.methods.teacher_samples import f1_of, sample_example, teacher_samples, written
from ctd.reasoning import predict
from ctd.reasoning.traces import OPEN, Trace


def cool_samples(experiment: Experiment, n_samples: int = 4, cool: float = 0.6) -> list[Example]:
    """Every sample that the teacher draws at a low temperature: the prompt is read, the text is learned.

    n_samples: answers to a document.
    cool: the temperature.
    """
    tokenizer = experiment.language_model.tokenizer
    drawn = teacher_samples(experiment, n_samples, cool)
    return [sample_example(sample.trace, tokenizer) for samples in drawn for sample in samples]


def divergent_samples(
    experiment: Experiment, student: Any, n_samples: int = 4, temperature: float = 1.0, factor: float = 2.0
) -> list[Example]:
    """The sample about each document with the largest share of lines that the teacher finds much likelier.

    student: as the stages before left it.
    n_samples: answers to a document.
    temperature: at which they are drawn.
    factor: how many times likelier a token of such a line is, in the geometric mean (ours; the source has sentences).

    Source: DASD, arXiv:2601.09088, divergence-aware sampling.
    """
    tokenizer, teacher = experiment.language_model.tokenizer, experiment.language_model.model
    drawn = [[sample.trace for sample in samples] for samples in teacher_samples(experiment, n_samples, temperature)]
    texts = [sample_example(trace, tokenizer) for traces in drawn for trace in traces]
    shares = [
        teacher_share(teacher_log_p, student_log_p, lines_of(trace, tokenizer), factor)
        for teacher_log_p, student_log_p, trace in zip(
            target_log_p(teacher, texts), target_log_p(student, texts), chain(*drawn), strict=True
        )
    ]
    starts = np.cumsum([0, *map(len, drawn)])
    rows = [range(start, start + len(traces)) for start, traces in zip(starts, drawn, strict=False) if traces]
    return [texts[max(row, key=shares.__getitem__)] for row in rows]


def teacher_share(
    teacher: Float[Tensor, " n"], student: Float[Tensor, " n"], lines: Int[Tensor, " n"], factor: float
) -> float:
    """The share of lines whose tokens are so many times likelier to the teacher, in the geometric mean.

    teacher: log-probabilities of the tokens.
    student: likewise.
    lines: the number of each token's line.
    """
    return (line_means(teacher - student, lines) >= log(factor)).double().mean().item()


def mixed_policy(
    experiment: Experiment,
    student: Any,
    n_samples: int = 4,
    temperature: float = 1.0,
    factor: float = 2.0,
    student_share: float = 0.28,
) -> list[Example]:
    """The teacher's texts, and some that the student begins where it goes astray and the teacher goes on with.

    Such a text is all learned, what the student wrote of it too, as in the source. A student is astray where its answer
    is worse than that of the teacher's trace; its text is cut after a random line (ours).

    student: as the stages before left it.
    n_samples: texts that the teacher draws for each document, as in the stage before.
    temperature: of these draws.
    factor: by which a line must be likelier to the teacher, as in the stage before.
    student_share: the largest share of texts that the student begins; the source has 1 to 2.6 of the teacher's.
    Raises ValueError for a share outside 0 .. 1.

    Source: DASD, arXiv:2601.09088.
    """
    if not 0 <= student_share < 1:
        raise ValueError(f"student_share must be at least 0 and below 1, got {student_share}")
    texts = divergent_samples(experiment, student, n_samples, temperature, factor)
    most = round(len(texts) * student_share / (1 - student_share))
    return texts + continued(experiment, student, temperature)[:most]


def continued(experiment: Experiment, student: Any, temperature: float = 1.0) -> list[Example]:
    """The student's texts that go astray, cut after a random line, as the teacher goes on with them.

    temperature: at which both write.
    """
    drafts = written(
        experiment,
        in_place_of_teacher(experiment, student),
        "the student's drafts",
        predict.Request(temperature=temperature),
    )
    of_student, of_teacher = f1_of(experiment, drafts), f1_of(experiment, experiment.traces)
    astray = [row for row, (reached, best) in enumerate(zip(of_student, of_teacher, strict=True)) if reached < best]
    if not astray:
        return []
    rng = np.random.default_rng(len(drafts))
    begun = replace(experiment, traces=[experiment.traces[row] for row in astray])
    request = predict.Request(beginnings=[cut(drafts[row], rng) for row in astray], temperature=temperature)
    texts = written(begun, experiment.teacher, "drafts that the teacher goes on with", request)
    return [sample_example(text, experiment.language_model.tokenizer) for text in texts if not text.error]


def cut(draft: Trace, rng: np.random.Generator) -> str:
    """The beginning of a text, up to the end of a random line of its reasoning."""
    text = draft.text
    ends = [place + 1 for place, letter in enumerate(text[: draft.cot_span.end]) if letter == "\n"]
    return text[: ends[rng.integers(len(ends))]] if ends else OPEN
