"""Plain text: folded spellings, words and their stems, excerpts."""

from __future__ import annotations

import os
import re
import unicodedata
from functools import cache, lru_cache
from typing import Any, NamedTuple

import Stemmer


def normalise(text: str) -> str:
    """Case, Unicode form, punctuation and white space folded: what two spellings of a heading share."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in folded).split())


EXCERPT_WORDS = 12


def excerpt(text: str) -> str:
    """The first 12 words of a text."""
    words = text.split()
    return " ".join(words[:EXCERPT_WORDS]) + (" …" if len(words) > EXCERPT_WORDS else "")


WORD = re.compile(r"[^\W_]+")


class Word(NamedTuple):
    """A word of a text: its stem, first character, one past the last."""

    stem: str
    start: int
    end: int


def words(text: str) -> list[Word]:
    """The words of a text."""
    return [Word(_stem(found[0].lower()), *found.span()) for found in WORD.finditer(text)]


@lru_cache(maxsize=2**16)
def stems(text: str) -> frozenset[str]:
    """The stems of a text, without stop words and single letters (variables of a formula); all where none is left."""
    spelt = [word.lower() for word in WORD.findall(text)]
    content = [word for word in spelt if word not in stop_words() and (len(word) > 1 or word.isdigit())]
    return frozenset(map(_stem, content or spelt or [text]))


@cache
def _stemmer() -> Stemmer.Stemmer:
    return Stemmer.Stemmer("english")


@lru_cache(maxsize=2**16)
def _stem(word: str) -> str:
    return _stemmer().stemWord(word)


@cache
def stop_words() -> frozenset[str]:
    """The library's English stop words, lower case."""
    return frozenset(bm25s_library().stopwords.STOPWORDS_EN)


def bm25s_library() -> Any:
    """The bm25s package, imported only where it is used.

    bm25s tries out JAX where that is installed. JAX would reserve three quarters of an accelerator's memory, in every
    student's process too.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import bm25s

    return bm25s
