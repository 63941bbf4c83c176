"""The ledger: every claim with the verdict that follows from recorded runs, as a table and as a page.

Notes: runs of a chapter that are published with the book (`ctd.book.published_runs`) are judged by the same rule, in
rows of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

from ctd.book import notebook_files, published_runs, run_folder
from ctd.book.claims import CLAIMS, NONE, NOT_RUN, VERDICTS, Claim, Filter, Number
from ctd.book.compare import say
from ctd.book.results import RESULTS, Row
from ctd.book.run_folder import RunFolder
from ctd.cache import ROOT

STEM = "14_claims"
COLUMNS = ("claim", "rule", "published", "ours", "verdict", "data, teacher", "chapter")


@dataclass(frozen=True)
class LedgerRow:
    """A claim with its verdict.

    claim: the claim.
    verdict: one of `VERDICTS`.
    stem: the notebook whose run was read, "" for none.
    data: the dataset and the teacher of that run.
    ours: its numbers in words.
    published_run: the name of a run that is published with the book, "" for the reader's own.
    made: how a published run was made.
    """

    claim: Claim
    verdict: str
    stem: str = ""
    data: str = NONE
    ours: tuple[str, ...] = (NONE,)
    published_run: str = ""
    made: str = ""

    @property
    def key(self) -> tuple[str, str | None]:
        """Under what claim and what published run its verdict is recorded."""
        return self.claim.id, self.published_run or None

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as text, by `COLUMNS`."""
        claim, ours = self.claim, "; ".join(self.ours)
        where = f"data/results/{self.published_run} ({self.made})" if self.published_run else self.stem or claim.chapter
        return claim.statement, claim.rule, claim.published, ours, self.verdict, self.data, where

    @property
    def html(self) -> str:
        """The row in HTML, its rule beneath it, with a link to its chapter for a page beside that.

        The row of a published run follows the reader's own, and does not repeat claim, published number and rule.
        """
        claim, rule, published, _, verdict, data, where = (escape(cell, quote=False) for cell in self.cells)
        ours = "<br>".join(escape(number, quote=False) for number in self.ours)
        if self.published_run:
            return (
                f'<tr><td colspan="2"><em>the same, by the published run {escape(self.published_run)}:</em> '
                f"{escape(self.made, quote=False)}</td>"
                f"<td>{ours}</td><td><strong>{verdict}</strong></td>"
                f'<td><a href="{self.stem}.html#{self.claim.place}">{self.claim.chapter}</a>: {data}</td></tr>'
            )
        if self.stem:
            where = f'<a href="{self.stem}.html#{self.claim.place}">{self.claim.chapter}</a>: {data}'
        cells = (claim, published, ours, f"<strong>{verdict}</strong>", where)
        row = "".join(f"<td>{cell}</td>" for cell in cells)
        return f'<tr>{row}</tr>\n<tr><td colspan="{len(cells)}"><em>Rule:</em> {rule}.</td></tr>'


def judge_claims(profile: str, folder: Path | None = None) -> list[LedgerRow]:
    """Every claim with its verdict, by the reader's runs and then by the published ones.

    profile: that of the reader's runs.
    folder: where they are, as `<stem>/<profile>` (`runs/`).
    A published run that did not record what a rule reads has no row.
    Raises ValueError with one line for a run that cannot be read, and for two notebooks of one number.
    """
    rows = []
    for claim in CLAIMS:
        rows.append(judge_own(claim, profile, folder or run_folder.RUNS))
        others = [
            replace(judge_run(claim, run), published_run=run.path.name, made=published_runs.made(run))
            for run in published_runs.of(claim.chapter)
        ]
        rows += [row for row in others if row.verdict != NOT_RUN]
    return rows


