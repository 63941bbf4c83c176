"""What the page `natural` shows: whether the thought of a model that nobody here trained helps its answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from ctd.book import looks, provenance, published_runs
from ctd.book.ledger import LedgerRow
from ctd.book.markdown import captioned
from ctd.book.report import estimate
from ctd.recipes.natural_table import (
    AT_ONCE,
    CUTOFF,
    DATASET,
    MODEL,
    PROMPT,
    RANDOM,
    RETRIEVER,
    TABLE,
    THINKING,
    Row,
    read,
)  # fmt: skip

MAIN = f"nDCG@{CUTOFF}"
NOT_MEASURED = "Nothing has been measured yet: `make natural` writes the texts, and the table that this page shows."
OTHERS = {
    AT_ONCE: "its own answer at once",
    RETRIEVER: "the retriever's order",
    PROMPT: "the order in which the prompt lists the labels",
    RANDOM: "a random order",
}


def findings(path: Path = TABLE) -> str:
    """The finding in words, and the numbers that it rests on as two tables; what to do where nothing was measured."""
    if not path.is_file():
        return NOT_MEASURED
    rows = read(path)
    return f"{paragraph(rows)}\n\n{phases(rows)}\n\n{scores(rows)}\n{texts(rows)}"


def paragraph(rows: Sequence[Row]) -> str:
    """Whether the answer after thinking is better than each other ranking, and whether the task counts."""
    n = _one(rows, "text", "", "documents").value
    thinking = _one(rows, "score", THINKING, MAIN)
    lines = [
        f"On {n:.0f} generated heart-failure vignettes, the answer of `{MODEL}` after thinking has "
        f"{MAIN} {_estimate(thinking)}. It is",
        "",
    ]
    for method, words in OTHERS.items():
        less = _one(rows, "less", method, MAIN)
        lines.append(f"- {verdict(less)} {words} (difference {_estimate(less)})")
    counts = _one(rows, "less", RANDOM, MAIN).low > 0
    lines += ["", "It passes the floor: it is above a random order of the same labels." if counts else NO_FLOOR]
    return "\n".join([*lines, "", LITTLE if n < ENOUGH else ""]).rstrip()


def phases(rows: Sequence[Row]) -> str:
    """How much of the two phases shows in its thoughts."""
    n = _one(rows, "text", "", "documents").value
    silent, end, judging, comparing = (_one(rows, "text", "", measure) for measure in SHOWN)
    return (
        f"**Do the phases show?** {n * silent.value:.0f} of {n:.0f} texts are an answer without a thought. In the "
        f"others the last label that was not named before comes at {_estimate(end, digits=2)} of a thought. A text has "
        f"{_estimate(comparing, digits=2)} sentences that compare two labels, as Phase 2 would, and "
        f"{_estimate(judging, digits=2)} that judge one label."
    )


SHOWN = (
    "no thought, the answer alone",
    "end of Phase 1, share of the thought",
    "sentences that judge one label",
    "sentences that compare two labels",
)
PAGE = "natural"  # as chapter and run of its looks
ENOUGH = 64
LITTLE = "These are few documents: rankings that are not distinguishable here may be so with more of them."
NO_FLOOR = "**It does not pass the floor**: it is not shown to be above a random order of the same labels."


def verdict(less: Row) -> str:
    """A difference in words: by its interval."""
    if less.low > 0:
        return "**better than**"
    return "**worse than**" if less.high < 0 else "not distinguishable from"


def scores(rows: Sequence[Row]) -> str:
    """Every ranking by every measure, as a captioned table."""
    measures = list(dict.fromkeys(row.measure for row in rows if row.part == "score"))
    methods = list(dict.fromkeys(row.method for row in rows if row.part == "score"))
    lines = [[method, *(_estimate(_one(rows, "score", method, name)) for name in measures)] for method in methods]
    caption = "What each ranking of the labels is worth; 95 % intervals over documents."
    return captioned("natural-scores", caption, ["ranking", *measures], lines)


def texts(rows: Sequence[Row]) -> str:
    """What the texts show, as a captioned table."""
    shown = [row for row in rows if row.part == "text" and row.measure != "documents"]
    lines = [[row.measure, _estimate(row, digits=2)] for row in shown]
    return captioned("natural-texts", "What its thoughts show, mean over documents.", ["of a text", "mean"], lines)


def claims(ledger: Iterable[LedgerRow]) -> str:
    """What the ledger says of the model's published runs, as a captioned table; or that there is none.

    ledger: its rows, of all runs.
    """
    rows = [row for row in ledger if row.published_run and row.data.rpartition(", ")[2] == MODEL]
    if not rows:
        return f"No chapter has a published run on `{MODEL}` yet."
    lines = [
        [
            row.claim.statement,
            f"{{doc}}`{row.claim.chapter} <notebooks/{row.stem}>`",
            f"**{row.verdict}**",
            "; ".join(filter(None, [*(row.ours if row.estimates else ()), row.why])),
        ]
        for row in rows
    ]
    caption = f"What the ledger says of the published runs on `{MODEL}`."
    return captioned("natural-claims", caption, ["claim", "chapter", "verdict", "numbers, and why"], lines)


def _one(rows: Sequence[Row], part: str, method: str, measure: str) -> Row:
    return next(row for row in rows if row[:3] == (part, method, measure))


def _estimate(row: Row, digits: int = 3) -> str:
    return estimate(row.value, row.low, row.high, digits)


def log_look(log: Path | None = None, table: Path = TABLE) -> None:
    """Write into the log of looks (`data/looks.csv`) that the page's table was made, now, on test documents."""
    n_documents = int(_one(read(table), "text", "", "documents").value)
    how = (0, datetime.now(UTC).isoformat()[:19], provenance.git_state()["commit"][:12])
    look = pd.DataFrame([(DATASET, MODEL, PAGE, PAGE, n_documents, *how)], columns=looks.COLUMNS)
    looks.append(look, log or published_runs.log_of_looks())


if __name__ == "__main__":
    log_look()
