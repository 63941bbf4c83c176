"""MIMIC-IV discharge notes and their ICD-10-CM codes, from the folder of a user who has access.

Notes: the prepared notes stay in the cache folder of this machine, memory-mapped; MIMIC's data use agreement covers
them there too. Files are read row by row, so that none is ever held whole.
"""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
from tqdm import tqdm

from ctd.cache import cache_dir
from ctd.data.label_space import LabelSpace
from ctd.data.readers import icd10cm, streams
from ctd.data.readers.packed import DAMAGED, open_unpacked
from ctd.data.task import SPLITS, Card, Task, split_by_hash
from ctd.keys import Maker

MAKER = Maker("mimic", __name__, ("names", "notes", "diagnoses", "space", "on_missing"))
NOTE_COLUMNS = ("note_id", "subject_id", "hadm_id", "text")
DIAGNOSIS_COLUMNS = ("hadm_id", "icd_code", "icd_version")
NOTES_AT_ONCE = 2_000


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
    notes, diagnoses = check_source(Path(folder))
    space = icd10cm.label_space()
    names = [notes.name, diagnoses.name]
    key = MAKER.key(names=names, notes=notes, diagnoses=diagnoses, space=space, on_missing=on_missing)
    return streams.load(cache_dir("mimic") / key, partial(_prepare, notes, diagnoses, space, on_missing))


def check_source(folder: Path) -> tuple[Path, Path]:
    """The files with the notes and with the codes. Raises FileNotFoundError for a folder that lacks one."""
    return _find(folder, "note", "discharge"), _find(folder, "hosp", "diagnoses_icd")


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
    dropped["notes of admissions without any remaining code"] = 0
    waiting: dict[str, list[dict[str, object]]] = {split: [] for split in SPLITS}
    with streams.writers(folder) as writers:

        def write(split: str) -> None:
            writers[split].write_batch(pa.RecordBatch.from_pylist(waiting[split], schema=streams.SCHEMA))
            waiting[split].clear()

        for row, (uid, patient, admission, text) in _rows(notes, NOTE_COLUMNS, may_be_empty="hadm_id"):
            if uid in seen:
                raise ValueError(f"{notes}, row {row}: note_id {uid!r} stands more than once; keep one of them")
            seen.add(uid)
            if admission not in codes:
                dropped["notes of admissions without any remaining code"] += 1
                continue
            n_written += 1
            split = split_by_hash(patient)
            waiting[split].append({"uid": uid, "text": text, "labels": codes[admission]})
            if len(waiting[split]) == NOTES_AT_ONCE:
                write(split)
        for split in SPLITS:
            write(split)
    return n_written


def _codes(file: Path, space: LabelSpace, on_missing: str, dropped: Counter[str]) -> dict[str, list[int]]:
    """The labels of each admission, sorted. The file has codes without their dot ("I5021"), or as others write them."""
    known = {_plain(id): label for label, id in enumerate(space.ids[: len(space)])}
    dropped.update({"ICD-9 codes": 0, "ICD-10 codes that are no leaf of the April 2026 list": 0})
    labels: dict[str, set[int]] = {}
    for row, (admission, code, version) in _rows(file, DIAGNOSIS_COLUMNS):
        if version.strip() not in ("9", "10"):
            raise ValueError(f"{file}, row {row}: icd_version must be 9 or 10, got {version.strip()!r}")
        label = known.get(_plain(code))
        if version.strip() == "9":
            dropped["ICD-9 codes"] += 1
        elif label is not None:
            labels.setdefault(admission, set()).add(label)
        elif on_missing == "drop":
            dropped["ICD-10 codes that are no leaf of the April 2026 list"] += 1
        else:
            raise ValueError(
                f"{file}, row {row}: {code!r} is no leaf of the April 2026 ICD-10-CM list; on_missing='drop' leaves "
                "such codes out and counts them"
            )
    return {admission: sorted(some) for admission, some in labels.items()}


def _plain(code: str) -> str:
    """A code as MIMIC has it: "i50.21" is "I5021"."""
    return code.strip().upper().replace(".", "")


def _rows(file: Path, columns: tuple[str, ...], may_be_empty: str = "") -> Iterator[tuple[int, list[str]]]:
    """Each row of a CSV file: its number, from 1 below the header, and what it has in these columns."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    row = 0
    try:
        with open_unpacked(file) as (_, stream), io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
            filled = filter(None, csv.reader(text, strict=True))  # blank lines are no rows
            header = next(filled, [])
            places = _places(file, header, columns)
            for row, cells in enumerate(tqdm(filled, desc=f"reading {file.name}", unit=" rows"), start=1):
                if len(cells) > len(header):
                    raise ValueError(f"{file}, row {row}: more fields than the header has; mend the file")
                values = [cells[place] if place < len(cells) else "" for place in places]
                for column, value in zip(columns, values, strict=True):
                    if column != may_be_empty and not value.strip():
                        raise ValueError(f"{file}, row {row}: {column} is empty")
                yield row, values
    except DAMAGED as error:
        raise ValueError(f"{file} is a truncated or damaged gzip file, after row {row}; fetch it again") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not a whole CSV file, after row {row} ({error}); fetch it again") from error
    if not row:
        raise ValueError(f"{file} has a header and no rows; fetch it again")


def _places(file: Path, header: list[str], columns: tuple[str, ...]) -> list[int]:
    """Where the columns stand. Refuses a file that lacks one of them, or has it twice."""
    if not header:
        raise ValueError(f"{file} is not a whole CSV file: it is empty; fetch it again")
    for column in columns:
        if column not in header:
            names = [" ".join(name.split())[:40] for name in header[:30]]
            raise ValueError(f"{file} has no column {column!r}; found {', '.join(names)}")
        if header.count(column) > 1:
            raise ValueError(f"{file} has the column {column!r} {header.count(column)} times; keep one")
    return [header.index(column) for column in columns]
