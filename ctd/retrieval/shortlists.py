"""Shortlists: the best labels of each document by frequency, words or vectors.

Notes: a shortlist is an int array [documents, places] of label numbers, best first, -1 for none. q queries, k places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

from ctd.data.task import Task
from ctd.retrieval import encoders, metrics
from ctd.retrieval.exclusions import check_search, depth_needed, drop_excluded
from ctd.retrieval.index import LabelIndex
from ctd.retrieval.lexical import LexicalIndex

Shortlist = Int[np.ndarray, "documents places"]
FREQUENCY_PRIOR = "frequency prior"
STATIC_ENCODER = "wordllama"  # always shown beside the user's encoder


class Retriever(Protocol):
    """What finds labels for texts: `FrequencyPrior`, `LexicalIndex` or `LabelIndex`."""

    def search(
        self, queries: Sequence[str], k: int, exclude: csr_matrix | None = None
    ) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]: ...


class FrequencyPrior:
    """The most frequent training labels, the same for every document: what a shortlist must beat.

    task: whose training labels to count.
    """

    def __init__(self, task: Task) -> None:
        self.space, self._train = task.space, task.gold("train", scored=False)

    def search(
        self, queries: Sequence[str], k: int, exclude: csr_matrix | None = None
    ) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
        """Training counts and label numbers, most frequent first, ties by label number.

        queries: texts; only their number counts.
        k: the places to fill.
        exclude: [q, labels]; its pairs are never returned.
        """
        check_search(queries, k, self.space)
        depth = k if exclude is None else depth_needed(k, exclude, len(queries), self.space)
        prior = metrics.frequency_prior(self._train, depth)
        labels = np.tile(prior.astype(np.int64), (len(queries), 1))
        scores = np.asarray(self._train.sum(0)).ravel()[labels].astype(np.float32)
        return (scores, labels) if exclude is None else drop_excluded(scores, labels, exclude, k)


def shortlists_of(
    task: Task, split: str, k: int, encoder: str, kind: str = "flat", seed: int = 0
) -> dict[str, Shortlist]:
    """Shortlists by frequency, BM25, static vectors and an encoder, by name, filtered pairs left out.

    Retrievers are built one after the other, so that only one is in memory. Unscored labels are among the candidates:
    see `leave_out`.

    task: documents and labels.
    split: whose documents to use.
    k: the places to fill.
    encoder: name of the encoder.
    kind: of label index; see `LabelIndex.build`.
    seed: of the index.
    """
    shortlists = {FREQUENCY_PRIOR: retrieve(FrequencyPrior(task), task, split, k)}
    shortlists["BM25"] = retrieve(LexicalIndex(task.space), task, split, k)
    for name in dict.fromkeys((STATIC_ENCODER, encoder)):
        shortlists[name] = retrieve(LabelIndex.build(task.space, encoders.load(name), kind, seed), task, split, k)
    return shortlists


def retrieve(retriever: Retriever, task: Task, split: str, k: int) -> Shortlist:
    """The k best labels for each document of a split, filtered pairs left out.

    retriever: finds them.
    task: documents and labels.
    split: whose documents to use.
    k: the places to fill, at most as many as there are labels.
    """
    texts = list(task.documents[split]["text"])
    return retriever.search(texts, min(k, len(task.space)), task.filtered.get(split))[1].astype(np.int32)


def retrieve_scored(retriever: Retriever, task: Task, split: str, k: int) -> Shortlist:
    """As `retrieve`, without the unscored labels; -1 where fewer than k are left."""
    return leave_out(retrieve(retriever, task, split, k + len(task.unscored)), task.unscored, k)


def leave_out(shortlist: Shortlist, labels: Int[np.ndarray, " labels"], k: int) -> Shortlist:
    """The first k places of a shortlist without some labels; -1 where fewer are left.

    shortlist: more than k places.
    labels: what to leave out (check tags).
    k: the places to fill.
    """
    unwanted = np.isin(shortlist, labels)
    order = np.argsort(unwanted, axis=1, kind="stable")
    moved = np.where(np.take_along_axis(unwanted, order, 1), -1, np.take_along_axis(shortlist, order, 1))
    return moved[:, :k]


def as_array(shortlists: Sequence[Sequence[int]], fewest: int = 1) -> Shortlist:
    """Lists of labels as a shortlist, repeats left out; -1 where a list is shorter than the longest.

    shortlists: label numbers of each document, best first.
    fewest: the fewest places that the array has.
    """
    distinct = [list(dict.fromkeys(labels)) for labels in shortlists]
    pred = np.full((len(distinct), max([fewest, *map(len, distinct)])), -1, np.int32)
    for row, labels in enumerate(distinct):
        pred[row, : len(labels)] = labels
    return pred


@dataclass(frozen=True)
class Sizes:
    """Shortlist sizes that the scored label space can fill.

    ks: sorted; the size at which failures are examined and the cutoff of the scores are among them.
    k_fail: the size at which failures are examined.
    note: what does not fit, as a sentence; "" where all does.
    """

    ks: list[int]
    k_fail: int
    note: str


def usable_sizes(task: Task, ks: Sequence[int], k_fail: int, cutoff: int | None = None) -> Sizes:
    """Leave out the shortlist sizes that are larger than the scored label space.

    task: whose label space to fill.
    ks: sizes wanted.
    k_fail: the size at which failures are examined; where it does not fit, the largest of ks that does takes its place.
    cutoff: the rank down to which scores look; None where there are none.
    Raises ValueError when the cutoff is larger than the scored label space.
    """
    most = len(task.space) - len(task.unscored)
    if cutoff is not None and cutoff > most:
        raise ValueError(f"cutoff must be between 1 and {most} (scored labels in '{task.space.name}'), got {cutoff}")
    fitting = {k for k in ks if k <= most}
    examined = k_fail if k_fail <= most else max(fitting, default=most)
    sizes = sorted(fitting | {examined} | ({cutoff} if cutoff else set()))
    too_large = ", ".join(f"{k:,}" for k in sorted(set(ks) - fitting))
    notes = [f"Shortlists of {too_large} labels are left out: '{task.space.name}' has {most:,}."] if too_large else []
    notes += [f"Failures are examined at {examined:,} places instead of {k_fail:,}."] if examined != k_fail else []
    return Sizes(sizes, examined, " ".join(notes))
