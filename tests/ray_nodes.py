"""Nodes of a real Ray cluster on this machine, for tests that kill some of it."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from ctd.cache import ROOT

STORE = "80000000"  # bytes, the least that Ray takes
AGENT_PORTS = (  # a raylet gives an agent that chooses its own port 15 seconds, which a busy machine exceeds
    "--dashboard-agent-grpc-port", "--dashboard-agent-listen-port", "--metrics-export-port", "--runtime-env-agent-port",
)  # fmt: skip


def free_ports(n):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for bound in sockets:
            bound.bind(("127.0.0.1", 0))
        return [str(bound.getsockname()[1]) for bound in sockets]


def environment():
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths), "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": "300", "RAY_agent_register_timeout_ms": "300000",
        "RAY_worker_register_timeout_seconds": "300",
    }  # fmt: skip


class Nodes:
    """Nodes that `ray start` begins on this machine; all of their processes name a folder of the test's own."""

    def __init__(self, folder):
        (self.port,) = free_ports(1)
        self.folder, self.address = folder, f"127.0.0.1:{self.port}"

    def add(self, n_cpus):
        """Begin a node; the first one is the head."""
        how = ["--address", self.address]
        if not self.processes():
            how = ["--head", "--node-ip-address", "127.0.0.1", "--port", self.port, "--temp-dir", self.folder,
                   "--include-dashboard=false"]  # fmt: skip
        sizes = ["--num-cpus", str(n_cpus), "--object-store-memory", STORE, "--disable-usage-stats"]
        ports = [word for pair in zip(AGENT_PORTS, free_ports(len(AGENT_PORTS)), strict=True) for word in pair]
        begin = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", *how, *sizes, *ports]
        done = subprocess.run(begin, env=environment(), capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stderr[-2000:]

    def processes(self):
        running = []
        for process in psutil.process_iter(["cmdline", "create_time"]):
            if any(self.folder in word for word in process.info["cmdline"] or []):
                running.append(process)
        return sorted(running, key=lambda process: process.info["create_time"])

    def workers(self):
        """Processes that do a piece of work now."""
        return [process for process in psutil.process_iter(["cmdline"])
                if "ray::_work" in " ".join(process.info["cmdline"] or []) and self._is_ours(process)]  # fmt: skip

    def _is_ours(self, process):
        with suppress(psutil.NoSuchProcess):
            return any(self.folder in word for parent in process.parents() for word in parent.cmdline())
        return False

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
