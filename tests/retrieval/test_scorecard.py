"""The scorecard against scikit-learn and against the metrics that it is made of."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.metrics import f1_score

from ctd.retrieval import metrics, scorecard


def case(seed=0, documents=60, labels=25, places=6):
    rng = np.random.default_rng(seed)
    gold = rng.random((documents, labels)) < 0.1
    gold[:, 0] |= ~gold.any(1)
    pred = np.stack([rng.permutation(labels)[:places] for _ in range(documents)]).astype(np.int32)
    pred[::7, 3:] = -1
    return pred, csr_matrix(gold)


def test_f1_is_scikit_learns_on_the_sets_that_the_lengths_leave():
    pred, gold = case()
    lengths = np.random.default_rng(1).integers(1, 6, len(pred))
    micro, macro = scorecard.f1_intervals(pred, lengths, gold, seed=0, draws=50)
    sets = np.zeros(gold.shape, bool)
    for row, labels in enumerate(pred):
        sets[row, [label for label in labels[: lengths[row]] if label >= 0]] = True
    dense = gold.toarray()
    used = dense.any(0)
    assert micro.estimate == pytest.approx(f1_score(dense, sets, average="micro"))
    assert macro.estimate == pytest.approx(f1_score(dense[:, used], sets[:, used], average="macro"))
    for interval in (micro, macro):
        assert interval.low < interval.estimate < interval.high
        assert interval.method == "BCa"


def test_the_sets_are_as_long_as_the_references():
    pred, gold = case()
    best = np.stack([np.r_[np.flatnonzero(row), np.full(25, -1)][:6] for row in gold.toarray()]).astype(np.int32)
    table = scorecard.scorecard({"a": best, "b": pred}, gold, gold, 3, 0, "a").set_index(["method", "metric"])["value"]
    lengths = (best >= 0).sum(1)
    cut = np.where(np.arange(6) < lengths[:, None], pred, -1)
    assert table["b", "micro F1"] == pytest.approx(metrics.f1_scores(cut, gold).micro)
    assert table["a", "nDCG@3"] == 1.0
    assert table["b", "P@3"] == pytest.approx(metrics.precision_at_k(pred, gold, 3))


def test_an_unknown_reference_is_refused():
    pred, gold = case()
    with pytest.raises(ValueError, match="one of a, got 'b'"):
        scorecard.scorecard({"a": pred}, gold, gold, 3, 0, "b")


def test_a_cutoff_of_one_names_each_metric_once():
    pred, gold = case()
    table = scorecard.scorecard({"a": pred}, gold, gold, 1, 0, "a")
    assert sorted(table["metric"]) == ["P@1", "PSP@1", "macro F1", "micro F1", "nDCG@1"]
