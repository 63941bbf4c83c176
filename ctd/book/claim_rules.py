"""What a claim is made of: the numbers that it stands on, and what must hold before it can be tested."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from ctd.book.results import DIMENSIONS, IntervalOver, Row
from ctd.book.verdicts import Claimed, Estimate


@dataclass(frozen=True)
class Filter:
    """Which result of a run a claim reads: a filter over its rows.

    metrics: what is measured; one of these, where a parameter of the notebook decides.
    dimensions: what else the row says. It says nothing but this, except that it may name the run's own dataset and
        teacher.
    largest: a dimension that is free: of the rows that are left, the one with the largest value there is read.
    over: what the interval is over, whatever is asked for; "" for that.
    """

    metrics: tuple[str, ...]
    dimensions: Mapping[str, Any]
    largest: str = ""
    over: IntervalOver | Literal[""] = ""

    def __repr__(self) -> str:  # the digests of rules are made of it
        over = f", over={self.over!r}" if self.over else ""
        return f"Filter(metrics={self.metrics!r}, dimensions={self.dimensions!r}, largest={self.largest!r}{over})"

    def read(
        self, rows: Sequence[Row], parameters: Mapping[str, Any], over: IntervalOver | None = "documents"
    ) -> Row | None:
        """The row that the claim reads; None where the run has none.

        parameters: the parameters of the run.
        over: what the row's interval is over.
        Raises ValueError where the run has several such rows.
        """
        of_run = {name: (None, parameters.get(name)) for name in ("dataset", "teacher")}
        wanted = {name: of_run.get(name, (self.dimensions.get(name),)) for name in DIMENSIONS if name != self.largest}
        matching = [
            row
            for row in rows
            if row.metric in self.metrics
            and row.interval_over == (self.over or over)
            and all(getattr(row, name) in values for name, values in wanted.items())
        ]
        if self.largest:
            matching = [row for row in matching if getattr(row, self.largest) is not None]
            most = max((getattr(row, self.largest) for row in matching), default=None)
            matching = [row for row in matching if getattr(row, self.largest) == most]
        if len(matching) > 1:
            raise ValueError(
                f"a claim reads one result, and {len(matching)} are {matching[0].label}: record one of them"
            )
        return matching[0] if matching else None


def reads(
    metrics: str | tuple[str, ...], largest: str = "", over: IntervalOver | Literal[""] = "", **dimensions: Any
) -> Filter:
    return Filter((metrics,) if isinstance(metrics, str) else metrics, dimensions, largest, over)


SAID = {
    "beyond shuffled lines": "compared with shuffled lines",
    "less that of shortlisting heads": "compared with shortlisting heads",
    "documents asked": "share of the near miss",
    "documents, Phase 1": "quality lost without Phase 1",
    "documents, Phase 2": "quality lost without Phase 2",
}
"""Names of numbers that pages say in other words."""


def said(name: str, largest: str = "*") -> str:
    """What pages call a number of a claim. The names themselves are in the digests of rules, and stay as they are.

    largest: the largest value that was found, for "{largest}" (see `Filter`).
    """
    plain = SAID.get(name, name).format(largest=largest)
    return plain.replace(" less ", " minus ")


@dataclass(frozen=True)
class Part:
    """A number that a claim stands on.

    reads: which result it is.
    claimed: where it should lie: "above" or "below" the null value, or "at" it.
    bound: the smallest difference from the null value that would matter.
    null: what it is held against.
    less: a result that is subtracted first.
    share: what `less` is multiplied by.
    students: whether it must also hold over seeds, that is, over how students were trained.
    """

    reads: Filter
    claimed: Claimed
    bound: float
    null: float = 0.0
    less: Filter | None = None
    share: float = 1.0
    students: bool = False

    @property
    def words(self) -> str:
        """Where it should lie, in words."""
        at = {"above": "above", "below": "below", "at": "within the bound of"}[self.claimed]
        return f"{at} {self.null:g} (bound {self.bound:g})"


@dataclass(frozen=True)
class Precondition:
    """What must hold before a claim can be tested.

    reads: a result.
    above: what its whole interval must lie above; None for no such limit.
    below: what its whole interval must lie below; None for no such limit.
    n: how many documents it must rest on.
    says: what it must be, for a result that is a text.
    chapter: the number of the notebook that records it, in the same profile; "" for the claim's own run.
    less: a result of the same run that is subtracted first.
    """

    reads: Filter
    above: float | None = None
    below: float | None = None
    n: int = 0
    says: str = ""
    chapter: str = ""
    less: Filter | None = None

    def __repr__(self) -> str:  # the digests of rules are made of it
        stated = [(each.name, getattr(self, each.name)) for each in fields(self) if each.name != "less" or self.less]
        return f"Precondition({', '.join(f'{name}={value!r}' for name, value in stated)})"

    def read(self, rows: Sequence[Row], parameters: Mapping[str, Any]) -> Row | None:
        """The result; see `Filter.read`. None where one is missing that is subtracted."""
        row = self.reads.read(rows, parameters, None if self.says else "documents")
        if self.less is None or row is None:
            return row
        number, other = Estimate.of_row(row), Estimate.of_row(self.less.read(rows, parameters))
        if number is None or other is None:
            return None
        value, *interval = number.less(other)
        return row.model_copy(update={"value": value, "interval": tuple(interval)})

    def holds(self, row: Row | None) -> bool:
        if row is None or self.says:
            return row is not None and row.value == self.says
        low, high = row.interval or (-math.inf, math.inf)
        within = (self.above is None or low > self.above) and (self.below is None or high < self.below)
        return within and row.interval is not None and (row.n or 0) >= self.n

    @property
    def words(self) -> str:
        """What must hold, in words."""
        limits = [f"above {self.above:g}"] if self.above is not None else []
        limits += [f"below {self.below:g}"] if self.below is not None else []
        limits += [f"based on at least {self.n} documents"] if self.n else []
        return f'"{self.says}"' if self.says else " and ".join(limits)


@dataclass(frozen=True)
class Claim:
    """One claim, and how it is judged.

    id: its name in the ledger.
    statement: what is claimed.
    published: its number, from `data/published.json`.
    chapter: the number of its notebook.
    place: an anchor on that chapter's page.
    parts: the numbers that it stands on, by what the ledger calls them; "{largest}" in that text stands for the largest
        value that was found (see `Filter`).
    needs: what must hold first, by what the ledger calls it.
    source: whether the paper says so, or it is a check of ours.
    """

    id: str
    statement: str
    published: str
    chapter: str
    place: str
    parts: Mapping[str, Part]
    needs: Mapping[str, Precondition] = field(default_factory=dict)
    source: Literal["paper", "ours"] = "paper"

    @property
    def rule(self) -> str:
        """When it is reproduced, in words."""
        stands = "; ".join(f"{said(name)} is {part.words}" for name, part in self.parts.items())
        first = "; ".join(f"{said(name)} is {need.words}" for name, need in self.needs.items())
        return stands + (f". Tested only if {first}" if first else "")

    @property
    def digest(self) -> str:
        """Changes when the rule does, and with nothing else."""
        return hashlib.sha256(repr((self.id, self.chapter, self.parts, self.needs)).encode()).hexdigest()[:12]
