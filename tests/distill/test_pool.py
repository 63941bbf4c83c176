"""Students side by side end as those taught in turn."""

import os
from dataclasses import fields, replace
from types import SimpleNamespace

import pytest
import torch

from ctd import workers
from ctd.cache import cache_dir
from ctd.distill import pool
from ctd.distill.experiment import Experiment
from ctd.distill.losses import Weights
from ctd.distill.methods import Arm
from tests.distill.conftest import COT, FULL, PLAN


def test_runs_side_by_side_end_as_one_after_the_other(experiment, tmp_path, monkeypatch):
    alone = pool.run(experiment, [COT, FULL], [3], tmp_path / "alone", n_workers=1)
    monkeypatch.setattr(pool, "STEP_SECONDS", 20)
    beside = pool.run(experiment, [COT, FULL], [3], tmp_path / "beside", n_workers=2)
    for expected, outcome in zip(alone, beside, strict=True):
        assert expected.loss == outcome.loss
        assert expected.cots == outcome.cots


def test_two_processes_that_want_the_same_student_teach_it_once(experiment, tmp_path):
    list(workers.run(pool.teach_one, [(COT, 5)] * 3, (experiment, tmp_path), workers=2, seconds=60))
    (outcome,) = pool.run(experiment, [COT], [5], tmp_path)
    assert outcome.steps == 3


def test_students_on_an_accelerator_are_fewer_than_the_cores_of_its_machine(monkeypatch):
    monkeypatch.setattr("ctd.workers.share.cores", lambda: 64)
    monkeypatch.delenv("CTD_WORKERS", raising=False)
    on_gpu, on_cpu = (SimpleNamespace(device=torch.device(place)) for place in ("cuda", "cpu"))
    assert (pool._most(on_gpu), pool._most(on_cpu)) == (pool.ON_GPU, 0)


def test_where_one_student_fails_those_that_wait_do_not_begin(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "STEP_SECONDS", 20)
    bad = Arm("bad", "mechanistic", Weights())
    broken = replace(experiment, plan=replace(PLAN, n_heads=40))  # more heads than there are
    with pytest.raises(ValueError, match="k must be between 1 and 36"):
        pool.run(broken, [bad], range(6), tmp_path, n_workers=2)
    assert len(list(tmp_path.glob("*/outcome.json"))) == 0
    assert not any(cache_dir("workers").glob(f"{os.getpid()}-*"))


class TooLarge(Experiment):
    """A experiment that ends every process which reads it, as the kernel does where memory is short."""

    def __setstate__(self, state):
        os._exit(9)


def test_where_processes_are_killed_fewer_go_on(experiment, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pool, "STEP_SECONDS", 20)
    large = TooLarge(**{field.name: getattr(experiment, field.name) for field in fields(experiment)})
    outcomes = pool.run(large, [COT], [0, 1], tmp_path, n_workers=2)
    assert [outcome.seed for outcome in outcomes] == [0, 1]
    assert "most often for want of memory: going on with 1 at a time in place of 2" in "".join(capsys.readouterr())
    assert not any(cache_dir("workers").glob(f"{os.getpid()}-*"))


def test_threads_are_as_they_were(experiment, tmp_path):
    before = torch.get_num_threads()
    pool.run(experiment, [COT], [9], tmp_path, n_workers=1)
    assert torch.get_num_threads() == before


def test_arms_of_one_name_are_refused(experiment, tmp_path):
    with pytest.raises(ValueError, match="arms need names of their own, got cot, cot"):
        pool.run(experiment, [COT, COT], [0], tmp_path)
