"""A sweep on real nodes of Ray, of which one is killed: nothing is lost, nothing is there twice, no bit differs."""

import subprocess
import sys
import time
from collections import Counter

import pytest

from tests.book.students_sweep import N_CELLS, write_project
from tests.ray_nodes import environment, nodes

pytest.importorskip("ray", reason="Ray is not installed: pip install 'ctd[cluster]'")
pytestmark = pytest.mark.slow

LONGEST = 3600  # seconds of a sweep, on a machine that does something else, too


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return write_project(tmp_path_factory.mktemp("sweep"))


def sweep(project, out, *words):
    command = [sys.executable, "-m", "ctd.cli", "sweep", "01", "grid.yml", "--out", out, *words]
    return subprocess.Popen(command, cwd=project, env=environment(), stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def serial(project):
    """The table of a run without Ray, one cell after another."""
    assert sweep(project, "serial", "--jobs", "1").wait(LONGEST) == 0
    return table(project, "serial")


def table(project, out):
    return (project / out / "default-grid.csv").read_bytes()


def check(project, out, serial, output):
    done = Counter(line.split(": done in")[0] for line in output.splitlines() if ": done in" in line)
    assert len(done) == N_CELLS
    assert set(done.values()) == {1}
    folders = [folder.name for folder in (project / out).iterdir() if folder.is_dir()]
    assert set(done) == set(folders), "no half of a run, and none that failed"
    assert table(project, out) == serial


@pytest.mark.parametrize("n_workers", [1, 2, 4])
def test_the_number_of_workers_changes_no_bit(project, serial, n_workers):
    out = f"workers-{n_workers}"
    with nodes(n_workers) as cluster:
        running = sweep(project, out, "--on", cluster.address)
        output, _ = running.communicate(timeout=LONGEST)
    assert running.returncode == 0
    check(project, out, serial, output)


def test_a_node_that_is_killed_costs_no_result(project, serial):
    with nodes(1, 1) as cluster:
        running = sweep(project, "killed", "--on", cluster.address)
        ends = time.monotonic() + LONGEST
        while len(list((project / "killed").glob("*/manifest.json"))) < N_CELLS // 4 and time.monotonic() < ends:
            assert running.poll() is None
            time.sleep(0.2)
        assert cluster.kill_last() >= 2, "the raylet, and a worker"
        output, _ = running.communicate(timeout=LONGEST)
    assert running.returncode == 0
    check(project, "killed", serial, output)
