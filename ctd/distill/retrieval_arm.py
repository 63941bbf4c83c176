"""The best system without a language model as an arm: it learns from the gold labels of the students' documents."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from ctd.distill.comparison import PLACES, RETRIEVAL
from ctd.distill.experiment import Experiment
from ctd.distill.measures import Outcome
from ctd.distill.methods.method import Known
from ctd.retrieval import metrics
from ctd.retrieval.linear import WithoutLanguageModel

SUMMARY = (
    "A linear classifier on TF-IDF for each label of the training documents, added to the search by embeddings; no "
    "language model"
)
SOURCE = "DiSMEC, arXiv:1609.02521"
KNOWN: Known = "abstract"


def outcomes(experiment: Experiment, seeds: Sequence[int], draw: int) -> list[Outcome]:
    """What it answers about the test documents, the same for every seed.

    It answers with as many labels as training documents have on average, and its shortlist is as long as the teacher's
    on average (both ours); nDCG and PSP read its five best labels.

    seeds: of the students beside it.
    draw: drew the training documents.
    """
    task, plan, began = experiment.task, experiment.plan, time.perf_counter()
    learned = task.sample("train", plan.n_traces, draw)
    system = WithoutLanguageModel.fit(learned, experiment.index)
    seconds, began = time.perf_counter() - began, time.perf_counter()
    n_answered = max(1, round(learned.gold("train").sum() / len(learned.documents["train"])))
    n_listed = max(1, round(np.mean([len(answer.trace.shortlisted) for answer in experiment.teacher_answers])))
    exclude = task.filtered[plan.split][: plan.n_test] if plan.split in task.filtered else None
    places = min(max(n_answered, n_listed, PLACES), len(task.space))
    ranking = system.search(experiment.test_documents, places, exclude)[1]
    values = {
        "exact_match": np.array(
            [
                set(row[:n_answered].tolist()) == set(labels.indices.tolist())
                for row, labels in zip(ranking, experiment.gold, strict=True)
            ],
            float,
        ),
        "ndcg@5": metrics.ndcg_at_k(ranking, experiment.gold, min(PLACES, places), average=False),
        "shortlist_recall": metrics.recall_at_k(ranking, experiment.gold, min(n_listed, places), average=False),
        "token_probability": np.full(len(ranking), np.nan),
        "tokens": np.zeros(len(ranking)),
    }
    answers, nothing = ranking[:, :PLACES].tolist(), [""] * len(ranking)
    took = (time.perf_counter() - began) / len(ranking)
    return [
        Outcome(RETRIEVAL, seed, values, answers, nothing, 0, 0, seconds, np.nan, took, np.nan, 0) for seed in seeds
    ]
