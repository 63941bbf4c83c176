"""The MIMIC-IV reader on made-up files of the published layout; no real note is used."""

import csv
import gzip
import io
from pathlib import Path

import pytest

from ctd.data.readers import mimic
from ctd.data.task import split_by_hash

NOTE_HEADER = ["note_id", "subject_id", "hadm_id", "note_type", "note_seq", "charttime", "storetime", "text"]
CODE_HEADER = ["subject_id", "hadm_id", "seq_num", "icd_code", "icd_version"]


def note(subject: int, stay: int, text: str = "Made-up note.\n\nSecond line, with a comma") -> list[str]:
    return [f"{subject}-DS-{stay}", str(subject), str(stay), "DS", "1", "2180-01-01", "2180-01-02", text]


def code(subject: int, stay: int, number: str, version: int = 10) -> list[str]:
    return [str(subject), str(stay), "1", number.ljust(7), str(version)]


def as_csv(header: list[str], rows: list[list[str]]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([header, *rows])
    return stream.getvalue().encode()


def write(path: Path, raw: bytes, compress: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if compress else raw)


NOTES = [note(subject, 10 * subject + stay) for subject in range(100, 140) for stay in (1, 2)]
CODES = [code(int(row[1]), int(row[2]), number) for row in NOTES for number in ("I5021", "J810", "I10")]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CTD_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path) -> Path:
    write(tmp_path / "mimic/discharge.csv", as_csv(NOTE_HEADER, NOTES))
    write(tmp_path / "mimic/diagnoses_icd.csv", as_csv(CODE_HEADER, CODES))
    return tmp_path / "mimic"


def rows(task) -> dict[str, list[str]]:
    """uid to its labels' ids."""
    return {
        row["uid"]: [task.space.ids[label] for label in row["labels"]]
        for part in task.documents.values()
        for row in part
    }


def test_notes_get_the_codes_of_their_admission_with_the_dot(folder):
    task = mimic.load(folder)
    assert rows(task) == {row[0]: ["I10", "I50.21", "J81.0"] for row in NOTES}
    texts = {row["uid"]: row["text"] for part in task.documents.values() for row in part}
    assert texts[NOTES[0][0]] == NOTES[0][-1]
    assert not task.card.generated


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("inner", [False, True])
def test_gzip_or_plain_here_or_in_the_published_subfolders(tmp_path, compress, inner):
    root, end = tmp_path / "published", ".csv.gz" if compress else ".csv"
    write(root / ("note" if inner else ".") / f"discharge{end}", as_csv(NOTE_HEADER, NOTES), compress)
    write(root / ("hosp" if inner else ".") / f"diagnoses_icd{end}", as_csv(CODE_HEADER, CODES), compress)
    assert len(rows(mimic.load(root))) == len(NOTES)


def test_no_patient_is_in_two_splits(folder):
    task = mimic.load(folder)
    patients = {split: {uid.split("-")[0] for uid in part["uid"]} for split, part in task.documents.items()}
    assert all(patients.values())
    assert sum(map(len, patients.values())) == 40
    assert all(split_by_hash(patient) == split for split, some in patients.items() for patient in some)


def test_what_is_left_out_is_counted(folder):
    others = [note(1, 11), note(1, 12), note(1, 13), note(1, 14)]
    others[3][2] = ""
    codes = [
        code(1, 11, "4280", 9),
        code(1, 11, "I50"),  # a category, no leaf
        code(1, 12, "I509"),
        code(1, 12, "I509"),  # twice
        code(1, 12, "E1165X"),
        code(1, 99, "I10"),  # no note
    ]
    write(folder / "discharge.csv", as_csv(NOTE_HEADER, others))
    write(folder / "diagnoses_icd.csv", as_csv(CODE_HEADER, codes))
    task = mimic.load(folder)
    assert rows(task) == {"1-DS-12": ["I50.9"]}
    assert task.card.dropped == {
        "ICD-9 codes": 1,
        "ICD-10 codes that are no leaf of the April 2026 list": 2,
        "notes of admissions without any remaining code": 3,
    }
    with pytest.raises(ValueError, match=r"diagnoses_icd.csv, row 2: 'I50 *' is no leaf of the April 2026"):
        mimic.load(folder, on_missing="raise")


def test_chunks_do_not_change_the_result(folder, tmp_path, monkeypatch):
    whole = rows(mimic.load(folder))
    monkeypatch.setattr(mimic, "NOTES_AT_ONCE", 7)
    monkeypatch.setenv("CTD_CACHE", str(tmp_path / "other"))
    assert rows(mimic.load(folder)) == whole


def test_the_prepared_notes_are_read_again_and_renewed_when_a_file_changes(folder, monkeypatch):
    first = rows(mimic.load(folder))
    with monkeypatch.context() as patched:
        patched.setattr(mimic, "_prepare", lambda *_: pytest.fail("prepared a second time"))
        assert rows(mimic.load(folder)) == first
    write(folder / "discharge.csv", as_csv(NOTE_HEADER, NOTES[:5]))
    assert len(rows(mimic.load(folder))) == 5


