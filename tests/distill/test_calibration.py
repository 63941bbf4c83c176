"""Calibration against scikit-learn and sums by hand."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn import metrics

from ctd.distill import calibration
from ctd.distill.calibration import Answered
from tests.distill.test_diversity import prediction

RNG = np.random.default_rng(0)
DOCUMENT = np.repeat(np.arange(30), 3)
PROBABILITY = RNG.uniform(0.01, 1, 90)
RIGHT = RNG.uniform(size=90) < PROBABILITY
ANSWERED = Answered(DOCUMENT, PROBABILITY, RIGHT, 30)


def value(answered, measure):
    return calibration.measures(answered).set_index("measure").loc[measure, "value"]


def test_labels_of_all_students_are_gathered():
    gold = csr_matrix(np.array([[1, 0, 0], [0, 1, 1]]))
    first = [prediction([0, 2], scores=(-0.1, -1.0)), prediction([1], scores=(-0.5,))]
    gathered = Answered.of([first, [prediction([]), prediction([0], scores=(0.0,))]], gold)
    assert gathered.document.tolist() == [0, 0, 1, 1]
    assert gathered.right.tolist() == [True, False, True, False]
    assert gathered.probability == pytest.approx(np.exp([-0.1, -1.0, -0.5, 0.0]))


def test_brier_and_auroc_are_those_of_scikit_learn():
    assert value(ANSWERED, "brier") == pytest.approx(metrics.brier_score_loss(RIGHT, PROBABILITY))
    assert value(ANSWERED, "auroc") == pytest.approx(metrics.roc_auc_score(RIGHT, PROBABILITY))


def test_the_calibration_error_is_the_gap_of_each_bin():
    expected = 0.0
    for place in range(10):
        within = np.floor(PROBABILITY * 10) == place
        if within.any():
            expected += within.mean() * abs(PROBABILITY[within].mean() - RIGHT[within].mean())
    assert value(ANSWERED, "ece") == pytest.approx(expected)


def test_a_perfectly_sure_and_right_model_has_no_error_and_no_auroc():
    perfect = Answered(DOCUMENT, np.ones(90), np.ones(90, bool), 30)
    assert value(perfect, "ece") == 0
    assert np.isnan(value(perfect, "auroc"))


def test_the_surest_labels_are_kept():
    table = calibration.abstention(ANSWERED).set_index("kept")
    assert table.loc[100, "value"] == pytest.approx(RIGHT.mean())
    surest = np.argsort(-PROBABILITY)[:9]
    assert table.loc[10, "value"] == pytest.approx(RIGHT[surest].mean())
