"""Label spaces from a user's own file: a label a line, a table, or what `LabelSpace.save` wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ctd.data.label_space import LabelSpace
from ctd.data.readers import tables
from ctd.data.readers.lines import identifier, read_lines, string

TEXTS = ("text", "label", "name")  # columns that may hold a label's text
SAVED = "labels.parquet"  # beside the weights of a student


def read(file: Path) -> LabelSpace:
    """The label space in a file.

    file: what `LabelSpace.save` wrote, a table with a column `text`, `label` or `name` and perhaps `id`, or plain text
        with a label a line.
    Raises FileNotFoundError for a file that is not there, and ValueError, naming the file, for one without labels or
    with a label that stands twice.
    """
    file = file.expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file} with labels; check the path")
    if file.suffix == tables.PARQUET and b"ctd" in tables.parquet_metadata(file):
        return LabelSpace.load(file)
    labels: dict[str, str] = {}
    for where, name, text in _labels(file):
        if name in labels:
            raise ValueError(f"{where}: the label {name!r} stands more than once; keep one")
        labels[name] = text
    if not labels:
        raise ValueError(f"{file} holds no label; write a label a line, or a table with a column 'text'")
    return LabelSpace(file.name.partition(".")[0], list(labels), list(labels.values()), len(labels))


def _labels(file: Path) -> Iterator[tuple[str, str, str]]:
    """Where each label stands, its id and its text."""
    if not file.name.lower().endswith(tables.SUFFIXES):
        for where, line in read_lines(file):
            if text := line.strip():
                yield where, text, text
        return
    for where, row in tables.read_rows(file):
        column = next((name for name in TEXTS if name in row), None)
        if column is None:
            raise ValueError(f"{where}: no column {' or '.join(map(repr, TEXTS))}; there are: {', '.join(row)}")
        text = string(row, column, where)
        if not text:
            raise ValueError(f"{where}: the label's {column!r} is empty; fill it in or remove the row")
        named = row.get("id") not in (None, "")
        yield where, identifier(row, "id", where) if named else text, text
