"""The one mapping from characters of a text to its tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Int

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Span(NamedTuple):
    """Characters of a text, or tokens: start .. end - 1."""

    start: int
    end: int


@dataclass(frozen=True)
class TokenizedText:
    """A text as the tokens that a model reads or wrote.

    text: all of it, such as a prompt and what follows it.
    ids: the token ids.
    offsets: the characters start .. end - 1 that each token holds a part of; none (start = end) for a special token.
    """

    text: str
    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]

    @cached_property
    def _bounds(self) -> Int[np.ndarray, "2 tokens"]:
        return np.array(self.offsets, np.int64).reshape(-1, 2).T

    def span(self, start: int, end: int) -> Span:
        """The tokens that hold one of these characters.

        Raises ValueError for characters outside the text, for none, and for some that no token holds.
        """
        if not 0 <= start < end <= len(self.text):
            raise ValueError(f"a span must lie within the text's {len(self.text)} characters, got {start}..{end}")
        starts, ends = self._bounds
        tokens = np.flatnonzero((starts < end) & (ends > start) & (starts < ends))
        if not len(tokens):
            raise ValueError(f"no token covers characters {start}..{end} of the text ({self.text[start:end][:40]!r})")
        return Span(int(tokens[0]), int(tokens[-1]) + 1)

    def queries(self, start: int, end: int) -> Span:
        """The queries that predict these characters: one token before those that hold them.

        No characters give no queries. Raises ValueError as `span` does.
        """
        if start == end:
            place = int(np.searchsorted(self._bounds[1], start, "right")) - 1
            return Span(place, place)
        tokens = self.span(start, end)
        return Span(tokens.start - 1, tokens.end - 1)

    def followed_by(self, text: str, ids: Iterable[int], offsets: Iterable[tuple[int, int]]) -> TokenizedText:
        """This text and another behind it, whose tokens are kept as they are."""
        length = len(self.text)
        shifted = tuple((start + length, end + length) for start, end in offsets)
        return TokenizedText(self.text + text, (*self.ids, *ids), (*self.offsets, *shifted))


def tokenize(text: str, tokenizer: PreTrainedTokenizerBase, special_tokens: bool = False) -> TokenizedText:
    """A text as tokens.

    special_tokens: whether the tokenizer adds its own, such as one that begins the text.
    Raises ValueError for a tokenizer without offsets.
    """
    if not tokenizer.is_fast:
        raise ValueError(f"tokenizer must be a fast one (it gives offsets), got {type(tokenizer).__name__}")
    encoded: Any = tokenizer(
        text, return_offsets_mapping=True, add_special_tokens=special_tokens, truncation=False, verbose=False
    )
    return TokenizedText(text, tuple(encoded["input_ids"]), tuple(map(tuple, encoded["offset_mapping"])))
