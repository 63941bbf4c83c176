"""From lines of a file to documents: what the readers of users' own files share.

Notes: every message names file and line, counted from 1. A file counts as gzip by its first bytes, not by its name.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from ctd.data.readers.packed import DAMAGED, open_unpacked
from ctd.data.readers.streams import SCHEMA

AT_ONCE = 1_000
POLICIES = ("error", "drop", "keep")


def read_lines(file: Path) -> Iterator[tuple[str, str]]:
    """Each line of a file: where it stands ("trn.json, line 3", with the file's path), and its text without the end.

    The file is never held whole; a bar shows how much of it is read.

    file: gzip or plain, UTF-8.
    Raises ValueError, naming file and line, for a truncated or damaged gzip file and for bytes that are not UTF-8.
    """
    number = 0
    try:
        with (
            open_unpacked(file) as (raw, stream),
            tqdm(desc=f"reading {file.name}", total=file.stat().st_size, unit="B", unit_scale=True) as bar,
        ):
            for number, line in enumerate(decoded(stream, str(file)), 1):
                if number % AT_ONCE == 0:
                    bar.update(raw.tell() - bar.n)
                yield line
            bar.update(raw.tell() - bar.n)
    except DAMAGED as error:
        raise ValueError(f"{file} is a truncated or damaged gzip file, after line {number}; fetch it again") from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{file} cannot be read, after line {number} ({error.strerror})") from error


def decoded(lines: Iterable[bytes], name: str) -> Iterator[tuple[str, str]]:
    """Each line of UTF-8, with where it stands; a mark of the encoding before the first is left out.

    name: of the file, for messages.
    Raises ValueError, naming file and line, for other bytes.
    """
    for number, line in enumerate(lines, 1):
        try:
            yield f"{name}, line {number}", line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{name}, line {number}: byte {error.start + 1} (0x{error.object[error.start]:02x}) is not UTF-8; "
                "convert the file to UTF-8, for instance with iconv"
            ) from error


def read_json_lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line of a file: where it stands, and the JSON object on it.

    file: gzip or plain, UTF-8.
    Raises ValueError, naming file and line, for a line that holds no JSON object, or one that has a field twice, and
    what `read_lines` raises.
    """
    for where, line in read_lines(file):
        if not line.strip():
            raise ValueError(f"{where}: empty line; remove it")
        try:
            record = json.loads(line, object_pairs_hook=_each_once)
            if "\\u" in line:  # an escape may stand for half a character
                json.dumps(record, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            reason = str(error).replace("line 1 column", "column")
            raise ValueError(f"{where}: not valid JSON ({reason}); one object a line is wanted") from error
        if not isinstance(record, dict):
            raise ValueError(f"{where}: expected one JSON object a line (JSON Lines), got a {type(record).__name__}")
        yield where, record


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of a JSON object. Raises ValueError for one that stands twice: which of the two counts is a guess."""
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the field {next(name for name in names if names.count(name) > 1)!r} stands twice; keep one")
    return record


def field(record: Mapping[str, Any], name: str, where: str) -> Any:
    """The value of a field. Raises ValueError, with the fields that there are, when it is missing."""
    if name not in record:
        raise ValueError(f"{where}: no field {name!r}; it has {', '.join(map(repr, record)) or 'none'}")
    return record[name]


def string(record: Mapping[str, Any], name: str, where: str) -> str:
    """The stripped string in a field, "" for null. Raises ValueError when it is missing or no string."""
    value = field(record, name, where)
    if not isinstance(value, str | None):
        raise ValueError(f"{where}: {name!r} must be a string, got {_short(value)}")
    return (value or "").strip()


def identifier(record: Mapping[str, Any], name: str, where: str) -> str:
    """The uid in a field, a string or a whole number. Raises ValueError when it is anything else or empty."""
    value = field(record, name, where)
    if type(value) is int:
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: {name!r} must be a string or a whole number, and not empty, got {_short(value)}")
    return value.strip()


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:59] + "…"


class Documents:
    """Checks documents as they come and writes them in Arrow batches of `SCHEMA`, so that few are held.

    sinks: for each split, what takes its batches.
    on_empty: what to do with a document without text or without labels: "error" stops there, "drop" leaves it out and
        counts it in `dropped`, "keep" keeps it.
    Raises ValueError for another policy.
    """

    def __init__(self, sinks: Mapping[str, Callable[[pa.RecordBatch], object]], on_empty: str) -> None:
        if on_empty not in POLICIES:
            raise ValueError(f"on_empty must be one of {', '.join(POLICIES)}, got {on_empty!r}")
        self.sinks, self.on_empty = sinks, on_empty
        self.dropped: Counter[str] = Counter()
        self._seen: set[str] = set()
        self._waiting: dict[str, list[tuple[str, str, list[int]]]] = {split: [] for split in sinks}

    def add(self, where: str, split: str, uid: str, text: str, labels: list[int]) -> bool:
        """Take a document and return True, or leave it out and return False.

        where: where it stands, for messages.
        split: the split that it belongs to.
        uid: its name.
        text: its text.
        labels: its label numbers.
        Raises ValueError for a uid seen before.
        """
        if uid in self._seen:
            raise ValueError(f"{where}: uid {uid!r} stands more than once; keep one of them")
        self._seen.add(uid)
        if self.on_empty != "keep" and not (text and labels):
            missing = "labels" if text else "text"
            if self.on_empty == "error":
                raise ValueError(
                    f"{where}: document {uid!r} has no {missing}; pass on_empty='drop' to leave such documents out, "
                    "or on_empty='keep' to keep them"
                )
            self.dropped[f"documents without {missing}"] += 1
            return False
        self._waiting[split].append((uid, text, labels))
        if len(self._waiting[split]) == AT_ONCE:
            self._write(split)
        return True

    def finish(self) -> None:
        """Write what still waits."""
        for split in self.sinks:
            self._write(split)

    def _write(self, split: str) -> None:
        if rows := self._waiting[split]:
            columns = [
                pa.array(column, kind.type) for column, kind in zip(zip(*rows, strict=True), SCHEMA, strict=True)
            ]
            self.sinks[split](pa.record_batch(columns, schema=SCHEMA))
            rows.clear()
