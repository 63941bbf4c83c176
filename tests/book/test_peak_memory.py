"""The memory of a process is seen with that of those that it started."""

import os
import subprocess
import sys
import time

import pytest

from ctd.book import peak_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "x = b'1' * (60 * 2**20); print('ready', flush=True); input()"],
                         stdin=subprocess.PIPE)
input()
child.communicate(b"\\n")
"""


def test_memory_of_a_child_counts_and_is_gone_with_it():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    parent.stdout.readline()
    assert 60 < peak_memory.held_mib(parent.pid) < 120
    parent.communicate(b"\n")
    assert peak_memory.held_mib(parent.pid) == 0


def test_what_processes_share_counts_once():
    before = peak_memory.held_mib(os.getpid())
    children = []
    for _ in range(2):
        if not (child := os.fork()):
            time.sleep(30)
            os._exit(0)
        children.append(child)
    try:
        assert peak_memory.held_mib(os.getpid()) < 1.5 * before, "counted for each process, it would be 3 times"
    finally:
        for child in children:
            os.kill(child, 9)
            os.waitpid(child, 0)


def test_the_most_that_was_seen_is_kept(monkeypatch):
    seen = iter([5.0, 9.0, 7.0])
    monkeypatch.setattr(peak_memory, "EVERY", 0.01)
    monkeypatch.setattr(peak_memory, "held_mib", lambda pid: next(seen, 0.0))
    pids = iter([None, 1])
    with peak_memory.watched(lambda: next(pids, 1)) as peak:
        time.sleep(0.3)
    assert peak.mib == 9
