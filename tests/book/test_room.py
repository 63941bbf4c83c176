"""Memory and disk are looked at before a notebook begins, the bounds of a container among them."""

import json
import shutil
from types import SimpleNamespace

import psutil
import pytest

from ctd import hardware
from ctd.book import room

MIB = 2**20


def plan(folder, peak=None, profile="default", stem="01_x", **parameters):
    if peak is not None:
        folder.mkdir()
        (folder / "manifest.json").write_text(json.dumps({"notebook": "01_x.ipynb", "peak_memory_mib": peak}))
    return SimpleNamespace(folder=folder, profile=profile, notebook=SimpleNamespace(stem=stem), parameters=parameters)


def test_what_a_notebook_takes_is_what_its_last_run_took(tmp_path):
    assert room.expected_mib(plan(tmp_path / "a", 700.5)) == 700.5
    assert room.expected_mib(plan(tmp_path / "b", profile="smoke")) == room.EXPECTED_MIB["smoke"]
    assert room.expected_mib(plan(tmp_path / "c", "much")) == room.OTHERWISE_MIB


def test_before_its_first_run_a_notebook_is_expected_to_take_what_a_published_run_took(tmp_path):
    """Chapter 10 was published with both teachers: of SmolLM2 it takes more than a machine of 8 GB has."""
    chapter = "10_mechanistic_distillation"
    small = room.expected_mib(plan(tmp_path / "a", stem=chapter, teacher="organism"))
    large = room.expected_mib(plan(tmp_path / "a", stem=chapter, teacher="smollm2-mesh"))
    assert 1000 < small < 2500
    assert large > 8192
    assert room.expected_mib(plan(tmp_path / "a", stem=chapter, teacher="mine")) == room.OTHERWISE_MIB
    assert room.expected_mib(plan(tmp_path / "a", stem=chapter, teacher="mine", profile="smoke")) < room.OTHERWISE_MIB


def test_a_run_that_cannot_have_its_memory_does_not_begin(tmp_path, monkeypatch, capsys):
    large = plan(tmp_path / "a", 9000)
    monkeypatch.setattr(hardware, "memory", lambda: (8000 * MIB, 5000 * MIB))
    with pytest.raises(MemoryError, match="takes about 9,000 MiB of memory, and this machine .* has 8,000: run"):
        room.require([plan(tmp_path / "b"), large])
    monkeypatch.setattr(hardware, "memory", lambda: (16_000 * MIB, 5000 * MIB))
    room.require([large])
    assert "01_x takes about 9,000 MiB of memory, and 5,000 are free now" in capsys.readouterr().out
    room.require([])


def test_a_run_does_not_begin_where_the_disk_is_nearly_full(tmp_path, monkeypatch, own_cache):
    usage = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(place)._replace(free=20 * MIB))
    with pytest.raises(OSError, match="20 MiB are free in .*, and a run may write 300: .*make clean-cache"):
        room.require([plan(tmp_path / "not" / "there")])


@pytest.mark.parametrize(
    ("limits", "most", "free"),
    [
        ([("max", 10, 0)], None, None),
        ([(8000, 3000, 500)], 8000, 5500),
        ([("max", 10, 0), (4000, 3900, 0)], 4000, 100),
        ([(100, 200, 0)], 100, 0),
    ],
)
def test_the_memory_of_a_container_is_its_cgroups(tmp_path, monkeypatch, limits, most, free):
    folder = tmp_path
    for number, (limit, taken, inactive) in enumerate(limits):
        folder = folder / f"group{number}"
        folder.mkdir()
        (folder / "memory.max").write_text(f"{limit if limit == 'max' else limit * MIB}\n")
        (folder / "memory.current").write_text(f"{taken * MIB}\n")
        (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive * MIB}\nslab 3\n")
    (tmp_path / "cgroup").write_text(f"0::/{folder.relative_to(tmp_path)}\n")
    monkeypatch.setattr(hardware, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(hardware, "CGROUPS", tmp_path)
    machine = SimpleNamespace(total=32_000 * MIB, available=20_000 * MIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    assert hardware.memory() == ((most or 32_000) * MIB, (20_000 if free is None else free) * MIB)


@pytest.mark.parametrize("name", ["/docker/a1b2", "/"])
def test_the_memory_of_an_older_container_is_its_cgroups_too(tmp_path, monkeypatch, name):
    """Version 1: a folder for each controller; inside of a container its own group is mounted as the uppermost."""
    cgroup = tmp_path / "memory"
    cgroup.mkdir()
    for file, content in {
        "memory.limit_in_bytes": 8000 * MIB, "memory.usage_in_bytes": 3000 * MIB,
        "memory.stat": f"inactive_file 1\ntotal_inactive_file {500 * MIB}",
    }.items():  # fmt: skip
        (cgroup / file).write_text(f"{content}\n")
    (tmp_path / "cgroup").write_text(f"9:memory:{name}\n2:cpu,cpuacct:{name}\n0::/\n")
    monkeypatch.setattr(hardware, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(hardware, "CGROUPS", tmp_path)
    machine = SimpleNamespace(total=32_000 * MIB, available=20_000 * MIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    assert hardware.memory() == (8000 * MIB, 5500 * MIB)


def test_without_cgroups_it_is_the_machines(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "CGROUP", tmp_path / "none")
    most, free = hardware.memory()
    assert 0 < free <= most == psutil.virtual_memory().total
