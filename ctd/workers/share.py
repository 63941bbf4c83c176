"""How many workers there are: of this process, and of processes that share the cores among them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from ctd.cache import atomic
from ctd.hardware import cores
from ctd.workers import piece


def available() -> int:
    """How many workers there are where a caller does not say: CTD_WORKERS, else the cores of this process.

    Where notebooks run side by side (`shared_out`), it is this one's share of them. 1 within a piece of work, so that
    workers do not start workers.
    Raises ValueError where CTD_WORKERS is not a whole number from 1 on.
    """
    return 1 if piece.is_working() else n_workers()


def n_workers() -> int:
    """How many workers a process may have that hands pieces to others."""
    setting = os.environ.get("CTD_WORKERS", "").strip()
    with suppress(KeyError, OSError):
        setting = Path(os.environ["CTD_SHARE"]).read_text()
    if setting and not (setting.isdecimal() and int(setting)):
        raise ValueError(f"CTD_WORKERS must be a whole number from 1 on, got {setting!r}: change it, or unset it")
    return int(setting or cores())


@contextmanager
def shared_out() -> Iterator[Callable[[int], None]]:
    """Share out the workers among processes that are started meanwhile.

    Yields a function that takes the number of these processes, whenever it changes.
    """
    n = available()
    with TemporaryDirectory(prefix="ctd-") as folder:
        path = Path(folder) / "share"

        def share(processes: int) -> None:
            with atomic(path) as scratch:
                scratch.write_text(str(max(1, n // max(1, processes))))

        share(1)
        os.environ["CTD_SHARE"] = str(path)
        try:
            yield share
        finally:
            del os.environ["CTD_SHARE"]
