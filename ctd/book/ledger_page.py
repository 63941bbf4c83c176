"""The ledger in HTML: claims by models as a grid of icons, in which a row unfolds to its rule, numbers and runs.

Notes: a verdict is always an icon with its word, never a colour alone. Widths are left to the style sheet, so that the
grid fits a phone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

import pandas as pd

from ctd.book.claim_rules import Claim, said
from ctd.book.claims import NONE
from ctd.book.ledger import LedgerRow
from ctd.book.verdicts import Verdict
from ctd.recipes.natural_table import MODEL

OWN = "this book's run"
SOURCES = {"paper": "Claims of the paper", "ours": "Checks of our own"}
SHAPES = {
    Verdict.REPRODUCED: '<circle cx="8" cy="8" r="7"/><path d="M4.5 8.2l2.4 2.5 4.6-5"/>',
    Verdict.CONTRADICTED: '<path d="M8 1l7 7-7 7-7-7z"/><path d="M5.7 5.7l4.6 4.6m0-4.6l-4.6 4.6"/>',
    Verdict.EQUIVALENT: '<rect x="1" y="1" width="14" height="14" rx="2"/><path d="M4.5 6.2h7m-7 3.6h7"/>',
    Verdict.INCONCLUSIVE: '<path d="M5 5.6C5 3.6 6.3 2.5 8 2.5s3 1.1 3 2.9c0 2.3-3 2.3-3 4.6"/><path d="M8 12.6v.9"/>',
    Verdict.NOT_TESTABLE: '<circle cx="8" cy="8" r="7"/><path d="M3.2 12.8l9.6-9.6"/>',
    Verdict.NOT_RUN: '<path d="M4 8h8"/>',
}


def name_of(verdict: Verdict) -> str:
    """The verdict as a class of the style sheet."""
    return f"ctd-{verdict.replace(' ', '-')}"


def icon(verdict: Verdict, words: str = "") -> str:
    """The picture of a verdict, which a screen reader reads as words, or else as the verdict."""
    title = escape(words or str(verdict))
    drawn = f'viewBox="0 0 16 16" role="img" aria-label="{title}"><title>{title}</title>{SHAPES[verdict]}'
    return f'<svg class="ctd-icon {name_of(verdict)}" {drawn}</svg>'


def label(verdict: Verdict, words: str = "") -> str:
    """Icon and word of a verdict; words: HTML instead of the word."""
    hidden = icon(verdict).replace(f'role="img" aria-label="{verdict}"', 'aria-hidden="true"')
    return f'<span class="ctd-verdict">{hidden} {words or verdict}</span>'


def legend() -> str:
    """What the icons mean."""
    icons = " ".join(map(label, Verdict))
    return f'<p class="ctd-legend">{icons} <span>A small number counts runs.</span></p>'


def models(rows: Iterable[LedgerRow]) -> list[str]:
    """The columns of the grid: the models of all runs, the one that nobody here trained first."""
    teachers = {model(row.data): row.data.rpartition(", ")[2] for row in rows if row.stem}
    return sorted(teachers, key=lambda name: teachers[name] != MODEL)


def cells(claim: Claim, rows: Sequence[LedgerRow], columns: Sequence[str]) -> str:
    """The verdicts on a claim, a cell a model."""
    shown = []
    for name in columns:
        counted = Counter(row.verdict for row in rows if row.claim is claim and row.stem and model(row.data) == name)
        icons = "".join(
            icon(verdict, f"{verdict} in {n} runs" if n > 1 else str(verdict)) + (f"<sub>{n}</sub>" if n > 1 else "")
            for verdict, n in counted.items()
        )
        shown.append(f'<span class="ctd-cell" data-model="{escape(name)}">{icons}</span>')
    return "".join(shown)


def head(columns: Sequence[str]) -> str:
    """The models above the grid."""
    names = "".join(f'<span class="ctd-cell">{escape(name)}</span>' for name in columns)
    return f'<div class="ctd-line ctd-head" aria-hidden="true"><span class="ctd-statement">claim</span>{names}</div>'


def model(data: str) -> str:
    """The teacher, and its data where they differ in name."""
    dataset, _, teacher = data.rpartition(", ")
    return teacher if not dataset or dataset in teacher else f"{teacher} ({dataset})"


def grid(rows: Sequence[LedgerRow], address: str) -> str:
    """Claims by models, each claim linked to its row of the ledger at this address."""
    columns = models(rows)
    parts = []
    for source, title in SOURCES.items():
        claims = {row.claim.id: row.claim for row in rows if row.claim.source == source}.values()
        lines = (
            f'<a class="ctd-line" href="{address}#{anchor(claim)}"><span class="ctd-statement">'
            f"{escape(claim.statement)}</span>{cells(claim, rows, columns)}</a>"
            for claim in claims
        )
        parts += [f"<h3>{title}</h3>", *_grid(columns, lines)]
    return "\n".join(parts)


def _grid(columns: Sequence[str], lines: Iterable[str]) -> list[str]:
    return [f'<div class="ctd-grid" style="--models: {len(columns)}">', head(columns), *lines, "</div>"]


def anchor(claim: Claim) -> str:
    return f"claim-{claim.id}"


def table(rows: Sequence[LedgerRow]) -> str:
    """The whole ledger, for a page beside the chapters: the paper's claims, then our own checks."""
    columns = models(rows)
    parts = [legend()]
    for source, title in SOURCES.items():
        claims = {row.claim.id: row.claim for row in rows if row.claim.source == source}.values()
        parts += [f"<h3>{title}</h3>", *_grid(columns, (_unfolds(claim, rows, columns) for claim in claims))]
    return "\n".join(parts)


