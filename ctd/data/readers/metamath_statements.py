"""The statements of a Metamath file, one by one.

Notes: wherever a function takes `name`, errors call the file by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ctd.data.readers.packed import DAMAGED, open_unpacked

KEYWORD = re.compile(r"(?<!\S)\$\S(?!\S)")
COMMENT_END = re.compile(r"(?<!\S)\$[()](?!\S)")
Refuse = Callable[[int, str], ValueError]


class Statement(NamedTuple):
    """A comment, block bracket or statement.

    keyword: `$(`, `${`, `$}`, `$c`, `$v`, `$d`, `$f`, `$e`, `$a` or `$p`.
    start: offset of its first character.
    end: offset of what follows it.
    label: its name, where it has one.
    text: the text of a comment.
    symbols: the words before `$=`.
    proof: the words after `$=`.
    """

    keyword: str
    start: int
    end: int
    label: str = ""
    text: str = ""
    symbols: Sequence[str] = ()
    proof: Sequence[str] = ()


def check_source(path: Path) -> None:
    """Raises FileNotFoundError where there is no such file."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no Metamath file {path}; give the path of set.mm, or unset CTD_SETMM")


def read(path: Path) -> str:
    """The text of a Metamath file, gzip or plain. Raises FileNotFoundError, or ValueError when it is damaged."""
    check_source(path)
    try:
        with open_unpacked(Path(path)) as (_, stream):
            return str(stream.read().decode())
    except DAMAGED as error:
        raise ValueError(f"{path} is a truncated or damaged gzip file; fetch it again") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a Metamath file: it is not text (byte {error.start})") from error


def statements(text: str, name: str) -> Iterator[Statement]:
    """The comments, block brackets and statements of a Metamath file, in order.

    A comment inside a statement is skipped.

    text: of the file.
    name: how errors call the file.
    Raises ValueError, with the line, for an unterminated or nested comment, an unterminated statement (with its label),
    a missing or stray label, a `$` word that has no place there, and an included file.
    """
    refuse = partial(refusal, text, name)
    position = 0
    words: list[str] = []
    opened: Statement | None = None
    while match := KEYWORD.search(text, position):
        words += text[position : match.start()].split()
        keyword, start, position = match[0], match.start(), match.end()
        if keyword == "$(":
            end = _comment_end(text, start, refuse)
            if opened is None and not words:
                yield Statement("$(", start, end, text=text[position : end - 2])
            position = end
        elif opened is not None and keyword == "$=" and opened.keyword == "$p" and not opened.symbols:
            opened, words = opened._replace(symbols=words), []
        elif opened is not None:
            yield _closed(opened, keyword, words, position, refuse)
            opened, words = None, []
        elif keyword in ("${", "$}") and not words:
            yield Statement(keyword, start, position)
        else:
            opened, words = _opened(keyword, words, start, refuse), []
    if opened is not None:
        raise refuse(opened.start, f"{_called(opened)} is never closed by $. (is the file cut short?)")
    if words := words + text[position:].split():
        raise refuse(len(text), f"the file ends after {words[-1]!r}, which belongs to no statement")


def _comment_end(text: str, start: int, refuse: Refuse) -> int:
    close = COMMENT_END.search(text, start + 2)
    if close is None:
        raise refuse(start, "this comment is never closed by $)")
    if close[0] == "$(":
        raise refuse(start, "this comment is not closed by $) before another $( begins")
    return close.end()


def _opened(keyword: str, words: list[str], start: int, refuse: Refuse) -> Statement:
    """The statement that a keyword opens after these words."""
    if keyword in ("$f", "$e", "$a", "$p"):
        if len(words) != 1:
            raise refuse(start, f"expected one label before {keyword}, got {' '.join(words[-5:]) or 'none'}")
        return Statement(keyword, start, start, label=words[0])
    if words:
        raise refuse(start, f"expected $f, $e, $a or $p after {words[-1]!r}, got {keyword}")
    if keyword == "$[":
        raise refuse(start, "this file includes another one; join them into one file first")
    if keyword not in ("$c", "$v", "$d"):
        raise refuse(start, f"{keyword} has no place outside a statement")
    return Statement(keyword, start, start)


def _closed(opened: Statement, keyword: str, words: list[str], end: int, refuse: Refuse) -> Statement:
    """An open statement with its last words."""
    if keyword != "$.":
        raise refuse(opened.start, f"{_called(opened)} is not closed by $. before {keyword}")
    if opened.keyword != "$p":
        return opened._replace(symbols=words, end=end)
    if not opened.symbols:
        raise refuse(opened.start, f"{_called(opened)} needs a formula, $= and a proof")
    return opened._replace(proof=words, end=end)


def _called(statement: Statement) -> str:
    return f"{statement.keyword} statement '{statement.label}'" if statement.label else f"this {statement.keyword}"


def refusal(text: str, name: str, offset: int, what: str) -> ValueError:
    """The error for a file that is not as it should be: its name, the line of the offset, and what is wrong."""
    return ValueError(f"{name}, line {text.count(chr(10), 0, offset) + 1}: {what}")
