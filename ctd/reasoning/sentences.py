"""Where the sentences of a text stand."""

from __future__ import annotations

import re
from itertools import pairwise

SENTENCE_END = re.compile(r"(?<=[.!?])(?=\s+\S)|(?<=\S)(?=\n\s*\S)")


def sentences(text: str) -> list[tuple[int, int]]:
    """Where each sentence of a text starts and ends; the space between two belongs to the second.

    A sentence ends behind a full stop, an exclamation or a question mark that a space follows, or with its line.
    """
    cuts = [0, *(match.start() for match in SENTENCE_END.finditer(text) if match.start()), len(text)]
    return [(start, end) for start, end in pairwise(cuts) if text[start:end].strip()]
