"""What a teacher wrote, read as a trace, and its answer as a ranking of labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ctd.reasoning import read_text, traces
from ctd.reasoning.completions import Completion
from ctd.reasoning.traces import Trace
from ctd.retrieval.index import LabelIndex
from ctd.retrieval.shortlists import as_array

ITEM = re.compile(r"^- (.*\S.*)$", re.MULTILINE)


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


def rank(
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
        read_text.read(text, index.space, _Asked(unknown))
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
        trace = read_text.read(text, index.space, lambda asked: [grounded[item] for item in asked], uid, document)
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


def summary(predictions: Sequence[Prediction]) -> pd.DataFrame:
    """What was written, counted: one row a fact, columns fact, value and unit."""
    n = len(predictions)
    items = sum(one.n_items for one in predictions)
    errors = [one.trace.error for one in predictions]
    facts = [
        ("documents", n, "documents"),
        ("ended by itself", sum(one.finished for one in predictions) / n, "fraction"),
        ("in the format to the letter", errors.count("") / n, "fraction"),
        ("rank with an error, kept", sum(bool(error) for error in errors), "documents"),
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
