"""What things cost beside what others offer for them: timed in turns in one process, kept as rows of one schema.

Notes: `benchmarks/` has a script for each question, `make bench` runs them, `data/benchmarks/` keeps what they found. A
ratio says how many times as fast as the peer a way is. Times are processor time, which other work on the machine hardly
changes (by the clock where several processes work); ratios are of runs that took turns.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from ctd import hardware
from ctd.book.provenance import git_state
from ctd.book.results import lines, read_json
from ctd.cache import DATA, atomic

if TYPE_CHECKING:
    import pandas as pd

FOLDER = DATA / "benchmarks"
SCHEMA = 1
RUNS = 5  # medians of


@dataclass(frozen=True)
class Row:
    """What one way of doing something took.

    question: what is done, such as "search".
    way: who does it, and how.
    peer: the way that the others are compared with.
    grows: what the size counts, such as "labels".
    size: how many.
    seconds: processor time, or that by the clock where several processes work; median.
    ratio: time of the peer over time of this way, median of the turns; None where the peer did not run.
    low: the smallest ratio of a turn.
    high: the largest.
    runs: how many turns.
    operations: floating-point operations that an exact computation needs; 0 where nobody counted.
    bytes: how many bytes it has to read; 0 where nobody counted.
    recall: share of the peer's answers that it finds, where it is approximate.
    """

    question: str
    way: str
    peer: str
    grows: str
    size: int
    seconds: float
    ratio: float | None
    low: float | None
    high: float | None
    runs: int
    operations: float = 0.0
    bytes: float = 0.0
    recall: float | None = None


@dataclass(frozen=True)
class Work:
    """What is timed.

    question: what is done.
    grows: what the size counts.
    size: how many.
    operations: floating-point operations that an exact computation needs.
    bytes: how many bytes it has to read.
    """

    question: str
    grows: str
    size: int
    operations: float = 0.0
    bytes: float = 0.0


def compare(work: Work, ways: Mapping[str, Callable[[], object]], peer: str, runs: int = RUNS) -> list[Row]:
    """Time each way in turn, after one turn that prepares.

    work: what is done.
    ways: who does it, by name.
    peer: the one that the others are compared with; a name that is not among them leaves ratios out.
    runs: how many turns.
    Raises ValueError for fewer than one turn.
    """
    if runs < 1:
        raise ValueError(f"runs must be at least 1, got {runs}")
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(runs + 1):
        for name, way in ways.items():
            began = time.process_time()
            way()
            if turn:
                seconds[name].append(max(time.process_time() - began, 1e-9))
    return of_turns(work, seconds, peer)


def of_turns(work: Work, seconds: Mapping[str, Sequence[float]], peer: str) -> list[Row]:
    """Medians of turns, and their ratios to the peer's.

    work: what was done.
    seconds: of each way, in every turn.
    peer: as in `compare`.
    """
    rows = []
    for name, took in seconds.items():
        ratios = [of_peer / of_way for of_peer, of_way in zip(seconds.get(peer, []), took, strict=False)]
        ratio, low, high = (median(ratios), min(ratios), max(ratios)) if ratios else (None, None, None)
        row = Row(work.question, name, peer, work.grows, work.size, median(took), ratio, low, high, len(took))
        rows.append(replace(row, operations=work.operations, bytes=work.bytes))
    return rows


def keep(question: str, rows: Sequence[Row], folder: Path = FOLDER) -> Path:
    """Write the rows of a question as `<question>.json`, with machine and commit, and print them.

    question: whose rows these are.
    rows: what was measured.
    folder: for the file.
    """
    limits = {"gflops": peak_gflops(), "gigabytes_a_second": hardware.bandwidth()}
    head = {
        "schema": SCHEMA,
        "question": question,
        "commit": git_state()["commit"],
        "made": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": {**hardware.machine(), **limits},
    }
    path = folder / f"{question}.json"
    content = json.dumps(head, indent=1, ensure_ascii=False)
    with atomic(path) as scratch:
        scratch.write_text(f'{content[:-2]},\n "rows": {lines([asdict(row) for row in rows])}\n}}\n', "utf-8")
    for row in rows:
        spread = f"{row.ratio:.2f} [{row.low:.2f}, {row.high:.2f}]" if row.ratio is not None else "none"
        print(f"{question}: {row.size:,} {row.grows}, {row.way}: {row.seconds:.4g} s, ratio to {row.peer} {spread}")
    return path


def read(path: Path) -> dict[str, Any]:
    """What `keep` wrote, its rows as `Row`.

    Raises ValueError with one line for a file of another schema.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ValueError(f"{path} is no benchmark of schema {SCHEMA}: run make bench")
    try:
        return content | {"rows": [Row(**row) for row in content["rows"]]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not whole ({error}): run make bench") from None


def stored(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """What `data/benchmarks/` has, by question."""
    return [read(path) for path in sorted(folder.glob("*.json"))]


def peak_gflops() -> float:
    """The fastest matrix product of one thread in float32, in billions of operations a second."""
    return max(speed.gflops for speed in hardware.speeds() if (speed.threads, speed.dtype) == (1, "float32"))


def frame(rows: Sequence[Row], gflops: float, gigabytes_a_second: float) -> pd.DataFrame:
    """Rows as a table, with the machine's limit: the time that no exact computation can go below.

    rows: what was measured.
    gflops: of the machine, one thread.
    gigabytes_a_second: that it reads from memory.
    Returns the fields of `Row`, and "limit" in seconds (NaN where nobody counted).
    """
    import pandas as pd

    table = pd.DataFrame([asdict(row) for row in rows])
    limits = pd.concat([table["operations"] / gflops, table["bytes"] / gigabytes_a_second], axis=1).max(axis=1) / 1e9
    return table.assign(limit=limits.where(limits > 0))
