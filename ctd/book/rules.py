"""The rules of the ledger themselves: how often they err, and which came first, a rule or the run that it judges.

Notes: `data/rules.csv` has a digest of each claim's rule, and git knows with which commit that came. A rule that was
written after the run which it judges may have been fitted to it. The ledger shows both commits.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pandas as pd

from ctd.book import published_runs, verdicts
from ctd.book.claims import CLAIMS
from ctd.book.ledger import LedgerRow
from ctd.book.run_folder import RunFolder
from ctd.book.verdicts import TESTED, Verdict
from ctd.cache import DATA, ROOT

FILE = DATA / "rules.csv"
UNKNOWN = "unknown"
FIRST, LATER = "the rule", "the run"


def write(path: Path = FILE) -> None:
    """Write the digest of every rule as it stands in the code."""
    pd.DataFrame({"claim": [claim.id for claim in CLAIMS], "rule": [claim.digest for claim in CLAIMS]}).to_csv(
        path, index=False
    )


def commit(digest: str) -> str:
    """The commit with which a rule came, "unknown" where git's history does not go back as far or there is none."""
    hashes = _git("log", f"-S{digest}", "--format=%h", "--reverse", "--", str(FILE.relative_to(ROOT))).split()
    return hashes[0] if hashes else UNKNOWN


def first(rule: str, run: str) -> str:
    """Which of two commits came first, "the rule" or "the run", or "unknown"."""
    if UNKNOWN in (rule, run) or not run or not _git("rev-parse", "--verify", "--quiet", f"{run}^{{commit}}"):
        return UNKNOWN
    return FIRST if _git("merge-base", rule, run).startswith(_git("rev-parse", rule).strip()) else LATER


def provenance(rows: Sequence[LedgerRow], folder: Path, profile: str) -> pd.DataFrame:
    """Which came first, the rule or the run that it judges, a row for each verdict that was tested.

    folder: where the reader's runs are, as `<stem>/<profile>`.
    profile: that of the reader's runs.
    """
    table = []
    for row in rows:
        if row.verdict in TESTED:
            place = published_runs.FOLDER / row.published_run if row.published_run else folder / row.stem / profile
            of_rule, of_run = commit(row.claim.digest), str(RunFolder(place).manifest["commit"])[:7]
            table.append((row.claim.id, row.published_run or "yours", of_rule, of_run, first(of_rule, of_run)))
    return pd.DataFrame(table, columns=["claim", "run", "rule's commit", "run's commit", "which came first"])


def power() -> pd.DataFrame:
    """How often each rule errs, and how often it finds what is there, on simulated studies (our definition).

    Every number has a standard error of a quarter of its bound. "false alarm": nothing is there, and the verdict is
    "reproduced" or "contradicted"; of a claim that something is nothing, every number lies at its bound. "power": every
    number lies at twice its bound on the claimed side, or at 0 where the claim says so.
    Returns one row per claim.
    """
    table = []
    for claim in CLAIMS:
        parts = [(part.claimed, part.bound) for part in claim.parts.values()]
        errors = [bound / 4 for _, bound in parts]
        side = {"above": 2.0, "below": -2.0, "at": 0.0}
        null = [bound if claimed == "at" else 0.0 for claimed, bound in parts]
        there = [side[claimed] * bound for claimed, bound in parts]
        wrong, right = (verdicts.simulate(parts, truths, errors) for truths in (null, there))
        alarm = wrong[Verdict.REPRODUCED] + wrong[Verdict.CONTRADICTED]
        table.append((claim.id, len(parts), alarm, right[Verdict.REPRODUCED]))
    return pd.DataFrame(table, columns=["claim", "numbers", "false alarm", "power"])


@cache
def _git(*words: str) -> str:
    """What git says, "" where it fails or is missing."""
    try:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


if __name__ == "__main__":
    write()
