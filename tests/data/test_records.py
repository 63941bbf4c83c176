"""Datasets of others by two column names: JSON Lines files and local Hugging Face folders written by the test."""

import gzip
import json

import datasets
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from ctd.data.label_space import LabelSpace
from ctd.data.readers import records
from ctd.data.task import SPLITS, Task, split_by_hash

pytestmark = pytest.mark.usefixtures("own_cache")
ROWS = [{"text": f"text {n}", "labels": [f"label {n % 3}", "common"]} for n in range(60)]


def jsonl(file, rows=ROWS):
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file.write_bytes(gzip.compress(text) if file.suffix == ".gz" else text)
    return str(file)


def named(task, split):
    """The labels of each document of a split by their texts."""
    return [{task.space.texts[label] for label in labels} for labels in task.documents[split]["labels"]]


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.json", "mine.jsonl.gz", "mine.json.gz"])
def test_a_file_is_split_by_hash_and_its_labels_numbered_as_they_appear(tmp_path, name):
    task = records.load(jsonl(tmp_path / name))
    assert (task.space.name, task.card.title) == ("mine", "mine")
    assert task.space.texts == task.space.ids == ["label 0", "common", "label 1", "label 2"]
    expected = {split: [] for split in SPLITS}
    for n in range(60):
        numbers = {0: [0, 1], 1: [1, 2], 2: [1, 3]}[n % 3]
        expected[split_by_hash(f"train-{n}")].append({"uid": f"train-{n}", "text": f"text {n}", "labels": numbers})
    assert {split: list(task.documents[split]) for split in SPLITS} == expected
    assert all(expected.values())


def test_columns_are_named_by_parameters_and_uids_decide_the_split(tmp_path):
    rows = [{"id": n, "body": f"b{n}", "tags": "one" if n % 2 else ["two"], "text": 5} for n in range(40)]
    task = records.load(jsonl(tmp_path / "m.jsonl", rows), text="body", labels="tags", uid="id")
    assert sorted(task.space.texts) == ["one", "two"]
    for split in SPLITS:
        for uid, labels in zip(task.documents[split]["uid"], named(task, split), strict=True):
            assert split_by_hash(uid) == split
            assert labels == {"one" if int(uid) % 2 else "two"}


def test_whole_numbers_go_by_their_digits_and_blanks_are_no_label(tmp_path):
    rows = [{"text": "a", "labels": [12, "12", "", None]}, {"text": "b", "labels": 3}, {"text": "c", "labels": " x "}]
    task = records.load(jsonl(tmp_path / "m.jsonl", rows))
    assert task.space.texts == ["12", "3", "x"]
    assert sum(len(task.documents[split]) for split in SPLITS) == 3


def test_a_given_space_matches_by_id_then_text_and_counts_the_rest(tmp_path, space):
    rows = [{"text": f"t{n}", "labels": ["D1Q1", "Calcium/metabolism", "Liver", "Heart", "Nose"]} for n in range(30)]
    task = records.load(jsonl(tmp_path / "m.jsonl", rows), space=space)
    assert task.space is space
    assert task.documents["train"][0]["labels"] == [1, 3]  # "Heart" is an inner node, not to be chosen
    assert task.card.dropped == {"label occurrences outside 'tiny'": 60}


def test_an_id_wins_over_a_text_and_of_equal_texts_the_first(tmp_path):
    space = LabelSpace("twins", ["a", "b", "c", "d"], ["c", "same", "x", "same"], 4)
    rows = [{"text": f"t{n}", "labels": ["c"] if n % 2 else ["same"]} for n in range(10)]
    task = records.load(jsonl(tmp_path / "m.jsonl", rows), space=space)
    assert {label for labels in task.documents["train"]["labels"] for label in labels} == {1, 2}


