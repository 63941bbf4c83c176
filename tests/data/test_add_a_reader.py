"""A new dataset is one module with a `load` and one line in the registry: it is prepared and kept as any other."""

import importlib
import sys

import pytest

from ctd import keys
from ctd.data import readers
from ctd.data.label_space import LabelSpace
from ctd.data.readers import Reader, Source

MODULE = '''
"""Dishes to what is in them."""

from pathlib import Path

from ctd.data.label_space import LabelSpace
from ctd.data.task import SPLITS, Card, Task, split_by_hash, splits_of

FOODS = ["Bean", "Corn", "Leek", "Rice"]


def load(n_dishes: int = 60, folder: Path | None = None) -> Task:
    what = (folder / "name.txt").read_text() if folder else "A dish of"
    parts = {split: [] for split in SPLITS}
    for n in range(n_dishes):
        labels = sorted({n % 4, n // 4 % 4})
        text = f"{what} " + " and ".join(FOODS[label].lower() for label in labels)
        parts[split_by_hash(f"dish {n}")].append({"uid": f"dish {n}", "text": text, "labels": labels})
    space = LabelSpace("foods", [food.lower() for food in FOODS], FOODS, len(FOODS))
    return Task(splits_of(parts), space, Card("Dishes", "CC0", "this test", "Generated.", generated=True))
'''


@pytest.fixture
def module(own_cache, tmp_path, monkeypatch):
    """The stranger's module, as if its file lay beside the book's readers, and its line in the registry."""
    folder, of_the_book = tmp_path / "readers", keys._path
    file = folder / "dishes.py"
    folder.mkdir()
    file.write_text(MODULE)
    monkeypatch.setattr(readers, "__path__", [*readers.__path__, str(folder)])
    monkeypatch.setattr(keys, "_path", lambda name: file if name == "ctd.data.readers.dishes" else of_the_book(name))
    monkeypatch.setattr(keys.Maker, "ALL", dict(keys.Maker.ALL))
    monkeypatch.setitem(readers.READERS, "dishes", Reader("made-up dishes, 4 labels", "dishes"))
    monkeypatch.setitem(readers.READERS, "my-dishes", Reader("your own", "dishes", source=Source("folder")))
    monkeypatch.setitem(readers.READERS, "few-dishes", Reader("ten of them", "dishes", {"n_dishes": 10}))
    yield file
    del sys.modules["ctd.data.readers.dishes"]
    forget_code()


def forget_code():
    for cached in (keys._code, keys._imports, keys.source_digest):
        cached.cache_clear()


@pytest.mark.usefixtures("module")
def test_a_strangers_dataset_loads_by_its_name():
    task = readers.load_as_asked("dishes")
    assert task.space.texts == LabelSpace("foods", list("abcd"), ["Bean", "Corn", "Leek", "Rice"], 4).texts
    assert sum(map(len, task.documents.values())) == 60
    assert task.gold("train").sum() > 0
    assert task.card.generated
    assert sum(map(len, readers.load("few-dishes").documents.values())) == 10
    with pytest.raises(ValueError, match="dataset must be one of .*, dishes, my-dishes, few-dishes, got 'cakes'"):
        readers.load_as_asked("cakes")


@pytest.mark.usefixtures("module")
def test_a_strangers_dataset_may_take_a_source(tmp_path):
    (tmp_path / "name.txt").write_text("My bowl of")
    assert readers.load_as_asked("my-dishes", str(tmp_path)).documents["train"]["text"][0].startswith("My bowl of")
    with pytest.raises(ValueError, match="dataset 'my-dishes' needs a source .source=PATH.: your own"):
        readers.load_as_asked("my-dishes")
    with pytest.raises(ValueError, match="dataset 'dishes' takes no source, got 'x'"):
        readers.load_as_asked("dishes", "x")


@pytest.mark.usefixtures("module")
def test_a_strangers_dataset_is_prepared_once_an_option(own_cache, monkeypatch):
    first = readers.load("dishes")
    [prepared] = [folder for folder in (own_cache / "tasks").iterdir() if folder.is_dir()]
    assert prepared.name.startswith("dishes-")
    with monkeypatch.context() as patch:
        patch.setattr(readers.Task, "save", lambda *_: pytest.fail("read again"))
        assert list(readers.load("dishes").documents["train"]) == list(first.documents["train"])
    assert len(readers.load("dishes", n_dishes=20).documents["train"]) < len(first.documents["train"])


def test_a_change_in_a_strangers_module_prepares_the_dataset_anew(module, own_cache):
    readers.load("dishes")
    module.write_text(MODULE.replace("A dish of", "A rather large plate of"))
    forget_code()
    importlib.reload(sys.modules["ctd.data.readers.dishes"])
    assert readers.load("dishes").documents["train"]["text"][0].startswith("A rather large plate of")
