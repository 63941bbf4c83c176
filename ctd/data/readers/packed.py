"""Files of others, packed or not: what they are is told by their first bytes, whatever their name says."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)  # what reading a truncated or damaged gzip file raises
GZIP = b"\x1f\x8b"
UNREAD = {
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf": "7z",
}


@contextmanager
def open_unpacked(file: Path) -> Iterator[tuple[BinaryIO, Any]]:
    """The file as it lies on disk, which knows how far it was read, and the stream of its unpacked bytes.

    file: gzip or plain.
    Raises FileNotFoundError where there is no such file, ValueError for a folder or an archive of another kind, and
    EOFError for an empty file that is named as gzip.
    """
    if file.is_dir():
        raise ValueError(f"{file} is a folder; give a file")
    if not file.exists():
        raise FileNotFoundError(f"there is no file {file}; check the path")
    with open(file, "rb") as raw:
        first = raw.peek(8)
        if not first and file.suffix == ".gz":
            raise EOFError("an empty file is no gzip file")
        if kind := next((kind for magic, kind in UNREAD.items() if first.startswith(magic)), ""):
            raise ValueError(f"{file} is packed as {kind}, and only gzip is read; unpack it")
        yield raw, gzip.GzipFile(fileobj=raw) if first.startswith(GZIP) else raw
