"""What models compute in follows from what was measured, once a machine, and a setting overrules it."""

import json

import pytest
import torch

from ctd import hardware, int8_matmul
from ctd.hardware import Speed
from ctd.reasoning import models


@pytest.fixture(autouse=True)
def unset(own_cache, monkeypatch):
    monkeypatch.delenv("CTD_DTYPE", raising=False)


def measured(reading, writing, others=9.0):
    """Speeds of a machine whose one thread is so many times as fast in bfloat16 as in float32."""
    gains = {"reading": reading, "writing": writing}
    alone = [
        Speed(work, name, 1, 100 * (gain if name == "bfloat16" else 1))
        for work, gain in gains.items()
        for name in hardware.DTYPES
    ]
    beside = [Speed(work, name, 2, others if name == "bfloat16" else 1) for work in gains for name in hardware.DTYPES]
    return alone + beside


@pytest.mark.parametrize(
    ("reading", "writing", "dtype"),
    [(2, 2, "bfloat16"), (0.6, 0.9, "float32"), (1.05, 1.05, "float32"), (1.2, 1.1, "bfloat16"), (0.5, 1.9, "float32")],
)
def test_bfloat16_is_chosen_where_one_thread_is_clearly_faster_in_it(monkeypatch, reading, writing, dtype):
    monkeypatch.setattr(hardware, "measure", lambda: measured(reading, writing))
    assert hardware.dtype() == dtype
    assert hardware.machine()["cpu_dtype"] == dtype


@pytest.mark.parametrize(
    ("gflops", "reading", "fast"),
    [(130, 0.6, True), (105, 0.6, False), (3, 0.6, False), (150, 2, False), (None, 1, False)],
)
def test_int8_is_chosen_where_it_was_measured_to_be_faster_than_all_others(monkeypatch, gflops, reading, fast):
    """Float32 does 100. On a processor without AVX-512, `torch._int_mm` was seen to do 3."""
    whole = [Speed("reading", "int8", 1, gflops)] if gflops else []
    monkeypatch.setattr(hardware, "measure", lambda: measured(reading, reading) + whole)
    assert hardware.int8_is_fast() == fast
    assert not hardware.int8_is_fast("cuda")
    monkeypatch.setenv("CTD_DTYPE", "float32")
    assert not hardware.int8_is_fast()


def test_a_machine_is_measured_once_until_it_is_asked_for_again(monkeypatch, own_cache):
    gains = iter((2, 0.5))
    monkeypatch.setattr(hardware, "measure", lambda: measured(gain := next(gains), gain))
    assert [hardware.dtype() for _ in range(3)] == ["bfloat16"] * 3
    hardware._kept.cache_clear()  # as in another process
    assert hardware.dtype() == "bfloat16"
    (file,) = (own_cache / "machine").iterdir()
    assert len(json.loads(file.read_text())) == 8
    hardware.speeds(again=True)
    assert hardware.dtype() == "float32"


def test_another_processor_or_torch_is_measured_anew(monkeypatch, own_cache):
    monkeypatch.setattr(hardware, "measure", lambda: measured(2, 2))
    hardware.speeds()
    for name, other in (("cpu", lambda: "another"), ("cores", lambda: 99), ("version", lambda _: "0")):
        monkeypatch.setattr(hardware, name, other)
        hardware.speeds()
    assert len(list((own_cache / "machine").iterdir())) == 4


def test_a_damaged_file_is_measured_anew(monkeypatch, own_cache):
    monkeypatch.setattr(hardware, "measure", lambda: measured(2, 2))
    hardware.speeds()
    (file,) = (own_cache / "machine").iterdir()
    hardware._kept.cache_clear()
    file.write_text("[{")
    assert hardware.dtype() == "bfloat16"
    assert json.loads(file.read_text())


def test_measuring_is_quick_says_something_and_leaves_the_threads_as_they_were():
    before = torch.get_num_threads()
    speeds = hardware.measure()
    assert {(speed.work, speed.dtype, speed.threads) for speed in speeds} == {
        (work, name, threads) for work in hardware.ROWS for name in hardware.DTYPES for threads in {1, hardware.cores()}
    } | ({("reading", "int8", 1)} if int8_matmul.is_available() else set())
    assert all(speed.gflops > 0.01 for speed in speeds)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("dtype", hardware.DTYPES)
def test_a_setting_overrules_what_was_measured_but_for_models_that_say_their_own(monkeypatch, dtype):
    monkeypatch.setattr(hardware, "measure", lambda: pytest.fail("nothing needs measuring"))
    monkeypatch.setenv("CTD_DTYPE", dtype)
    assert (hardware.dtype(), hardware.dtype("cuda")) == (dtype, dtype)
    assert models.PACKAGED[models.TEACHER].dtype == "auto"
    assert models.load("organism").model.dtype == torch.float32


def test_an_unknown_setting_is_refused(monkeypatch):
    monkeypatch.setenv("CTD_DTYPE", "int8")
    with pytest.raises(ValueError, match="CTD_DTYPE must be one of float32, bfloat16, got 'int8'"):
        hardware.dtype()
