"""Memory between steps: kept, because every step needs as much again.

Notes: glibc gives large blocks back to the system at once, which then clears them anew. That takes a fifth of a step of
a student of SmolLM2, and a twentieth of one of the organism's. What is computed stays the same.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # numbers of mallopt's parameters, from malloc.h
KEPT = {MMAP_THRESHOLD: 2**31 - 1, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 2**30}
USUAL = {MMAP_THRESHOLD: 2**25, TRIM_THRESHOLD: 2**26, TOP_PAD: 2**17}  # where glibc's own settings end up


@contextmanager
def keep_freed() -> Iterator[None]:
    """Keep freed memory for the next step inside, and give it back at the end; without glibc, do nothing."""
    if not _set(KEPT):
        yield
        return
    try:
        yield
    finally:
        _set(USUAL)
        ctypes.CDLL(None).malloc_trim(0)


def _set(values: dict[int, int]) -> bool:
    """Whether the C library took the settings."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return False
    return all(mallopt(parameter, value) for parameter, value in values.items())
