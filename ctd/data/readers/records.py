"""Any Hugging Face dataset, pandas frame or table file, with a column of texts and a column of labels.

Notes: a file is read line by line; its documents stand in memory as Arrow. Labels are numbered in the order of their
first appearance in train, then validation, then test, or in the one part that is still to be split.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import datasets
import pandas as pd
import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetDict, DatasetInfo, Features
from tqdm import tqdm

from ctd.cache import cache_dir
from ctd.data.label_space import LabelSpace
from ctd.data.readers import label_cells, tables
from ctd.data.readers.lines import AT_ONCE, Documents, field, identifier, read_json_lines, string
from ctd.data.readers.streams import SCHEMA
from ctd.data.task import SPLITS, Card, Task, split_by_hash

SUFFIXES = tables.SUFFIXES
SPLIT_OF = {**{split: split for split in SPLITS}, "dev": "validation", "val": "validation", "valid": "validation"}
SHARES = {"validation": 0.08, "test": 0.12}
HUB_ID = re.compile(r"(?P<id>[\w.-]+(?:/[\w.-]+)?)(?::(?P<config>[\w.-]+))?", re.ASCII)

Located = Iterable[tuple[str, Mapping[str, Any]]]  # rows, each with where it stands


def load(
    source: str | Path | Dataset | DatasetDict | pd.DataFrame,
    text: str = "text",
    labels: str = "labels",
    uid: str | None = None,
    on_empty: str = "error",
    space: LabelSpace | None = None,
) -> Task:
    """The task in a dataset of which two columns are named.

    The source's splits train, validation (also dev, val, valid) and test stay; a missing one is a share of train by a
    hash of the uid (`split_by_hash`): 8% validation, 12% test.

    source: a table (JSON Lines, CSV or TSV, plain or .gz, or Parquet), a folder that `save_to_disk` wrote or that
        `datasets.load_dataset` understands, or a dataset's id on the Hugging Face hub (`owner/name` or
        `owner/name:config`). What exists on disk comes first. Or data in memory: a pandas frame, or a Dataset or
        DatasetDict of `datasets`.
    text: the column with the documents.
    labels: the column with their labels, a list or a single one: strings, ClassLabel numbers (which go by their names)
        or other whole numbers (which go by their digits). A list saved as text, "['a', 'b']", counts as a list. Null,
        a blank string and a ClassLabel of -1 are none.
    uid: the column with the documents' names; by default the part and the row from 0, such as "train-17".
    on_empty: what to do with a document without text or without labels: "error", "drop" (leave it out and count it in
        the card) or "keep".
    space: the labels to choose from. A label is looked up by id, then by text, then by the id that differs only in dots
        and case ("i5021" for "I50.21"); one that is none is left out and counted in the card. By default the labels
        that occur, each its own id and text.
    Raises FileNotFoundError when the source is nowhere, and ValueError, naming file and line or split and row, for
    a truncated gzip file, a line that is not JSON, a missing column, a text or label of another type, a uid that
    repeats, an unknown split, or a source without any label.
    """
    batches: dict[str, list[pa.RecordBatch]] = {split: [] for split in SPLITS}
    documents = Documents({split: batches[split].append for split in SPLITS}, on_empty)
    known = {} if space is None else _lookup(space)
    origin = str(source) if isinstance(source, str | Path) else "your data"
    parts, licence = _parts(source, origin, [text, labels, *([] if uid is None else [uid])], labels)
    shares = {split: 0.0 if split in parts else share for split, share in SHARES.items()}
    for part, rows in parts.items():
        for row, (where, record) in enumerate(rows):
            name = f"{part}-{row}" if uid is None else identifier(record, uid, where)
            names = label_cells.names(field(record, labels, where), where, labels)
            gold = _numbers(names, known, space, documents.dropped)
            if names and not gold and space is not None:
                where += f" (none of its labels is in '{space.name}')"
            split = split_by_hash(name, **shares) if part == "train" else part
            documents.add(where, split, name, string(record, text, where), gold)
    documents.finish()
    if not known:
        raise ValueError(
            f"{origin}: no document has a label in {labels!r}; name the column that has them (columns, or labels= "
            "in Python)"
        )
    if not batches["train"]:
        raise ValueError(f"{origin}: no document is left for the split 'train'; add documents, or a train split")
    return Task(
        documents=DatasetDict({split: Dataset(pa.Table.from_batches(batches[split], SCHEMA)) for split in SPLITS}),
        space=space or LabelSpace(_title(origin), list(known), list(known), len(known)),
        card=_card(origin, licence, text, labels, shares, documents.dropped),
    )


def check_source(source: str) -> None:
    """Look whether a source is a table, a folder, or what a dataset on the hub may be called.

    Raises ValueError for a file of another kind, and FileNotFoundError for what is nowhere.
    """
    path = Path(source).expanduser()
    if path.is_file():
        tables.suffix(path)
    elif not path.is_dir():
        _hub_id(source)


def _card(
    origin: str, licence: str, text: str, labels: str, shares: Mapping[str, float], dropped: Mapping[str, int]
) -> Card:
    splits = ", ".join(
        f"{split}: {f'{share:.0%} of train by a hash of the uid' if share else 'as given'}"
        for split, share in shares.items()
    )
    return Card(
        title=_title(origin),
        licence=licence or "as the dataset's maker states it; fetched by each user, never vendored",
        source=origin,
        made=f"Texts from the column {text!r}, labels from {labels!r}. {splits}.",
        dropped=dict(dropped),
    )


def _numbers(names: list[str], known: dict[str, int], space: LabelSpace | None, dropped: Counter[str]) -> list[int]:
    """The numbers of a document's labels, sorted. Without a label space new labels are numbered, else they are counted.

    known: numbers by name.
    dropped: counts the occurrences of unknown labels.
    """
    if space is None:
        for name in names:
            known.setdefault(name, len(known))
    else:
        names = [name if name in known else _plain(name) for name in names]
        if unknown := sum(name not in known for name in names):
            dropped[f"label occurrences outside '{space.name}'"] += unknown
    return sorted({known[name] for name in names if name in known})


def _title(source: str) -> str:
    """A file's or folder's name without its suffix; a hub id as it is."""
    path = Path(source)
    ending = re.compile(rf"({'|'.join(map(re.escape, SUFFIXES))})$", re.IGNORECASE)
    return ending.sub("", path.resolve().name) if path.exists() else source


def _lookup(space: LabelSpace) -> dict[str, int]:
    """Label number by id, by text where no id is the same, and by plain id; of labels that share one the first counts.

    A plain id that two labels share is left out.
    """
    backwards = range(len(space) - 1, -1, -1)
    plain = Counter(map(_plain, space.ids[: len(space)]))
    return (
        {_plain(space.ids[label]): label for label in backwards if plain[_plain(space.ids[label])] == 1}
        | {space.texts[label]: label for label in backwards}
        | {space.ids[label]: label for label in backwards}
    )


def _plain(name: str) -> str:
    """An id without dots and case: "I50.21" and "i5021" share it."""
    return name.replace(".", "").casefold()


def _parts(
    source: str | Path | Dataset | DatasetDict | pd.DataFrame, origin: str, columns: list[str], labels: str
) -> tuple[dict[str, Located], str]:
    """The rows of each split that the source has, train first, and the licence it states, or ""."""
    if isinstance(source, pd.DataFrame):
        source = Dataset.from_pandas(source, preserve_index=False)
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        if path.is_file():
            return {"train": tables.read_rows(path)}, ""
        source = _open_folder(path) if path.is_dir() else _open_hub(origin)
    return _parts_of(source, origin, columns, labels)


def _parts_of(
    opened: Dataset | DatasetDict, source: str, columns: list[str], labels: str
) -> tuple[dict[str, Located], str]:
    """As `_parts`, of data that are open."""
    splits = {"train": opened} if isinstance(opened, Dataset) else dict(opened)
    if unknown := [split for split in splits if split not in SPLIT_OF]:
        raise ValueError(f"{source}: unknown split {unknown[0]!r}; splits must be among {', '.join(SPLIT_OF)}")
    parts: dict[str, Located] = {}
    for split, dataset in sorted(splits.items(), key=lambda item: SPLITS.index(SPLIT_OF[item[0]])):
        if SPLIT_OF[split] in parts:
            raise ValueError(f"{source}: more than one split is '{SPLIT_OF[split]}' ({', '.join(splits)}); keep one")
        where = f"{source}, split {split!r}"
        for column in columns:
            field(dataset.features, column, where)
        parts[SPLIT_OF[split]] = _rows(dataset.select_columns(list(dict.fromkeys(columns))), where, labels)
    if "train" not in parts:
        raise ValueError(f"{source}: no split 'train' (found {', '.join(splits) or 'none'}); rename or add one")
    return parts, next(iter(splits.values())).info.license or ""


def _open_folder(folder: Path) -> Dataset | DatasetDict:
    saved = (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()
    try:
        if saved:
            return _open_saved(folder)
        return datasets.load_dataset(str(folder.resolve()), cache_dir=str(cache_dir("hub")))
    except Exception as error:
        for file in sorted(folder.rglob("*.jsonl*")):
            for _ in read_json_lines(file):  # a bad line is named better by our own reader
                pass
        raise ValueError(f"{folder} cannot be read as a dataset ({_reason(error)}); mend or rewrite it") from error


def _open_saved(folder: Path) -> Dataset | DatasetDict:
    """What `save_to_disk` wrote; the library does not read an empty split again."""
    if (index := folder / "dataset_dict.json").is_file():
        splits = json.loads(index.read_text("utf-8"))["splits"]
        return DatasetDict({split: cast(Dataset, _open_saved(folder / split)) for split in splits})
    if json.loads((folder / "state.json").read_text("utf-8"))["_data_files"]:
        return datasets.load_from_disk(str(folder))
    features = DatasetInfo.from_directory(str(folder)).features or {}
    return Dataset.from_dict({name: [] for name in features}, Features(features))


def _hub_id(source: str) -> re.Match[str]:
    match = HUB_ID.fullmatch(source)
    if match is None or source.endswith(SUFFIXES):
        raise FileNotFoundError(f"{source} is neither a file nor a folder; check the path")
    return match


def _open_hub(source: str) -> DatasetDict:
    match = _hub_id(source)
    try:
        return datasets.load_dataset(match["id"], match["config"], cache_dir=str(cache_dir("hub")))
    except Exception as error:
        raise FileNotFoundError(
            f"{source} is neither a file nor a folder here, and the Hugging Face hub did not give it "
            f"({_reason(error)}); check the name and the connection"
        ) from error


def _reason(error: BaseException) -> str:
    """The first line of what went wrong at the root."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _rows(dataset: Dataset, where: str, labels: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a split, ClassLabel numbers replaced by their names."""
    feature = dataset.features[labels]
    classes = getattr(feature, "feature", feature)
    row = 0
    with tqdm(desc=f"reading {where}", total=len(dataset), unit=" rows") as bar:
        for batch in dataset.with_format(None).iter(AT_ONCE):
            for values in zip(*batch.values(), strict=True):
                record = dict(zip(batch, values, strict=True))
                if isinstance(classes, ClassLabel):
                    value = record[labels]
                    numbers = value if isinstance(value, list) else [value]
                    record[labels] = [classes.int2str(n) for n in numbers if n is not None and n >= 0]
                yield f"{where}, row {row}", record
                row += 1
                bar.update()
