"""The topics above a teacher's labels, and the card of its training."""

from dataclasses import replace

import numpy as np
import pytest

from ctd.data.label_space import LabelSpace
from ctd.data.task import Card, Task, splits_of
from ctd.reasoning import teachers


def test_a_manifest_becomes_a_flat_table():
    recipe = {"rank": 32, "settings": {"seed": 0}, "passes": [{"n": 7}, {"n": 2}], "heads": [[1, 4]]}
    assert teachers.card({"name": "t", "recipe": recipe}).to_numpy().tolist() == [
        ["name", "t"], ["recipe / rank", "32"], ["recipe / settings / seed", "0"], ["recipe / passes / 1 / n", "7"],
        ["recipe / passes / 2 / n", "2"], ["recipe / heads", "[[1, 4]]"],
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["flat", "tree", "inner roots"])
def test_topics_are_clusters_of_the_roots_and_none_leaves_the_space_as_it_is(kind, space, encoder, own_cache):
    flat = LabelSpace("flat", space.ids[:7], space.texts[:7], 7)
    labels = {"flat": flat, "tree": replace(flat, parents=np.array([-1, 0, 0, -1, 3, -1, -1])), "inner roots": space}[
        kind
    ]
    roots = np.arange(7) if labels.parents is None else np.flatnonzero(labels.parents < 0)
    task = Task(splits_of({}), labels, Card("t", "l", "s", "m"))
    same, _ = teachers.with_topics(task, encoder, 0)
    assert same.space is labels
    topped, index = teachers.with_topics(task, encoder, 2)
    clusters = {len(labels.ids), len(labels.ids) + 1}
    assert len(topped.space.ids) == len(labels.ids) + 2
    assert set(topped.space.parents[roots]) <= clusters
    assert index.space is topped.space


def test_more_topics_than_labels_become_one_for_every_two(space, encoder, own_cache, capsys):
    task = Task(splits_of({}), space, Card("t", "l", "s", "m"))
    topped, _ = teachers.with_topics(task, encoder, 256)
    n_roots = int((space.parents < 0).sum())
    assert len(topped.space.ids) == len(space.ids) + (n_roots + 1) // 2
    assert f"{n_roots} labels of tiny cannot fill 256 topics" in capsys.readouterr().out
