"""Readers: each returns a `Task`, documents with gold labels and the label space that they choose from.

Notes: `load("mesh")` and the like keep the prepared task in the cache. Its key covers the reader's options, the content
of the files that they name, the data files of this repository that readers use, and the code of the reader.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from ctd.cache import DATA, cache_dir, once
from ctd.data.task import SPLITS, Card, Task, labels_matrix, split_by_hash
from ctd.keys import Maker

__all__ = [
    "READERS", "SPLITS", "Card", "Reader", "Source", "Task", "check_source", "labels_matrix", "left_out", "load",
    "load_as_asked", "split_by_hash",
]  # fmt: skip

SHIPPED = {"sources": DATA / "sources.json", "check_tags": DATA / "check_tags.csv"}


@dataclass(frozen=True)
class Source:
    """A user's own data, which a notebook's parameter `source` names.

    argument: of the reader's `load` that takes them.
    convert: makes the argument of what the parameter says.
    needed: whether the dataset is nothing without them.
    columns: whether `load` also takes the names of columns, `text` and `labels`.
    drops: whether its documents without text or labels are left out; `load` alone refuses them.
    """

    argument: str
    convert: Callable[[str], object] = Path
    needed: bool = True
    columns: bool = False
    drops: bool = False


@dataclass(frozen=True)
class Reader:
    """How to load a dataset.

    about: one line for those who choose a dataset.
    module: the module of `ctd.data.readers` whose `load` reads it.
    options: arguments of that `load` which make this dataset of it.
    streamed: whether the reader keeps a cache of its own on disk because it never holds a file whole.
    source: how it takes the user's own data; None for a dataset that takes none.
    """

    about: str
    module: str
    options: dict[str, object] = field(default_factory=dict)
    streamed: bool = False
    source: Source | None = None


def _pubmed_files(source: str) -> list[Path]:
    path = Path(source)
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.name.endswith((".xml", ".xml.gz")))
    if not files:
        raise FileNotFoundError(f"{path} holds no PubMed file (*.xml or *.xml.gz)")
    return files


READERS = {
    "mesh": Reader(
        "PubMed citations to MeSH headings, 663,973 labels (the default)",
        "mesh",
        source=Source("files", _pubmed_files, needed=False),
    ),
    "mesh-descriptors": Reader(
        "the same to MeSH descriptors, headings without their qualifiers, 30,532 labels",
        "mesh",
        {"descriptors": True},
        source=Source("files", _pubmed_files, needed=False),
    ),
    "setmm": Reader(
        "premise selection in set.mm, 39,137 labels; the vendored slice where the whole file is not to be had",
        "setmm",
        source=Source("path", needed=False),
    ),
    "setmm-slice": Reader("the vendored slice of set.mm", "setmm"),
    "vignettes": Reader("generated ICD-10-CM vignettes, 74,719 labels", "vignettes"),
    "heart-failure": Reader("generated vignettes over the closed heart-failure set", "vignettes", {"closed": True}),
    "organism": Reader("short generated vignettes for the model organism, a part of ICD-10-CM", "organism"),
    "org-10k": Reader(  # 8,311 of them to learn from
        "the same and four times as many more (10,300 in all), for long learning curves",
        "organism",
        {"n_documents": 10_300},
    ),
    "organism-hard": Reader("the organism's vignettes with comparisons of two steps", "organism_hard"),
    "mimic": Reader(
        "MIMIC-IV discharge notes to ICD-10-CM, from your folder", "mimic", streamed=True, source=Source("folder")
    ),
    "xmc": Reader(
        "an Extreme Classification Repository folder (lbl, trn, tst)",
        "xmc",
        streamed=True,
        source=Source("folder", drops=True),
    ),
    "records": Reader(
        "a Hugging Face dataset or a table (JSON Lines, CSV, TSV, Parquet) with a text and a labels column",
        "records",
        source=Source("source", str, columns=True, drops=True),
    ),
}


def _maker(module: str) -> Maker:
    return Maker(f"tasks of {module}", f"{__name__}.{module}", ("options", *SHIPPED))


MAKERS = {reader.module: _maker(reader.module) for reader in READERS.values() if not reader.streamed}


def load(name: str, **options: object) -> Task:
    """The task of that name (see `READERS`), prepared once.

    options: the reader's own, such as `folder=`. A dataset on the Hugging Face hub counts by its name alone.
    Raises ValueError for an unknown name, with the list. The readers' own errors name file and line.
    """
    reader = _reader(name)
    module = importlib.import_module(f"{__name__}.{reader.module}")
    if reader.module == "setmm" and "path" not in options:
        options["path"] = module.slice_path() if name == "setmm-slice" else module.find()
    options = {**reader.options, **options}
    if reader.streamed or (reader.module == "records" and not isinstance(options.get("source"), str | Path)):
        return module.load(**options)  # keeps a cache of its own, or reads data in memory
    folder = cache_dir("tasks") / f"{name}-{_key(reader.module, module, options)}"
    with once(folder) as missing:
        if missing:
            module.load(**options).save(folder)
    return Task.load(folder)


def _reader(name: str) -> Reader:
    if name not in READERS:
        raise ValueError(f"dataset must be one of {', '.join(READERS)}, got {name!r}")
    return READERS[name]


def load_as_asked(name: str, source: str = "", text: str = "text", labels: str = "labels") -> Task:
    """The task that a notebook's parameters ask for.

    name: of the dataset, see `READERS`.
    source: the folder (mimic, xmc), the file, folder or name (records), a set.mm file (setmm), a PubMed file or a
        folder of them (mesh); "" where the dataset needs none.
    text: the column with the documents (records).
    labels: the column with the labels (records).
    Documents without text or labels, usual in such data (xmc, records), are left out: see `left_out`.
    Raises ValueError when a dataset needs a source and got none, or takes none and got one; FileNotFoundError for a
    folder without PubMed files.
    """
    return load(name, **_options(name, source, text, labels))


def check_source(name: str, source: str = "") -> None:
    """Look whether a dataset can be read from a source of this kind; nothing is read.

    name, source: see `load_as_asked`.
    Raises ValueError or FileNotFoundError, as `load_as_asked` would once it reads.
    """
    reader, options = _reader(name), _options(name, source, "", "")
    module = importlib.import_module(f"{__name__}.{reader.module}")
    if source and reader.source and hasattr(module, "check_source"):
        module.check_source(options[reader.source.argument])


def left_out(task: Task) -> str:
    """What was left out of a task because it has no text or no labels, as a sentence; "" for nothing."""
    counts = [f"{count:,} {kind}" for kind, count in task.card.dropped.items() if kind.startswith("documents without")]
    return f"Left out of {task.card.title}: {' and '.join(counts)}." if counts else ""


def _options(name: str, source: str, text: str, labels: str) -> dict[str, object]:
    reader = _reader(name)
    if not source:
        if reader.source and reader.source.needed:
            raise ValueError(f"dataset '{name}' needs a source (source=PATH): {reader.about}")
        return {}
    if not reader.source:
        raise ValueError(f"dataset '{name}' takes no source, got {source!r}: leave it out")
    columns = {"text": text, "labels": labels} if reader.source.columns else {}
    policy = {"on_empty": "drop"} if reader.source.drops else {}
    return {reader.source.argument: reader.source.convert(source), **columns, **policy}


def _key(name: str, module: ModuleType, options: dict[str, object]) -> str:
    """The key of a prepared task, from all arguments of its reader, those left to their defaults included."""
    signature = inspect.signature(module.load)
    arguments = signature.bind(**options)
    arguments.apply_defaults()
    contents = {
        argument: _with_content(value) if "Path" in str(signature.parameters[argument].annotation) else value
        for argument, value in arguments.arguments.items()
    }
    return _maker(name).key(options=contents, **SHIPPED)


def _with_content(value: Any) -> object:
    """What names a file or folder, or several, beside the files themselves."""
    if isinstance(value, list | tuple):
        return [_with_content(path) for path in value]
    path = Path(value).expanduser() if value else None
    return (str(value), path) if path is not None and path.exists() else str(value)
