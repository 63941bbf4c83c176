"""PGKD: topics in which the student answers worst come more often, with its wrong labels as near misses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ctd.distill.examples import Example
from ctd.distill.experiment import Experiment
from ctd.distill.methods.ddk import topics_of
from ctd.distill.methods.student_samples import in_place_of_teacher
from ctd.distill.methods.teacher_samples import f1_of, sample_example, written
from ctd.distill.methods.texts import gold_labels, trace_examples
from ctd.distill.methods.writers import listing
from ctd.reasoning import predict


def where_it_fails(experiment: Experiment, student: Any) -> list[Example]:
    """As many texts as there are traces, more of those topics in which the student's answers are worse.

    A trace's shortlist gets the labels that the student answers wrongly. The source has new documents written, and
    validates on others; here the documents of the traces are answered, and drawn again (ours).

    student: as the stages before left it.

    Source: PGKD, arXiv:2411.05045.
    """
    answers = written(experiment, in_place_of_teacher(experiment, student), "the student's answers", predict.Request())
    drawn = more_of_the_worst(np.array(f1_of(experiment, answers)), topics_of(experiment))
    gold, whole, tokenizer = gold_labels(experiment), trace_examples(experiment), experiment.language_model.tokenizer
    learned = []
    for row in drawn:
        trace = experiment.traces[row]
        wrong = [label for label in answers[row].answered if label not in gold[trace.uid] | set(trace.shortlisted)]
        harder = listing(trace, experiment, wrong)
        learned.append(sample_example(harder, tokenizer) if harder.text != trace.text else whole[row])
    return learned


def more_of_the_worst(scores: Float[np.ndarray, " n"], topics: Int[np.ndarray, " n"]) -> Sequence[int]:
    """As many documents as there are, each as often as its topic's share of what is missing to an F1 of 1.

    Where all topics are alike, each document comes once.

    scores: F1 of each document.
    topics: the number of its topic.
    """
    missing = 1 - (np.bincount(topics, scores) / np.bincount(topics).clip(min=1))[topics]
    wanted = np.cumsum(missing if missing.sum() > 0 else np.ones(len(scores)))
    places = (np.arange(len(scores)) + 0.5) / len(scores) * wanted[-1]
    rows: list[int] = np.searchsorted(wanted, places).tolist()
    return rows