def test_a_document_whose_labels_are_all_unknown_counts_as_without_labels(tmp_path, space):
    rows = [{"text": f"t{n}", "labels": ["Liver"]} for n in range(9)] + [{"text": "odd", "labels": ["Nose"]}]
    file = jsonl(tmp_path / "m.jsonl", rows)
    with pytest.raises(ValueError, match=r"line 10 \(none of its labels is in 'tiny'\): document 'train-9' has no"):
        records.load(file, space=space)
    dropped = records.load(file, space=space, on_empty="drop").card.dropped
    assert dropped == {"label occurrences outside 'tiny'": 1, "documents without labels": 1}


def test_documents_without_text_or_labels(tmp_path):
    rows = [*ROWS, {"text": "", "labels": ["x"]}, {"text": "x", "labels": []}, {"text": None, "labels": None}]
    file = jsonl(tmp_path / "m.jsonl", rows)
    with pytest.raises(ValueError, match=r"m\.jsonl, line 61: document 'train-60' has no text; pass on_empty='drop'"):
        records.load(file)
    dropped = records.load(file, on_empty="drop")
    assert sum(len(dropped.documents[split]) for split in SPLITS) == 60
    assert dropped.card.dropped == {"documents without text": 2, "documents without labels": 1}
    task = records.load(file, on_empty="keep")
    assert sum(len(task.documents[split]) for split in SPLITS) == 63


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ('{"text": "x", "labels": ["a"]', r"m\.jsonl, line 2: not valid JSON"),
        ('"text"', r"m\.jsonl, line 2: expected one JSON object a line"),
        ('{"body": "x", "labels": ["a"]}', "line 2: no field 'text'; it has 'body', 'labels'"),
        ('{"text": "x", "tags": ["a"]}', "line 2: no field 'labels'; it has 'text', 'tags'"),
        ('{"text": 4, "labels": ["a"]}', "line 2: 'text' must be a string, got 4"),
        ('{"text": "x", "labels": [["a"]]}', "line 2: 'labels' must be a string, .* got one with a list"),
        ('{"text": "x", "labels": {"a": 1}}', "line 2: 'labels' must be .* got one with a dict"),
        ('{"text": "x", "labels": [1.5]}', "line 2: 'labels' must be .* got one with a float"),
        ('{"text": "x", "labels": true}', "line 2: 'labels' must be .* got one with a bool"),
    ],
)
def test_a_bad_line_is_named(tmp_path, row, complaint):
    (tmp_path / "m.jsonl").write_text(json.dumps(ROWS[0]) + "\n" + row + "\n")
    with pytest.raises(ValueError, match=complaint) as caught:
        records.load(str(tmp_path / "m.jsonl"))
    assert "\n" not in str(caught.value)


def test_a_truncated_gzip_file_is_named(tmp_path):
    jsonl(tmp_path / "m.jsonl.gz")
    (tmp_path / "m.jsonl.gz").write_bytes((tmp_path / "m.jsonl.gz").read_bytes()[:-12])
    with pytest.raises(ValueError, match=r"m\.jsonl\.gz is a truncated or damaged gzip file"):
        records.load(str(tmp_path / "m.jsonl.gz"))


def test_a_repeated_uid_is_named(tmp_path):
    rows = [{"id": uid, "text": "x", "labels": "a"} for uid in ("p", "q", "p")]
    with pytest.raises(ValueError, match=r"m\.jsonl, line 3: uid 'p' stands more than once"):
        records.load(jsonl(tmp_path / "m.jsonl", rows), uid="id")


def test_sources_without_labels_or_documents_are_refused(tmp_path):
    file = jsonl(tmp_path / "m.jsonl", [{"text": "x", "labels": []}] * 3)
    with pytest.raises(ValueError, match=r"m\.jsonl: no document has a label in 'labels'"):
        records.load(file, on_empty="keep")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(ValueError, match=r"empty\.jsonl: no document has a label"):
        records.load(str(tmp_path / "empty.jsonl"))


def test_unreadable_sources_get_one_clear_line(tmp_path):
    (tmp_path / "a.xlsx").write_text("text,labels\n")
    with pytest.raises(ValueError, match=r"a\.xlsx: a file must end in one of \.jsonl, "):
        records.load(str(tmp_path / "a.xlsx"))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jsonl is neither a file nor a folder; check the path"):
        records.load(str(tmp_path / "nowhere.jsonl"))
    with pytest.raises(ValueError, match="on_empty must be one of error, drop, keep, got 'skip'"):
        records.load("owner/name", on_empty="skip")
    (tmp_path / "bare").mkdir()
    with pytest.raises(ValueError, match="bare cannot be read as a dataset"):
        records.load(str(tmp_path / "bare"))


