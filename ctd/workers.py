"""Independent pieces of work side by side: one process each, one thread each.

    for scores in workers.run(score, batches, shared=model):  # `score(model, batch)`, a function of a module
        ...

Notes: with one thread each, no result depends on how many cores there are, and two processes do not wait for each other
as two threads do. The calling process works as well, so N workers are N - 1 processes beside it. They are started where
that pays, and stay for the next run until they were idle for a minute. CTD_WORKERS sets how many workers there are;
CTD_RAY names a Ray cluster that works in their place.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache, partial
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Generic, TypeVar

import psutil
from threadpoolctl import ThreadpoolController
from tqdm.auto import tqdm

from ctd import payload, ray_cluster
from ctd.cache import atomic, cache_dir
from ctd.hardware import cores, memory
from ctd.payload import Payload

STARTING = 3.0  # seconds of work that must be left for a process to be worth its start: it imports torch first
HANDING_OVER = 0.5  # the same where the process is there already: it only reads what is shared
IDLE = 60.0  # seconds after which processes without work end
PROCESS_BYTES = 2**29  # memory that a process takes for itself
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}  # fmt: skip

Shared = TypeVar("Shared")
Piece = TypeVar("Piece")
Result = TypeVar("Result")


def available() -> int:
    """How many workers there are where a caller does not say: CTD_WORKERS, else the cores of this process.

    Where notebooks run side by side (`shared_out`), it is this one's share of them. 1 within a piece of work, so that
    workers do not start workers.
    Raises ValueError where CTD_WORKERS is not a whole number from 1 on.
    """
    return 1 if _working else _available()


def _available() -> int:
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
    Raises what the function raises.
    """
    address = os.environ.get("CTD_RAY", "")
    if address and not _working and workers != 1 and len(pieces) > 1 and function.__module__ != "__main__":
        return ray_cluster.run(address, partial(_alone, function), pieces, shared, bar, size or (lambda _: 1))
    work = _Work(function, pieces, shared, 1 if _working else workers, seconds, bar, size)
    return work.results()


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


class _NotLoaded(Exception):
    """A process could not read what is shared."""


class _Work(Generic[Shared, Piece, Result]):
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
        self.pool = _POOL
        self.payload: Payload | None = None
        self.processes: ProcessPoolExecutor | None = None

    def results(self) -> Iterator[Result]:
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
            self._write(self.until_done.enter_context(_scratch_folder()))
        if self.most > 1:
            self.processes = self.processes or self.pool.enter(max(self._n_workers(), min(self.most, cores())) - 1)
            for _ in range(idle):
                self._hand_over()

    def _n_workers(self) -> int:
        """How many there may be now, this process among them."""
        return min(self.asked or _available(), self.most)

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
                future = self.processes.submit(_work, self.payload, self.function, self.pieces[index])
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
            with _one_piece():
                self._finish(here, self.function(self.shared, self.pieces[here]))
        except Exception as error:
            if not self.processes or not _out_of_memory(error):
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
            except _NotLoaded as error:
                self._stay_here(error)
            except Exception as error:
                if not _out_of_memory(error):
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
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        tqdm.write(f"one process does the work, for others could not read what they need ({reason})", file=sys.stderr)
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


def _alone(function: Callable[[Shared, Piece], Result], shared: Shared, piece: Piece) -> Result:
    """A piece of work in a process of another machine."""
    with _one_piece():
        return function(shared, piece)


def _out_of_memory(error: BaseException) -> bool:
    """Whether a piece failed for want of memory, or because its process was killed."""
    import torch

    return isinstance(error, BrokenProcessPool | MemoryError | torch.OutOfMemoryError)


class _Process(SpawnProcess):
    """A process that computes on one thread, and does not run the caller's script or notebook again."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        main, before = sys.modules["__main__"], dict(os.environ)
        sys.modules["__main__"] = ModuleType("__main__")
        os.environ.update(ENVIRONMENT)
        try:
            return SpawnProcess._Popen(process_obj)
        finally:
            sys.modules["__main__"] = main
            for name in ENVIRONMENT:
                os.environ.pop(name)
                if name in before:
                    os.environ[name] = before[name]


class _Context(SpawnContext):
    Process = _Process


class _Pool:
    """The processes beside this one, kept from one run to the next until they were idle for some time."""

    def __init__(self) -> None:
        self._executor: ProcessPoolExecutor | None = None
        self._n_processes = self._n_runs = 0
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None

    @property
    def is_running(self) -> bool:
        return self._executor is not None

    def enter(self, n_processes: int) -> ProcessPoolExecutor:
        """The processes, for one run; `leave` must follow."""
        with self._lock:
            if self._timer:
                self._timer.cancel()
            if self._executor and (self._n_processes < n_processes or not self._alive(self._executor)):
                self._end()
            if not self._executor:
                self._executor = ProcessPoolExecutor(n_processes, _Context(), _begin)
                self._n_processes = n_processes
            self._n_runs += 1
            return self._executor

    @staticmethod
    def _alive(executor: ProcessPoolExecutor) -> bool:
        try:
            executor.submit(os.getpid)
        except RuntimeError:  # a process was killed while it was idle
            return False
        return True

    def leave(self) -> None:
        with self._lock:
            self._n_runs -= 1
            if not self._executor or self._n_runs:
                return
            torch = sys.modules.get("torch")
            if torch and torch.cuda.is_initialized():
                self._end()  # each process holds memory of the accelerator
            else:
                self._timer = threading.Timer(IDLE, self._end_idle)
                self._timer.daemon = True
                self._timer.start()

    def kill(self) -> None:
        """End the processes in the midst of their pieces."""
        with self._lock:
            if not self._executor:
                return
            self._end()
            for process in multiprocessing.active_children():
                if isinstance(process, _Process):
                    process.kill()

    def _end_idle(self) -> None:
        with self._lock:
            if not self._n_runs:
                self._end()

    def _end(self) -> None:
        if self._executor:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None


_POOL = _Pool()
atexit.register(_POOL.kill)  # before the interpreter takes itself apart
_working = False  # whether this process works on a piece
_read: tuple[Payload, Any] | None = None  # what is shared, and where it was read from


@contextmanager
def _one_piece() -> Iterator[None]:
    global _working
    before, _working = _working, True
    try:
        with one_thread():
            yield
    finally:
        _working = before


def _begin() -> None:
    """Prepare a process: an interrupt is for its parent, and the kernel ends it first where memory is short."""
    global _working
    _working = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def _end_with_parent() -> None:
    """End where the parent is killed: the process would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(source: Payload, function: Callable[[Any, Any], Any], piece: Any) -> Any:
    """Do a piece in a process that `_begin` prepared."""
    import torch

    global _read
    if not _read or _read[0] != source:
        _read = None
        torch.set_num_threads(1)
        try:
            _read = source, source.read()
        except Exception as error:
            raise _NotLoaded(f"{type(error).__name__}: {error}") from None
    return function(_read[1], piece)


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
