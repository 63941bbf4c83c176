"""Skip-Thinking: a trace is learned chunk by chunk, and chunks without which the answer still comes out are skipped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from ctd.distill import examples
from ctd.distill.examples import IGNORED, Example, batches, collate
from ctd.distill.experiment import Experiment
from ctd.distill.methods.texts import trace_examples
from ctd.distill.methods.token_by_token import each_target
from ctd.distill.settings import Settings
from ctd.distill.token_loss import last_hidden
from ctd.reasoning import traces
from ctd.reasoning.token_spans import Span, tokenize
from ctd.reasoning.traces import Trace

AT_ONCE = 4096  # tokens that go through the student at once


def chunk_examples(experiment: Experiment, block: int = 4) -> list[Example]:
    """Every chunk of every trace: all before it is read, the chunk is learned.

    Chunks are the topics, blocks of the shortlist, each comparison, and the answer (our definition, in place of the
    source's equal parts, whose boundaries it moves).

    block: labels of the shortlist in a chunk.

    Source: Skip-Thinking's chunk-wise training (CWT), arXiv:2505.18642, as third parties state it.
    """
    tokenizer, chunks = experiment.language_model.tokenizer, []
    for trace, annotated in zip(experiment.traces, experiment.annotated_traces, strict=True):
        tokens = trace.tokens or tokenize(trace.prompt + trace.text, tokenizer)
        ids, places = [*annotated.ids, tokenizer.eos_token_id], [len(trace.prompt) + c for c in starts(trace, block)]
        cuts = {tokens.span(place, place + 1).start for place in places}
        first = annotated.cot.start + 1
        bounds = [first, *sorted(cut for cut in cuts if cut > first), len(ids)]
        chunks += [Example(ids[:end], start) for start, end in pairwise(bounds)]
    return chunks


def starts(trace: Trace, block: float) -> list[int]:
    """The characters of a trace's text at which its chunks begin, but for the first."""
    places = [trace.cot_span.end]
    if trace.shortlist is not None:
        places += [trace.shortlist.start, *(line.start for line in lines(trace)[int(block) :: int(block)])]
    if trace.comparisons:
        heading = [trace.shortlist.end] if trace.shortlist is not None else []
        places += [*heading, *(comparison.start for comparison in trace.comparisons[len(heading) :])]
    return sorted(set(places))


def lines(trace: Trace) -> list[Span]:
    """The lines of a trace's shortlist that name a label, as characters of its text."""
    if trace.shortlist is None:
        return []
    items = re.compile(r"^- .*$", re.MULTILINE).finditer(trace.text, *trace.shortlist)
    return [Span(*item.span()) for item in items]


def skippable(trace: Trace, block: float) -> list[Span]:
    """Characters of a trace's text that can be left out, one chunk each; all but one block of the shortlist."""
    text, topics = trace.text, re.compile(r"(?<=Topics:) .+").search(trace.text, *trace.cot_span)
    items, step = lines(trace), int(block)
    chunks = [Span(*topics.span())] if topics else []
    for place in range(0, len(items), step):
        part = items[place : place + step]
        chunks.append(Span(part[0].start - 1, part[-1].end))
    return chunks + [Span(c.start - 1, c.end) for c in trace.comparisons if text[c.start - 1] == "\n"]


def without(text: str, left_out: Sequence[Span]) -> str:
    """A text without some of its characters."""
    for start, end in sorted(left_out, reverse=True):
        text = text[:start] + text[end:]
    return text


def shortened(experiment: Experiment, student: Any, block: int = 4) -> list[Example]:
    """Every trace without the chunks that the student can skip: the prompt is read, the rest is learned.

    One chunk is tried after the other. It is left out where each token of the answer is still the student's likeliest,
    given the answer so far (our definition of an answer that comes out).

    student: after chunk-wise training.
    block: labels of the shortlist in a chunk.

    Source: Skip-Thinking's skip-thinking training (STT), arXiv:2505.18642, as third parties state it.
    """
    tokenizer, written = experiment.language_model.tokenizer, experiment.traces
    chunks = [skippable(trace, block) if trace.free_form is None else [] for trace in written]
    left_out: list[list[Span]] = [[] for _ in written]
    for number in range(max(map(len, chunks), default=0)):
        texts = {
            row: without(written[row].text, [*left_out[row], spans[number]])
            for row, spans in enumerate(chunks)
            if number < len(spans)
        }
        tried = [row for row, text in texts.items() if "Shortlist:\n- " in text]  # else it would be out of the format
        targets = [answer_of(written[row], texts[row], tokenizer) for row in tried]
        for row, skips in zip(tried, comes_out(student, targets), strict=True):
            if skips:
                left_out[row].append(chunks[row][number])
    return [
        examples.example(trace.prompt + traces.OPEN, without(trace.text, spans)[len(traces.OPEN) :], tokenizer)
        if spans
        else whole
        for trace, spans, whole in zip(written, left_out, trace_examples(experiment), strict=True)
    ]


def answer_of(trace: Trace, text: str, tokenizer: Any) -> Example:
    """A shortened text of which the answer alone is learned."""
    start = len(text) - (trace.answer_span.end - trace.answer_span.start)
    return examples.example(trace.prompt + text[:start], text[start:], tokenizer)


@torch.no_grad()
def comes_out(student: Any, answers: Sequence[Example]) -> list[bool]:
    """Whether each target is, token for token, what the student finds the likeliest."""
    student.eval()
    likeliest = [False] * len(answers)
    for rows in batches(answers, Settings(batch_tokens=AT_ONCE)):
        batch = collate(answers, rows, next(student.parameters()).device)
        learned = batch.targets != IGNORED
        hidden, text = last_hidden(student, batch, learned), learned.nonzero()[:, 0]
        right = each_target(student, hidden, lambda log_p, places: log_p.argmax(-1)) == batch.targets[learned]
        for place, row in enumerate(rows):
            likeliest[row] = bool(right[text == place].all())
    return likeliest
