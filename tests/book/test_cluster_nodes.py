"""A sweep on real nodes of Ray, of which one is killed: nothing is lost, nothing is there twice, no bit differs."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from ctd.cache import ROOT
from tests.book.students_sweep import N_CELLS, write_project

pytest.importorskip("ray", reason="Ray is not installed: pip install 'ctd[cluster]'")
pytestmark = pytest.mark.slow

LONGEST = 3600  # seconds of a sweep, on a machine that does something else, too
STORE = "80000000"  # bytes, the least that Ray takes


def environment():
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths), "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": "300", "RAY_agent_register_timeout_ms": "300000",
    }  # fmt: skip


class Nodes:
    """Nodes that `ray start` begins on this machine; all of their processes name a folder of the test's own."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])
        self.folder, self.address = folder, f"127.0.0.1:{self.port}"

    def add(self, n_cpus):
        """Begin a node; the first one is the head."""
        how = ["--address", self.address]
        if not self.processes():
            how = ["--head", "--node-ip-address", "127.0.0.1", "--port", self.port, "--temp-dir", self.folder,
                   "--include-dashboard=false"]  # fmt: skip
        sizes = ["--num-cpus", str(n_cpus), "--object-store-memory", STORE, "--disable-usage-stats"]
        begin = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", *how, *sizes]
        done = subprocess.run(begin, env=environment(), capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-2000:]

    def processes(self):
        found = []
        for process in psutil.process_iter(["cmdline", "create_time"]):
            if any(self.folder in word for word in process.info["cmdline"] or []):
                found.append(process)
        return sorted(found, key=lambda process: process.info["create_time"])

    def kill_last(self):
        """SIGKILL the raylet that came last, and all processes beneath it; returns how many."""
        raylet = [process for process in self.processes() if Path(process.info["cmdline"][0]).name == "raylet"][-1]
        lost = [raylet, *raylet.children(recursive=True)]
        for process in lost:
            process.kill()
        return len(lost)


@contextmanager
def nodes(*cpus):
    folder = tempfile.mkdtemp(prefix="ctd-ray-", dir="/tmp")  # paths of sockets must be short
    begun = Nodes(folder)
    try:
        for n_cpus in cpus:
            begun.add(n_cpus)
        yield begun
    finally:
        for process in begun.processes():
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)


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


def check(project, out, serial, told):
    done = Counter(line.split(": done in")[0] for line in told.splitlines() if ": done in" in line)
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
        told, _ = running.communicate(timeout=LONGEST)
    assert running.returncode == 0
    check(project, out, serial, told)


def test_a_node_that_is_killed_costs_no_result(project, serial):
    with nodes(1, 1) as cluster:
        running = sweep(project, "killed", "--on", cluster.address)
        ends = time.monotonic() + LONGEST
        while len(list((project / "killed").glob("*/manifest.json"))) < N_CELLS // 4 and time.monotonic() < ends:
            assert running.poll() is None
            time.sleep(0.2)
        assert cluster.kill_last() >= 2, "the raylet, and a worker"
        told, _ = running.communicate(timeout=LONGEST)
    assert running.returncode == 0
    check(project, "killed", serial, told)
