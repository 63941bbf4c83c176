"""What does a sweep save over papermill? The same cells by papermill, one after the other, and by `ctd sweep`.

The cells are smoke runs of chapter 01. Papermill starts a kernel for each of them, which imports everything anew;
`ctd sweep` forks its kernels from a process that has imported it, and runs as many at a time as there are workers.
Times are by the clock, because workers wait for each other: run this on a quiet machine.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import papermill
import typer
import yaml

from ctd import hardware
from ctd.book import benchmarks, notebook_files, sweep
from ctd.book.runs import Plan

NOTEBOOK, PROFILE = "01_retrieval_shortlists", "smoke"
PEER = "papermill, one after the other"
OURS = "ctd sweep"


def by_papermill(plans: Sequence[Plan], folder: Path) -> None:
    """Execute the notebook for each cell, as a script of one's own would."""
    for plan in plans:
        run = folder / plan.folder.name
        run.mkdir()
        os.environ["CTD_RUN_DIR"] = str(run)
        notebook, copy = str(notebook_files.find_notebook(NOTEBOOK)), str(run / "notebook.ipynb")
        papermill.execute_notebook(notebook, copy, dict(plan.parameters), kernel_name="python3", progress_bar=False)
    del os.environ["CTD_RUN_DIR"]


def by_sweep(grid: Path, n_workers: int, folder: Path) -> None:
    """Run `ctd sweep` as a user would."""
    command = f"-m ctd.cli sweep {NOTEBOOK} {grid} --profile {PROFILE} --out {folder} --jobs {n_workers} --json"
    subprocess.run([sys.executable, *command.split()], check=True, stdout=subprocess.DEVNULL)


def by_the_clock(ways: dict[str, Callable[[Path], None]], runs: int) -> dict[str, list[float]]:
    """Seconds of each way in every turn, after one turn that fills the cache."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(runs + 1):
        for name, way in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                way(Path(folder))
                if turn:
                    seconds[name].append(time.perf_counter() - began)
    return seconds


def main(
    runs: Annotated[int, typer.Option(min=1, help="turns; medians are kept")] = 3,
    out: Annotated[Path, typer.Option(help="folder for sweep.json")] = benchmarks.FOLDER,
    n_cells: Annotated[int, typer.Option(min=1, help="cells of the sweep")] = 4,
) -> None:
    """Time both, with 1, 2, 4, ... workers up to the number of cores, and keep the rows."""
    rows: list[benchmarks.Row] = []
    n_workers = [2**power for power in range(hardware.cores().bit_length())]
    with tempfile.TemporaryDirectory() as scratch:
        grid = Path(scratch) / "grid.yml"
        grid.write_text(yaml.safe_dump({"grid": {"seed": list(range(n_cells))}}))
        cells = sweep.read_grid(grid)
        plans = sweep.plans(notebook_files.find_notebook(NOTEBOOK), cells, PROFILE, Path(scratch))
        ways: dict[str, Callable[[Path], None]] = {PEER: partial(by_papermill, plans)}
        ways |= {f"{OURS}, {n}": partial(by_sweep, grid, n) for n in n_workers}
        seconds = by_the_clock(ways, runs)
    for n in n_workers:
        turns = {PEER: seconds[PEER], OURS: seconds[f"{OURS}, {n}"]}
        rows += benchmarks.of_turns(benchmarks.Work("sweep", "workers", n), turns, PEER)
    benchmarks.keep("sweep", rows, out)


if __name__ == "__main__":
    typer.run(main)
