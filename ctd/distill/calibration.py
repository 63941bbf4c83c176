"""Does a model know when it is right? The probability of each label that it answered, against whether it is gold.

Notes: the probability of a label is that with which shortlist and answer were written of it, each given all before it
(`Prediction.scores`). Intervals are over documents, whose labels belong together.

Source: the question is that of Thinking Out Loud, arXiv:2504.06564, whose models say how sure they are (abstract read).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

from ctd import stats
from ctd.reasoning.rank_answers import Prediction

BINS = 10
KEPT = (10, 25, 50, 75, 100)  # shares of the labels, in percent, of which the surest are kept
DRAWS = 200  # of the interval of AUROC, which is no function of sums


@dataclass(frozen=True)
class Answered:
    """All labels that a model, or several students of an arm, answered.

    document: of each label.
    probability: of each.
    right: whether it is gold.
    n_documents: how many were asked about.
    """

    document: Int[np.ndarray, " labels"]
    probability: Float[np.ndarray, " labels"]
    right: Bool[np.ndarray, " labels"]
    n_documents: int

    @classmethod
    def of(cls, students: Sequence[Sequence[Prediction]], gold: csr_matrix) -> Answered:
        """The labels of all students, each of which answered the same documents.

        gold: [documents, labels].
        """
        rows = [
            (number, np.exp(score), bool(gold[number, label]))
            for answers in students
            for number, answer in enumerate(answers)
            for label, score in zip(answer.ranking, answer.scores, strict=True)
        ]
        document, probability, right = zip(*rows, strict=True) if rows else ((), (), ())
        return cls(np.array(document, int), np.array(probability, float), np.array(right, bool), gold.shape[0])

    def by_document(self, values: Float[np.ndarray, " labels"]) -> Float[np.ndarray, " documents"]:
        """A value of labels, summed over those of each document."""
        return np.bincount(self.document, values, self.n_documents)


def measures(answered: Answered, seed: int = 0) -> pd.DataFrame:
    """Expected calibration error (ten bins of equal width), Brier score, and AUROC of right against wrong labels.

    seed: draws the bootstrap's samples.
    Returns columns measure, value, low and high; NaN where nothing was answered, or (AUROC) all are right or all wrong.
    """
    gap = answered.probability - answered.right
    bins = np.minimum((answered.probability * BINS).astype(int), BINS - 1)
    count = answered.by_document(np.ones(len(gap)))
    sums = np.stack([*(answered.by_document(gap * (bins == place)) for place in range(BINS)), count], axis=1)
    intervals = {
        "ece": stats.bootstrap(sums[..., None], lambda total: np.abs(total[:, :-1]).sum(1) / total[:, -1], seed=seed),
        "brier": stats.bootstrap_ratio(answered.by_document(gap**2), count, seed=seed),
        "auroc": stats.bootstrap_weighted(
            lambda weights: _auroc(answered, weights), answered.n_documents, DRAWS, seed=seed
        ),
    }
    return pd.DataFrame(
        [
            (name, *(float(np.ravel(end)[0]) for end in (shown.estimate, shown.low, shown.high)))
            for name, shown in intervals.items()
        ],
        columns=["measure", "value", "low", "high"],
    )


def abstention(answered: Answered, seed: int = 0) -> pd.DataFrame:
    """The share of right labels among the surest ones.

    seed: draws the bootstrap's samples.
    Returns columns kept (the percentage of the labels), value, low and high.
    """
    rows = []
    for percentage in KEPT:
        least = np.quantile(answered.probability, 1 - percentage / 100) if len(answered.probability) else 0.0
        sure = answered.probability >= least
        hits, count = answered.by_document(1.0 * (sure & answered.right)), answered.by_document(1.0 * sure)
        rows.append((percentage, *stats.bootstrap_ratio(hits, count, seed=seed).scalar))
    return pd.DataFrame(rows, columns=["kept", "value", "low", "high"])


def _auroc(answered: Answered, weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "b 1"]:
    """AUROC where documents count as often as the weights say; NaN where there are no two kinds of labels."""
    values = []
    for counts in weights[:, answered.document]:
        both = len(set(answered.right[counts > 0].tolist())) > 1
        values.append(roc_auc_score(answered.right, answered.probability, sample_weight=counts) if both else np.nan)
    return np.array(values)[:, None]
