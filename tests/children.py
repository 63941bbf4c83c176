"""Makers in processes of their own, forked from this one, which has the libraries: killed, starved, or left alone."""

import os
import pickle
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from tests import makers

PATIENCE = 600  # seconds: a busy machine is slow


class Child:
    """A maker at work in a process of its own.

    maker: of `makers.MAKERS`, or any function of a folder.
    cache: its CTD_CACHE; the folder for trainings lies beside it.
    before: called first in the process.
    """

    def __init__(self, maker, cache, before=None):
        makers.prepare(Path(f"{cache}-work"))
        self.began = time.monotonic()
        self.out, give = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._work(maker, cache, before, give)
        os.close(give)

    @staticmethod
    def _work(maker, cache, before, give):
        status = 1
        try:
            with open(os.devnull, "w") as silence:
                os.dup2(silence.fileno(), 1)
                os.dup2(silence.fileno(), 2)
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
            os.environ.update(CTD_CACHE=str(cache), TQDM_DISABLE="1", TOKENIZERS_PARALLELISM="false", CTD_WORKERS="1")
            tqdm.set_lock(threading.RLock())  # the default one is shared with those that are killed while they hold it
            makers.make_small()
            if before:
                before()
            try:
                result = maker(Path(f"{cache}-work"))
            except Exception as error:
                result = error if isinstance(error, ValueError | OSError) else RuntimeError(repr(error))
                result = (type(result).__name__, str(result))
            with open(give, "wb") as pipe:
                pickle.dump(result, pipe)
            status = 0
        finally:
            os._exit(status)

    def result(self, patience=PATIENCE):
        """What the maker returned, or the kind and the words of what it raised. What hangs is killed after a while."""
        alarm = threading.Timer(patience, os.kill, (self.pid, signal.SIGKILL))
        alarm.start()
        with open(self.out, "rb") as pipe:
            raw = pipe.read()
        alarm.cancel()
        os.waitpid(self.pid, 0)
        self.seconds = time.monotonic() - self.began
        assert raw, f"the process ended without a word, after {self.seconds:.0f} s"
        return pickle.loads(raw)

    def kill(self):
        """SIGKILL; whether it was at work."""
        at_work = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        with suppress(OSError):
            os.close(self.out)
        return at_work
