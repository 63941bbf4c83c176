"""The page of related work: every neighbouring system, what it does, and where this book runs it or why it does not.

Notes: systems are read from `data/related_work.csv`, and what is run from the registry of methods and the modules of
the analyses. Either is matched with its system by the arXiv number in its source, so that a new one shows by itself.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from ctd.cache import DATA
from ctd.distill import boundary, calibration, comparison, diversity, hacking, retrieval_arm
from ctd.distill.methods import METHODS, Method

TABLE = DATA / "related_work.csv"
COLUMNS = ("system", "arXiv", "kind", "what it does", "in this book", "what it would take", "read")
FILTERED = ("kind", "in this book", "read")
NUMBER = re.compile(r"arXiv:(\d{4}\.\d{5})")
NOT_RUN = "not run"
ANALYSES = (boundary, calibration, diversity, hacking)  # of chapter 15; each module states its source


@dataclass(frozen=True)
class System:
    """A neighbouring system.

    system: its name.
    arxiv: its number there; "" where it is not known.
    id_checked: "yes" where the number was seen beside the title, else "".
    known: how well we know it, as in `Method.known`; "" for related work, known by its title and abstract at most.
    kind: "arm", "curation", "inference", "analysis" or "related work".
    what: what it does.
    needs: why it is not run, or what a run of it would take; "" where nothing is missing.
    """

    system: str
    arxiv: str
    id_checked: str
    known: str
    kind: str
    what: str
    needs: str


def systems(path: Path = TABLE) -> list[System]:
    """All systems of a table."""
    with open(path, newline="", encoding="utf-8") as file:
        return [System(**row) for row in csv.DictReader(file)]


def number_of(source: str) -> str:
    """The arXiv number in a statement of a source; "" where it has none."""
    matched = NUMBER.search(source)
    return matched[1] if matched else ""


def related_work(listed: list[System] | None = None, methods: Mapping[str, Method] | None = None) -> list[list[str]]:
    """The rows of the page, each a cell of HTML for each of `COLUMNS`.

    A method whose source is not among the systems has a row of its own, below them.

    listed: the systems; those of the repository when not given.
    methods: what is run, by name; when not given, all that is registered, and the arm without a language model.
    """
    listed = systems() if listed is None else listed
    others = [_without_language_model()] if methods is None else []
    methods = METHODS if methods is None else methods
    run: dict[str, list[str]] = {}
    for name, method in methods.items():
        run.setdefault(number_of(method.source) or method.source, []).append(name)
    rows = [_row(system, [*run.pop(system.arxiv, []), *_analyses(system)]) for system in listed]
    for names in run.values():
        method = methods[names[0]]
        number = number_of(method.source)
        source = method.source.removesuffix(f"arXiv:{number}").rstrip(", ") or names[0]
        what = f"{method.summary}."
        rows.append(_row(System(source, number, "yes", method.known, "general baseline", what, ""), names))
    return rows + others


def page_table() -> str:
    """The rows as a table of HTML whose rows a reader can choose and sort (`book/_static/book.js`)."""
    rows = related_work()
    filters = " ".join(str(COLUMNS.index(name)) for name in FILTERED)
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    body = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        '<div class="ctd-scroll" tabindex="0" role="region" aria-label="Related work">\n'
        f'<table class="dataframe ctd-systems" data-filters="{filters}">'
        f"<caption>{len(rows)} systems and baselines.</caption>"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>\n</div>"
    )


def _without_language_model() -> list[str]:
    number = number_of(retrieval_arm.SOURCE)
    source = retrieval_arm.SOURCE.removesuffix(f", arXiv:{number}")
    what = f"{retrieval_arm.SUMMARY}."
    system = System(source, number, "yes", retrieval_arm.KNOWN, "general baseline", what, "")
    return _row(system, [comparison.RETRIEVAL])


def _analyses(system: System) -> list[str]:
    """The names of the analyses that ask what a system asks."""
    modules = [module for module in ANALYSES if number_of(module.__doc__ or "") == system.arxiv]
    return [module.__name__.rpartition(".")[2] for module in modules]


def _row(system: System, names: list[str]) -> list[str]:
    run = ", ".join(f"<code>{escape(name)}</code>" for name in names) or NOT_RUN
    return [
        escape(system.system),
        _link(system),
        system.kind,
        escape(system.what),
        run,
        escape(system.needs),
        system.known or "title",
    ]


def _link(system: System) -> str:
    """The number with its address; one that was not seen beside the title is marked, and has none."""
    if not system.arxiv:
        return "unknown"
    if not system.id_checked:
        return f"{system.arxiv} (unchecked)"
    return f'<a href="https://arxiv.org/abs/{system.arxiv}">{system.arxiv}</a>'
