"""Readers: each returns a `Task`, documents with gold labels and the label space that they choose from.

Notes: `load("mesh")` and the like keep the prepared task in the cache, under a key that covers the options, the
files they name and the readers' own source, so that a changed file or a changed reader is read anew.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from ctd.cache import DATA, cache_dir, digest, once
from ctd.data.task import SPLITS, Card, Task, labels_matrix, split_by_hash

__all__ = ["READERS", "SPLITS", "Card", "Task", "labels_matrix", "load", "load_as_asked", "split_by_hash"]

READERS = {
    "mesh": "PubMed citations to MeSH headings, 663,973 labels (the default)",
    "setmm": "premise selection in set.mm, 39,137 labels; the vendored slice where the whole file is not to be had",
    "setmm-slice": "the vendored slice of set.mm",
    "vignettes": "generated ICD-10-CM vignettes, 74,719 labels",
    "heart-failure": "generated vignettes over the closed heart-failure set",
    "organism": "short generated vignettes for the model organism, a part of ICD-10-CM",
    "org-10k": "the same and four times as many more (10,300 in all), for long learning curves",
    "mimic": "MIMIC-IV discharge notes to ICD-10-CM, from your folder",
    "xmc": "an Extreme Classification Repository folder (lbl, trn, tst)",
    "records": "a Hugging Face dataset or a JSON Lines file with a text and a labels column",
}
ALIASES: dict[str, tuple[str, dict[str, object]]] = {
    "setmm-slice": ("setmm", {}),
    "heart-failure": ("vignettes", {"closed": True}),
    "org-10k": ("organism", {"n_documents": 10_300}),  # 8,311 of them to learn from
}
STREAMED = {"mimic", "xmc"}  # keep caches of their own on disk, for they never hold a file whole


def load(name: str, **options: object) -> Task:
    """The task of that name (see `READERS`), prepared once. options: the reader's own, such as `folder=`.

    Raises ValueError for an unknown name, with the list; the readers' own errors name file and line.
    """
    if name not in READERS:
        raise ValueError(f"dataset must be one of {', '.join(READERS)}, got {name!r}")
    if name.startswith("setmm"):
        reader = importlib.import_module("ctd.data.readers.setmm")
        options.setdefault("path", reader.slice_path() if name == "setmm-slice" else reader.find())
    if name in STREAMED:
        return _read(name, options)
    folder = cache_dir("tasks") / f"{name}-{_key(options)[:24]}"
    with once(folder) as missing:
        if missing:
            _read(name, options).save(folder)
    return Task.load(folder)


def load_as_asked(name: str, source: str = "", text: str = "text", labels: str = "labels") -> Task:
    """The task that a notebook's parameters ask for.

    source: the folder (mimic, xmc), the file, folder or name (records), a set.mm file (setmm), a PubMed file or a
    folder of them (mesh); "" where the dataset needs none. text, labels: names of the two columns (records).
    Raises ValueError when a dataset needs a source and got none, or takes none and got one; FileNotFoundError for a
    folder without PubMed files.
    """
    asked: dict[str, dict[str, object]] = {
        "mimic": {"folder": Path(source)},
        "xmc": {"folder": Path(source)},
        "records": {"source": source, "text": text, "labels": labels},
    }
    if name in asked and not source:
        raise ValueError(f"dataset '{name}' needs source=: {READERS[name]}")
    if source and name == "setmm":
        asked["setmm"] = {"path": Path(source)}
    if source and name == "mesh":
        folder = Path(source)
        asked["mesh"] = {"files": sorted(folder.glob("*.xml*")) if folder.is_dir() else [folder]}
        if not asked["mesh"]["files"]:
            raise FileNotFoundError(f"{folder} holds no PubMed file (*.xml or *.xml.gz)")
    if source and name not in asked:
        raise ValueError(f"dataset '{name}' takes no source=, got {source!r}")
    return load(name, **asked.get(name, {}))


def _read(name: str, options: dict[str, object]) -> Task:
    module, fixed = ALIASES.get(name, (name, {}))
    return importlib.import_module(f"ctd.data.readers.{module}").load(**fixed, **options)


def _key(options: dict[str, object]) -> str:
    here = Path(__file__).parent
    sources = [
        *sorted(here.glob("*.py")),
        here.parent / "label_space.py",
        here.parent / "task.py",
        DATA / "sources.json",
        DATA / "check_tags.csv",
    ]
    stated = [f"{option}={_fingerprint(value)}" for option, value in sorted(options.items())]
    return digest([*stated, *(source.read_bytes() for source in sources)])


def _fingerprint(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(_fingerprint, value))
    path = Path(value) if isinstance(value, str | Path) and str(value) else None
    if path is None or not path.exists():
        return repr(value)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return " ".join(f"{file.absolute()}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files)
