"""`ctd sweep`: one notebook with every combination of some values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from ctd.book import notebook_files
from ctd.book.run_folder import RUNS, RunFolder
from ctd.cli.base import Jobs, Json, Profile, app, print_json

RETRIES = 2  # of a cell whose kernel died


@app.command(
    epilog="Example:  ctd sweep 01 grid.yml --profile smoke, where grid.yml holds  grid: {n_documents: [40, 80], seed: "
    "[0, 1, 2]}  and, if wanted,  exclude: [{n_documents: 80, seed: 2}]  and  include: [{n_documents: 200}]. On a "
    "cluster:  ctd sweep 10 grid.yml --on auto  (how to begin one: book/many_machines.md)"
)
def sweep(
    notebook: Annotated[str, typer.Argument(metavar="NOTEBOOK", help="Path, name or number.")],
    grid: Annotated[Path, typer.Argument(metavar="GRID", help="A YAML file with a list of values for each parameter.")],
    profile: Profile = "default",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the cells and the table; by default runs/NOTEBOOK.")
    ] = None,
    jobs: Jobs = 0,
    on: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Run the cells on this Ray cluster: auto, or ray://HOST:PORT.")
    ] = "",
    gpus: Annotated[float, typer.Option(min=0, help="GPUs for each cell, with --on.")] = 0,
    as_json: Json = False,
) -> None:
    """Run a notebook with every combination of some values, and collect the results in one table.

    Each combination is a cell, with a run of its own. All cells are checked before the first one runs. A finished cell
    never runs again; one whose kernel dies is tried again; one that fails does not stop the others. Ctrl-C keeps what
    is finished. With --on, Ray spreads the cells over its nodes and restarts those whose node dies; the results are
    the same.
    """
    from ctd.book import progress, side_by_side
    from ctd.book import sweep as sweeps

    if not math.isfinite(gpus):
        raise ValueError(f"--gpus must be a finite number, got {gpus:g}")
    if gpus and not on:
        raise ValueError(f"--gpus says what a cell takes of a cluster, got {gpus:g} without --on")
    path = notebook_files.find_notebook(notebook)
    cells = sweeps.read_grid(grid)
    plans = sweeps.plans(path, cells, profile, out)
    done: dict[str, RunFolder | None] = {}
    try:
        for outcome in progress.shown(plans, jobs=jobs, retries=RETRIES, quiet=as_json, on=on, gpus=gpus):
            done[outcome.stem] = outcome.run
    except KeyboardInterrupt:
        n_done = sum(run is not None for run in done.values())
        typer.echo(f"{n_done} of {len(plans)} cells are finished: the same command goes on with the others", err=True)
        raise
    rows = sweeps.table(cells, [done[name] for name in side_by_side.named(plans)])
    files = sweeps.write(rows, (out or RUNS / path.stem) / f"{profile}-{grid.stem}")
    if as_json:
        print_json(sweeps.records(rows))
    else:
        typer.echo(f"{len(rows):,} results of {len(plans)} cells: {' and '.join(map(str, files))}")
    if not all(done.values()):
        raise typer.Exit(1)
