"""Notebooks side by side: as many at a time as there are cores, each after those that it needs.

Notes: each kernel computes on one thread, so that none waits for another's. `ctd.book.chapters.NEEDS` says what comes
before what, and which begins first.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ctd import hardware, workers
from ctd.book import chapters, kernel, preloaded, room, runs
from ctd.book.kernel import KernelDied, RunFailed
from ctd.book.preloaded import ONE_THREAD
from ctd.book.run_folder import RunFolder
from ctd.book.runs import Plan

POLL = 0.5  # seconds


@dataclass(frozen=True)
class Outcome:
    """What became of a notebook.

    stem: its name; of one that runs with several settings, the name of the run's folder.
    run: executed or kept; None where it failed or was not begun.
    error: one line that says why there is no run.
    """

    stem: str
    run: RunFolder | None = None
    error: str = ""


def execute(
    plans: Sequence[Plan],
    force: bool = False,
    jobs: int = 0,
    on_begin: Callable[[str], None] = lambda stem: None,
    retries: int = 0,
) -> Iterator[Outcome]:
    """Execute plans, and yield each outcome as soon as it is known; unchanged runs are kept, and come first.

    Where a notebook fails, the others go on, except the ledger, which reads the results of all.

    force: execute what is unchanged, too.
    jobs: how many notebooks at a time; 0 for `default_jobs()`. Fewer run where memory is short.
    on_begin: called with the name of each notebook that begins.
    retries: how often a notebook whose kernel died begins again.
    Raises what `room.require` and `runs.execute` raise, except RunFailed; and KeyboardInterrupt, after every kernel has
    ended.
    """
    by_name = named(plans)
    unchanged = {} if force else {name: run for name, plan in by_name.items() if (run := runs.unchanged_run(plan))}
    waiting = {name: plan for name, plan in by_name.items() if name not in unchanged}
    if waiting.keys() - {chapters.LEDGER}:  # what it reads will change
        waiting |= {name: plan for name, plan in by_name.items() if name == chapters.LEDGER}
        unchanged.pop(chapters.LEDGER, None)
    room.require(list(waiting.values()))
    yield from (Outcome(stem, run) for stem, run in unchanged.items())
    preload(list(waiting.values()))
    jobs = min(jobs or default_jobs(), len(waiting))
    if jobs > 1:
        yield from _side_by_side(waiting, force, jobs, on_begin, retries)
        return
    failed: list[str] = []
    for stem, plan in waiting.items():
        on_begin(stem)
        outcome = execute_one(stem, plan, force, failed, retries)
        failed += [stem] if outcome.error else []
        yield outcome


def named(plans: Sequence[Plan]) -> dict[str, Plan]:
    """Plans by the name of their notebook; where a notebook has several, by the name of their folder."""
    several = {stem for stem, n in Counter(plan.notebook.stem for plan in plans).items() if n > 1}
    return {plan.folder.name if plan.notebook.stem in several else plan.notebook.stem: plan for plan in plans}


def preload(plans: Sequence[Plan]) -> None:
    """Begin to import what kernels need, where that serves several; it goes on beside this process."""
    if len(plans) > 1:
        preloaded.start(kernel.kernel_environment(Path.cwd(), plans[0].parameters["seed"]))


def default_jobs() -> int:
    """As many as there are cores (CTD_WORKERS, where it is set); 1 beside an accelerator, whose memory is shared."""
    return 1 if preloaded.has_accelerator() else workers.available()


def order(stems: Sequence[str]) -> list[str]:
    """Names of notebooks in the order in which they begin; those that the book does not know come last."""
    known = list(chapters.NEEDS)
    return sorted(stems, key=lambda stem: (known.index(stem) if stem in known else len(known), stem))


def _side_by_side(
    waiting: dict[str, Plan], force: bool, jobs: int, on_begin: Callable[[str], None], retries: int
) -> Iterator[Outcome]:
    running: dict[Future[Outcome], str] = {}
    failed: list[str] = []
    memory = _Memory(waiting)
    with workers.shared_out() as share, one_thread(), ThreadPoolExecutor(jobs) as threads:
        try:
            while waiting or running:
                unfinished = {*waiting, *running.values()}
                for stem in order(list(waiting)):
                    ready = not unfinished & set(chapters.NEEDS.get(stem, ()))
                    if ready and len(running) < jobs and memory.suffices(stem, running.values()):
                        on_begin(stem)
                        running[threads.submit(execute_one, stem, waiting.pop(stem), force, failed, retries)] = stem
                        share(len(running))
                done, _ = wait(running, POLL, FIRST_COMPLETED)
                for future in done:
                    del running[future]
                    outcome = future.result()
                    failed += [outcome.stem] if outcome.error else []
                    share(len(running))
                    yield outcome
        except BaseException:  # an interrupt too
            while wait(running, POLL).not_done:
                kernel.end_all()
            raise


def execute_one(stem: str, plan: Plan, force: bool = False, failed: Sequence[str] = (), retries: int = 0) -> Outcome:
    """Execute a plan, and return a failure as an outcome, too.

    stem: its name.
    force: execute it where it is unchanged, too.
    failed: those that failed before it, whose results the ledger cannot read.
    retries: how often it begins again where its kernel died.
    """
    if stem == chapters.LEDGER:
        if failed:
            return Outcome(stem, error=f"{stem}: not begun, for it reads the results of {', '.join(failed)}")
        plan = runs.plan(plan.notebook, plan.profile, plan.overrides, plan.folder)
    try:
        return Outcome(stem, runs.execute(plan, force))
    except KernelDied as error:
        if not retries:
            return Outcome(stem, error=str(error))
        return execute_one(stem, plan, force, failed, retries - 1)
    except RunFailed as error:
        return Outcome(stem, error=str(error))


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for each kernel that is started meanwhile."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


class _Memory:
    """Whether there is memory for another notebook, by what each took in its last run."""

    def __init__(self, plans: Mapping[str, Plan]) -> None:
        self.expected = {name: room.expected_mib(plan) for name, plan in plans.items()}
        self.available = hardware.memory()[1] / 2**20

    def suffices(self, stem: str, running: Collection[str]) -> bool:
        """Whether a notebook has room beside those that run; the first one always has."""
        taken = sum(self.expected[other] for other in running)
        return not running or taken + self.expected[stem] <= self.available
