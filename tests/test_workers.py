"""Pieces of work side by side end as those done in turn, whatever happens to a process."""

import io
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import process as executors
from functools import partial

import numpy as np
import psutil
import pytest
import torch
from tqdm import tqdm

from ctd import workers
from ctd.cache import ROOT, atomic, cache_dir
from ctd.workers.pool import POOL


@pytest.fixture(autouse=True)
def fresh(own_cache, monkeypatch):
    """No processes of an earlier test, and no setting of the caller's."""
    monkeypatch.delenv("CTD_WORKERS", raising=False)
    POOL.kill()
    yield
    POOL.kill()


def meet(folder, n_workers):
    """Wait until so many processes are here, so that all of them take part however long they take to start."""
    (folder / f"pid {os.getpid()}").touch()
    until = time.monotonic() + 120
    while len(list(folder.glob("pid *"))) < n_workers:
        assert time.monotonic() < until, "the other processes did not come"
        time.sleep(0.02)


def multiplied(shared, piece):
    """A sum whose last bits depend on the number of threads."""
    matrix, folder, n_workers = shared
    meet(folder, n_workers)
    product = matrix @ matrix.flip(piece % 2) @ torch.full((len(matrix), 1), 0.1 * piece)
    return product.sum().item(), np.linalg.norm(product.numpy()), os.getpid()


@pytest.mark.parametrize("n_workers", [1, 2, 3])
def test_results_do_not_depend_on_the_number_of_workers(n_workers, tmp_path):
    matrix = torch.randn(400, 400, generator=torch.Generator().manual_seed(0))
    results = list(workers.run(multiplied, range(20), (matrix, tmp_path, n_workers), workers=n_workers, seconds=60))
    with workers.one_thread():
        alone = [multiplied((matrix, tmp_path, 1), piece) for piece in range(20)]
    assert [result[:2] for result in results] == [result[:2] for result in alone]
    assert len({result[2] for result in results}) == n_workers
    assert os.getpid() in {result[2] for result in results}


def slept(_, seconds):
    time.sleep(seconds)
    return os.getpid()


def met(folder, n_workers):
    meet(folder, n_workers)
    return os.getpid()


def met_from_the_second_on(folder, piece):
    time.sleep(0.1)
    meet(folder, 2 if piece else 1)
    return os.getpid()


def test_little_work_stays_in_this_process_and_much_does_not(monkeypatch, tmp_path):
    assert set(workers.run(slept, [0.01] * 20, None, workers=2)) == {os.getpid()}
    monkeypatch.setattr("ctd.workers.work.STARTING", 1)
    assert len(set(workers.run(met_from_the_second_on, range(20), tmp_path, workers=2))) == 2


def beside(folder):
    """The id of the process that works beside this one."""
    folder.mkdir()
    (pid,) = set(workers.run(met, [2] * 4, folder, workers=2, seconds=60)) - {os.getpid()}
    return pid


def test_processes_stay_for_the_next_run_and_end_after_a_while(monkeypatch, tmp_path):
    monkeypatch.setattr("ctd.workers.pool.IDLE", 5)
    first = beside(tmp_path / "first")
    assert first == beside(tmp_path / "second")
    assert not psutil.wait_procs([psutil.Process(first)], timeout=30)[1]


def killed_once(marker, piece):
    """The first process beside the caller's that comes here is killed."""
    (marker[0].parent / f"pid {os.getpid()}").touch()
    if os.getpid() != marker[1]:
        try:
            marker[0].touch(exist_ok=False)
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    meet(marker[0].parent, 2)
    with open(marker[0].with_name(str(piece)), "a") as done:
        done.write(".")
    return piece


@pytest.mark.parametrize("n_workers", [2, 4])
def test_a_killed_process_is_survived_and_finished_pieces_are_not_done_again(n_workers, tmp_path, capsys):
    shared = tmp_path / "marker", os.getpid()
    assert list(workers.run(killed_once, range(60), shared, workers=n_workers, seconds=60)) == list(range(60))
    assert f"going on with {n_workers // 2} at a time in place of {n_workers}" in "".join(capsys.readouterr())
    times = [len((tmp_path / str(piece)).read_text()) for piece in range(60)]
    assert times.count(1) >= 60 - n_workers  # but for those that the other processes were in the midst of


def killed_always(shared, piece):
    folder, pid = shared
    (folder / f"pid {os.getpid()}").touch()
    if os.getpid() != pid:
        os.kill(os.getpid(), signal.SIGKILL)
    meet(folder, 2)
    time.sleep(0.5)
    return piece


