"""How good are the answers? A teacher's rankings beside retrieval and the frequency prior, number by number.

Notes: F1 compares sets, and a ranking is no set. Every method's set is its first places, as many as the reference
method (the teacher) answered for that document, so that none gains by length (our definition).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.sparse import csr_matrix

from ctd import stats
from ctd.retrieval import metrics
from ctd.retrieval import shortlists as sl
from ctd.retrieval.shortlists import Shortlist


def scorecard(
    predictions: Mapping[str, Shortlist],
    gold: csr_matrix,
    train: csr_matrix,
    cutoff: int,
    seed: int,
    reference: str,
) -> pd.DataFrame:
    """P@1, P@k, nDCG@k, PSP@k, micro and macro F1 with 95 % intervals: columns method, metric, value, low, high.

    predictions: rankings by method, [documents, places], -1 for none. cutoff: k. reference: whose lengths the sets
    of the F1 scores have. Macro F1 is over the labels that some of the documents use.
    Raises ValueError when the reference is not among the methods.
    """
    if reference not in predictions:
        raise ValueError(f"reference must be one of {', '.join(predictions)}, got {reference!r}")
    table = sl.score_table(predictions, gold, train, cutoff, seed).rename(columns={"retriever": "method"})
    lengths = (predictions[reference] >= 0).sum(1)
    rows = []
    for name, pred in predictions.items():
        precision = stats.bootstrap_mean(metrics.precision_at_k(pred, gold, cutoff, average=False), seed=seed)
        micro, macro = f1_intervals(pred, lengths, gold, seed)
        found = ((f"P@{cutoff}", precision), ("micro F1", micro), ("macro F1", macro))
        for metric, interval in found:
            value, low, high = interval.scalar
            rows.append({"method": name, "metric": metric, "value": value, "low": low, "high": high})
    whole = pd.concat([table, pd.DataFrame(rows)], ignore_index=True)
    return whole.drop_duplicates(["method", "metric"], ignore_index=True)  # P@k is P@1 where k is 1


def f1_intervals(
    pred: Shortlist, lengths: Float[np.ndarray, " documents"], gold: csr_matrix, seed: int, draws: int = 1000
) -> tuple[stats.Interval, stats.Interval]:
    """Micro F1, and macro F1 over the labels that some document uses, with intervals over documents.

    lengths: how many places of each row are its set. A label that a draw of documents neither has nor predicts is
    left out of that draw's macro mean.
    """
    kept = np.where(np.arange(pred.shape[1]) < np.asarray(lengths)[:, None], pred, -1)
    document, place = np.nonzero(kept >= 0)
    predicted = csr_matrix((np.ones(len(document)), (document, kept[document, place])), shape=gold.shape)
    predicted.data[:] = 1.0
    true = gold.astype(float)
    used = np.flatnonzero(np.asarray(true.sum(0)).ravel())
    parts = [part.tocsc()[:, used] for part in (predicted.multiply(true), predicted + true)]
    both_right, sizes = (np.asarray(part.sum(1), float) for part in (predicted.multiply(true), predicted + true))
    micro = stats.bootstrap_ratio(2 * both_right, sizes, seed=seed)

    def macro(weights: Float[np.ndarray, "w n"]) -> Float[np.ndarray, " w"]:
        correct, both = (np.asarray((part.T @ weights.T).T) for part in parts)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.nanmean(np.where(both > 0, 2 * correct / both, np.nan), axis=1)

    if not len(used):
        return micro[0], stats.Interval(*(np.array(np.nan),) * 3)
    estimate = macro(np.ones((1, gold.shape[0])))[0]
    chunks = stats.resample_weights(gold.shape[0], draws, np.random.default_rng(seed))
    drawn = np.concatenate([macro(block) for chunk in chunks for block in np.array_split(chunk, len(chunk) // 100 + 1)])
    low, high = np.quantile(drawn, [0.025, 0.975])
    return micro[0], stats.Interval(np.array(estimate), np.array(low), np.array(high))
