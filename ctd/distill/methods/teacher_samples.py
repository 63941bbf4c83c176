"""Several answers of the teacher to each training document, drawn once for all methods that learn from them.

Notes: texts are kept by `ctd.reasoning.generate`, under the teacher, the prompts and how they are drawn.
"""

from __future__ import annotations

from typing import NamedTuple

from ctd.distill import examples
from ctd.distill.examples import Example
from ctd.distill.experiment import Experiment
from ctd.distill.methods.texts import f1, gold_labels
from ctd.reasoning import predict, traces
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
    gold, documents = gold_labels(experiment), [trace.document for trace in experiment.traces]
    drawn: list[list[Sample]] = [[] for _ in documents]
    for number in range(int(n_samples)):
        answers = predict.reason(
            experiment.teacher,
            documents,
            experiment.index,
            predict.Request(temperature=temperature),
            uids=[trace.uid for trace in experiment.traces],
            max_tokens=experiment.plan.max_tokens,
            seed=number,
            desc=f"the teacher's samples, {number + 1} of {int(n_samples)}",
        )
        for samples, answer in zip(drawn, answers, strict=True):
            if not answer.trace.error:
                samples.append(Sample(answer.trace, f1(set(answer.trace.answered), gold[answer.trace.uid])))
    return drawn


def sample_example(trace: Trace, tokenizer: predict.PreTrainedTokenizerBase) -> Example:
    """A trace's prompt, which is read, and its text, which is learned."""
    return examples.example(trace.prompt + traces.OPEN, trace.text[len(traces.OPEN) :], tokenizer)
