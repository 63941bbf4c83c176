"""The one mapping from characters of a text to its tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ctd.reasoning.traces import Span

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def token_spans(
    text: str, spans: Iterable[tuple[int, int]], tokenizer: PreTrainedTokenizerFast, special_tokens: bool = False
) -> list[Span]:
    """Character spans of a text as token spans: every token that holds one of the characters, first .. last + 1.

    text: what the tokenizer is given, such as prompt and `format(trace)`; shift the spans by the prompt's length.
    special_tokens: whether the tokenizer is to add its own, such as one that begins the text.
    Raises ValueError for a tokenizer without offsets, a span outside the text or empty, one that no token covers.
    """
    if not tokenizer.is_fast:
        raise ValueError(f"tokenizer must be a fast one (it gives offsets), got {type(tokenizer).__name__}")
    encoded: Any = tokenizer(text, return_offsets_mapping=True, add_special_tokens=special_tokens, truncation=False)
    starts, ends = np.array(encoded["offset_mapping"], np.int64).reshape(-1, 2).T
    found = []
    for start, end in spans:
        if not 0 <= start < end <= len(text):
            raise ValueError(f"a span must lie within the text's {len(text)} characters, got {start}..{end}")
        tokens = np.flatnonzero((starts < end) & (ends > start) & (starts < ends))
        if not len(tokens):
            raise ValueError(f"no token covers characters {start}..{end} of the text ({text[start:end][:40]!r})")
        found.append(Span(int(tokens[0]), int(tokens[-1]) + 1))
    return found
