"""Notebooks and the profiles beside them, found and read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctd.book.parameter_cells import read_parameters
from ctd.book.parameters import Parameter, near, read_yaml_file
from ctd.cache import ROOT

if TYPE_CHECKING:  # it takes a second to import
    from nbformat import NotebookNode

PROFILES = "profiles.yml"


def find_notebook(name: str) -> Path:
    """A notebook by path, by stem or by number: `notebooks/01_x.ipynb`, `01_x` and `01` are the same.

    Looked for in `notebooks/` beneath the current directory, then in the repository's.
    Raises FileNotFoundError for none (with the nearest in spelling), ValueError for several.
    """
    if name.endswith(".ipynb"):
        if not Path(name).is_file():
            raise FileNotFoundError(f"no notebook {name}")
        return Path(name).resolve()
    known = {path.stem: path for path in notebooks()}
    stems = [stem for stem in known if stem == name]
    stems = stems or [stem for stem in known if name.isdigit() and re.match(rf"0*{int(name)}_", stem)]
    if len(stems) > 1:
        raise ValueError(f"{name} is the number of {len(stems)} notebooks: {', '.join(stems)}")
    if not stems:
        raise FileNotFoundError(
            f"no notebook {name}{near(name, known)}; there are: {', '.join(known) or 'none in notebooks/'}"
        )
    return known[stems[0]]


def notebooks() -> list[Path]:
    """All numbered notebooks, in order: `notebooks/` beneath the current directory, else the repository's."""
    here = [base / "notebooks" for base in (Path.cwd(), ROOT) if (base / "notebooks").is_dir()]
    return sorted(here[0].glob("[0-9]*_*.ipynb")) if here else []


def read_notebook(path: Path) -> NotebookNode:
    """A notebook in format 4. Raises ValueError with one line when it is not one."""
    import nbformat

    try:
        node = nbformat.read(path, as_version=4)
        if not isinstance(node.cells, list):
            raise ValueError("its cells are no list")
        return node
    except (ValueError, nbformat.ValidationError, KeyError, AttributeError, TypeError, IndexError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is not a notebook ({reason[:80]})") from None


def profile_values(notebook: Path, profile: str) -> dict[str, Any]:
    """What a profile sets for a notebook, from `profiles.yml` beside it, unchecked; {} when it says nothing.

    Raises ValueError for a profile that is not there, or a stem without a notebook.
    """
    path = notebook.parent / PROFILES
    profiles = read_yaml_file(path) if path.is_file() else {"default": {}}
    if not isinstance(profiles, dict):
        raise ValueError(f"{path} must map profiles to notebooks to parameters")
    if profile not in profiles:
        raise ValueError(f"no profile {profile}{near(profile, profiles)}; {path.name} has: {', '.join(profiles)}")
    stems = profiles[profile] or {}
    if not isinstance(stems, dict) or not all(isinstance(values, dict | None) for values in stems.values()):
        raise ValueError(f"{path}: profile {profile} must map notebooks to parameters")
    for stem in stems:
        if not (notebook.parent / f"{stem}.ipynb").is_file():
            raise ValueError(f"{path}: profile {profile} names {stem}, and there is no {stem}.ipynb beside it")
    return stems.get(notebook.stem) or {}


def parameters_of(notebook: Path) -> dict[str, Parameter]:
    """The parameters that a notebook declares. Raises ValueError as `read_parameters` does."""
    return read_parameters(read_notebook(notebook), notebook.name)
