"""Do a tokenizer and its model fit, and does the book's text survive them? Each check returns what is wrong, or ""."""

from __future__ import annotations

from typing import Any

from ctd.data.label_space import LabelSpace
from ctd.reasoning import prompts, write_batch
from ctd.reasoning.grammar import BEFORE, LabelLists
from ctd.reasoning.models import LanguageModel

LABELS = ["Kidney stone", "Asthma, unspecified", "Gout", "HIV/AIDS (B20-B24)", "sciatica"]
TEXT = """Topics: heart, blood
Shortlist:
- Kidney stone
- Asthma, unspecified
Compare:
[[Gout]] rather than [[HIV/AIDS (B20-B24)]], because "3.5 mg/dl  of β-blockers"
</think>
Answer:
- sciatica
"""


def embedding(language_model: LanguageModel) -> str:
    """Is every token of the tokenizer embedded?"""
    model: Any = language_model.model
    largest, embedded = max(language_model.tokenizer.get_vocab().values()), model.get_input_embeddings().num_embeddings
    return "" if largest < embedded else f"its tokenizer has a token {largest}, and it embeds 0 to {embedded - 1}"


def end(language_model: LanguageModel) -> str:
    """Is there a token that ends a text, and can the model write it?"""
    model: Any = language_model.model
    n_logits = len(model.get_output_embeddings().weight)
    if any(token < n_logits for token in write_batch.end_tokens(model, language_model.tokenizer)):
        return ""
    return "no token that it can write ends a text: it would always write to the bound (eos_token in its tokenizer)"


def text(language_model: LanguageModel) -> str:
    """Does a text come back from its tokens as it was?"""
    tokenizer: Any = language_model.tokenizer
    written = prompts.DOCUMENT + TEXT
    back = tokenizer.decode(
        tokenizer(written, add_special_tokens=False)["input_ids"],
        skip_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )
    if back == written:
        return ""
    first = next((n for n, pair in enumerate(zip(written, back, strict=False)) if pair[0] != pair[1]), len(back))
    part = slice(max(0, first - 10), first + 10)
    return f"its tokenizer changes texts: {written[part]!r} comes back as {back[part]!r}"


def chat(language_model: LanguageModel) -> str:
    """Does the prompt begin as the tokenizer begins a text, and hold what is asked as it was?"""
    tokenizer: Any = language_model.tokenizer
    try:
        prompt = prompts.instruction(TEXT, tokenizer, "labels", LABELS)
    except Exception as error:  # whatever the template's own code raises
        return f"its chat template cannot be used: {' '.join(str(error).split())[:150]}"
    if " ".join(TEXT.split()) not in prompt:
        return "its chat template leaves out what is asked"
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    first = prompts.beginning(tokenizer)
    n_first = sum(1 for place in (0, 1) if first and ids[place : place + 1] == [tokenizer.convert_tokens_to_ids(first)])
    if first and n_first != 1:
        return f"its prompt begins with {first} {n_first} times, and its tokenizer begins texts with it once"
    return ""


def label_lists(language_model: LanguageModel) -> str:
    """Do the lines to which lists are kept decode to the labels?"""
    try:
        lists = LabelLists(LabelSpace("check", [str(n) for n in range(len(LABELS))], LABELS, len(LABELS)),
                           language_model.tokenizer)  # fmt: skip
    except ValueError as error:
        return str(error)
    if wrong := sorted(set(LABELS) ^ set(_read_back(lists, language_model.tokenizer))):
        return f"the lines of its label lists do not decode to the labels: {wrong[0]!r} is on one side only"
    return ""


def _read_back(lists: LabelLists, tokenizer: Any) -> list[str]:
    before = tokenizer(BEFORE, add_special_tokens=False)["input_ids"]
    start = len(tokenizer.decode(before))
    rows = ([lists.bullet, *(int(token) - 1 for token in line if token)] for line in lists.lines)
    return [tokenizer.decode(before + row)[start:].removeprefix("- ").removesuffix("\n") for row in rows]
