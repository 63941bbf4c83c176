"""Shortlists of a tiny task, from every retriever."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from ctd.retrieval import shortlist_tables
from ctd.retrieval import shortlists as sl

PRED = np.array([[2, 1, 5], [5, 3, -1], [3, 0, 4]])


def test_unscored_labels_are_struck_out_and_places_move_up(task):
    assert sl.leave_out(PRED, task.unscored, 2).tolist() == [[2, 1], [5, 3], [3, 4]]
    assert sl.leave_out(PRED, np.array([5, 3]), 3).tolist() == [[2, 1, -1], [-1, -1, -1], [0, 4, -1]]
    assert task.gold("test")[:, 0].nnz == 0


def test_sizes_that_cannot_be_filled_are_left_out_or_refused(task):
    assert sl.usable_sizes(task, [5, 2], 3, 4) == sl.Sizes([2, 3, 4, 5], 3, "")
    assert sl.usable_sizes(task, [5, 2, 7], 100) == sl.Sizes(
        [2, 5],
        5,
        "Shortlists of 7 labels are left out: 'tiny' has 6. Failures are examined at 5 places instead of 100.",
    )
    assert sl.usable_sizes(task, [100], 100).ks == [6]
    with pytest.raises(ValueError, match=r"cutoff must be between 1 and 6 \(scored labels in 'tiny'\), got 7"):
        sl.usable_sizes(task, [1], 1, cutoff=7)


def test_the_frequency_prior_obeys_filters(task):
    barred = csr_matrix((np.ones(1, bool), ([1], [0])), shape=(3, 7))
    assert sl.retrieve(sl.FrequencyPrior(task), task, "test", 3).tolist() == [[0, 1, 4]] * 3
    assert sl.FrequencyPrior(task).search(["a"] * 3, 2, barred)[1].tolist() == [[0, 1], [1, 4], [0, 1]]


def test_every_retriever_gives_a_shortlist(task, encoder, own_cache, monkeypatch):
    monkeypatch.setattr(sl.encoders, "load", lambda name: encoder)
    lists = sl.shortlists_of(task, "test", 4, "hash")
    assert list(lists) == ["frequency prior", "BM25", "wordllama", "hash"]
    assert {pred.shape for pred in lists.values()} == {(3, 4)}
    scores = shortlist_tables.score_table(lists, task.gold("test"), task.gold("train"), 2, seed=0)
    assert scores["metric"].unique().tolist() == ["P@1", "nDCG@2", "PSP@2"]
    assert scores["value"].between(0, 1).all()
