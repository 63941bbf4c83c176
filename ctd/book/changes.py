"""What a change of the code did to the results: two sets of runs, chapter by chapter, as Markdown.

Notes: for the summary of a pull request. Times and memory are left out, and so are differences within the default
tolerance of golden results, which another processor may make.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ctd.book import compare, validate
from ctd.book.markdown import table
from ctd.book.page import read_answer
from ctd.book.results import Row
from ctd.book.run_folder import RunFolder, all_runs, find_run

MOST = 40  # results that are listed


@dataclass(frozen=True)
class Changed:
    """One result that differs beyond its tolerance; None on a side that lacks it."""

    chapter: str
    before: Row | None
    after: Row | None

    @property
    def row(self) -> Row:
        """The result on a side that has it."""
        present = self.after or self.before
        assert present is not None
        return present

    @property
    def note(self) -> str:
        """How far apart the two are."""
        return compare.apart(self.before, self.after)


def summary(first: Path, second: Path) -> str:
    """What differs between two runs, or between the runs of the same names in two folders, as Markdown.

    first: a run, or a folder of runs such as `runs/`.
    second: the same, after the change.
    Raises FileNotFoundError where there is no run, ValueError for a damaged one.
    """
    before, after = _runs(first), _runs(second)
    both = [name for name in after if name in before]
    changed = {name: list(_changed(name, before[name], after[name])) for name in both}
    rows = [
        [
            name,
            f"{len(validate.comparable(after[name].rows)):,}",
            str(len(changed[name]) or ""),
            _answers(before[name], after[name]),
        ]
        for name in both
    ]
    n_changed = sum(map(len, changed.values()))
    n_results = sum(len(validate.comparable(after[name].rows)) for name in both)
    n_runs = sum(map(bool, changed.values()))
    headline = f"**{n_changed:,} of {n_results:,} results changed**, in {n_runs} of {len(both)} runs."
    parts = [headline, table(["run", "results", "changed", "answer"], rows)] if both else ["No run is in both."]
    for word, names in (("before", before.keys() - after.keys()), ("after", after.keys() - before.keys())):
        parts += [f"Only {word}: {', '.join(sorted(names))}."] if names else []
    everything = [each for several in changed.values() for each in several]
    listed = sorted(everything, key=_importance, reverse=True)[:MOST]
    if listed:
        cells = [[c.chapter, c.row.label, compare.say(c.before), compare.say(c.after), c.note] for c in listed]
        head = (
            "All changed results" if len(listed) == len(everything) else f"{len(listed)} of {len(everything)} results"
        )
        parts += [f"### {head}", table(["run", "result", "before", "after", "change"], cells)]
    return "\n\n".join(parts) + "\n"


def _runs(folder: Path) -> dict[str, RunFolder]:
    """The runs beneath a folder, by name; else the one run that it is, by its notebook."""
    runs = {str(run.path.relative_to(folder)): run for run in all_runs(folder)}
    if runs:
        return runs
    run = find_run(str(folder))
    return {run.stem: run}


def _changed(chapter: str, before: RunFolder, after: RunFolder) -> Iterator[Changed]:
    sides = [validate.comparable(run.rows) for run in (before, after)]
    for identity in sides[0] | sides[1]:
        row, other = (side.get(identity) for side in sides)
        if row is None or other is None or not validate.close(row.value, other.value, validate.default_tolerance(row)):
            yield Changed(chapter, row, other)


def _importance(changed: Changed) -> tuple[bool, bool, bool]:
    """Verdicts first, then intervals that are apart, then what is on both sides."""
    one_sided = changed.before is None or changed.after is None
    return changed.row.unit == "verdict", compare.APART in changed.note, not one_sided


def _answers(before: RunFolder, after: RunFolder) -> str:
    sentences = [(read_answer(run) or {}).get("sentence") for run in (before, after)]
    return "" if sentences[0] == sentences[1] else "changed"
