"""The Extreme Classification Repository's raw format: `lbl`, `trn` and `tst` as JSON Lines, and its filters.

Notes: a label's number is its row in `lbl`. Files are read line by line into Arrow files in the cache, which are
memory-mapped: neither the source nor the prepared documents are ever held whole (only labels' titles and uids are).
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, save_npz

from ctd.cache import cache_dir
from ctd.data.label_space import LabelSpace
from ctd.data.readers import streams
from ctd.data.readers.lines import Documents, field, identifier, read_json_lines, read_lines, string
from ctd.data.task import SPLITS, Card, Task, split_by_hash
from ctd.keys import Maker

MAKER = Maker("xmc", __name__, ("names", "files", "title_only", "on_empty", "validation"))
PAIR = re.compile(r"\s*(-?\d{1,18})\s+(-?\d{1,18})\s*", re.ASCII)


def load(folder: Path, title_only: bool | None = None, on_empty: str = "error", validation: float = 0.05) -> Task:
    """The task in a folder of the repository's raw data, such as LF-AmazonTitles-131K.

    Labels of relevance (`target_rel`) 0 are not gold. A label without a title goes by its uid and is counted in the
    card. Filter pairs follow their documents into the splits; those of documents left out fall away.

    folder: holds `lbl.json`, `trn.json` and `tst.json` and, where the data has them, `filter_labels_train.txt` and
        `filter_labels_test.txt`, each plain or as `.gz` (plain wins when both are there). It gives the label space its
        name. The files are read once for the key of the cache: seconds for gigabytes.
    title_only: whether a document is its title alone; else its content, where it has some, follows the title. None:
        title alone when the folder's name has the word Titles in it.
    on_empty: what to do with a document without text or without labels: "error", "drop" (leave it out and count it in
        the card) or "keep".
    validation: share of `trn` that becomes the validation split, by a hash of the uid (`split_by_hash`); `tst` is the
        test split.
    Raises FileNotFoundError for a missing folder or file, and ValueError, naming file and line, for a truncated
    gzip file, a line that is not UTF-8 or not JSON, a missing field or one of another type, a label or row out of
    range, and a uid that repeats within `lbl` or within `trn` and `tst`. Nothing of a failed read is kept.
    """
    if not 0 <= validation < 1:
        raise ValueError(f"validation must be at least 0 and below 1 (a share of trn), got {validation}")
    folder = Path(folder).resolve()
    files = check_source(folder)
    if title_only is None:
        title_only = "titles" in folder.name.lower()
    names = [folder.name, *(file.name for file in files.values())]
    key = MAKER.key(names=names, files=files, title_only=title_only, on_empty=on_empty, validation=validation)
    prepare = partial(_prepare, files, folder.name, title_only, on_empty, validation)
    return streams.load(cache_dir("xmc") / key, prepare)


def check_source(folder: Path) -> dict[str, Path]:
    """The files that are there, by the part of their names before the dot.

    Raises FileNotFoundError for a folder that lacks one of those that are needed.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; give the one that holds lbl.json, trn.json and tst.json")
    files = {}
    names = ("lbl.json", "trn.json", "tst.json", "filter_labels_train.txt", "filter_labels_test.txt")
    for name in names:
        if present := [file for file in (folder / name, folder / f"{name}.gz") if file.is_file()]:
            files[name.partition(".")[0]] = present[0]
        elif name.endswith(".json"):
            raise FileNotFoundError(
                f"{folder} holds neither {name} nor {name}.gz; unpack the data set's raw text there"
            )
    return files


