"""Recipes that shorten traces: by how hard the document is, and by what the answer does not need."""

from __future__ import annotations

from dataclasses import replace

from ctd.distill.examples import Example
from ctd.distill.experiment import Experiment
from ctd.distill.methods.choosing import pass_rate
from ctd.distill.methods.chunks import lines, without
from ctd.distill.methods.teacher_samples import f1_of, sample_example, teacher_samples, written
from ctd.distill.methods.texts import trace_examples
from ctd.reasoning import predict, trace_parser, traces
from ctd.reasoning.token_spans import Span
from ctd.reasoning.traces import Trace


def by_difficulty(
    experiment: Experiment, easy: float = 0.75, hard: float = 0.25, n_samples: int = 4, temperature: float = 1.0
) -> list[Example]:
    """Every trace, the shorter the easier its document: with 4 labels and no comparison, with 8 and 1, or whole.

    A document is as easy as the teacher's samples are often right. Traces are shortened by rule (ours); in the source a
    language model rewrites them.

    easy: share of right samples from which a document is easy.
    hard: share up to which it is hard.
    n_samples: answers to a document.
    temperature: at which they are drawn.
    Raises ValueError where a document would be both.

    Source: LiteCoT, arXiv:2505.19716.
    """
    if not 0 <= hard < easy <= 1:
        raise ValueError(f"hard must be at least 0 and below easy ({easy:g}), which is at most 1, got {hard}")
    tokenizer, learned = experiment.language_model.tokenizer, []
    drawn = teacher_samples(experiment, n_samples, temperature)
    for example, trace, samples in zip(trace_examples(experiment), experiment.traces, drawn, strict=True):
        rate = pass_rate([sample.f1 for sample in samples])
        short = trace if rate <= hard else pruned(trace, experiment, *((4, 0) if rate >= easy else (8, 1)))
        learned.append(example if short is trace else sample_example(short, tokenizer))
    return learned


def pruned(trace: Trace, experiment: Experiment, n_labels: int, n_comparisons: int) -> Trace:
    """A trace with so many labels in its shortlist and so many comparisons at most; itself where it has no more.

    Labels of the answer stay, then those that come first; comparisons stay whose labels do.
    """
    items = lines(trace)
    if trace.free_form is not None or len(items) != len(trace.shortlisted):
        return trace
    order = sorted(trace.shortlisted, key=lambda label: label not in trace.answered)
    remaining = set(trace.answered) | set(order[:n_labels])
    compared = [c for c in trace.comparisons if set(c.labels) <= remaining][:n_comparisons]
    dropped = [span for span, label in zip(items, trace.shortlisted, strict=True) if label not in remaining]
    dropped += [Span(c.start, c.end) for c in trace.comparisons if c not in compared]
    text = without(trace.text, [Span(start - 1, end) for start, end in dropped])
    return as_trace(experiment, trace, text) if dropped else trace


def as_trace(experiment: Experiment, trace: Trace, text: str) -> Trace:
    """Another text about the document of a trace."""
    read = trace_parser.parse(text, experiment.task.space, trace.uid, trace.document)
    return replace(read, prompt=trace.prompt)


def retraced(experiment: Experiment) -> list[Example]:
    """Every trace without the comparisons that the teacher does not need for an answer as good.

    The teacher answers after no comparison, after one, and so on, until its answer is as good as that of the trace.
    Cuts are between comparisons (ours); the source also goes on with other thoughts.

    Source: Retro-Search, arXiv:2504.04383.
    """
    reached, short = f1_of(experiment, experiment.traces), dict[int, Trace]()
    for number in range(max(len(trace.comparisons) for trace in experiment.traces)):
        rows = [
            row
            for row, trace in enumerate(experiment.traces)
            if row not in short and number < len(trace.comparisons) and trace.free_form is None
        ]
        if not rows:
            continue
        part = replace(experiment, traces=[experiment.traces[row] for row in rows])
        request = predict.Request(beginnings=[answer_now(trace, number) for trace in part.traces])
        texts = written(part, experiment.teacher, f"answers after {number} comparisons", request)
        for row, text, value in zip(rows, texts, f1_of(part, texts), strict=True):
            if not text.error and value >= reached[row] and len(text.text) < len(experiment.traces[row].text):
                short[row] = text
    tokenizer = experiment.language_model.tokenizer
    return [
        sample_example(short[row], tokenizer) if row in short else example
        for row, example in enumerate(trace_examples(experiment))
    ]


def answer_now(trace: Trace, n_comparisons: int) -> str:
    """A trace's text up to its answer's heading, with its first comparisons alone."""
    return f"{trace.text[: trace.comparisons[n_comparisons].start - 1]}{traces.CLOSE}{traces.ANSWER}"
