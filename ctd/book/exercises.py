"""Exercises at the end of a chapter: a parameter to change, the command, and what to expect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import yaml

from ctd.cache import ROOT

FILE = ROOT / "book" / "exercises.yml"


class Exercise(NamedTuple):
    """What a reader can try.

    task: what to change, and what to ask.
    command: one `ctd` command.
    expect: what should come of it, in words.
    results: the same of rows of results, for a test: columns with their values, and under `becomes` what they become
        beside the chapter's own run.
    """

    task: str
    command: str
    expect: str
    results: Sequence[Mapping[str, Any]] = ()


@cache
def exercises() -> dict[str, list[Exercise]]:
    """The exercises of every chapter, by its stem."""
    return {
        stem: [Exercise(**entry) for entry in entries] for stem, entries in yaml.safe_load(FILE.read_text()).items()
    }


def section(stem: str) -> str:
    """The exercises of a chapter as Markdown, each with its solution folded; "" where it has none."""
    of_chapter = exercises().get(stem, [])
    lines = ["## Exercises", ""]
    for number, exercise in enumerate(of_chapter, 1):
        lines += [f"**{number}.** {exercise.task}", "", "```sh", exercise.command, "```", ""]
        lines += [f"::::{{dropdown}} What to expect of exercise {number}", exercise.expect, "::::", ""]
    return "\n".join(lines) if of_chapter else ""
