"""MIMIC-IV discharge notes and their ICD-10-CM codes, from the folder of a user who has access.

Notes: the prepared notes stay in the cache folder of this machine, memory-mapped; MIMIC's data use agreement covers
them there too. Files are read in chunks, so that none is ever held whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from ctd.cache import cache_dir
from ctd.data.label_space import LabelSpace
from ctd.data.readers import icd10cm, streams
from ctd.data.readers.packed import DAMAGED, open_unpacked
from ctd.data.task import Card, Task, split_by_hash
from ctd.keys import Maker

MAKER = Maker("mimic", __name__, ("names", "notes", "diagnoses", "space", "on_missing"))
NOTE_COLUMNS = ("note_id", "subject_id", "hadm_id", "text")
DIAGNOSIS_COLUMNS = ("hadm_id", "icd_code", "icd_version")
NOTES_AT_ONCE, DIAGNOSES_AT_ONCE = 2_000, 200_000


def load(folder: Path, on_missing: str = "drop") -> Task:
    """The MIMIC-IV task: from a discharge note to the ICD-10-CM codes of its admission.

    ICD-9 codes, and notes of admissions without any other code, are left out and counted. Splits go by a hash of the
    patient (`subject_id`), so that no patient is in two splits.

    folder: holds `discharge.csv` and `diagnoses_icd.csv`, gzip or plain, directly or in `note/` and `hosp/` as
        published. Both files are read once for the key of the cache: seconds for gigabytes.
    on_missing: "drop" leaves out codes that are no leaf of the April 2026 list and counts them in the card; "raise"
        stops at the first.
    Raises FileNotFoundError for a missing folder or file, and ValueError, naming file and row (counted from 1 below
    the header), for a missing column, an empty field, a truncated file or a repeated note_id.
    """
    if on_missing not in ("drop", "raise"):
        raise ValueError(f"on_missing must be 'drop' or 'raise', got {on_missing!r}")
    notes, diagnoses = _find(Path(folder), "note", "discharge"), _find(Path(folder), "hosp", "diagnoses_icd")
    space = icd10cm.label_space()
    names = [notes.name, diagnoses.name]
    key = MAKER.key(names=names, notes=notes, diagnoses=diagnoses, space=space, on_missing=on_missing)
    return streams.load(cache_dir("mimic") / key, partial(_prepare, notes, diagnoses, space, on_missing))


def _find(folder: Path, inner: str, name: str) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; give the one that holds MIMIC-IV's {name}.csv.gz")
    places = [folder / part / f"{name}.csv{gz}" for part in (".", inner) for gz in (".gz", "")]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(f"{folder} holds neither {name}.csv.gz nor {name}.csv, nor does {folder / inner}")


def _prepare(notes: Path, diagnoses: Path, space: LabelSpace, on_missing: str, folder: Path) -> None:
    """Write one Arrow stream per split, and the card."""
    dropped: Counter[str] = Counter()
    if not _write_notes(notes, _codes(diagnoses, space, on_missing, dropped), folder, dropped):
        raise ValueError(f"{notes} and {diagnoses} have no admission with ICD-10 codes in common")
    card = Card(
        title="MIMIC-IV discharge notes",
        licence="PhysioNet Credentialed Health Data License 1.5.0: for those with access, never republished",
        source=f"{notes.name} and {diagnoses.name} of MIMIC-IV, from the reader's own folder",
        made="Discharge notes of MIMIC-IV; labels are the ICD-10-CM codes billed for the admission, those that are "
        "leaves of the April 2026 list. Split by a hash of the patient.",
        dropped=dict(dropped),
    )
    streams.save_labels_and_card(space, card, folder)


def _write_notes(notes: Path, codes: dict[str, list[int]], folder: Path, dropped: Counter[str]) -> int:
    """Write the notes of admissions with codes to their splits; returns how many there are."""
    seen, n_written = set[str](), 0
    with streams.writers(folder) as writers:
        for chunk in _chunks(notes, NOTE_COLUMNS, NOTES_AT_ONCE, may_be_empty="hadm_id"):
            for row, uid in zip(chunk.index, chunk["note_id"], strict=True):
                if uid in seen:
                    raise ValueError(f"{notes}, row {row}: note_id {uid!r} stands more than once; keep one of them")
                seen.add(uid)
            chunk["labels"] = chunk["hadm_id"].map(codes)
            coded = chunk.dropna(subset="labels").rename(columns={"note_id": "uid"})
            n_written += len(coded)
            dropped["notes of admissions without any remaining code"] += len(chunk) - len(coded)
            for split, part in coded.groupby(coded["subject_id"].map(split_by_hash)):
                columns = [pa.array(part[field.name].tolist(), field.type) for field in streams.SCHEMA]
                writers[str(split)].write_batch(pa.record_batch(columns, schema=streams.SCHEMA))
    return n_written


def _codes(file: Path, space: LabelSpace, on_missing: str, dropped: Counter[str]) -> dict[str, list[int]]:
    """The labels of each admission, sorted. The file has codes without their dot ("I5021"), or as others write them."""
    known = {_plain(id): label for label, id in enumerate(space.ids[: len(space)])}
    parts = []
    for chunk in _chunks(file, DIAGNOSIS_COLUMNS, DIAGNOSES_AT_ONCE):
        version = chunk["icd_version"].str.strip()
        if not (readable := version.isin(["9", "10"])).all():
            row = int(readable.argmin())
            raise ValueError(f"{file}, row {chunk.index[row]}: icd_version must be 9 or 10, got {version.iloc[row]!r}")
        tenth = chunk[version == "10"]
        labels = tenth["icd_code"].map(_plain).map(known)
        if on_missing == "raise" and labels.isna().any():
            row = int(labels.isna().argmax())
            raise ValueError(
                f"{file}, row {tenth.index[row]}: {tenth['icd_code'].iloc[row]!r} is no leaf of the April 2026 "
                "ICD-10-CM list; on_missing='drop' leaves such codes out and counts them"
            )
        dropped["ICD-9 codes"] += len(chunk) - len(tenth)
        dropped["ICD-10 codes that are no leaf of the April 2026 list"] += int(labels.isna().sum())
        parts.append(tenth[["hadm_id"]].assign(label=labels).dropna().astype({"label": "int32"}))
    table = pd.concat(parts).drop_duplicates().sort_values(["hadm_id", "label"])
    grouped = table.groupby("hadm_id")["label"].agg(list)
    return {str(admission): labels for admission, labels in zip(grouped.index, grouped, strict=True)}


def _plain(code: str) -> str:
    """A code as MIMIC has it: "i50.21" is "I5021"."""
    return code.strip().upper().replace(".", "")


def _chunks(file: Path, columns: tuple[str, ...], rows: int, may_be_empty: str | None = None) -> Iterator[pd.DataFrame]:
    """Columns of a CSV file as text, some rows at a time; the index counts rows from 1 below the header."""
    read = 0
    try:
        _check_header(file, columns)
        with (
            open_unpacked(file) as (_, stream),
            pd.read_csv(
                stream, usecols=list(columns), dtype=str, keep_default_na=False, chunksize=rows, encoding="utf-8-sig"
            ) as chunks,
        ):
            for chunk in tqdm(chunks, desc=f"reading {file.name}", unit=" chunks"):
                if not isinstance(chunk.index, pd.RangeIndex):  # pandas took the first column for an index
                    raise ValueError(f"{file}, row {read + 1}: more fields than the header has; mend the file")
                chunk.index += 1
                for column in columns:
                    empty = chunk[column].isna() | (chunk[column].str.strip() == "")
                    if empty.any() and column != may_be_empty:
                        raise ValueError(f"{file}, row {chunk.index[int(empty.argmax())]}: {column} is empty")
                read += len(chunk)
                yield chunk
    except DAMAGED as error:
        raise ValueError(f"{file} is a truncated or damaged gzip file, after row {read}; fetch it again") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{file} is not a whole CSV file, after row {read} ({reason}); fetch it again") from error
    if not read:
        raise ValueError(f"{file} has a header and no rows; fetch it again")


def _check_header(file: Path, columns: tuple[str, ...]) -> None:
    """Refuse a file that lacks one of the columns, or has it twice."""
    with open_unpacked(file) as (_, stream):
        header = pd.read_csv(stream, nrows=1, header=None, dtype=str, encoding="utf-8-sig").iloc[0].tolist()
    for column in columns:
        if column not in header:
            names = [" ".join(str(name).split())[:40] for name in header[:30]]
            raise ValueError(f"{file} has no column {column!r}; found {', '.join(names)}")
        if header.count(column) > 1:
            raise ValueError(f"{file} has the column {column!r} {header.count(column)} times; keep one")
