"""A disk that is full, cannot be written, has no locks or holds half a file: one line, or the right result."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import time

import pytest

from ctd import keys
from ctd.cache import IN_USE, LOCKS
from tests.children import Child
from tests.commands import COMMANDS
from tests.makers import MAKERS, prepare

CHEAP = ["vectors", "grammar"]
EACH = [pytest.param(name, marks=[] if name in CHEAP else pytest.mark.slow) for name in MAKERS]
IN_CACHE = [case for case in EACH if case.values != ("training",)]  # its checkpoints: tests/fuzz/test_checkpoints.py
KINDS = {**MAKERS, **COMMANDS}
EACH_COMMAND = [*EACH, *(pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS)]


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    """What each maker makes where nothing is wrong, and the cache that it leaves."""
    results = {}

    def want(name):
        if name not in results:
            cache = tmp_path_factory.mktemp(name) / "cache"
            results[name] = Child(KINDS[name], cache).result(), cache
        return results[name]

    return want


def no_room(limit=200):
    """No file grows beyond some bytes: what a full disk looks like to the writer."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def no_locks():
    """A file system without locks, such as some of networks."""
    import fcntl

    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl.flock = refuse


def clock_set_back():
    """Ten years ago, though what lies in the cache was made today."""
    now, now_ns = time.time, time.time_ns
    time.time, time.time_ns = lambda: now() - 3.2e8, lambda: now_ns() - 320_000_000 * 10**9


def another_version():
    """Code of another version, so that what it makes has keys of its own."""
    digest = keys.source_digest
    keys.source_digest = lambda module: f"another version of {digest(module)}"


def files(cache):
    bookkeeping = (LOCKS, IN_USE, "machine")
    return sorted(
        file for file in cache.rglob("*") if file.is_file() and file.relative_to(cache).parts[0] not in bookkeeping
    )


def copy(cache, place):
    """Copy a cache, and the folder for what is trained beside it, as far as they are there."""
    for folder, to in ((cache, place), (f"{cache}-work", f"{place}-work")):
        if os.path.exists(folder):
            shutil.copytree(folder, to)


@pytest.mark.parametrize("name", EACH)
def test_a_full_disk_is_one_line_and_afterwards_all_is_made_as_ever(name, wanted, tmp_path):
    result, _ = wanted(name)
    kind, message = Child(MAKERS[name], tmp_path / "cache", no_room).result()
    assert kind == "NotWritten"
    assert "\n" not in message
    assert "could not write" in message
    assert "MiB free" in message
    assert Child(MAKERS[name], tmp_path / "cache").result() == result


@pytest.mark.parametrize("name", EACH)
def test_a_file_system_without_locks_gives_the_same(name, wanted, tmp_path):
    assert Child(MAKERS[name], tmp_path / "cache", no_locks).result() == wanted(name)[0]


@pytest.mark.parametrize("name", EACH)
def test_a_clock_that_was_set_back_changes_nothing(name, wanted, tmp_path):
    result, cache = wanted(name)
    assert Child(MAKERS[name], tmp_path / "empty", clock_set_back).result() == result
    copy(cache, tmp_path / "cache")
    assert Child(MAKERS[name], tmp_path / "cache", clock_set_back).result() == result


@pytest.mark.parametrize("name", IN_CACHE)
def test_a_cache_half_from_another_version_changes_nothing(name, wanted, tmp_path):
    cache = tmp_path / "cache"
    Child(MAKERS[name], cache, another_version).result()
    for file in files(cache)[::2]:
        file.unlink()
    shutil.rmtree(f"{cache}-work", ignore_errors=True)
    assert Child(MAKERS[name], cache).result() == wanted(name)[0]


@pytest.mark.parametrize("name", EACH_COMMAND)
def test_two_at_once_make_the_same(name, wanted, tmp_path):
    both = [Child(KINDS[name], tmp_path / "cache") for _ in range(1 if name == "training" else 2)]
    assert {child.result() for child in both} == {wanted(name)[0]}


@pytest.mark.parametrize("name", IN_CACHE)
def test_half_a_file_in_the_cache_is_made_anew_or_named_in_one_line(name, wanted, tmp_path):
    result, cache = wanted(name)
    for number, file in enumerate(files(cache)):
        spoilt = tmp_path / f"cache{number}"
        copy(cache, spoilt)
        half = spoilt / file.relative_to(cache)
        half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
        outcome = Child(MAKERS[name], spoilt).result()
        if outcome != result:
            kind, message = outcome
            assert kind in ("ValueError", "FileNotFoundError"), message
            assert "\n" not in message
            assert file.name in message


@pytest.mark.slow
def test_predictions_on_a_full_disk_are_kept_as_far_as_they_came_and_go_on(wanted, tmp_path):
    kind, message = Child(COMMANDS["predict"], tmp_path / "cache", lambda: no_room(200_000)).result()
    assert kind == "RuntimeError"
    assert "could not write out.jsonl (File too large" in message
    assert "What was labelled is kept" in message
    (out,) = tmp_path.rglob("out.jsonl")
    assert 0 < out.stat().st_size <= 200_000
    assert Child(COMMANDS["predict"], tmp_path / "cache").result() == wanted("predict")[0]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of a megabyte, which can be made read-only; skipped where this user may not mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], check=False).returncode:
        pytest.skip("mounting takes root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_disk_of_a_megabyte_that_is_full(small_disk, wanted):
    (small_disk / "of another program").write_bytes(bytes(2**20 - 20_000))
    kind, message = Child(MAKERS["vectors"], small_disk / "cache").result()
    assert (kind, "could not write" in message) == ("NotWritten", True)
    (small_disk / "of another program").unlink()
    assert Child(MAKERS["vectors"], small_disk / "cache").result() == wanted("vectors")[0]


@pytest.mark.parametrize("name", ["vectors", pytest.param("signals", marks=pytest.mark.slow)])
def test_a_cache_that_cannot_be_written_is_read_and_says_what_is_missing(name, small_disk, wanted):
    result, cache = wanted(name)
    shutil.copytree(cache, small_disk / "cache")
    prepare(small_disk / "cache-work")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert Child(MAKERS[name], small_disk / "cache").result() == result
    kind, message = Child(MAKERS["grammar"], small_disk / "cache").result()
    assert "Read-only file system" in message
    assert "CTD_CACHE" in message
    assert (kind, message.count("\n")) == ("NotWritten", 0)
