"""Tables of a tiny task whose shortlists are known place by place."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from ctd.book import report
from ctd.retrieval import shortlist_tables

PRED = np.array([[2, 1, 5], [5, 3, -1], [3, 0, 4]])


def test_recall_counts_hits_among_the_first_k(task):
    table = shortlist_tables.recall_table({"r": PRED}, task.gold("test", scored=False), [1, 3], seed=0)
    assert table["recall"].tolist() == pytest.approx([(1 / 2 + 0 + 0) / 3, (1 / 2 + 0 + 1 / 2) / 3])
    assert (table["low"] <= table["recall"]).all()
    assert (table["recall"] <= table["high"]).all()


def test_a_perfect_refiner_reaches_one_where_all_gold_is_listed(task):
    gold = csr_matrix(np.eye(3, 7, 2, dtype=bool))
    pred = np.array([[0, 2], [0, 1], [4, 3]])
    table = shortlist_tables.oracle_table({"r": pred}, gold, [1, 2], cutoff=1, seed=0)
    assert table["ndcg"].tolist() == pytest.approx([1 / 3, 2 / 3])


def test_groups_are_micro_averaged(task):
    gold = task.gold("test", scored=False)
    rows = shortlist_tables.recall_by_group(
        {"r": PRED}, gold, 3, shortlist_tables.depth_group(task.space), seed=0
    ).set_index("group")
    assert rows["occurrences"].to_dict() == {"depth 0": 1, "depth 1": 4}
    assert rows["recall"].to_dict() == {"depth 0": 0, "depth 1": 2 / 4}
    assert rows["n"].to_dict() == {"depth 0": 1, "depth 1": 3}


def test_frequency_bins_are_by_training_documents(task):
    group, names = shortlist_tables.frequency_group(task.gold("train", scored=False))
    assert [names[g] for g in group] == ["2 to 5", "once", "unseen", "unseen", "once", "unseen", "unseen"]


def test_outcomes_tell_a_near_miss_from_a_miss(task):
    (row,) = shortlist_tables.outcomes({"r": PRED}, task.gold("test", scored=False), 3, task.space).to_dict("records")
    assert row["found"] == pytest.approx(2 / 5), "2 of document 0, 4 of document 2"
    assert row["near miss only"] == pytest.approx(3 / 5), "0 beside 2; 6 beside 5; 1 beside 0"
    assert row["missed"] == pytest.approx(0)


def test_the_worst_documents_come_first(task):
    worst = shortlist_tables.worst_documents(PRED, task, "test", 3, most=2)
    assert worst["uid"].tolist() == ["d1", "d2"]
    assert worst["found in 3"].tolist() == [0, 1]


def test_numbers_are_shown_with_their_interval(task):
    table = shortlist_tables.recall_table({"b": PRED, "a": PRED}, task.gold("test"), [3, 1], seed=0)
    wide = report.wide(table, "retriever", "k", "recall")
    assert wide.columns.tolist() == ["retriever", 3, 1]
    assert wide["retriever"].tolist() == ["b", "a"]
    assert wide[1][0].replace(report.NO_BREAK_SPACE, " ").startswith("0.333 [")
    assert report.counts({"headings": 1234}) == "1,234 headings"
