"""A run on disk: what it found, and how it was made."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctd.book import results
from ctd.book.parameters import near
from ctd.book.results import RESULTS, Row, read_json

if TYPE_CHECKING:  # it takes a second to import
    import pandas as pd

RUNS = Path("runs")
MANIFEST = "manifest.json"
AGAIN = "run the notebook again with --force"
KINDS: dict[str, type] = {
    "notebook": str, "profile": str, "overrides": dict, "start": str, "parameters": dict, "key": str, "versions": dict,
    "hardware": dict,
}  # fmt: skip


class Manifest(dict[str, Any]):
    """How a run was made. Raises ValueError with one line for an entry that the file lacks."""

    def __init__(self, file: Path, entries: Mapping[str, Any]) -> None:
        super().__init__(entries)
        self.file = file

    def __missing__(self, name: str) -> Any:
        raise ValueError(f"{self.file} is not whole (no {name!r}); {AGAIN}")


@dataclass(frozen=True)
class RunFolder:
    """A run on disk.

    path: its folder, with the executed notebook, `results.json`, `figures/` and `manifest.json`.
    kept: True when `ctd.book.runs.run` found it unchanged and executed nothing.
    """

    path: Path
    kept: bool = False

    @functools.cached_property
    def manifest(self) -> Mapping[str, Any]:
        """How it was made. Raises ValueError with one line for a damaged file or an entry of another kind."""
        content = read_json(self.path / MANIFEST)
        manifest = Manifest(self.path / MANIFEST, content if isinstance(content, dict) else {})
        _ = manifest["notebook"]  # without it nothing can be said of the run
        if wrong := [name for name, kind in KINDS.items() if not isinstance(manifest.get(name, kind()), kind)]:
            raise ValueError(f"{manifest.file} is not whole ({wrong[0]!r} is of another kind); {AGAIN}")
        return manifest

    @functools.cached_property
    def rows(self) -> list[Row]:
        """The results, in the order of recording."""
        return results.read(self.path / RESULTS)

    def frame(self) -> pd.DataFrame:
        """The results as a table; see `ctd.book.results.frame`."""
        return results.frame(self.rows)

    @property
    def stem(self) -> str:
        return Path(self.manifest["notebook"]).stem

    @property
    def name(self) -> str:
        """How a command line names it: `stem/profile` beneath `runs/`, else its path."""
        place = self.path.absolute()
        return str(place.relative_to(RUNS.absolute())) if place.is_relative_to(RUNS.absolute()) else str(self.path)

    @property
    def notebook(self) -> Path:
        """The executed copy."""
        return self.path / f"{self.stem}.ipynb"


def find_run(name: str) -> RunFolder:
    """A run by its folder, or as `stem/profile` beneath `runs/`.

    Raises FileNotFoundError with those that are there.
    """
    for folder in (Path(name), RUNS / name):
        if (folder / MANIFEST).is_file():
            return RunFolder(folder)
    known = [run.name for run in all_runs()]
    raise FileNotFoundError(f"no run {name}{near(name, known)}; there are: {', '.join(known) or 'none in runs/'}")


def all_runs(base: Path | None = None) -> list[RunFolder]:
    """The runs `<stem>/<profile>` beneath a folder (`runs/`), sorted; no failed or half-made ones."""
    manifests = sorted((base or RUNS).glob(f"*/*/{MANIFEST}"))
    return [RunFolder(path.parent) for path in manifests if not path.parent.name.startswith(".")]
