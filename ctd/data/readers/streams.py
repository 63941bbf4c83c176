"""Datasets that are never held whole: Arrow streams in a folder of the cache, written once, then memory-mapped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from ctd.cache import atomic, once
from ctd.data.label_space import LabelSpace
from ctd.data.task import SPLITS, Card, Task

SCHEMA = pa.schema({"uid": pa.string(), "text": pa.string(), "labels": pa.list_(pa.int64())})


@contextmanager
def writers(folder: Path) -> Iterator[Mapping[str, pa.RecordBatchStreamWriter]]:
    """A stream of documents for each split, open for writing batches of `SCHEMA`."""
    with ExitStack() as stack:
        streams = {split: pa.ipc.new_stream(folder / f"{split}.arrow", SCHEMA) for split in SPLITS}
        yield {split: stack.enter_context(stream) for split, stream in streams.items()}


def save_labels_and_card(space: LabelSpace, card: Card, folder: Path) -> None:
    """Write what a task has beside its documents."""
    space.save(folder / "labels.parquet")
    (folder / "card.json").write_text(json.dumps(asdict(card)))
    np.save(folder / "unscored.npy", np.empty(0, np.int32))


def load(folder: Path, prepare: Callable[[Path], None]) -> Task:
    """The task in a folder, prepared where it is not there yet.

    prepare: writes the streams, the labels and the card, and `filtered-SPLIT.npz` where there is such a thing, to the
        folder that it is given. Nothing of a failed try is kept.
    """
    with once(folder) as missing:
        if missing:
            with atomic(folder) as scratch:
                scratch.mkdir()
                prepare(scratch)
    return Task.load(folder)
