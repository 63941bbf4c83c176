"""Whatever is killed in its midst, the next run ends as an unbroken one.

python -m tests.test_kills 100          # so many kills, over all makers and commands
python -m tests.test_kills 30 sweep     # of the kinds that are named
"""

import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.children import PATIENCE, Child
from tests.commands import COMMANDS
from tests.makers import MAKERS

KINDS = {**MAKERS, **COMMANDS}
IN_A_ROW = 3  # kills of one piece of work before it may end


def kill_often(maker, folder, kills, seed=0):
    """Kill a maker at random moments, and compare what it makes in the end. Returns how many kills met it at work."""
    chance = random.Random(seed)
    whole = Child(maker, folder / "whole")
    wanted = whole.result()
    patience = max(PATIENCE, 10 * whole.seconds)
    landed = tries = 0
    while landed < kills:
        tries += 1
        cache = folder / f"killed{tries}"
        for _ in range(min(IN_A_ROW, kills - landed)):
            child = Child(maker, cache)
            time.sleep(chance.uniform(0, whole.seconds))
            landed += child.kill()
        made = Child(maker, cache).result(patience)
        assert made == wanted, f"after kill {landed} (seed {seed})"
        assert not [*folder.glob(f"{cache.name}*/**/*.partial")], "nothing half-made is left"
        shutil.rmtree(cache, ignore_errors=True)
        shutil.rmtree(f"{cache}-work", ignore_errors=True)
        assert tries < 5 * kills + 10, "the work is too short to be killed"
    return landed


@pytest.mark.parametrize("name", ["vectors", "grammar"])
def test_what_was_killed_ends_as_what_was_not(name, tmp_path):
    assert kill_often(MAKERS[name], tmp_path, 2) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_what_was_killed_often_ends_as_what_was_not(name, tmp_path):
    assert kill_often(KINDS[name], tmp_path, 12) == 12


if __name__ == "__main__":
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    names = sys.argv[2:] or list(KINDS)
    for place, name in enumerate(names):
        share = many // len(names) + (place < many % len(names))
        with tempfile.TemporaryDirectory() as scratch:
            began = time.monotonic()
            landed = kill_often(KINDS[name], Path(scratch), share, seed=place)
        print(f"{name}: {landed} kills, each time the same in the end ({time.monotonic() - began:.0f} s)", flush=True)
