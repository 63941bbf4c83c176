"""The files that name versions agree with each other and with what is installed."""

import ast
import json
import re
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from itertools import chain

import pytest
import yaml

from ctd.cache import ROOT

OURS = {"ctd", "tests", "compute"}  # compute: a benchmark that others import
PIN = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!+]+)")


def pins(lines):
    """{name: version} of requirement lines, names as package indexes compare them; fails on a line without `==`."""
    versions = {}
    for line in lines:
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        pin = PIN.fullmatch(line)
        assert pin, f"not an exact pin: {line}"
        name = re.sub(r"[-_.]+", "-", pin[1]).lower()
        assert name not in versions, f"{name} is pinned more than once"
        versions[name] = pin[2]
    return versions


def lock(name):
    return pins((ROOT / name).read_text().splitlines())


def pyproject(*without):
    """Every requirement, but those of the extras named."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = (lines for name, lines in project["optional-dependencies"].items() if name not in without)
    return pins([*project["dependencies"], *chain(*extras)])


def source_of(path):
    """The Python of a module or a notebook."""
    if path.suffix != ".ipynb":
        return path.read_text()
    cells = json.loads(path.read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def imported(*places):
    """{package: a file that imports it} over modules and notebooks, without Python's own and this repository's."""
    files = chain.from_iterable([*(ROOT / place).rglob("*.py"), *(ROOT / place).rglob("*.ipynb")] for place in places)
    packages = {}
    for path in sorted(files):
        for node in ast.walk(ast.parse(source_of(path))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for package in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - OURS:
                packages.setdefault(package, path)
    return packages


def undeclared(packages, declared):
    """The packages that no declared requirement brings, with the file that imports each."""
    brought_by = packages_distributions()
    return {
        package: str(path)
        for package, path in packages.items()
        if not {re.sub(r"[-_.]+", "-", name).lower() for name in brought_by.get(package, [package])} & declared
    }


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
    declared = pyproject("cluster", "crosscheck", "fuzz")
    assert declared == {name: locked.get(name) for name in declared}


def test_conda_environment_names_the_direct_requirements_at_the_same_versions():
    entries, through_pip = environment()
    assert through_pip == pyproject("cluster", "crosscheck", "fuzz")
    assert "python=3.11" in entries


def test_what_is_imported_is_declared():
    data = lock("requirements-data.txt").keys()
    assert undeclared(imported("ctd", "notebooks"), pyproject("dev", "crosscheck", "fuzz").keys() | data) == {}
    assert undeclared(imported("tests", "benchmarks", "book/_ext"), pyproject().keys() | data) == {}


def test_an_import_that_is_not_declared_is_noticed(tmp_path):
    (tmp_path / "module.py").write_text("import os\nimport sklearn.metrics\nfrom torch import nn\n")
    assert undeclared(imported(tmp_path), {"torch"}) == {"sklearn": str(tmp_path / "module.py")}


def test_data_packages_are_pinned_and_apart_from_the_lock():
    assert not lock("requirements-data.txt").keys() & lock("requirements.txt").keys()


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-data.txt"])
def test_what_is_installed_is_what_the_lock_says(name):
    # A CPU build of torch adds a local label ("+cpu") to the same version.
    locked = lock(name)
    assert {package: version(package).partition("+")[0] for package in locked} == locked
