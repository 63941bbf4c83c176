"""Runs that are published with the book: `data/results/<name>/` has what one found, and how it was made."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pandas as pd

from ctd.book import report, results
from ctd.book.results import RESULTS
from ctd.book.run_folder import MANIFEST, RunFolder
from ctd.cache import DATA, atomic

FOLDER = DATA / "results"


def keep(run: RunFolder, name: str) -> RunFolder:
    """Publish a run with the book: its results and its manifest.

    name: of its folder; a run that had that name is replaced.
    Raises ValueError for a name that is none of a folder, or a run whose results or manifest cannot be read.
    """
    if not name[:1].isalnum() or not all(char.isalnum() or char in "._-" for char in name):
        raise ValueError(f"the name is that of a folder: letters, digits, dots, - and _; got {name!r}")
    _ = run.manifest, run.rows
    with atomic(FOLDER / name) as scratch:
        scratch.mkdir(parents=True)
        for file in (RESULTS, MANIFEST):
            shutil.copyfile(run.path / file, scratch / file)
    return RunFolder(FOLDER / name)


def of(chapter: str = "", **parameters: object) -> list[RunFolder]:
    """The published runs of a chapter, by name.

    chapter: its number, such as "10"; "" for all chapters.
    parameters: values that the runs must have.
    """
    published = [RunFolder(path.parent) for path in sorted(FOLDER.glob(f"[!.]*/{MANIFEST}"))]
    return [
        run
        for run in published
        if (not chapter or run.stem.startswith(f"{chapter}_"))
        and parameters.items() <= run.manifest["parameters"].items()
    ]


def made(run: RunFolder) -> str:
    """On what hardware it was made, and from which commit."""
    machine = run.manifest["hardware"]
    many = "s" if machine["cores"] != 1 else ""
    device = machine["gpu"] or f"{machine['cores']} core{many} ({machine['cpu']})"
    return f"{device}, commit {run.manifest['commit'][:8]}"


def title(run: RunFolder) -> str:
    """What it is, as a sentence of Markdown; with the parameters that differ from those of its profile."""
    parameters = run.manifest["parameters"]
    sizes: dict[str, Any] = {row.label: row.value for row in run.rows}
    counts = report.counts({name: sizes[name] for name in ("traces", "documents") if name in sizes})
    instead = ", ".join(f"`{name}={json.dumps(value)}`" for name, value in run.manifest["overrides"].items())
    return (
        f"By a published run, `data/results/{run.path.name}`: **{parameters['teacher']}, "
        f"{parameters['dataset']}**, {counts} ({made(run)})" + (f", with {instead}." if instead else ".")
    )


def learning_curves() -> list[tuple[RunFolder, pd.DataFrame]]:
    """The published runs of chapters 10 and 11 that tried several numbers of traces, each with its learning curve."""
    curves = [(run, learning_curve(run)) for chapter in ("10", "11") for run in of(chapter)]
    return [(run, curve) for run, curve in curves if curve["traces"].nunique() > 1]


def learning_curve(run: RunFolder) -> pd.DataFrame:
    """The nDCG that a run found over numbers of traces: columns traces, arm, value, low, high.

    The gain of an arm over another is one of the arms, named "arm - baseline".
    """
    table = results.select(run.frame(), metric="ndcg").dropna(subset="traces")
    arms = results.named(table, "arm", "baseline", by=" - ")
    return table.assign(arm=arms)[["traces", "arm", "value", "low", "high"]].infer_objects().reset_index(drop=True)


def looks() -> pd.DataFrame:
    """How often test documents were looked at: a row for each published run that answered some, in order of time.

    Returns columns dataset, teacher, chapter, run, documents, date.
    """
    table: list[tuple[Any, ...]] = []
    for run in of():
        manifest, sizes = run.manifest, [row.value for row in run.rows if row.metric == "documents"]
        parameters = manifest["parameters"]
        if sizes and parameters.get("split", "test") == "test":
            place = (parameters["dataset"], parameters["teacher"], run.stem[:2], run.path.name)
            table.append((*place, sizes[0], manifest["start"][:10]))
    columns = ["dataset", "teacher", "chapter", "run", "documents", "date"]
    return pd.DataFrame(table, columns=columns).sort_values("date", kind="stable", ignore_index=True)
