"""From nothing to a book: data, label index, notebooks, site; with what each stage took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import typer

from ctd.book import ledger, notebook_files, runs
from ctd.book.markdown import duration
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


def make_book(profile: str, out: Path) -> tuple[Path, Stages]:
    """Prepare data and indexes, run every notebook under the profile, and build the site.

    out: folder that gets `html/`.
    Returns the path of the first page, and the stages. Raises what the stages raise; what was done before stays.
    """
    from ctd.book import prepare

    stages = Stages()
    if SETUP_SECONDS.is_file():
        stages.took["setup"] = float(SETUP_SECONDS.read_text()), "when .venv was made"
    with stages.stage("data"):
        tasks = prepare.tasks(profile)
    with stages.stage("label index"):
        prepare.indexes(profile, tasks)
    del tasks
    with stages.stage("teachers"):
        prepare.teachers(profile)
    for notebook in notebook_files.notebooks():
        with stages.stage(notebook.stem) as remarks:
            reads_runs = notebook.stem == ledger.STEM  # its key does not see them change
            if runs.run(notebook, profile, force=reads_runs).kept:
                remarks.append("unchanged, kept")
    with stages.stage("site"):
        page = build(profile, out=out)
    return page, stages
