"""Two runs side by side: what differs in how they were made, and in what they found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ctd.book.runs import KEY_PARTS, RunFolder

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
    for name in [*first.results, *(name for name in second.results if name not in first.results)]:
        sides = first.results.get(name), second.results.get(name)
        if sides[0] != sides[1]:
            found.append(Difference("results", name, say(sides[0]), say(sides[1]), _apart(*sides)))
    return found


def _between(section: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[Difference]:
    for name in [*one, *(name for name in two if name not in one)]:
        sides = one.get(name, ABSENT), two.get(name, ABSENT)
        if sides[0] != sides[1]:
            yield Difference(section, name, _short(name, sides[0]), _short(name, sides[1]))


def _short(name: str, value: Any) -> str:
    return str(value)[:12] if name == "commit" or name.endswith("_hash") else str(value)


def say(result: Mapping[str, Any] | None) -> str:
    """A result as text: value, interval when it has one, unit."""
    if result is None:
        return ABSENT
    interval = f" [{_digits(result['interval'][0])}, {_digits(result['interval'][1])}]" if result["interval"] else ""
    return f"{_digits(result['value'])}{interval} {result['unit']}"


def _digits(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _apart(one: Mapping[str, Any] | None, two: Mapping[str, Any] | None) -> str:
    """The difference of two numbers of one unit, and whether their intervals are apart; "" where there is none."""
    if one is None or two is None or one["unit"] != two["unit"]:
        return ""
    if not all(isinstance(side["value"], int | float) for side in (one, two)):
        return ""
    change = two["value"] - one["value"]
    note = ("+" if change > 0 else "") + _digits(change)
    if one["interval"] and two["interval"]:
        apart = one["interval"][1] < two["interval"][0] or two["interval"][1] < one["interval"][0]
        note += ", intervals apart" if apart else ", intervals overlap"
    return note
