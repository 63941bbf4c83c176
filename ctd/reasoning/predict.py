"""A teacher is asked about documents: its prompt, the beginning of what it writes, and what comes of it.

Notes: a teacher tuned on the format of `ctd.reasoning.traces` gets the plain prompt and the first words of what it is
to write, which decide the mode: "trace" (the whole trace), "candidates" (the same, with a retrieved list in the
prompt), "answer" (no reasoning), "first" (the answer of a model that reasons after it). A model that reasons by itself
is asked as `ctd.reasoning.natural` says. Any other model is told the format in its chat template.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from ctd import hardware
from ctd.data.label_space import LabelSpace
from ctd.reasoning import architecture, models, natural, prompts, rank_answers, traces
from ctd.reasoning.generate import Limits, generate
from ctd.reasoning.grammar import LabelLists
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.rank_answers import Prediction
from ctd.reasoning.sampling import Sampling
from ctd.reasoning.teachers import Teacher
from ctd.reasoning.traces import Trace
from ctd.retrieval.index import LabelIndex
from ctd.retrieval.shortlists import Shortlist

if TYPE_CHECKING:
    from ctd.reasoning.serve import Server

Mode = Literal["trace", "candidates", "answer", "first"]

BEGINNING = {"trace": traces.OPEN, "candidates": traces.OPEN, "answer": traces.ANSWER, "first": traces.ANSWER}
STOP: dict[str, tuple[str, ...]] = {"first": (traces.OPEN,)}  # what ends a text in a mode
MODES = ("answer", "candidates", "zero-shot")  # beside the trace
CANDIDATES = 16  # retrieved labels in a prompt, as in training
BATCH_TOKENS = 49_152  # on a processor: wide batches are written faster
OF_MEMORY = 16  # a batch's keys and values take one part in so many of an accelerator's, which students share
N_EXAMPLES = 5  # labels that an untuned model is shown


@dataclass(frozen=True)
class Request:
    """What a teacher is asked for.

    mode: "trace", "candidates", "answer" or "first".
    candidates: retrieved labels of each document, best first, for the mode of that name.
    beginnings: the beginning of each document's text (see `with_shortlist`), in place of the mode's own.
    temperature: at which tokens are drawn; 0 takes the likeliest.
    after_prompt: what stands between every prompt and the text, and counts as prompt, such as pauses.
    stop: strings that end a text, in place of the mode's own.
    Raises ValueError for an unknown mode, or candidates without it.
    """

    mode: Mode = "trace"
    candidates: Sequence[Sequence[int]] | None = None
    beginnings: Sequence[str] | None = None
    temperature: float = 0.0
    after_prompt: str = ""
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in BEGINNING:
            raise ValueError(f"mode must be one of {', '.join(BEGINNING)}, got {self.mode!r}")
        if (self.candidates is None) == (self.mode == "candidates"):
            raise ValueError(f"candidates= goes with mode 'candidates', and with no other, got mode {self.mode!r}")


def reason(
    teacher: Teacher,
    documents: Sequence[str],
    index: LabelIndex,
    request: Request = Request(),
    *,
    uids: Sequence[str] | None = None,
    max_tokens: int = 512,
    seed: int = 0,
    desc: str = "reasoning",
) -> list[Prediction]:
    """Let a teacher reason about documents, in the order given.

    A trace holds as much of the document as the teacher saw.

    index: over the label space to choose from; what is written and is no label becomes the nearest label.
    request: what is asked for; a whole trace by default.
    uids: kept with the traces.
    max_tokens: written about a document at most.
    seed: as in `generate`.
    desc: what the progress bar says.
    Raises ValueError for lists of other lengths than `documents`, or what a model that reasons by itself is not asked.
    """
    candidates, beginnings = request.candidates, request.beginnings
    for name, values in (("candidates", candidates), ("beginnings", beginnings), ("uids", uids)):
        if values is not None and len(values) != len(documents):
            raise ValueError(f"{name} needs one entry a document ({len(documents)}), got {len(values)}")
    tokenizer = teacher.language_model.tokenizer
    seen = list(documents)
    if tokenizer is not None:
        seen = [prompts.cut(document, tokenizer, teacher.document_tokens) for document in documents]
    if teacher.natural:
        uids, predictions = uids or [""] * len(documents), []
        for group, group_seed in natural.groups(len(documents), seed):
            of_group = replace(request, candidates=candidates and candidates[group])
            predictions += _freely(teacher, seen[group], index, of_group, uids[group], max_tokens, group_seed, desc)
        return predictions
    prompt, texts = _prompt(teacher, index.space), index.space.texts
    questions = [
        prompt(document, candidates=[texts[label] for label in listed]) + request.after_prompt
        for document, listed in zip(seen, candidates or [()] * len(documents), strict=True)
    ]
    beginnings = beginnings or [BEGINNING[request.mode] if teacher.tuned else ""] * len(documents)
    completions = generate(
        teacher.language_model,
        [question + beginning for question, beginning in zip(questions, beginnings, strict=True)],
        Sampling(max_tokens, request.temperature, seed=seed, stop=request.stop or STOP.get(request.mode, ())),
        Limits(BATCH_TOKENS, _wide_batch_tokens(teacher.language_model)),
        _label_lists(index.space, tokenizer) if teacher.tuned else None,
        desc,
    )
    return rank_answers.rank(completions, questions, beginnings, seen, index, uids or [""] * len(documents), tokenizer)


def _freely(
    teacher: Teacher,
    documents: Sequence[str],
    index: LabelIndex,
    request: Request,
    uids: Sequence[str],
    max_tokens: int,
    seed: int,
    desc: str,
) -> list[Prediction]:
    """Let a model that reasons by itself reason or answer at once, the labels in its prompt."""
    if request.beginnings is not None or request.mode == "first":
        raise ValueError("a model that reasons by itself writes its text alone: ask it for a trace or an answer")
    labels, model = natural.shown(documents, index, request.candidates, seed), teacher.language_model
    at_once = request.mode == "answer"
    questions = [
        natural.prompt(document, [index.space.texts[label] for label in listed], model.tokenizer, at_once)
        for document, listed in zip(documents, labels, strict=True)
    ]
    ask = natural.answer if at_once else natural.think
    texts = ask(model, questions, max_tokens, seed, desc)
    return [
        rank_answers.freely(*row, index, model.tokenizer)
        for row in zip(texts, questions, documents, uids, labels, strict=True)
    ]


def _prompt(teacher: Teacher, space: LabelSpace) -> Callable[..., str]:
    """What makes a document a prompt: as it is for a tuned teacher, in an explanation of the format for any other."""
    if teacher.tuned:
        return prompts.plain
    examples = [space.texts[label] for label in np.linspace(0, len(space) - 1, N_EXAMPLES, dtype=int)]
    return partial(prompts.instruction, tokenizer=teacher.language_model.tokenizer, space=space.name, examples=examples)


def _wide_batch_tokens(language_model: LanguageModel | Server) -> int:
    """Tokens of a batch on an accelerator, for one of a kind the same: the batch decides a sum's last bit. Else 0."""
    if not isinstance(language_model, LanguageModel) or not hardware.on_accelerator(language_model.model):
        return 0
    try:
        sizes, bits = architecture.shape(language_model.model), torch.finfo(language_model.model.dtype).bits
    except ValueError:  # it can write all the same
        return 0
    bytes_of_a_token = 2 * sizes.layers * sizes.key_heads * sizes.head_size * bits // 8
    return torch.cuda.get_device_properties(language_model.model.device).total_memory // OF_MEMORY // bytes_of_a_token


