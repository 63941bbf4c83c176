"""What the ledger's rules say of the run that is under way, so that a chapter's answer and the ledger agree.

Notes: a chapter judges by its own numbers. What the ledger asks of another chapter first, such as an instrument that
finds known heads, is named and not looked up. Verdicts are not corrected for the other claims of the ledger.

    rows = own_verdicts.judge(chapter, "shortlisting-heads-early")
    report.say(own_verdicts.sentence(rows))
    run.answer(own_verdicts.short(rows), figure="ranking")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ctd.book import ledger
from ctd.book.claims import CLAIMS
from ctd.book.ledger import LedgerRow
from ctd.book.run_folder import RunFolder
from ctd.book.setup import Chapter
from ctd.book.verdicts import Verdict


def judge(chapter: Chapter, *names: str) -> list[LedgerRow]:
    """The verdicts on claims that follow from what a chapter has recorded so far.

    names: of the claims. One whose numbers were not recorded has no row.
    Raises ValueError for an unknown claim.
    """
    claims = {claim.id: claim for claim in CLAIMS}
    if unknown := [name for name in names if name not in claims]:
        raise ValueError(f"a claim must be one of {', '.join(claims)}, got {unknown[0]!r}")
    run = RunFolder(chapter.run.folder)
    vars(run).update(manifest={"notebook": "", "parameters": chapter.settings.model_dump()}, rows=chapter.run.rows)
    rows = []
    for name in names:
        needs = {needed: need for needed, need in claims[name].needs.items() if not need.chapter}
        row = ledger.judge_run(replace(claims[name], needs=needs), run, {})
        if row.verdict is not Verdict.NOT_RUN:
            rows.append(replace(row, claim=claims[name]))
    return rows


def sentence(rows: Sequence[LedgerRow]) -> str:
    """The verdicts in words, each with its reason; "" without any."""
    return _words(rows, reasons=True)


def short(rows: Sequence[LedgerRow]) -> str:
    """The verdicts in words without reasons, for a chapter's answer; "" without any."""
    return _words(rows, reasons=False)


def _words(rows: Sequence[LedgerRow], reasons: bool) -> str:
    """What needs another chapter's instruments is said to need them."""
    words = []
    for row in rows:
        elsewhere = sorted({need.chapter for need in row.claim.needs.values() if need.chapter})
        verdict = f"**{row.verdict}**"
        if elsewhere and row.verdict is not Verdict.NOT_TESTABLE:
            works = f"if chapter {' and '.join(elsewhere)} finds that the instruments work"
            verdict += f" {works}, otherwise **{Verdict.NOT_TESTABLE}**"
        reason = f" ({row.why})" if reasons and row.why else ""
        words.append(f"\u201c{row.claim.statement}\u201d is {verdict}{reason}")
    return f"By the ledger's rules, {'; '.join(words)}." if words else ""
