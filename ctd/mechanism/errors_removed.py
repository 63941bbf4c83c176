"""Which errors each phase removes by itself, and whether both remove the same ones.

Notes: an error is a gold label that is not among the first places with neither phase; a phase removes it where the
label is there with that phase alone (our definition).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

from ctd import stats
from ctd.retrieval import shortlist_tables
from ctd.retrieval import shortlists as sl
from ctd.retrieval.shortlists import Shortlist


def by_group(
    inputs: Mapping[str, Sequence[Sequence[int]]],
    outputs: Mapping[str, Shortlist],
    gold: csr_matrix,
    cutoff: int,
    groups: Mapping[str, tuple[Int[np.ndarray, " x"], Sequence[str]]],
    absent: str = "retrieved",
    seed: int = 0,
) -> pd.DataFrame:
    """How many errors each phase removes in each group of documents or labels, and how far they are the same.

    inputs, outputs, gold: as in `factorial.evaluate`.
    cutoff: places that count.
    groups: by what they are grouped, the number of each document's or each label's group, and the groups' names.
    absent: the shortlist in place of the model's own.
    Returns columns by, group, n (documents with an error in the group), errors, phase_1, phase_2 (shares removed), both
    (share that each removes), jaccard and yules_q with low and high. Q is 1 where the same errors are removed, -1 where
    others are, NaN where undefined.
    """
    document, label = gold.nonzero()
    without, alone_1, alone_2 = (
        np.asarray(shortlist_tables.found_pairs(answer[:, :cutoff], gold)[document, label]).ravel()
        for answer in (sl.as_array(inputs[absent], cutoff), sl.as_array(inputs["own"], cutoff), outputs[absent])
    )
    missed = ~without
    kind = np.where(alone_1, np.where(alone_2, 0, 1), np.where(alone_2, 2, 3))
    rows = []
    for by, (group_of, names) in {"all": (np.zeros(gold.shape[0], int), ["all"]), **groups}.items():
        member = group_of[document if len(group_of) == gold.shape[0] else label]
        counts = np.zeros((gold.shape[0], 4, len(names)))
        np.add.at(counts, (document[missed], kind[missed], member[missed]), 1.0)
        rows += [(by, *row) for row in _rows(counts, names, seed)]
    columns = ["by", "group", "n", "errors", "phase_1", "phase_2", "both", "jaccard", "jaccard_low", "jaccard_high"]
    return pd.DataFrame(rows, columns=[*columns, "yules_q", "yules_q_low", "yules_q_high"])


def _rows(counts: Float[np.ndarray, "n 4 m"], names: Sequence[str], seed: int) -> list[tuple[object, ...]]:
    """A row per group that has errors: its name, how many documents and errors, the shares removed, and the overlap."""
    overlap = [stats.bootstrap(counts, measure, seed=seed) for measure in (jaccard, yules_q)]
    both, first, second, _ = total = counts.sum(0)
    documents = counts.any(1).sum(0)
    rows: list[tuple[object, ...]] = []
    for place, name in enumerate(names):
        if errors := total[:, place].sum():
            shares = ((both + first)[place] / errors, (both + second)[place] / errors, both[place] / errors)
            overlaps = (*overlap[0][place].scalar, *overlap[1][place].scalar)
            rows.append((name, int(documents[place]), int(errors), *shares, *overlaps))
    return rows


def jaccard(counts: Float[np.ndarray, "b 4 m"]) -> Float[np.ndarray, "b m"]:
    """Errors that both phases remove over those that either does; counts of both, first only, second only, neither."""
    both, first, second, _ = np.moveaxis(counts, 1, 0)
    return stats.ratio(np.stack([both, both + first + second], axis=1))


def yules_q(counts: Float[np.ndarray, "b 4 m"]) -> Float[np.ndarray, "b m"]:
    """Yule's Q (1900) of the same counts: (both x none - first x second) / (both x none + first x second)."""
    both, first, second, none = np.moveaxis(counts, 1, 0)
    same, other = both * none, first * second
    return stats.ratio(np.stack([same - other, same + other], axis=1))


def label_counts(gold: csr_matrix) -> tuple[Int[np.ndarray, " documents"], list[str]]:
    """Each document's third by its number of gold labels, and the thirds' names; fewer where counts are few."""
    counts = np.diff(gold.indptr)
    edges = np.unique(np.quantile(counts, [1 / 3, 2 / 3], method="lower"))
    edges = edges[edges < counts.max()]
    starts, ends = [counts.min(), *(edges + 1)], [*edges, counts.max()]
    names = [
        "1 label" if a == b == 1 else f"{a} labels" if a == b else f"{a} to {b} labels"
        for a, b in zip(starts, ends, strict=True)
    ]
    return np.searchsorted(edges, counts), names