@lru_cache(maxsize=2)
def _label_lists(space: LabelSpace, tokenizer: PreTrainedTokenizerBase) -> LabelLists:
    return LabelLists(space, tokenizer)


def in_mode(
    mode: str,
    teacher: Teacher,
    documents: Sequence[str],
    index: LabelIndex,
    candidates: Shortlist,
    max_tokens: int = 512,
    seed: int = 0,
) -> list[Prediction]:
    """Let a teacher reason about documents in another mode.

    mode: "answer", "candidates", or "zero-shot", which asks SmolLM2-135M-Instruct as it comes and explains the format
        in its prompt.
    candidates: retrieved labels, best first, for the mode of that name.
    max_tokens: as in `reason`.
    seed: as in `reason`.
    Raises ValueError for another mode.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    request = Request()
    if mode == "zero-shot":
        teacher = replace(teacher, language_model=models.load(models.SMOLLM2), tuned=False, natural=False)
    elif mode == "answer":
        request = Request("answer")
    else:
        request = Request("candidates", [[int(label) for label in row if label >= 0] for row in candidates])
    return reason(teacher, documents, index, request, max_tokens=max_tokens, seed=seed, desc=mode)


def with_shortlist(trace: Trace, shortlist: Sequence[int], texts: Sequence[str]) -> str:
    """The beginning of a trace whose first phase is over: its own topics, and a shortlist from elsewhere."""
    topics = trace.cot.partition("\n")[0].removeprefix("Topics:").strip()
    whole = traces.write(topics, (texts[label] for label in shortlist), (), ())
    return whole[: whole.index("Compare:\n") + len("Compare:\n")] if "Compare:\n" in whole else whole
