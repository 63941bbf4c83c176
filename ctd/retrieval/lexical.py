"""Shortlists by shared words: BM25 over the labels' texts (Robertson & Zaragoza, 2009; library bm25s).

Notes: q queries, k places.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import Stemmer
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix
from tqdm import tqdm

from ctd.data.label_space import LabelSpace
from ctd.retrieval.exclusions import check_search, depth_needed, drop_excluded
from ctd.text import bm25s_library

logging.getLogger("bm25s").setLevel(logging.WARNING)


class LexicalIndex:
    """BM25 (Lucene's variant, k1 1.5, b 0.75) over label texts, with English stems and stop words.

    space: the labels.
    """

    def __init__(self, space: LabelSpace) -> None:
        self.space = space
        self._stemmer = Stemmer.Stemmer("english")
        bm25s = bm25s_library()
        self._index = bm25s.BM25()
        corpus = bm25s.tokenize(space.texts[: len(space)], stopwords="en", stemmer=self._stemmer, show_progress=False)
        self._index.index(corpus, show_progress=False)

    def search(
        self, queries: Sequence[str], k: int, exclude: csr_matrix | None = None
    ) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
        """The k best labels of each query: BM25 scores and label numbers, best first, ties by label number.

        A label that shares no word with the query is not returned: such rows end in -1 with a score of -inf.

        queries: texts.
        k: the places to fill.
        exclude: [q, labels]; its pairs are never returned.
        Raises ValueError for k outside 1 .. len(space), or for `exclude` of another shape.
        """
        check_search(queries, k, self.space)
        bm25s = bm25s_library()
        depth = k if exclude is None else depth_needed(k, exclude, len(queries), self.space)
        scores = np.full((len(queries), depth), -np.inf, np.float32)
        labels = np.full((len(queries), depth), -1, np.int64)
        for row, query in enumerate(tqdm(queries, desc="searching (bm25)", unit=" queries", delay=2)):
            tokens = bm25s.tokenize(
                query, stopwords="en", stemmer=self._stemmer, show_progress=False, return_ids=False
            )[0]
            if not tokens:
                continue
            label_scores = self._index.get_scores(tokens)
            best = _best(label_scores, depth)
            scores[row, : len(best)], labels[row, : len(best)] = label_scores[best], best
        return (scores, labels) if exclude is None else drop_excluded(scores, labels, exclude, k)


def _best(scores: Float[np.ndarray, " labels"], depth: int) -> Int[np.ndarray, " best"]:
    """The labels with the highest positive scores, best first, ties by label number."""
    candidates = np.flatnonzero(scores > 0)
    if len(candidates) > depth:
        lowest = np.partition(scores[candidates], len(candidates) - depth)[len(candidates) - depth]
        candidates = candidates[scores[candidates] >= lowest]
    return candidates[np.lexsort((candidates, -scores[candidates]))][:depth]
