"""Teachers: models that reason about documents, the topics above their labels, and the card of their training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from ctd.data.task import Task
from ctd.reasoning import models
from ctd.reasoning.models import LanguageModel
from ctd.retrieval import encoders
from ctd.retrieval.encoders import Encoder
from ctd.retrieval.index import LabelIndex

if TYPE_CHECKING:
    from ctd.reasoning.serve import Server

SEEN = 512  # tokens of a document that a model from elsewhere sees


@dataclass(frozen=True)
class Teacher:
    """A model, here or behind a server, and how it is to be asked.

    language_model: the model.
    tuned: whether it knows the format; else its prompt explains it.
    document_tokens: how much of a document it sees (all of it where a server comes without a tokenizer).
    manifest: how it was trained, for the teachers that come with the book; else empty.
    losses: the file of its loss curve, or None.
    natural: whether it reasons by itself: its prompt names no format and no phase (see `ctd.reasoning.natural`).
    """

    language_model: LanguageModel | Server
    tuned: bool
    document_tokens: int
    manifest: Mapping[str, Any]
    losses: Path | None
    natural: bool = False


def load(name: str, document_tokens: int = 0) -> Teacher:
    """A teacher of the book by its name, a student of `ctd.distill.export` by its folder, or any model that
    `models.load` takes.

    name: of the teacher, a folder, or what else `models.load` takes.
    document_tokens: how much of a document it sees; 0 for what it was trained on (512 for a model from elsewhere).
    Raises what `models.load` raises.
    """
    folder = models.folder(name)
    manifest = _manifest(folder / "manifest.json") if (folder / "manifest.json").is_file() else {}
    seen = document_tokens or manifest.get("recipe", {}).get("document_tokens", SEEN)
    losses = folder / "loss.csv"
    language_model = models.load(name)
    natural = not manifest and reasons_by_itself(language_model)
    return Teacher(language_model, bool(manifest), seen, manifest, losses if losses.is_file() else None, natural)


def reasons_by_itself(language_model: LanguageModel) -> bool:
    """Whether a model is asked freely: it has a chat template, and draws its tokens by its own generation settings."""
    config = language_model.model.generation_config
    return bool(language_model.tokenizer.chat_template and config is not None and config.do_sample)


def _manifest(file: Path) -> dict[str, Any]:
    """What a teacher's manifest says. Raises ValueError where it is damaged."""
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON ({error}): restore it, or make the model anew") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("recipe", {}), dict):
        raise ValueError(f"{file} is not whole, an object is wanted: restore it, or make the model anew")
    return manifest


def with_topics(task: Task, encoder: Encoder, n_clusters: int, seed: int = 0) -> tuple[Task, LabelIndex]:
    """The task under a new top level of label clusters, its coarse topics, and the index over its labels.

    n_clusters: how many; 0 leaves the label space as it is. Where there are fewer labels to group, one for every two,
        which is said.
    seed: of the clustering.
    Raises what `LabelSpace.with_clusters` raises.
    """
    space = task.space
    if n_clusters:
        roots = np.arange(len(space.ids)) if space.parents is None else np.flatnonzero(space.parents < 0)
        if n_clusters > len(roots):
            tqdm.write(f"{len(roots)} labels of {space.name} cannot fill {n_clusters} topics: {(len(roots) + 1) // 2}")
            n_clusters = (len(roots) + 1) // 2
        vectors = np.asarray(encoders.encode(encoder, [space.texts[root] for root in roots], "embedding roots"))
        task = replace(task, space=space.with_clusters(vectors, n_clusters, seed))
    return task, LabelIndex.build(task.space, encoder)


def card(manifest: Mapping[str, Any]) -> pd.DataFrame:
    """A training manifest as a table of what and value; nested entries by their path."""
    rows: list[tuple[str, str]] = []

    def walk(path: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                walk(f"{path} / {name}" if path else str(name), inner)
        elif isinstance(value, list) and value and all(isinstance(inner, Mapping) for inner in value):
            for number, inner in enumerate(value, start=1):
                walk(f"{path} / {number}", inner)
        else:
            rows.append((path, str(value)))

    walk("", manifest)
    return pd.DataFrame(rows, columns=["what", "value"])
