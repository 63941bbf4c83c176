"""Independent pieces of work side by side: one process each, one thread each.

    for scores in workers.run(score, batches, shared=model):  # `score(model, batch)`, a function of a module
        ...

Notes: with one thread each, no result depends on how many cores there are, and two processes do not wait for each other
as two threads do. The calling process works as well, so N workers are N - 1 processes beside it. They are started where
that pays, and stay for the next run until they were idle for a minute. CTD_WORKERS sets how many workers there are;
CTD_RAY names a Ray cluster that works in their place.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from tqdm.auto import tqdm

from ctd import ray_cluster
from ctd.workers.piece import Piece, Result, Shared, alone, is_working, one_thread, source_of
from ctd.workers.share import available, shared_out
from ctd.workers.work import Work, say_that_one_works

__all__ = ["available", "one_thread", "run", "shared_out"]


def run(
    function: Callable[[Shared, Piece], Result],
    pieces: Sequence[Piece],
    shared: Shared,
    *,
    workers: int = 0,
    seconds: float | None = None,
    bar: tqdm | None = None,
    size: Callable[[Piece], int] | None = None,
) -> Iterator[Result]:
    """Call a function for each piece, side by side, and yield the results in the order of the pieces.

    Every call runs on one thread. Where a process is killed, mostly for want of memory, half as many workers do the
    pieces that are not finished. Where a call fails or the caller stops, the other pieces end as well.

    function: `function(shared, piece)`. It must be a module's own, and change neither argument. It may return anything
        that pickles, but arrays rather than tensors.
    pieces: best of about a second each.
    shared: what all pieces need, such as a model. Processes map its tensors instead of copying them. What cannot be
        pickled stays in this process.
    workers: how many at most; 0 for `available()`, which may change meanwhile.
    seconds: what a piece takes, about. This process finds out as it works; with a hint, others may start at once.
    bar: moves forward as pieces finish.
    size: steps of the bar for a piece, 1 if it is not given.
    Raises what the function raises, and on a cluster what `ctd.ray_cluster.run` raises.
    """
    address = os.environ.get("CTD_RAY", "")
    if address and not is_working() and workers != 1 and len(pieces) > 1 and function.__module__ != "__main__":
        there = partial(alone, function, source_of(function))
        try:
            return ray_cluster.run(address, there, pieces, shared, bar, size or (lambda _: 1))
        except pickle.PicklingError as error:
            say_that_one_works(error)
            workers = 1
    work = Work(function, pieces, shared, 1 if is_working() else workers, seconds, bar, size)
    return work.results()
