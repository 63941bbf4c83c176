"""Pieces of work on a cluster: the same results in the same order, what goes wrong is raised, and the rest is ended."""

import operator
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ctd import workers
from ctd.retrieval import encoders
from tests.book.test_cluster import LocalRay
from tests.conftest import HashEncoder


class Library(LocalRay):
    """As much of Ray as `workers.run` uses."""

    def __init__(self):
        super().__init__()
        self.put_objects, self.cancelled, self.n_pieces = [], [], 0

    def put(self, shared):
        self.put_objects.append(shared)
        return shared

    def submit(self, call):
        self.n_pieces += 1
        return super().submit(call)

    def cancel(self, reference, force):
        self.cancelled.append(reference)
        self.tasks.pop(reference, None)


@pytest.fixture
def cluster(monkeypatch):
    library = Library()
    monkeypatch.setitem(sys.modules, "ray", library)
    monkeypatch.setenv("CTD_RAY", "auto")
    return library


def divided(total, piece):
    return total // piece, torch.get_num_threads(), workers.available()


def test_pieces_are_computed_in_order_on_one_thread_each(cluster):
    steps = []
    found = list(workers.run(divided, [10, 20, 30], 60, bar=SimpleNamespace(update=steps.append), size=int))
    assert steps == [10, 20, 30]
    assert found == [(6, 1, 1), (3, 1, 1), (2, 1, 1)]
    assert cluster.put_objects == [60], "what is shared goes to the cluster once"
    assert cluster.options_of_tasks == [{"num_cpus": 1, "max_retries": 2}]


def test_what_a_piece_raises_is_raised_and_the_others_are_ended(cluster):
    pieces = workers.run(operator.floordiv, [1, 0, 2], 6)
    assert next(pieces) == 6
    with pytest.raises(ZeroDivisionError):
        next(pieces)
    assert len(cluster.cancelled) == 3
    assert cluster.tasks == {}


def test_one_worker_one_piece_and_a_notebooks_own_function_stay_here(cluster):
    def of_a_notebook(shared, piece):
        return piece

    of_a_notebook.__module__ = "__main__"
    assert list(workers.run(operator.mul, [1, 2], 2, workers=1)) == [2, 4]
    assert list(workers.run(operator.mul, [1], 2)) == [2]
    assert list(workers.run(of_a_notebook, [1, 2], 2)) == [1, 2]
    assert cluster.n_pieces == 0


def test_vectors_of_labels_are_those_of_this_machine(cluster, own_cache, monkeypatch):
    texts = [f"label {n}" for n in range(3000)]
    there = encoders.encode(HashEncoder(), texts)
    assert cluster.n_pieces > 0
    monkeypatch.delenv("CTD_RAY")
    monkeypatch.setenv("CTD_CACHE", str(own_cache / "another"))
    np.testing.assert_array_equal(there, encoders.encode(HashEncoder(), texts))
