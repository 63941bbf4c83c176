"""Students side by side end as those taught in turn, and no process outlives its parent."""

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, replace
from types import SimpleNamespace

import psutil
import pytest
import torch

from ctd.distill import pool
from ctd.distill.experiment import Experiment
from ctd.distill.losses import Weights
from ctd.distill.methods import Arm
from tests.distill.conftest import COT, FULL, PLAN


def test_runs_side_by_side_end_as_one_after_the_other(experiment, tmp_path, monkeypatch):
    alone = pool.run(experiment, [COT, FULL], [3], tmp_path / "alone", workers=1)
    monkeypatch.setattr(pool, "STARTING", 1)
    beside = pool.run(experiment, [COT, FULL], [3], tmp_path / "beside", workers=2)
    for one, other in zip(alone, beside, strict=True):
        assert one.loss == other.loss
        assert one.cots == other.cots
    assert not list((tmp_path / "beside").glob(".experiment*")), "what the processes shared is gone"


def test_two_processes_that_want_the_same_student_teach_it_once(experiment, tmp_path):
    spawn = multiprocessing.get_context("spawn")
    with (
        pool.on_disk(experiment, tmp_path) as shared,
        ProcessPoolExecutor(2, spawn, pool.begin, (shared, tmp_path)) as processes,
    ):
        for taught in [processes.submit(pool.teach_here, COT, 5) for _ in range(2)]:
            taught.result()
    (outcome,) = pool.run(experiment, [COT], [5], tmp_path)
    assert outcome.steps == 3


PARENT = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
import torch
from ctd.distill import pool

if __name__ == "__main__":
    torch.save(None, experiment := Path(sys.argv[1]))
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), pool.begin, (experiment, experiment.parent))
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(600)
"""


def test_students_on_an_accelerator_are_fewer_than_the_cores_of_its_machine(monkeypatch):
    monkeypatch.setattr(pool.os, "sched_getaffinity", lambda _: set(range(64)))
    on_gpu, on_cpu = (SimpleNamespace(device=torch.device(place)) for place in ("cuda", "cpu"))
    assert pool._side_by_side(on_gpu) == pool.ON_GPU < pool._side_by_side(on_cpu) == 64


def test_processes_end_when_the_one_that_began_them_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, script, tmp_path / "experiment.pt"], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    assert child.is_running()
    parent.kill()
    parent.wait()
    gone, alive = psutil.wait_procs([child], timeout=30)
    ended = gone or alive[0].status() == psutil.STATUS_ZOMBIE
    parent.stdout.close()
    if not ended:
        child.kill()
    assert ended


def test_where_one_student_fails_those_that_wait_do_not_begin(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "STARTING", 1)
    bad = Arm("bad", "mechanistic", Weights())
    broken = replace(experiment, plan=replace(PLAN, n_heads=40))  # more heads than there are
    with pytest.raises(ValueError, match="k must be between 1 and 36"):
        pool.run(broken, [bad], range(6), tmp_path, workers=2)
    assert len(list(tmp_path.glob("*/outcome.json"))) == 0
    assert not list(tmp_path.glob(".experiment*"))


class TooLarge(Experiment):
    """A experiment that ends every process which reads it, as the kernel does where memory is short."""

    def __setstate__(self, state):
        os._exit(9)


def test_where_processes_are_killed_fewer_go_on(experiment, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pool, "STARTING", 1)
    large = TooLarge(**{field.name: getattr(experiment, field.name) for field in fields(experiment)})
    found = pool.run(large, [COT], [0, 1], tmp_path, workers=2)
    assert [one.seed for one in found] == [0, 1]
    assert "most often for want of memory: going on with 1 at a time in place of 2" in "".join(capsys.readouterr())
    assert not list(tmp_path.glob(".experiment*"))


def test_threads_are_as_they_were(experiment, tmp_path):
    before = torch.get_num_threads()
    pool.run(experiment, [COT], [9], tmp_path, workers=1)
    assert torch.get_num_threads() == before


def test_arms_of_one_name_are_refused(experiment, tmp_path):
    with pytest.raises(ValueError, match="arms need names of their own, got cot, cot"):
        pool.run(experiment, [COT, COT], [0], tmp_path)
