"""Each phase by itself: the shortlist without refinement, and the refinement of shortlists from elsewhere.

Notes: (a) the shortlist alone, against retrieval of equal size; (b) the refinement alone, on the model's own shortlist,
a retriever's, an oracle's and a corrupted one; (c) no refinement, the answer is the shortlist in its order. All four
shortlists of a document are equally long (our definition).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.sparse import csr_matrix

from ctd import stats
from ctd.data.task import Task
from ctd.reasoning import candidate_lists, predict, rank_answers
from ctd.reasoning.rank_answers import Prediction
from ctd.reasoning.teachers import Teacher
from ctd.retrieval import metrics
from ctd.retrieval import shortlists as sl
from ctd.retrieval.index import LabelIndex
from ctd.retrieval.shortlists import Shortlist

KINDS = ("own", "retrieved", "oracle", "corrupted")


def own_shortlists(predictions: Sequence[Prediction]) -> list[list[int]]:
    """What each document's trace shortlisted, in its order; nothing where the trace marks no shortlist."""
    return [list(prediction.trace.shortlisted) for prediction in predictions]


def sizes(shortlists: Sequence[Sequence[int]], size: int) -> list[int]:
    """How long each document's shortlists are: as long as the given one, or `size` where that is not 0."""
    return [size or max(len(listed), 1) for listed in shortlists]


def cut_to(shortlist: Shortlist, wanted: Sequence[int]) -> list[list[int]]:
    """The first labels of each row, as many as are wanted of it."""
    return [[int(label) for label in row[row >= 0][:most]] for row, most in zip(shortlist, wanted, strict=True)]


@dataclass(frozen=True)
class Settings:
    """How a teacher's phases are isolated.

    size: labels of each document's shortlists; 0 for as many as the teacher's own has.
    corruption: share of the corrupted shortlist's places that hold another document's labels.
    n_near_misses: in the oracle's shortlist at most.
    cutoff: places that a ranking has at least.
    max_tokens: what the teacher may write about a document.
    seed: draws shortlists and, where it samples, what the teacher writes.
    """

    size: int = 0
    corruption: float = 0.5
    n_near_misses: int = 10
    cutoff: int = 5
    max_tokens: int = 512
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Isolated:
    """A teacher's phases on a task's test documents, each by itself.

    teacher: who wrote.
    task: whose test documents.
    index: over the task's label space.
    predictions: what the teacher wrote.
    shortlists: the four shortlists of each document, by `KINDS`.
    outputs: the ranking that its refinement makes of each.
    """

    teacher: Teacher
    task: Task
    index: LabelIndex
    predictions: list[Prediction]
    shortlists: dict[str, list[list[int]]]
    outputs: dict[str, Shortlist]


def isolate(teacher: Teacher, task: Task, index: LabelIndex, settings: Settings = Settings()) -> Isolated:
    """The teacher reasons about each test document, then refines three shortlists that it did not make.

    Raises what `shortlists` raises.
    """
    documents, uids = (list(task.documents["test"][column]) for column in ("text", "uid"))
    reason = partial(
        predict.reason, teacher, documents, index, uids=uids, max_tokens=settings.max_tokens, seed=settings.seed
    )
    predictions = reason()
    inputs = shortlists(task, index, predictions, settings)
    places = max(settings.cutoff, *(len(prediction.ranking) for prediction in predictions))
    outputs = {"own": rank_answers.rankings(predictions, places, refined=True)}
    for name in KINDS[1:]:
        pairs = zip(predictions, inputs[name], strict=True)
        beginnings = [
            predict.with_shortlist(prediction.trace, labels, task.space.texts) for prediction, labels in pairs
        ]
        refined = reason(request=predict.Request(beginnings=beginnings), desc=f"refining {name}")
        outputs[name] = rank_answers.rankings(refined, places, refined=True)
    return Isolated(teacher, task, index, predictions, inputs, outputs)


def shortlists(
    task: Task, index: LabelIndex, predictions: Sequence[Prediction], settings: Settings = Settings()
) -> dict[str, list[list[int]]]:
    """The four shortlists of each test document, by `KINDS`; the book's own where it has them.

    predictions: what the teacher wrote about the documents.
    Raises what `corrupted` raises.
    """
    size, corruption, n_near_misses, seed = (
        settings.size, settings.corruption, settings.n_near_misses, settings.seed,
    )  # fmt: skip

    def make() -> dict[str, list[list[int]]]:
        listed, gold = own_shortlists(predictions), task.gold("test")
        wanted = sizes(listed, size)
        retrieved = sl.retrieve_scored(index, task, "test", max(wanted))
        near = near_misses(index, gold, list(task.documents["test"]["text"]), n_near_misses)
        by_kind = (
            [labels[:most] for labels, most in zip(listed, wanted, strict=True)],
            cut_to(retrieved, wanted),
            oracle(gold, near, retrieved, wanted, seed),
            corrupted(listed, listed, corruption, seed),
        )
        return dict(zip(KINDS, by_kind, strict=True))

    key = {"size": size, "corruption": corruption, "n_near_misses": n_near_misses, "seed": seed}
    written = [prediction.trace.cot for prediction in predictions]
    return candidate_lists.lists(index, task, "test", key | {"written": written}, make)


