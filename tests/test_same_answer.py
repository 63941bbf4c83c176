"""The same inputs give the same bytes: whatever the seed of hashes, locale, time zone, folder and number of workers."""

import hashlib
import os
import subprocess
import sys

import pytest

from ctd import hardware
from ctd.book import notebook_files, runs
from ctd.book.validate import GOLDEN, golden_problems
from ctd.cache import ROOT
from tests.children import Child
from tests.makers import MAKERS

SCRIPT = """
import hashlib, sys
from pathlib import Path
from tests.makers import MAKERS, make_small, prepare

make_small()
prepare(Path.cwd() / "work")
for name in sys.argv[1:]:
    print("digest", name, hashlib.sha256(MAKERS[name](Path.cwd() / "work")).hexdigest())
"""
CHEAP = ["vectors", "index", "grammar", "task"]
OTHER = {
    "hashes": {"PYTHONHASHSEED": "77"},
    "locale": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},  # no UTF-8 unless it is asked for
    "time zone": {"TZ": "Pacific/Chatham"},
    "workers": {"CTD_WORKERS": "3"},
}


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    digests_ = {}

    def want(name):
        if name not in digests_:
            digests_[name] = hashlib.sha256(Child(MAKERS[name], folder / name).result()).hexdigest()
        return digests_[name]

    return want


def digests(names, folder, changes):
    folder.mkdir(parents=True)
    defaults = {
        "CTD_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(ROOT),
        "TQDM_DISABLE": "1",
        "OMP_NUM_THREADS": "1",
    }
    output = subprocess.run(
        [sys.executable, "-c", SCRIPT, *names], cwd=folder, env={**os.environ, **defaults, **changes}, check=True,
        stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip
    return {line.split()[1]: line.split()[2] for line in output.splitlines() if line.startswith("digest ")}


def test_all_of_it_changed_at_once_changes_nothing(wanted, tmp_path):
    # But for the locale: without UTF-8 in it faiss opens no file in such a folder.
    everything = {name: value for what, changes in OTHER.items() if what != "locale" for name, value in changes.items()}
    got = digests(CHEAP, tmp_path / "a folder of Žofie's, 心不全", everything)
    assert got == {name: wanted(name) for name in CHEAP}


@pytest.mark.slow
@pytest.mark.parametrize("what", [*OTHER, "folder"])
def test_each_change_changes_nothing(what, wanted, tmp_path):
    folder = tmp_path / ("with spaces and ünïcode" if what == "folder" else "plain")
    assert digests(MAKERS, folder, OTHER.get(what, {})) == {name: wanted(name) for name in MAKERS}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", hardware.DTYPES)
def test_a_run_in_either_dtype_is_within_the_tolerances_of_the_golden_results(dtype, tmp_path, monkeypatch):
    monkeypatch.setenv("CTD_DTYPE", dtype)
    run = runs.run(notebook_files.find_notebook("01"), "smoke", out=tmp_path / dtype)
    assert golden_problems(run, GOLDEN) == []
