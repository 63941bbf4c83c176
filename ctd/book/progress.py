"""Notebooks as they run, on the command line: a line for each that begins or ends, and on a terminal what runs now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from ctd.book import cluster, results, side_by_side
from ctd.book.markdown import duration, memory
from ctd.book.runs import Plan
from ctd.book.side_by_side import Outcome

COLUMNS = ("notebook", "import", "load", "work", "total", "peak memory", "")


def shown(
    plans: Sequence[Plan],
    force: bool = False,
    jobs: int = 0,
    retries: int = 0,
    quiet: bool = False,
    on: str = "",
    gpus: float = 0,
) -> Iterator[Outcome]:
    """What `side_by_side.execute` yields, with a line about each notebook. Errors go to stderr at once.

    quiet: write every line to stderr.
    on: the address of a cluster, on which `cluster.execute` works instead.
    gpus: how many GPUs of the cluster each notebook takes.
    """
    console = Console(stderr=True)
    several = len(plans) > 1 and (bool(on) or (jobs or side_by_side.default_jobs()) > 1)
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True,
        disable=not (console.is_terminal and several),
    ) as live:  # fmt: skip
        running: dict[str, TaskID] = {}
        total = live.add_task(f"0 of {len(plans)} done")

        def begin(stem: str) -> None:
            if stem in running:  # again, where its machine died
                live.reset(running[stem])
            else:
                running[stem] = live.add_task(stem)
            if live.disable and len(plans) > 1:
                typer.echo(f"== {stem}", err=True)

        if on:
            outcomes = cluster.execute(plans, on, jobs, gpus, begin, retries)
        else:
            outcomes = side_by_side.execute(plans, force, jobs, begin, retries)
        for n_done, outcome in enumerate(outcomes, start=1):
            if outcome.stem in running:
                live.remove_task(running.pop(outcome.stem))
            live.update(total, description=f"{n_done} of {len(plans)} done")
            typer.echo(line(outcome), err=quiet or bool(outcome.error))
            yield outcome


def line(outcome: Outcome) -> str:
    """What became of a notebook, in one line, and in a second one why it could not answer its question."""
    if not outcome.run:
        return f"error: {outcome.error}"
    took = "unchanged, kept" if outcome.run.kept else f"done in {outcome.run.manifest['duration_s']:.1f} s"
    why = results.untestable(outcome.run.rows)
    return f"{outcome.stem}: {took} ({outcome.run.path})" + (f"\n  not testable: {why}" if why else "")


def rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """A row for each notebook, by `COLUMNS`: what its run took, which for one that was kept was when it was made."""
    table = []
    for outcome in sorted(outcomes, key=lambda outcome: outcome.stem):
        if outcome.run is None:
            table.append((outcome.stem, *[""] * (len(COLUMNS) - 2), "failed"))
            continue
        manifest = outcome.run.manifest
        parts = [manifest.get("timings", {}).get(part) for part in ("import_s", "load_s", "work_s")]
        seconds = ["" if part is None else duration(part) for part in parts]
        total, remark = duration(manifest["duration_s"]), "unchanged, kept" if outcome.run.kept else ""
        table.append((outcome.stem, *seconds, total, memory(manifest), remark))
    return table