def _prepare(
    files: Mapping[str, Path], name: str, title_only: bool, on_empty: str, validation: float, folder: Path
) -> None:
    """Write one Arrow stream per split, the label space, the filters and the card."""
    rows_of = {split: array("q") for split in SPLITS}  # the rows of trn or tst that a split's documents came from
    n_rows = dict.fromkeys(("trn", "tst"), 0)
    with streams.writers(folder) as writers:
        documents = Documents({split: writer.write_batch for split, writer in writers.items()}, on_empty)
        space = _label_space(files["lbl"], name, documents.dropped)
        for part in n_rows:
            for where, record in read_json_lines(files[part]):
                uid, text = identifier(record, "uid", where), _text(record, title_only, where)
                split = "test" if part == "tst" else split_by_hash(uid, validation, test=0)
                if documents.add(where, split, uid, text, _gold(record, where, len(space), files["lbl"])):
                    rows_of[split].append(n_rows[part])
                n_rows[part] += 1
        documents.finish()
    for part, split in (("trn", "train"), ("tst", "test")):
        if not rows_of[split]:
            raise ValueError(f"{files[part]} leaves no document for the split '{split}' ({n_rows[part]} lines read)")
    for part, splits in (("trn", ("train", "validation")), ("tst", ("test",))):
        if (file := files.get(f"filter_labels_{splits[0]}")) is not None:
            pairs = _filter_pairs(file, n_rows[part], files[part], space)
            for split in splits:
                save_npz(folder / f"filtered-{split}.npz", pairs[np.array(rows_of[split], np.int64)])
    card = _card(files, name, title_only, validation, documents.dropped)
    streams.save_labels_and_card(space, card, folder)


def _card(files: Mapping[str, Path], name: str, title_only: bool, validation: float, dropped: Counter[str]) -> Card:
    return Card(
        title=name,
        licence="that of the data set, as its maker states it; fetched by each user, never vendored",
        source=f"{', '.join(file.name for file in files.values())}, from the reader's own folder",
        made="The Extreme Classification Repository's raw data: "
        + ("titles alone" if title_only else "title and, where there is one, content")
        + f"; validation is {validation:.3g} of trn by a hash of the uid, test is tst.",
        dropped={reason: count for reason, count in dropped.items() if count},
    )


def _label_space(file: Path, name: str, dropped: Counter[str]) -> LabelSpace:
    texts: dict[str, str] = {}
    for where, record in read_json_lines(file):
        uid, title = identifier(record, "uid", where), string(record, "title", where)
        if uid in texts:
            raise ValueError(f"{where}: label uid {uid!r} stands more than once; rows are label numbers, so mend it")
        dropped["label titles, empty: the uid stands in"] += not title
        texts[uid] = title or uid
    if not texts:
        raise ValueError(f"{file} holds no label; fetch it again")
    return LabelSpace(name, list(texts), list(texts.values()), len(texts))


def _text(record: Mapping[str, Any], title_only: bool, where: str) -> str:
    title = string(record, "title", where)
    if title_only or "content" not in record:
        return title
    return f"{title} {string(record, 'content', where)}".strip()


def _gold(record: Mapping[str, Any], where: str, n_labels: int, labels_file: Path) -> list[int]:
    labels, relevance = (field(record, name, where) for name in ("target_ind", "target_rel"))
    if not (
        isinstance(labels, list)
        and isinstance(relevance, list)
        and len(labels) == len(relevance)
        and set(map(type, labels)) <= {int}
        and set(map(type, relevance)) <= {int, float}
    ):
        raise ValueError(
            f"{where}: target_ind must be a list of label numbers and target_rel one of as many relevances"
        )
    bad = next((label for label in labels if not 0 <= label < n_labels), None)
    if bad is not None:
        raise ValueError(
            f"{where}: target_ind must be between 0 and {n_labels - 1} (rows of {labels_file.name}), got {bad}; "
            "do the files belong to the same data set?"
        )
    return sorted({label for label, weight in zip(labels, relevance, strict=True) if weight > 0})


def _filter_pairs(file: Path, n_rows: int, documents: Path, space: LabelSpace) -> csr_matrix:
    """The (row, label) pairs of a filter file as a boolean matrix [rows of the documents' file, labels]."""
    pairs = array("q")
    bounds = (("row", n_rows, documents.name), ("label", len(space), f"labels of '{space.name}'"))
    for where, line in read_lines(file):
        match = PAIR.fullmatch(line)
        if match is None:
            raise ValueError(f"{where}: expected two whole numbers, 'row label', got {line[:60]!r}")
        for value, (what, bound, source) in zip(map(int, match.groups()), bounds, strict=True):
            if not 0 <= value < bound:
                raise ValueError(f"{where}: {what} must be between 0 and {bound - 1} ({source}), got {value}")
            pairs.append(value)
    rows, labels = np.array(pairs, np.int64).reshape(-1, 2).T
    return csr_matrix((np.ones(len(rows), bool), (rows, labels)), shape=(n_rows, len(space)))
