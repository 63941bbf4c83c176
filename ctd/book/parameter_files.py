"""Parameter files: values for several notebooks in one YAML file, for `ctd run -f`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctd.book import chapters
from ctd.book.parameters import Parameter, fields, near, read_yaml_file
from ctd.book.settings import Settings


def read(file: Path, parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """The values in a file that a notebook takes. A path is looked for beside the file first.

    file: YAML, `name: value`. A name that only other notebooks take is left out.
    parameters: of the notebook.
    Raises FileNotFoundError for a file that is not there, and ValueError for one that is not such a mapping or has a
    name that no notebook takes.
    """
    if not file.is_file():
        raise FileNotFoundError(f"there is no parameter file {file}; ctd init writes one")
    values = read_yaml_file(file) or {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise ValueError(f"{file} must hold lines such as `dataset: records`, a parameter each")
    known = {*parameters, *(name for model in _models() for name in fields(model))}
    if unknown := [name for name in values if name not in known]:
        raise ValueError(f"{file}: no notebook takes the parameter {unknown[0]}{near(unknown[0], known)}")
    taken = {name: value for name, value in values.items() if name in parameters}
    for name, value in taken.items():
        if parameters[name].is_path and isinstance(value, str) and value and (file.parent / value).exists():
            taken[name] = str(file.parent / value)
    return taken


def _models() -> list[type[Settings]]:
    return [model for model in vars(chapters).values() if isinstance(model, type) and issubclass(model, Settings)]
