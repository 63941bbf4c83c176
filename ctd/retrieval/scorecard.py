"""How good are the answers? A teacher's rankings beside retrieval and the frequency prior, number by number.

Notes: F1 compares sets, and a ranking is no set. The set of every method is the first places of its ranking, as many
as the reference method (the teacher) answered for that document, so that no method gains by length (our definition).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.sparse import csr_matrix

from ctd import stats
from ctd.retrieval import metrics, shortlist_tables
from ctd.retrieval.shortlists import Shortlist

AT_ONCE = 100  # weightings of the documents that the macro F1 holds together


def scorecard(
    predictions: Mapping[str, Shortlist],
    gold: csr_matrix,
    train: csr_matrix,
    cutoff: int,
    seed: int,
    reference: str,
) -> pd.DataFrame:
    """P@1, P@k, nDCG@k, PSP@k, micro and macro F1 with 95 % intervals: columns method, metric, value, low, high.

    Macro F1 is over the labels that some of the documents use.

    predictions: rankings by method, [documents, places], -1 for none.
    gold: the documents' labels.
    train: the training labels, for the propensities of PSP.
    cutoff: k.
    seed: of the bootstrap draws.
    reference: the method whose answers' lengths the sets of the F1 scores have.
    Raises ValueError when the reference is not among the methods.
    """
    if reference not in predictions:
        raise ValueError(f"reference must be one of {', '.join(predictions)}, got {reference!r}")
    table = shortlist_tables.score_table(predictions, gold, train, cutoff, seed).rename(columns={"retriever": "method"})
    lengths = (predictions[reference] >= 0).sum(1)
    rows = []
    for name, pred in predictions.items():
        precision = stats.bootstrap_mean(metrics.precision_at_k(pred, gold, cutoff, average=False), seed=seed)
        micro, macro = f1_intervals(pred, lengths, gold, seed)
        for metric, interval in ((f"P@{cutoff}", precision), ("micro F1", micro), ("macro F1", macro)):
            value, low, high = interval.scalar
            rows.append({"method": name, "metric": metric, "value": value, "low": low, "high": high})
    whole = pd.concat([table, pd.DataFrame(rows)], ignore_index=True)
    return whole.drop_duplicates(["method", "metric"], ignore_index=True)  # P@k is P@1 where k is 1


def f1_intervals(
    pred: Shortlist, lengths: Float[np.ndarray, " documents"], gold: csr_matrix, seed: int, draws: int = 1000
) -> tuple[stats.Interval, stats.Interval]:
    """Micro F1, and macro F1 over the labels that some document uses, with intervals over documents.

    A label that the documents of a draw neither have nor predict is left out of that draw's macro mean.

    pred: rankings, -1 for none.
    lengths: how many places of each row are its set.
    gold: the documents' labels.
    seed: of the draws.
    draws: the number of resamples for the macro F1.
    """
    predicted, true = _sets(pred, lengths, gold), gold.astype(float)
    correct, sizes = predicted.multiply(true).tocsc(), (predicted + true).tocsc()
    micro = stats.bootstrap_ratio(2 * np.asarray(correct.sum(1)), np.asarray(sizes.sum(1)), seed=seed)[0]
    used_labels = np.flatnonzero(np.asarray(true.sum(0)).ravel())
    if not len(used_labels):
        return micro, stats.Interval(*(np.array(np.nan),) * 3)
    correct, sizes = correct[:, used_labels], sizes[:, used_labels]

    def macro(weights: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "b 1"]:
        blocks = np.array_split(weights, len(weights) // AT_ONCE + 1)
        return np.concatenate([_macro(correct.T @ block.T, sizes.T @ block.T) for block in blocks])

    return micro, stats.bootstrap_weighted(macro, gold.shape[0], draws, seed=seed)[0]


def _sets(pred: Shortlist, lengths: Float[np.ndarray, " documents"], gold: csr_matrix) -> csr_matrix:
    """The first places of each row as a 0/1 matrix [documents, labels]."""
    chosen = (np.arange(pred.shape[1]) < np.asarray(lengths)[:, None]) & (pred >= 0)
    document, place = np.nonzero(chosen)
    sets = csr_matrix((np.ones(len(document)), (document, pred[document, place])), shape=gold.shape)
    sets.data[:] = 1.0
    return sets


def _macro(correct: Float[np.ndarray, "labels b"], sizes: Float[np.ndarray, "labels b"]) -> Float[np.ndarray, "b 1"]:
    """The mean F1 of the labels that are there, for each weighting of the documents; NaN where there are none."""
    there = sizes > 0
    by_label = np.divide(2 * correct, sizes, out=np.zeros(sizes.shape), where=there)
    count = there.sum(0)
    return np.divide(by_label.sum(0), count, out=np.full(len(count), np.nan), where=count > 0)[:, None]
