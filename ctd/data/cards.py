"""Data cards: what a reader must know of a dataset, counted from the data itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from ctd.data.label_space import LabelSpace
from ctd.data.task import SPLITS, Task
from ctd.text import excerpt

TAIL = 5


def facts(task: Task) -> pd.DataFrame:
    """The facts about a task as a table of two columns: documents, labels, labels a document, tail, what was dropped.

    The tail is the share of used labels that at most 5 documents carry (all splits together). "never seen" is the
    share of the test split's gold occurrences whose label no training document has.
    """
    gold = {split: task.gold(split, scored=False) for split in SPLITS}
    uses = label_uses(task)
    used_counts = uses[uses > 0]
    lengths = np.concatenate([np.diff(matrix.indptr) for matrix in gold.values()])
    seen = np.asarray(gold["train"].sum(0)).ravel() > 0
    rows = {
        "documents (train, validation, test)": ", ".join(f"{gold[split].shape[0]:,}" for split in SPLITS),
        "labels to choose from": f"{len(task.space):,}",
        "labels that some document carries": f"{len(used_counts):,}",
        "labels a document: mean, median": f"{lengths.mean():.1f}, {np.median(lengths):.0f}",
        f"tail: used labels on at most {TAIL} documents": f"{(used_counts <= TAIL).mean():.0%}",
        "test occurrences never seen in training": f"{1 - seen[gold['test'].indices].mean():.0%}",
        "labels left out of the scored task": f"{len(task.unscored):,}",
        "how it was made": task.card.made,
        "source": task.card.source,
        "licence": task.card.licence,
        **{f"left out: {reason}": f"{count:,}" for reason, count in task.card.dropped.items()},
    }
    return pd.DataFrame(rows.items(), columns=["fact", task.card.title])


def label_uses(task: Task, splits: tuple[str, ...] = SPLITS) -> Int[np.ndarray, " labels"]:
    """How many documents of the splits carry each label, unscored labels included."""
    return np.sum([np.asarray(task.gold(split, scored=False).sum(0)).ravel() for split in splits], axis=0)


def used_family(task: Task) -> float:
    """How many other used labels of its family (the parent and its children) a gold label has, on average."""
    uses = label_uses(task)
    if task.space.parents is None:
        return float("nan")
    members = np.bincount(task.space.family, weights=uses > 0)
    return float(np.average(members[task.space.family] - 1, weights=uses))


def verbatim(task: Task) -> float:
    """Share of the gold labels of test documents whose topic stands in the document, in letters of any case.

    The topic is the text of the node above (for MeSH the descriptor), or the label's own where there is none.
    """
    space, gold = task.space, task.gold("test")
    stands = [
        space.texts[space.family[label]].casefold() in text.casefold()
        for row, text in enumerate(task.documents["test"]["text"])
        for label in gold[row].indices
    ]
    return float(np.mean(stands))


def examples(task: Task, n: int, seed: int, split: str = "test") -> pd.DataFrame:
    """A few documents: uid, the first 12 words (no copy of the text), and some of the labels.

    task: where they come from.
    n: how many.
    seed: of the draw.
    split: to draw from.
    """
    part = task.documents[split]
    rows = part.select(np.sort(np.random.default_rng(seed).permutation(len(part))[:n]))
    return pd.DataFrame({
        "document": rows["uid"][:],
        "begins": [excerpt(text) for text in rows["text"]],
        "labels": [headings(task.space, labels) for labels in rows["labels"]],
    })  # fmt: skip


def headings(space: LabelSpace, labels: list[int], most: int = 4) -> str:
    """The texts of the first labels, each cut to 60 characters, and how many more there are.

    space: the labels' texts.
    labels: label numbers.
    most: how many to show.
    """
    shown = [space.texts[label][:60] + ("…" if len(space.texts[label]) > 60 else "") for label in labels[:most]]
    return "; ".join(shown) + (f"; and {len(labels) - most} more" if len(labels) > most else "")


def with_near_miss(task: Task, seed: int) -> tuple[dict[str, Any], list[int]]:
    """A test document that has a near miss, and its scored gold labels.

    task: where it comes from.
    seed: of the order in which documents are tried.
    Raises ValueError when no test document has a near miss.
    """
    part, gold = task.documents["test"], task.gold("test")
    for row in np.random.default_rng(seed).permutation(len(part)):
        labels = gold[row].indices.tolist()
        if len(task.space.near_misses(labels, 1)):
            return part[int(row)], labels
    raise ValueError(f"no document of the test split of '{task.card.title}' has a label with a near miss")


def near_miss_table(
    space: LabelSpace, near: Int[np.ndarray, " near"], closeness: Float[np.ndarray, " near"]
) -> pd.DataFrame:
    """Near misses with the node above them and their cosine to the document.

    space: the labels.
    near: label numbers.
    closeness: their cosines.
    """
    parents = [-1 if space.parents is None else space.parents[label] for label in near]
    return pd.DataFrame({
        "near miss": [space.texts[label] for label in near],
        "below": ["" if parent < 0 else space.texts[parent] for parent in parents],
        "cosine to the document": closeness.astype(float),
    })  # fmt: skip


def exclusion_table(space: LabelSpace, most: int) -> pd.DataFrame:
    """The first labels that have exclusion notes, each with one label that its notes exclude.

    space: the labels.
    most: how many rows.
    Raises ValueError for a label space without exclusion notes.
    """
    if space.exclusions is None:
        raise ValueError(f"label space '{space.name}' has no exclusion notes")
    rows = np.flatnonzero(np.diff(space.exclusions.indptr))[:most]
    first = space.exclusions.indptr[rows]
    return pd.DataFrame(
        {
            "code": [space.ids[row] for row in rows],
            "description": [space.texts[row] for row in rows],
            "note": [f"Excludes{kind}" for kind in space.exclusions.data[first]],
            "excluded code": [space.ids[excluded] for excluded in space.exclusions.indices[first]],
            "its description": [space.texts[excluded] for excluded in space.exclusions.indices[first]],
        }
    )
