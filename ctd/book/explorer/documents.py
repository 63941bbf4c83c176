"""The documents of a collection as the page reads them: text, reasoning, labels, and the curves along the reasoning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from ctd import text
from ctd.book.explorer.collection import Loaded
from ctd.book.explorer.label_map import LabelMap
from ctd.mechanism import cot_prefixes, isolation, targets
from ctd.mechanism.trajectories import Trajectories
from ctd.reasoning.rank_answers import Prediction
from ctd.reasoning.traces import Trace
from ctd.retrieval import shortlists as sl

CURVES = ("focus", "confusion", "gold")
OWN, SHUFFLED, OTHER = "own", "shuffled", "other"


class Labels:
    """The labels that documents name, numbered in the order in which they come up."""

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}

    def __call__(self, labels: Sequence[int] | np.ndarray) -> list[int]:
        """The page's numbers of some labels."""
        return [self.numbers.setdefault(int(label), len(self.numbers)) for label in labels]


def of_collection(loaded: Loaded) -> tuple[list[dict[str, Any]], Labels]:
    """The documents as plain values, and the labels that they name."""
    labels, settings = Labels(), loaded.settings
    gold = [row.indices for row in loaded.task.gold("test")]
    near = isolation.near_misses(loaded.index, loaded.task.gold("test"), loaded.documents, settings.n_near_misses)
    n_retrieved = min(settings.n_retrieved, len(loaded.space) - len(loaded.task.unscored))
    retrieved = sl.retrieve_scored(loaded.index, loaded.task, "test", n_retrieved)
    topics = loaded.task.topics("test", loaded.topic_depth, settings.n_topics)
    documents: list[dict[str, Any]] = [
        {
            "uid": uid,
            "text": document if loaded.may_show_whole else text.excerpt(document),
            "gold": labels(gold[row]),
            "near": labels(near[row]),
            "retrieved": labels(retrieved[row][retrieved[row] >= 0]),
            "topics": topics[row],
        }
        for row, (uid, document) in enumerate(zip(loaded.uids, loaded.documents, strict=True))
    ]
    for row, (prediction, others) in enumerate(zip(loaded.predictions, curves(loaded), strict=False)):
        documents[row] |= {"trace": trace(prediction, labels), **others}
    return documents, labels


def trace(prediction: Prediction, labels: Labels) -> dict[str, Any]:
    """A chain of thought with the labels that it names (characters of the CoT), its boundary and its answer."""
    written = prediction.trace
    first, last = written.cot_span
    named = [mention for mention in written.mentions if first <= mention.start and mention.end <= last]
    return {
        "cot": written.cot,
        "boundary": written.boundary,
        "mentions": [
            [mention.start - first, mention.end - first, number]
            for mention, number in zip(named, labels([mention.label for mention in named]), strict=True)
        ],
        "shortlist": labels(written.shortlisted),
        "answer": labels(prediction.ranking),
        "error": written.error,
    }


def curves(loaded: Loaded) -> list[dict[str, Any]]:
    """Focus, Confusion and the cosine to gold along each CoT, its shuffled lines, and another document's CoT."""
    traces = [prediction.trace for prediction in loaded.predictions]
    if not any(written.cot.strip() for written in traces):
        return [{} for _ in traces]
    settings, encoder = loaded.settings, loaded.index.encoder
    rng = np.random.default_rng(settings.seed)
    goals = targets.task_targets(
        loaded.task, loaded.index, loaded.topic_depth, settings.n_topics, settings.n_near_misses
    )
    mixed = [cot_prefixes.shuffled(written, rng) if written.cot.strip() else written for written in traces]
    unchanged, shuffled = (cot_prefixes.embed_prefixes(written, encoder) for written in (traces, mixed))
    measured = {OWN: unchanged.towards(goals), SHUFFLED: shuffled.towards(goals)}
    others = _other_documents(traces, rng)
    if others is not None:
        measured[OTHER] = unchanged.swapped(others).towards(goals)
    return [
        {
            "curves": {name: _curves(trajectories, row) for name, trajectories in measured.items()},
            "shuffled": mixed[row].cot,
            "other": None if others is None or others[row] == row else int(others[row]),
        }
        for row in range(len(traces))
    ]


def _other_documents(traces: Sequence[Trace], rng: np.random.Generator) -> np.ndarray | None:
    """The row of the document whose trace each one is swapped with; None where fewer than two have a trace."""
    if sum(bool(written.cot.strip()) for written in traces) < 2:
        return None
    return cot_prefixes.of_other_documents(traces, rng)


def _curves(measured: Trajectories, row: int) -> dict[str, list[float | None]]:
    return {name: rounded(getattr(measured, name)[row]) for name in CURVES}


def rounded(values: Float[np.ndarray, " n"], digits: int = 3) -> list[float | None]:
    """Numbers for JSON, which knows no NaN."""
    return [None if np.isnan(value) else round(float(value), digits) for value in values]


def topic_marks(documents: Sequence[Mapping[str, Any]], loaded: Loaded, label_map: LabelMap) -> list[dict[str, Any]]:
    """The topics of all documents with their places on the map: the middle of the labels below them."""
    space = loaded.space
    nodes = sorted({node for document in documents for node in document["topics"]})
    marks = []
    for node in nodes:
        below = space.descend(node) if space.parents is not None else np.empty(0, np.int64)
        members = np.append(below, node) if node < len(space) else below
        marks.append({"node": node, "text": space.texts[node], "place": label_map.centre(members)})
    return marks
