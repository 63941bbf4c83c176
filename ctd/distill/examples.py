"""Texts as training examples: token ids of prompt and target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from ctd.distill import train
from ctd.reasoning import prompts
from ctd.reasoning.token_spans import Span


def example(
    document: str,
    text: str,
    tokenizer: PreTrainedTokenizerBase,
    candidates: Sequence[str] = (),
    only_read: Sequence[Span] = (),
) -> train.Example:
    """Prompt and text as tokens, the end of the text marked.

    only_read: characters of the text whose tokens are not to be learned. Raises ValueError for a tokenizer without an
    end token.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no end token (eos_token), so a text could not be ended: give it one")
    prompt = tokenizer(prompts.plain(document, candidates), add_special_tokens=False)["input_ids"]
    target: Any = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    starts, ends = np.array(target["offset_mapping"]).reshape(-1, 2).T
    spans = [
        (int(np.searchsorted(ends, start, "right")), int(np.searchsorted(starts, end))) for start, end in only_read
    ]
    spans = [(len(prompt) + start, len(prompt) + end) for start, end in spans]
    return train.Example([*prompt, *target["input_ids"], tokenizer.eos_token_id], len(prompt), tuple(spans))
