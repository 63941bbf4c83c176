"""What a case of the catalogue is: files as they should not be, the words of a command, and what it has to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Content = str | bytes | Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """One bad input.

    name: of the test.
    words: of the command, after `ctd`; `{out}` is a folder that is not there.
    says: regular expressions that the line has to match: the file and the line where it applies, what is wrong, and how
        to mend it.
    files: written before, by path: their content, or a function that writes them.
    environment: variables.
    """

    name: str
    words: str
    says: tuple[str, ...]
    files: Mapping[str, Content] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
