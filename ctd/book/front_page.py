"""The front page: what was found, in one screen, made from the ledger.

Notes: nothing here is typed in. The counts are those of the ledger's verdicts, a card's words those of its claims, and
its picture the recorded numbers with their intervals.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from ctd.book import ledger_page, published_runs, report, results, verdicts
from ctd.book.claim_rules import Part
from ctd.book.ledger import STEM, LedgerRow
from ctd.book.verdicts import TESTED, Estimate, Verdict

LEDGER = f"notebooks/{STEM}.html"
WIDTH = 200  # of a picture of numbers, in its own units
MOST = 2  # numbers of claims on a card


@dataclass(frozen=True)
class Question:
    """A card: what is asked, and the claims that answer it.

    asks: the question.
    claims: their names in the ledger.
    curve: whether it also shows a gain over numbers of traces, from the published runs.
    """

    asks: str
    claims: tuple[str, ...]
    curve: bool = False


QUESTIONS = (
    Question("Do the phases show?", ("focus-rises-early", "confusion-falls-late")),
    Question("Are there early heads?", ("shortlisting-heads-early", "refining-heads-late")),
    Question("Can they be told apart?", ("double-dissociation",)),
    Question("Does teaching the mechanism help?", ("mechanistic-beats-cot",), curve=True),
    Question("Can the scores be trusted?", ("scores-find-known-heads",)),
)


@dataclass(frozen=True)
class Number:
    """A number of a card.

    name: what it is.
    estimate: the number with its interval.
    null: what it is held against.
    """

    name: str
    estimate: Estimate
    null: float = 0.0


def deciding(rows: Iterable[LedgerRow]) -> LedgerRow:
    """The row of a claim that counts: the most precise run that tests it, whether the book's own or a published one.

    Precision says nothing about the direction, so it cannot choose the verdict. Where no run tests the claim, the
    book's own run counts, or else a published one.
    """
    of_book, *published = sorted(rows, key=lambda row: bool(row.published_run))
    tested = [row for row in (of_book, *published) if row.verdict in TESTED]
    if tested:
        return min(tested, key=width)
    return next((row for row in published if row.stem), of_book) if of_book.verdict is Verdict.NOT_RUN else of_book


def width(row: LedgerRow) -> float:
    """The width of the interval of a row's first number: the narrower, the more precise the test."""
    estimate = row.estimates[0][2]
    return estimate.high - estimate.low


def decided(rows: Sequence[LedgerRow], source: str = "") -> list[LedgerRow]:
    """The row that counts for each claim.

    source: "paper" or "ours" for the claims of one; "" for all.
    """
    names = dict.fromkeys(row.claim.id for row in rows if source in ("", row.claim.source))
    return [deciding([row for row in rows if row.claim.id == name]) for name in names]


def counts(rows: Sequence[LedgerRow], source: str = "") -> dict[Verdict, int]:
    """How many claims have which verdict, by the rows that count."""
    verdicts = [row.verdict for row in decided(rows, source)]
    return {verdict: verdicts.count(verdict) for verdict in Verdict}


def headline(rows: Sequence[LedgerRow]) -> str:
    """How many of the paper's claims have which verdict, in a sentence of HTML."""
    paper = counts(rows, "paper")
    shown = [
        ledger_page.label(verdict, f"<strong>{n}</strong> {verdict}")
        for verdict, n in paper.items()
        if n or verdict in TESTED
    ]
    return f'<p class="ctd-headline">Of {sum(paper.values())} claims of the paper: {", ".join(shown)}.</p>'


def front_page(rows: Sequence[LedgerRow], explorer: str) -> str:
    """The findings as HTML for the front page of the book.

    rows: the ledger (`ledger.judge_claims`).
    explorer: address of the page that the button Explore opens.
    """
    known = {row.claim.id for row in rows}
    cards = [card(question, rows) for question in QUESTIONS if known & set(question.claims)]
    buttons = {explorer: "Explore", "your_model.html": "Run on my model", "validate.html": "Check"}
    links = "".join(f'<a class="ctd-button" href="{address}">{name}</a>' for address, name in buttons.items())
    return "\n".join(
        [
            headline(rows),
            f'<div class="ctd-cards">{"".join(cards)}</div>',
            f'<p class="ctd-buttons">{links}</p>',
            '<p class="ctd-small">A dot is an estimate, its bar the 95 % interval, and the dashed line the value that '
            "it is compared with. The dot is filled where the interval excludes that value. Each card shows the "
            "numbers that support its claims least. The verdict on a claim is that of the most precise run that tests "
            "it: this book's own or a published one.</p>",
        ]
    )


def verdict_grid(rows: Sequence[LedgerRow]) -> str:
    """Claims by models as HTML for the front page, linked to the ledger."""
    return f"{ledger_page.legend()}\n{ledger_page.grid(rows, LEDGER)}"


