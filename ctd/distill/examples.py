"""Texts as training examples: token ids of prompt and target."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from ctd.distill import train
from ctd.reasoning.token_spans import Span, tokenize
from ctd.reasoning.traces import ANSWER, Trace


def example(
    prompt: str, text: str, tokenizer: PreTrainedTokenizerBase, only_read: Sequence[Span] = ()
) -> train.Example:
    """Prompt and text as tokens, the end of the text marked.

    prompt: what the model is given.
    text: what it learns to write.
    only_read: characters of the text whose tokens are not to be learned.
    Raises ValueError for a tokenizer without an end token.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no end token (eos_token), so a text could not be ended: give it one")
    given = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    target = tokenize(text, tokenizer)
    spans = [target.span(*characters) for characters in only_read]
    shifted = tuple((len(given) + start, len(given) + end) for start, end in spans)
    return train.Example([*given, *target.ids, tokenizer.eos_token_id], len(given), shifted)


def answer_example(trace: Trace, tokenizer: PreTrainedTokenizerBase) -> train.Example:
    """The trace's prompt and its answer alone, without the reasoning."""
    prompt = trace.prompt + ANSWER
    given = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answer = "".join(f"- {text}\n" for text in trace.answer)
    ids = tokenizer(prompt + answer, add_special_tokens=False)["input_ids"]
    return train.Example([*ids, tokenizer.eos_token_id], len(given))
