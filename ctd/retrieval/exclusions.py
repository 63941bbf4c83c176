"""Pairs of document and label that a shortlist may never hold: fetch more labels than asked for, then drop them.

Notes: q queries, k places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

from ctd.data.label_space import LabelSpace


def check_search(queries: Sequence[str] | np.ndarray, k: int, space: LabelSpace) -> None:
    """Raise ValueError for one text in place of several, or where the label space cannot fill k places."""
    if isinstance(queries, str):
        raise ValueError(f"queries must be a list of texts, got the text {queries[:40]!r}: put it in a list")
    if not 1 <= k <= len(space):
        raise ValueError(f"k must be between 1 and {len(space)} (labels in '{space.name}'), got {k}")


def depth_needed(k: int, exclude: csr_matrix, queries: int, space: LabelSpace) -> int:
    """How many labels to fetch so that k are left when the exclusions of each row are dropped.

    k: the places to fill.
    exclude: [q, labels]; the pairs that are dropped.
    queries: q.
    space: the labels.
    Raises ValueError for `exclude` of another shape.
    """
    if exclude.shape != (queries, len(space)):
        raise ValueError(f"exclude must have shape ({queries}, {len(space)}), got {exclude.shape}")
    return int(min(len(space), k + np.diff(exclude.indptr).max(initial=0)))


def drop_excluded(
    scores: Float[np.ndarray, "q depth"], labels: Int[np.ndarray, "q depth"], exclude: csr_matrix, k: int
) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
    """The first k labels of each row that are not excluded; -1 with a score of -inf where fewer are left.

    scores: of the labels.
    labels: best first.
    exclude: [q, labels]; the pairs to drop.
    k: the places to fill.
    """
    kept_scores = np.full((len(labels), k), -np.inf, np.float32)
    kept_labels = np.full((len(labels), k), -1, np.int64)
    for row in range(len(labels)):
        excluded = exclude.indices[exclude.indptr[row] : exclude.indptr[row + 1]]
        keep = np.flatnonzero(~np.isin(labels[row], excluded))[:k]
        kept_scores[row, : len(keep)] = scores[row, keep]
        kept_labels[row, : len(keep)] = labels[row, keep]
    return kept_scores, kept_labels
