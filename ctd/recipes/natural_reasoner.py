"""What a model that nobody here trained writes about heart-failure vignettes, and what its answers are worth.

    CTD_TEXTS=keep python -m ctd.recipes.natural_reasoner --documents 64

writes what is missing of its texts (two hours on one core), keeps them beside the book, and makes the table of the page
`natural`, `data/natural.csv`. Killed, it goes on where it was. Notes: the closed set of labels is shown whole.
Documents are drawn by seed and asked in groups, so that the texts of few documents are a part of those of more.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_matrix

from ctd import stats
from ctd.data import readers
from ctd.data.task import Task
from ctd.reasoning import free_text, natural, predict, rank_answers, teachers
from ctd.reasoning.rank_answers import Prediction
from ctd.reasoning.teachers import Teacher
from ctd.reasoning.traces import Trace
from ctd.recipes.natural_table import (
    AT_ONCE,
    CUTOFF,
    DATASET,
    MEASURES,
    MODEL,
    PROMPT,
    RANDOM,
    RETRIEVER,
    THINKING,
    Row,
    write,
)  # fmt: skip
from ctd.retrieval import encoders, metrics
from ctd.retrieval import shortlists as sl
from ctd.retrieval.index import LabelIndex
from ctd.retrieval.shortlists import Shortlist

ENCODER = "minilm"
MAX_TOKENS = 384
ORDERS = 200  # random orders of the labels, over which a document's values are averaged

Values = Mapping[str, Float[np.ndarray, " documents"]]


@dataclass(frozen=True)
class Answers:
    """What the model wrote about the same documents.

    task: of which the test documents are those that were asked about, in their order.
    thinking: its texts.
    at_once: its answers without a thought.
    prompts: the labels in the order in which each document's prompt shows them.
    """

    task: Task
    thinking: list[Prediction]
    at_once: list[Prediction]
    prompts: list[list[int]]


def ask(teacher: Teacher, task: Task, index: LabelIndex, n_documents: int, seed: int = 0) -> Answers:
    """Let the model think and answer, and answer at once, about documents drawn by seed, as chapters ask it.

    n_documents: how many; a whole number of groups (`natural.GROUP`), or all that there are.
    """
    drawn = task.sample("test", n_documents, seed, as_drawn=True)
    documents, uids = (list(drawn.documents["test"][column]) for column in ("text", "uid"))
    reason = partial(predict.reason, teacher, documents, index, uids=uids, max_tokens=MAX_TOKENS, seed=seed)
    prompts = [
        labels
        for group, group_seed in natural.groups(len(documents), seed)
        for labels in natural.shown(documents[group], index, seed=group_seed)
    ]
    at_once = reason(predict.Request("answer"), desc=f"{MODEL}, at once")
    return Answers(drawn, reason(desc=f"{MODEL}, thinking"), at_once, prompts)


def scored(answers: Answers, index: LabelIndex, seed: int = 0) -> dict[str, Values]:
    """What each ranking is worth on every document, by its name.

    A ranking of all labels stands for as many of them as the answer after thinking has, where a set is asked for. Of
    random orders each document has its mean.
    """
    task, gold = answers.task, answers.task.gold("test")
    lengths = [len(prediction.ranking) for prediction in answers.thinking]
    retrieved = sl.retrieve_scored(index, task, "test", len(task.space))
    rng = np.random.default_rng(seed)
    orders = [
        worth(np.array([rng.permutation(len(task.space)) for _ in lengths]), lengths, gold) for _ in range(ORDERS)
    ]
    at_once = [len(prediction.ranking) for prediction in answers.at_once]
    return {
        THINKING: worth(rank_answers.rankings(answers.thinking, CUTOFF), lengths, gold),
        AT_ONCE: worth(rank_answers.rankings(answers.at_once, CUTOFF), at_once, gold),
        RETRIEVER: worth(retrieved, lengths, gold),
        PROMPT: worth(sl.as_array(answers.prompts), lengths, gold),
        RANDOM: {measure: np.mean([order[measure] for order in orders], axis=0) for measure in MEASURES},
    }


def worth(ranking: Shortlist, lengths: Sequence[int], gold: csr_matrix) -> dict[str, Float[np.ndarray, " documents"]]:
    """Each of `MEASURES` on every document.

    lengths: how many labels of each ranking are its set.
    """
    sets = [{int(label) for label in row[:length] if label >= 0} for row, length in zip(ranking, lengths, strict=True)]
    exact = [labels == set(row.indices.tolist()) for labels, row in zip(sets, gold, strict=True)]
    measured = (
        np.array(exact, float),
        metrics.ndcg_at_k(ranking, gold, CUTOFF, average=False),
        metrics.recall_at_k(ranking, gold, CUTOFF, average=False),
    )
    return dict(zip(MEASURES, measured, strict=True))


def counted(predictions: Sequence[Prediction]) -> dict[str, Float[np.ndarray, " documents"]]:
    """What the texts show, of every document; NaN where a text does not show it."""
    traces = [prediction.trace for prediction in predictions]
    values = {
        "no thought, the answer alone": [not trace.cot for trace in traces],
        "answer forced": [prediction.forced for prediction in predictions],
        "no answer": [not prediction.ranking for prediction in predictions],
        "tokens written": [prediction.n_tokens for prediction in predictions],
        "labels named while thinking": [len(_named(trace)) for trace in traces],
        "labels answered": [len(prediction.ranking) for prediction in predictions],
        "end of Phase 1, share of the thought": [np.nan if t.boundary is None else t.boundary for t in traces],
        "sentences that judge one label": [len(free_text.verdicts(trace)) for trace in traces],
        "sentences that compare two labels": [len(trace.comparisons) for trace in traces],
    }
    return {name: np.array(value, float) for name, value in values.items()}


def _named(trace: Trace) -> set[int]:
    return {mention.label for mention in trace.mentions if mention.end <= trace.cot_span.end}


def table(answers: Answers, index: LabelIndex, seed: int = 0) -> list[Row]:
    """Scores, what thinking adds to each other ranking, and what the texts show."""
    values = scored(answers, index, seed)
    interval = partial(stats.bootstrap_mean, seed=seed)
    rows = [
        Row("score", method, measure, *interval(by_document).scalar)
        for method, measures in values.items()
        for measure, by_document in measures.items()
    ]
    rows += [
        Row("less", method, measure, *interval(values[THINKING][measure] - by_document).scalar)
        for method, measures in values.items()
        if method != THINKING
        for measure, by_document in measures.items()
    ]
    rows += [Row("text", "", "documents", len(answers.thinking), np.nan, np.nan)]
    for name, by_document in counted(answers.thinking).items():
        there = by_document[np.isfinite(by_document)]
        if len(there):
            rows.append(Row("text", "", name, *interval(there).scalar))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the texts and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=64, help=f"a multiple of {natural.GROUP} (default: 64)")
    n_documents = parser.parse_args(arguments).documents
    if n_documents < natural.GROUP or n_documents % natural.GROUP:
        parser.error(f"--documents must be a multiple of {natural.GROUP}, got {n_documents}")
    task = readers.load(DATASET)
    index = LabelIndex.build(task.space, encoders.load(ENCODER))
    rows = table(ask(teachers.load(MODEL), task, index, n_documents), index)
    write(rows)
    print(*rows, sep="\n")


if __name__ == "__main__":
    main()
