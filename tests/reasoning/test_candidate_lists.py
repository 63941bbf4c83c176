"""Lists that come with the book are given where all that they depend on is the same, and made anew elsewhere."""

import json
from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from scipy.sparse import csr_matrix

from ctd.cache import DATA
from ctd.data.task import Card, Task
from ctd.reasoning import candidate_lists
from ctd.retrieval import shortlists
from ctd.retrieval.index import LabelIndex


@pytest.fixture
def book(own_cache, monkeypatch, tmp_path):
    """The folder of the book's lists: empty."""
    monkeypatch.setattr(candidate_lists, "DATA", tmp_path / "data")
    monkeypatch.delenv("CTD_TEXTS", raising=False)
    return tmp_path / "data" / "lists"


@pytest.fixture
def task(space):
    rows = {"uid": ["a", "b"], "text": ["calcium in blood", "the liver"], "labels": [[0, 2], [3]]}
    return Task(DatasetDict({"test": Dataset.from_dict(rows)}), space, Card("Tiny", "none", "made up", "by hand"))


def lists(index, task, retrieved, k=2):
    """What comes of it where `make` would give `found`."""
    return candidate_lists.lists(index, task, "test", {"k": k}, lambda: {"retrieved": retrieved})["retrieved"]


@pytest.fixture
def index_and_task(book, task, encoder, monkeypatch):
    """Index and task whose lists, [[1], [2]], are kept with the book."""
    index = LabelIndex.build(task.space, encoder)
    monkeypatch.setenv("CTD_TEXTS", "keep")
    assert lists(index, task, [[1], [2]]) == [[1], [2]]
    monkeypatch.delenv("CTD_TEXTS")
    return index, task


def test_lists_are_kept_only_where_that_is_asked_for(book, task, encoder):
    assert lists(LabelIndex.build(task.space, encoder), task, [[1], [2]]) == [[1], [2]]
    assert not book.exists()


def test_kept_lists_are_given_in_place_of_those_that_would_be_made(index_and_task):
    assert lists(*index_and_task, [[5], [6]]) == [[1], [2]]


def test_an_encoder_of_the_same_weights_in_another_precision_is_given_them_too(index_and_task):
    index, task = index_and_task
    index.encoder.key = "in another precision"
    assert lists(index, task, [[5], [6]]) == [[1], [2]]


def with_rows(task, **columns):
    rows = task.documents["test"].to_dict() | columns
    return replace(task, documents=DatasetDict({"test": Dataset.from_dict(rows)}))


def renamed(space):
    return replace(space, texts=("Calcium, ionised", *space.texts[1:]))


def clustered(index, space):
    roots = np.flatnonzero(space.parents < 0)
    return space.with_clusters(index.embed([space.texts[root] for root in roots]), 2)


NO_PAIRS = csr_matrix((2, 7), dtype=bool)
CHANGES = {
    "encoder": lambda index, task: (setattr(index.encoder, "book_key", "other"), (index, task))[1],
    "index": lambda index, task: (replace(index, kind="ivfpq"), task),
    "document": lambda index, task: (index, with_rows(task, text=["calcium", "the liver"])),
    "gold": lambda index, task: (index, with_rows(task, labels=[[0, 1], [3]])),
    "labels": lambda index, task: (index, replace(task, space=renamed(task.space))),
    "clusters": lambda index, task: (index, replace(task, space=clustered(index, task.space))),
    "unscored": lambda index, task: (index, replace(task, unscored=np.array([6]))),
    "filtered": lambda index, task: (index, replace(task, filtered={"test": NO_PAIRS})),
}


@pytest.mark.parametrize("what", CHANGES)
def test_other_lists_are_made_where_anything_else_differs(what, index_and_task):
    assert lists(*CHANGES[what](*index_and_task), [[5], [6]]) == [[5], [6]]


def test_other_lists_are_made_under_other_settings_or_where_the_books_are_to_be_ignored(index_and_task, monkeypatch):
    assert lists(*index_and_task, [[5], [6]], k=3) == [[5], [6]]
    monkeypatch.setenv("CTD_TEXTS", "ignore")
    assert lists(*index_and_task, [[5], [6]]) == [[5], [6]]


def test_a_damaged_file_is_named_with_what_mends_it(index_and_task, book):
    [file] = book.iterdir()
    file.write_text('{"retrieved": [[1')
    with pytest.raises(ValueError, match=rf"data/lists/{file.name} is damaged: restore it \(git checkout data/lists\)"):
        lists(*index_and_task, [[5], [6]])


def test_what_was_retrieved_is_what_the_retriever_finds_now_or_found_then(book, task, encoder, monkeypatch):
    index = LabelIndex.build(task.space, encoder)
    now = shortlists.retrieve_scored(index, task, "test", 3)
    assert np.array_equal(candidate_lists.retrieved(index, task, "test", 3), now)
    monkeypatch.setenv("CTD_TEXTS", "keep")
    candidate_lists.retrieved(index, task, "test", 3)
    [file] = book.iterdir()
    file.write_text(json.dumps({"retrieved": [[6, 5], [4, 3, 2]]}))
    monkeypatch.delenv("CTD_TEXTS")
    assert candidate_lists.retrieved(index, task, "test", 3).tolist() == [[6, 5, -1], [4, 3, 2]]


def test_the_books_lists_are_those_of_its_documents():
    files = sorted((DATA / "lists").glob("*.json"))
    assert len(files) >= 3  # candidates in the prompt; shortlists handed to two teachers
    for file in files:
        for listed in json.loads(file.read_text()).values():
            assert len(listed) == 200
            assert all(len(set(labels)) == len(labels) for labels in listed)
