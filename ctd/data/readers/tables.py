"""Rows of a user's own table: JSON Lines, CSV, TSV or Parquet, read row by row.

Notes: every message names file and line (row for Parquet). A file may be gzipped, but for Parquet.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ctd.data.readers.lines import AT_ONCE, read_json_lines, read_lines

JSON_LINES = (".jsonl", ".json", ".ndjson")
SEPARATED = (".csv", ".tsv")
PARQUET = ".parquet"
SUFFIXES = (*(f"{suffix}{gz}" for suffix in (*JSON_LINES, *SEPARATED) for gz in ("", ".gz")), PARQUET)
DELIMITERS = ",;\t|"

Located = tuple[str, Mapping[str, Any]]  # where a row stands, and the row


def suffix(file: Path) -> str:
    """The ending of a file's name, without .gz, in lower case.

    Raises ValueError for one that is no table's.
    """
    name = file.name.lower()
    if name.endswith(SUFFIXES):
        return Path(name.removesuffix(".gz")).suffix
    raise ValueError(f"{file}: a file must end in one of {', '.join(SUFFIXES)}")


def read_rows(file: Path) -> Iterator[Located]:
    """Each row of a table: where it stands, and its values by column.

    file: its ending says what it is; see `SUFFIXES`.
    Raises ValueError, naming file and line, for a row that cannot be read.
    """
    kind = suffix(file)
    if kind == PARQUET:
        return _parquet(file)
    return read_json_lines(file) if kind in JSON_LINES else _separated(file, "\t" if kind == ".tsv" else "")


def _separated(file: Path, delimiter: str) -> Iterator[Located]:
    """Rows of a CSV or TSV file; a quoted cell may run over several lines.

    delimiter: "" for whichever of `DELIMITERS` stands most often in the first line.
    """
    place = ""

    def texts() -> Iterator[str]:
        nonlocal place
        for where, line in read_lines(file):
            place = where
            yield line + "\n"

    source = texts()
    first = next(source, "")
    if not first.strip():
        raise ValueError(f"{file}: the first line must name the columns, and it is empty")
    delimiter = delimiter or max(DELIMITERS, key=first.count)
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))

    def whole() -> Iterator[str]:
        yield first
        yield from source

    reader = csv.reader(whole(), delimiter=delimiter, strict=True)
    try:
        columns = [name.strip() for name in next(reader)]
        _check_columns(columns, place)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(columns):
                raise ValueError(f"{place}: a row must have {len(columns)} cells, one a column, got {len(cells)}")
            yield place, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        raise ValueError(f"{place}: not valid CSV ({error}); quote cells that hold quotes or line breaks") from error


def _check_columns(names: list[str], where: str) -> None:
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{where}: the column {twice!r} stands twice; rename one")


def _parquet(file: Path) -> Iterator[Located]:
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}; check the path")
    row = 0
    try:
        table = pq.ParquetFile(file)
        _check_columns(table.schema_arrow.names, str(file))
        for batch in table.iter_batches(AT_ONCE):
            for record in batch.to_pylist():
                yield f"{file}, row {row}", record
                row += 1
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def parquet_metadata(file: Path) -> Mapping[bytes, bytes]:
    """What a Parquet file says of itself besides its columns.

    Raises ValueError for a file that is not one.
    """
    try:
        return pq.read_schema(file).metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> ValueError:
    return ValueError(f"{file} is not a whole Parquet file ({str(error).splitlines()[0]}); write it again")
