"""Two runs side by side: what differs in how they were made, and in what they found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ctd.book.results import Row
from ctd.book.run_folder import RunFolder
from ctd.book.runs import KEY_PARTS

ABSENT = "-"
CODE = ("notebook", "profile", "commit", "dirty", *(part for part in KEY_PARTS if part.endswith("_hash")))


@dataclass(frozen=True)
class Difference:
    """One thing that differs. section: parameters, code, versions, hardware or results. note: how far apart."""

    section: str
    what: str
    first: str
    second: str
    note: str = ""


def differences(first: RunFolder, second: RunFolder) -> list[Difference]:
    """All that differs between two runs, section by section."""
    one, two = first.manifest, second.manifest
    found = [*_between("parameters", one["parameters"], two["parameters"])]
    found += _between("code", {name: one[name] for name in CODE}, {name: two[name] for name in CODE})
    for section in ("versions", "hardware"):
        found += _between(section, one[section], two[section])
    for row, other in joined(first, second):
        if row != other:
            label = (row or other).label  # type: ignore[union-attr]
            found.append(Difference("results", label, say(row), say(other), _apart(row, other)))
    return found


def joined(first: RunFolder, second: RunFolder) -> Iterator[tuple[Row | None, Row | None]]:
    """The results of two runs, side by side by identity; None where one of them lacks a result."""
    sides = [{row.identity: row for row in run.rows} for run in (first, second)]
    for identity in sides[0] | sides[1]:
        yield sides[0].get(identity), sides[1].get(identity)


def _between(section: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[Difference]:
    for name in [*one, *(name for name in two if name not in one)]:
        sides = one.get(name, ABSENT), two.get(name, ABSENT)
        if sides[0] != sides[1]:
            yield Difference(section, name, _short(name, sides[0]), _short(name, sides[1]))


def _short(name: str, value: Any) -> str:
    return str(value)[:12] if name == "commit" or name.endswith("_hash") else str(value)


def say(row: Row | None) -> str:
    """A result as text: value, interval when it has one, unit."""
    if row is None:
        return ABSENT
    interval = f" [{_digits(row.interval[0])}, {_digits(row.interval[1])}]" if row.interval else ""
    return f"{_digits(row.value)}{interval} {row.unit}"


def _digits(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _apart(row: Row | None, other: Row | None) -> str:
    """The difference of two numbers, and whether their intervals are apart; "" where there is none."""
    if row is None or other is None:
        return ""
    if not isinstance(row.value, int | float) or not isinstance(other.value, int | float):
        return ""
    change = other.value - row.value
    note = ("+" if change > 0 else "") + _digits(change)
    if row.interval and other.interval:
        apart = row.interval[1] < other.interval[0] or other.interval[1] < row.interval[0]
        note += ", intervals apart" if apart else ", intervals overlap"
    return note
