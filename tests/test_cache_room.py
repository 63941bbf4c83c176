"""The cache says what it holds, and gives up only what is ctd's own and not in use, the longest unused first."""

import errno
import fcntl
import os
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from ctd import cache, cache_room
from ctd.cli import app

KEYS = [f"{number:032x}" for number in range(10)]


def put(own_cache, kind, name, days=0.0, kib=8):
    """A thing in the cache that was used so many days ago."""
    path = own_cache / kind / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(kib * 1024))
    used = time.time() - days * 86_400
    os.utime(path, (used, used))
    return path


def left(own_cache):
    return sorted(
        str(path.relative_to(own_cache)) for kind in ("vectors", "tasks") for path in own_cache.glob(f"{kind}/*")
    )


def test_the_longest_unused_goes_first_and_no_more_than_needed(own_cache):
    for number, days in enumerate((1, 9, 5, 3)):
        put(own_cache, "vectors", f"{KEYS[number]}.npy", days)
    done = cache_room.shrink(2 * 8 * 1024)
    assert [entry.path.stem for entry in done.removed] == [KEYS[1], KEYS[2]]
    assert left(own_cache) == [f"vectors/{KEYS[0]}.npy", f"vectors/{KEYS[3]}.npy"]
    assert not (own_cache / "removed").exists()


USER = """
import sys
from pathlib import Path
from ctd import cache

with cache.once(Path(sys.argv[1])) as missing:
    print(missing, flush=True)
    if missing:
        sys.stdin.readline()
sys.stdin.readline()
"""


@pytest.fixture
def user(own_cache):
    """Begins a process that uses a thing of the cache, or makes it where it is missing."""
    begun = []

    def begin(path):
        process = subprocess.Popen([sys.executable, "-c", USER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        begun.append(process)
        return process, process.stdout.readline().decode().strip()

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def test_what_another_process_uses_or_makes_stays_until_it_ends(user, own_cache):
    used, unused = put(own_cache, "vectors", f"{KEYS[0]}.npy", 30), put(own_cache, "vectors", f"{KEYS[1]}.npy", 1)
    making = own_cache / "tasks" / f"mesh-{KEYS[2]}"
    reader, missing = user(used)
    maker, missing_too = user(making)
    assert (missing, missing_too) == ("False", "True")
    half = put(own_cache, "tasks", f"mesh-{KEYS[2]}")
    done = cache_room.shrink(0)
    assert [entry.path for entry in done.removed] == [unused]
    assert {entry.path for entry in done.in_use} == {used, half}
    for process in (reader, maker):
        process.kill()
        process.wait()
    assert {entry.path for entry in cache_room.shrink(0).removed} == {used, half}
    assert len(os.listdir(own_cache / "in-use")) <= 2, "the notes of ended processes are gone"


def test_a_thing_that_is_used_counts_as_new(user, own_cache):
    old, newer = put(own_cache, "vectors", f"{KEYS[0]}.npy", 30), put(own_cache, "vectors", f"{KEYS[1]}.npy", 1)
    before = old.stat().st_mtime_ns
    process, _ = user(old)
    process.kill()
    process.wait()
    assert [entry.path for entry in cache_room.entries()] == [newer, old]
    assert old.stat().st_mtime_ns == before


def test_what_ctd_did_not_make_stays(own_cache, tmp_path):
    (tmp_path / "elsewhere").write_text("mine")
    foreign = [
        put(own_cache, "vectors", "notes.txt", 99), put(own_cache, "tasks", "my-folder", 99),
        put(own_cache, "another", KEYS[0], 99), put(own_cache, "hub", KEYS[0], 99),
    ]  # fmt: skip
    link = own_cache / "vectors" / f"{KEYS[3]}.npy"
    link.symlink_to(tmp_path / "elsewhere")
    living, dead = (put(own_cache, "vectors", f".{KEYS[4]}.npy.{pid}.partial") for pid in (os.getppid(), 2**22 + 1))
    ours = put(own_cache, "students", KEYS[5] + "/outcome.json").parent
    assert {entry.path for entry in cache_room.shrink(0).removed} == {ours, dead}
    for path in (*foreign, link, living, tmp_path / "elsewhere"):
        assert path.exists()
    assert next(row.entries for row in cache_room.table() if row.kind == "other") == 5


def test_the_bound_is_kept_after_a_run(own_cache, monkeypatch, capsys):
    put(own_cache, "vectors", f"{KEYS[0]}.npy", 2, 1024)
    put(own_cache, "vectors", f"{KEYS[1]}.npy", 1, 1024)
    assert cache_room.keep_to_limit() is None
    monkeypatch.setenv("CTD_CACHE_GB", "0.0015")
    assert [entry.path.stem for entry in cache_room.keep_to_limit().removed] == [KEYS[0]]
    assert "removed 1 things (0.00 GiB) from the cache, the longest unused" in capsys.readouterr().err
    assert cache_room.keep_to_limit() is None
    for wrong in ("much", "-1", "nan", "inf"):
        monkeypatch.setenv("CTD_CACHE_GB", wrong)
        with pytest.raises(ValueError, match=f"CTD_CACHE_GB must be a number from 0 on, got '{wrong}'"):
            cache_room.limit()


def test_without_locks_nothing_is_removed(own_cache, monkeypatch):
    entry = put(own_cache, "vectors", f"{KEYS[0]}.npy", 2)

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="without locks: nothing is removed"):
        cache_room.shrink(0)
    assert entry.exists()


def test_a_clock_that_was_set_back_makes_nothing_older_than_it_is(own_cache, monkeypatch):
    put(own_cache, "vectors", f"{KEYS[0]}.npy", 10)
    future = put(own_cache, "vectors", f"{KEYS[1]}.npy", -400)
    assert [entry.path for entry in cache_room.entries()][-1] == future
    monkeypatch.setattr(time, "time", lambda: 1e9)  # in 2001
    assert {entry.used for entry in cache_room.entries()} == {1e9}
    shown = CliRunner().invoke(app, ["cache"]).stdout
    assert "0.0 days ago" in shown
    with cache.once(own_cache / "tasks" / KEYS[2]) as missing:
        assert missing


def test_the_command_shows_and_clears(own_cache, monkeypatch):
    assert "0.00 GiB (no bound" in CliRunner().invoke(app, ["cache"]).stdout
    assert not own_cache.exists(), "looking makes nothing"
    put(own_cache, "vectors", f"{KEYS[0]}.npy", 3, 2048)
    shown = CliRunner().invoke(app, ["cache"]).stdout.split()
    assert "vectors" in shown
    assert "2.0" in shown
    assert "3.0" in shown
    done = CliRunner().invoke(app, ["cache", "--keep-gb", "0"])
    assert "removed 1 things, 2.0 MiB" in done.stdout
    assert left(own_cache) == []
    monkeypatch.setenv("CTD_CACHE_GB", "a lot")
    refused = CliRunner().invoke(app, ["cache"])
    assert refused.exit_code == 2
    assert refused.stderr == "error: CTD_CACHE_GB must be a number from 0 on, got 'a lot': change it, or unset it\n"
