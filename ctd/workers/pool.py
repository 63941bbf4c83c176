"""The processes beside this one: started where they pay, kept from run to run, ended when idle or with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from types import ModuleType
from typing import Any

from ctd.workers import piece

IDLE = 60.0  # seconds after which processes without work end
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}  # fmt: skip


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


class Pool:
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
            for process in multiprocessing.active_children():
                if isinstance(process, _Process):
                    process.kill()
            self._end(wait=True)

    def _end_idle(self) -> None:
        with self._lock:
            if not self._n_runs:
                self._end(wait=True)

    def _end(self, wait: bool = False) -> None:
        if self._executor:
            self._executor.shutdown(wait=wait, cancel_futures=True)
            self._executor = None


def _begin() -> None:
    """Prepare a process: an interrupt is for its parent, and the kernel ends it first where memory is short."""
    piece.work_until_the_end()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    piece.end_with_parent()
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


POOL = Pool()
# Before `concurrent.futures` ends its executors, where `atexit` comes too late: it would wait for the pieces, and wake
# an executor that may be closing by itself, an OSError.
threading._register_atexit(POOL.kill)  # type: ignore[attr-defined]
