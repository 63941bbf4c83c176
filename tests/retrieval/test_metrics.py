"""ctd.retrieval.metrics against napkinxc, scikit-learn, exhaustive search and worked examples."""

import itertools
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
from napkinxc import metrics as napkinxc
from scipy.sparse import coo_matrix, csr_array, csr_matrix
from sklearn.metrics import f1_score

from ctd.cache import ROOT
from ctd.retrieval import metrics


def random_task(seed, rows=30, labels=25, m=8):
    """Rankings by scores with many ties, -1 at the end of some rows, whole rows of -1, rows without gold."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(4, size=(rows, labels)) / 3
    pred = np.argsort(-scores, axis=1, kind="stable")[:, :m]
    pred[np.arange(m) >= rng.integers(m + 1, size=(rows, 1))] = -1
    pred[:2] = -1
    gold = rng.random((rows, labels)) < rng.choice([0.0, 0.1, 0.6], size=(rows, 1))
    gold[1:4] = False
    return pred, csr_matrix(gold), scores


def as_lists(pred, gold, scores):
    """The same case as napkinxc takes it: gold labels, and (label, score) pairs best first."""
    true = [row.indices.tolist() for row in gold]
    ranked = [[(int(label), scores[row, label]) for label in labels if label >= 0] for row, labels in enumerate(pred)]
    return true, ranked


PAIRS = [
    (metrics.precision_at_k, napkinxc.precision_at_k),
    (metrics.recall_at_k, napkinxc.recall_at_k),
    (metrics.ndcg_at_k, napkinxc.ndcg_at_k),
]


@pytest.mark.parametrize(("ours", "reference"), PAIRS, ids=["P", "R", "nDCG"])
@pytest.mark.parametrize("seed", range(20))
def test_agrees_with_napkinxc_at_every_k(ours, reference, seed):
    pred, gold, scores = random_task(seed)
    expected = reference(*as_lists(pred, gold, scores), k=8)
    got = [ours(pred, gold, k) for k in range(1, 9)]
    assert 0 < expected[-1] < 1
    np.testing.assert_allclose(got, expected, atol=1e-6, rtol=0)
    assert all(isinstance(value, float) for value in got)


@pytest.mark.parametrize("seed", range(20))
def test_propensity_scored_precision_agrees_with_napkinxc(seed):
    pred, gold, scores = random_task(seed)
    inv_prop = 1 + np.random.default_rng(seed).exponential(5, gold.shape[1])
    expected = napkinxc.psprecision_at_k(*as_lists(pred, gold, scores), inv_prop, k=8)
    got = [metrics.psp_at_k(pred, gold, k, inv_prop) for k in range(1, 9)]
    np.testing.assert_allclose(got, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("a", "b"), [(0.55, 1.5), (0.6, 2.6), (0.5, 0.4)])
def test_inverse_propensity_agrees_with_napkinxc(a, b):
    for seed in range(5):
        _, train, _ = random_task(seed, rows=200, labels=60)
        expected = napkinxc.Jain_et_al_inverse_propensity(train, A=a, B=b)
        np.testing.assert_allclose(metrics.inverse_propensity(train, a, b), expected, rtol=1e-12)


def test_default_propensity_model_is_the_one_for_all_other_sets():
    train = csr_matrix(np.eye(10))
    np.testing.assert_allclose(metrics.inverse_propensity(train), 1 + (math.log(10) - 1) * 2.5**0.55 * 2.5**-0.55)


def test_worked_example():
    # Two documents: gold {0, 3} ranked 3, 1, 0 and gold {2} ranked 1, none, 2.
    pred = np.array([[3, 1, 0], [1, -1, 2]])
    gold = csr_matrix([[1, 0, 0, 1], [0, 0, 1, 0]])
    np.testing.assert_array_equal(metrics.hits(pred, gold), [[1, 0, 1], [0, 0, 1]])
    assert metrics.precision_at_k(pred, gold, 3) == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert metrics.recall_at_k(pred, gold, 1) == pytest.approx((1 / 2 + 0) / 2)
    first = (1 + 1 / math.log2(4)) / (1 + 1 / math.log2(3))
    assert metrics.ndcg_at_k(pred, gold, 3, average=False) == pytest.approx([first, 1 / math.log2(4)])
    # Propensities 1, 2, 3, 4: a ratio of sums, (4 + 1 + 3) / (4 + 1 + 3) at 3 and (4 + 0) / (4 + 3) at 1.
    q = np.array([1.0, 2, 3, 4])
    assert metrics.psp_at_k(pred, gold, 3, q) == pytest.approx(1)
    assert metrics.psp_at_k(pred, gold, 1, q) == pytest.approx(4 / 7)
    numerators, denominators = metrics.psp_at_k(pred, gold, 1, q, average=False)
    assert (numerators.tolist(), denominators.tolist()) == ([4, 0], [4, 3])


def test_values_per_document_average_to_the_metric():
    pred, gold, _ = random_task(7)
    for metric in (metrics.precision_at_k, metrics.recall_at_k, metrics.ndcg_at_k, metrics.oracle_ndcg_at_k):
        values = metric(pred, gold, 5, average=False)
        assert values.dtype == np.float64
        assert values.shape == (30,)
        assert values.mean() == pytest.approx(metric(pred, gold, 5))
        assert (values[1:4] == 0).all(), "documents without gold score 0 and stay in"


def test_hits_do_not_depend_on_the_chunk_size(monkeypatch):
    pred, gold, _ = random_task(3)
    expected = gold.toarray()[np.arange(30)[:, None], pred] & (pred >= 0)
    for chunk in (1, 17, 24, 2**20):
        monkeypatch.setattr(metrics, "CHUNK", chunk)
        np.testing.assert_array_equal(metrics.hits(pred, gold), expected)


def test_minus_one_never_borrows_the_last_label_of_the_row_above():
    gold = csr_matrix(([True, True], ([0, 1], [2, 0])), shape=(2, 3))
    assert not metrics.hits(np.array([[-1], [-1]]), gold).any()


def test_oracle_is_the_best_of_all_reorderings():
    for seed in range(5):
        pred, gold, _ = random_task(seed, rows=12, labels=9, m=5)
        orders = [pred[:, list(order)] for order in itertools.permutations(range(5))]
        for k in (1, 3, 5):
            best = np.max([metrics.ndcg_at_k(p, gold, k, average=False) for p in orders], axis=0)
            np.testing.assert_allclose(metrics.oracle_ndcg_at_k(pred, gold, k, average=False), best, atol=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_f1_agrees_with_scikit_learn(seed):
    pred, gold, _ = random_task(seed, rows=12, m=5)
    true = gold.toarray().astype(int)
    guessed = np.zeros_like(true)
    rows, ranks = np.nonzero(pred >= 0)
    guessed[rows, pred[rows, ranks]] = 1
    for labels in (None, np.array([4, 0, 17, 9, 24])):
        got = metrics.f1_scores(pred, gold, labels)
        chosen = np.arange(25) if labels is None else labels
        present = [label for label in chosen if true[:, label].any()]
        assert got.micro == pytest.approx(f1_score(true, guessed, labels=chosen, average="micro"), abs=1e-6)
        for macro, over in ((got.macro_all, chosen), (got.macro_present, present)):
            expected = f1_score(true, guessed, labels=over, average="macro", zero_division=0)
            assert macro == pytest.approx(expected, abs=1e-6)
        assert (got.n_all, got.n_present) == (len(chosen), len(present))


def test_f1_without_any_label_in_gold():
    got = metrics.f1_scores(np.array([[-1, -1]]), csr_matrix((1, 4), dtype=bool))
    assert (got.micro, got.macro_all, got.n_all, got.n_present) == (0, 0, 4, 0)
    assert math.isnan(got.macro_present)


def test_frequency_prior_breaks_ties_by_label_number():
    train = csr_matrix([[0, 1, 0, 1, 1], [0, 1, 0, 0, 1], [1, 0, 0, 0, 1]])
    assert metrics.frequency_prior(train, 5).tolist() == [4, 1, 0, 3, 2]
    assert metrics.frequency_prior(train, 2).tolist() == [4, 1]


def test_stored_zeros_and_repeats_do_not_count_as_gold():
    pred = np.array([[0, 1]])
    stored = csr_matrix(([0, 1], [1, 0], [0, 2]), shape=(1, 2))
    repeated = csr_matrix((np.array([True, True]), np.array([0, 0]), np.array([0, 2])), shape=(1, 2))
    for gold in (stored, repeated):
        before = gold.data.copy()
        assert metrics.recall_at_k(pred, gold, 1) == 1
        assert metrics.f1_scores(pred, gold).n_present == 1
        assert metrics.frequency_prior(gold, 2).tolist() == [0, 1]
        np.testing.assert_array_equal(gold.data, before, "the caller's matrix stays as it was")


def test_unsorted_columns_floats_and_sparse_arrays_are_taken_as_they_are():
    pred = np.array([[2, 0]], np.int32)
    gold = csr_array((np.array([1.0, 1.0]), np.array([2, 0]), np.array([0, 2])), shape=(1, 3))
    assert metrics.precision_at_k(pred, gold, 2) == 1


def test_no_gold_at_all_is_zero_and_undefined_for_psp_without_a_warning():
    pred, gold = np.array([[0, 1]]), csr_matrix((1, 3), dtype=bool)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metrics.ndcg_at_k(pred, gold, 2) == metrics.recall_at_k(pred, gold, 2) == 0
        assert math.isnan(metrics.psp_at_k(pred, gold, 2, np.ones(3)))


PRED = np.array([[0, 1], [2, -1]])
GOLD = csr_matrix([[1, 0, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, r"k must be a whole number between 1 and 2 \(columns of pred\), got 0"),
        ({"k": 3}, "between 1 and 2 .*got 3"),
        ({"k": 1.5}, "whole number .*got 1.5"),
        ({"pred": PRED[:1]}, "one row per document each, got 1 and 2 rows"),
        ({"pred": PRED + 1}, "labels from 0 to 2, or -1 for none, got 3"),
        ({"pred": PRED - 1}, "or -1 for none, got -2"),
        ({"pred": np.array([[0, 1], [2, 2]])}, "label 2 twice in row 1"),
        ({"pred": PRED.astype(float)}, "signed integer array .*float64"),
        ({"pred": PRED[0]}, r"of shape \(2,\)"),
        ({"pred": PRED[:, :0]}, r"at least one row and one column, got int64 of shape \(2, 0\)"),
        ({"pred": PRED[:0], "gold": GOLD[:0]}, r"at least one row and one column, got int64 of shape \(0, 2\)"),
        ({"gold": GOLD * 2}, "gold must hold only 0 and 1 .*got 2"),
        ({"gold": GOLD * np.nan}, "only 0 and 1 .*got nan"),
        ({"gold": GOLD.toarray()}, "gold must be a CSR matrix .*got ndarray"),
        ({"gold": coo_matrix(GOLD)}, "gold must be a CSR matrix .*got coo_matrix"),
    ],
)
def test_bad_input_is_refused_by_every_metric(change, message):
    arguments = {"pred": PRED, "gold": GOLD, "k": 2} | change
    calls = [
        lambda: metrics.precision_at_k(**arguments),
        lambda: metrics.recall_at_k(**arguments),
        lambda: metrics.ndcg_at_k(**arguments),
        lambda: metrics.oracle_ndcg_at_k(**arguments),
        lambda: metrics.psp_at_k(**arguments, inv_prop=np.ones(3)),
    ]
    if "k" not in change:
        calls += [lambda: metrics.hits(arguments["pred"], arguments["gold"])]
        calls += [lambda: metrics.f1_scores(arguments["pred"], arguments["gold"])]
    for call in calls:
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def test_a_label_repeated_beyond_k_is_still_refused():
    with pytest.raises(ValueError, match="label 0 twice in row 1"):
        metrics.precision_at_k(np.array([[0, 1, 2], [1, 0, 0]]), GOLD, 1)


@pytest.mark.parametrize("inv_prop", [np.ones(2), np.ones((3, 1)), np.array([1, 0, 1]), np.array([1, np.nan, 1])])
def test_inverse_propensities_must_be_one_positive_number_a_label(inv_prop):
    with pytest.raises(ValueError, match=r"inv_prop must be 3 positive numbers \(one per label\), got shape"):
        metrics.psp_at_k(PRED, GOLD, 1, inv_prop)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([], "at least one"), ([0, 0], "1 distinct"), ([3], "between 0 and 2"), ([-1], "from -1"), ([0.5], "number")],
)
def test_label_sets_of_f1_are_checked(labels, message):
    with pytest.raises(ValueError, match=message):
        metrics.f1_scores(PRED, GOLD, np.array(labels))


def test_training_matrices_are_checked():
    with pytest.raises(ValueError, match="m must be between 1 and 3"):
        metrics.frequency_prior(GOLD, 4)
    with pytest.raises(ValueError, match="at least 3 training documents, got 2"):
        metrics.inverse_propensity(GOLD)
    with pytest.raises(ValueError, match=r"a and b .* above 0, got a = 0"):
        metrics.inverse_propensity(csr_matrix(np.eye(3)), a=0)
    with pytest.raises(ValueError, match="train must hold only 0 and 1"):
        metrics.inverse_propensity(csr_matrix(np.eye(3) * 3))


def test_the_benchmark_prints_a_line_for_each_metric():
    small = ["--rows", "50", "--labels", "200", "--k", "5", "--runs", "1"]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "metrics.py", *small], capture_output=True, text=True, check=True
    )
    for name in ("hits", "P", "R", "nDCG", "oracle nDCG", "PSP", "inverse propensity", "F1"):
        assert f"│ {name} " in done.stdout
    assert "peak memory" in done.stdout
