"""Data for a page that is opened from a file: numbers in few bits, deflated, in base64, inside classic scripts.

Notes: a browser refuses to fetch files from `file://`, but it runs scripts from there. Each script hands its data to
`explorer.receive`; base64 holds nothing that could end a string or a script.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

LEVELS = 15  # of four bits, above 0


def to_four_bits(values: Float[np.ndarray, ...]) -> bytes:
    """Values between 0 and 1 in four bits each, two to a byte, the first in the high half.

    The levels are those of the square root, so that small values are told apart: the smallest above 0 is 1/225.
    """
    levels = np.rint(LEVELS * np.sqrt(np.clip(values, 0, 1))).astype(np.uint8).ravel()
    levels = np.append(levels, np.zeros(len(levels) % 2, np.uint8))
    return (levels[::2] << 4 | levels[1::2]).tobytes()


def deflated(raw: bytes) -> str:
    """Bytes as a browser's `DecompressionStream("deflate")` reads them, in base64."""
    return base64.b64encode(zlib.compress(raw, 9)).decode("ascii")


def write_script(path: Path, name: str, value: Any, arrays: Mapping[str, bytes] | None = None) -> None:
    """Write a script that hands over a value and some raw arrays.

    path: of the script.
    name: by which the page asks for them.
    value: plain JSON.
    arrays: bytes by their name.
    """
    parts = {"json": json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), **(arrays or {})}
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = {part: deflated(raw) for part, raw in parts.items()}
    path.write_text(f"explorer.receive({json.dumps(name)},{json.dumps(packed)});\n", "ascii")