def _unfolds(claim: Claim, rows: Sequence[LedgerRow], columns: Sequence[str]) -> str:
    """A claim that unfolds to its rule, the published number, and what each run shows."""
    runs = [row for row in rows if row.claim is claim]
    shown = next((row.page for row in runs if row.stem), "")
    link = f'<p><a href="{shown}">Chapter {claim.chapter}</a> shows where the numbers come from.</p>'
    return "\n".join(
        [
            f'<details class="ctd-claim" id="{anchor(claim)}"><summary class="ctd-line">'
            f'<span class="ctd-statement">{escape(claim.statement)}</span>{cells(claim, rows, columns)}</summary>',
            "<p>Reproduced, if</p>",
            _list(f"{said(name)} is {part.words}" for name, part in claim.parts.items()),
            *(["<p>Tested only if</p>"] if claim.needs else []),
            _list(f"{said(name)} is {need.words}" for name, need in claim.needs.items()),
            *([f"<p>Published: {escape(claim.published)}.</p>"] if claim.published != NONE else []),
            '<div class="ctd-scroll" tabindex="0" role="region" aria-label="What each run shows">',
            '<table class="dataframe ctd-runs"><caption>What each run shows</caption>',
            "<thead><tr><th>run</th><th>numbers, with 95 % intervals</th><th>verdict</th></tr></thead><tbody>",
            *map(run, runs),
            "</tbody></table></div>",
            *([link] if shown else []),
            "</details>",
        ]
    )


def _list(items: Iterable[str]) -> str:
    listed = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<ul>{listed}</ul>" if listed else ""


def run(row: LedgerRow) -> str:
    """What one run shows of a claim, as a row of a table."""
    name = f"{breakable(row.published_run)} ({escape(row.origin)})" if row.published_run else OWN
    numbers = "<br>".join(escape(number, quote=False) for number in row.ours)
    why = f"<br>{escape(row.why, quote=False)}" if row.why else ""
    data = f"<br>{escape(row.data)}" if row.stem else ""
    return f"<tr><td>{name}{data}</td><td>{numbers}</td><td>{label(row.verdict)}{why}</td></tr>"


def published(rows: Iterable[LedgerRow]) -> pd.DataFrame:
    """The published runs: a row for each claim that one of them is judged by."""
    table = [
        (row.claim.statement, row.data, row.published_run, str(row.verdict), row.ours[0], row.why)
        for row in rows
        if row.published_run
    ]
    return pd.DataFrame(table, columns=["claim", "data, teacher", "run", "verdict", "first number", "why"])


def breakable(name: str) -> str:
    """A long name with places at which a line may break."""
    return escape(name).replace("-", "-<wbr>").replace("/", "/<wbr>")
