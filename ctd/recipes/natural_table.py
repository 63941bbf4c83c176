"""The table `data/natural.csv`: what the answers of a model that nobody here trained are worth, and what it wrote."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ctd.cache import DATA, atomic

TABLE = DATA / "natural.csv"
MODEL, DATASET = "qwen-1.5b", "heart-failure"
CUTOFF = 5
THINKING, AT_ONCE, RETRIEVER = "after thinking", "answer at once", "retriever's order"
PROMPT, RANDOM = "order of the prompt", "random order"
MEASURES = ("exact match", f"nDCG@{CUTOFF}", f"recall@{CUTOFF}")


class Row(NamedTuple):
    """A number of the table, with its 95 % interval over documents.

    part: "score", "less" (after thinking less another ranking of the same documents) or "text".
    method: whose ranking; "" for what is counted in the texts.
    measure: what is measured.
    value: the mean over documents.
    low: of its interval.
    high: of its interval.
    """

    part: str
    method: str
    measure: str
    value: float
    low: float
    high: float


def write(rows: Sequence[Row], path: Path = TABLE) -> None:
    """Write the table, whole or not at all."""
    with atomic(path) as scratch, open(scratch, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(Row._fields)
        out.writerows([*row[:3], *(f"{value:.6g}" for value in row[3:])] for row in rows)


def read(path: Path = TABLE) -> list[Row]:
    """The table as it was written."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return [Row(part, method, measure, *map(float, numbers)) for part, method, measure, *numbers in rows]
