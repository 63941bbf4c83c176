"""Recipes that choose among the teacher's texts: by how often it is right, by steps, by a critic, by difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

from ctd.distill.examples import Example
from ctd.distill.experiment import Experiment
from ctd.distill.methods.teacher_samples import sample_example, teacher_samples
from ctd.distill.methods.texts import f1, gold_labels, trace_examples
from ctd.reasoning.traces import Trace
from ctd.retrieval import encoders

T = TypeVar("T")


def in_between(
    experiment: Experiment, keep: float = 0.5, n_samples: int = 4, temperature: float = 1.0
) -> list[Example]:
    """The traces of documents that the teacher answers rightly now and then, and whose samples differ most in F1.

    keep: share of these documents, those with the highest coefficient of variation (ours).
    n_samples: answers to a document.
    temperature: at which they are drawn.
    Raises ValueError where there is no such document.

    Source: DeepDistill, arXiv:2504.17565.
    """
    scores = [[sample.f1 for sample in samples] for samples in teacher_samples(experiment, n_samples, temperature)]
    between = [number for number, values in enumerate(scores) if 0 < pass_rate(values) < 1]
    if not between:
        raise ValueError(f"n_samples must be higher than {n_samples:g}: no document is answered rightly now and then")
    between.sort(key=lambda number: -float(np.std(scores[number]) / np.mean(scores[number])))
    whole = trace_examples(experiment)
    return [whole[number] for number in sorted(between[: ceil(keep * len(between))])]


def pass_rate(scores: Sequence[float]) -> float:
    """The share of a document's samples that are right; 0 without any."""
    return float(np.mean([score >= 1 for score in scores])) if scores else 0.0


def hard_but_solved(
    experiment: Experiment, hardest: float = 0.5, each: int = 2, n_samples: int = 4, temperature: float = 1.0
) -> list[Example]:
    """Right answers of the teacher to the hardest documents that it solves, those that differ most from each other.

    Texts differ by the lines in which one must be edited to become the other. The source also compares teachers, by
    what a pilot student reaches; here there is one.

    hardest: share of the solved documents, those with the lowest pass rate (ours).
    each: texts about a document at most.
    n_samples: answers to a document.
    temperature: at which they are drawn.
    Raises ValueError where no sample is right.

    Source: Beyond Scaling Law, arXiv:2508.09883.
    """
    drawn = teacher_samples(experiment, n_samples, temperature)
    right = {row: [sample.trace for sample in samples if sample.f1 >= 1] for row, samples in enumerate(drawn)}
    rates = {row: len(texts) / len(drawn[row]) for row, texts in right.items() if texts}
    if not rates:
        raise ValueError("hard_but_solved needs documents that a sample of the teacher answers rightly: there is none")
    chosen = sorted(sorted(rates, key=rates.__getitem__)[: ceil(hardest * len(rates))])
    tokenizer = experiment.language_model.tokenizer
    return [
        sample_example(text, tokenizer)
        for row in chosen
        for text in farthest(right[row], int(each), lambda sample, other: edits(_lines(sample), _lines(other)))
    ]


def farthest(items: Sequence[T], n: int, distance: Callable[[T, T], float]) -> list[T]:
    """The first item, and in turn that which is farthest from all before, until there are n or the rest is the same."""
    chosen, remaining = list(items[:1]), list(items[1:])
    while remaining and len(chosen) < n:
        gaps = [min(distance(item, other) for other in chosen) for item in remaining]
        if max(gaps) == 0:
            break
        chosen.append(remaining.pop(int(np.argmax(gaps))))
    return chosen


def edits(first: Sequence[str], second: Sequence[str]) -> int:
    """How many parts must be put in, taken out or replaced to turn one text into another (Levenshtein's distance)."""
    row = list(range(len(second) + 1))
    for number, part in enumerate(first, 1):
        before, row = row, [number]
        for place, its in enumerate(second):
            row.append(min(before[place] + (part != its), before[place + 1] + 1, row[place] + 1))
    return row[-1]


def _lines(trace: Trace) -> list[str]:
    return trace.text.splitlines()


