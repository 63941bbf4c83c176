"""Keys of cached things: they see every input and every line of code that can change a result, and nothing else."""

import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from datasets import Dataset
from scipy.sparse import csr_matrix

from ctd import keys
from ctd.keys import Maker, fingerprint, reached, source_digest


@dataclass(frozen=True, eq=False)
class Space:
    texts: list
    parents: object = None


@dataclass(frozen=True)
class Settings:
    steps: int = 3
    name: str = "a"


VALUES = [
    None, True, 1, 1.0, "1", b"1", "", (), [1], [1, 2], [2, 1], ["12"], ["1", "2"], [[1], [2]], [[1, 2]],
    [[1, "2"]], [[1], []], [[1], None], {"a": 1},
    {"a": 2}, {"b": 1}, {1, 2}, np.array([1, 2]), np.array([1.0, 2.0]), np.array([[1, 2]]), csr_matrix([[0, 1]]),
    csr_matrix([[1, 0]]), csr_matrix([[0, 2]]), Settings(), Settings(4), Settings(name="b"), Space(["a", "b"]),
    Space(["a", "c"]), Space(["a", "b"], np.array([-1, 0])), Dataset.from_dict({"text": ["a"]}),
    Dataset.from_dict({"text": ["b"]}), Dataset.from_dict({"title": ["a"]}),
]  # fmt: skip


def test_different_values_have_different_fingerprints_and_equal_ones_the_same():
    digests = [fingerprint(value) for value in VALUES]
    assert len(set(digests)) == len(VALUES)
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint(np.arange(6).reshape(2, 3).T) == fingerprint(np.ascontiguousarray(np.arange(6).reshape(2, 3).T))
    assert fingerprint(Space(["a", "b"])) == fingerprint(Space(["a", "b"]))
    assert fingerprint(np.int64(3)) == fingerprint(3)


def test_a_file_counts_by_its_content_and_a_folder_by_its_files(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_text("1")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")
    (tmp_path / "b" / "one").write_text("2")
    assert fingerprint(tmp_path / "a") != fingerprint(tmp_path / "b")
    (tmp_path / "a" / "one").rename(tmp_path / "a" / "two")
    assert fingerprint(tmp_path / "a") != fingerprint(tmp_path / "b")


def test_a_thing_with_a_key_counts_by_it_and_one_without_is_refused():
    class Model:
        def __init__(self, key):
            self.key = key

    assert fingerprint(Model("a")) == fingerprint(Model("a")) != fingerprint(Model("b"))
    for value in (Model(""), object(), lambda: None):
        with pytest.raises(TypeError, match="cannot be part of a key"):
            fingerprint(value)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the test's own in the place of ctd: `ctd.b` imports `ctd.a` within a function."""
    (tmp_path / "ctd" / "room").mkdir(parents=True)
    for name, text in {
        "a": '"""Doc."""\n\n\ndef f(x):\n    """Doc."""\n    return x + 1\n',
        "b": "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from ctd import c\n\n\n"
        "def g():\n    from ctd.a import f\n\n    return f(1)\n",
        "c": "X = 1\n",
        "room/__init__": "",
        "room/d": "from ctd import b\n",
    }.items():
        (tmp_path / "ctd" / f"{name}.py").write_text(text)
    monkeypatch.setattr(keys, "ROOT", tmp_path)
    monkeypatch.setattr(Maker, "ALL", {})

    def clear():
        for cached in (source_digest, keys._imports, keys._code):
            cached.cache_clear()

    clear()
    yield tmp_path / "ctd", clear
    monkeypatch.undo()
    clear()


def test_a_module_reaches_what_its_imports_lead_to(package):
    assert reached("ctd.room.d") == {"ctd.room.d", "ctd.b", "ctd.a"}
    with pytest.raises(ModuleNotFoundError, match=r"no module ctd\.nothing"):
        reached("ctd.nothing")


def test_a_key_changes_with_code_that_it_reaches_and_not_with_comments_or_other_code(package):
    folder, clear = package
    maker = Maker("things", "ctd.room.d", ("x",))
    before = maker.key(x=1)
    path = folder / "a.py"
    for text, same in (
        ('"""Another."""\n\n\ndef f(x):  # a comment\n    """Words."""\n    return (x + 1)\n', True),
        ('"""Doc."""\n\n\ndef f(x):\n    """Doc."""\n    return x + 2\n', False),
    ):
        path.write_text(text)
        clear()
        assert (maker.key(x=1) == before) is same
    path.write_text('"""Doc."""\n\n\ndef f(x):\n    """Doc."""\n    return x + 1\n')
    (folder / "c.py").write_text("X = 2\n")
    clear()
    assert maker.key(x=1) == before


def test_a_key_needs_every_input_and_sees_each(package):
    maker = Maker("things", "ctd.a", ("x", "y"))
    assert len({maker.key(x=1, y=2), maker.key(x=2, y=2), maker.key(x=1, y=1), maker.key(x=2, y=1)}) == 4
    for inputs in ({"x": 1}, {"x": 1, "y": 2, "z": 3}, {}):
        with pytest.raises(TypeError, match="a key of things needs x, y"):
            maker.key(**inputs)
    with pytest.raises(ValueError, match="another maker of things"):
        Maker("things", "ctd.a", ("x",))


def test_how_fast_a_thing_is_made_does_not_count():
    reached = keys.reached("ctd.retrieval.encoders")
    assert "ctd.data.label_space" in reached
    assert not reached & keys.NOT_COUNTED
    assert "ctd.hardware" in keys._imports("ctd.retrieval.encoders"), "it is imported, and left out"
