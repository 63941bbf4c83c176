"""The pieces of one run: done here and by processes, gone on with where a process is killed or cannot read."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Generic

import psutil
from tqdm.auto import tqdm

from ctd import payload
from ctd.cache import cache_dir
from ctd.hardware import cores, memory
from ctd.payload import Payload
from ctd.workers.piece import NotLoaded, Piece, Result, Shared, from_payload, one_piece, out_of_memory
from ctd.workers.pool import POOL
from ctd.workers.share import n_workers

STARTING = 3.0  # seconds of work that must be left for a process to be worth its start: it imports torch first
HANDING_OVER = 0.5  # the same where the process is there already: it only reads what is shared
PROCESS_BYTES = 2**29  # memory that a process takes for itself


def say_that_one_works(error: Exception) -> None:
    """Say that other processes cannot read what is shared, and why."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    tqdm.write(f"one process does the work, for others could not read what they need ({reason})", file=sys.stderr)


class Work(Generic[Shared, Piece, Result]):
    """The pieces of one run: those that wait, those that processes work on, and the results not yielded yet."""

    def __init__(
        self,
        function: Callable[[Shared, Piece], Result],
        pieces: Sequence[Piece],
        shared: Shared,
        workers: int,
        seconds: float | None,
        bar: tqdm | None,
        size: Callable[[Piece], int] | None,
    ) -> None:
        self.function, self.pieces, self.shared, self.seconds, self.bar = function, pieces, shared, seconds, bar
        self.size: Callable[[Piece], int] = size or (lambda _: 1)
        spare = memory()[1] // PROCESS_BYTES
        unknown = function.__module__ == "__main__"  # other processes do not read the caller's script or notebook
        self.asked, self.most = workers, 1 if unknown else max(1, min(len(pieces), 1 + spare))
        self.waiting = deque(range(len(pieces)))
        self.running: dict[int, Future[Result]] = {}
        self.finished: dict[int, Result] = {}
        self.fastest = float("inf")  # seconds of a piece in this process; the first one may take longer
        self.lock = threading.RLock()  # for what waits and what runs: processes that are done take the next piece
        self.until_done = ExitStack()
        self.pool = POOL
        self.payload: Payload | None = None
        self.processes: ProcessPoolExecutor | None = None

    def results(self) -> Iterator[Result]:
        """The results in the order of the pieces, each as soon as it and those before it are there."""
        with self.until_done:
            try:
                for index in range(len(self.pieces)):
                    while index not in self.finished:
                        self._start_processes()
                        self._work_here(index)
                        self._collect()
                    yield self.finished.pop(index)
            except BaseException:  # an interrupt too
                self.waiting.clear()
                if self.processes:
                    self.pool.kill()
                raise
            finally:
                if self.processes:
                    self.pool.leave()

    def _start_processes(self) -> None:
        """Hand pieces to processes, once there is enough work for them beside a piece for this one."""
        idle = self._n_workers() - 1 - self._n_running()
        if idle < 1 or self.seconds is None or len(self.waiting) < 2:
            return
        if (len(self.waiting) - 1) * self.seconds < (HANDING_OVER if self.pool.is_running else STARTING):
            return
        if not self.payload:
            atexit.register(self.until_done.close)  # a caller who stops half-way may keep the generator until the end
            self.until_done.callback(atexit.unregister, self.until_done.close)
            self._write(self.until_done.enter_context(_scratch_folder()))
        if self.most > 1:
            self.processes = self.processes or self.pool.enter(max(self._n_workers(), min(self.most, cores())) - 1)
            for _ in range(idle):
                self._hand_over()

    def _n_workers(self) -> int:
        """How many there may be now, this process among them."""
        return min(self.asked or n_workers(), self.most)

    def _n_running(self) -> int:
        return sum(not future.done() for future in list(self.running.values()))

    def _write(self, folder: Path) -> None:
        try:
            self.payload = payload.write(self.shared, folder)
        except Exception as error:  # it does not pickle, or the disk is full
            self._stay_here(error)

    def _hand_over(self, before: Future[Result] | None = None) -> None:
        """Give the first piece that waits to a process. Called again as a process finishes its piece."""
        if before and (before.cancelled() or before.exception()):
            return
        with self.lock:
            if not (self.waiting and self.processes and self.payload) or self._n_running() >= self._n_workers() - 1:
                return
            index = self.waiting[0]
            with suppress(RuntimeError):  # the processes are ending
                future = self.processes.submit(from_payload, self.payload, self.function, self.pieces[index])
                self.running[self.waiting.popleft()] = future
                future.add_done_callback(self._hand_over)

    def _work_here(self, index: int) -> None:
        """Do the first piece that waits in this process; where none waits, wait for a process's."""
        with self.lock:
            here = self.waiting.popleft() if self.waiting else None
        if here is None:
            futures.wait([self.running[index]])
            return
        began = time.perf_counter()
        try:
            with one_piece():
                self._finish(here, self.function(self.shared, self.pieces[here]))
        except Exception as error:
            if not self.processes or not out_of_memory(error):
                raise
            self._go_on_with_fewer()
            self.waiting.appendleft(here)
        self.fastest = min(self.fastest, time.perf_counter() - began)
        self.seconds = self.fastest

    def _collect(self) -> None:
        """Take the results of processes that are done with their pieces."""
        for index, future in list(self.running.items()):
            if not future.done() or index not in self.running:
                continue
            try:
                result = future.result()
            except NotLoaded as error:
                self._stay_here(error)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                self._go_on_with_fewer()
            else:
                del self.running[index]
                self._finish(index, result)

    def _finish(self, index: int, result: Result) -> None:
        self.finished[index] = result
        if self.bar is not None:
            self.bar.update(self.size(self.pieces[index]))

    def _go_on_with_fewer(self) -> None:
        before, after = self._n_workers(), max(1, self._n_workers() // 2)
        tqdm.write(
            f"a process was killed, most often for want of memory: going on with {after} at a time in place of "
            f"{before}",
            file=sys.stderr,
        )
        self._take_back(after)

    def _stay_here(self, error: Exception) -> None:
        say_that_one_works(error)
        self._take_back(1)

    def _take_back(self, most: int) -> None:
        """End the processes; what they did not finish waits again, for so many workers at most."""
        self.pool.kill()
        with self.lock:
            unfinished = []
            for index, future in sorted(self.running.items()):
                if future.done() and not future.cancelled() and not future.exception():
                    self._finish(index, future.result())
                else:
                    unfinished.append(index)
            self.running.clear()
            self.waiting.extendleft(reversed(unfinished))
            if self.processes:
                self.pool.leave()
            self.most, self.processes = most, None


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    """A folder that only this user can read, for what is shared: in the cache, else among temporary files."""
    with ExitStack() as stack:
        try:
            home = cache_dir("workers")
            _remove_those_of_killed_processes(home)
            folder = TemporaryDirectory(prefix=f"{os.getpid()}-", dir=home, ignore_cleanup_errors=True)
        except OSError:  # the cache cannot be written
            folder = TemporaryDirectory(prefix="ctd-", ignore_cleanup_errors=True)
        yield Path(stack.enter_context(folder))


def _remove_those_of_killed_processes(home: Path) -> None:
    for folder in home.iterdir():
        owner = folder.name.partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)
