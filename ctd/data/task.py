"""One shape for every dataset: documents with gold labels, and the label space they choose from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict, Features, List, Value
from jaxtyping import Int
from scipy.sparse import csr_matrix, load_npz, save_npz

from ctd.cache import atomic
from ctd.data.damaged import named_if_damaged
from ctd.data.label_space import LabelSpace

SPLITS = ("train", "validation", "test")
COLUMNS = Features({"uid": Value("string"), "text": Value("string"), "labels": List(Value("int32"))})


@dataclass(frozen=True)
class Card:
    """What a reader of the book must know before trusting a dataset.

    title: its name.
    licence: of documents and labels.
    source: where they come from.
    made: how documents and labels came to be, in a sentence or two.
    dropped: what was left out, counted.
    generated: whether no human wrote the documents; the book then always calls them generated.
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
    space: the labels to choose from.
    card: what a reader must know of the dataset.
    unscored: labels that stay in the data and are left out of the scored task (MeSH check tags), sorted.
    filtered: for each split a matrix [documents, labels] of pairs that may never be predicted (a theorem for its own
        proof; the pairs in the repository's filter_labels files).
    """

    documents: DatasetDict
    space: LabelSpace
    card: Card
    unscored: Int[np.ndarray, " labels"] = field(default_factory=lambda: np.empty(0, np.int32))
    filtered: Mapping[str, csr_matrix] = field(default_factory=dict)

    def gold(self, split: str, scored: bool = True) -> csr_matrix:
        """Gold labels of a split as a boolean CSR matrix [documents, labels].

        split: "train", "validation" or "test".
        scored: whether to leave the unscored labels out (their columns are then empty).
        """
        return labels_matrix(self.documents[split]["labels"], len(self.space), self.unscored if scored else ())

    def topics(self, split: str, depth: int, most: int) -> list[list[int]]:
        """The anchors of each document: the nodes of the tree above most of its gold labels; [] without gold labels.

        split: "train", "validation" or "test".
        depth: level of the tree, 0 for the highest.
        most: how many anchors a document has at most.
        """
        gold = (row.indices.tolist() for row in self.gold(split))
        return [self.space.anchors(labels, depth)[:most].tolist() if labels else [] for labels in gold]

    def sample(self, split: str, n_documents: int, seed: int, as_drawn: bool = False) -> Task:
        """The task with some documents of one split, drawn at random and left in their order.

        split: whose documents to draw.
        n_documents: how many; all of them when there are fewer.
        seed: of the draw.
        as_drawn: in the order of the draw, in which few documents are the first of more.
        """
        rows = np.random.default_rng(seed).permutation(len(self.documents[split]))[:n_documents]
        return self.select(split, rows if as_drawn else np.sort(rows))

    def select(self, split: str, rows: Int[np.ndarray, " n"]) -> Task:
        """The task with certain documents of one split.

        split: whose documents to select.
        rows: their numbers, in the order wanted.
        """
        part = self.documents[split]
        documents = DatasetDict({**self.documents, split: part.select(rows)})
        filtered = {name: pairs[rows] if name == split else pairs for name, pairs in self.filtered.items()}
        return replace(self, documents=documents, filtered=filtered)

    def restrict(self, split: str, n_labels: int, seed: int) -> Task:
        """The task over a smaller label space: every label that `split` uses, and others drawn at random.

        It is easier than the whole task because it has fewer distractors. Documents of the other splits lose the labels
        that fall away.

        split: whose labels all stay.
        n_labels: how many labels to keep; more where the split uses more.
        seed: of the draw.
        """
        used_labels = np.unique(np.concatenate([self.gold(split, scored=False).indices, self.unscored]))
        others = np.setdiff1d(np.arange(len(self.space)), used_labels)
        drawn = np.random.default_rng(seed).permutation(others)[: max(0, n_labels - len(used_labels))]
        kept = np.union1d(used_labels, drawn)
        renumbered = np.full(len(self.space), -1, np.int64)
        renumbered[kept] = np.arange(len(kept))

        def renumber(row: dict[str, list[int]]) -> dict[str, list[int]]:
            return {"labels": [int(renumbered[label]) for label in row["labels"] if renumbered[label] >= 0]}

        return replace(
            self,
            documents=self.documents.map(renumber, load_from_cache_file=False, keep_in_memory=True),
            space=self.space.subset(kept, f"{self.space.name}-{len(kept)}"),
            unscored=renumbered[self.unscored].astype(np.int32),
            filtered={name: pairs[:, kept] for name, pairs in self.filtered.items()},
        )

    def save(self, folder: Path) -> None:
        """Write the task to a folder, whole or not at all."""
        with atomic(folder) as scratch:
            scratch.mkdir()
            for split, part in self.documents.items():
                table = part.with_format("arrow")[:]
                with pa.ipc.new_stream(scratch / f"{split}.arrow", table.schema) as stream:
                    stream.write_table(table)
            self.space.save(scratch / "labels.parquet")
            np.save(scratch / "unscored.npy", self.unscored)
            for split, pairs in self.filtered.items():
                save_npz(scratch / f"filtered-{split}.npz", pairs)
            (scratch / "card.json").write_text(json.dumps(asdict(self.card), indent=2))

    @classmethod
    def load(cls, folder: Path) -> Task:
        """Read what `save` wrote."""
        documents = {}
        for split in SPLITS:
            with named_if_damaged(folder / f"{split}.arrow"):
                documents[split] = Dataset.from_file(str(folder / f"{split}.arrow"))
        with named_if_damaged(folder / "card.json"):
            card = Card(**json.loads((folder / "card.json").read_text(encoding="utf-8")))
        with named_if_damaged(folder / "unscored.npy"):
            unscored = np.load(folder / "unscored.npy")
        filtered = {}
        for file in sorted(folder.glob("filtered-*.npz")):
            with named_if_damaged(file):
                filtered[file.stem.partition("-")[2]] = load_npz(file)
        return cls(
            documents=DatasetDict(documents),
            space=LabelSpace.load(folder / "labels.parquet"),
            card=card,
            unscored=unscored,
            filtered=filtered,
        )


def splits_of(rows: Mapping[str, Sequence[Mapping[str, object]]]) -> DatasetDict:
    """A DatasetDict of documents, whose splits have their columns even when empty.

    rows: for each split its documents, with uid, text and labels.
    """
    return DatasetDict({
        split: Dataset.from_dict({name: [row[name] for row in rows.get(split, ())] for name in COLUMNS}, COLUMNS)
        for split in SPLITS
    })  # fmt: skip


def labels_matrix(labels: list[list[int]], n_labels: int, without: np.ndarray | tuple[int, ...] = ()) -> csr_matrix:
    """Lists of label numbers as a boolean CSR matrix [documents, labels], columns sorted, repeats merged.

    labels: label numbers of each document.
    n_labels: how many labels there are.
    without: labels to leave out.
    Raises ValueError for a label outside 0 .. n_labels - 1.
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

    The rule (ours): the first 8 bytes of SHA-256(key) as a fraction of 2**64; below `test` is test, below
    `test + validation` is validation, the rest is train.

    key: of the document or patient.
    validation: its share.
    test: its share.
    """
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    if place < test:
        return "test"
    return "validation" if place < test + validation else "train"
