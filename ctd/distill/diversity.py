"""How differently does a model answer the same document? From several answers that it draws at temperature 1.

Source: Where does output diversity collapse, arXiv:2604.16027; its abstract was read, and the measures are ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_matrix

from ctd.reasoning.rank_answers import Prediction
from ctd.retrieval.encoders import Encoder

MEASURES = ("answer_entropy", "embedding_distance", "right_labels", "wrong_labels")


def of_documents(
    samples: Sequence[Sequence[Prediction]], gold: csr_matrix, encoder: Encoder
) -> dict[str, Float[np.ndarray, " documents"]]:
    """`MEASURES` of every document, all 0 where its answers are the same.

    answer_entropy: of the answer as a set of labels, in nats.
    embedding_distance: 1 - cosine of two chains of thought, mean over all pairs.
    right_labels: gold labels that some answer has, less how many of them one answer has on average.
    wrong_labels: the same of other labels. Both add up to what all answers together have more than one.

    samples: the answers to each document.
    gold: [documents, labels].
    encoder: places the chains of thought.
    Raises ValueError for fewer than two answers to a document.
    """
    if min(map(len, samples)) < 2:
        raise ValueError("diversity needs at least 2 answers to every document")
    rows = []
    for number, answers in enumerate(samples):
        sets, right = [set(answer.ranking) for answer in answers], set(gold[number].indices.tolist())
        texts = [answer.trace.cot for answer in answers]
        distance = _distance(encoder.vectors(texts)) if len(set(texts)) > 1 else 0.0
        beyond = [_beyond_one([answer & right for answer in sets]), _beyond_one([answer - right for answer in sets])]
        rows.append([_entropy(list(map(frozenset, sets))), distance, *beyond])
    return dict(zip(MEASURES, np.array(rows).T, strict=True))


def _entropy(answers: Sequence[frozenset[int]]) -> float:
    shares = np.array(list(Counter(answers).values())) / len(answers)
    return float(-(shares * np.log(shares)).sum())


def _distance(vectors: Float[np.ndarray, "n d"]) -> float:
    """1 - cosine of two of n unit vectors, mean over all pairs."""
    n = len(vectors)
    return float(1 - ((vectors.sum(0) ** 2).sum() - (vectors**2).sum()) / (n * (n - 1)))


def _beyond_one(sets: Sequence[set[int]]) -> float:
    return len(set[int]().union(*sets)) - float(np.mean(list(map(len, sets))))
