"""A prepared task is read from the cache only where its files, options and reader are the same."""

import json
import os

import pytest

from ctd.data import readers
from ctd.data.label_space import LabelSpace
from ctd.keys import reached

pytestmark = pytest.mark.usefixtures("own_cache")


def write(file, label):
    file.write_text("".join(json.dumps({"text": f"text {row}", "labels": [label]}) + "\n" for row in range(40)))
    os.utime(file, (0, 0))
    return file


def labels(task):
    return {task.space.texts[label] for row in task.documents["train"]["labels"] for label in row}


def test_a_file_of_the_same_name_size_and_time_is_read_anew_when_its_content_differs(tmp_path):
    file = write(tmp_path / "set.jsonl", "Liver")
    assert labels(readers.load("records", source=str(file))) == {"Liver"}
    assert labels(readers.load("records", source=str(write(file, "Heart")))) == {"Heart"}


def test_the_same_file_is_read_once(tmp_path, monkeypatch):
    file = write(tmp_path / "set.jsonl", "Liver")
    first = readers.load("records", source=file)
    monkeypatch.setattr(readers.Task, "save", lambda *_: pytest.fail("read again"))
    os.utime(file, (1, 1))
    assert list(readers.load("records", source=file, text="text").documents["train"]) == list(first.documents["train"])


def test_another_label_space_is_another_task(tmp_path):
    file = write(tmp_path / "set.jsonl", "a")
    for text in ("Liver", "Heart"):
        space = LabelSpace("tiny", ["a", "b"], [text, "other"], 2)
        assert labels(readers.load("records", source=file, space=space)) == {text}


def test_a_set_mm_file_that_is_given_is_not_looked_for_elsewhere(monkeypatch):
    monkeypatch.setattr("ctd.data.readers.setmm.find", lambda: pytest.fail("looked for"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        readers.load("setmm", path="nowhere.mm")


def test_a_missing_file_and_an_unknown_dataset_or_option_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        readers.load("mesh", files=[tmp_path / "nowhere.xml"])
    with pytest.raises(ValueError, match="dataset must be one of mesh, mesh-descriptors, setmm, .*, got 'pubmed'"):
        readers.load("pubmed")
    with pytest.raises(TypeError, match="colour"):
        readers.load("mesh", colour="red")


@pytest.mark.parametrize("name", readers.MAKERS)
def test_the_key_of_a_task_covers_its_reader_and_what_that_is_made_of(name):
    modules = reached(readers.MAKERS[name].module)
    assert {f"ctd.data.readers.{name}", "ctd.data.task", "ctd.data.label_space"} <= modules
    assert ("ctd.data.readers.wording" in modules) is (name in ("vignettes", "organism", "organism_hard"))


def test_a_few_documents_that_leave_a_split_empty_are_read_again_from_the_cache(tmp_path):
    file = tmp_path / "few.jsonl"
    file.write_text("".join(json.dumps({"text": f"text {row}", "labels": ["a"]}) + "\n" for row in range(2)))
    for _ in range(2):
        lengths = {split: len(part) for split, part in readers.load("records", source=file).documents.items()}
        assert lengths == {"train": 2, "validation": 0, "test": 0}


def test_documents_without_labels_are_left_out_and_said_for_the_command_line(tmp_path):
    file = write(tmp_path / "set.jsonl", "Liver")
    assert readers.left_out(readers.load_as_asked("records", str(file))) == ""
    with open(file, "a") as stream:
        stream.write('{"text": "nothing", "labels": []}\n{"text": "", "labels": ["Liver"]}\n')
    task = readers.load_as_asked("records", str(file))
    assert readers.left_out(task) == "Left out of set: 1 documents without labels and 1 documents without text."
    with pytest.raises(ValueError, match="document 'train-40' has no labels; pass on_empty='drop'"):
        readers.load("records", source=str(file))
