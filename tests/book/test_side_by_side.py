"""Notebooks run side by side: in order, no more than asked for, and none for nothing; what goes wrong is said."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ctd.book import chapters, kernel, notebook_files, runs, side_by_side
from ctd.book.run_folder import RunFolder
from ctd.cache import ROOT
from tests.book.test_runs import SEED, write_notebook

STEMS = [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
PLAIN = f"from typing import Annotated\nfrom pydantic import Field\nseed: {SEED} = 3"
PROFILE = 'profile: Annotated[str, Field(description="whose runs are read")] = "default"'
RECORDS = """\
import os, sys
from ctd.book.runs import Recorder
run = Recorder.start(seed)
print(os.environ["OMP_NUM_THREADS"], open(os.environ["CTD_SHARE"]).read(), hash("a"), os.getcwd() == str(run.folder))
print("torch" in sys.modules)"""
WORKS = """\
import operator
from multiprocessing import active_children
from ctd import workers
print(list(workers.run(operator.mul, [1, 2, 3, 4], 2, workers=2, seconds=9)), len(active_children()))"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project, and the current directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    return tmp_path


@pytest.fixture
def book(project, monkeypatch):
    """Notebooks with the names of the book's. Executing one takes a moment, and is written down in `started`."""
    for stem in STEMS:
        write_notebook(project / "notebooks" / f"{stem}.ipynb", parameters=f"{PLAIN}\n{PROFILE}")
    state = Started()
    monkeypatch.setattr(runs, "execute", state.execute)
    return state


class Started:
    def __init__(self):
        self.running, self.done, self.most, self.failing, self.lock = set(), [], 0, set(), threading.Lock()

    def execute(self, plan, force=False):
        stem = plan.notebook.stem
        with self.lock:
            self.running.add(stem)
            self.most = max(self.most, len(self.running))
            assert set(chapters.NEEDS[stem]) <= set(self.done) | self.failing, f"{stem} began too early"
        time.sleep(0.02)
        with self.lock:
            self.running.discard(stem)
            self.done.append(stem)
        if stem in self.failing:
            raise kernel.RunFailed(f"{stem}: no")
        return RunFolder(plan.folder)


def plans():
    return [runs.plan(path) for path in notebook_files.notebooks()]


def test_what_a_notebook_needs_are_notebooks_with_lower_numbers():
    assert sorted(chapters.NEEDS) == STEMS
    assert all(need < stem for stem, needs in chapters.NEEDS.items() for need in needs)
    assert set(chapters.NEEDS[chapters.LEDGER]) == set(STEMS) - {chapters.LEDGER}


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_every_notebook_runs_once_after_those_it_needs(book, monkeypatch, jobs):
    monkeypatch.setattr("ctd.book.preloaded.start", lambda environment: None)
    outcomes = list(side_by_side.execute(plans(), jobs=jobs))
    assert sorted(outcome.stem for outcome in outcomes) == sorted(book.done) == STEMS
    assert book.most == jobs


def test_a_failure_does_not_stop_the_others_but_the_ledger(book, monkeypatch):
    monkeypatch.setattr("ctd.book.preloaded.start", lambda environment: None)
    book.failing = {STEMS[2]}
    outcomes = {outcome.stem: outcome.error for outcome in side_by_side.execute(plans(), jobs=2)}
    assert {stem: error for stem, error in outcomes.items() if error} == {
        STEMS[2]: f"{STEMS[2]}: no",
        chapters.LEDGER: f"{chapters.LEDGER}: not begun, for it reads the results of {STEMS[2]}",
    }


def test_little_memory_means_one_at_a_time(book, monkeypatch):
    monkeypatch.setattr("ctd.book.preloaded.start", lambda environment: None)
    monkeypatch.setattr("ctd.hardware.memory", lambda: (2**40, 2**20))
    assert len(list(side_by_side.execute(plans(), jobs=2))) == len(STEMS)
    assert book.most == 1


def test_an_error_of_another_kind_ends_what_runs(book, monkeypatch):
    monkeypatch.setattr("ctd.book.preloaded.start", lambda environment: None)
    ended = []
    monkeypatch.setattr(kernel, "end_all", lambda: ended.append(1))

    def execute(plan, force=False):
        if plan.notebook.stem == next(iter(chapters.NEEDS)):
            raise OSError("the disk is full")
        while not ended:
            time.sleep(0.01)

    monkeypatch.setattr(runs, "execute", execute)
    with pytest.raises(OSError, match="the disk is full"):
        list(side_by_side.execute(plans(), jobs=2))
    assert ended


def test_kernels_side_by_side_have_one_thread_their_libraries_and_their_own_folder(project):
    for number in (1, 2):
        write_notebook(project / "notebooks" / f"0{number}_some.ipynb", RECORDS, WORKS, "run.close()", parameters=PLAIN)
    write_notebook(project / "notebooks" / "03_bad.ipynb", "1 / 0", parameters=PLAIN)
    code = "from ctd.cli import app; app()"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "--all", "--jobs", "2"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1, done.stderr
    assert "error: 03_bad: cell [2] raised ZeroDivisionError: division by zero; see " in done.stderr
    assert sorted(line.split(":")[0] for line in done.stdout.splitlines()) == ["01_some", "02_some"], done.stderr
    hashes = set()
    for number in (1, 2):
        run = RunFolder(project / "runs" / f"0{number}_some" / "default")
        first, *others = run_text(run).splitlines()
        threads, share, a_hash, is_own = first.split()
        assert (threads, is_own) == ("1", "True")
        assert others == ["True", "[2, 4, 6, 8] 1"], "libraries are there, and work is shared out among processes"
        assert int(share) >= 1
        hashes.add(a_hash)
        timings = json.loads((run.path / "manifest.json").read_text())["timings"]
        assert list(timings) == ["import_s", "load_s", "work_s"]
        assert all(0 <= seconds < 300 for seconds in timings.values())
        assert not (run.path / kernel.KERNEL_LOG).exists()
    assert len(hashes) == 1, "hashes of strings depend on the seed alone"
    assert "ZeroDivisionError" in (project / "runs" / "03_bad" / "default.failed" / "03_bad.ipynb").read_text()


def run_text(run):
    cells = [cell for cell in notebook_files.read_notebook(run.notebook).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def test_an_interrupt_ends_every_kernel_and_leaves_nothing_half_made(project):
    for number in (1, 2):
        write_notebook(
            project / "notebooks" / f"0{number}_slow.ipynb",
            "import os, time\nopen('kernel.pid', 'w').write(str(os.getpid()))\ntime.sleep(600)",
            parameters=PLAIN,
        )
    process = subprocess.Popen(
        [sys.executable, "-c", "from ctd.cli import app; app()", "run", "--all", "--jobs", "2"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.time() + 120
    while len(pids := [path.read_text() for path in project.glob("runs/*/.*/kernel.pid")]) < 2 or not all(pids):
        assert time.time() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "error: interrupted: nothing half-made was kept, earlier runs are as they were"
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
    assert list(Path("runs").glob("*/*")) == []