def test_a_missing_folder_or_file_is_named(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        mimic.load(tmp_path / "nowhere")
    (folder / "diagnoses_icd.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"mimic holds neither diagnoses_icd.csv.gz nor diagnoses_icd.csv"):
        mimic.load(folder)


@pytest.mark.parametrize("name", ["discharge", "diagnoses_icd"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_a_truncated_gzip_is_named_and_nothing_half_prepared_stays(folder, tmp_path, name, share):
    plain = folder / f"{name}.csv"
    raw = gzip.compress(plain.read_bytes())
    plain.unlink()
    (folder / f"{name}.csv.gz").write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(ValueError, match=rf"{name}.csv.gz is (a truncated or damaged gzip|not a whole CSV) file"):
        mimic.load(folder)
    assert list((tmp_path / "cache/mimic").iterdir()) == []


def test_a_plain_file_named_as_gzip_is_read(folder):
    (folder / "discharge.csv").rename(folder / "discharge.csv.gz")
    assert len(rows(mimic.load(folder))) == len(NOTES)


def test_a_note_cut_in_its_quotes_is_named(folder):
    raw = (folder / "discharge.csv").read_bytes()
    (folder / "discharge.csv").write_bytes(raw[:-20])
    with pytest.raises(ValueError, match=r"discharge.csv is not a whole CSV file"):
        mimic.load(folder)


def test_a_note_that_stands_twice_is_named_with_its_row_even_chunks_apart(folder, monkeypatch):
    monkeypatch.setattr(mimic, "NOTES_AT_ONCE", 7)
    write(folder / "discharge.csv", as_csv(NOTE_HEADER, [*NOTES, NOTES[3]]))
    with pytest.raises(ValueError, match=rf"discharge.csv, row {len(NOTES) + 1}: note_id '{NOTES[3][0]}' stands more"):
        mimic.load(folder)


def test_an_empty_text_is_named_with_its_row(folder):
    write(folder / "discharge.csv", as_csv(NOTE_HEADER, [NOTES[0], note(7, 71, " \n")]))
    with pytest.raises(ValueError, match=r"discharge.csv, row 2: text is empty"):
        mimic.load(folder)


def test_an_icd_version_of_neither_kind_is_named_with_its_row(folder):
    write(folder / "diagnoses_icd.csv", as_csv(CODE_HEADER, [*CODES, code(1, 1, "I10", 11)]))
    with pytest.raises(ValueError, match=rf"diagnoses_icd.csv, row {len(CODES) + 1}: icd_version must be 9 or 10, got"):
        mimic.load(folder)


def test_a_missing_column_is_named(folder):
    raw = (folder / "diagnoses_icd.csv").read_bytes()
    (folder / "diagnoses_icd.csv").write_bytes(raw.replace(b"icd_version", b"version", 1))
    with pytest.raises(ValueError, match=r"diagnoses_icd.csv has no column 'icd_version'; found subject_id, hadm_id"):
        mimic.load(folder)


def test_files_without_rows_or_without_common_admissions_are_named(folder):
    write(folder / "diagnoses_icd.csv", as_csv(CODE_HEADER, [code(1, 1, "I10")]))
    with pytest.raises(ValueError, match="have no admission with ICD-10 codes in common"):
        mimic.load(folder)
    write(folder / "diagnoses_icd.csv", as_csv(CODE_HEADER, []))
    with pytest.raises(ValueError, match=r"diagnoses_icd.csv has a header and no rows"):
        mimic.load(folder)


def test_an_unknown_choice_for_missing_codes_is_refused(folder):
    with pytest.raises(ValueError, match="on_missing must be 'drop' or 'raise', got 'ignore'"):
        mimic.load(folder, on_missing="ignore")


def test_codes_with_a_dot_or_in_lower_case_are_read(folder):
    dotted = [code(int(row[1]), int(row[2]), number) for row in NOTES for number in ("I50.21", "j810", "i10")]
    write(folder / "diagnoses_icd.csv", as_csv(CODE_HEADER, dotted))
    assert rows(mimic.load(folder)) == {row[0]: ["I10", "I50.21", "J81.0"] for row in NOTES}


def test_gzip_is_told_by_content(folder):
    for name in ("discharge", "diagnoses_icd"):
        file = folder / f"{name}.csv"
        file.write_bytes(gzip.compress(file.read_bytes()))
    assert len(rows(mimic.load(folder))) == len(NOTES)


def test_a_mark_at_the_head_of_a_table_is_no_part_of_it_and_a_column_stands_once(folder):
    write(folder / "discharge.csv", b"\xef\xbb\xbf" + as_csv(NOTE_HEADER, NOTES))
    assert len(rows(mimic.load(folder))) == len(NOTES)
    write(folder / "discharge.csv", as_csv([*NOTE_HEADER, "text"], [[*row, "another"] for row in NOTES]))
    with pytest.raises(ValueError, match=r"discharge.csv has the column 'text' 2 times; keep one"):
        mimic.load(folder)
