"""How good is a shortlist? Recall at its size, where it fails, and what a perfect refiner could make of it.

Notes: a shortlist is an int array [documents, places] of label numbers, best first, -1 for none. Tables are long
pandas frames, one row a number, with `low` and `high` of its 95 % interval over documents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

from ctd import stats
from ctd.data.label_space import LabelSpace
from ctd.data.task import Task
from ctd.retrieval import encoders, metrics
from ctd.retrieval.index import LabelIndex, check_k, deepest, drop_excluded
from ctd.retrieval.lexical import LexicalIndex
from ctd.text import excerpt

Shortlist = Int[np.ndarray, "documents places"]
FREQUENCY_PRIOR = "frequency prior"
STATIC_ENCODER = "wordllama"  # beside the encoder that is asked for
FREQUENCIES = {"unseen": 0, "once": 1, "2 to 5": 5, "6 to 20": 20, "21 to 100": 100, "over 100": np.inf}


class Retriever(Protocol):
    """`ctd.retrieval.index.LabelIndex` and `ctd.retrieval.lexical.LexicalIndex` are retrievers."""

    def search(
        self, queries: Sequence[str], k: int, exclude: csr_matrix | None = None
    ) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]: ...


class FrequencyPrior:
    """The most frequent training labels, the same for every document: what a shortlist must beat."""

    def __init__(self, task: Task) -> None:
        self.space, self._train = task.space, task.gold("train", scored=False)

    def search(
        self, queries: Sequence[str], k: int, exclude: csr_matrix | None = None
    ) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
        """Training counts and label numbers, most frequent first, ties by label number."""
        check_k(k, self.space)
        wanted = k if exclude is None else deepest(k, exclude, len(queries), self.space)
        prior = metrics.frequency_prior(self._train, wanted)
        labels = np.tile(prior.astype(np.int64), (len(queries), 1))
        scores = np.asarray(self._train.sum(0)).ravel()[labels].astype(np.float32)
        return (scores, labels) if exclude is None else drop_excluded(scores, labels, exclude, k)


def shortlists_of(
    task: Task, split: str, k: int, encoder: str, kind: str = "flat", seed: int = 0
) -> dict[str, Shortlist]:
    """The k best labels of each document by frequency, BM25, static vectors and `encoder`, filtered pairs left out.

    Retrievers are built and let go one after the other. Unscored labels are among the candidates: see `leave_out`.
    """
    shortlists = {FREQUENCY_PRIOR: retrieve(FrequencyPrior(task), task, split, k)}
    shortlists["BM25"] = retrieve(LexicalIndex(task.space), task, split, k)
    for name in dict.fromkeys((STATIC_ENCODER, encoder)):
        shortlists[name] = retrieve(LabelIndex.build(task.space, encoders.load(name), kind, seed), task, split, k)
    return shortlists


def retrieve(retriever: Retriever, task: Task, split: str, k: int) -> Shortlist:
    """One retriever's k best labels for each document of a split, filtered pairs left out."""
    texts = list(task.documents[split]["text"])
    return retriever.search(texts, min(k, len(task.space)), task.filtered.get(split))[1].astype(np.int32)


def retrieve_scored(retriever: Retriever, task: Task, split: str, k: int) -> Shortlist:
    """One retriever's k best scored labels for each document of a split; -1 where there are fewer."""
    return leave_out(retrieve(retriever, task, split, k + len(task.unscored)), task.unscored, k)


def leave_out(shortlist: Shortlist, labels: Int[np.ndarray, " labels"], k: int) -> Shortlist:
    """The first k places once some labels (check tags) are struck out; -1 where fewer are left."""
    struck = np.isin(shortlist, labels)
    order = np.argsort(struck, axis=1, kind="stable")
    kept = np.where(np.take_along_axis(struck, order, 1), -1, np.take_along_axis(shortlist, order, 1))
    return kept[:, :k]


def as_array(shortlists: Sequence[Sequence[int]], fewest: int = 1) -> Shortlist:
    """Lists as an array [documents, places] with room for the longest, or `fewest`; -1 where a list is shorter."""
    distinct = [list(dict.fromkeys(labels)) for labels in shortlists]
    pred = np.full((len(distinct), max([fewest, *map(len, distinct)])), -1, np.int32)
    for row, labels in enumerate(distinct):
        pred[row, : len(labels)] = labels
    return pred


def usable_sizes(task: Task, ks: Sequence[int], needed: Sequence[int]) -> list[int]:
    """Shortlist sizes that the scored label space can fill, sorted: those of `ks` that fit, and all of `needed`.

    Raises ValueError when a needed one is larger than the scored label space.
    """
    most = len(task.space) - len(task.unscored)
    for k in needed:
        if not 1 <= k <= most:
            raise ValueError(f"k must be between 1 and {most} (scored labels in '{task.space.name}'), got {k}")
    return sorted({k for k in ks if k <= most} | set(needed))


def recall_table(shortlists: Mapping[str, Shortlist], gold: csr_matrix, ks: Sequence[int], seed: int) -> pd.DataFrame:
    """Mean recall@k over documents: columns retriever, k, recall, low, high."""
    return _over_sizes(shortlists, gold, ks, seed, metrics.recall_at_k, "recall")


def oracle_table(
    shortlists: Mapping[str, Shortlist], gold: csr_matrix, ks: Sequence[int], cutoff: int, seed: int
) -> pd.DataFrame:
    """nDCG@cutoff of a perfect refiner that may only reorder the first k places: columns retriever, k, ndcg, ..."""

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
        rows += [
            {"retriever": name, "k": k, column: mean, "low": low, "high": high}
            for k, mean, low, high in zip(sizes, interval.estimate, interval.low, interval.high, strict=True)
        ]
    return pd.DataFrame(rows)


