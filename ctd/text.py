"""Plain text: folded spellings, words and their stems, excerpts."""

from __future__ import annotations

import os
import re
import unicodedata
from functools import cache, lru_cache
from typing import Any, NamedTuple

import Stemmer


def normalise(text: str) -> str:
    """The text in lower case, without punctuation and double spaces: what two spellings of a heading share."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in folded).split())


EXCERPT_WORDS = 12


def excerpt(text: str) -> str:
    """The first 12 words of a text."""
    words = text.split()
    return " ".join(words[:EXCERPT_WORDS]) + (" …" if len(words) > EXCERPT_WORDS else "")


WORD = re.compile(r"[^\W_]+")


class Word(NamedTuple):
    """A word of a text.

    stem: its stem.
    start: its first character in the text.
    end: one past its last character.
    """

    stem: str
    start: int
    end: int


def words(text: str) -> list[Word]:
    """The words of a text."""
    return [Word(_stem(match[0].lower()), *match.span()) for match in WORD.finditer(text)]


@lru_cache(maxsize=2**16)
def stems(text: str) -> frozenset[str]:
    """The stems of a text's content words; of all its words where it has no content word.

    Stop words and single letters (variables of a formula) are no content words.
    """
    lower = [word.lower() for word in WORD.findall(text)]
    content = [word for word in lower if word not in stop_words() and (len(word) > 1 or word.isdigit())]
    return frozenset(map(_stem, content or lower or [text]))


@cache
def _stemmer() -> Stemmer.Stemmer:
    return Stemmer.Stemmer("english")


@lru_cache(maxsize=2**16)
def _stem(word: str) -> str:
    return _stemmer().stemWord(word)


@cache
def stop_words() -> frozenset[str]:
    """The English stop words of bm25s, in lower case."""
    return frozenset(bm25s_library().stopwords.STOPWORDS_EN)


def bm25s_library() -> Any:
    """The bm25s package, imported only where it is used.

    bm25s tries JAX where that is installed, and JAX would reserve three quarters of an accelerator's memory in every
    process.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import bm25s

    return bm25s
