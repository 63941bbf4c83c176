"""The files that name versions agree with each other and with what is installed."""

import re
import tomllib
from importlib.metadata import version
from itertools import chain

import pytest
import yaml

from ctd.cache import ROOT

PIN = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!+]+)")


def pins(lines):
    """{name: version} of requirement lines, names as package indexes compare them; fails on a line without `==`."""
    found = {}
    for line in lines:
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        pin = PIN.fullmatch(line)
        assert pin, f"not an exact pin: {line}"
        name = re.sub(r"[-_.]+", "-", pin[1]).lower()
        assert name not in found, f"{name} is pinned more than once"
        found[name] = pin[2]
    return found


def lock(name):
    return pins((ROOT / name).read_text().splitlines())


def pyproject():
    """What is set up: all but the extra of one optional test."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = (of for name, of in project["optional-dependencies"].items() if name != "crosscheck")
    return pins([*project["dependencies"], *chain(*extras)])


def environment():
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    return entries, pins(next(entry["pip"] for entry in entries if isinstance(entry, dict)))


def test_a_loose_pin_is_noticed():
    with pytest.raises(AssertionError, match="not an exact pin: numpy>=2"):
        pins(["numpy>=2"])


def test_the_lock_pins_the_two_versions_that_everything_hangs_on():
    assert lock("requirements.txt")["torch"] == "2.13.0"
    assert lock("requirements.txt")["jupyter-book"] == "1.0.4.post1"


def test_pyproject_names_versions_of_the_lock():
    locked = lock("requirements.txt")
    assert pyproject() == {name: locked.get(name) for name in pyproject()}


def test_conda_environment_names_the_direct_requirements_at_the_same_versions():
    entries, through_pip = environment()
    assert through_pip == pyproject()
    assert "python=3.11" in entries


def test_data_packages_are_pinned_and_apart_from_the_lock():
    assert not lock("requirements-data.txt").keys() & lock("requirements.txt").keys()


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-data.txt"])
def test_what_is_installed_is_what_the_lock_says(name):
    # A CPU build of torch adds a local label ("+cpu") to the same version.
    locked = lock(name)
    assert {package: version(package).partition("+")[0] for package in locked} == locked