def frequency_group(train: csr_matrix) -> tuple[Int[np.ndarray, " labels"], list[str]]:
    """Each label's bin by its number of training documents, and the bins' names, rarest first."""
    counts = np.asarray(train.sum(0)).ravel()
    return np.searchsorted(list(FREQUENCIES.values()), counts), list(FREQUENCIES)


def depth_group(space: LabelSpace, most: int = 6) -> tuple[Int[np.ndarray, " labels"], list[str]]:
    """Each label's depth in the tree (deeper than `most` counts as `most`), and the depths' names."""
    depth = np.minimum(space.depth[: len(space)], most)
    return depth, [f"depth {level}" for level in range(int(depth.max()) + 1)]


def recall_by_group(
    shortlists: Mapping[str, Shortlist],
    gold: csr_matrix,
    k: int,
    groups: tuple[Int[np.ndarray, " labels"], list[str]],
    seed: int,
) -> pd.DataFrame:
    """Share of each group's gold occurrences among the first k places: retriever, group, occurrences, recall, ...

    Micro-averaged: hits over occurrences, both summed over documents (documents are what the bootstrap draws).
    """
    group_of, names = groups
    member = csr_matrix(
        (np.ones(len(group_of)), (np.arange(len(group_of)), group_of)), shape=(len(group_of), len(names))
    )
    total = np.asarray((gold.astype(float) @ member).todense())
    rows = []
    for name, pred in shortlists.items():
        hits = np.asarray((found(pred[:, :k], gold).astype(float) @ member).todense())
        interval = stats.bootstrap_ratio(hits, total, seed=seed)
        rows += [
            {"retriever": name, "group": group, "occurrences": int(count), "recall": mean, "low": low, "high": high}
            for group, count, mean, low, high in zip(
                names, total.sum(0), interval.estimate, interval.low, interval.high, strict=True
            )
            if count
        ]
    return pd.DataFrame(rows)


def outcomes(shortlists: Mapping[str, Shortlist], gold: csr_matrix, k: int, space: LabelSpace) -> pd.DataFrame:
    """What became of each gold occurrence in the first k places: columns retriever, found, near miss only, missed.

    "near miss only": the label is not there, but one of its family is (the labels that share a parent, and the
    parent itself where it is a root), so the topic was found and the detail was not. Shares of all occurrences.
    """
    document, label = gold.nonzero()
    rows = []
    for name, pred in shortlists.items():
        there = np.asarray(found(pred[:, :k], gold)[document, label]).ravel()
        here = np.where(pred[:, :k] >= 0, space.family[pred[:, :k]], -1)
        keys = np.unique((np.arange(len(pred))[:, None] * len(space.ids) + here)[here >= 0])
        near = np.isin(document * len(space.ids) + space.family[label], keys) & ~there
        rows.append(
            {
                "retriever": name,
                "found": there.mean(),
                "near miss only": near.mean(),
                "missed": 1 - there.mean() - near.mean(),
            }
        )
    return pd.DataFrame(rows)


def found(pred: Shortlist, gold: csr_matrix) -> csr_matrix:
    """Gold pairs that the shortlist holds, [documents, labels]."""
    row, place = np.nonzero(metrics.hits(pred, gold))
    return csr_matrix((np.ones(len(row), bool), (row, pred[row, place])), shape=gold.shape)


def score_table(
    shortlists: Mapping[str, Shortlist], gold: csr_matrix, train: csr_matrix, cutoff: int, seed: int
) -> pd.DataFrame:
    """P@1, nDCG@cutoff and PSP@cutoff of each shortlist read as an answer: retriever, metric, value, low, high."""
    propensity = metrics.inverse_propensity(train)
    rows = []
    for name, pred in shortlists.items():
        means = stats.bootstrap_mean(
            np.stack(
                [
                    metrics.precision_at_k(pred, gold, 1, average=False),
                    metrics.ndcg_at_k(pred, gold, cutoff, average=False),
                ],
                axis=1,
            ),
            seed=seed,
        )
        got, best = metrics.psp_at_k(pred, gold, cutoff, propensity, average=False)
        ratio = stats.bootstrap_ratio(got[:, None], best[:, None], seed=seed)
        for metric, interval, column in (
            ("P@1", means, 0),
            (f"nDCG@{cutoff}", means, 1),
            (f"PSP@{cutoff}", ratio, 0),
        ):
            rows.append(
                {
                    "retriever": name,
                    "metric": metric,
                    "value": interval.estimate[column],
                    "low": interval.low[column],
                    "high": interval.high[column],
                }
            )
    return pd.DataFrame(rows)


def worst_documents(pred: Shortlist, task: Task, split: str, k: int, most: int = 5) -> pd.DataFrame:
    """Documents with the lowest recall@k (then most gold labels, then uid): uid, first words, labels, found."""
    gold = task.gold(split)
    hits = np.asarray(found(pred[:, :k], gold).sum(1)).ravel()
    count = np.asarray(gold.sum(1)).ravel()
    recall = np.divide(hits, count, out=np.ones(len(count)), where=count > 0)
    part = task.documents[split]
    order = sorted(range(len(part)), key=lambda row: (recall[row], -count[row], part[row]["uid"]))[:most]
    return pd.DataFrame(
        [
            {
                "uid": part[row]["uid"],
                "begins": excerpt(part[row]["text"]),
                "gold labels": int(count[row]),
                f"found in {k}": int(hits[row]),
                "for example": task.space.texts[int(gold[row].indices[0])],
            }
            for row in order
        ]
    )
