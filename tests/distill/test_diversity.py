"""Diversity of drawn answers: none where all are the same, and parts that add up."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from ctd.distill import diversity
from ctd.reasoning.rank_answers import Prediction
from ctd.reasoning.traces import Trace

GOLD = csr_matrix(np.array([[1, 1, 0, 0, 0]]))


def prediction(ranking, cot="", scores=()):
    return Prediction(Trace("", "", cot, ()), tuple(ranking), (), 1, True, 1, 1, tuple(scores))


def of_one(answers, encoder):
    return {name: values[0] for name, values in diversity.of_documents([answers], GOLD, encoder).items()}


def test_equal_answers_have_none(encoder):
    values = of_one([prediction([0, 2], "a b")] * 4, encoder)
    assert values == pytest.approx(dict.fromkeys(diversity.MEASURES, 0.0), abs=1e-6)


def test_by_hand(encoder):
    answers = [prediction([0, 2], "a"), prediction([2, 0], "a"), prediction([1, 3], "b"), prediction([4], "c")]
    values = of_one(answers, encoder)
    assert values["answer_entropy"] == pytest.approx(-(0.5 * np.log(0.5) + 2 * 0.25 * np.log(0.25)))
    assert values["right_labels"] == 2 - 3 / 4
    assert values["wrong_labels"] == 3 - 4 / 4
    together = len({0, 1, 2, 3, 4}) - (2 + 2 + 2 + 1) / 4
    assert values["right_labels"] + values["wrong_labels"] == pytest.approx(together)
    vectors = encoder.vectors(["a", "a", "b", "c"])
    pairs = [1 - vectors[i] @ vectors[j] for i in range(4) for j in range(i)]
    assert values["embedding_distance"] == pytest.approx(np.mean(pairs), abs=1e-6)


def test_one_answer_is_too_few(encoder):
    with pytest.raises(ValueError, match="diversity needs at least 2 answers to every document"):
        of_one([prediction([0])], encoder)
