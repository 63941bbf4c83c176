"""The answer of chapter 15, in words made from its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ctd.book import report
from ctd.book.verdicts import Estimate
from ctd.distill import boundary, hacking

HACKED = {
    "hacked": "leads away from the truth",
    "not hacked": "leads towards the truth",
    "overfitting": "is overfitting",
    "inconclusive": "is not shown to lead away from the truth",
    "not testable": "could not be tried",
}
"""What learning a student's texts for longer does, by the verdict of `hacking.verdicts`."""


def calibration(measured: pd.DataFrame, teacher: str = "teacher") -> str:
    """Whether students are worse calibrated than their teacher. The two intervals are taken as independent.

    measured: columns arm, measure, value, low and high.
    """
    errors = {row["arm"]: _estimate(row) for row in _records(measured[measured["measure"] == "ece"])}
    of_teacher = errors.pop(teacher)
    gaps = [(arm, *error.less(of_teacher)) for arm, error in errors.items()]
    sides = report.by_side(gaps, "higher for", "lower for", "not shown to differ for")
    return f"the calibration error is {sides}"


def diversity(differences: Mapping[str, tuple[float, float, float]]) -> str:
    """Whether the answers that students draw differ more among themselves than their teacher's.

    differences: by arm, the entropy of its answers minus the teacher's, with its interval.
    """
    gaps = [(arm, *gap) for arm, gap in differences.items()]
    return f"drawn answers vary {report.by_side(gaps, 'more for', 'less for', 'neither more nor less for', 'nats')}"


def hacked(rises: pd.DataFrame, verdicts: Mapping[str, str]) -> str:
    """What learning another student's texts for longer does.

    rises: as `hacking.changes` makes them.
    verdicts: as `hacking.verdicts` makes them.
    """
    numbers = {
        f"{row['steps']} to {row['to']} steps": report.estimate(*_estimate(row))
        for row in _records(rises[rises["curve"] == hacking.BEYOND])
    }
    words = []
    for steps, verdict in verdicts.items():
        rise = f": beyond the control, the loss on the truth rises by {numbers[steps]}" if steps in numbers else ""
        words.append(f"{HACKED[verdict]} ({steps}{rise})")
    return f"learning a student's texts for longer {'; '.join(words)}"


def phases_together(shares: pd.DataFrame) -> str:
    """Whether the two phases are right on the same documents.

    shares: as `boundary.reach` makes them, with a column arm.
    """
    gaps = [(row["arm"], *_estimate(row)) for row in _records(shares[shares["part"] == boundary.BEYOND])]
    more, fewer = "more documents than if they failed apart for", "fewer documents than if they failed apart for"
    sides = report.by_side(gaps, more, fewer, "no more documents than if they failed apart for")
    return f"both phases are right about {sides}"


def answer(*clauses: str) -> str:
    """The clauses as two sentences: students compared with their teacher, then what else was found."""
    first, second, *others = clauses
    rest = "; ".join(others)
    return f"Compared with the teacher, {first}, and {second}. {rest[:1].upper()}{rest[1:]}."


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _estimate(row: Mapping[str, Any]) -> Estimate:
    return Estimate(row["value"], row["low"], row["high"])
