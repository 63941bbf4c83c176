"""What the kernel of a notebook costs before it works: started by itself, or forked with its libraries loaded."""

import ast
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import nbformat
import typer
from nbformat.v4 import new_code_cell, new_notebook
from rich.console import Console
from rich.table import Table

from ctd.book import kernel, preloaded
from ctd.book.notebook_files import find_notebook, read_notebook

SPENT = "import os\nprint(sum(os.times()[:2]))"


def imports(notebook: Path) -> str:
    """The import statements of a notebook, one below the other."""
    cells = [cell.source for cell in read_notebook(notebook).cells if cell.cell_type == "code"]
    nodes = ast.parse("\n".join(cells)).body
    return "\n".join(ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom))


def run(source: str, folder: Path, seed: int) -> tuple[float, float]:
    """Seconds on the clock and of the processor that a kernel takes to start and run a cell.

    seed: of hashes; only a kernel that has that of the process with the libraries is forked from it.
    """
    notebook, copy = folder / "imports.ipynb", folder / "copy.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(f"{source}\n{SPENT}")]), notebook)
    began = time.perf_counter()
    kernel.execute_notebook(notebook, copy, {}, seed)
    wall = time.perf_counter() - began
    return wall, float(read_notebook(copy).cells[0].outputs[-1].text)


def main(
    notebook: Annotated[str, typer.Argument(help="whose imports are measured")] = "06",
    runs: Annotated[int, typer.Option(min=1, help="of each way, in turn; medians are printed")] = 3,
) -> None:
    """Time the two ways of starting a kernel in turn."""
    source = imports(find_notebook(notebook))
    took: dict[str, list[tuple[float, float]]] = {"forked": [], "by itself": []}
    with TemporaryDirectory() as name:
        folder = Path(name)
        began = time.perf_counter()
        preloaded.start(kernel.kernel_environment(folder, seed=0))
        run("", folder, seed=0)
        importing = time.perf_counter() - began
        for _ in range(runs):
            for seed, times in enumerate(took.values()):
                times.append(run(source, folder, seed))
    table = Table("kernel", "clock s", "processor s")
    for way, times in took.items():
        table.add_row(way, *(f"{statistics.median(column):.2f}" for column in zip(*times, strict=True)))
    Console().print(table)
    typer.echo(f"importing once, and the first fork: {importing:.1f} s")


if __name__ == "__main__":
    typer.run(main)
