"""Shortlists from elsewhere: as long as they should be, with what they should hold; tables against hand counts."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from ctd.mechanism import isolation
from ctd.reasoning.rank_answers import Prediction
from ctd.reasoning.token_spans import Span
from ctd.reasoning.traces import Mention, Trace


def gold_of(*rows, labels=30):
    matrix = np.zeros((len(rows), labels), bool)
    for row, right in enumerate(rows):
        matrix[row, list(right)] = True
    return csr_matrix(matrix)


OTHERS = np.arange(30)[None].repeat(3, 0)[:, ::-1].astype(np.int32)


def test_the_own_shortlist_is_what_the_trace_marks():
    cot = "Shortlist:\n- a\n- b"
    start = len("<think>\n")
    marked = Trace("u", "d", cot, ("a",), Span(start, start + len(cot)), (), (Mention(4, start + 13, start + 14),))
    bare = Trace("u", "d", "words", ("a",))
    predictions = [Prediction(trace, (), (), 1, True, 0, 0) for trace in (marked, bare)]
    assert isolation.own_shortlists(predictions) == [[4], []]


def test_sizes_follow_the_own_shortlist_or_are_all_the_same():
    assert isolation.sizes([[1, 2], []], 0) == [2, 1]
    assert isolation.sizes([[1, 2], []], 7) == [7, 7]


def test_a_retrieved_shortlist_is_cut_and_its_gaps_are_left_out():
    assert isolation.cut_to(np.array([[3, 4, 5], [6, -1, -1]]), [2, 2]) == [[3, 4], [6]]


def test_an_oracle_list_holds_gold_in_at_most_half_of_its_places_and_never_twice():
    gold = gold_of({0, 1, 2, 3, 4, 5}, {7}, set())
    listed = isolation.oracle(gold, [[0, 9, 10], [7, 11], [12]], OTHERS, [8, 8, 4], seed=0)
    assert [len(labels) for labels in listed] == [8, 8, 4]
    for row, labels in enumerate(listed):
        right = set(gold[row].indices)
        assert len(set(labels)) == len(labels)
        assert len(right & set(labels)) == min(len(right), len(labels) // 2)
    assert {9, 10} <= set(listed[0])
    assert 11 in listed[1]


def test_the_place_of_gold_in_an_oracle_list_says_nothing():
    places = []
    gold = gold_of(*[{3}] * 4000)
    others = np.tile(np.arange(20, 28, dtype=np.int32), (4000, 1))
    for labels in isolation.oracle(gold, [[]] * 4000, others, [5] * 4000, seed=1):
        places.append(labels.index(3))
    counts = np.bincount(places, minlength=5)
    assert ((counts - 800) ** 2 / 800).sum() < 18.5  # chi-squared, 4 degrees of freedom, p = 0.001


@pytest.mark.parametrize(("rate", "replaced"), [(0.0, 0), (0.5, 2), (1.0, 4)])
def test_corruption_replaces_its_share_with_strangers(rate, replaced):
    lists = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    spoilt = isolation.corrupted(lists, lists, rate, seed=3)
    for before, after in zip(lists, spoilt, strict=True):
        assert len(after) == len(before) == len(set(after))
        assert sum(a != b for a, b in zip(before, after, strict=True)) == replaced
        assert not (set(after) - set(before)) & set(before)


def test_corruption_needs_a_rate_and_other_documents():
    with pytest.raises(ValueError, match="between 0 and 1, got 2"):
        isolation.corrupted([[1], [2]], [[1], [2]], 2, 0)
    with pytest.raises(ValueError, match="got 1 document"):
        isolation.corrupted([[1]], [[1]], 0.5, 0)


def test_recall_at_own_size_is_hits_over_gold_and_its_difference_is_paired():
    gold = gold_of({0, 1}, {2, 3})
    table = isolation.recall_at_own_size({"own": [[0, 1, 9], [2]], "other": [[0, 8, 9], [3]]}, gold, seed=0)
    assert table["value"].tolist() == [0.75, 0.5]
    assert table["first_minus_this"].tolist() == [0.0, 0.25]


def test_what_an_answer_keeps_of_its_shortlist_is_counted():
    shares = isolation.kept_from_shortlist([[1, 2], [3], []], np.array([[1, 9], [3, -1], [-1, -1]]))
    assert shares[:2].tolist() == [0.5, 1.0]
    assert np.isnan(shares[2])
