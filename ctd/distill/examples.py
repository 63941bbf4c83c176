"""What a model learns from: token ids of prompt and target, and the batches of each step.

Notes: batches are a function of examples, settings and seed alone, so that a killed run goes on as it would have.
b examples of a batch, s tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ctd.distill.settings import Settings
from ctd.reasoning.token_spans import Span, tokenize
from ctd.reasoning.traces import ANSWER, Trace

IGNORED = -100  # what cross_entropy leaves out


class Example(NamedTuple):
    """Token ids of prompt and target in a row. The first token is never learned: nothing stands before it.

    ids: the tokens.
    n_prompt: how many of them are the prompt, which is read and not learned.
    only_read: spans of the target (first token, one past the last) that are read and not learned either.
    weights: spans of the target and what their tokens count in the loss; others count 1.
    trace: the number of the experiment's annotated trace that it is whole; -1 for any other text.
    paired: another text about the same document, where a loss reads both: a worse one, or one that tells more.
    value: what the text is worth to a loss of samples: its advantage over others.
    """

    ids: Sequence[int]
    n_prompt: int
    only_read: tuple[tuple[int, int], ...] = ()
    weights: tuple[tuple[int, int, float], ...] = ()
    trace: int = -1
    paired: Any = None
    value: float = 0.0


class Batch(NamedTuple):
    """Examples side by side, padded on the right: nothing looks to the right, so no mask is needed.

    ids: token ids; padding is 0.
    targets: what should follow each token, -100 where nothing is learned.
    rows: which examples they are, in the order of `ids`.
    done: the fraction of the training's steps that were taken before.
    weights: what each target counts in the loss; None where all count 1.
    """

    ids: Int[Tensor, "b s"]
    targets: Int[Tensor, "b s"]
    rows: tuple[int, ...]
    done: float = 0.0
    weights: Float[Tensor, "b s"] | None = None

    @property
    def n_targets(self) -> int:
        """How many tokens are learned."""
        return int((self.targets != IGNORED).sum())


def example(prompt: str, text: str, tokenizer: PreTrainedTokenizerBase, only_read: Sequence[Span] = ()) -> Example:
    """Prompt and text as tokens, with an end token.

    prompt: what the model is given.
    text: what it learns to write.
    only_read: characters of the text whose tokens are not learned.
    Raises ValueError for a tokenizer without an end token.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no end token (eos_token), so a text could not be ended: give it one")
    prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    target = tokenize(text, tokenizer)
    spans = [target.span(*characters) for characters in only_read]
    shifted = tuple((len(prompt_ids) + start, len(prompt_ids) + end) for start, end in spans)
    return Example([*prompt_ids, *target.ids, tokenizer.eos_token_id], len(prompt_ids), shifted)


def answer_example(trace: Trace, tokenizer: PreTrainedTokenizerBase) -> Example:
    """The trace's prompt and its answer alone, without the reasoning."""
    prompt = trace.prompt + ANSWER
    prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answer = "".join(f"- {text}\n" for text in trace.answer)
    ids = tokenizer(prompt + answer, add_special_tokens=False)["input_ids"]
    return Example([*ids, tokenizer.eos_token_id], len(prompt_ids))


def check(examples: Sequence[Example]) -> None:
    """Raises ValueError without examples, for one that leaves nothing to learn, and for a span outside its target."""
    if not examples:
        raise ValueError("there is nothing to learn from: no example was given")
    for number, (ids, n_prompt, only_read, weights, *_) in enumerate(examples):
        if (n_given := max(n_prompt, 1)) >= len(ids):
            raise ValueError(
                f"example {number} leaves nothing to learn: the first {n_given} of {len(ids)} tokens are given"
            )
        if outside := [span for span in only_read if not n_given <= span[0] < span[1] <= len(ids)]:
            raise ValueError(
                f"example {number}: what is only read must lie in the target (tokens {n_given} to {len(ids) - 1}), got "
                f"{outside[0][0]}..{outside[0][1] - 1}"
            )
        if len({token for span in only_read for token in range(*span)}) == len(ids) - n_given:
            raise ValueError(f"example {number} leaves nothing to learn: all of its target is only read")
        if wrong := [span for span in weights if not (n_given <= span[0] < span[1] <= len(ids) and span[2] >= 0)]:
            raise ValueError(
                f"example {number}: weights must be at least 0 and of tokens {n_given} to {len(ids) - 1}, got "
                f"{wrong[0][2]} of {wrong[0][0]}..{wrong[0][1] - 1}"
            )


def batches(examples: Sequence[Example], settings: Settings) -> list[list[int]]:
    """The examples of each step: about equally long, `batch_tokens` at most when padded (or one example alone)."""
    rng = np.random.default_rng(settings.seed)
    steps = []
    for _ in range(settings.epochs):
        order = np.arange(len(examples))
        for start in range(0, len(order), settings.shuffle):
            rng.shuffle(order[start : start + settings.shuffle])
            window = sorted(order[start : start + settings.shuffle].tolist(), key=lambda row: len(examples[row].ids))
            groups: list[list[int]] = [[]]
            for row in window:
                if groups[-1] and (len(groups[-1]) + 1) * len(examples[row].ids) > settings.batch_tokens:
                    groups.append([])
                groups[-1].append(row)
            steps += [groups[place] for place in rng.permutation(len(groups))]
    return steps


def collate(examples: Sequence[Example], rows: Sequence[int], device: torch.device | str = "cpu") -> Batch:
    """The batch of some examples, as long as the longest of them."""
    longest = max(len(examples[row].ids) for row in rows)
    ids = np.zeros((len(rows), longest), np.int64)
    targets = np.full((len(rows), longest), IGNORED, np.int64)
    weights = np.ones((len(rows), longest), np.float32)
    for place, row in enumerate(rows):
        tokens, n_prompt, only_read, spans, *_ = examples[row]
        ids[place, : len(tokens)] = tokens
        first = max(n_prompt, 1)
        targets[place, first - 1 : len(tokens) - 1] = tokens[first:]
        for start, end in only_read:
            targets[place, start - 1 : end - 1] = IGNORED
        for start, end, weight in spans:
            weights[place, start - 1 : end - 1] = weight
    weighted = torch.from_numpy(weights).to(device) if any(examples[row].weights for row in rows) else None
    return Batch(torch.from_numpy(ids).to(device), torch.from_numpy(targets).to(device), tuple(rows), weights=weighted)
