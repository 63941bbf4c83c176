"""A teacher reasons about documents: what it is asked, the trace that it writes, and how its answer is ranked.

Notes: a teacher tuned on the format of `ctd.reasoning.traces` gets the plain prompt and the first words of what it is
to write, which decide the mode: "trace" (the whole trace), "candidates" (the same, with a retrieved list in the
prompt), "answer" (no reasoning). Any other model is told the format in its chat template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedTokenizerBase

from ctd import hardware
from ctd.cache import DATA
from ctd.data.label_space import LabelSpace
from ctd.data.task import Task
from ctd.reasoning import architecture, models, prompts, traces
from ctd.reasoning.completions import Completion
from ctd.reasoning.generate import generate
from ctd.reasoning.grammar import LabelLists
from ctd.reasoning.models import LanguageModel
from ctd.reasoning.traces import Trace
from ctd.retrieval import encoders
from ctd.retrieval.encoders import Encoder
from ctd.retrieval.index import LabelIndex
from ctd.retrieval.shortlists import Shortlist, as_array

if TYPE_CHECKING:
    from ctd.reasoning.serve import Server

Mode = Literal["trace", "candidates", "answer"]
BEGINNING = {"trace": traces.OPEN, "candidates": traces.OPEN, "answer": traces.ANSWER}
MODES = ("answer", "candidates", "zero-shot")  # beside the trace
CANDIDATES = 16  # retrieved labels in a prompt, as in training
BATCH_TOKENS = 49_152  # on a processor: wide batches are written faster
OF_MEMORY = 16  # a batch's keys and values take one part in so many of an accelerator's, which students share
SEEN = 512  # tokens of a document that a model from elsewhere sees
N_EXAMPLES = 5  # labels that an untuned model is shown
ITEM = re.compile(r"^- (.*\S.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Teacher:
    """A model, here or behind a server, and how it is to be asked.

    tuned: it knows the format; else it is told. document_tokens: what it sees of a document (all of it where a server
    comes without a tokenizer). manifest: how it was trained, for the teachers that come with the book; else empty.
    losses: the file of its loss curve, or None.
    """

    language_model: LanguageModel | Server
    tuned: bool
    document_tokens: int
    manifest: Mapping[str, Any]
    losses: Path | None


def load(name: str, document_tokens: int = 0) -> Teacher:
    """A teacher of the book by its name, a student of `ctd.distill.export` by its folder, or any model that
    `models.load` takes.

    document_tokens: 0 for what it was trained on (512 for a model from elsewhere). Raises what `models.load` raises.
    """
    folder = DATA / name if (DATA / name).is_dir() else Path(name)
    manifest = json.loads((folder / "manifest.json").read_text()) if (folder / "manifest.json").is_file() else {}
    seen = document_tokens or manifest.get("recipe", {}).get("document_tokens", SEEN)
    losses = folder / "loss.csv"
    dtype = "float32" if name in models.ORGANISMS else "auto"
    return Teacher(models.load(name, dtype=dtype), bool(manifest), seen, manifest, losses if losses.is_file() else None)


def with_topics(task: Task, encoder: Encoder, n_clusters: int, seed: int = 0) -> tuple[Task, LabelIndex]:
    """The task under a new top level of label clusters, its coarse topics, and the index over its labels.

    n_clusters: 0 leaves the label space as it is. Raises what `LabelSpace.with_clusters` raises.
    """
    space = task.space
    if n_clusters:
        roots = np.arange(len(space.ids)) if space.parents is None else np.flatnonzero(space.parents < 0)
        if (roots < len(space)).all():
            vectors = np.asarray(encoders.encode_labels(encoder, space)[roots])
        else:
            vectors = encoder.vectors([space.texts[root] for root in roots])
        task = replace(task, space=space.with_clusters(vectors, n_clusters, seed))
    return task, LabelIndex.build(task.space, encoder)


@dataclass(frozen=True)
class Prediction:
    """What came of one document.

    ranking: labels of the answer, the one it was surest of first: those that it shortlisted before others, by the
    log-probability with which shortlist and answer were written of the label, each given all before it (our
    definition); as written where a server gives none. refined: the same by the answer alone, which is all that a model
    writes when a shortlist is handed to it.
    n_tokens: how many were written. finished: it ended by itself. n_items: lines of the answer. n_exact: those that
    are a label to the letter; the others were grounded.
    """

    trace: Trace
    ranking: tuple[int, ...]
    refined: tuple[int, ...]
    n_tokens: int
    finished: bool
    n_items: int
    n_exact: int


def reason(
    teacher: Teacher,
    documents: Sequence[str],
    index: LabelIndex,
    *,
    mode: Mode = "trace",
    candidates: Sequence[Sequence[int]] | None = None,
    begun: Sequence[str] | None = None,
    uids: Sequence[str] | None = None,
    max_tokens: int = 512,
    seed: int = 0,
    desc: str = "reasoning",
) -> list[Prediction]:
    """Each document reasoned about, in the order given.

    index: over the label space to choose from; what is written and is no label becomes the nearest label.
    candidates: retrieved labels of each document, best first, for the mode of that name. begun: what stands of each
    document's text already (see `handed`), in place of the mode's beginning. max_tokens: what it may write.
    A trace holds as much of the document as the teacher saw.
    Raises ValueError for an unknown mode, or lists of other lengths than `documents`.
    """
    if mode not in BEGINNING:
        raise ValueError(f"mode must be one of {', '.join(BEGINNING)}, got {mode!r}")
    if (candidates is None) == (mode == "candidates"):
        raise ValueError(f"candidates= goes with mode 'candidates', and with no other, got mode {mode!r}")
    for name, given in (("candidates", candidates), ("begun", begun), ("uids", uids)):
        if given is not None and len(given) != len(documents):
            raise ValueError(f"{name} needs one entry a document ({len(documents)}), got {len(given)}")
    tokenizer = teacher.language_model.tokenizer
    seen = list(documents)
    if tokenizer is not None:
        seen = [prompts.cut(document, tokenizer, teacher.document_tokens) for document in documents]
    texts = index.space.texts
    ask: Callable[..., str] = prompts.plain
    if not teacher.tuned:
        begun = begun or [""] * len(documents)
        examples = [texts[label] for label in np.linspace(0, len(index.space) - 1, N_EXAMPLES, dtype=int)]
        ask = partial(prompts.instruction, tokenizer=tokenizer, space=index.space.name, examples=examples)
    begun = begun or [BEGINNING[mode]] * len(documents)
    asked = [
        ask(document, candidates=[texts[label] for label in listed])
        for document, listed in zip(seen, candidates or [()] * len(documents), strict=True)
    ]
    written = generate(
        teacher.language_model,
        [a + b for a, b in zip(asked, begun, strict=True)],
        max_tokens=max_tokens,
        batch_tokens=BATCH_TOKENS,
        wider=_wider(teacher.language_model),
        lists=_label_lists(index.space, tokenizer) if teacher.tuned else None,
        seed=seed,
        desc=desc,
    )
    return read(written, begun, seen, index, uids or [""] * len(documents))


def _wider(language_model: LanguageModel | Server) -> int:
    """Tokens of a batch on an accelerator, for one of a kind the same: the batch decides a sum's last bit. Else 0."""
    if not isinstance(language_model, LanguageModel) or not hardware.on_accelerator(language_model.model):
        return 0
    of, bits = architecture.shape(language_model.model), torch.finfo(language_model.model.dtype).bits
    of_a_token = 2 * of.layers * of.key_heads * of.head_size * bits // 8
    return torch.cuda.get_device_properties(language_model.model.device).total_memory // OF_MEMORY // of_a_token


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
    """The documents reasoned about in another mode: "answer", "candidates", or "zero-shot".

    candidates: retrieved labels, best first, for the mode of that name. "zero-shot" asks SmolLM2-135M-Instruct as it
    comes, told the format in its prompt. Raises ValueError for another mode.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if mode == "zero-shot":
        teacher = replace(teacher, language_model=models.load(models.SMOLLM2), tuned=False)
        return reason(teacher, documents, index, max_tokens=max_tokens, seed=seed, desc=mode)
    if mode == "answer":
        return reason(teacher, documents, index, mode="answer", max_tokens=max_tokens, seed=seed, desc=mode)
    listed = [[int(label) for label in row if label >= 0] for row in candidates]
    return reason(
        teacher, documents, index, mode="candidates", candidates=listed, max_tokens=max_tokens, seed=seed, desc=mode
    )


def read(
    written: Sequence[Completion],
    begun: Sequence[str],
    documents: Sequence[str],
    index: LabelIndex,
    uids: Sequence[str],
) -> list[Prediction]:
    """Completions as traces and rankings; whatever was written, each document is kept.

    begun: the text that each completion goes on from.
    """
    texts = [start + completion.text for start, completion in zip(begun, written, strict=True)]
    unknown: dict[str, None] = {}
    for text, start in zip(texts, begun, strict=True):
        traces.read(text, index.space, _Asked(unknown))
        unknown.update(dict.fromkeys(text[first:last] for first, last in _answer_items(text, len(start))))
    grounded = dict(zip(unknown, index.ground(list(unknown)), strict=True)) if unknown else {}
    predictions = []
    for text, start, completion, document, uid in zip(texts, begun, written, documents, uids, strict=True):
        scores: dict[int, float] = {}
        spans = _answer_items(text, len(start))
        for first, last in spans:
            label = grounded[text[first:last]].label
            place = float(-len(scores))
            certainty = completion.logprob(first - len(start), last - len(start)) if completion.logprobs else place
            scores.setdefault(label, certainty)
        exact = sum(grounded[text[first:last]].how == "exact" for first, last in spans)
        trace = traces.read(text, index.space, lambda asked: [grounded[item] for item in asked], uid, document)
        refined = tuple(sorted(scores, key=scores.__getitem__, reverse=True))
        listed = _shortlisted(trace, text, completion, len(start))
        sums = {label: (label in listed, score + listed.get(label, 0.0)) for label, score in scores.items()}
        ranking = tuple(sorted(refined, key=sums.__getitem__, reverse=True))
        predictions.append(
            Prediction(trace, ranking, refined, completion.n_tokens, completion.finished, len(spans), exact)
        )
    return predictions


def _shortlisted(trace: Trace, text: str, completion: Completion, n_begun: int) -> dict[int, float]:
    """The log-probability with which each label of the shortlist was written; of a text out of format, nothing."""
    if trace.shortlist is None or not completion.logprobs or traces.format(trace) != text:
        return {}
    written: dict[int, float] = {}
    for label, start, end in trace.mentions:
        if n_begun <= start and end <= trace.shortlist.end:
            written.setdefault(label, completion.logprob(start - n_begun, end - n_begun))
    return written


class _Asked:
    """Notes what a trace would have grounded, so that all traces' questions go to the index at once."""

    def __init__(self, texts: dict[str, None]) -> None:
        self.texts = texts

    def __call__(self, asked: Sequence[str]) -> list[_Nowhere]:
        self.texts.update(dict.fromkeys(asked))
        return [_Nowhere()] * len(asked)


