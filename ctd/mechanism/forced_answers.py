"""Forced answers: cut a chain of thought, ask for the answer there, and see whether the near miss is still possible.

Notes: our definition. Confusion is the cosine of the text so far with the near misses, and leaving the topic altogether
lowers it. Here the model itself is asked: after each part of the chain of thought its answer is forced, and the share
of the near miss is p(near) / (p(near) + p(gold)), with p the probability of a label's text as the first of the answer.
A model that reasons by itself is made to answer in its own form (`natural.forced`), any other in that of `traces`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm
from transformers import DynamicCache

from ctd import hardware, stats, workers
from ctd.mechanism.cot_prefixes import prefixes
from ctd.mechanism.curve_means import GRID
from ctd.reasoning import natural, traces
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.traces import Trace

NEAR_SHARE = "near_miss_share"


@dataclass(frozen=True)
class Question:
    """A document's chain of thought, and the two labels between which its answer decides.

    prompt: what the model was given before the text.
    cot: the chain of thought that is cut.
    gold: the text of a gold label.
    near: the text of a near miss of it.
    begun: what the model wrote before its chain of thought, such as a tag.
    natural: whether it reasons by itself.
    """

    prompt: str
    cot: str
    gold: str
    near: str
    begun: str = traces.OPEN
    natural: bool = False

    def asked(self, cut: str) -> str:
        """Prompt and text up to where the answer's first label is to stand, its chain of thought cut."""
        if self.natural:
            return self.prompt + natural.forced(self.begun + cut)
        return self.prompt + self.begun + cut + traces.CLOSE + traces.ANSWER


def near_shares(
    language_model: LanguageModel,
    questions: Sequence[Question],
    grid: Float[np.ndarray, " g"] = GRID,
    desc: str = "forcing answers",
) -> Float[np.ndarray, "n g"]:
    """The share of the near miss at each t, between 0 (gold alone) and 1; NaN for a document without a CoT.

    language_model: reads the texts.
    questions: of each document.
    grid: where the chain of thought is cut, as shares of its characters.
    desc: what the progress bar says.
    """
    on_gpu = int(hardware.on_accelerator(language_model.model))
    with tqdm(total=len(questions), desc=desc, unit=" documents", delay=1) as bar:
        rows = list(workers.run(_shares, questions, (language_model, grid), workers=on_gpu, bar=bar))
    return np.array(rows).reshape(len(questions), len(grid))


@torch.inference_mode()
def _shares(shared: tuple[LanguageModel, Float[np.ndarray, " g"]], question: Question) -> Float[np.ndarray, " g"]:
    """The whole text is read once. Cuts follow from the last to the first, each from what it shares with the text.

    A model whose attention slides forgets what a cut would go back to, and reads every cut anew.
    """
    language_model, grid = shared
    if not question.cot.strip():
        return np.full(len(grid), np.nan)
    model, tokenizer = language_model.model, language_model.tokenizer
    whole = _ids(tokenizer, question.prompt + question.begun + question.cot)
    labels = [_ids(tokenizer, traces.item_line(text)) for text in (question.gold, question.near)]
    cache = DynamicCache(config=model.config)
    slides = any(cache.is_sliding)
    n_shared, shares = (0 if slides else len(whole)), []
    if not slides:
        model(input_ids=torch.tensor([whole], device=model.device), past_key_values=cache, logits_to_keep=1)
        cache.batch_repeat_interleave(len(labels))
    for cut in reversed(prefixes(question.cot, grid)):
        ids = _ids(tokenizer, question.asked(cut))
        n_shared = min(n_shared, _common(whole, ids))
        if not slides:
            cache.crop(n_shared - cache.get_seq_length())
        gold, near = _logprobs(model, None if slides else cache, ids[n_shared:], labels)
        shares.append(1 / (1 + np.exp(np.clip(gold - near, -50, 50))))
    return np.array(shares[::-1])


