"""Runs that are published with the book: `data/results/<name>/` has what one found, and how it was made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ctd.book import looks, report, results
from ctd.book.results import RESULTS
from ctd.book.run_folder import MANIFEST, RunFolder
from ctd.cache import DATA, atomic

FOLDER = DATA / "results"
SIZES = ("traces", "documents")
NAMED_ELSEWHERE = ("arm", "baseline", "method", "k", "group_by", "group")  # in another column, or in front
SAY_WHAT_THEY_ARE = ("mode", "budget", "phase", "score", "readout", "intervention", "instrument", "item")


def keep(run: RunFolder, name: str) -> RunFolder:
    """Publish a run with the book: its results and its manifest; its looks at test documents are logged.

    name: the name of its folder; a run that had this name is replaced.
    Raises ValueError for a name that no folder may have, or a run whose results or manifest cannot be read.
    """
    if not name[:1].isalnum() or not all(char.isalnum() or char in "._-" for char in name):
        raise ValueError(f"the name is that of a folder: letters, digits, dots, - and _; got {name!r}")
    _ = run.manifest, run.rows
    with atomic(FOLDER / name) as scratch:
        scratch.mkdir(parents=True)
        for file in (RESULTS, MANIFEST):
            shutil.copyfile(run.path / file, scratch / file)
    looks.append(looks.of_run(run, name), log_of_looks())
    return RunFolder(FOLDER / name)


def log_of_looks() -> Path:
    """The log of the looks that published runs took at test documents."""
    return FOLDER.parent / looks.FILE


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


def how_made(run: RunFolder) -> str:
    """The hardware that a run was made on, and its commit."""
    machine = run.manifest["hardware"]
    many = "s" if machine["cores"] != 1 else ""
    device = machine["gpu"] or f"{machine['cores']} core{many} ({machine['cpu']})"
    return f"{device}, commit {run.manifest['commit'][:8]}"


def overview(runs: Sequence[RunFolder]) -> pd.DataFrame:
    """What the runs are: a row for each, with the parameters that differ from those of its profile."""
    rows = []
    for run in runs:
        parameters = run.manifest["parameters"]
        sizes: dict[str, Any] = {row.label: row.value for row in run.rows}
        changed = ", ".join(f"{name}={json.dumps(value)}" for name, value in run.manifest["overrides"].items())
        rows.append(
            (
                run.path.name,
                parameters["teacher"],
                parameters.get("dataset", looks.CONSTRUCTED),
                *map(sizes.get, SIZES),
                how_made(run),
                changed,
            )
        )
    columns = ["run", "teacher", "data", *SIZES, "made on", "with"]
    return pd.DataFrame(rows, columns=columns, dtype=object).fillna("").infer_objects()


def results_table(runs: Sequence[RunFolder], **filters: Any) -> pd.DataFrame:
    """What the runs found, in one long table: a row for each number, with its intervals.

    filters: what the results must say, as of `ctd.book.results.select`.
    Returns columns run, teacher, what, measure, over documents, over seeds; the last only where some run has it.
    """
    parts = []
    for run in runs:
        table = results.select(run.frame(), **filters)
        table = table[table["low"].notna() & table["interval_over"].isin(["documents", "seeds"])]
        measure = results.measures(table) + (", " + table["group"]).where(table["group"].notna(), "")
        cells = [report.estimate(*numbers) for numbers in table[["value", "low", "high"]].itertuples(index=False)]
        what = table.apply(_what, axis=1, result_type="reduce")
        labelled = table.assign(what=what, measure=measure, cell=cells, over="over " + table["interval_over"])
        labelled = labelled.assign(run=run.path.name, teacher=run.manifest["parameters"]["teacher"])
        parts.append(labelled[["run", "teacher", "what", "measure", "over", "cell"]])
    keys = ["run", "teacher", "what", "measure"]
    every = pd.concat(parts).drop_duplicates([*keys, "over"]).set_index([*keys, "over"])["cell"]
    return every.unstack(sort=False).fillna("").reset_index().rename_axis(None, axis=1)


def _what(row: pd.Series) -> str:
    """What a row is about, in words: arm and baseline or the method, then all else that tells it from other rows."""
    stated = row.dropna()
    first = " - ".join(str(stated[name]) for name in ("arm", "baseline") if name in stated) or stated.get("method", "")
    others = [name for name in results.DIMENSIONS if name in stated and name not in NAMED_ELSEWHERE]
    return ", ".join(filter(None, [first, *(_words(name, stated[name]) for name in others)]))


def _words(name: str, value: Any) -> str:
    if name == "traces":
        return f"{value:,} traces"
    text = str(value).replace("_", " ")
    return text if name in SAY_WHAT_THEY_ARE else f"{name.replace('_', ' ')}: {text}"


def show(runs: Sequence[RunFolder], **filters: Any) -> None:
    """Show what runs are, and what they found or why not, as tables to filter; nothing where there is no run."""
    if runs:
        report.table(overview(runs), caption="Published runs of this chapter, and how each was made.", is_folded=True)
        for run in runs:
            if why := results.untestable(run.rows):
                report.say(f"`{run.path.name}`, not testable: {why}.")
        report.table(
            results_table(runs, **filters),
            caption="What the published runs found, with 95 % intervals.",
            filters=["run", "teacher", "what", "measure"],
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
