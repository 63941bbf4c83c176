"""From nothing to a book: data, label index, notebooks, site; with what each stage and each notebook took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import typer

from ctd.book import notebook_files, progress, room, runs, side_by_side
from ctd.book.chapters import LEDGER
from ctd.book.markdown import duration
from ctd.book.side_by_side import Outcome
from ctd.book.site import build
from ctd.cache import ROOT

SETUP_SECONDS = ROOT / ".venv" / ".setup-seconds"


@dataclass
class Stages:
    """How long each stage took.

    took: seconds and a remark ("unchanged, kept") by the name of the stage, in order.
    """

    took: dict[str, tuple[float, str]] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[list[str]]:
        """Time a block under a name; what the block appends to the list becomes the remark."""
        typer.echo(f"== {name}", err=True)
        start, remarks = time.perf_counter(), list[str]()
        yield remarks
        self.took[name] = time.perf_counter() - start, ", ".join(remarks)

    def rows(self) -> list[tuple[str, str, str]]:
        """Stage, minutes and seconds, remark. The total is last, without setup, which was done before."""
        total = sum(seconds for name, (seconds, _) in self.took.items() if name != "setup")
        shown = [(name, duration(seconds), remark) for name, (seconds, remark) in self.took.items()]
        return [*shown, ("all but setup", duration(total), "")]


def make_book(profile: str, out: Path, jobs: int = 0) -> tuple[Path | None, Stages, list[Outcome]]:
    """Prepare data and indexes, run every notebook under the profile, and build the site.

    out: folder that gets `html/`.
    jobs: notebooks side by side; 0 for `side_by_side.default_jobs()`.
    Returns the path of the first page, None where a notebook failed; the stages; and what became of each notebook.
    Raises what the stages raise; what was done before stays.
    """
    stages = Stages()
    if SETUP_SECONDS.is_file():
        stages.took["setup"] = float(SETUP_SECONDS.read_text()), "when .venv was made"
    plans = [runs.plan(notebook, profile) for notebook in notebook_files.notebooks()]
    changed = [plan for plan in plans if not runs.unchanged_run(plan) and plan.notebook.stem != LEDGER]
    if changed:
        room.require(changed)
        side_by_side.preload(changed)
        from ctd.book import prepare  # it takes seconds to import

        needed = [plan.parameters for plan in changed]
        with stages.stage("data"):
            tasks = prepare.tasks(needed)
        with stages.stage("label index"):
            prepare.indexes(needed, tasks)
        del tasks
        with stages.stage("teachers"):
            prepare.teachers(needed)
    with stages.stage("notebooks") as remarks:
        outcomes = list(progress.shown(plans, jobs=jobs))
        n_unchanged = sum(outcome.run is not None and outcome.run.kept for outcome in outcomes)
        remarks += [f"{n_unchanged} unchanged, kept"] * bool(n_unchanged)
    if any(outcome.error for outcome in outcomes):
        return None, stages, outcomes
    with stages.stage("explorer"):
        from ctd.book.explorer import make  # it takes seconds to import

        explorer = make.for_book(profile)
    with stages.stage("site") as remarks:
        page, is_kept = build(profile, out=out, explorer=explorer)
        remarks += ["unchanged, kept"] * is_kept
    return page, stages, outcomes
