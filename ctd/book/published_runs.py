"""Runs that are kept with the book: `data/results/<name>/` has what one found, and how it was made."""

from __future__ import annotations

import json
import re
import shutil

import pandas as pd

from ctd.book import report
from ctd.book.results import RESULTS
from ctd.book.runs import MANIFEST, RunFolder
from ctd.cache import DATA, atomic

FOLDER = DATA / "results"


def keep(run: RunFolder, name: str) -> RunFolder:
    """Keep a run with the book under a name: its results and its manifest; what had that name is replaced.

    Raises ValueError for a name that is none of a folder, or a run whose results or manifest cannot be read.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"the name is that of a folder: letters, digits, dots, - and _; got {name!r}")
    _ = run.manifest, run.results
    with atomic(FOLDER / name) as scratch:
        scratch.mkdir(parents=True)
        for file in (RESULTS, MANIFEST):
            shutil.copyfile(run.path / file, scratch / file)
    return RunFolder(FOLDER / name)


def of(chapter: str, **parameters: object) -> list[RunFolder]:
    """The runs that are kept of a chapter ("10"), by name; of them those with these parameters."""
    found = [RunFolder(path.parent) for path in sorted(FOLDER.glob(f"[!.]*/{MANIFEST}"))]
    return [
        run
        for run in found
        if run.stem.startswith(f"{chapter}_") and parameters.items() <= run.manifest["parameters"].items()
    ]


def made(run: RunFolder) -> str:
    """On what hardware it was made, and from which commit."""
    machine = run.manifest["hardware"]
    many = "s" if machine["cores"] != 1 else ""
    device = machine["gpu"] or f"{machine['cores']} core{many} ({machine['cpu']})"
    return f"{device}, commit {run.manifest['commit'][:8]}"


def title(run: RunFolder) -> str:
    """What it is, as a sentence of Markdown; with the parameters that were asked for instead of its profile's."""
    asked = run.manifest["parameters"]
    counts = report.counts({one: run.results[one]["value"] for one in ("traces", "documents") if one in run.results})
    instead = ", ".join(f"`{name}={json.dumps(value)}`" for name, value in run.manifest["overrides"].items())
    return (
        f"By a run that is kept with the book in `data/results/{run.path.name}`: **{asked['teacher']}, "
        f"{asked['dataset']}**, {counts} ({made(run)})" + (f", with {instead}." if instead else ".")
    )


def table(run: RunFolder) -> pd.DataFrame:
    """Its results that have an interval and are named metric/method: columns metric, of (the method), value, low, high.

    A method may have a stroke in its name, a metric has none.
    """
    named = [one for name, one in run.results.items() if one["interval"] and "/" in name]
    rows = [(*one["name"].split("/", 1), one["value"], *one["interval"]) for one in named]
    return pd.DataFrame(rows, columns=["metric", "of", "value", "low", "high"])
