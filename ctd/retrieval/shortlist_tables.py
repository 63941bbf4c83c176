"""How good is a shortlist? Recall at its size, where it fails, and what a perfect refiner could make of it.

Notes: tables are long pandas frames, one row a number, with `low` and `high` of its 95 % interval over documents. Where
a function takes `shortlists`, these are shortlists by the name of the retriever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

from ctd import stats
from ctd.data.label_space import LabelSpace
from ctd.data.task import Task
from ctd.retrieval import metrics
from ctd.retrieval.shortlists import Shortlist
from ctd.text import excerpt

FREQUENCIES = {"unseen": 0, "once": 1, "2 to 5": 5, "6 to 20": 20, "21 to 100": 100, "over 100": np.inf}
DEEPEST = 6


def recall_table(shortlists: Mapping[str, Shortlist], gold: csr_matrix, ks: Sequence[int], seed: int) -> pd.DataFrame:
    """Mean recall@k over documents: columns retriever, k, recall, low, high.

    shortlists: by retriever.
    gold: the documents' labels.
    ks: sizes; those beyond a shortlist's places are left out.
    seed: of the bootstrap draws.
    """
    return _over_sizes(shortlists, gold, ks, seed, metrics.recall_at_k, "recall")


def oracle_table(
    shortlists: Mapping[str, Shortlist], gold: csr_matrix, ks: Sequence[int], cutoff: int, seed: int
) -> pd.DataFrame:
    """nDCG of a perfect refiner that may only reorder the first k places: columns retriever, k, ndcg, low, high.

    shortlists: by retriever.
    gold: the documents' labels.
    ks: sizes of the shortlist; those below the cutoff are left out.
    cutoff: the rank down to which nDCG looks.
    seed: of the bootstrap draws.
    """

    def score(pred: Shortlist, gold: csr_matrix, k: int, average: Literal[False]) -> Float[np.ndarray, " n"]:
        return metrics.oracle_ndcg_at_k(pred[:, :k], gold, min(cutoff, k), average=average)

    return _over_sizes(shortlists, gold, [k for k in ks if k >= cutoff], seed, score, "ndcg")


def _over_sizes(
    shortlists: Mapping[str, Shortlist],
    gold: csr_matrix,
    ks: Sequence[int],
    seed: int,
    score: Callable[..., Float[np.ndarray, " documents"]],
    column: str,
) -> pd.DataFrame:
    rows = []
    for name, pred in shortlists.items():
        sizes = [k for k in ks if k <= pred.shape[1]]
        per_document = np.stack([score(pred, gold, k, average=False) for k in sizes], axis=1)
        interval = stats.bootstrap_mean(per_document, seed=seed)
        rows += [(name, k, *interval[place].scalar) for place, k in enumerate(sizes)]
    return pd.DataFrame(rows, columns=["retriever", "k", column, "low", "high"])


def frequency_group(train: csr_matrix) -> tuple[Int[np.ndarray, " labels"], list[str]]:
    """Each label's bin by its number of training documents, and the bins' names, rarest first."""
    counts = np.asarray(train.sum(0)).ravel()
    return np.searchsorted(list(FREQUENCIES.values()), counts), list(FREQUENCIES)


def depth_group(space: LabelSpace) -> tuple[Int[np.ndarray, " labels"], list[str]]:
    """Each label's depth in the tree, and the depths' names; deeper labels count as `DEEPEST`."""
    depth = np.minimum(space.depth[: len(space)], DEEPEST)
    return depth, [f"depth {level}" for level in range(int(depth.max()) + 1)]


def recall_by_group(
    shortlists: Mapping[str, Shortlist],
    gold: csr_matrix,
    k: int,
    groups: tuple[Int[np.ndarray, " labels"], list[str]],
    seed: int,
) -> pd.DataFrame:
    """Share of a group's gold occurrences in the first k places: retriever, group, occurrences, recall, low, high, n.

    Micro-averaged: hits over occurrences, both summed over the n documents that have a label of the group.

    shortlists: by retriever.
    gold: the documents' labels.
    k: the places that count.
    groups: the group of each label, and the groups' names.
    seed: of the bootstrap draws.
    """
    group_of, names = groups
    member = csr_matrix(
        (np.ones(len(group_of)), (np.arange(len(group_of)), group_of)), shape=(len(group_of), len(names))
    )
    occurrences = np.asarray((gold.astype(float) @ member).todense())
    documents = (occurrences > 0).sum(0)
    rows = []
    for name, pred in shortlists.items():
        hits = np.asarray((found_pairs(pred[:, :k], gold).astype(float) @ member).todense())
        interval = stats.bootstrap_ratio(hits, occurrences, seed=seed)
        rows += [
            (name, names[group], int(count), *interval[group].scalar, int(documents[group]))
            for group, count in enumerate(occurrences.sum(0))
            if count
        ]
    return pd.DataFrame(rows, columns=["retriever", "group", "occurrences", "recall", "low", "high", "n"])


def outcomes(shortlists: Mapping[str, Shortlist], gold: csr_matrix, k: int, space: LabelSpace) -> pd.DataFrame:
    """What became of each gold occurrence: columns retriever, found, near miss only, missed; shares of all.

    "near miss only": the shortlist lacks the label and holds another of its family (the labels that share a parent, and
    the parent itself where it is a root): the topic was found, the detail was not.

    shortlists: by retriever.
    gold: the documents' labels.
    k: the places that count.
    space: the labels' families.
    """
    document, label = (numbers.astype(np.int64) for numbers in gold.nonzero())
    rows = []
    for name, pred in shortlists.items():
        hits = np.asarray(found_pairs(pred[:, :k], gold)[document, label]).ravel()
        families = np.where(pred[:, :k] >= 0, space.family[pred[:, :k]], -1)
        keys = np.unique((np.arange(len(pred))[:, None] * len(space.ids) + families)[families >= 0])
        near = np.isin(document * len(space.ids) + space.family[label], keys) & ~hits
        rows.append((name, hits.mean(), near.mean(), 1 - hits.mean() - near.mean()))
    return pd.DataFrame(rows, columns=["retriever", "found", "near miss only", "missed"])


def found_pairs(pred: Shortlist, gold: csr_matrix) -> csr_matrix:
    """Gold pairs that the shortlist holds, [documents, labels]."""
    row, place = np.nonzero(metrics.hits(pred, gold))
    return csr_matrix((np.ones(len(row), bool), (row, pred[row, place])), shape=gold.shape)


def score_table(
    shortlists: Mapping[str, Shortlist], gold: csr_matrix, train: csr_matrix, cutoff: int, seed: int
) -> pd.DataFrame:
    """P@1, nDCG@cutoff and PSP@cutoff of shortlists read as answers: retriever, metric, value, low, high.

    shortlists: by retriever.
    gold: the documents' labels.
    train: the training labels, for the propensities of PSP.
    cutoff: the rank down to which nDCG and PSP look.
    seed: of the bootstrap draws.
    """
    propensity = metrics.inverse_propensity(train)
    rows = []
    for name, pred in shortlists.items():
        precision = metrics.precision_at_k(pred, gold, 1, average=False)
        ndcg = metrics.ndcg_at_k(pred, gold, cutoff, average=False)
        means = stats.bootstrap_mean(np.stack([precision, ndcg], axis=1), seed=seed)
        psp = stats.bootstrap_ratio(*metrics.psp_at_k(pred, gold, cutoff, propensity, average=False), seed=seed)
        intervals = {"P@1": means[0], f"nDCG@{cutoff}": means[1], f"PSP@{cutoff}": psp}
        rows += [(name, metric, *interval.scalar) for metric, interval in intervals.items()]
    return pd.DataFrame(rows, columns=["retriever", "metric", "value", "low", "high"])


def worst_documents(pred: Shortlist, task: Task, split: str, k: int, most: int = 5) -> pd.DataFrame:
    """Documents with the lowest recall@k (then most gold labels, then uid): uid, first words, labels, found.

    pred: a shortlist.
    task: documents and labels.
    split: whose documents they are.
    k: the places that count.
    most: how many documents to show.
    """
    gold, part = task.gold(split), task.documents[split]
    hits = np.asarray(found_pairs(pred[:, :k], gold).sum(1)).ravel()
    count = np.asarray(gold.sum(1)).ravel()
    recall = np.divide(hits, count, out=np.ones(len(count)), where=count > 0)
    order = sorted(range(len(part)), key=lambda row: (recall[row], -count[row], part[row]["uid"]))[:most]
    return pd.DataFrame(
        [
            {
                "uid": part[row]["uid"],
                "begins": excerpt(part[row]["text"]),
                "gold labels": int(count[row]),
                f"found in {k}": int(hits[row]),
                "for example": next((task.space.texts[label] for label in gold[row].indices), ""),
            }
            for row in order
        ]
    )
