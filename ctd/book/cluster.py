"""Notebooks on a Ray cluster: Ray places each one, and begins it again where its process or its machine dies.

Notes: a node executes a notebook in a folder of its own and sends the run back; only the calling process writes below
`runs/`. So the nodes need no common disk, and a notebook that was begun twice leaves one run. Every node needs the same
ctd, notebooks and data, which it compares by the parts of the run's key.
"""

from __future__ import annotations

import io
import os
import platform
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ctd import ray_cluster
from ctd.book import kernel, looks, preloaded, runs, side_by_side
from ctd.book.run_folder import RunFolder
from ctd.book.runs import KEY_PARTS, Plan
from ctd.book.side_by_side import POLL, Outcome
from ctd.cache import ROOT, atomic

CARRIED = ("CTD_DTYPE", "CTD_TEXTS")  # settings of the caller that a node takes over


def execute(
    plans: Sequence[Plan],
    address: str,
    jobs: int = 0,
    gpus: float = 0,
    on_begin: Callable[[str], None] = lambda name: None,
    retries: int = 0,
) -> Iterator[Outcome]:
    """Execute plans on a cluster, and yield each outcome when it is known: first of what is unchanged, which is kept.

    Each takes one processor of the cluster. Where one fails, the others go on.

    address: "auto" for the cluster that this machine belongs to, or one such as "ray://host:10001".
    jobs: how many at a time; 0 for as many as the cluster has room for.
    gpus: how many GPUs of the cluster each notebook takes.
    on_begin: called with the name of each plan that has begun on a node.
    retries: how often a plan begins again whose kernel, process or machine died.
    Raises what `ray_cluster.connect` raises, and KeyboardInterrupt; what is finished is then kept.
    """
    waiting: dict[str, Plan] = {}
    for name, plan in side_by_side.named(plans).items():
        if run := runs.unchanged_run(plan):
            yield Outcome(name, run)
        else:
            waiting[name] = plan
    if waiting:
        ray = ray_cluster.connect(address)
        try:
            yield from _on_cluster(ray, waiting, jobs or len(waiting), gpus, on_begin, retries)
        finally:
            ray.shutdown()  # which ends what still runs


def _on_cluster(
    ray: Any, waiting: dict[str, Plan], jobs: int, gpus: float, on_begin: Callable[[str], None], retries: int
) -> Iterator[Outcome]:
    begun = ray.remote(_Begun).options(num_cpus=0, max_restarts=-1).remote()
    task = ray.remote(_on_node).options(num_cpus=1, num_gpus=gpus, max_retries=retries)
    environment = {name: os.environ[name] for name in CARRIED if name in os.environ}
    running: dict[Any, tuple[str, Plan]] = {}
    names_begun = begun.names.remote()
    while waiting or running:
        while waiting and len(running) < jobs:
            name = next(iter(waiting))
            plan = waiting.pop(name)
            running[task.remote(name, _portable(plan), environment, retries, begun)] = name, plan
        done, _ = ray.wait(list(running), timeout=POLL)
        if ray.wait([names_begun], timeout=0)[0]:
            with suppress(ray.exceptions.RayError):  # its machine died; Ray begins it anew elsewhere
                for name in {name for name, _ in running.values()}.intersection(ray.get(names_begun)):
                    on_begin(name)
            names_begun = begun.names.remote()
        for reference in done:
            name, plan = running.pop(reference)
            try:
                error, packed = ray.get(reference)
            except ray.exceptions.RayError as died:
                reason = " ".join(str(died).split())[:300]
                yield Outcome(name, error=f"{name}: its process died {retries + 1} times ({reason})")
            else:
                yield _kept(name, plan, error, packed)


def _portable(plan: Plan) -> Plan:
    """The plan with its notebook by its place in the repository, if it lies there: nodes may have that elsewhere."""
    inside = plan.notebook.is_relative_to(ROOT)
    return replace(plan, notebook=plan.notebook.relative_to(ROOT)) if inside else plan


def _kept(name: str, plan: Plan, error: str, packed: bytes) -> Outcome:
    """Write what a node sent: a finished run into the plan's folder, the remains of a failed one beside it."""
    failed = plan.folder.with_name(f"{plan.folder.name}.failed")
    shutil.rmtree(failed, ignore_errors=True)
    if not packed:
        return Outcome(name, error=error)
    with atomic(failed if error else plan.folder) as scratch:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(scratch, filter="data")
        if not error:
            looks.append(looks.read(scratch / looks.FILE), scratch / looks.FILE, before=plan.folder / looks.FILE)
    return Outcome(name, error=error) if error else Outcome(name, RunFolder(plan.folder))


class _Begun:
    """Names of what has begun on any node, for the view of the caller."""

    def __init__(self) -> None:
        self.new: list[str] = []

    def add(self, name: str) -> None:
        self.new.append(name)

    def names(self) -> list[str]:
        names, self.new = self.new, []
        return names


def _on_node(name: str, plan: Plan, environment: dict[str, str], retries: int, begun: Any) -> tuple[str, bytes]:
    """Execute a plan on this node.

    Returns what went wrong, in one line, and the packed run, or what there is of it; no bytes where it did not begin.
    """
    begun.add.remote(name)
    os.environ.update(environment, CTD_WORKERS="1")
    os.environ.pop("CTD_RAY", None)  # pieces of a cell would wait for the processors that cells hold
    with TemporaryDirectory(prefix="ctd-") as place, side_by_side.one_thread():
        try:
            here = _plan_here(plan, Path(place) / plan.folder.name)
            preloaded.start(kernel.kernel_environment(Path(place), plan.parameters["seed"]))
            outcome = side_by_side.execute_one(name, here, retries=retries)
        except (ValueError, OSError, MemoryError) as error:
            return f"{name} on {platform.node()}: {error}", b""
        folder = here.folder.with_name(f"{here.folder.name}.failed") if outcome.error else here.folder
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(folder, ".")
        return outcome.error.replace(place, str(plan.folder.parent)), packed.getvalue()


def _plan_here(plan: Plan, folder: Path) -> Plan:
    """The same plan with this node's files, into a folder. Raises ValueError or OSError where they are not the same."""
    here = runs.plan(ROOT / plan.notebook, plan.profile, plan.overrides, folder)
    if other := [part.removesuffix("_hash") for part in KEY_PARTS if here.parts[part] != plan.parts[part]]:
        raise ValueError(f"not the caller's {' and '.join(other)}: every node needs the same ctd, notebooks and data")
    return here
