"""A task drawn from, made smaller, saved and read again."""

import numpy as np
import pytest
from datasets import Dataset
from scipy.sparse import csr_matrix

from ctd.data.label_space import LabelSpace
from ctd.data.task import Task


def test_sampling_and_restricting_keep_gold_and_filters(task):
    sampled = task.sample("test", 1, seed=0)
    assert sampled.documents.num_rows == {"train": 3, "validation": 1, "test": 1}
    small = task.restrict("test", 0, seed=0)
    assert small.space.texts[: len(small.space)] == [task.space.texts[label] for label in (0, 1, 2, 4, 6)]
    before = [[task.space.texts[label] for label in row] for row in task.documents["test"]["labels"]]
    after = [[small.space.texts[label] for label in row] for row in small.documents["test"]["labels"]]
    assert before == after
    assert small.space.texts[small.unscored[0]] == "Calcium"
    assert len(task.restrict("test", 6, seed=0).space) == 6


def test_few_documents_as_drawn_are_the_first_of_more_and_sampled_ones_keep_their_order(task):
    rows = {"uid": [str(row) for row in range(20)], "text": ["Liver"] * 20, "labels": [[0]] * 20}
    task.documents["test"] = Dataset.from_dict(rows)
    few, more = (list(task.sample("test", n, 3, as_drawn=True).documents["test"]["uid"]) for n in (4, 9))
    assert more[:4] == few
    left = [int(uid) for uid in task.sample("test", 9, 3).documents["test"]["uid"]]
    assert left == sorted(map(int, more)) != list(map(int, more))


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


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_task_with_an_empty_split_is_saved_and_read_again(task, tmp_path, split):
    before = task.select(split, np.array([], np.int64))
    before.save(tmp_path / "task")
    after = Task.load(tmp_path / "task")
    assert {name: part.to_list() for name, part in after.documents.items()} == {
        name: part.to_list() for name, part in before.documents.items()
    }
    assert after.gold(split).shape == (0, 7)