def test_where_every_process_is_killed_this_one_does_the_rest(tmp_path, capsys):
    shared = tmp_path, os.getpid()
    assert list(workers.run(killed_always, range(10), shared, workers=2, seconds=60)) == list(range(10))
    assert "going on with 1 at a time in place of 2" in "".join(capsys.readouterr())


def test_a_process_killed_while_idle_is_replaced(tmp_path):
    process = psutil.Process(beside(tmp_path / "before"))
    process.kill()
    psutil.wait_procs([process], timeout=10)
    time.sleep(1)
    assert beside(tmp_path / "after") != process.pid


class Refused(Exception):
    pass


def fails(shared, piece):
    folder, n_workers = shared
    meet(folder, n_workers)
    (folder / str(piece)).touch()
    time.sleep(0.05)
    if piece == 7:
        raise Refused("piece 7 is bad")
    return piece


@pytest.mark.parametrize("n_workers", [1, 3])
def test_an_exception_reaches_the_caller_as_itself_and_cancels_the_rest(n_workers, tmp_path):
    results = []
    with pytest.raises(Refused, match="piece 7 is bad"):
        for result in workers.run(fails, range(400), (tmp_path, n_workers), workers=n_workers, seconds=60):
            results.append(result)
    assert results == list(range(len(results)))
    time.sleep(0.5)
    assert 7 <= len(list(tmp_path.glob("[0-9]*"))) < 100
    assert not any(cache_dir("workers").iterdir()), "what the processes shared is gone"


def test_where_the_caller_stops_so_do_the_processes(tmp_path):
    results = workers.run(met, [2] * 4000, tmp_path, workers=2, seconds=60)
    pids = {next(results) for _ in range(4)}
    (pid,) = {int(file.name.removeprefix("pid ")) for file in tmp_path.glob("pid *")} - {os.getpid()}
    process = psutil.Process(pid)
    results.close()
    assert pids <= {pid, os.getpid()}
    assert not psutil.wait_procs([process], timeout=10)[1]


def inner(folder, _):
    meet(folder, 2)
    return workers.available(), set(workers.run(slept, [0.01] * 3, None, workers=2, seconds=60)) == {os.getpid()}


def test_workers_do_not_start_workers(tmp_path):
    results = list(workers.run(inner, range(10), tmp_path, workers=2, seconds=60))
    assert results == [(1, True)] * 10


def threads(folder, _):
    meet(folder, 2)
    return torch.get_num_threads()


