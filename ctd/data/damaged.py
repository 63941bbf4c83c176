"""Files that we wrote and that are not whole any more: what is said of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def named_if_damaged(file: Path) -> Iterator[None]:
    """Turn what a library says of a damaged file into one line that names it. A missing file stays that."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0][:120]
        raise ValueError(f"{file} is damaged ({reason}): delete it, and have it made anew") from error
