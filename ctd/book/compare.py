"""Two runs side by side: what differs in how they were made, and in what they found."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctd.book.results import Row
from ctd.book.run_folder import RunFolder
from ctd.book.runs import KEY_PARTS

ABSENT = "-"
APART = "intervals apart"
CODE = ("notebook", "profile", "commit", "dirty", *(part for part in KEY_PARTS if part.endswith("_hash")))

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui; margin: 2rem auto; max-width: 75rem; padding: 0 1rem }}
table {{ border-collapse: collapse; display: block; margin: 1.5rem 0; overflow-x: auto }}
caption {{ font-weight: bold; text-align: left }} h1, td {{ overflow-wrap: anywhere }}
td, th {{ border-bottom: 1px solid #8886; padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top }}
</style></head><body>
{body}
</body></html>"""


@dataclass(frozen=True)
class Difference:
    """One thing that differs between two runs.

    section: parameters, code, versions, hardware or results.
    what: its name.
    first: how the first run has it.
    second: how the second run has it.
    note: how far apart the two are.
    """

    section: str
    what: str
    first: str
    second: str
    note: str = ""


def differences(first: RunFolder, second: RunFolder) -> list[Difference]:
    """All that differs between two runs, section by section."""
    manifests = first.manifest, second.manifest
    differing = [*_between("parameters", *(manifest["parameters"] for manifest in manifests))]
    differing += _between("code", *({name: manifest[name] for name in CODE} for manifest in manifests))
    for section in ("versions", "hardware"):
        differing += _between(section, *(manifest[section] for manifest in manifests))
    for row, other in joined(first, second):
        if row != other:
            label = (row or other).label  # type: ignore[union-attr]
            differing.append(Difference("results", label, say(row), say(other), apart(row, other)))
    return differing


def page(first: RunFolder, second: RunFolder, changes: Sequence[Difference]) -> str:
    """What differs, as a page for a browser that needs nothing from elsewhere.

    changes: as `differences` gives them.
    """
    names = [html.escape(run.name) for run in (first, second)]
    parts = [f"<h1>{names[0]} and {names[1]}</h1>"] + ([] if changes else ["<p>Nothing differs.</p>"])
    for section in dict.fromkeys(change.section for change in changes):
        heads = "".join(f'<th scope="col">{name}</th>' for name in (section, *names, "change"))
        rows = [(d.what, d.first, d.second, d.note) for d in changes if d.section == section]
        cells = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
        body = "".join(f"<tr>{row}</tr>" for row in cells)
        parts.append(f"<table><caption>{section}, {len(rows)} that differ</caption><tr>{heads}</tr>{body}</table>")
    return PAGE.format(title=f"{names[0]} and {names[1]}", body="\n".join(parts))


def joined(first: RunFolder, second: RunFolder) -> Iterator[tuple[Row | None, Row | None]]:
    """The results of two runs, side by side by identity; None where one of them lacks a result."""
    sides = [{row.identity: row for row in run.rows} for run in (first, second)]
    for identity in sides[0] | sides[1]:
        yield sides[0].get(identity), sides[1].get(identity)


def _between(section: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Difference]:
    for name in dict.fromkeys([*first, *second]):
        sides = first.get(name, ABSENT), second.get(name, ABSENT)
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


def apart(row: Row | None, other: Row | None) -> str:
    """The difference of two numbers, and whether their intervals are apart; "" where there is none."""
    if row is None or other is None:
        return ""
    if not isinstance(row.value, int | float) or not isinstance(other.value, int | float):
        return ""
    change = other.value - row.value
    note = ("+" if change > 0 else "") + _digits(change)
    if row.interval and other.interval:
        disjoint = row.interval[1] < other.interval[0] or other.interval[1] < row.interval[0]
        note += f", {APART}" if disjoint else ", intervals overlap"
    return note