def _logprobs(model: Any, cache: DynamicCache | None, ids_read: list[int], labels: Sequence[list[int]]) -> list[float]:
    """ln p of each label's tokens after what the cache holds, if there is one, and what is asked."""
    longest = max(map(len, labels))
    rows = [ids_read + label + label[-1:] * (longest - len(label)) for label in labels]
    ids = torch.tensor(rows, device=model.device)
    logits = (
        model(input_ids=ids, past_key_values=cache, use_cache=cache is not None)
        .logits[:, len(ids_read) - 1 : -1]
        .float()
        .log_softmax(-1)
    )
    words: Float[Tensor, "labels n"] = logits.gather(2, ids[:, len(ids_read) :, None])[..., 0]
    return [float(row[: len(label)].sum()) for row, label in zip(words, labels, strict=True)]


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _common(ids: Sequence[int], others: Sequence[int]) -> int:
    """How many first tokens two texts share, one left over to be read."""
    same = next((place for place, pair in enumerate(zip(ids, others, strict=False)) if pair[0] != pair[1]), len(ids))
    return min(same, len(others) - 1)


def falls(
    shares: Float[np.ndarray, "n g"], boundaries: Float[np.ndarray, " n"], grid: Float[np.ndarray, " g"] = GRID
) -> Float[np.ndarray, " n"]:
    """How far the share falls from the end of Phase 1 to the end of the text; NaN where either is not known.

    boundaries: t* of each document, the end of its shortlist.
    """
    at = [
        np.interp(t, grid, row) if np.isfinite(t) and np.isfinite(row).all() else np.nan
        for t, row in zip(boundaries, shares, strict=True)
    ]
    return np.array(at) - shares[:, -1]


def fallen(falls: Mapping[str, Float[np.ndarray, " n"]], seed: int = 0) -> pd.DataFrame:
    """The mean fall of each text, and that of the first minus each other's, over the documents in which all are known.

    falls: by text, the teacher's own first, then controls.
    seed: draws the bootstrap's samples.
    Returns columns text; control and baseline, how a result names it; value, low, high, n. No rows where no document
    is known.
    """
    (of_teacher, fall), *controls = falls.items()
    known = np.isfinite(np.stack(list(falls.values()))).all(axis=0)
    amounts: list[tuple[str, str | None, str | None, Float[np.ndarray, " n"]]] = [(of_teacher, None, None, fall)]
    for name, other in controls:
        amounts += [(name, name, None, other), (f"{of_teacher} minus {name}", None, name, fall - other)]
    rows = [
        (text, control, baseline, *stats.bootstrap_mean(amount[known], seed=seed).scalar, int(known.sum()))
        for text, control, baseline, amount in amounts
        if known.any()
    ]
    return pd.DataFrame(rows, columns=["text", "control", "baseline", "value", "low", "high", "n"])


def curve(
    series: str, shares: Float[np.ndarray, "n g"], grid: Float[np.ndarray, " g"] = GRID, seed: int = 0
) -> pd.DataFrame:
    """The mean share at each t, in the columns of `Trajectories.table` with a series: what a picture takes."""
    known = shares[np.isfinite(shares).all(axis=1)]
    means = stats.bootstrap_mean(known, seed=seed)
    rows = [(series, NEAR_SHARE, float(t), *means[place].scalar, len(known)) for place, t in enumerate(grid)]
    return pd.DataFrame(rows, columns=["series", "metric", "t", "estimate", "low", "high", "n"])


def weighed(trace: Trace, gold: Collection[int]) -> tuple[int, int] | None:
    """The gold label and the near miss that a trace weighs first against each other; None where it weighs no such two.

    gold: the document's gold labels.
    """
    for comparison in trace.comparisons:
        right = [label for label in comparison.labels if label in gold]
        if len(right) == 1:
            (near,) = set(comparison.labels) - set(right)
            return right[0], near
    return None


def question(trace: Trace, cot: str, gold: str, near: str, natural: bool) -> Question:
    """What a model is asked about the document of a trace, with a chain of thought in place of its own.

    cot: its own, or a control.
    gold, near, natural: as in `Question`.
    """
    begun = trace.text[: trace.cot_span.start] if natural else traces.OPEN
    return Question(trace.prompt, cot, gold, near, begun, natural)