def best_by_steps(
    experiment: Experiment, steps: float = 0.5, n_samples: int = 4, temperature: float = 1.0
) -> list[Example]:
    """The best text about every document, of trace and samples, by rewards of its steps and of its answer.

    Rewards are by rule (ours); the source has a learned model of them.

    steps: weight of the steps; the rest is that of the answer's F1.
    n_samples: answers to a document.
    temperature: at which they are drawn.
    Raises ValueError for a weight outside 0 .. 1.

    Source: ReasonFlux-PRM, arXiv:2506.18896.
    """
    if not 0 <= steps <= 1:
        raise ValueError(f"steps must be between 0 and 1, got {steps}")
    gold, tokenizer = gold_labels(experiment), experiment.language_model.tokenizer
    best = []
    rows = zip(
        trace_examples(experiment), experiment.traces, teacher_samples(experiment, n_samples, temperature), strict=True
    )
    for example, trace, samples in rows:
        right = gold[trace.uid]
        texts = [trace, *(sample.trace for sample in samples)]
        rewards = [steps * step_reward(text, right) + (1 - steps) * f1(set(text.answered), right) for text in texts]
        place = int(np.argmax(rewards))
        best.append(sample_example(texts[place], tokenizer) if place else example)
    return best


def step_reward(trace: Trace, gold: set[int]) -> float:
    """The mean reward of a trace's steps: the shortlist's recall, and 1 for each comparison that decides for gold.

    A comparison counts where one of its labels is gold; it decides for the one that is answered without the other.
    """
    decisive = [set(c.labels) for c in trace.comparisons if len(set(c.labels) & gold) == 1]
    decided = [labels & set(trace.answered) == labels & gold for labels in decisive]
    recall = len(gold & set(trace.shortlisted)) / len(gold) if gold else 1.0
    return float(np.mean([recall, *decided]))


def accepted(
    experiment: Experiment,
    threshold: float = 0.5,
    n_graded: int = 200,
    n_samples: int = 4,
    temperature: float = 1.0,
) -> list[Example]:
    """The traces that a critic accepts, which was fitted to graded samples.

    The critic is a logistic regression on the vectors of document and reasoning (ours); only it sees gold labels.

    threshold: probability of a right answer from which a trace is accepted; at 0 all are.
    n_graded: samples that are graded, of the first documents.
    n_samples: answers to a document.
    temperature: at which they are drawn.
    Raises ValueError where no trace is accepted.

    Source: Symbolic Knowledge Distillation, arXiv:2110.07178.
    """
    drawn = teacher_samples(experiment, n_samples, temperature)
    graded = [sample for samples in drawn for sample in samples][: int(n_graded)]
    if not graded:
        raise ValueError("a critic needs samples of the teacher in the format, and there is none")
    right = np.array([sample.f1 >= 1 for sample in graded])
    chances = critic(vectors(experiment, [sample.trace for sample in graded]), right, vectors(experiment))
    if not (chances >= threshold).any():
        raise ValueError(f"threshold must be lower than {threshold:g}: the critic gives {chances.max():.3g} at most")
    return [example for example in trace_examples(experiment) if chances[example.trace] >= threshold]


def vectors(experiment: Experiment, texts: Sequence[Trace] | None = None) -> Float[np.ndarray, "n d"]:
    """The vectors of document and reasoning side by side.

    texts: whose; the experiment's traces when not given.
    """
    texts = experiment.traces if texts is None else texts
    parts = [[text.document for text in texts], [text.cot or text.document for text in texts]]
    return np.hstack([encoders.encode(experiment.index.encoder, part, "the critic's texts") for part in parts])


def critic(
    graded: Float[np.ndarray, "n d"], right: Bool[np.ndarray, " n"], ungraded: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, " m"]:
    """The probability that texts are right, from graded ones; where these are all alike, their grade."""
    if right.all() or not right.any():
        return np.full(len(ungraded), float(right[0]))
    return LogisticRegression(max_iter=1000).fit(graded, right).predict_proba(ungraded)[:, 1]
