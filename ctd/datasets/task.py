"""One shape for every dataset: documents with gold labels, and the label space they choose from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from datasets import DatasetDict
from jaxtyping import Int
from scipy.sparse import csr_matrix

from ctd.labels import LabelSpace

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Card:
    """What a reader must know before trusting a dataset: shown in the book for each one.

    made: how documents and labels came to be, in a sentence or two. dropped: what was left out, counted.
    generated: True when no human wrote the documents; the book then always calls them generated.
    """

    title: str
    licence: str
    source: str
    made: str
    dropped: Mapping[str, int] = field(default_factory=dict)
    generated: bool = False


@dataclass(frozen=True, eq=False)
class Task:
    """Documents and the label space that their gold labels come from.

    documents: splits train, validation, test; columns uid (str), text (str), labels (list of label numbers).
    unscored: labels kept in the data and left out of the scored task (MeSH check tags), sorted.
    filtered: per split a [documents, labels] matrix of pairs that may never be predicted (a theorem for its own
    proof; the repository's filter_labels files).
    """

    documents: DatasetDict
    space: LabelSpace
    card: Card
    unscored: Int[np.ndarray, " labels"] = field(default_factory=lambda: np.empty(0, np.int32))
    filtered: Mapping[str, csr_matrix] = field(default_factory=dict)

    def gold(self, split: str, scored: bool = True) -> csr_matrix:
        """Gold labels of a split as a boolean CSR matrix [documents, labels].

        scored: leave the unscored labels out (their columns are empty).
        """
        return labels_matrix(self.documents[split]["labels"], len(self.space), self.unscored if scored else ())


def labels_matrix(labels: list[list[int]], n_labels: int, without: np.ndarray | tuple[int, ...] = ()) -> csr_matrix:
    """Lists of label numbers as a boolean CSR matrix [documents, labels], columns sorted, repeats merged.

    without: labels to leave out. Raises ValueError for a label outside 0 .. n_labels - 1.
    """
    lengths = np.fromiter((len(row) for row in labels), np.int64, len(labels))
    columns = np.fromiter((label for row in labels for label in row), np.int64, lengths.sum())
    rows = np.repeat(np.arange(len(labels)), lengths)
    if len(columns) and not (columns.min() >= 0 and columns.max() < n_labels):
        bad = int(np.flatnonzero((columns < 0) | (columns >= n_labels))[0])
        raise ValueError(f"document {rows[bad]} has label {columns[bad]}; labels run from 0 to {n_labels - 1}")
    keep = ~np.isin(columns, np.asarray(without, np.int64))
    matrix = csr_matrix(
        (np.ones(keep.sum(), bool), (rows[keep], columns[keep])), shape=(len(labels), n_labels), dtype=bool
    )
    matrix.sum_duplicates()
    return matrix


def split_by_hash(key: str, validation: float = 0.08, test: float = 0.12) -> str:
    """The split of a document or patient, from its key alone: the same on every machine and for every file.

    validation, test: their shares; the rest is train. The rule (ours): the first 8 bytes of SHA-256(key) as a
    fraction of 2**64; below `test` is test, below `test + validation` is validation.
    """
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    if place < test:
        return "test"
    return "validation" if place < test + validation else "train"
