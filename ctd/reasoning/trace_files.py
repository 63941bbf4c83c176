"""Traces as files: JSON Lines, compressed or not."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ctd.cache import atomic
from ctd.data.readers.packed import DAMAGED, open_unpacked
from ctd.reasoning.traces import Trace


def save(traces: Iterable[Trace], path: Path) -> None:
    """Write traces as JSON Lines, whole or not at all; gzip-compressed when the name ends in `.gz`."""
    with atomic(path) as scratch, open(scratch, "wb") as raw:
        packed = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw
        with packed:
            for trace in traces:
                packed.write(json.dumps(asdict(trace), ensure_ascii=False).encode() + b"\n")


def load(path: Path) -> list[Trace]:
    """Read what `save` wrote. Raises ValueError with file and line for a line that is no trace."""
    reader = TypeAdapter(Trace)
    traces = []
    number = 0
    try:
        with open_unpacked(path) as (_, lines):
            for number, line in enumerate(lines, 1):  # noqa: B007
                traces.append(reader.validate_json(line, strict=True))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the line"
        raise ValueError(f"{path}, line {number}: {place}: {first['msg']}") from None
    except DAMAGED as error:
        raise ValueError(f"{path}, after line {number}: not a whole gzip file ({error})") from None
    return traces
