"""Looks at test documents: a log that every run appends to, since each look makes a chance find likelier.

Notes: a run has `looks.csv` in its folder: a line for each task whose test documents it read, behind the lines of the
runs that it replaced. The lines of runs that are published with the book are kept in `data/looks.csv`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ctd.book.results import Row
from ctd.book.run_folder import RunFolder

FILE = "looks.csv"
COLUMNS = ["dataset", "teacher", "chapter", "run", "documents", "seed", "date", "commit"]
READS_NONE = ("00", "16", "17")  # chapters that show documents, costs or results, and measure nothing on test documents
CONSTRUCTED = "organism"  # whose test documents are read where a notebook has no dataset to choose


def of_run(run: RunFolder, name: str) -> pd.DataFrame:
    """The looks of one run: a row for each task whose test documents it read; columns `COLUMNS`.

    name: of the run in the log.
    """
    return of_rows(run.manifest, run.rows, name)


def of_rows(manifest: Mapping[str, Any], rows: Sequence[Row], name: str) -> pd.DataFrame:
    """The same, from how a run was made and what it recorded."""
    parameters, chapter = manifest["parameters"], Path(manifest["notebook"]).name[:2]
    reads = chapter not in READS_NONE and parameters.get("split", "test") == "test"
    how = (parameters.get("seed", 0), manifest["start"][:19], manifest["commit"][:12])
    looks = [
        (
            row.dataset or parameters.get("dataset", CONSTRUCTED),
            row.teacher or parameters.get("teacher", ""),
            chapter, name, row.value, *how,
        )
        for row in rows
        if reads and (row.metric, row.unit) == ("documents", "documents")
    ]  # fmt: skip
    return pd.DataFrame(looks, columns=COLUMNS)


def read(path: Path) -> pd.DataFrame:
    """A log, empty where there is none."""
    if not path.is_file():
        return pd.DataFrame(columns=COLUMNS)
    return pd.read_csv(path, dtype={"chapter": str, "commit": str}, keep_default_na=False)


def append(looks: pd.DataFrame, path: Path, before: Path | None = None) -> None:
    """Write looks behind those of a log; a look that is there already, by run and time, is not written twice.

    No file is written where there is no look at all.
    before: the log that they follow, where it is not the file itself.
    """
    log = read(before or path)
    together = pd.concat([each for each in (log, looks) if len(each)] or [looks])
    if together.empty:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    together.drop_duplicates(["dataset", "teacher", "run", "date"]).to_csv(path, index=False)


def every(published: Path, folder: Path) -> pd.DataFrame:
    """All looks in order of time: of the published runs, and of the reader's own.

    published: the log of the published runs.
    folder: where the reader's runs are, as `<stem>/<profile>`.
    Returns the columns `COLUMNS`, and look: which one it is at the test documents of its dataset, from 1.
    """
    logs = [read(path) for path in (published, *sorted(folder.glob(f"*/*/{FILE}")))]
    table = pd.concat([log for log in logs if len(log)] or logs[:1])
    table = table.sort_values("date", kind="stable", ignore_index=True)
    return table.assign(look=table.groupby("dataset").cumcount() + 1)


def counts(looks: pd.DataFrame) -> pd.DataFrame:
    """How often the test documents of each dataset were looked at: columns dataset, looks, runs, first, last."""
    grouped = looks.groupby("dataset")
    counted = grouped.agg(looks=("run", "size"), runs=("run", "nunique"), first=("date", "min"), last=("date", "max"))
    return counted.reset_index()
