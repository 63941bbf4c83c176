"""Each phase by itself: the shortlist without refinement, and the refinement of shortlists from elsewhere.

Notes: (a) the shortlist alone, against retrieval of equal size; (b) the refinement alone, on the model's own shortlist,
a retriever's, an oracle's and a corrupted one; (c) no refinement, the answer is the shortlist in its order. All four
shortlists of a document are equally long (our definition).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.sparse import csr_matrix

from ctd import metrics, stats
from ctd import shortlists as sl
from ctd.index import LabelIndex
from ctd.reasoning import Reasoned
from ctd.shortlists import Shortlist

KINDS = ("own", "retrieved", "oracle", "corrupted")
REFINEMENTS = ("none", "model", "perfect")


def own(reasoned: Sequence[Reasoned]) -> list[list[int]]:
    """What each document's trace shortlisted, in its order; nothing where the trace marks no shortlist."""
    return [list(one.trace.shortlisted) for one in reasoned]


def sizes(shortlists: Sequence[Sequence[int]], size: int) -> list[int]:
    """How long each document's shortlists are to be: as long as the given one, or `size` where that is not 0."""
    return [size or max(len(listed), 1) for listed in shortlists]


def cut_to(shortlist: Shortlist, wanted: Sequence[int]) -> list[list[int]]:
    """The first labels of each row, as many as are wanted of it."""
    return [[int(label) for label in row[row >= 0][:most]] for row, most in zip(shortlist, wanted, strict=True)]


def oracle(
    gold: csr_matrix, near: Sequence[Sequence[int]], others: Shortlist, wanted: Sequence[int], seed: int
) -> list[list[int]]:
    """Gold labels (at most half of the places), then near misses, then retrieved ones, in random order."""
    listed = []
    for row, most in enumerate(wanted):
        rng = np.random.default_rng((seed, row))
        right = gold[row].indices
        kept = rng.permutation(right)[: max(1, most // 2)].tolist()
        wrong = [label for label in dict.fromkeys([*near[row], *others[row].tolist()]) if label >= 0]
        wrong = [label for label in wrong if label not in set(right.tolist())]
        members = [*kept, *wrong[: max(0, most - len(kept))]]
        listed.append([int(members[place]) for place in rng.permutation(len(members))])
    return listed


def corrupted(
    shortlists: Sequence[Sequence[int]], others: Sequence[Sequence[int]], rate: float, seed: int
) -> list[list[int]]:
    """Each shortlist with a share of its places given to labels of another document's, in the same places.

    others: shortlists to draw from, in the order of the documents; a document never draws from its own.
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
        given = sl.as_array(listed)
        per_document[name] = metrics.recall_at_k(given, gold, given.shape[1], average=False)
    return _against_first(per_document, "shortlist", seed)


def refine(
    inputs: Mapping[str, Sequence[Sequence[int]]], outputs: Mapping[str, Shortlist], gold: csr_matrix, cutoff: int
) -> dict[str, dict[str, Float[np.ndarray, " documents"]]]:
    """nDCG@cutoff of each document, by shortlist and refinement.

    inputs: the shortlists that were handed over, in their order. outputs: what the model answered on each.
    "none" reads the shortlist as it stands, "perfect" puts its gold labels first.
    """
    scores = {}
    for name, listed in inputs.items():
        given = sl.as_array(listed, cutoff)
        values = (
            metrics.ndcg_at_k(given, gold, cutoff, average=False),
            metrics.ndcg_at_k(outputs[name], gold, cutoff, average=False),
            metrics.oracle_ndcg_at_k(given, gold, cutoff, average=False),
        )
        scores[name] = dict(zip(REFINEMENTS, values, strict=True))
    return scores


def refinement_table(scores: Mapping[str, Mapping[str, Float[np.ndarray, " n"]]], seed: int) -> pd.DataFrame:
    """What `refine` gives, averaged over documents: columns shortlist, refinement, value, low, high."""
    rows = [
        (name, refinement, *stats.bootstrap_mean(values, seed=seed).scalar)
        for name, by_refinement in scores.items()
        for refinement, values in by_refinement.items()
    ]
    return pd.DataFrame(rows, columns=["shortlist", "refinement", "value", "low", "high"])


def gains(scores: Mapping[str, Mapping[str, Float[np.ndarray, " n"]]], seed: int) -> pd.DataFrame:
    """What the model's refinement adds to each shortlist in its order (paired): shortlist, value, low, high."""
    rows = [
        (name, *stats.bootstrap_difference(of["model"], of["none"], seed=seed).scalar) for name, of in scores.items()
    ]
    return pd.DataFrame(rows, columns=["shortlist", "value", "low", "high"])


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
