"""HARD: documents are disturbed, and learned from where teacher and student then differ most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ctd.distill.examples import IGNORED, Example, batches, collate
from ctd.distill.experiment import Experiment
from ctd.distill.methods.scoring import AT_ONCE
from ctd.distill.methods.teacher_samples import sample_example, written
from ctd.distill.methods.texts import trace_examples
from ctd.distill.methods.token_by_token import TokenByToken, each_target, kl_divergence
from ctd.distill.settings import Settings
from ctd.distill.teacher_states import Live
from ctd.distill.token_loss import last_hidden
from ctd.reasoning import predict
from ctd.reasoning.sentences import sentences
from ctd.reasoning.traces import Trace


def disturbed_examples(experiment: Experiment, student: Any, n_disturbed: int = 8) -> list[Example]:
    """Every trace, and what the teacher writes about the disturbed document on which the student differs most from it.

    Sentences are left out or exchanged, or a window of the document is taken (ours; the source disturbs images). Only
    documents whose answer stays the teacher's are learned from.

    student: as the stage before left it.
    n_disturbed: disturbed documents that are tried; with 0 the traces alone are learned.

    Source: HARD, arXiv:2305.14890.
    """
    tokenizer, model = experiment.language_model.tokenizer, experiment.language_model.model
    tried: list[tuple[int, Example]] = []
    for number in range(int(n_disturbed)):
        documents = [
            disturb(trace.document, number, np.random.default_rng((number, row)))
            for row, trace in enumerate(experiment.traces)
        ]
        harder = [replace(trace, document=text) for trace, text in zip(experiment.traces, documents, strict=True)]
        texts = written(
            replace(experiment, traces=harder),
            experiment.teacher,
            f"disturbed documents, {number + 1} of {int(n_disturbed)}",
            predict.Request(),
        )
        tried += [
            (row, sample_example(text, tokenizer))
            for row, (text, trace) in enumerate(zip(texts, experiment.traces, strict=True))
            if keeps(text, trace)
        ]
    differ = divergences(model, student, [text for _, text in tried])
    hardest: dict[int, int] = {}
    for place, (row, _) in enumerate(tried):
        if row not in hardest or differ[place] > differ[hardest[row]]:
            hardest[row] = place
    return trace_examples(experiment) + [tried[place][1] for _, place in sorted(hardest.items())]


def keeps(text: Trace, trace: Trace) -> bool:
    """Whether a text about a disturbed document answers as the trace does."""
    return not text.error and text.document != trace.document and set(text.answered) == set(trace.answered)


def disturb(document: str, kind: int, rng: np.random.Generator) -> str:
    """A document without one sentence, in another order, or a window of it, in turn; itself where it is one sentence.

    kind: 0, 3, ... leave out, 1, 4, ... reorder, 2, 5, ... take a window of half of the sentences.
    """
    parts = [document[start:end] for start, end in sentences(document)]
    if len(parts) < 2:
        return document
    if kind % 3 == 0:
        del parts[rng.integers(len(parts))]
    elif kind % 3 == 1:
        parts = [parts[place] for place in rng.permutation(len(parts))]
    else:
        size = (len(parts) + 1) // 2
        first = rng.integers(len(parts) - size + 1)
        parts = parts[first : first + size]
    return " ".join(part.strip() for part in parts)


@torch.no_grad()
def divergences(teacher: Any, student: Any, texts: Sequence[Example]) -> list[float]:
    """The mean KL of a token from the teacher to the student in each text."""
    values: dict[int, float] = {}
    live, head = Live(teacher), TokenByToken(lambda seen: seen.target_log_p, teacher, Live(teacher))
    for rows in batches(texts, Settings(batch_tokens=AT_ONCE)) if texts else []:
        batch = collate(texts, rows, next(student.parameters()).device)
        learned, states = batch.targets != IGNORED, live(batch)

        def divergence(log_p: torch.Tensor, places: slice, states: torch.Tensor = states) -> torch.Tensor:
            return kl_divergence(head.teacher_log_p(states[places], log_p.dtype), log_p)

        parts = each_target(student, last_hidden(student, batch, learned), divergence)
        values |= {
            row: part.mean().item() for row, part in zip(rows, parts.split(learned.sum(1).tolist()), strict=True)
        }
    return [values[row] for row in range(len(texts))]
