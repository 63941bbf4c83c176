"""Where a chain of thought may move: the unit vectors of a document's topics, text, near misses and gold labels.

Notes: n documents, d dimensions, r texts per document.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ctd.data.label_space import LabelSpace
from ctd.data.task import Task
from ctd.mechanism import isolation
from ctd.mechanism.curve_means import check_lengths
from ctd.mechanism.embed_text import embed, normalise
from ctd.retrieval.encoders import Encoder
from ctd.retrieval.index import LabelIndex


@dataclass(frozen=True, eq=False)
class Targets:
    """One unit vector per document, NaN where it has none. The means are our definition.

    anchor: e(c(x)), mean of the anchors' vectors.
    document: e(x).
    near_miss: e(N(x)), mean of the near misses' vectors.
    gold: e(Y*), mean of the gold labels' vectors.
    """

    anchor: Float[np.ndarray, "n d"]
    document: Float[np.ndarray, "n d"]
    near_miss: Float[np.ndarray, "n d"]
    gold: Float[np.ndarray, "n d"]


def embed_targets(
    documents: Sequence[str],
    gold: Sequence[Sequence[int]],
    near_misses: Sequence[Sequence[int]],
    anchors: Sequence[Sequence[int]],
    space: LabelSpace,
    encoder: Encoder,
) -> Targets:
    """The targets of each document: its own text, and the means over its gold labels, near misses and anchors.

    documents: their texts.
    gold: label numbers, one list (possibly empty) per document.
    near_misses: likewise.
    anchors: node numbers of the label space, likewise.
    space: the labels and nodes.
    encoder: embeds texts.
    Raises ValueError for lengths that differ, or a number that the label space does not have.
    """
    check_lengths(documents=len(documents), gold=len(gold), near_misses=len(near_misses), anchors=len(anchors))
    for labels in (*gold, *near_misses):
        space.check(labels)
    lists = [*anchors, *near_misses, *gold]
    nodes = sorted({int(node) for members in lists for node in members})
    if nodes and not 0 <= nodes[0] <= nodes[-1] < len(space.ids):
        wrong = nodes[0] if nodes[0] < 0 else nodes[-1]
        raise ValueError(f"anchors must be nodes of '{space.name}', 0 to {len(space.ids) - 1}, got {wrong}")
    vectors = embed(encoder, [space.texts[node] for node in nodes], desc="embedding labels")
    row = {node: place for place, node in enumerate(nodes)}
    means = np.full((len(lists), encoder.dim), np.nan, np.float32)
    for place, members in enumerate(lists):
        if len(members):
            means[place] = vectors[[row[int(node)] for node in members]].mean(axis=0)
    anchor, near_miss, right = np.split(normalise(means), 3)
    return Targets(anchor, embed(encoder, documents, desc="embedding documents"), near_miss, right)


def task_targets(
    task: Task,
    index: LabelIndex,
    topic_depth: int,
    n_topics: int,
    n_near_misses: int,
    rows: Sequence[int] | None = None,
) -> Targets:
    """The targets of a task's test documents.

    task: with topics.
    index: over its label space; it finds near misses.
    topic_depth: level of the tree whose nodes are the topics, 0 the highest.
    n_topics: topics of a document at most.
    n_near_misses: near misses of a document at most.
    rows: which documents; None for all.
    """
    part = task if rows is None else task.select("test", np.asarray(rows))
    documents, gold = list(part.documents["test"]["text"]), part.gold("test")
    near = isolation.near_misses(index, gold, documents, n_near_misses)
    anchors = part.topics("test", topic_depth, n_topics)
    return embed_targets(documents, [row.indices.tolist() for row in gold], near, anchors, task.space, index.encoder)


def at_end(texts: Sequence[Sequence[str]], goals: Targets, encoder: Encoder) -> dict[str, Float[np.ndarray, "n r"]]:
    """Focus and Confusion of whole CoTs, such as those written under r interventions.

    texts: r per document. The result is NaN for "", and where the document has no such target.
    goals: the targets of the documents.
    encoder: embeds the texts.
    Raises ValueError for another number of documents than the targets have.
    """
    check_lengths(texts=len(texts), targets=len(goals.gold))
    flat = [text for by_run in texts for text in by_run]
    vectors = embed(encoder, flat, desc="embedding CoTs").reshape(len(texts), -1, encoder.dim)
    towards = {"focus": goals.anchor, "confusion": goals.near_miss}
    return {name: np.einsum("nrd,nd->nr", vectors, target, dtype=np.float64) for name, target in towards.items()}
