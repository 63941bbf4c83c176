"""A model that reasons by itself: its prompt names no phase, it draws by its own settings, and it always answers.

Notes: the prompt shows the labels first, in an order drawn by seed, so that prompts over a small label space begin
alike and are read once. A model that has spent its tokens without an end is made to answer: "Labels:" is put behind its
text, and it goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from ctd.reasoning import prompts
from ctd.reasoning.completions import Completion
from ctd.reasoning.generate import Limits, generate
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.sampling import Sampling

if TYPE_CHECKING:
    from ctd.reasoning.serve import Server
    from ctd.retrieval.index import LabelIndex

CLOSED = 64  # labels: a space of no more is shown whole
CANDIDATES = 32  # retrieved labels that are shown of a larger one
ANSWER_TOKENS = 128  # of a forced answer at most
BATCH_TOKENS = 24_576
GROUP = 16  # documents that are asked together
ANSWER = "Labels:\n"
LIBRARYS_OWN = {"temperature": 1.0, "top_p": 1.0, "top_k": 50, "repetition_penalty": 1.0}  # where a model says nothing
PROMPT = """Here are the labels that there are:
{labels}

{document}
{task} write "Labels:" and list the labels that describe the document, the best first, each exactly as above."""
THINK = "Which of these labels describe the document? First think it through, in writing. Then"
AT_ONCE = "Which of these labels describe the document? Answer at once:"


@dataclass(frozen=True)
class Written:
    """What a model wrote after its prompt.

    begun: the text before a forced answer, with the forced heading; "" where the answer was not forced.
    completion: the rest of its text, or all of it.
    n_tokens: how many it wrote in all.
    forced: whether it had spent its tokens and was made to answer.
    """

    begun: str
    completion: Completion
    n_tokens: int
    forced: bool


def own_sampling(language_model: LanguageModel | Server, max_tokens: int, seed: int = 0) -> Sampling:
    """How a model is to draw by its own generation settings; greedily where these say so, or where there are none.

    max_tokens: written after a prompt at most.
    seed: of what is drawn.
    """
    config = language_model.model.generation_config if isinstance(language_model, LanguageModel) else None
    drawn: dict[str, Any] = {name: getattr(config, name, None) for name in LIBRARYS_OWN}
    values: dict[str, Any] = {
        name: default if drawn[name] is None else drawn[name] for name, default in LIBRARYS_OWN.items()
    }
    penalty = values["repetition_penalty"]
    if not getattr(config, "do_sample", None):
        return Sampling(max_tokens, seed=seed, repetition_penalty=penalty)
    return Sampling(max_tokens, values["temperature"], values["top_p"], seed, (), int(values["top_k"]), penalty)


def shown(
    documents: Sequence[str], index: LabelIndex, candidates: Sequence[Sequence[int]] | None = None, seed: int = 0
) -> list[list[int]]:
    """The labels that each document's prompt shows, in an order drawn by seed.

    All labels of a small space, in one order; of a larger one those retrieved for the document, gold or not.

    documents: their texts.
    index: over the label space.
    candidates: the labels to show of each document, in place of these.
    seed: of the orders.
    """
    if candidates is None and len(index.space) <= CLOSED:
        return [np.random.default_rng(seed).permutation(len(index.space)).tolist()] * len(documents)
    if candidates is None:
        candidates = index.search(list(documents), CANDIDATES)[1].tolist()
    rows = ([int(label) for label in row if label >= 0] for row in candidates)
    return [np.random.default_rng((seed, n)).permutation(row).astype(int).tolist() for n, row in enumerate(rows)]


def prompt(
    document: str, labels: Sequence[str], tokenizer: PreTrainedTokenizerBase | None, at_once: bool = False
) -> str:
    """What a model is asked about a document, in its own chat template where it has one.

    document: on one line; its line breaks become spaces.
    labels: texts of the labels that are shown, in this order.
    tokenizer: the model's; None for a server that comes without one.
    at_once: ask for the answer alone.
    """
    listed = "\n".join(f"- {label}" for label in labels)
    task = AT_ONCE if at_once else THINK
    return prompts.in_chat(PROMPT.format(labels=listed, document=prompts.plain(document), task=task), tokenizer)


def groups(n_documents: int, seed: int = 0) -> list[tuple[slice, int]]:
    """Which documents are asked together, and the seed of each group: few documents are asked as they are among more.

    n_documents: how many there are.
    seed: of the first group; each of the others has the next one.
    """
    return [(slice(start, start + GROUP), seed + n) for n, start in enumerate(range(0, n_documents, GROUP))]


def think(
    language_model: LanguageModel | Server,
    questions: Sequence[str],
    max_tokens: int,
    seed: int = 0,
    desc: str = "reasoning",
) -> list[Written]:
    """Let a model think and answer; an answer is forced where its tokens are spent before it has ended.

    questions: prompts.
    max_tokens: of thought and answer, before an answer is forced.
    seed: of what is drawn.
    desc: what the progress bar says.
    """
    sampling, limits = own_sampling(language_model, max_tokens, seed), Limits(BATCH_TOKENS)
    thoughts = generate(language_model, questions, sampling, limits, desc=desc)
    begun = {row: forced(thought.text) for row, thought in enumerate(thoughts) if not thought.finished}
    prompts = [questions[row] + beginning for row, beginning in begun.items()]
    sampling = own_sampling(language_model, ANSWER_TOKENS, seed)
    answers = dict(zip(begun, generate(language_model, prompts, sampling, limits, desc=f"{desc}, forced"), strict=True))
    return [
        Written(begun[row], answers[row], thought.n_tokens + answers[row].n_tokens, True)
        if row in answers
        else Written("", thought, thought.n_tokens, False)
        for row, thought in enumerate(thoughts)
    ]


def answer(
    language_model: LanguageModel | Server,
    questions: Sequence[str],
    max_tokens: int,
    seed: int = 0,
    desc: str = "answering",
) -> list[Written]:
    """Let a model answer at once: its text begins with "Labels:".

    questions: prompts that ask for the answer alone.
    max_tokens: of an answer, which has `ANSWER_TOKENS` at most.
    seed: of what is drawn.
    desc: what the progress bar says.
    """
    sampling = own_sampling(language_model, min(max_tokens, ANSWER_TOKENS), seed)
    limits = Limits(BATCH_TOKENS)
    answers = generate(language_model, [question + ANSWER for question in questions], sampling, limits, desc=desc)
    return [Written(ANSWER, completion, completion.n_tokens, False) for completion in answers]


def forced(thought: str) -> str:
    """A thought that did not end, its block closed where it has opened one, and the heading of an answer."""
    closed = "\n</think>" if "<think>" in thought and "</think>" not in thought else ""
    return f"{thought.rstrip()}{closed}\n\n{ANSWER}"
