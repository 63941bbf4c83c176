"""Documents to be labelled: from a file or standard input, one after the other."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from ctd.data.readers import tables
from ctd.data.readers.lines import decoded, identifier, read_lines

UIDS = ("uid", "id")  # columns that name documents, where nobody says which does
STDIN = "-"


class Document(NamedTuple):
    """A document to be labelled.

    uid: its name; by default its number from 0.
    text: what it says.
    """

    uid: str
    text: str


def read(source: str, text: str = "text", uid: str = "") -> Iterator[Document]:
    """The documents of a file, or of standard input.

    source: a table (see `ctd.data.readers.tables.SUFFIXES`), any other file as plain text with a document a line, or
        "-" for standard input: JSON Lines where the first line begins with a brace, else a document a line. Blank lines
        are skipped.
    text: the column with the documents.
    uid: the column with their names; "" for `uid` or `id` where there is one.
    Raises FileNotFoundError for a file that is not there, and ValueError, naming file and line, for a row without a
    text or without the columns.
    """
    if source == STDIN:
        filled = ((where, line) for where, line in decoded(sys.stdin.buffer, "standard input") if line.strip())
        first = list(islice(filled, 1))
        lines = chain(first, filled)
        if first and first[0][1].lstrip().startswith("{"):
            return _of_rows(((where, _json_object(line, where)) for where, line in lines), text, uid)
        return _of_lines(lines)
    path = Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {source}; give a file, or - for standard input")
    if path.name.lower().endswith(tables.SUFFIXES):
        return _of_rows(tables.read_rows(path), text, uid)
    return _of_lines(read_lines(path))


def _of_lines(lines: Iterable[tuple[str, str]]) -> Iterator[Document]:
    texts = (line.strip() for _, line in lines)
    return (Document(str(number), line) for number, line in enumerate(filter(None, texts)))


def _of_rows(rows: Iterable[tuple[str, Mapping[str, Any]]], text: str, uid: str) -> Iterator[Document]:
    for number, (where, row) in enumerate(rows):
        for option, column in (("--text-column", text), ("--uid-column", uid)):
            if column and column not in row:
                columns = ", ".join(map(repr, row)) or "none"
                raise ValueError(f"{where}: no column {column!r} ({option}); there are: {columns}")
        value, named = row[text], uid or next((column for column in UIDS if column in row), "")
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{where}: {text!r} must be a text that is not empty, got {value!r:.60}")
        yield Document(identifier(row, named, where) if named else str(number), value.strip())


def _json_object(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not valid JSON ({error}); one object a line is wanted") from error
    if not isinstance(record, dict):
        raise ValueError(f"{where}: expected one JSON object a line (JSON Lines), got a {type(record).__name__}")
    return record
