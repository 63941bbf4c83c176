"""Recipes: what a student learns from."""

from __future__ import annotations

from ctd.distill import examples
from ctd.distill.examples import Example
from ctd.distill.experiment import Experiment
from ctd.reasoning import traces
from ctd.reasoning.token_spans import tokenize


def trace_examples(experiment: Experiment) -> list[Example]:
    """Every trace: the prompt is read, the reasoning and the answer are learned."""
    end = [experiment.language_model.tokenizer.eos_token_id]
    traces = enumerate(experiment.annotated_traces)
    return [Example([*trace.ids, *end], trace.cot.start + 1, trace=number) for number, trace in traces]


def answer_examples(experiment: Experiment) -> list[Example]:
    """Every trace without its reasoning: the prompt is read, the answer is learned."""
    tokenizer = experiment.language_model.tokenizer
    return [examples.answer_example(trace, tokenizer) for trace in experiment.traces]


def right_traces(experiment: Experiment, at_least: float = 1.0) -> list[Example]:
    """Every trace whose answer is right: the control for methods that see gold labels (our definition).

    at_least: F1 of the answer's labels against the gold labels; 1 for exactly these.
    Raises ValueError where no answer is that right.
    """
    gold = gold_labels(experiment)
    right = [f1(set(trace.answered), gold[trace.uid]) >= at_least for trace in experiment.traces]
    if not any(right):
        raise ValueError(
            f"at_least must be lower than {at_least:g}: none of the {len(right)} traces has an answer of that F1"
        )
    return [example for example in trace_examples(experiment) if right[example.trace]]


def answer_first(experiment: Experiment, answer_weight: float = 0.5) -> list[Example]:
    """Every trace with its answer before its reasoning: the prompt is read, both are learned.

    answer_weight: what a token of the answer counts, against one of the reasoning (1 - answer_weight); times two, so
        that at 0.5 the loss is plain cross-entropy.
    Raises ValueError for a weight outside 0 .. 1.

    Source: Chen et al. (2024), arXiv:2404.09170v2, without its hidden states; the weight is ours.
    """
    if not 0 <= answer_weight <= 1:
        raise ValueError(f"answer_weight must be between 0 and 1, got {answer_weight}")
    tokenizer, reordered = experiment.language_model.tokenizer, []
    for trace in experiment.traces:
        answer = "".join(traces.item_line(label) for label in trace.answer)
        text = f"{answer}{traces.OPEN}{trace.cot}{traces.CLOSE}"
        example = examples.example(trace.prompt + traces.ANSWER, text, tokenizer)
        if answer_weight != 0.5 and answer:
            start, end = example.n_prompt, example.n_prompt + tokenize(text, tokenizer).span(0, len(answer)).end
            weights = ((start, end, 2 * answer_weight), (end, len(example.ids), 2 - 2 * answer_weight))
            example = example._replace(weights=weights)
        reordered.append(example)
    return reordered


def plans(experiment: Experiment) -> list[Example]:
    """Every trace, of which Phase 1 is learned; Phase 2 and the answer are read."""
    annotated = experiment.annotated_traces
    return [
        example._replace(only_read=((trace.boundary + 1, len(example.ids)),))
        for example, trace in zip(trace_examples(experiment), annotated, strict=True)
    ]


def gold_labels(experiment: Experiment) -> dict[str, set[int]]:
    """The scored gold labels of each trace's document, by its uid."""
    uids = {trace.uid for trace in experiment.traces}
    by_document: dict[str, set[int]] = {}
    for split in ("train", "validation"):
        rows = experiment.task.documents.get(split, {"uid": []})["uid"]
        places = {uid: row for row, uid in enumerate(rows) if uid in uids}
        if places:
            gold = experiment.task.gold(split)
            by_document |= {uid: set(gold[row].indices.tolist()) for uid, row in places.items()}
    return by_document


def f1(answered: set[int], gold: set[int]) -> float:
    """F1 of an answer; 1 where there is no gold label and none is answered."""
    return 2 * len(answered & gold) / (len(answered) + len(gold)) if answered or gold else 1.0
