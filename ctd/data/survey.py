"""What is in a user's own table: which columns hold texts and labels, and what the labels are like."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from ctd.data.readers import label_cells, tables
from ctd.data.readers.lines import string
from ctd.text import stop_words

LABEL_NAMES = ("labels", "label", "codes", "code", "keywords", "tags", "categories", "category", "classes", "class")
UID_NAMES = ("uid", "id")
SEPARATORS = (";", "|", ",")
SPLIT_FROM = 0.1  # of the cells, that must hold a separator before it counts as one
ENGLISH_FROM = 0.2  # of the words: English prose has about 30 % of these stop words, other languages under 10 %
SAMPLE = 2_000  # texts that the language is told by


@dataclass(frozen=True)
class Survey:
    """What a table holds.

    file: the table.
    columns: their names, with the kind of their values.
    text_column: the column with the texts.
    label_column: the column with the labels.
    separator: what stands between the labels of a cell; "" where a cell is one label or a list.
    n_rows: how many documents there are.
    without_text: how many have no text.
    without_labels: how many have no label.
    duplicates: how many have the text of an earlier one.
    words: of a text, in the middle (median).
    labels: each label with the number of its documents, most frequent first.
    labels_a_document: mean and most, of documents with labels.
    english: the share of English stop words among the words.
    """

    file: Path
    columns: Mapping[str, str]
    text_column: str
    label_column: str
    separator: str
    n_rows: int
    without_text: int
    without_labels: int
    duplicates: int
    words: float
    labels: Mapping[str, int]
    labels_a_document: tuple[float, int]
    english: float

    @property
    def seen_once(self) -> int:
        """How many labels have one document: the tail."""
        return sum(count == 1 for count in self.labels.values())

    def sentences(self) -> list[str]:
        """What was found, a line each."""
        mean_labels, most = self.labels_a_document
        common = ", ".join(f"{label} ({count:,})" for label, count in list(self.labels.items())[:3])
        tail = self.seen_once / max(len(self.labels), 1)
        looks = "looks" if self.english >= ENGLISH_FROM else "does not look"
        facts = [
            f"{self.n_rows:,} documents; columns "
            + ", ".join(f"{name} ({kind})" for name, kind in self.columns.items()),
            f"texts in {self.text_column!r}: {self.words:,.0f} words (median); {looks} like English prose "
            f"({self.english:.0%} stop words)",
            f"labels in {self.label_column!r}"
            + (f", several in a cell, divided by {self.separator!r}" if self.separator else "")
            + f": {len(self.labels):,} different ones, {mean_labels:.1f} a document ({most} at most)",
            f"most frequent: {common}; {self.seen_once:,} labels ({tail:.0%}) have one document",
        ]
        for count, predicate in (
            (self.without_text, "have no text and will be left out"),
            (self.without_labels, "have no label and will be left out"),
            (
                self.duplicates,
                "repeat the text of another: remove them, or a test document may also be a training document",
            ),
        ):
            facts += [f"{count:,} documents {predicate}"] if count else []
        if self.english < ENGLISH_FROM:
            facts.append("BM25 and minilm are made for English: name another encoder with -p encoder=NAME")
        return facts


def survey(file: Path, text_column: str = "", label_column: str = "", separator: str | None = None) -> Survey:
    """Look at a table.

    file: see `ctd.data.readers.tables.SUFFIXES`.
    text_column: the column with the texts; "" for the one with the longest values.
    label_column: the column with the labels; "" for one that is called so, else the one whose values repeat most.
    separator: what stands between the labels of a cell; "" for nothing, None to find out.
    Raises ValueError for a table without documents, a column that is not there, or no column that could hold labels.
    """
    located = list(tables.read_rows(file))
    rows = [row for _, row in located]
    if not rows:
        raise ValueError(f"{file} holds no rows: give a table with a document a row")
    for option, name in (("--text-column", text_column), ("--label-column", label_column)):
        if name and name not in rows[0]:
            raise ValueError(f"{file} has no column {name!r} ({option}); there are: {', '.join(map(repr, rows[0]))}")
    if label_column and label_column == text_column:
        raise ValueError(f"--text-column and --label-column both name {text_column!r}: name one column each")
    columns = {name: _kind([row.get(name) for row in rows]) for name in rows[0]}
    text_column = text_column or _text_column(file, rows, columns, label_column)
    label_column = label_column or _label_column(file, rows, columns, text_column)
    cells = [row.get(label_column) for row in rows]
    separator = _separator(cells) if separator is None else separator
    pairs = [text_and_labels(row, where, text_column, label_column, separator) for where, row in located]
    texts, labels = [text for text, _ in pairs], [names for _, names in pairs]
    counts = Counter(label for names in labels for label in dict.fromkeys(names))
    if not counts:
        raise ValueError(f"{file} has no label in {label_column!r}: name the column that has them with --label-column")
    filled = [len(set(names)) for names in labels if names]
    return Survey(
        file, columns, text_column, label_column, separator, len(rows), sum(not text for text in texts),
        sum(not names for names in labels), len(texts) - len(set(texts)), median(len(text.split()) for text in texts),
        dict(counts.most_common()), (mean(filled), max(filled)), _english(texts[:SAMPLE]),
    )  # fmt: skip


def text_and_labels(
    row: Mapping[str, Any], where: str, text_column: str, label_column: str, separator: str
) -> tuple[str, list[str]]:
    """The text of a document, "" for none, and its labels.

    row: of the table, by column.
    where: where it stands, for messages.
    text_column: the column of its texts.
    label_column: the column of their labels.
    separator: what divides the labels of a cell; "" for nothing.
    Raises ValueError for a text that is no string, and for labels other than strings, whole numbers and lists of such.
    """
    cell = row.get(label_column)
    if isinstance(cell, str) and cell.strip()[:1] == "[":
        cell = label_cells.list_in_text(cell.strip(), where, label_column)
    if isinstance(cell, str) and separator:
        cell = cell.split(separator)
    return string({text_column: row.get(text_column)}, text_column, where), label_cells.names(cell, where, label_column)


def _kind(values: Sequence[Any]) -> str:
    kinds = {type(value).__name__ for value in values if value is not None and value != ""}
    names = {"str": "text", "int": "number", "float": "number", "list": "list", "bool": "true or false"}
    return " or ".join(sorted({names.get(kind, kind) for kind in kinds})) or "empty"


def _text_column(file: Path, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], label_column: str) -> str:
    lengths = {
        name: mean(len(str(row.get(name) or "")) for row in rows)
        for name, kind in columns.items()
        if kind == "text" and name != label_column
    }
    if not lengths:
        raise ValueError(f"{file} has no column with texts: name one with --text-column")
    return max(lengths, key=lengths.__getitem__)


def _label_column(file: Path, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], text_column: str) -> str:
    others = [name for name in columns if name != text_column and name.lower() not in UID_NAMES]
    named = [name for known in LABEL_NAMES for name in others if name.lower() == known]
    lists = [name for name in others if columns[name] == "list"]
    repeats = {name: len({str(row.get(name)) for row in rows}) for name in others if columns[name] != "empty"}
    candidates = named or lists or sorted((name for name in repeats if repeats[name] > 1), key=repeats.__getitem__)
    if not candidates:
        raise ValueError(f"{file} has no column that could hold labels: name one with --label-column")
    return candidates[0]


def _separator(cells: Sequence[Any]) -> str:
    """What stands in many cells; a comma, which may be part of a label, only where parts repeat more than cells do."""
    texts = [cell for cell in cells if isinstance(cell, str) and cell.strip() and not cell.strip().startswith("[")]
    for separator in SEPARATORS:
        n_split = sum(separator in text for text in texts)
        parts = {part.strip() for text in texts for part in text.split(separator)}
        if n_split and n_split >= SPLIT_FROM * len(texts) and (separator != "," or len(parts) < len(set(texts))):
            return separator
    return ""


def _english(texts: Iterable[str]) -> float:
    words = [word for text in texts for word in re.findall(r"[^\W\d_]+", text.lower())]
    return sum(word in stop_words() for word in words) / len(words) if words else 0.0
