"""The ledger: every claim with the verdict that follows from recorded runs.

Notes: runs of a chapter that are published with the book (`ctd.book.published_runs`) are judged by the same rule, in
rows of their own. The paper's claims that can be tested on the reader's own runs are a family: their verdicts are
corrected for one another. So are those of published runs that were made from one commit, on one machine.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from ctd.book import notebook_files, published_runs, results, run_folder, verdicts
from ctd.book.chapters import LEDGER as STEM
from ctd.book.chapters import NEEDS
from ctd.book.claim_rules import Claim, Part, said
from ctd.book.claims import CLAIMS, NONE
from ctd.book.compare import say
from ctd.book.results import RESULTS, IntervalOver, Row
from ctd.book.run_folder import RunFolder
from ctd.book.verdicts import TESTED, Estimate, Evidence, Judgement, Verdict
from ctd.cache import ROOT

COLUMNS = ("claim", "rule", "published", "ours", "verdict", "why", "data, teacher", "chapter")


@dataclass(frozen=True)
class LedgerRow:
    """A claim with its verdict.

    claim: the claim.
    verdict: what follows from the run.
    why: what decided it: the precondition that failed, or the smallest effect that could have been seen.
    p: of the verdict, corrected for the other claims of its family; None where nothing was tested.
    stem: the notebook whose run was read, "" for none.
    data: the dataset and the teacher of that run.
    ours: its numbers in words.
    published_run: the name of a run that is published with the book, "" for the reader's own.
    origin: how a published run was made.
    estimates: the numbers, each with its name and its part of the claim; none where the run lacks one.
    traces: how many traces its students learned from; None for a run without students.
    """

    claim: Claim
    verdict: Verdict
    why: str = ""
    p: float | None = None
    stem: str = ""
    data: str = NONE
    ours: tuple[str, ...] = (NONE,)
    published_run: str = ""
    origin: str = ""
    estimates: tuple[tuple[str, Part, Estimate], ...] = ()
    traces: int | None = None

    @property
    def key(self) -> tuple[str, str | None]:
        """The claim and the published run that its verdict is recorded under."""
        return self.claim.id, self.published_run or None

    @property
    def page(self) -> str:
        """The page of its chapter: where its numbers are, or the top, where a chapter that ended early has none."""
        return f"{self.stem}.html" + (f"#{self.claim.place}" if self.estimates else "")

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as text, by `COLUMNS`."""
        claim, ours = self.claim, "; ".join(self.ours)
        where = (
            f"data/results/{self.published_run} ({self.origin})" if self.published_run else self.stem or claim.chapter
        )
        return claim.statement, claim.rule, claim.published, ours, self.verdict, self.why, self.data, where


def lines(rows: Sequence[LedgerRow], rules: bool = False, width: int = 100) -> list[str]:
    """The ledger for a terminal: a paragraph for each claim, and below it one for each published run.

    rows: as `judge_claims` gives them.
    rules: whether to say each claim's rule.
    width: of the lines, in characters.
    """
    printed: list[str] = []
    for row in rows:
        ours = not row.published_run
        title = f"[{row.verdict}] {row.claim.statement if ours else f'by the published run {row.published_run}'}"
        facts = [("rule", row.claim.rule if rules and ours else ""), ("published", row.claim.published if ours else "")]
        facts += [("ours", "; ".join(row.ours)), ("why", row.why), ("data, teacher", row.data)]
        facts += [("chapter", (row.stem or row.claim.chapter) if ours else "")]
        indent = "" if ours else "    "
        printed += ["", *textwrap.wrap(title, width, initial_indent=indent, subsequent_indent=f"{indent}    ")]
        for name, text in facts:
            if text and text != NONE:
                first, below = f"{indent}    {name}: ", f"{indent}        "
                printed += textwrap.wrap(text, width, initial_indent=first, subsequent_indent=below)
    return [*printed[1:], ""]


def judge_claims(profile: str, folder: Path | None = None) -> list[LedgerRow]:
    """Every claim with its verdict, by the reader's runs and then by the published ones.

    profile: that of the reader's runs.
    folder: where they are, as `<stem>/<profile>` (`runs/`).
    A published run that did not record what a rule reads has no row. Its preconditions are looked up in published runs
    that were made with it, where there are any.
    Raises ValueError with one line for a run that cannot be read, and for two notebooks of one number.
    """
    folder = folder or run_folder.RUNS

    @cache
    def readers_run(chapter: str) -> RunFolder | None:
        return find_own(chapter, profile, folder)

    published_of = cache(published_runs.of)  # the runs of a chapter are read once
    rows = []
    for claim in CLAIMS:
        instruments = {need.chapter: readers_run(need.chapter) for need in claim.needs.values() if need.chapter}
        run = readers_run(claim.chapter)
        rows.append(judge_run(claim, run, instruments) if run else LedgerRow(claim, Verdict.NOT_RUN))
        for published in published_of(claim.chapter):
            row = judge_run(claim, published, instruments | _made_with(published, map(published_of, instruments)))
            if row.verdict is not Verdict.NOT_RUN:
                rows.append(replace(row, published_run=published.path.name, origin=published_runs.how_made(published)))
    return _corrected(rows)


