"""From settings to the explorer: a folder with one page, its scripts, and the data of each collection."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctd.book.explorer import collection, documents, heads, label_map, packing
from ctd.book.explorer.collection import Collection
from ctd.cache import atomic, cache_dir, once
from ctd.keys import Maker
from ctd.mechanism.curve_means import GRID
from ctd.reasoning import models

STATIC = Path(str(resources.files(__package__))) / "static"
PAGE = "index.html"
SIGN = "explorer.css"  # by which an earlier explorer is known
MAKER = Maker("explorers", __name__, ("collections", "models", "static", "torch"))
LARGEST = 5_000_000  # bytes of a folder that loads well from a slow disk or line

ORGANISM = Collection()
MESH = Collection(teacher="smollm2-mesh", dataset="mesh", n_drawn=200, n_with_heads=0, max_tokens=512)
BOOK = {
    "smoke": (
        Collection(n_with_heads=4, n_silenced=1),
        Collection(teacher="", dataset="mesh", n_with_heads=0),
    ),
    "default": (ORGANISM, MESH),
    "full": (ORGANISM, MESH),
}
"""The collections of the book, by profile. The texts about MeSH come with it, those about 200 documents at once."""


@dataclass(frozen=True)
class Made:
    """A folder that was made.

    page: its page.
    n_bytes: of all files.
    """

    page: Path
    n_bytes: int


def for_book(profile: str) -> Path:
    """The folder with the explorer of the book, made once for each profile. Raises as `book_collections` does."""
    collections = book_collections(profile)
    folders = [models.folder(settings.teacher) for settings in collections if settings.teacher]
    key = MAKER.key(collections=list(collections), models=folders, static=STATIC, torch=torch.__version__)
    folder = cache_dir("explorer") / key
    with once(folder) as missing:
        if missing:
            make(collections, folder, home="../index.html")
    return folder


def book_collections(profile: str) -> tuple[Collection, ...]:
    """What the explorer of the book shows. Raises ValueError for an unknown profile."""
    if profile not in BOOK:
        raise ValueError(f"profile must be one of {', '.join(BOOK)}, got {profile!r}")
    return BOOK[profile]


def own_collection(dataset: str, teacher: str | None, **others: Any) -> Collection:
    """A collection of a reader's own choice.

    dataset: the task.
    teacher: who reasons, "" for nobody; None for the book's own model of the task, nobody where it has none.
    others: further fields of `Collection`.
    """
    known = {"organism": ORGANISM, "org-10k": ORGANISM, "mesh": MESH}.get(dataset)
    if teacher is None:
        teacher = known.teacher if known else ""
    if known and teacher == known.teacher:
        return replace(known, dataset=dataset, **others)
    return Collection(teacher=teacher, dataset=dataset, **{"max_tokens": 512, **others})


def make(collections: Sequence[Collection], out: Path, home: str = "") -> Made:
    """Make the explorer of some collections, whole or not at all.

    out: the folder. An explorer that is there is replaced.
    home: address of a page to link to; "" for none.
    Raises ValueError for a folder that holds something else, and what loading a collection raises.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / SIGN).is_file()):
        raise ValueError(f"{out} holds other things than an explorer, and would be replaced: name another folder")
    with atomic(out) as scratch:
        names = [name_of(settings, number) for number, settings in enumerate(collections)]
        titles = [write_collection(settings, scratch / name) for settings, name in zip(collections, names, strict=True)]
        write_page(scratch, list(zip(names, titles, strict=True)), home)
    n_bytes = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return Made(out / PAGE, n_bytes)


def name_of(settings: Collection, number: int) -> str:
    """The folder of a collection, which is its name in addresses too."""
    plain = re.sub(r"[^a-z0-9]+", "-", settings.dataset.lower()).strip("-")
    return plain if number == 0 else f"{plain}-{number + 1}"


def write_collection(settings: Collection, folder: Path) -> str:
    """Write the data of one collection into its folder, and return its title."""
    loaded = collection.load(settings)
    shown, labels = documents.of_collection(loaded)
    view = heads.of_collection(loaded)
    needed = np.array(list(labels.numbers), np.int64)
    places = label_map.make(loaded.index, needed, seed=settings.seed)
    title = f"{loaded.task.card.title}, {settings.teacher or 'no model'}"
    has_heads = isinstance(view, heads.HeadView)
    value: dict[str, Any] = {
        "title": title,
        "teacher": settings.teacher,
        "generated": loaded.task.card.generated,
        "whole": loaded.may_show_whole,
        "made": loaded.task.card.made,
        "licence": loaded.task.card.licence,
        "n_labels": len(loaded.space),
        "encoder": settings.encoder,
        "grid": GRID.tolist(),
        "labels": [loaded.space.texts[label] for label in labels.numbers],
        "points": places.point[needed].tolist(),
        "topics": documents.topic_marks(shown, loaded, places),
        "documents": shown,
        "heads": view.facts if isinstance(view, heads.HeadView) else None,
        "no_heads": None if has_heads else view,
    }
    name = folder.name
    packing.write_script(folder / "documents.js", f"{name}/documents", value)
    packing.write_script(folder / "map.js", f"{name}/map", label_map.payload(places, loaded.space), places.arrays())
    if isinstance(view, heads.HeadView):
        for row, (tokens, arrays) in view.documents.items():
            packing.write_script(folder / f"heads-{row}.js", f"{name}/heads-{row}", tokens, arrays)
    return title


def write_page(folder: Path, collections: Sequence[tuple[str, str]], home: str = "") -> None:
    """Write the page with its scripts and style sheet.

    collections: name and title of each.
    home: as in `make`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(STATIC.iterdir()):
        if file.name != PAGE:
            (folder / file.name).write_bytes(file.read_bytes())
    options = "\n".join(
        f'<option value="{html.escape(name)}">{html.escape(title)}</option>' for name, title in collections
    )
    link = f'<a href="{html.escape(home)}">the book</a>' if home else ""
    page = (STATIC / PAGE).read_text("utf-8").replace("<!-- collections -->", options).replace("<!-- home -->", link)
    (folder / PAGE).write_text(page, "utf-8")
