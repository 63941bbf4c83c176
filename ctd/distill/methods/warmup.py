"""Warm-up: the student learns to reason in a toy domain before it learns from the teacher."""

from __future__ import annotations

from functools import partial

from ctd.data import readers
from ctd.distill import examples
from ctd.distill.examples import Example
from ctd.distill.experiment import Experiment
from ctd.reasoning import architecture, prompts, rationales, teachers, traces

BY_RULE = rationales.Settings(shortlist_size=8, n_near=3, shortlist_order="document")  # how constructed traces look


def toy_examples(experiment: Experiment, domain: str = "heart-failure", n_toy: int = 256) -> list[Example]:
    """Constructed traces of another domain.

    Documents are cut as the teacher's are, and texts that are longer than its context left out.

    domain: a task whose label space has a tree.
    n_toy: documents of it at most.
    Raises ValueError where none is left, and what `rationales.for_task` raises.

    Source: Warm Up Before You Train, arXiv:2505.13718, whose toy domain is a puzzle; this one is ours.
    """
    task, index = teachers.with_topics(readers.load(domain), experiment.index.encoder, 0)
    tokenizer, longest = experiment.language_model.tokenizer, architecture.context(experiment.language_model.model)
    cut = partial(prompts.cut, tokenizer=tokenizer, n_tokens=experiment.teacher.document_tokens)
    written = rationales.for_task(task, "train", index, int(n_toy), 0, BY_RULE, cut)
    whole = [
        examples.example(
            prompts.plain(trace.document) + traces.OPEN, traces.format(trace)[len(traces.OPEN) :], tokenizer
        )
        for trace in written
    ]
    short = [example for example in whole if not longest or len(example.ids) <= longest]
    if not short:
        raise ValueError(f"domain must have texts that fit into the teacher's context, got {domain!r}: use another")
    return short