class _Nowhere:
    label = 0


def _answer_items(text: str, n_begun: int) -> list[tuple[int, int]]:
    """Where the items of the last answer stand, but for those that were handed over with the text's beginning."""
    start = text.rfind(traces.ANSWER)
    found = [item.span(1) for item in ITEM.finditer(text, start)] if start >= 0 else []
    return [span for span in found if span[0] >= n_begun]


def rankings(predictions: Sequence[Prediction], places: int, refined: bool = False) -> np.ndarray:
    """The rankings as a shortlist [documents, places], -1 where the answer was shorter.

    refined: those by the answer alone.
    """
    return as_array([(one.refined if refined else one.ranking)[:places] for one in predictions], places)


def handed(trace: Trace, shortlist: Sequence[int], texts: Sequence[str]) -> str:
    """The beginning of a trace whose first phase is over: its own topics, and a shortlist from elsewhere."""
    topics = trace.cot.partition("\n")[0].removeprefix("Topics:").strip()
    whole = traces.write(topics, (texts[label] for label in shortlist), (), ())
    return whole[: whole.index("Compare:\n") + len("Compare:\n")] if "Compare:\n" in whole else whole


def summary(predictions: Sequence[Prediction]) -> pd.DataFrame:
    """What was written, counted: one row a fact, columns fact, value and unit."""
    n = len(predictions)
    items = sum(one.n_items for one in predictions)
    errors = [one.trace.error for one in predictions]
    facts = [
        ("documents", n, "documents"),
        ("ended by itself", sum(one.finished for one in predictions) / n, "fraction"),
        ("in the format to the letter", errors.count("") / n, "fraction"),
        ("read with an error, kept", sum(bool(error) for error in errors), "documents"),
        ("without an answer", sum(not one.ranking for one in predictions), "documents"),
        (
            "answer lines that are a label to the letter",
            sum(one.n_exact for one in predictions) / max(items, 1),
            "fraction",
        ),
        ("tokens written, mean", sum(one.n_tokens for one in predictions) / n, "tokens"),
        ("labels shortlisted, mean", sum(len(one.trace.shortlisted) for one in predictions) / n, "labels"),
        ("labels answered, mean", sum(len(one.ranking) for one in predictions) / n, "labels"),
    ]
    return pd.DataFrame(facts, columns=["fact", "value", "unit"])


def card(manifest: Mapping[str, Any]) -> pd.DataFrame:
    """A training manifest as a table of what and value; nested entries by their path."""
    rows: list[tuple[str, str]] = []

    def walk(path: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                walk(f"{path} / {name}" if path else str(name), inner)
        elif isinstance(value, list) and value and all(isinstance(inner, Mapping) for inner in value):
            for number, inner in enumerate(value, start=1):
                walk(f"{path} / {number}", inner)
        else:
            rows.append((path, str(value)))

    walk("", manifest)
    return pd.DataFrame(rows, columns=["what", "value"])
