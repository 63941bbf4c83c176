"""Several answers of the teacher to each training document, drawn once for all methods that learn from them.

Notes: texts are kept by `ctd.reasoning.generate`, under the teacher, the prompts and how they are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ctd.distill import examples
from ctd.distill.examples import Example
from ctd.distill.experiment import Experiment
from ctd.distill.methods.texts import f1, gold_labels
from ctd.reasoning import predict, traces
from ctd.reasoning.teachers import Teacher
from ctd.reasoning.traces import Trace


class Sample(NamedTuple):
    """One answer of the teacher.

    trace: what it wrote.
    f1: of its labels against the gold labels.
    """

    trace: Trace
    f1: float


def teacher_samples(experiment: Experiment, n_samples: int = 4, temperature: float = 1.0) -> list[list[Sample]]:
    """The teacher's sampled answers to the document of every trace; those out of the format are left out.

    n_samples: answers to a document.
    temperature: at which they are drawn.
    Raises ValueError for fewer than one sample, or a temperature of 0, at which all would be the same.
    """
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}: at 0 all samples are the same")
    drawn: list[list[Sample]] = [[] for _ in experiment.traces]
    for number in range(int(n_samples)):
        desc = f"the teacher's samples, {number + 1} of {int(n_samples)}"
        texts = written(experiment, experiment.teacher, desc, predict.Request(temperature=temperature), number)
        for samples, text, value in zip(drawn, texts, f1_of(experiment, texts), strict=True):
            if not text.error:
                samples.append(Sample(text, value))
    return drawn


def written(experiment: Experiment, writer: Teacher, desc: str, request: predict.Request, seed: int = 0) -> list[Trace]:
    """What teacher or student writes about the document of every trace.

    writer: teacher or student.
    desc: what the progress bar says.
    """
    predictions = predict.reason(
        writer,
        [trace.document for trace in experiment.traces],
        experiment.index,
        request,
        uids=[trace.uid for trace in experiment.traces],
        max_tokens=experiment.plan.max_tokens,
        seed=seed,
        desc=desc,
    )
    return [prediction.trace for prediction in predictions]


def f1_of(experiment: Experiment, texts: Sequence[Trace]) -> list[float]:
    """F1 of each text's answer against the gold labels."""
    gold = gold_labels(experiment)
    return [f1(set(text.answered), gold[text.uid]) for text in texts]


def sample_example(trace: Trace, tokenizer: predict.PreTrainedTokenizerBase) -> Example:
    """A trace's prompt, which is read, and its text, which is learned."""
    return examples.example(trace.prompt + traces.OPEN, trace.text[len(traces.OPEN) :], tokenizer)
