"""Files that we write and read back, cut short or swapped for something else: one line that names the file."""

import pytest

from ctd.data.label_space import LabelSpace
from ctd.data.task import Task
from ctd.retrieval.index import LabelIndex


def cut(file):
    file.write_bytes(file.read_bytes()[:-7])


def emptied(file):
    file.write_bytes(b"")


def swapped(file):
    file.write_bytes(b"\xff\x00 something else")


SPOILT = [cut, emptied, swapped]


@pytest.fixture
def written(tmp_path, task, space, encoder, own_cache):
    """What is written, by kind: the file to spoil, and how to read it back."""
    space.save(tmp_path / "labels.parquet")
    task.save(tmp_path / "task")
    index = LabelIndex.build(space, encoder)
    index.save(tmp_path / "index")
    return {
        "label space": (tmp_path / "labels.parquet", LabelSpace.load),
        "task: a split": (tmp_path / "task" / "test.arrow", lambda file: Task.load(file.parent)),
        "task: labels": (tmp_path / "task" / "labels.parquet", lambda file: Task.load(file.parent)),
        "task: card": (tmp_path / "task" / "card.json", lambda file: Task.load(file.parent)),
        "task: unscored": (tmp_path / "task" / "unscored.npy", lambda file: Task.load(file.parent)),
        "index: identity": (tmp_path / "index" / "index.json", lambda file: LabelIndex.load(file.parent, encoder)),
        "index: labels": (tmp_path / "index" / "labels.parquet", lambda file: LabelIndex.load(file.parent, encoder)),
        "index: vectors": (tmp_path / "index" / "index.faiss", lambda file: LabelIndex.load(file.parent, encoder)),
    }


KINDS = ["label space", "task: a split", "task: labels", "task: card", "task: unscored",
         "index: identity", "index: labels", "index: vectors"]  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILT)
@pytest.mark.parametrize("kind", KINDS)
def test_a_spoilt_file_is_named_in_one_line(written, kind, spoil):
    file, read = written[kind]
    read(file)
    spoil(file)
    with pytest.raises((ValueError, OSError)) as caught:
        read(file)
    message = str(caught.value)
    assert file.name in message
    assert "\n" not in message


@pytest.mark.parametrize("kind", ["task: a split", "task: card", "index: identity", "index: vectors"])
def test_a_missing_file_is_named_in_one_line(written, kind):
    file, read = written[kind]
    file.unlink()
    with pytest.raises((ValueError, OSError), match=r"^[^\n]*$") as caught:
        read(file)
    assert file.parent.name in str(caught.value)