def test_every_piece_has_one_thread_and_threads_are_as_they_were(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert set(workers.run(threads, range(10), tmp_path, workers=2, seconds=60)) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def counted(folder, piece):
    """From the tenth piece on there are two workers, from the thirtieth one."""
    with atomic(folder / "share") as scratch:
        scratch.write_text("1" if piece < 10 or piece >= 30 else "2")
    if 15 <= piece < 30:
        meet(folder, 2)
    time.sleep(0.02)
    return os.getpid()


def test_workers_come_and_go_as_their_share_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("CTD_SHARE", str(tmp_path / "share"))
    (tmp_path / "share").write_text("1")
    monkeypatch.setattr("ctd.workers.work.STARTING", 0)
    monkeypatch.setattr("ctd.workers.work.HANDING_OVER", 0)
    pids = list(workers.run(counted, range(60), tmp_path))
    assert set(pids[:10]) == {os.getpid()}
    assert len(set(pids[10:32])) == 2
    assert set(pids[40:]) == {os.getpid()}


def test_ctd_workers_says_how_many(monkeypatch):
    monkeypatch.setattr("ctd.workers.share.cores", lambda: 8)
    assert workers.available() == 8
    monkeypatch.setenv("CTD_WORKERS", "3")
    assert workers.available() == 3
    monkeypatch.setenv("CTD_WORKERS", "1")
    assert set(workers.run(slept, [0.01] * 20, None, seconds=60)) == {os.getpid()}
    monkeypatch.setenv("CTD_WORKERS", "none")
    with pytest.raises(ValueError, match="CTD_WORKERS must be a whole number from 1 on, got 'none'"):
        list(workers.run(slept, [0.01], None))


def test_workers_are_shared_out_among_processes(monkeypatch):
    monkeypatch.setenv("CTD_WORKERS", "5")
    with workers.shared_out() as share:
        shares = []
        for processes in (0, 1, 2, 3, 9):
            share(processes)
            shares.append(workers.available())
    assert shares == [5, 5, 2, 1, 1]
    assert workers.available() == 5


def test_what_does_not_pickle_stays_in_this_process(capsys):
    assert set(workers.run(slept, [0.01] * 20, threading.Lock(), workers=2, seconds=60)) == {os.getpid()}
    assert "one process does the work" in "".join(capsys.readouterr())


class Unreadable:
    """Something that is written well but cannot be read, as a class of the caller's notebook."""

    def __setstate__(self, state):
        raise AttributeError("no such class here")

    def __getstate__(self):
        return {"state": 1}


def test_what_other_processes_cannot_read_stays_in_this_one(capsys):
    results = workers.run(slept, [0.1] * 400, Unreadable(), workers=2, seconds=60)
    output, until = "", time.monotonic() + 120
    while not output and time.monotonic() < until:
        assert next(results) == os.getpid()
        output = "".join(capsys.readouterr())
    assert "could not read what they need (AttributeError: no such class here)" in output
    results.close()


def listed(folder, piece):
    time.sleep(0.1)
    (inside,) = folder.iterdir()
    return stat.S_IMODE(inside.stat().st_mode), sorted(file.name for file in inside.iterdir())


def test_what_is_shared_lies_where_only_this_user_reads_it():
    left_behind = cache_dir("workers") / f"{2**22 + 1}-x"  # of a process that was killed
    left_behind.mkdir()
    results = list(workers.run(listed, range(3), cache_dir("workers"), workers=2, seconds=60))
    assert results == [(0o700, ["arrays", "pickle"])] * 3


def test_the_bar_moves_by_the_size_of_the_pieces(tmp_path):
    with tqdm(total=60, disable=False) as bar:
        list(workers.run(met, [2] * 30, tmp_path, workers=2, seconds=60, bar=bar, size=lambda piece: piece))
        assert bar.n == 60


SCRIPT = """
from pathlib import Path
from tests.test_workers import slept, touch_and_sleep
from ctd import workers
print("begins", flush=True)
list(workers.run(touch_and_sleep, [60] * 40, Path({folder!r}), workers=2, seconds=60))
"""


def touch_and_sleep(folder, seconds):
    (folder / str(os.getpid())).touch()
    time.sleep(seconds)


def met_under_a_bar(folder, others):
    """`met` in a process that has a progress bar, for which tqdm locks the screen."""
    with tqdm(total=1, file=io.StringIO()):
        return met(folder, others)


def wake_slowly():
    """`concurrent.futures` wakes an executor at Python's end only after that had the time to close by itself."""
    wake = executors._ThreadWakeup.wakeup

    def wakeup(self):
        if executors._global_shutdown and not self._closed:
            time.sleep(1)
            self._writer.send_bytes(b"")
        else:
            wake(self)

    executors._ThreadWakeup.wakeup = wakeup


UNFINISHED = """
import sys
from pathlib import Path
from tests.test_workers import met_under_a_bar, wake_slowly
from ctd import workers
from ctd.workers.pool import POOL
wake_slowly()
results = workers.run(met_under_a_bar, [2] * 100_000, Path({folder!r}), workers=2, seconds=60)
print(next(results) > 0, flush=True)
{then}
"""


@pytest.mark.parametrize("then", ["", "POOL.kill()"])
def test_a_run_that_nobody_ended_keeps_no_process_from_ending(then, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(UNFINISHED.format(folder=str(tmp_path), then=then))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_its_parent_or_runs_its_script_again(how, tmp_path):
    script = tmp_path / "script.py"
    (pids := tmp_path / "pids").mkdir()
    script.write_text(SCRIPT.format(folder=str(pids)))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe, heard = subprocess.PIPE, partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's `&` ignores it
    parent = subprocess.Popen(
        [sys.executable, script], stdout=pipe, stderr=pipe, text=True, env=environment, preexec_fn=heard
    )
    until = time.monotonic() + 120
    while len(list(pids.iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    (child,) = {int(path.name) for path in pids.iterdir()} - {parent.pid}
    process = psutil.Process(child)
    parent.send_signal(how)
    output, _ = parent.communicate(timeout=30)
    _, alive = psutil.wait_procs([process], timeout=30)
    assert not alive or alive[0].status() == psutil.STATUS_ZOMBIE
    assert output == "begins\n"
