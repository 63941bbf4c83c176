"""What two readings marked in texts of the model that nobody here trained.

    python -m ctd.recipes.natural_marks reader_a.csv reader_b.csv

checks two files of marks against the sheet `data/natural_sheet.jsonl` and joins them as `data/natural_marks.csv`. The
sheet has the sentences of 60 texts; `data/natural_guide.md` is what the readers followed. A file of marks has the
columns text, sentence and kind: a row for each sentence with a letter of `KINDS`, and for each text a row without a
sentence, with `boundary=` and the number of a sentence, or `boundary=none`.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ctd.cache import DATA, atomic
from ctd.data.label_space import LabelSpace
from ctd.reasoning.sentences import sentences

SHEET, LABELS, MARKS = DATA / "natural_sheet.jsonl", DATA / "natural_labels.txt", DATA / "natural_marks.csv"
COLUMNS = ("text", "sentence", "kind")
READERS = ("a", "b")
KINDS = {
    "C": "weighs labels against each other",
    "J": "judges a label by itself",
    "L": "names labels without judging",
    "A": "final answer",
    "N": "none of these",
}
BOUNDARY = re.compile(r"boundary=([1-9][0-9]*|none)")
LETTER = re.compile(r"[^\W\d_]")


class SheetText(NamedTuple):
    """A text of the sheet.

    text: its number.
    source: the file of `data/texts` that it comes from (the first eight characters), and its row there.
    sentences: which, joined, are the text.
    """

    text: int
    source: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class TextMarks:
    """What a reader marked in a text.

    kinds: a letter of `KINDS` for each sentence.
    boundary: the number of the sentence where Phase 1 ends, from 1; None where it does not.
    """

    kinds: str
    boundary: int | None


Reading = list[TextMarks]  # in the order of the sheet


def pieces(text: str) -> list[str]:
    """The sentences of a text as the readers see them: what has no letter, such as "1.", goes with the next."""
    parts: list[str] = []
    for start, end in sentences(text):
        piece = text[start:end]
        if parts and not LETTER.search(parts[-1]):
            parts[-1] += piece
        else:
            parts.append(piece)
    if len(parts) > 1 and not LETTER.search(parts[-1]):
        last = parts.pop()
        parts[-1] += last
    return parts


def read_sheet(path: Path = SHEET) -> list[SheetText]:
    """The texts that were marked."""
    entries = map(json.loads, path.read_text("utf-8").splitlines())
    return [SheetText(entry["text"], entry["source"], tuple(entry["sentences"])) for entry in entries]


def read_labels(path: Path = LABELS) -> LabelSpace:
    """The labels that every prompt showed."""
    texts = path.read_text("utf-8").splitlines()
    return LabelSpace("heart-failure, shown", texts, texts, len(texts))


def read_reading(path: Path, sheet: Sequence[SheetText]) -> Reading:
    """What one reader marked.

    Raises ValueError in one line, with the file and the line in it, for marks that do not fit the sheet.
    """
    return _checked(_rows(path, COLUMNS), sheet, path.name)


def read_marks(sheet: Sequence[SheetText], path: Path = MARKS) -> list[Reading]:
    """What each of the two readers marked, from the file that has both.

    Raises ValueError as `read_reading` does.
    """
    rows = _rows(path, ("reader", *COLUMNS))
    for line, (reader, *_) in rows:
        if reader not in READERS:
            raise ValueError(f"{path.name}, line {line}: reader must be one of {', '.join(READERS)}, got {reader!r}")
    return [
        _checked([(line, fields) for line, (name, *fields) in rows if name == reader], sheet, path.name)
        for reader in READERS
    ]


def join(readings: Sequence[Reading], sheet: Sequence[SheetText], path: Path = MARKS) -> None:
    """Write what both readers marked into one file."""
    with atomic(path) as scratch, open(scratch, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(("reader", *COLUMNS))
        for reader, reading in zip(READERS, readings, strict=True):
            for text, marks in zip(sheet, reading, strict=True):
                out.writerows((reader, text.text, number, kind) for number, kind in enumerate(marks.kinds, 1))
                out.writerow((reader, text.text, "", f"boundary={marks.boundary or 'none'}"))


def _rows(path: Path, columns: Sequence[str]) -> list[tuple[int, list[str]]]:
    """The rows below the header, each with its line; empty lines are left out."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, [field.strip() for field in row]) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path.name} is no CSV file in UTF-8: {error}") from None
    if not rows or rows[0][1] != list(columns):
        raise ValueError(f"{path.name} must begin with the line {','.join(columns)}")
    for line, row in rows[1:]:
        if len(row) != len(columns):
            raise ValueError(f"{path.name}, line {line}: a row has {len(columns)} fields, got {len(row)}")
    return rows[1:]


def _checked(rows: Iterable[tuple[int, Sequence[str]]], sheet: Sequence[SheetText], name: str) -> Reading:
    """The marks by text, each sentence and boundary marked once."""
    lengths = {str(text.text): len(text.sentences) for text in sheet}
    kinds: dict[tuple[str, int], str] = {}
    boundaries: dict[str, int | None] = {}
    for line, (text, sentence, mark) in rows:
        where = f"{name}, line {line}"
        if text not in lengths:
            raise ValueError(f"{where}: text must be a number of the sheet (1 to {len(lengths)}), got {text!r}")
        if not sentence:
            if (boundary := BOUNDARY.fullmatch(mark)) is None:
                raise ValueError(f"{where}: without a sentence, a row has boundary=NUMBER or =none, got {mark!r}")
            if text in boundaries:
                raise ValueError(f"{where}: the boundary of text {text} is marked twice")
            boundaries[text] = None if boundary[1] == "none" else _number(boundary[1], lengths[text], where)
            continue
        number = _number(sentence, lengths[text], where)
        if mark not in KINDS:
            raise ValueError(f"{where}: kind must be one of {', '.join(KINDS)}, got {mark!r}")
        if (text, number) in kinds:
            raise ValueError(f"{where}: sentence {number} of text {text} is marked twice")
        kinds[text, number] = mark
    for text, length in lengths.items():
        if missing := next((number for number in range(1, length + 1) if (text, number) not in kinds), None):
            raise ValueError(f"{name}: sentence {missing} of text {text} is not marked")
        if text not in boundaries:
            raise ValueError(f"{name}: text {text} has no row with its boundary")
    return [
        TextMarks("".join(kinds[text, number] for number in range(1, length + 1)), boundaries[text])
        for text, length in lengths.items()
    ]


def _number(digits: str, length: int, where: str) -> int:
    """The number of a sentence of a text that has so many."""
    if not digits.isdecimal() or not 1 <= int(digits) <= length:
        raise ValueError(f"{where}: sentence must be a number from 1 to {length}, got {digits!r}")
    return int(digits)


def main(arguments: Sequence[str] | None = None) -> None:
    """Check two files of marks and join them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readings", nargs=len(READERS), type=Path, metavar="MARKS", help="the marks of one reader")
    sheet = read_sheet()
    try:
        readings = [read_reading(path, sheet) for path in parser.parse_args(arguments).readings]
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    join(readings, sheet)
    print(f"{MARKS.name}: {len(READERS)} readings of {len(sheet)} texts", file=sys.stderr)


if __name__ == "__main__":
    main()
