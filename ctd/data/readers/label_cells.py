"""The labels in a cell of a user's own table."""

from __future__ import annotations

import ast
import io
import json
import tokenize
from itertools import pairwise
from typing import Any


def names(value: Any, where: str, column: str) -> list[str]:
    """The labels of one document as strings; null and blank strings are none.

    value: a string, a whole number, or a list of such; a list may be spelt as text, "['a', 'b']".
    where: where it stands, for messages.
    column: that holds it.
    Raises ValueError for anything else.
    """
    if isinstance(value, str) and value.strip()[:1] == "[":
        value = list_in_text(value.strip(), where, column)
    labels = []
    for label in value if isinstance(value, list) else [value]:
        if not isinstance(label, str | int | None) or isinstance(label, bool):
            raise ValueError(
                f"{where}: {column!r} must be a string, a whole number or a list of such, "
                f"got one with a {type(label).__name__}"
            )
        if label is not None and (name := str(label).strip()):
            labels.append(name)
    return labels


def list_in_text(text: str, where: str, column: str) -> Any:
    """The list that a text spells as Python or JSON do ("['a', 'b']"); the text itself where it is no list.

    Raises ValueError for a list without commas, which Python would read as one string.
    """
    try:
        words = [token.type for token in tokenize.generate_tokens(io.StringIO(text).readline)]
        value = json.loads(text) if "null" in text else ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError, tokenize.TokenError):
        return text
    if (tokenize.STRING, tokenize.STRING) in pairwise(words):  # Python would read them as one
        raise ValueError(
            f"{where}: {column!r} is a list without commas, {text[:40]!r}; save it as a list, or with commas"
        )
    return value if isinstance(value, list) else text