def test_a_hub_id_that_cannot_be_reached_gets_one_clear_line():
    with pytest.raises(FileNotFoundError, match="nobody/nothing is neither a file nor a folder here") as caught:
        records.load("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_a_hub_id_may_name_a_configuration(monkeypatch):
    calls = []

    def hub(name, config, cache_dir):
        calls.append((name, config))
        return DatasetDict({"train": Dataset.from_list(ROWS)})

    monkeypatch.setattr(datasets, "load_dataset", hub)
    assert records.load("owner/name:english").space.name == "owner/name:english"
    records.load("owner/name")
    assert calls == [("owner/name", "english"), ("owner/name", None)]


def saved(folder, dataset):
    dataset.save_to_disk(folder)
    return str(folder)


def test_the_splits_of_a_saved_dataset_are_kept_and_named_our_way(tmp_path):
    parts = {name: Dataset.from_list([{"text": f"{name} {n}", "labels": [f"{name}"]} for n in range(4)])
             for name in ("test", "dev", "train")}  # fmt: skip
    task = records.load(saved(tmp_path / "d", DatasetDict(parts)))
    assert task.space.texts == ["train", "dev", "test"]  # train first, whatever the order of the splits
    assert task.documents["validation"]["uid"][:] == [f"validation-{n}" for n in range(4)]
    assert task.documents["train"]["text"][:] == [f"train {n}" for n in range(4)]
    assert [len(task.documents[split]) for split in SPLITS] == [4, 4, 4]


@pytest.mark.parametrize("present", ["test", "validation"])
def test_a_missing_split_is_taken_from_train_and_the_other_kept(tmp_path, present):
    parts = DatasetDict({"train": Dataset.from_list(ROWS), present: Dataset.from_list(ROWS[:2])})
    task = records.load(saved(tmp_path / "d", parts))
    missing = "validation" if present == "test" else "test"
    assert len(task.documents[present]) == 2
    shares = {"validation": 0.08, "test": 0.12, present: 0.0}
    expected = [f"train-{n}" for n in range(60) if split_by_hash(f"train-{n}", **shares) == missing]
    assert expected
    assert task.documents[missing]["uid"][:] == expected


def test_class_labels_go_by_their_names_and_minus_one_is_none(tmp_path):
    names = ClassLabel(names=["cat", "dog", "cow"])
    several = Features({"text": Value("string"), "labels": List(names), "other": Value("int64")})
    rows = {"text": ["a", "b", "c"], "labels": [[2, 0], [1], [2]], "other": [1, 2, 3]}
    task = records.load(saved(tmp_path / "many", Dataset.from_dict(rows, features=several)))
    assert task.space.texts == ["cow", "cat", "dog"]
    single = Features({"text": Value("string"), "labels": names})
    rows = {"text": ["a", "b", "c"], "labels": [1, -1, None]}
    task = records.load(saved(tmp_path / "one", Dataset.from_dict(rows, features=single)), on_empty="drop")
    assert task.space.texts == ["dog"]
    assert task.card.dropped == {"documents without labels": 2}


def test_whole_numbers_of_a_dataset_go_by_their_digits(tmp_path):
    task = records.load(saved(tmp_path / "d", Dataset.from_list([{"text": f"t{n}", "labels": n} for n in range(9)])))
    assert task.space.texts == [str(n) for n in range(9)]


def test_a_folder_of_files_is_read_by_its_splits(tmp_path):
    (tmp_path / "d").mkdir()
    jsonl(tmp_path / "d" / "train.jsonl")
    jsonl(tmp_path / "d" / "test.jsonl", ROWS[:3])
    task = records.load(str(tmp_path / "d"))
    assert [row["uid"] for row in task.documents["test"]] == ["test-0", "test-1", "test-2"]
    assert task.space.name == "d"
    (tmp_path / "d" / "train.jsonl").write_text(json.dumps(ROWS[0]) + '\n{"text": \n')
    with pytest.raises(ValueError, match=r"train\.jsonl, line 2: not valid JSON"):
        records.load(str(tmp_path / "d"))


def test_bad_datasets_are_refused_with_what_they_have(tmp_path):
    some = Dataset.from_list(ROWS[:4])
    for name, parts, complaint in (
        ("column", {"train": some}, r"split 'train': no field 'body'; it has 'text', 'labels'"),
        ("odd", {"train": some, "extra": some}, "unknown split 'extra'; splits must be among train, validation, test"),
        (
            "twice",
            {"train": some, "dev": some, "val": some},
            r"more than one split is 'validation' \(train, dev, val\)",
        ),
        ("headless", {"test": some}, r"no split 'train' \(found test\)"),
    ):
        with pytest.raises(ValueError, match=complaint):
            records.load(saved(tmp_path / name, DatasetDict(parts)), text="body" if name == "column" else "text")


def test_a_bad_row_of_a_dataset_is_named_and_no_uid_is_in_two_splits(tmp_path):
    rows = Dataset.from_list([{"id": f"u{n}", "text": "x" if n < 3 else "", "labels": "a"} for n in range(4)])
    folder = saved(tmp_path / "d", DatasetDict({"train": rows}))
    with pytest.raises(ValueError, match="split 'train', row 3: document 'u3' has no text"):
        records.load(folder, uid="id")
    folder = saved(tmp_path / "e", DatasetDict({"train": rows.select([0, 1]), "test": rows.select([1])}))
    with pytest.raises(ValueError, match="split 'test', row 0: uid 'u1' stands more than once"):
        records.load(folder, uid="id")


def test_a_task_made_in_memory_can_be_saved_and_loaded(tmp_path):
    task = records.load(jsonl(tmp_path / "m.jsonl"))
    task.save(tmp_path / "saved")
    again = Task.load(tmp_path / "saved")
    assert {split: list(again.documents[split]) for split in SPLITS} == {
        split: list(task.documents[split]) for split in SPLITS
    }


def test_a_list_saved_as_text_is_a_list(tmp_path):
    spelt = ["['a', 'b']", '["a", null]', "[1, 2]", "[]", "[x] y", "[not, quoted]"]
    rows = [{"text": f"t{n}", "labels": text} for n, text in enumerate(spelt)]
    task = records.load(jsonl(tmp_path / "m.jsonl", rows), on_empty="drop")
    assert sorted(task.space.texts) == ["1", "2", "[not, quoted]", "[x] y", "a", "b"]
    assert task.card.dropped == {"documents without labels": 1}
    file = jsonl(tmp_path / "n.jsonl", [{"text": "t", "labels": "['a' 'b']"}])
    with pytest.raises(ValueError, match=r"n\.jsonl, line 1: 'labels' is a list without commas, \"\['a' 'b'\]\"; save"):
        records.load(file)


def test_ids_that_differ_in_dots_and_case_are_known_where_only_one_is_meant(tmp_path):
    space = LabelSpace("codes", ["I50.21", "E11.9", "a.b", "AB"], ["acute", "diabetes", "x", "y"], 4)
    rows = [{"text": f"t{n}", "labels": ["i5021", "e11.9", "ab", "acute"]} for n in range(9)]
    task = records.load(jsonl(tmp_path / "m.jsonl", rows), space=space)
    assert {tuple(labels) for labels in task.documents["train"]["labels"]} == {(0, 1)}
    assert task.card.dropped == {"label occurrences outside 'codes'": 9}  # "ab" may be either


def test_an_empty_split_of_a_saved_dataset_is_read(tmp_path):
    some = Dataset.from_list(ROWS[:4])
    task = records.load(saved(tmp_path / "d", DatasetDict({"train": some, "test": some.select([])})))
    assert len(task.documents["test"]) == 0
    assert sum(len(task.documents[split]) for split in SPLITS) == 4
