"""The best ranking without a language model: a linear classifier for each label seen in training, and dense retrieval.

Notes: q queries, k places. One-vs-rest classifiers know the labels of the training documents and no others. The dense
index knows every label by its text, and no training document. `WithoutLanguageModel` adds up what both say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix, vstack
from scipy.special import expit
from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from tqdm import tqdm

from ctd.cache import digest
from ctd.data.label_space import LabelSpace
from ctd.data.task import Task
from ctd.retrieval import metrics
from ctd.retrieval.exclusions import check_search, depth_needed, drop_excluded
from ctd.retrieval.index import LabelIndex

COSINE_WEIGHTS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0)  # tried on validation documents, as are these:
INVERSE_PENALTIES = (1.0, 10.0, 100.0)
SMALLEST = 0.01  # weights nearer to zero are dropped: Babbar and Schölkopf (2017), arXiv:1609.02521
QUERIES_AT_ONCE = 256


def vectorizer() -> TfidfVectorizer:
    """TF-IDF of whatever spaces part, so that symbols of mathematics are words too; counts enter as 1 + log."""
    return TfidfVectorizer(sublinear_tf=True, dtype=np.float32, token_pattern=r"\S+")


class LinearRanker:
    """One-vs-rest logistic regression on TF-IDF, for the labels that some training document has.

    texts: the training documents.
    gold: their labels, [documents, labels].
    space: the labels.
    inverse_penalty: of the weights' squares; larger fits the training documents more closely.
    Raises ValueError where no training document has a label.
    """

    def __init__(self, texts: Sequence[str], gold: csr_matrix, space: LabelSpace, inverse_penalty: float = 1.0) -> None:
        self.space, columns = space, gold.tocsc()
        self.seen = np.flatnonzero(np.diff(columns.indptr))
        if not len(self.seen):
            raise ValueError("a linear ranker needs training documents with labels, and none has any")
        self._tfidf = vectorizer()
        features = self._tfidf.fit_transform(texts)
        fitted = [
            _fit(features, columns[:, [label]].toarray().ravel() > 0, inverse_penalty)
            for label in tqdm(self.seen, desc="fitting a classifier for each label", unit=" labels", delay=2)
        ]
        self._weights = vstack([weights for weights, _ in fitted], format="csr").T.tocsr()
        self._intercepts = np.array([intercept for _, intercept in fitted], np.float32)

    @property
    def parts(self) -> list[str | bytes]:
        """All that its probabilities are computed from."""
        words = sorted(self._tfidf.vocabulary_.items())
        arrays = (self._tfidf.idf_, self.seen, self._weights.data, self._weights.indices, self._intercepts)
        return [repr(words), *(array.tobytes() for array in arrays)]

    def probabilities(self, queries: Sequence[str]) -> Float[np.ndarray, "q seen"]:
        """The probability of each label of `seen`, by its classifier.

        queries: texts.
        """
        return expit((self._tfidf.transform(queries) @ self._weights).toarray() + self._intercepts)

    def search(
        self, queries: Sequence[str], k: int, exclude: csr_matrix | None = None
    ) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
        """The k most probable labels of each query: probabilities and label numbers, ties by label number.

        Rows end in -1 with a score of -inf where fewer than k labels were seen in training.

        queries: texts.
        k: the places to fill.
        exclude: [q, labels]; its pairs are never returned.
        Raises ValueError for k outside 1 .. len(space), or for `exclude` of another shape.
        """
        check_search(queries, k, self.space)
        depth = k if exclude is None else depth_needed(k, exclude, len(queries), self.space)
        scores = np.full((len(queries), depth), -np.inf, np.float32)
        labels = np.full((len(queries), depth), -1, np.int64)
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            probabilities = self.probabilities(queries[start : start + QUERIES_AT_ONCE])
            best = np.argsort(-probabilities, axis=1, kind="stable")[:, :depth]
            rows, columns = slice(start, start + len(best)), slice(best.shape[1])
            scores[rows, columns], labels[rows, columns] = np.take_along_axis(probabilities, best, 1), self.seen[best]
        return (scores, labels) if exclude is None else drop_excluded(scores, labels, exclude, k)


@dataclass(frozen=True, eq=False)
class WithoutLanguageModel:
    """Labels by the sum of a classifier's probability and a weighted cosine, among the best of either.

    A label beyond the best of the dense index counts with the last cosine there, and one that no training document has
    with a probability of 0.

    linear: knows the labels seen in training.
    index: knows all labels by their texts.
    cosine_weight: of the cosine; 0 leaves it to order labels that the classifiers do not know.
    """

    linear: LinearRanker
    index: LabelIndex
    cosine_weight: float = 0.2

    @classmethod
    def fit(
        cls, task: Task, index: LabelIndex, inverse_penalties: Sequence[float] = INVERSE_PENALTIES
    ) -> WithoutLanguageModel:
        """Fit the classifiers on the training documents; choose penalty and cosine's weight on validation documents.

        Those with the highest nDCG@5 are taken, the smallest of equals; without such documents the first penalty and
        the default weight.

        task: documents and labels.
        index: over the labels of the task.
        inverse_penalties: to try, as in `LinearRanker`.
        """
        train, gold = list(task.documents["train"]["text"]), task.gold("train")
        texts, places = list(task.documents["validation"]["text"]), min(5, len(task.space))
        penalties = inverse_penalties if texts else inverse_penalties[:1]
        fitted = [LinearRanker(train, gold, task.space, penalty) for penalty in penalties]
        if not texts:
            return cls(fitted[0], index)
        tried = [cls(linear, index, weight) for linear in fitted for weight in COSINE_WEIGHTS]
        exclude, gold = task.filtered.get("validation"), task.gold("validation")
        reached = [metrics.ndcg_at_k(candidate.search(texts, places, exclude)[1], gold, places) for candidate in tried]
        return tried[int(np.argmax(reached))]

    @cached_property
    def key(self) -> str:
        """Digest of the fitted classifiers and of the cosine's weight."""
        return digest([*self.linear.parts, repr(self.cosine_weight)])

    def search(
        self, queries: Sequence[str], k: int, exclude: csr_matrix | None = None
    ) -> tuple[Float[np.ndarray, "q k"], Int[np.ndarray, "q k"]]:
        """The k best labels of each query: sums and label numbers, best first, ties by cosine.

        queries: texts.
        k: the places to fill.
        exclude: [q, labels]; its pairs are never returned.
        Raises ValueError for k outside 1 .. len(space), or for `exclude` of another shape.
        """
        probabilities, known = self.linear.search(queries, k, exclude)
        cosines, near = self.index.search(queries, k, exclude)
        scores, labels = np.full_like(cosines, -np.inf), np.full_like(near, -1)
        for row in range(len(near)):
            cosine_of = dict(zip(near[row].tolist(), cosines[row].tolist(), strict=True))
            probability_of = dict(zip(known[row].tolist(), probabilities[row].tolist(), strict=True))
            candidates = [label for label in {**cosine_of, **probability_of} if label >= 0]
            last = min((cosine_of[label] for label in candidates if label in cosine_of), default=0.0)
            cosine = np.array([cosine_of.get(label, last) for label in candidates])
            total = np.array([probability_of.get(label, 0.0) for label in candidates]) + self.cosine_weight * cosine
            best = np.lexsort((-cosine, -total))[:k]
            scores[row, : len(best)], labels[row, : len(best)] = total[best], np.array(candidates)[best]
        return scores, labels


def _fit(features: csr_matrix, has_label: Bool[np.ndarray, " n"], inverse_penalty: float) -> tuple[csr_matrix, float]:
    """Weights and intercept of one label's classifier."""
    if has_label.all():
        return csr_matrix((1, features.shape[1]), dtype=np.float32), float(np.log(len(has_label) + 1))
    fitted = LogisticRegression(C=inverse_penalty, solver="liblinear", dual=True, random_state=0)
    fitted.fit(features, has_label)
    weights = np.where(np.abs(fitted.coef_) < SMALLEST, 0, fitted.coef_).astype(np.float32)
    return csr_matrix(weights), float(fitted.intercept_[0])