def _made_with(run: RunFolder, by_chapter: Iterable[Sequence[RunFolder]]) -> dict[str, RunFolder | None]:
    """By chapter number, the first published run made from the same commit on the same machine as a run."""
    how_made = published_runs.how_made(run)
    together = [[other for other in runs if published_runs.how_made(other) == how_made] for runs in by_chapter]
    return {runs[0].stem[:2]: runs[0] for runs in together if runs}


def _corrected(rows: Sequence[LedgerRow]) -> list[LedgerRow]:
    """The rows with verdicts corrected for the other claims of their family (Holm)."""
    corrected = list(rows)
    families: dict[tuple[str, str, str], list[int]] = {}
    for place, row in enumerate(rows):
        if row.verdict in TESTED:
            families.setdefault((row.claim.source, row.origin, row.data), []).append(place)
    for places in families.values():
        alone = [Judgement(rows[place].verdict, rows[place].p or 0.0) for place in places]
        for place, before, after in zip(places, alone, verdicts.corrected(alone), strict=True):
            why = rows[place].why
            if after.verdict is not before.verdict:
                why = f"{before.verdict} by itself, not among {len(places)} claims (Holm, p = {after.p:.2g})"
            corrected[place] = replace(rows[place], verdict=after.verdict, p=after.p, why=why)
    return corrected


def find_own(chapter: str, profile: str, folder: Path) -> RunFolder | None:
    """The reader's run of a chapter under a profile. Raises ValueError as `judge_claims` does."""
    paths = sorted(folder.glob(f"{chapter}_*/{profile}/{RESULTS}"))
    if len(paths) > 1:  # some may be of a notebook that had this number before
        known = {path.stem for path in notebook_files.notebooks()}
        paths = [path for path in paths if path.parent.parent.name in known] or paths
    if len(paths) > 1:
        stems = ", ".join(path.parent.parent.name for path in paths)
        raise ValueError(f"chapter {chapter} must be one notebook; {folder} has runs of {stems}: remove one")
    return RunFolder(paths[0].parent) if paths else None


def judge_run(claim: Claim, run: RunFolder, instruments: Mapping[str, RunFolder | None]) -> LedgerRow:
    """A claim with its verdict by one run, before it is corrected for others.

    instruments: the runs, by chapter, in which preconditions are looked up.
    Raises ValueError where a run cannot be read.
    """
    try:
        parameters, rows = run.manifest["parameters"], run.rows
        data = ", ".join(parameters[name] for name in ("dataset", "teacher") if name in parameters)
        numbers = {name: _read(part, parameters, rows) for name, part in claim.parts.items()}
        ours = tuple(shown for name, part in claim.parts.items() for shown in _say(name, part, parameters, rows))
        traces = next((row.value for row in rows if row.label == "traces" and isinstance(row.value, int)), None)
        judged = LedgerRow(claim, Verdict.NOT_RUN, "", None, run.stem, data, ours, traces=traces)
        if not all(numbers.values()):
            why = results.untestable(rows)
            return replace(judged, verdict=Verdict.NOT_TESTABLE, why=why) if why else judged
        named = [
            _named(name, part.reads.read(rows, parameters), part.reads.largest) for name, part in claim.parts.items()
        ]
        first = [estimates[0] for estimates in numbers.values()]
        judged = replace(judged, estimates=tuple(zip(named, claim.parts.values(), first, strict=True)))
        if failed := _failed(claim, run, instruments):
            return replace(judged, verdict=Verdict.NOT_TESTABLE, why=failed)
        judgement = verdicts.judge([_evidence(claim.parts[name], estimates) for name, estimates in numbers.items()])
        why = (
            _could_have_seen(claim, numbers)
            if judgement.verdict is Verdict.INCONCLUSIVE
            else _refuted_by(claim, numbers, judgement.verdict)
        )
        return replace(judged, verdict=judgement.verdict, p=judgement.p, why=why)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{run.path} is not a whole run ({error!r}); run the notebook again with --force") from None


def _failed(claim: Claim, run: RunFolder, instruments: Mapping[str, RunFolder | None]) -> str:
    """The preconditions that do not hold, with what was found; "" where all do."""
    failed = []
    for name, need in claim.needs.items():
        place = instruments.get(need.chapter) if need.chapter else run
        row = need.read(place.rows, place.manifest["parameters"]) if place else None
        if not need.holds(row):
            value = "not recorded" if row is None else say(row) + (f", n = {row.n}" if row.n else "")
            failed.append(f"{_named(name, row, need.reads.largest)}: {value}, where {need.words} is needed")
    return "; ".join(failed)


