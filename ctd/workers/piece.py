"""One piece of work: on one thread, in this process or another, with what all pieces share read once a process."""

from __future__ import annotations

import multiprocessing
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController
from tqdm.std import tqdm

from ctd.keys import source_digest
from ctd.payload import Payload

Shared = TypeVar("Shared")
Piece = TypeVar("Piece")
Result = TypeVar("Result")

_working = False  # whether this process works on a piece
_read: tuple[Payload, Any] | None = None  # what is shared, and where it was read from


class NotLoaded(Exception):
    """A process could not read what is shared."""


def is_working() -> bool:
    """Whether this process works on a piece."""
    return _working


def work_until_the_end() -> None:
    """This process works on pieces until it ends."""
    global _working
    _working = True
    keep_no_semaphore()


def keep_no_semaphore() -> None:
    """Let progress bars lock within this process alone; what is killed would leave a semaphore behind."""
    tqdm.set_lock(threading.RLock())


def end_with_parent() -> None:
    """End where the parent is killed: a process that waits for its work would wait for ever."""
    threading.Thread(target=_join_parent, daemon=True).start()


def _join_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread inside: a sum's last bit does not depend on the number of cores."""
    import torch

    n_threads = torch.get_num_threads()
    with _libraries(len(sys.modules)).limit(limits=1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(n_threads)


@lru_cache(maxsize=1)
def _libraries(n_modules: int) -> ThreadpoolController:
    """The loaded libraries that have threads; looked up again after an import."""
    return ThreadpoolController()


@contextmanager
def one_piece() -> Iterator[None]:
    """Work on a piece inside, on one thread."""
    global _working
    before, _working = _working, True
    try:
        with one_thread():
            yield
    finally:
        _working = before


def alone(function: Callable[[Shared, Piece], Result], source: str, shared: Shared, piece: Piece) -> Result:
    """A piece of work in a process of another machine. Raises ValueError where that has other code."""
    if source_of(function) != source:
        raise ValueError(f"{platform.node()} has not the caller's ctd: every node of a cluster needs the same")
    with one_piece():
        return function(shared, piece)


def source_of(function: Callable[..., Any]) -> str:
    """A digest of the code that a function reaches; empty where it is not one of ctd."""
    with suppress(ModuleNotFoundError):
        return source_digest(function.__module__)
    return ""


def from_payload(source: Payload, function: Callable[[Any, Any], Any], piece: Any) -> Any:
    """Do a piece in a process of the pool."""
    import torch

    global _read
    if not _read or _read[0] != source:
        _read = None
        torch.set_num_threads(1)
        try:
            _read = source, source.read()
        except Exception as error:
            raise NotLoaded(f"{type(error).__name__}: {error}") from None
    return function(_read[1], piece)


def out_of_memory(error: BaseException) -> bool:
    """Whether a piece failed for want of memory, or because its process was killed."""
    import torch

    return isinstance(error, BrokenProcessPool | MemoryError | torch.OutOfMemoryError)
