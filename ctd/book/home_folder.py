"""The user's own folder is written as `~` in what a run leaves behind, because runs are published."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

BEFORE = r"(?<![\w.~/-])"  # what is no part of another path


def without_home(text: str) -> str:
    """A text with `~` for the user's folder."""
    home = str(Path.home())
    return text if home == "/" else re.sub(rf"{BEFORE}{re.escape(home)}(?![\w.-])", "~", text)


def with_home(text: str) -> str:
    """A text with the user's folder for `~`."""
    return re.sub(rf"{BEFORE}~(?=/)", lambda _: str(Path.home()), text)


def rewrite_json(file: Path) -> None:
    """Write `~` for the user's folder in a JSON file that holds no pictures."""
    file.write_text(without_home(file.read_text(encoding="utf-8")), encoding="utf-8")


def rewrite_notebook(file: Path, change: Callable[[str], str] = without_home) -> None:
    """Change all text of a notebook, and nothing of its pictures."""
    import nbformat  # dear to load, and most commands need none

    nbformat.write(nbformat.from_dict(_changed(nbformat.read(file, as_version=4), change)), file)


def _changed(value: Any, change: Callable[[str], str], kind: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _changed(part, change, name) for name, part in value.items()}
    if isinstance(value, list):
        return [_changed(part, change, kind) for part in value]
    return change(value) if isinstance(value, str) and not kind.startswith("image/") else value
