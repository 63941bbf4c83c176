"""Tables of a tiny task whose shortlists are known place by place."""

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from scipy.sparse import csr_matrix

from ctd import text
from ctd.book import report
from ctd.data import cards
from ctd.data.label_space import LabelSpace
from ctd.data.task import Card, Task
from ctd.retrieval import shortlist_tables
from ctd.retrieval import shortlists as sl


def documents(*labels):
    return Dataset.from_list([
        {"uid": f"d{i}", "text": "calcium in the liver", "labels": list(row)} for i, row in enumerate(labels)
    ])  # fmt: skip


@pytest.fixture
def task(space):
    return Task(
        documents=DatasetDict(
            train=documents([0, 1], [0, 4], [0]), validation=documents([0]), test=documents([0, 2], [6], [1, 4])
        ),
        space=space,
        card=Card("Tiny", "none", "made up", "by hand"),
        unscored=np.array([0], np.int32),
    )


PRED = np.array([[2, 1, 5], [5, 3, -1], [3, 0, 4]])


def test_recall_counts_hits_among_the_first_k(task):
    table = shortlist_tables.recall_table({"r": PRED}, task.gold("test", scored=False), [1, 3], seed=0)
    assert table["recall"].tolist() == pytest.approx([(1 / 2 + 0 + 0) / 3, (1 / 2 + 0 + 1 / 2) / 3])
    assert (table["low"] <= table["recall"]).all()
    assert (table["recall"] <= table["high"]).all()


def test_unscored_labels_are_struck_out_and_places_move_up(task):
    assert sl.leave_out(PRED, task.unscored, 2).tolist() == [[2, 1], [5, 3], [3, 4]]
    assert sl.leave_out(PRED, np.array([5, 3]), 3).tolist() == [[2, 1, -1], [-1, -1, -1], [0, 4, -1]]
    assert task.gold("test")[:, 0].nnz == 0


def test_sizes_that_cannot_be_filled_are_left_out_or_refused(task):
    assert sl.usable_sizes(task, [5, 2, 7], [3]) == [2, 3, 5]
    with pytest.raises(ValueError, match=r"k must be between 1 and 6 \(scored labels in 'tiny'\), got 7"):
        sl.usable_sizes(task, [1], [7])


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


def test_frequency_bins_are_by_training_documents(task):
    group, names = shortlist_tables.frequency_group(task.gold("train", scored=False))
    assert [names[g] for g in group] == ["2 to 5", "once", "unseen", "unseen", "once", "unseen", "unseen"]


def test_outcomes_tell_a_near_miss_from_a_miss(task):
    (row,) = shortlist_tables.outcomes({"r": PRED}, task.gold("test", scored=False), 3, task.space).to_dict("records")
    assert row["found"] == pytest.approx(2 / 5), "2 of document 0, 4 of document 2"
    assert row["near miss only"] == pytest.approx(3 / 5), "0 beside 2; 6 beside 5; 1 beside 0"
    assert row["missed"] == pytest.approx(0)


def test_the_frequency_prior_obeys_filters(task):
    barred = csr_matrix((np.ones(1, bool), ([1], [0])), shape=(3, 7))
    assert sl.retrieve(sl.FrequencyPrior(task), task, "test", 3).tolist() == [[0, 1, 4]] * 3
    assert sl.FrequencyPrior(task).search(["a"] * 3, 2, barred)[1].tolist() == [[0, 1], [1, 4], [0, 1]]


def test_every_retriever_gives_a_shortlist(task, encoder, own_cache, monkeypatch):
    monkeypatch.setattr(sl.encoders, "load", lambda name: encoder)
    made = sl.shortlists_of(task, "test", 4, "hash")
    assert list(made) == ["frequency prior", "BM25", "wordllama", "hash"]
    assert {pred.shape for pred in made.values()} == {(3, 4)}
    scores = shortlist_tables.score_table(made, task.gold("test"), task.gold("train"), 2, seed=0)
    assert scores["metric"].unique().tolist() == ["P@1", "nDCG@2", "PSP@2"]
    assert scores["value"].between(0, 1).all()


def test_the_worst_documents_come_first(task):
    worst = shortlist_tables.worst_documents(PRED, task, "test", 3, most=2)
    assert worst["uid"].tolist() == ["d1", "d2"]
    assert worst["found in 3"].tolist() == [0, 1]


def test_a_card_counts_the_task(task):
    facts = cards.facts(task).set_index("fact")["Tiny"]
    assert facts["documents (train, validation, test)"] == "3, 1, 3"
    assert facts["labels that some document carries"] == "5"
    assert facts["labels left out of the scored task"] == "1"
    assert facts["test occurrences never seen in training"] == "40%"
    assert cards.examples(task, 2, seed=0)["begins"].tolist() == ["calcium in the liver"] * 2
    assert text.excerpt("w " * 20) == "w " * 12 + "…"
    assert cards.verbatim(task) == pytest.approx(3 / 4), "Calcium/blood, Calcium/metabolism, Liver/metabolism"


def test_the_document_shown_has_a_near_miss(task):
    lonely = LabelSpace("lonely", ["a", "b", "c"], ["a", "b", "c"], 3, np.array([-1, -1, 1], np.int32))
    alone = Task(DatasetDict(test=documents([0], [0], [2])), lonely, task.card)
    for seed in range(3):
        document, gold = cards.with_near_miss(alone, seed)
        assert (document["uid"], gold) == ("d2", [2])
    with pytest.raises(ValueError, match="no document of the test split of 'Tiny' has a label with a near miss"):
        cards.with_near_miss(Task(DatasetDict(test=documents([0])), lonely, task.card), 0)


def test_sampling_and_restricting_keep_gold_and_filters(task):
    one = task.sample("test", 1, seed=0)
    assert one.documents.num_rows == {"train": 3, "validation": 1, "test": 1}
    small = task.restrict("test", 0, seed=0)
    assert small.space.texts[: len(small.space)] == [task.space.texts[label] for label in (0, 1, 2, 4, 6)]
    before = [[task.space.texts[label] for label in row] for row in task.documents["test"]["labels"]]
    after = [[small.space.texts[label] for label in row] for row in small.documents["test"]["labels"]]
    assert before == after
    assert small.space.texts[small.unscored[0]] == "Calcium"
    assert len(task.restrict("test", 6, seed=0).space) == 6


def test_a_saved_task_is_the_same_task(task, tmp_path):
    filtered = {"test": csr_matrix((np.ones(1, bool), ([1], [0])), shape=(3, 7))}
    before = Task(task.documents, task.space, task.card, task.unscored, filtered)
    before.save(tmp_path / "task")
    after = Task.load(tmp_path / "task")
    assert after.documents["test"].to_list() == before.documents["test"].to_list()
    assert after.card == before.card
    assert after.unscored.tolist() == [0]
    assert after.filtered["test"].nonzero()[1].tolist() == [0]
    assert isinstance(after.space, LabelSpace)


def test_numbers_are_shown_with_their_interval(task):
    table = shortlist_tables.recall_table({"b": PRED, "a": PRED}, task.gold("test"), [3, 1], seed=0)
    wide = report.wide(table, "retriever", "k", "recall")
    assert wide.columns.tolist() == ["retriever", 3, 1]
    assert wide["retriever"].tolist() == ["b", "a"]
    assert wide[1][0].replace(report.NO_BREAK_SPACE, " ").startswith("0.333 [")
    assert report.counts({"headings": 1234}) == "1,234 headings"