def judge_own(claim: Claim, profile: str, folder: Path) -> LedgerRow:
    """A claim with its verdict by the run under a profile. Raises ValueError as `judge_claims` does."""
    paths = sorted(folder.glob(f"{claim.chapter}_*/{profile}/{RESULTS}"))
    if len(paths) > 1:  # some may be of a notebook that had this number before
        known = {path.stem for path in notebook_files.notebooks()}
        paths = [path for path in paths if path.parent.parent.name in known] or paths
    if len(paths) > 1:
        stems = ", ".join(path.parent.parent.name for path in paths)
        raise ValueError(f"chapter {claim.chapter} must be one notebook; {folder} has runs of {stems}: remove one")
    return judge_run(claim, RunFolder(paths[0].parent)) if paths else LedgerRow(claim, NOT_RUN)


def judge_run(claim: Claim, run: RunFolder) -> LedgerRow:
    """A claim with its verdict by one run. Raises ValueError where it cannot be read."""
    try:
        parameters, rows = run.manifest["parameters"], run.rows
        numbers, ours = zip(*(_read(name, part, parameters, rows) for name, part in claim.reads.items()), strict=True)
        verdict = NOT_RUN if None in numbers else claim.judge(*numbers)
        data = ", ".join(parameters[name] for name in ("dataset", "teacher") if name in parameters)
        return LedgerRow(claim, verdict, run.stem, data, ours)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{run.path} is not a whole run ({error!r}); run the notebook again with --force") from None


def _read(name: str, part: Filter, parameters: Mapping[str, Any], rows: Sequence[Row]) -> tuple[Number | None, str]:
    """The number that a claim reads, None where there is none, and how the ledger says it."""
    row = part.read(rows, parameters)
    name = name.format(largest="*" if row is None else getattr(row, part.largest or "metric"))
    if row is None or row.interval is None or not isinstance(row.value, int | float):
        return None, f"{name}: none"
    shown = say(row.model_copy(update={"unit": f"({row.unit})"}))
    return Number(row.value, *row.interval), f"{name}: {shown}"


def table(rows: Sequence[LedgerRow]) -> str:
    """The ledger as an HTML table, for a page beside the chapters."""
    heads = '<tr><th>claim</th><th>published</th><th style="width: 45%">ours</th><th>verdict</th><th>chapter</th></tr>'
    return "\n".join(['<table class="dataframe">', heads, *(row.html for row in rows), "</table>"])


def counts(rows: Sequence[LedgerRow]) -> dict[str, int]:
    """How many claims have each verdict, of `VERDICTS`, by the reader's own runs."""
    return {verdict: sum(row.verdict == verdict and not row.published_run for row in rows) for verdict in VERDICTS}


def runs_beside(folder: Path) -> Path:
    """The runs among which a run of the ledger lies, `<runs>/14_claims/<profile>`; elsewhere, the repository's."""
    return folder.parent.parent if folder.parent.name == STEM else ROOT / run_folder.RUNS


def check(profile: str, folder: Path | None = None) -> list[str]:
    """Where the ledger's own run no longer follows from the stored results, a line a claim; [] where all does.

    Compared are the verdicts that it recorded, and the rows, with their numbers, that its page shows.
    Raises FileNotFoundError where the ledger has no run, ValueError as `judge_claims` does.
    """
    folder = folder or run_folder.RUNS
    made = run_folder.find_run(str(folder / STEM / profile))
    now = {row.key: row for row in judge_claims(profile, folder)}
    recorded = {(row.claim or "", row.published_run): row.value for row in made.rows if row.metric == "verdict"}
    cells = notebook_files.read_notebook(made.notebook).cells
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    page = "\n".join(str(shown) for output in outputs for shown in output.get("data", {}).values())
    problems = []
    for key in dict.fromkeys([*now, *recorded]):
        name = "verdict on " + " by ".join(filter(None, key))
        was = recorded.get(key, "not recorded")
        follows = now[key].verdict if key in now else "no claim of the ledger"
        if was != follows:
            problems.append(f"{name} is {was!r} in {made.name}, and {follows!r} by the stored results")
        elif now[key].html not in page:
            problems.append(f"{name}: the page of {made.name} shows other numbers than the stored results")
    return [f"{problem}; mend: ctd run {STEM} --profile {profile} --force" for problem in problems]
