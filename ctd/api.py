"""The library in ten names: `import ctd`, then `ctd.load_task`, `ctd.reason` and so on. Each loads what it needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ctd.data.readers import load as load_task
from ctd.reasoning.predict import reason
from ctd.reasoning.teachers import load as load_model
from ctd.retrieval.index import LabelIndex

if TYPE_CHECKING:
    import pandas as pd

    from ctd.data.label_space import LabelSpace
    from ctd.data.task import Task
    from ctd.mechanism.head_scores import HeadScores
    from ctd.reasoning.annotate import AnnotatedTrace
    from ctd.reasoning.rank_answers import Prediction
    from ctd.reasoning.teachers import Teacher

__all__ = ["LabelIndex", "claims", "evaluate", "explain", "load_model", "load_task", "patch", "reason", "score_heads"]


def evaluate(
    predictions: Sequence[Prediction], task: Task, split: str = "test", cutoff: int = 5, seed: int = 0
) -> pd.DataFrame:
    """Score a model's answers: P@1, P@k, nDCG@k, PSP@k and F1 with 95 % intervals over documents.

    predictions: one for each document of the split, in order (see `reason`).
    task: whose gold labels count.
    split: "train", "validation" or "test".
    cutoff: k.
    seed: of the bootstrap draws.
    Returns columns method, metric, value, low, high.
    Raises ValueError where the split has another number of documents.
    """
    from ctd.reasoning import rank_answers
    from ctd.retrieval import scorecard

    n_documents = len(task.documents[split])
    if len(predictions) != n_documents:
        raise ValueError(f"the split '{split}' has {n_documents} documents, got {len(predictions)} predictions")
    ranked = {"model": rank_answers.rankings(predictions, cutoff)}
    return scorecard.scorecard(ranked, task.gold(split), task.gold("train"), cutoff, seed, "model")


def explain(prediction: Prediction, space: LabelSpace) -> pd.DataFrame:
    """Show why a model answered as it did: a row for each label that it answered, best first.

    prediction: of one document (see `reason`).
    space: the labels.
    Returns columns label, score (the probability with which the model wrote it), shortlisted, compared_with (the labels
    that it weighed it against) and quotes (the document's words that it named for it).
    """
    import pandas as pd

    trace, rows = prediction.trace, []
    for place, label in enumerate(prediction.ranking):
        comparisons = [comparison for comparison in trace.comparisons if label in comparison.labels]
        others = {space.texts[other] for comparison in comparisons for other in comparison.labels if other != label}
        quotes = dict.fromkeys(quote for comparison in comparisons for quote in comparison.quotes)
        score = math.exp(prediction.scores[place]) if prediction.scores else math.nan
        rows.append((space.texts[label], score, label in trace.shortlisted, sorted(others), list(quotes)))
    return pd.DataFrame(rows, columns=["label", "score", "shortlisted", "compared_with", "quotes"])


def score_heads(
    teacher: Teacher, task: Task, predictions: Sequence[Prediction], topic_depth: int = 0, n_topics: int = 2
) -> HeadScores:
    """Score every attention head of a model on its own traces, by every score of both phases.

    teacher: the model that wrote the traces (see `load_model`).
    task: whose test documents the traces are about.
    predictions: one for each test document, in order (see `reason`).
    topic_depth: level of the label tree whose nodes are the topics, 0 for the highest.
    n_topics: topics of a document at most.
    Returns scores by document; `.top("CoarseScore", 5)` is a table of the highest heads.
    Raises ValueError for a model whose heads cannot be read, or where no trace can be scored.
    """
    from ctd.mechanism import heads
    from ctd.reasoning import architecture

    model = teacher.language_model.model
    architecture.shape(model)
    return heads.score(model, _annotated(teacher, task, predictions, topic_depth, n_topics))


def patch(
    teacher: Teacher,
    task: Task,
    predictions: Sequence[Prediction],
    n_scored: int = 32,
    n_heads: int = 4,
    topic_depth: int = 0,
    n_topics: int = 2,
    seed: int = 0,
) -> pd.DataFrame:
    """Silence a model's highest heads of each phase, and random heads beside them: what does each readout lose?

    teacher, task, predictions, topic_depth, n_topics: as in `score_heads`.
    n_scored: documents that heads are ranked on; they are patched on the others.
    n_heads: heads of each phase that are patched together.
    seed: draws random heads and the documents that stand in.
    Returns columns readout, heads, size, value, low, high, n.
    Raises ValueError where fewer than two documents are left to patch on.
    """
    from ctd.mechanism import head_bins, patching, trials

    model = teacher.language_model.model
    traces = _annotated(teacher, task, predictions, topic_depth, n_topics)
    trial = trials.trial(model, traces, n_scored, len(traces), seed=seed, corruption="document")
    selected = head_bins.selections(trial.rankings, [n_heads], 5, seed)
    return patching.phase_effects(model, trial.pairs, selected).table(seed)


def claims(profile: str = "default") -> pd.DataFrame:
    """List every claim of the paper with its rule, the published number, ours, and the verdict that follows.

    profile: that of the reader's runs; runs that are published with the book have rows of their own.
    Returns the columns of `ctd claims`.
    """
    import pandas as pd

    from ctd.book import ledger

    return pd.DataFrame([row.cells for row in ledger.judge_claims(profile)], columns=list(ledger.COLUMNS))


def _annotated(
    teacher: Teacher, task: Task, predictions: Sequence[Prediction], topic_depth: int, n_topics: int
) -> list[AnnotatedTrace]:
    from ctd.reasoning import annotate, architecture

    tokenizer, model = teacher.language_model.tokenizer, teacher.language_model.model
    assert tokenizer is not None, "heads are read from a model, not from a server"
    traces, _ = annotate.annotate_task(
        task, predictions, tokenizer, topic_depth, n_topics, longest=architecture.context(model)
    )
    return traces