def _read(part: Part, parameters: Mapping[str, Any], rows: Sequence[Row]) -> list[Estimate]:
    """The estimates of a number, one for each thing that was drawn anew; [] where the run lacks it."""
    overs: list[tuple[IntervalOver, ...]] = [("documents",)]
    if part.students:
        overs = [("documents and seeds",), ("documents", "seeds")]
    for over in overs:
        estimates = [_estimate(part, parameters, rows, each) for each in over]
        if all(estimates):
            return [estimate for estimate in estimates if estimate]
    return []


def _estimate(part: Part, parameters: Mapping[str, Any], rows: Sequence[Row], over: IntervalOver) -> Estimate | None:
    number = Estimate.of_row(part.reads.read(rows, parameters, over))
    if part.less is None or number is None:
        return number
    subtracted = Estimate.of_row(part.less.read(rows, parameters, over))
    return number.less(subtracted.times(part.share)) if subtracted else None


def _evidence(part: Part, estimates: Sequence[Estimate]) -> Evidence:
    """What all estimates of a number show."""
    each = [verdicts.evidence(estimate, part.claimed, part.bound, part.null) for estimate in estimates]
    return Evidence(*(max(values) for values in zip(*each, strict=True)))


def _could_have_seen(claim: Claim, numbers: Mapping[str, Sequence[Estimate]]) -> str:
    """For each part that shows nothing, the smallest effect that it could have shown."""
    seen = []
    for name, part in claim.parts.items():
        shown = _evidence(part, numbers[name])
        if min(shown) > verdicts.SIDE:
            least = max(map(verdicts.smallest_seen, numbers[name]))
            seen.append(f"{said(name)}: only an effect of {least:.2g} or more could have been seen")
    return "; ".join(seen)


def _refuted_by(claim: Claim, numbers: Mapping[str, Sequence[Estimate]], verdict: Verdict) -> str:
    """Which of several numbers refute the claim; "" for a claim with one, or one that is not refuted."""
    field = {Verdict.CONTRADICTED: "opposite", Verdict.EQUIVALENT: "nothing"}.get(verdict)
    if field is None or len(numbers) < 2:
        return ""
    shown = {name: getattr(_evidence(claim.parts[name], estimates), field) for name, estimates in numbers.items()}
    refuting = [said(name) for name, p in shown.items() if p * len(numbers) <= verdicts.SIDE]
    return f"by the {'number' if len(refuting) == 1 else 'numbers'}: {'; '.join(refuting)}"


def _say(name: str, part: Part, parameters: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """A number as the ledger says it, with each of its intervals."""
    row = part.reads.read(rows, parameters)
    named = _named(name, row, part.reads.largest)
    if row is None:
        return [f"{named}: none"]
    estimates = _read(part, parameters, rows)
    if part.less is not None and estimates:
        return [f"{named}: {_rounded(*estimates[0])} ({row.unit})"]
    others: tuple[IntervalOver, ...] = ("documents and seeds", "seeds") if part.students else ()
    beside = [(over, other) for over in others if (other := part.reads.read(rows, parameters, over))]
    shown = [f"{named}: {_rounded(row.value, *(row.interval or ()))} ({row.unit})"]
    return shown + [f"{named}, over {over}: {_rounded(other.value, *(other.interval or ()))}" for over, other in beside]


def _rounded(value: Any, *interval: float) -> str:
    """A number with its interval to three decimals, without idle zeros."""

    def short(number: Any) -> str:
        return f"{round(number, 3) + 0:.3f}".rstrip("0").rstrip(".") if isinstance(number, int | float) else str(number)

    return short(value) + (f" [{', '.join(map(short, interval))}]" if interval else "")


def _named(name: str, row: Row | None, largest: str) -> str:
    return said(name, "*" if row is None else getattr(row, largest or "metric"))


def counts(rows: Sequence[LedgerRow], source: str = "") -> dict[Verdict, int]:
    """How many claims have each verdict, by the reader's own runs.

    source: "paper" or "ours" for the claims of one; "" for all.
    """
    of_reader = [row for row in rows if not row.published_run and source in ("", row.claim.source)]
    return {verdict: sum(row.verdict is verdict for row in of_reader) for verdict in Verdict}


def runs_beside(folder: Path) -> Path:
    """The folder of runs that holds a chapter's run `<runs>/<chapter>/<profile>`; else the repository's own."""
    return folder.parent.parent if folder.parent.name in (STEM, *NEEDS[STEM]) else ROOT / run_folder.RUNS
