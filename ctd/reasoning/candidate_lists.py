"""The lists of labels that a teacher is given, as the book's texts were written after them.

Notes: a processor that computes in another precision ranks a few labels differently, and one that changes its place
makes another prompt, after which nothing that was written before would be read. So the lists of the default profile
come with the book as its texts do (`data/lists`), under a digest of all that they depend on but for the precision.
CTD_TEXTS is heeded as in `ctd.reasoning.completions`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ctd.cache import DATA, atomic, digest
from ctd.reasoning.completions import use
from ctd.retrieval import shortlists
from ctd.retrieval.shortlists import Shortlist, as_array

if TYPE_CHECKING:
    from ctd.data.task import Task
    from ctd.retrieval.index import LabelIndex

Lists = dict[str, list[list[int]]]


def retrieved(index: LabelIndex, task: Task, split: str, k: int) -> Shortlist:
    """What `shortlists.retrieve_scored` gives for the documents of a split, or gave when the book was made."""

    def make() -> Lists:
        scored = shortlists.retrieve_scored(index, task, split, k)
        return {"retrieved": [[int(label) for label in row if label >= 0] for row in scored]}

    return as_array(lists(index, task, split, {"k": k}, make)["retrieved"], k)


def lists(
    index: LabelIndex, task: Task, split: str, settings: Mapping[str, object], make: Callable[[], Lists]
) -> Lists:
    """The book's lists of labels for the documents of a split where it has them, else those that `make` gives.

    settings: what they depend on beside index and task.
    make: makes them.
    Raises ValueError for a damaged file, or what `completions.use` refuses.
    """
    parts = [repr(sorted(settings.items())), *_origin(index, task, split)]
    path, way = DATA / "lists" / f"{digest(parts)[:32]}.json", use()
    if way == "read" and path.is_file():
        try:
            return dict(json.loads(path.read_text("utf-8")))
        except ValueError:
            raise ValueError(
                f"data/lists/{path.name} is damaged: restore it (git checkout data/lists), or have its lists made "
                "anew (CTD_TEXTS=ignore)"
            ) from None
    labels = make()
    if way == "keep":
        with atomic(path) as scratch:
            scratch.write_text(json.dumps(labels, separators=(",", ":")) + "\n")
    return labels


def _origin(index: LabelIndex, task: Task, split: str) -> Iterable[str | bytes]:
    """What lists depend on: the encoder, the labels (and how many clusters lie above them), documents and gold."""
    space, gold, barred = task.space, task.gold(split), task.filtered.get(split)
    yield from (index.encoder.book_key, index.kind, space.name, str(len(space.ids)), *space.texts[: len(space)])
    yield from ("documents", *task.documents[split]["text"])
    for pairs in (gold, barred):
        if pairs is not None:
            yield from (pairs.indptr.astype(np.int64).tobytes(), pairs.indices.astype(np.int64).tobytes())
    yield np.asarray(task.unscored, np.int64).tobytes()
