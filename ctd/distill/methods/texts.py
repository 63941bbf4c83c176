"""Recipes: what a student learns from."""

from __future__ import annotations

from ctd.distill import examples
from ctd.distill.examples import Example
from ctd.distill.experiment import Experiment


def trace_examples(experiment: Experiment) -> list[Example]:
    """Every trace: the prompt is read, the reasoning and the answer are learned."""
    end = [experiment.language_model.tokenizer.eos_token_id]
    traces = enumerate(experiment.annotated_traces)
    return [Example([*trace.ids, *end], trace.cot.start + 1, trace=number) for number, trace in traces]


def answer_examples(experiment: Experiment) -> list[Example]:
    """Every trace without its reasoning: the prompt is read, the answer is learned."""
    tokenizer = experiment.language_model.tokenizer
    return [examples.answer_example(trace, tokenizer) for trace in experiment.traces]
