"""Texts and heads on real nodes of Ray, of which a process and a machine are killed: no bit of the results differs."""

import pickle
import subprocess
import sys
import time

import pytest

from tests.pool_work import ROWS
from tests.ray_nodes import environment, nodes

pytest.importorskip("ray", reason="Ray is not installed: pip install 'ctd[cluster]'")
pytestmark = pytest.mark.slow

LONGEST = 1800  # seconds, on a machine that does something else, too


def begin(folder, name, **settings):
    """Start the work with an empty cache; its results lie in the file `name`."""
    variables = environment() | {"CTD_CACHE": str(folder / f"cache-{name}"), "CTD_DTYPE": "float32", **settings}
    command = [sys.executable, "-m", "tests.pool_work", str(folder / name)]
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True)


def wait_for_line(running, line):
    """Wait until it says so; Ray's own lines, of a worker that died, may come before."""
    assert line in iter(running.stdout.readline, ""), f"it ended without {line!r}"


def wait_for_work(cluster, running):
    ends = time.monotonic() + LONGEST
    while not cluster.workers() and time.monotonic() < ends:
        assert running.poll() is None, "it ended before anything was killed"
    return cluster.workers()


def test_a_killed_process_and_a_killed_node_change_no_bit(tmp_path):
    alone = begin(tmp_path, "alone", CTD_WORKERS="1")
    assert alone.wait(LONGEST) == 0
    with nodes(1, 1) as cluster:
        running = begin(tmp_path, "nodes", CTD_RAY=cluster.address)
        wait_for_line(running, "writing\n")
        wait_for_work(cluster, running)[0].kill()
        wait_for_line(running, "recording\n")
        wait_for_work(cluster, running)
        assert cluster.kill_last() >= 2, "the raylet, and a worker"
        assert running.wait(LONGEST) == 0
    texts, heads = pickle.loads((tmp_path / "alone").read_bytes())
    assert len(texts) == ROWS
    assert len({text for text, _ in texts}) > ROWS // 2, "texts that could differ"
    assert len(heads) > 2
    assert (tmp_path / "nodes").read_bytes() == (tmp_path / "alone").read_bytes()
