"""One collection of the explorer: documents, the label space they choose from, and what a teacher wrote about them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ctd.data import readers
from ctd.data.label_space import LabelSpace
from ctd.data.task import Task
from ctd.reasoning import predict, teachers
from ctd.reasoning.rank_answers import Prediction
from ctd.retrieval import encoders
from ctd.retrieval.index import LabelIndex

if TYPE_CHECKING:
    from ctd.reasoning.teachers import Teacher

CLUSTERS = 256  # topics at most of a label space without a tree that is deep enough
TREE_TOPICS = 2  # the level of a deep tree whose nodes are topics


@dataclass(frozen=True)
class Collection:
    """What a collection is made of. Teacher, dataset and encoder are named as in the notebooks.

    teacher: whose reasoning is shown; "" for none, which leaves the map.
    dataset: the task.
    source: own data (mimic, xmc, records).
    text_column: with the text (records).
    label_column: with the labels (records).
    encoder: what curves, near misses, and the map are measured with.
    n_documents: test documents that are shown at most.
    n_drawn: documents that are drawn and reasoned about, of which the first are shown; 0 for no more than are shown.
    n_with_heads: of those shown, documents whose attention can be looked at.
    n_silenced: of these, documents that are written anew with each head silenced.
    n_heads: heads at most; of a larger model those that the scores rank highest.
    max_tokens: what the teacher may write about a document.
    document_tokens: what it sees of a document; 0 for as much as in its training.
    n_topics: topics of a document at most.
    n_near_misses: near misses of a document at most.
    n_retrieved: labels that the encoder retrieves for a document.
    whole_documents: show documents that people wrote as a whole, not by their first words.
    seed: draws documents and controls.
    """

    teacher: str = "organism-planted"
    dataset: str = "organism"
    source: str = ""
    text_column: str = "text"
    label_column: str = "labels"
    encoder: str = "wordllama"
    n_documents: int = 24
    n_drawn: int = 0
    n_with_heads: int = 8
    n_silenced: int = 4
    n_heads: int = 36
    max_tokens: int = 320
    document_tokens: int = 0
    n_topics: int = 2
    n_near_misses: int = 10
    n_retrieved: int = 100
    whole_documents: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_documents < 2:
            raise ValueError(
                f"n_documents must be at least 2 (one swaps its trace with another's), got {self.n_documents}"
            )


@dataclass(frozen=True, eq=False)
class Loaded:
    """A collection with its data and models.

    settings: what was asked for.
    task: the documents that are shown, in its test split, under their topics.
    index: over its label space.
    topic_depth: level of the tree whose nodes are the topics.
    teacher: who reasons, None for nobody.
    predictions: what it wrote about each document; none without a teacher.
    """

    settings: Collection
    task: Task
    index: LabelIndex
    topic_depth: int
    teacher: Teacher | None
    predictions: list[Prediction]

    @property
    def space(self) -> LabelSpace:
        """The labels to choose from."""
        return self.task.space

    @cached_property
    def documents(self) -> list[str]:
        """The texts of the documents."""
        return list(self.task.documents["test"]["text"])

    @cached_property
    def uids(self) -> list[str]:
        """The ids of the documents."""
        return list(self.task.documents["test"]["uid"])

    @property
    def may_show_whole(self) -> bool:
        """Whether documents may be copied into a page as a whole: generated ones, set.mm, or the user's own wish."""
        free = self.task.card.generated or self.settings.dataset.startswith("setmm")
        return free or self.settings.whole_documents


def load(settings: Collection) -> Loaded:
    """Read the documents, embed the labels, and let the teacher reason.

    Raises ValueError for a task without two test documents, and what the loaders raise.
    """
    task = readers.load_as_asked(settings.dataset, settings.source, settings.text_column, settings.label_column)
    if len(task.documents["test"]) < 2:
        raise ValueError(
            f"{task.card.title} has {len(task.documents['test'])} test documents and the explorer needs 2 at least: "
            "give more documents, or a test split of your own"
        )
    task = task.sample("test", settings.n_drawn or settings.n_documents, settings.seed)
    n_clusters, topic_depth = topics(task.space)
    task, index = teachers.with_topics(task, encoders.load(settings.encoder), n_clusters, settings.seed)
    teacher = teachers.load(settings.teacher, settings.document_tokens) if settings.teacher else None
    predictions: list[Prediction] = []
    if teacher:
        texts, uids = (list(task.documents["test"][column]) for column in ("text", "uid"))
        predictions = predict.reason(
            teacher, texts, index, uids=uids, max_tokens=settings.max_tokens, seed=settings.seed
        )[: settings.n_documents]
    shown = task.select("test", np.arange(min(settings.n_documents, len(task.documents["test"]))))
    return Loaded(settings, shown, index, topic_depth, teacher, predictions)


def topics(space: LabelSpace) -> tuple[int, int]:
    """How a label space's topics are chosen: the number of clusters (0 for none), and the level of the tree."""
    if space.parents is None or space.depth.max() < TREE_TOPICS:
        n_roots = len(space.ids) if space.parents is None else int((space.parents < 0).sum())
        return min(CLUSTERS, n_roots), 0
    return 0, TREE_TOPICS
