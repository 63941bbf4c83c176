"""The most memory that a process and those that it started hold at a time, watched from outside."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

EVERY = 2.0  # seconds between two looks


class Peak:
    """The most that was seen so far.

    mib: 0 where nothing could be seen.
    """

    mib = 0.0


@contextmanager
def watched(find_pid: Callable[[], int | None]) -> Iterator[Peak]:
    """Watch a process and its descendants while the block runs.

    find_pid: the process; None as long as it has not begun.
    """
    peak, ended = Peak(), threading.Event()

    def watch() -> None:
        while not ended.wait(EVERY):
            if pid := find_pid():
                peak.mib = max(peak.mib, held_mib(pid))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def held_mib(pid: int) -> float:
    """What a process and its descendants hold now, in MiB; 0 where the system does not tell.

    Memory that several processes share counts once: each is charged its part.
    """
    try:
        process = psutil.Process(pid)
        pids = [pid, *(child.pid for child in process.children(recursive=True))]
    except psutil.Error:
        return 0.0
    return sum(map(_proportional_mib, pids))


def _proportional_mib(pid: int) -> float:
    try:
        kilobytes = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:  # ended, or no Linux
        return 0.0
    return int(kilobytes[1]) / 2**10 if kilobytes else 0.0
