"""Whatever is killed in its midst, the next run ends as an unbroken one.

python -m tests.test_kills 100    # so many kills, over all makers and a notebook's run
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pytest

from ctd.book.notebook_files import read_notebook
from ctd.book.run_folder import RunFolder
from ctd.cache import ROOT
from tests.book.test_runs import BODY, write_notebook
from tests.children import PATIENCE, Child
from tests.makers import MAKERS

IN_A_ROW = 3  # kills of one piece of work before it may end


def kill_often(maker, folder, kills, seed=0):
    """Kill a maker at random moments, and compare what it makes in the end. Returns how many kills met it at work."""
    chance = random.Random(seed)
    whole = Child(maker, folder / "whole")
    wanted = whole.result()
    landed = tries = 0
    while landed < kills:
        tries += 1
        cache = folder / f"killed{tries}"
        for _ in range(min(IN_A_ROW, kills - landed)):
            child = Child(maker, cache)
            time.sleep(chance.uniform(0, whole.seconds))
            landed += child.kill()
        assert Child(maker, cache).result() == wanted, f"after kill {landed} (seed {seed})"
        shutil.rmtree(cache, ignore_errors=True)
        shutil.rmtree(f"{cache}-work", ignore_errors=True)
        assert tries < 5 * kills + 10, "the work is too short to be killed"
    return landed


@pytest.mark.parametrize("name", ["vectors", "grammar"])
def test_what_was_killed_ends_as_what_was_not(name, tmp_path):
    assert kill_often(MAKERS[name], tmp_path, 2) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_what_was_killed_often_ends_as_what_was_not(name, tmp_path):
    assert kill_often(MAKERS[name], tmp_path, 12) == 12


@pytest.mark.slow
def test_a_notebooks_run_that_was_killed_ends_as_one_that_was_not(tmp_path):
    write_notebook(tmp_path / "notebooks" / "01_first.ipynb", *BODY)
    (tmp_path / "notebooks" / "profiles.yml").write_text("default:\n")
    command = [sys.executable, "-m", "ctd.cli", "run", "01", "--force"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CTD_CACHE": str(tmp_path / "cache")}
    run = partial(subprocess.Popen, command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    folder, chance = tmp_path / "runs" / "01_first" / "default", random.Random(0)
    began = time.monotonic()
    assert run().wait(PATIENCE) == 0
    seconds, whole = time.monotonic() - began, found(folder)
    for _ in range(3):
        process = run()
        time.sleep(chance.uniform(0.3, 1) * seconds)
        process.kill()
        process.communicate()
        assert found(folder) == whole, "the run that was there is as it was"
    shutil.rmtree(folder)
    assert run().wait(PATIENCE) == 0
    assert found(folder) == whole
    assert not [path for path in folder.parent.iterdir() if path != folder], "nothing half-made is left"


def found(folder):
    """What a run found and printed."""
    run = RunFolder(folder)
    return [row.plain() for row in run.rows], [cell.get("outputs") for cell in read_notebook(run.notebook).cells]


if __name__ == "__main__":
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    for place, (name, maker) in enumerate(MAKERS.items()):
        share = many // len(MAKERS) + (place < many % len(MAKERS))
        with tempfile.TemporaryDirectory() as scratch:
            began = time.monotonic()
            landed = kill_often(maker, Path(scratch), share, seed=place)
        print(f"{name}: {landed} kills, each time the same in the end ({time.monotonic() - began:.0f} s)", flush=True)
