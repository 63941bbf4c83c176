"""Predictions as JSON Lines: written batch by batch, and taken up where a killed run stopped.

Notes: each line has a key, a digest of the document and of all that its labels depend on. A line is kept only where its
key is right, so that a file never mixes two models or two versions of a document.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ctd.cache import alone, digest, require_folders, written_or_told
from ctd.data.documents import Document
from ctd.data.label_space import LabelSpace
from ctd.reasoning.predictor import Labelling, Predictor

MEND = "What was labelled is kept: free some space, and the same command goes on"
AT_ONCE = 128  # documents of a batch; fixed, because what stands beside a document changes last bits


def record(document: Document, labelling: Labelling, space: LabelSpace, key: str) -> dict[str, Any]:
    """A line of the file: uid, labels with scores, shortlist, trace, error and key."""
    scored = zip(labelling.labels, labelling.scores, strict=True)
    return {
        "uid": document.uid,
        "labels": [{"id": space.ids[label], "text": space.texts[label], "score": score} for label, score in scored],
        "shortlist": [{"id": space.ids[label], "text": space.texts[label]} for label in labelling.shortlist],
        "trace": labelling.trace,
        "error": labelling.error,
        "key": key,
    }


def as_line(record: dict[str, Any]) -> str:
    """A record as a line of JSON."""
    return json.dumps(record, ensure_ascii=False) + "\n"


def records(
    predictor: Predictor, documents: Iterable[Document], done: Sequence[str] = (), total: int | None = None
) -> Iterator[list[dict[str, Any]]]:
    """The lines of all documents but those that are done, a batch at a time.

    predictor: labels them.
    documents: in their order.
    done: the keys of the lines that are there.
    total: how many documents there are, for the progress bar; None where that is not known.
    Raises ValueError where a line that is there is of another document, model or setting.
    """
    rows = iter(documents)
    start = 0
    bar = None if predictor.teacher else tqdm(total=total, desc="labelling", unit=" documents")  # models have their own
    while batch := list(islice(rows, AT_ONCE)):
        keys = [digest([predictor.key, document.uid, document.text])[:32] for document in batch]
        for number, (key_there, key) in enumerate(zip(done[start : start + len(batch)], keys, strict=False), start + 1):
            if key_there != key:
                raise ValueError(
                    f"line {number} of the output is of another document, model or setting than asked for now: "
                    "name another file with --out, or remove it"
                )
        n_done = min(max(len(done) - start, 0), len(batch))
        if n_done < len(batch):
            out_of = f" of {total:,}" if total else ""
            desc = f"labelling {start + 1:,} to {start + len(batch):,}{out_of}"
            labellings = predictor.label([document.text for document in batch], desc)
            lines = zip(batch, labellings, keys, strict=True)
            yield [record(*line[:2], predictor.space, line[2]) for line in islice(lines, n_done, None)]
        start += len(batch)
        if bar is not None:
            bar.update(len(batch))
    if bar is not None:
        bar.close()
    if len(done) > start:
        raise ValueError(f"the output has {len(done):,} lines and there are {start:,} documents: name another file")


def check(out: Path) -> None:
    """Check, before a model is loaded, that predictions can be written to a file, or go on behind those it has.

    Raises IsADirectoryError, NotADirectoryError, and ValueError for a file of something else.
    """
    if out.is_dir():
        raise IsADirectoryError(f"{out} is a folder: name a file with --out")
    require_folders(out, "name another file with --out")
    _whole_lines(out)


def write(predictor: Predictor, documents: Iterable[Document], out: Path, total: int | None = None) -> tuple[int, int]:
    """Label documents into a file; go on behind the lines that it has.

    predictor: labels them.
    documents: in their order.
    out: the file. A last line that was torn by a kill is written again.
    total: how many documents there are; None where that is not known.
    Returns how many lines were there, and how many were added.
    Where another process is writing the file, it waits.
    Raises ValueError for a file of something else, and what `records` raises; NotWritten where the disk is full.
    """
    added = 0
    with alone(out), written_or_told(out, MEND):
        out.parent.mkdir(parents=True, exist_ok=True)
        done = _done(out)
        with open(out, "ab") as file:
            for batch in records(predictor, documents, done, total):
                file.write(b"".join(as_line(line).encode("utf-8", "replace") for line in batch))
                file.flush()
                os.fsync(file.fileno())
                added += len(batch)
    return len(done), added


def _done(out: Path) -> list[str]:
    """The keys of the whole lines of a file; what was torn is cut off."""
    keys, size = _whole_lines(out)
    if out.exists() and size < out.stat().st_size:
        with open(out, "r+b") as file:
            file.truncate(size)
    return keys


def _whole_lines(out: Path) -> tuple[list[str], int]:
    """The keys of the whole lines of a file, which may not be there, and their size in bytes."""
    if not out.exists():
        return [], 0
    content = out.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    try:
        keys = [str(json.loads(line)["key"]) for line in whole.splitlines()]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{out} holds something else than predictions: name another file with --out") from None
    if not whole and content and not content.startswith(b'{"uid": '):
        raise ValueError(f"{out} holds something else than predictions: name another file with --out")
    return keys, len(whole)