def oracle(
    gold: csr_matrix, near: Sequence[Sequence[int]], others: Shortlist, wanted: Sequence[int], seed: int
) -> list[list[int]]:
    """Gold labels (at most half of the places), then near misses, then retrieved labels, in random order.

    gold: the gold labels of each document.
    near: near misses of each document.
    others: labels retrieved for each document.
    wanted: how many labels each document gets.
    """
    listed = []
    for row, most in enumerate(wanted):
        rng = np.random.default_rng((seed, row))
        right = gold[row].indices
        hits = rng.permutation(right)[: max(1, most // 2)].tolist()
        wrong = [label for label in dict.fromkeys([*near[row], *others[row].tolist()]) if label >= 0]
        wrong = [label for label in wrong if label not in set(right.tolist())]
        members = [*hits, *wrong[: max(0, most - len(hits))]]
        listed.append([int(members[place]) for place in rng.permutation(len(members))])
    return listed


def corrupted(
    shortlists: Sequence[Sequence[int]], others: Sequence[Sequence[int]], rate: float, seed: int
) -> list[list[int]]:
    """Each shortlist with a share of its places given to labels of other documents' shortlists.

    shortlists: of the documents.
    others: shortlists to draw from, in the order of the documents; a document never draws from its own.
    rate: the share of places.
    Raises ValueError for a rate outside 0 .. 1, or fewer than two documents.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"corruption rate must be between 0 and 1, got {rate}")
    if len(shortlists) < 2:
        raise ValueError(f"corruption takes labels from other documents, got {len(shortlists)} document")
    rng = np.random.default_rng(seed)
    listed = []
    for row, labels in enumerate(shortlists):
        spoilt = list(labels)
        strangers = [label for shift in range(1, len(others)) for label in others[(row + shift) % len(others)]]
        strangers = [label for label in dict.fromkeys(strangers) if label not in set(labels)]
        places = rng.permutation(len(spoilt))[: round(rate * len(spoilt))]
        for place, stranger in zip(places, strangers, strict=False):
            spoilt[place] = stranger
        listed.append(spoilt)
    return listed


def recall_at_own_size(shortlists: Mapping[str, Sequence[Sequence[int]]], gold: csr_matrix, seed: int) -> pd.DataFrame:
    """Recall of each shortlist at its own size, and how much the first one has more (paired): a row each."""
    per_document = {}
    for name, listed in shortlists.items():
        padded = sl.as_array(listed)
        per_document[name] = metrics.recall_at_k(padded, gold, padded.shape[1], average=False)
    return _against_first(per_document, "shortlist", seed)


def kept_from_shortlist(inputs: Sequence[Sequence[int]], outputs: Shortlist) -> Float[np.ndarray, " documents"]:
    """The share of each answer that stands in the shortlist it was given; NaN for an empty answer."""
    shares = np.full(len(inputs), np.nan)
    for row, listed in enumerate(inputs):
        answered = outputs[row][outputs[row] >= 0]
        if len(answered):
            shares[row] = np.isin(answered, list(listed)).mean()
    return shares


def near_misses(index: LabelIndex, gold: csr_matrix, documents: Sequence[str], m: int) -> list[list[int]]:
    """Up to m near misses of each document's gold labels, nearest to the document first."""
    return [
        index.space.near_misses(gold[row].indices, m, document, index).tolist() if gold[row].nnz else []
        for row, document in enumerate(documents)
    ]


def _against_first(per_document: Mapping[str, Float[np.ndarray, " n"]], column: str, seed: int) -> pd.DataFrame:
    first = next(iter(per_document.values()))
    rows = []
    for name, values in per_document.items():
        mean, low, high = stats.bootstrap_mean(values, seed=seed).scalar
        gap, gap_low, gap_high = stats.bootstrap_difference(first, values, seed=seed).scalar
        rows.append(
            {
                column: name, "value": mean, "low": low, "high": high,
                "first_minus_this": gap, "gap_low": gap_low, "gap_high": gap_high,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)
