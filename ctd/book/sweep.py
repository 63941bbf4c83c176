"""A sweep: one notebook with every combination of some values, a run folder for each, and one table of what they found.

Notes: a grid file is YAML, such as

    grid: {n_documents: [40, 80], seed: [0, 1, 2]}
    exclude: [{n_documents: 80, seed: 2}]
    include: [{n_documents: 200, seed: 0}]

A cell is a run like any other: it is kept while nothing that it depends on has changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctd.book import results, runs
from ctd.book.parameters import near, read_yaml_file
from ctd.book.run_folder import RUNS, RunFolder
from ctd.book.runs import Plan
from ctd.cache import atomic, digest

if TYPE_CHECKING:  # pandas takes a second to import
    import pandas as pd

Cell = dict[str, Any]  # values by parameter
KEYS = ("grid", "exclude", "include")
MOST = 10_000  # cells
LONGEST = 120  # characters of a folder's name


def read_grid(file: Path) -> list[Cell]:
    """The cells of a grid file: the product of its lists, without those excluded, then those included.

    Raises FileNotFoundError for a file that is not there, and ValueError for one that is no grid, has an exclusion that
    excludes nothing, no cell, or more than `MOST`.
    """
    if not file.is_file():
        raise FileNotFoundError(f"there is no grid file {file}; it holds lines such as `grid: {{seed: [0, 1, 2]}}`")
    content = read_yaml_file(file)
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{file} must hold lines such as `grid: {{seed: [0, 1, 2]}}`")
    if unknown := [key for key in content if key not in KEYS]:
        raise ValueError(f"{file} takes {', '.join(KEYS)}, got {unknown[0]!r}{near(str(unknown[0]), KEYS)}")
    lists = content.get("grid") or {}
    if not isinstance(lists, dict) or not all(isinstance(values, list) and values for values in lists.values()):
        raise ValueError(f"{file}: grid must map each parameter to a list of values, such as `seed: [0, 1, 2]`")
    n_cells = prod(map(len, lists.values()))
    if n_cells > MOST:
        raise ValueError(f"{file}: a grid may have {MOST:,} cells, got {n_cells:,}: take fewer values")
    cells = [dict(zip(lists, values, strict=True)) for values in product(*lists.values())] if lists else []
    for excluded in _combinations(content, "exclude", file):
        rest = [cell for cell in cells if any(name not in cell or cell[name] != excluded[name] for name in excluded)]
        if len(rest) == len(cells):
            raise ValueError(f"{file}: exclude {excluded} is no part of the grid")
        cells = rest
    cells += _combinations(content, "include", file)
    if not cells:
        raise ValueError(f"{file} has no cell")
    if wrong := [name for cell in cells for name in cell if not isinstance(name, str)]:
        raise ValueError(f"{file}: the name of a parameter must be text, got {wrong[0]!r}")
    return cells


def _combinations(content: Mapping[str, Any], key: str, file: Path) -> list[Cell]:
    combinations = content.get(key) or []
    if not isinstance(combinations, list) or not all(isinstance(values, dict) and values for values in combinations):
        raise ValueError(f"{file}: {key} must be a list of combinations, such as `- {{seed: 0}}`")
    return combinations


def plans(notebook: Path, cells: Sequence[Cell], profile: str = "default", out: Path | None = None) -> list[Plan]:
    """Check every cell, and decide its folder. Nothing runs.

    cells: as `read_grid` gives them.
    out: holds the folders of the cells; `runs/STEM` by default.
    Raises ValueError, in one line, for a value that the notebook refuses, and for two cells that are the same.
    """
    home = out or RUNS / notebook.stem
    planned: dict[str, Plan] = {}
    for cell in cells:
        todo = runs.plan(notebook, profile, cell, home / f"{profile}-{cell_name(cell)}")
        key = json.dumps(todo.parameters, sort_keys=True)
        if key in planned:
            raise ValueError(f"the grid has a cell twice: {cell_name(cell)} is {planned[key].folder.name}")
        planned[key] = todo
    return list(planned.values())


def cell_name(cell: Cell) -> str:
    """What a cell's folder is called: its parameters, such as "n_documents=40,seed=1"; a digest ends a long name."""
    name = ",".join(f"{parameter}={_text(value)}" for parameter, value in cell.items())
    plain = ",".join(f"{parameter}={_plain(_text(value))}" for parameter, value in cell.items())
    return plain if plain == name and len(name) <= LONGEST else f"{plain[:LONGEST]}-{digest([name])[:8]}"


def _plain(text: str) -> str:
    return re.sub(r"[^\w.+-]", "_", text, flags=re.ASCII)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=("+", "="), default=str).strip("[]")


def table(cells: Sequence[Cell], cell_runs: Iterable[RunFolder | None]) -> pd.DataFrame:
    """What the cells found: a row for each result, with the cell's parameters.

    cell_runs: of the cells, in their order; None for one without a run, which has no rows.
    Returns the columns cell, parameter.NAME for each parameter of the grid, and `results.COLUMNS`.
    """
    import pandas as pd

    names = list(dict.fromkeys(name for cell in cells for name in cell))
    parts = []
    for cell, run in zip(cells, cell_runs, strict=True):
        if run is not None:
            rows, parameters = run.frame(), run.manifest["parameters"]
            for place, name in enumerate(names):
                rows.insert(place, f"parameter.{name}", [parameters[name]] * len(rows))
            rows.insert(0, "cell", cell_name(cell))
            parts.append(rows)
    columns = ["cell", *(f"parameter.{name}" for name in names), *results.COLUMNS]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as JSON holds them; None where a row does not say something."""
    values = rows.astype(object).where(rows.notna(), None).to_dict("records")
    return [{str(column): value for column, value in row.items()} for row in values]


def write(rows: pd.DataFrame, path: Path) -> list[Path]:
    """Write a table as CSV and JSON.

    path: of the files, without an ending.
    Returns the two files.
    """
    files = [path.with_name(f"{path.name}.{ending}") for ending in ("csv", "json")]
    with atomic(files[0]) as scratch:
        rows.to_csv(scratch, index=False)
    with atomic(files[1]) as scratch:
        scratch.write_text(results.lines(records(rows)) + "\n", encoding="utf-8")
    return files
