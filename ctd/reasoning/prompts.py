"""What a model is asked: the prompt of the tuned teachers, and the instruction for a model that was not tuned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from ctd.reasoning.token_spans import Span

DOCUMENT = "Document: "
INSTRUCTION = """Choose from the label space "{space}" the labels that describe the document.
Reason in two steps: first write a shortlist of candidate labels, then compare those that are easily confused.
Then answer. Use exactly this form:
<think>
Topics: the document's broad topics
Shortlist:
- a candidate label
- another candidate label
Compare:
[[a label]] rather than [[another label]], because "words of the document"
</think>
Answer:
- the best label
- the next best label

Labels look like these: {examples}.

{prompt}"""


def plain(document: str, candidates: Sequence[str] = ()) -> str:
    """The prompt on which the teachers are tuned (our definition): the document, and a retrieved list if there is one.

    document: on one line; its line breaks become spaces.
    candidates: label texts, best first.
    What follows the prompt is a text in the format of `ctd.reasoning.traces`, or its answer alone.
    """
    listed = "Candidates:\n" + "".join(f"- {label}\n" for label in candidates) if candidates else ""
    return f"{DOCUMENT}{' '.join(document.split())}\n{listed}"


def document_span(prompt: str, document: str) -> Span:
    """Where a prompt of `plain` or `instruction` holds the document: characters of the prompt.

    Raises ValueError for a prompt that does not hold it.
    """
    line = " ".join(document.split())
    start = prompt.index(DOCUMENT + line) + len(DOCUMENT)
    return Span(start, start + len(line))


def cut(document: str, tokenizer: PreTrainedTokenizerBase, n_tokens: int) -> str:
    """The beginning of a document on one line, n_tokens long at most by itself, no character torn.

    tokenizer: a fast one, for it must say where its tokens stand. "" where the first character is longer than that.
    Raises ValueError for n_tokens below 1.
    """
    if n_tokens < 1:
        raise ValueError(f"n_tokens must be at least 1, got {n_tokens}")
    text = " ".join(document.split())
    encoded: Any = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False, truncation=False)
    ends = [end for _, end in encoded["offset_mapping"]]
    if len(ends) <= n_tokens:
        return text
    beginnings = (text[:end] for end in reversed(ends[:n_tokens]))
    return next((text for text in beginnings if _length(text, tokenizer) <= n_tokens), "")


def _length(text: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens of a text. Of a character that takes several, each stands where the whole does: a cut may keep all."""
    return len(tokenizer(text, add_special_tokens=False, truncation=False)["input_ids"])


def instruction(
    document: str,
    tokenizer: PreTrainedTokenizerBase | None,
    space: str,
    examples: Sequence[str],
    candidates: Sequence[str] = (),
) -> str:
    """What a model that was not tuned on the format is asked, in its own chat template where it has one.

    document: as in `plain`.
    tokenizer: the model's; None for a server that comes without one.
    space: name of the label space.
    examples: a few label texts.
    candidates: as in `plain`.
    """
    prompt = plain(document, candidates)
    text = INSTRUCTION.format(space=space, examples="; ".join(examples), prompt=prompt)
    return in_chat(text, tokenizer)


def in_chat(text: str, tokenizer: PreTrainedTokenizerBase | None) -> str:
    """A text as what a user says, in the chat template of a tokenizer that has one."""
    if tokenizer is None or not tokenizer.chat_template:
        return beginning(tokenizer) + text
    messages = [{"role": "user", "content": text}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def beginning(tokenizer: PreTrainedTokenizerBase | None) -> str:
    """The special token with which a tokenizer begins every text, as text; "" where there is none.

    Prompts are tokenised as they stand: a chat template writes it, and it is written before a prompt without one.
    """
    if tokenizer is None:
        return ""
    with_it, without = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False))
    first = tokenizer.bos_token_id
    return str(tokenizer.bos_token) if first is not None and with_it[:1] == [first] != without[:1] else ""
