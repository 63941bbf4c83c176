"""What a data card counts, and the document that it shows."""

import numpy as np
import pytest
from datasets import DatasetDict

from ctd import text
from ctd.data import cards
from ctd.data.label_space import LabelSpace
from ctd.data.task import Task
from tests.conftest import documents


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
