"""Pieces of work on a cluster: the same results in the same order, what goes wrong is raised, and the rest is ended."""

import operator
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ctd import workers
from ctd.keys import source_digest
from ctd.retrieval import encoders
from ctd.workers import piece
from tests.book.test_cluster import LocalRay
from tests.conftest import HashEncoder


class TaskError(LocalRay.RayError):
    def __init__(self, cause):
        super().__init__(f"ray::_work\n{cause}")
        self.cause = cause


class Library(LocalRay):
    """As much of Ray as `workers.run` uses."""

    def __init__(self):
        super().__init__()
        self.exceptions.RayTaskError = TaskError
        self.put_objects, self.cancelled, self.n_pieces, self.n_read = [], [], 0, 0

    def put(self, shared):
        if shared is open:
            raise TypeError("Could not serialize the put value")
        self.put_objects.append(shared)
        return len(self.put_objects) - 1

    def get(self, reference):
        if reference not in self.tasks:
            self.n_read += 1
            return self.put_objects[reference]
        try:
            return super().get(reference)
        except LocalRay.RayError:
            raise
        except Exception as error:
            raise TaskError(error) from None

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
    results = list(workers.run(divided, [10, 20, 30], 60, bar=SimpleNamespace(update=steps.append), size=int))
    assert steps == [10, 20, 30]
    assert results == [(6, 1, 1), (3, 1, 1), (2, 1, 1)]
    assert cluster.put_objects == [60], "what is shared goes to the cluster once"
    assert cluster.n_read == 1, "a process of a node reads it once"
    assert cluster.options_of_tasks == [{"num_cpus": 1, "max_retries": 2}]


def test_what_a_piece_raises_is_raised_and_the_others_are_ended(cluster):
    pieces = workers.run(operator.floordiv, [1, 0, 2], 6)
    assert next(pieces) == 6
    with pytest.raises(ZeroDivisionError, match="^integer division or modulo by zero$"):
        next(pieces)
    assert len(cluster.cancelled) == 3
    assert cluster.tasks == {}


def test_a_piece_whose_process_dies_too_often_is_told_in_one_line(cluster, monkeypatch):
    def dies(reference):
        raise LocalRay.RayError("the worker died\n unexpectedly")

    monkeypatch.setattr(cluster, "get", dies)
    with pytest.raises(RuntimeError, match=r"^a piece of work died 3 times on the cluster, .* died unexpectedly\)$"):
        list(workers.run(operator.floordiv, [1, 2], 6))


def ones(n, piece):
    return np.ones(n)


def test_arrays_that_come_back_can_be_changed(cluster, monkeypatch):
    get = cluster.get

    def frozen(reference):
        received = get(reference)
        if isinstance(received, np.ndarray):
            received.flags.writeable = False
        return received

    monkeypatch.setattr(cluster, "get", frozen)
    for array in workers.run(ones, [0, 1], 3):
        array[0] = 2


def test_what_cannot_be_handed_over_is_done_here(cluster, capsys):
    assert list(workers.run(operator.is_, [open, 1], open)) == [True, False]
    assert cluster.n_pieces == 0
    line = "one process does the work, for others could not read what they need (Could not serialize the put value)\n"
    assert line in capsys.readouterr().err


def test_a_node_with_another_ctd_refuses(cluster, monkeypatch):
    sources = iter(["the caller's", "the node's"])
    monkeypatch.setattr(workers, "source_of", lambda function: next(sources))
    monkeypatch.setattr(piece, "source_of", lambda function: next(sources))
    with pytest.raises(ValueError, match="has not the caller's ctd: every node of a cluster needs the same$"):
        list(workers.run(operator.floordiv, [1, 2], 6))


def test_the_source_of_a_function_is_that_of_its_module():
    assert piece.source_of(encoders.encode) == source_digest("ctd.retrieval.encoders")
    assert piece.source_of(operator.add) == ""


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
