"""Fixtures that several test modules share: a tiny label space, and an encoder that needs no weights."""

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from filelock import FileLock
from hypothesis import settings

from ctd.cache import ROOT
from ctd.data.label_space import LabelSpace
from ctd.data.task import Card, Task
from tests import sharing

BIN = Path(sys.executable).parent
SITE = ROOT / "book" / "_build" / "test" / "html"
BESIDE_OTHERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1
if BESIDE_OTHERS:  # each process that tests has its core
    os.environ["CTD_WORKERS"] = "1"
if "CTD_EXAMPLES" in os.environ:  # as many as one likes, others each time
    settings.register_profile("ctd", max_examples=int(os.environ["CTD_EXAMPLES"]), deadline=None, database=None)
else:  # few and always the same
    settings.register_profile("ctd", max_examples=15, deadline=None, database=None, derandomize=True)
settings.load_profile("ctd")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """How `--dist loadgroup` shares tests out."""
    return sharing.Groups(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_collection_modifyitems(items):
    """The book's tests come last, in an order that keeps all processes at work."""
    items.sort(key=lambda item: sharing.turn(item) if item.get_closest_marker("book") else 0)


class HashEncoder:
    """Words to fixed random directions, summed: texts that share words are near. Needs no weights."""

    def __init__(self, dim: int = 32, at_once: int = 512) -> None:
        self.name, self.dim, self.at_once, self.workers, self.calls = "hash", dim, at_once, 0, 0
        self.key = self.book_key = f"hash-{dim}"

    def rough(self):
        return self

    def vectors(self, texts):
        self.calls += 1
        out = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().replace("/", " ").split():
                seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
                out[row] += np.random.default_rng(seed).standard_normal(self.dim)
        return out / np.linalg.norm(out, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def same_draws():
    """Every test draws the same random numbers each time, whichever tests ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the generator that libraries share
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture
def encoder():
    return HashEncoder()


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The book of the smoke profile, built once: its html folder. The runs stay in runs/*/smoke.

    Of several processes that test (pytest -n) the first builds it, with all cores; `tests.sharing` has the others at
    work meanwhile.
    """
    if SITE.is_dir() and os.environ.get("CTD_SITE") == "keep":
        return SITE
    session = tmp_path_factory.getbasetemp().parent if BESIDE_OTHERS else tmp_path_factory.mktemp("session")
    built = session / "site-is-built"
    with FileLock(built.with_suffix(".lock")):
        if not built.exists():
            environment = {name: value for name, value in os.environ.items() if name != "CTD_WORKERS"}
            ctd_book = [BIN / "ctd", "book", "--profile", "smoke", "--out", SITE.parent]
            subprocess.run(ctd_book, check=True, env=environment)
            built.touch()
    return SITE


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("CTD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def space():
    """Seven labels: two descriptors with qualifiers, one without, and an inner node above the last two labels."""
    ids = ["D1", "D1Q1", "D1Q2", "D2", "D2Q1", "I1", "I2", "inner"]
    texts = [
        "Calcium", "Calcium/metabolism", "Calcium/blood", "Liver", "Liver/metabolism", "Left heart", "Right heart",
        "Heart",
    ]  # fmt: skip
    return LabelSpace("tiny", ids, texts, 7, np.array([-1, 0, 0, -1, 3, 7, 7, -1], np.int32))


def documents(*labels):
    """A split whose documents have these labels."""
    return Dataset.from_list([
        {"uid": f"d{i}", "text": "calcium in the liver", "labels": list(row)} for i, row in enumerate(labels)
    ])  # fmt: skip


@pytest.fixture
def task(space):
    """Seven documents over `space`, of which the scored task leaves the first label out."""
    return Task(
        documents=DatasetDict(
            train=documents([0, 1], [0, 4], [0]), validation=documents([0]), test=documents([0, 2], [6], [1, 4])
        ),
        space=space,
        card=Card("Tiny", "none", "made up", "by hand"),
        unscored=np.array([0], np.int32),
    )