def card(question: Question, rows: Sequence[LedgerRow]) -> str:
    """A question with what its claims say, the verdicts, the numbers, the model, and links."""
    by_id = {row.claim.id: row for row in decided(rows)}
    shown = [by_id[name] for name in question.claims if name in by_id]
    numbers = [number for row in shown for number in weakest(row, MOST // len(shown))]
    numbers += gains_over_traces() if question.curve else []
    claims = "".join(
        f'<li>{ledger_page.label(row.verdict)}: <a href="{LEDGER}#{ledger_page.anchor(row.claim)}">'
        f"{escape(row.claim.statement)}</a>{disagreement(row, rows)}</li>"
        for row in shown
    )
    return (
        f'<section class="ctd-card"><h2>{escape(question.asks)}</h2><ul class="ctd-answers">{claims}</ul>'
        f"{forest(numbers)}{_source(shown)}</section>"
    )


def disagreement(decided: LedgerRow, rows: Sequence[LedgerRow]) -> str:
    """The verdicts that runs give where they differ, in one line of HTML; "" where all that test the claim agree.

    decided: the row that counts, which is said first.
    rows: the ledger; for every other verdict the line names the most precise run.
    """
    tested = [row for row in rows if row.claim is decided.claim and row.verdict in TESTED]
    by_verdict = {row.verdict: row for row in sorted(tested, key=width, reverse=True)}
    by_verdict.pop(decided.verdict, None)
    if not by_verdict:
        return ""
    named = [decided, *by_verdict.values()]
    sizes = [row.traces for row in named]
    by_size = None not in sizes and len(set(sizes)) == len(sizes)
    each = [
        f"{ledger_page.label(row.verdict)} {f'with {row.traces:,} traces' if by_size else _run(row)}" for row in named
    ]
    return f' <span class="ctd-disagreement">Runs disagree: {", ".join(each)}.</span>'


def _run(row: LedgerRow) -> str:
    return f"in {ledger_page.breakable(row.published_run)}" if row.published_run else f"in {ledger_page.OWN}"


def weakest(row: LedgerRow, most: int) -> list[Number]:
    """The numbers of a claim that support it least, `most` of them at most."""

    def doubt(name: str, part: Part, estimate: Estimate) -> float:
        return verdicts.evidence(estimate, part.claimed, part.bound, part.null).holds

    doubted = sorted(row.estimates, key=lambda each: doubt(*each), reverse=True)[:most]
    shown = [each for each in row.estimates if each in doubted]
    return [Number(name, estimate, part.null) for name, part, estimate in shown]


def _source(rows: Sequence[LedgerRow]) -> str:
    """The model, its data and the chapter that a card's numbers come from, as HTML."""
    run = next((row for row in rows if row.stem), None)
    if run is None:
        return f'<p class="ctd-source">Chapter {rows[0].claim.chapter} has no run yet.</p>'
    chapter = f'<a href="notebooks/{run.page}">Chapter {run.claim.chapter}</a>'
    published = f", published run {ledger_page.breakable(run.published_run)}" if run.published_run else ""
    return f'<p class="ctd-source">{escape(ledger_page.model(run.data))}{published} · {chapter}</p>'


def gains_over_traces() -> list[Number]:
    """The gain of teaching the mechanism with the fewest and the most traces, by the published run with the most."""
    curves = []
    for run, _ in published_runs.learning_curves():
        table = results.select(run.frame(), metric="ndcg", arm="mechanistic", baseline="cot").dropna(subset="traces")
        if table["traces"].nunique() > 1:
            curves.append(table[table["interval_over"] == "documents"].sort_values("traces"))
    if not curves:
        return []
    longest = max(curves, key=lambda table: table["traces"].max())
    ends_of_curve = longest.iloc[[0, -1]][["k", "traces", "value", "low", "high"]]
    return [
        Number(f"gain in nDCG@{k}, {traces:,} traces", Estimate(*ends)) for k, traces, *ends in ends_of_curve.to_numpy()
    ]


def forest(numbers: Sequence[Number]) -> str:
    """Numbers below each other on one scale: name, dot with its interval and the null line, number."""
    if not numbers:
        return ""
    ends = [end for number in numbers for end in (*number.estimate[1:], number.null)]
    low, high = min(ends), max(ends)
    rows = "".join(
        f'<div class="ctd-number"><span>{escape(number.name)}</span>{dot(number, low, high)}'
        f"<span>{report.estimate(*number.estimate, digits=2)}</span></div>"
        for number in numbers
    )
    return f'<div class="ctd-forest">{rows}</div>'


def dot(number: Number, low: float, high: float) -> str:
    """A number with its interval and its null value as inline SVG, on a scale from low to high."""
    value, least, most = number.estimate

    def place(at: float) -> str:
        return f"{8 + (WIDTH - 16) * (at - low) / ((high - low) or 1):.1f}"

    is_shown = not least <= number.null <= most
    title = f"{number.name}: {report.estimate(*number.estimate)}, compared with {number.null:g}"
    return (
        f'<svg class="ctd-dot" viewBox="0 0 {WIDTH} 16" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>"
        f'<path d="M{place(number.null)} 0v16" stroke-dasharray="2 2" stroke="currentColor" opacity=".6"/>'
        f'<path d="M{place(least)} 8H{place(most)}" stroke="currentColor" stroke-width="2"/>'
        f'<circle cx="{place(value)}" cy="8" r="5" stroke="currentColor" stroke-width="2" '
        f'fill="{"currentColor" if is_shown else "var(--pst-color-background, #fff)"}"/></svg>'
    )
