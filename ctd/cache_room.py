"""The room that the cache takes: what it holds, and the removal of what was not used for the longest time.

Notes: only what ctd made is removed, under the names that it makes: a key, with the name of the thing before it. What a
running process uses or makes stays, and so does everything that somebody else put there. CTD_CACHE_GB bounds the size
of the cache; without it nothing is removed.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock
from tqdm import tqdm

from ctd.cache import IN_USE, LOCKS, acquired, cache_base, lock_of, removal

KINDS = {
    "arms": "students of an earlier version",
    "errors": "tracebacks of unforeseen errors",
    "generations": "what models wrote",
    "grammar": "label spaces as tokens",
    "indexes": "label indexes",
    "machine": "how fast this machine is",
    "mimic": "prepared data of MIMIC-IV",
    "models": "unpacked weights",
    "setmm": "Debian's set.mm",
    "signals": "signals of teachers' heads",
    "students": "students that were taught",
    "tasks": "prepared datasets",
    "teacher_states": "last hidden states of teachers",
    "training": "trainings that were not finished",
    "vectors": "vectors of texts",
    "xmc": "prepared data of the extreme classification repository",
}
HUB = "hub"  # the datasets library keeps there what it fetched, by rules of its own
OWN = re.compile(r"(?:[\w.+-]+-)?[0-9a-f]{16,64}(?:\.[a-z]+)*|\d{8}-\d{6}-\d+\.txt|set\.mm")
SCRATCH = re.compile(rf"\.(?:{OWN.pattern})\.(\d+)\.partial")
REMOVED = "removed"  # folder for what is being removed


@dataclass(frozen=True)
class Entry:
    """One thing in the cache.

    kind: of `KINDS`.
    path: its file or folder.
    size: bytes.
    used: when it was made or last used, in seconds since 1970.
    """

    kind: str
    path: Path
    size: int
    used: float


@dataclass(frozen=True)
class Shrunk:
    """What a removal did: the entries that went, and those that stayed though there was no room for them."""

    removed: Sequence[Entry]
    in_use: Sequence[Entry]


def limit() -> int | None:
    """The bytes that the cache may take, from CTD_CACHE_GB; None for any number.

    Raises ValueError where CTD_CACHE_GB is no number from 0 on.
    """
    text = os.environ.get("CTD_CACHE_GB", "").strip()
    if not text:
        return None
    with suppress(ValueError, OverflowError):
        if float(text) >= 0:
            return int(float(text) * 2**30)
    raise ValueError(f"CTD_CACHE_GB must be a number from 0 on, got {text!r}: change it, or unset it")


def entries() -> list[Entry]:
    """All that ctd made and may remove, least recently used first."""
    base = cache_base()
    paths = [(kind, path) for kind in KINDS if (base / kind).is_dir() for path in (base / kind).iterdir()]
    return sorted(
        (entry for kind, path in paths if _is_ours(path) and (entry := _entry(kind, path))),
        key=lambda entry: (entry.used, str(entry.path)),
    )


def size_of(path: Path) -> int:
    """Bytes that a file or a folder takes; 0 for one that is not there."""
    files = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    total = 0
    for file in files:
        with suppress(OSError):
            status = file.lstat()
            total += status.st_blocks * 512 if hasattr(status, "st_blocks") else status.st_size
    return total


def keep_to_limit() -> Shrunk | None:
    """Remove what is beyond CTD_CACHE_GB, and say so on stderr; None where nothing has to go."""
    most = limit()
    if most is None or sum(entry.size for entry in entries()) <= most:
        return None
    done = shrink(most)
    if done.removed:
        removed = f"{len(done.removed)} things ({sum(entry.size for entry in done.removed) / 2**30:.2f} GiB)"
        tqdm.write(
            f"removed {removed} from the cache, the longest unused, to keep within CTD_CACHE_GB", file=sys.stderr
        )
    return done


def shrink(most: int) -> Shrunk:
    """Remove what was not used for the longest time, until the cache takes so many bytes at most.

    What is in use stays, even where the cache then takes more.
    Raises OSError where the file system has no locks, so that nobody knows what is in use.
    """
    removed, in_use = list[Entry](), list[Entry]()
    known = entries()
    size = sum(entry.size for entry in known)
    for entry in known:
        if size <= most:
            break
        if _remove(entry):
            removed.append(entry)
            size -= entry.size
        else:
            in_use.append(entry)
    return Shrunk(removed, in_use)


def _is_ours(path: Path) -> bool:
    if path.is_symlink():
        return False
    if left_behind := SCRATCH.fullmatch(path.name):
        return not psutil.pid_exists(int(left_behind[1]))
    return bool(OWN.fullmatch(path.name))


def _entry(kind: str, path: Path) -> Entry | None:
    try:
        status = path.stat()
    except OSError:  # removed meanwhile
        return None
    return Entry(kind, path, size_of(path), min(max(status.st_atime, status.st_mtime), time.time()))


def _remove(entry: Entry) -> bool:
    """Remove an entry that nobody uses; whether it is gone."""
    base = cache_base()
    making = lock_of(entry.path)
    if not _has(making, blocking=False):
        return False
    trash = base / REMOVED / f"{entry.path.name}-{os.getpid()}-{time.time_ns()}"
    try:
        with _held(removal(base)):
            if f"{entry.kind}/{entry.path.name}" in _in_use(base):
                return False
            trash.parent.mkdir(exist_ok=True)
            entry.path.rename(trash)
    except FileNotFoundError:  # another process removed it
        return True
    finally:
        Path(making.lock_file).unlink(missing_ok=True)
        making.release()
    if trash.is_dir():
        shutil.rmtree(trash, ignore_errors=True)
    else:
        trash.unlink(missing_ok=True)
    with suppress(OSError):
        trash.parent.rmdir()
    return True


def _has(lock: FileLock, blocking: bool = True) -> bool:
    if (result := acquired(lock, blocking)) is None:
        raise OSError(f"{cache_base()} is on a file system without locks: nothing is removed, for it might be in use")
    return result


@contextmanager
def _held(lock: FileLock) -> Iterator[None]:
    _has(lock)
    try:
        yield
    finally:
        lock.release()


def _in_use(base: Path) -> set[str]:
    """The entries that living processes use; the notes of those that ended are removed."""
    names = set[str]()
    for note in (base / IN_USE).glob("*.lock"):
        lock = FileLock(note, fallback_to_soft=False)
        listed = note.with_suffix("")
        if acquired(lock, blocking=False):
            listed.unlink(missing_ok=True)
            note.unlink(missing_ok=True)
            lock.release()
        elif listed.is_file():
            names.update(listed.read_text("utf-8", "surrogateescape").splitlines())
    return names


@dataclass(frozen=True)
class Row:
    """What the cache holds of one kind.

    meaning: of the kind, in words.
    entries: how many there are.
    size: bytes.
    used: when the longest unused one was used, in seconds since 1970; None where nothing of the kind is removed.
    """

    kind: str
    meaning: str
    entries: int
    size: int
    used: float | None = None


def table() -> list[Row]:
    """What the cache holds, the largest kind first."""
    base, rows = cache_base(), []
    known = entries()
    for kind, meaning in KINDS.items():
        if of_kind := [entry for entry in known if entry.kind == kind]:
            rows.append(Row(kind, meaning, len(of_kind), sum(entry.size for entry in of_kind), of_kind[0].used))
    if (base / HUB).is_dir():
        rows.append(Row(HUB, "what the datasets library fetched; not removed", 1, size_of(base / HUB)))
    if others := _others(base, {entry.path for entry in known}):
        rows.append(Row("other", "not ctd's, or being made; not removed", len(others), sum(map(size_of, others))))
    return sorted(rows, key=lambda row: -row.size)


def _others(base: Path, known: set[Path]) -> list[Path]:
    """What else lies in the cache."""
    of_cache = {HUB, LOCKS, IN_USE, "workers", REMOVED}
    places = [path for path in base.iterdir() if path.name not in of_cache] if base.is_dir() else []
    within = [inner for path in places if path.name in KINDS and path.is_dir() for inner in path.iterdir()]
    return [path for path in (*within, *(path for path in places if path.name not in KINDS)) if path not in known]
