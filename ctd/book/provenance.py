"""How a run was made: digests of notebook, package and data, the commit, and versions of packages."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctd.cache import DATA, ROOT, digest, file_digest

if TYPE_CHECKING:  # it takes a second to import
    from nbformat import NotebookNode

PACKAGES = (
    "torch", "transformers", "datasets", "faiss-cpu", "sentence-transformers", "numpy", "papermill",
)  # fmt: skip


def notebook_digest(node: NotebookNode) -> str:
    """SHA-256 of what the author wrote: kinds, sources and metadata of the cells; never outputs."""
    cells = [[cell.cell_type, cell.source, cell.metadata] for cell in node.cells]
    return digest([json.dumps(cells, sort_keys=True)])


def files_digest(*places: Path, without: Sequence[Path] = ()) -> str:
    """SHA-256 of files and of all files beneath folders: their names and bytes; compiled Python left out."""
    parts = []
    for file, base in _files(places):
        if "__pycache__" not in file.parts and not any(file.is_relative_to(skipped) for skipped in without):
            parts += [str(file.relative_to(base)), file_digest(file)]
    return digest(parts)


def inputs_digest(paths: Iterable[str]) -> str:
    """SHA-256 of what notebooks read: `data/`, the requirements, and size and time of files that parameters name.

    paths: values of parameters that name a file or a folder; one that is not absolute is the name of something else.
    Golden results are no input.
    """
    shipped = files_digest(DATA, *sorted(ROOT.glob("requirements*.txt")), without=[DATA / "golden"])
    named = [
        f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}"
        for file, _ in _files(Path(path) for path in paths if Path(path).is_absolute())
    ]
    return digest([shipped, *named])


def _files(places: Iterable[Path]) -> Iterable[tuple[Path, Path]]:
    """Every file of files and folders, sorted, with the folder that its name is relative to."""
    for place in places:
        if place.is_file():
            yield place, place.parent
        else:
            yield from ((file, place) for file in sorted(place.rglob("*")) if file.is_file())


def git_state() -> dict[str, Any]:
    """{commit, dirty} of the repository; "unknown" and None where ctd does not lie in a repository of its own."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != ROOT:
            return {"commit": "unknown", "dirty": None}
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "unknown", "dirty": None}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that most decide a number."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            installed[package] = "not installed"
    return installed
