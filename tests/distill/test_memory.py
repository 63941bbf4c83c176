"""Freed memory is kept for the next step inside, and given back at the end."""

import ctypes
import resource
import sys

import numpy as np
import pytest

from ctd.distill import memory


def faults_of_steps(n=20):
    """Pages that the system had to clear for steps that take 64 MiB each and free them."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(n):
        np.ones(2**23)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="of glibc alone")
def test_steps_take_the_memory_of_the_step_before():
    outside = faults_of_steps()
    with memory.keep_freed():
        np.ones(2**23)
        inside = faults_of_steps()
    assert inside < outside / 10
    assert faults_of_steps() > outside / 2


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with memory.keep_freed():
        pass
