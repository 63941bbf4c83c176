"""Kernels that begin with their libraries loaded: one process imports them, and each kernel is forked from it.

Notes: importing takes a kernel about 5 seconds of a processor, and a fork a tenth. The process that is forked has one
thread, for no other would be there after the fork, and has touched no accelerator.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from multiprocessing import forkserver
from pathlib import Path
from types import ModuleType
from typing import Any

from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from ctd.workers import piece

MODULES = (
    "ipykernel.kernelapp", "ipykernel.zmqshell", "ipykernel.debugger", "sqlite3", "pandas", "scipy.stats",
    "seaborn", "torch", "datasets", "faiss", "sklearn.cluster", "transformers",
    "transformers.models.llama.modeling_llama", "sentence_transformers", "peft", "accelerate", "ctd.book.setup",
    "ctd.book.report", "ctd.mechanism.patching", "ctd.distill.pool", "ctd.book.preloaded",
)  # fmt: skip
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_STARTING = threading.Lock()
PROVISIONER = "ctd-preloaded"
_seed: str | None = None  # PYTHONHASHSEED of the process that has the libraries; None where it was not started


def has_accelerator() -> bool:
    """Whether there is an accelerator of NVIDIA, found without touching it."""
    return Path("/dev/nvidiactl").exists()


def start(environment: Mapping[str, str]) -> None:
    """Start the process that imports the libraries, unless it runs; it ends with this one.

    Where forking is not safe (another system than Linux, a machine with an accelerator) nothing is started, and kernels
    import for themselves.
    environment: of kernels; libraries read some of it as they are imported.
    """
    global _seed
    if _seed is None and sys.platform == "linux" and not has_accelerator():
        multiprocessing.get_context("forkserver").set_forkserver_preload(list(MODULES))
        with _environment({**environment, **ONE_THREAD, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}), _no_interrupts():
            forkserver.ensure_running()
        _seed = environment["PYTHONHASHSEED"]


def wait() -> None:
    """Wait until the libraries are imported; a kernel that waited by itself might find its ports taken."""
    if _seed is not None:
        with _STARTING:
            process: Any = multiprocessing.get_context("forkserver").Process(target=int)
            _start(process)
            process.join()


def kernel_spec(environment: Mapping[str, str]) -> KernelSpec:
    """How a kernel is started with this environment: by a fork, if `start` was called with the same seed."""
    spec = get_kernel_dict() | {"env": dict(environment)}
    if _seed is not None and environment["PYTHONHASHSEED"] == _seed:
        provisioner = EntryPoint(PROVISIONER, f"{__name__}:Forked", KernelProvisionerFactory.GROUP_NAME)
        KernelProvisionerFactory.instance().provisioners[PROVISIONER] = provisioner
        spec["metadata"] = {"kernel_provisioner": {"provisioner_name": PROVISIONER}}
    return KernelSpec(resource_dir=RESOURCES, **spec)


class Forked(LocalProvisioner):
    """Starts a kernel as a fork of the process that has the libraries."""

    async def launch_kernel(self, cmd: list[str], **options: Any) -> Any:
        arguments = cmd[cmd.index("ipykernel_launcher") + 1 :]
        how = arguments, options["env"], options["cwd"], options["stdout"].name
        process: Any = _Forked(multiprocessing.get_context("forkserver").Process(target=_run_kernel, args=how))
        self.process, self.pid, self.pgid = process, process.pid, process.pid
        self.cwd = options["cwd"]
        return self.connection_info


class _Forked:
    """A process of multiprocessing with the methods of a `subprocess.Popen` that a provisioner calls."""

    stdin = stdout = stderr = None

    def __init__(self, process: Any) -> None:
        with _STARTING:
            _start(process)
        self.process, self.pid = process, process.pid
        self.terminate, self.kill = process.terminate, process.kill

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int | None:
        self.process.join()
        return self.process.exitcode

    def send_signal(self, signum: int) -> None:
        os.kill(self.pid, signum)


def _start(process: Any) -> None:
    """Start a process that does not import this one's main module."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        process.start()
    finally:
        sys.modules["__main__"] = main


def _run_kernel(arguments: list[str], environment: Mapping[str, str], folder: str, log: str) -> None:
    """Be a kernel: in a session of its own, as one that is started by itself."""
    from ipykernel.kernelapp import launch_new_instance

    os.setsid()
    piece.keep_no_semaphore()
    piece.end_with_parent()
    with open(log, "ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    launch_new_instance(argv=arguments)


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """What is started meanwhile does not see a Ctrl-C: this process ends it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
