"""What a teacher wrote, read as a trace, and its answer as a ranking of labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from ctd.reasoning import free_text, read_text, traces
from ctd.reasoning.completions import Completion
from ctd.reasoning.natural import Written
from ctd.reasoning.token_spans import Span, TokenizedText, tokenize
from ctd.reasoning.traces import Trace
from ctd.retrieval.index import Grounding, LabelIndex
from ctd.retrieval.shortlists import as_array

ITEM = re.compile(r"^- (.*\S.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Prediction:
    """What a teacher wrote about one document, and its answer as a ranking.

    trace: what it wrote.
    ranking: labels of the answer, the surest first: shortlisted labels before others, each group by the log-probability
        of the label where shortlist and answer write it, given all text before it (our definition). In the order
        written where a server gives no log-probabilities.
    refined: the same by the answer alone, which is all that a model writes when a shortlist is handed to it.
    n_tokens: how many tokens were written.
    finished: whether the text ended by itself.
    n_items: lines of the answer.
    n_exact: those that are a label to the letter; the others were grounded.
    scores: for each label of the ranking that log-probability (nats); empty where a server gives none.
    forced: whether the answer had to be forced; None for a model that is never forced. What such a model writes freely
        is ranked as its answer lists it.
    """

    trace: Trace
    ranking: tuple[int, ...]
    refined: tuple[int, ...]
    n_tokens: int
    finished: bool
    n_items: int
    n_exact: int
    scores: tuple[float, ...] = ()
    forced: bool | None = None


def rank(
    completions: Sequence[Completion],
    prompts: Sequence[str],
    beginnings: Sequence[str],
    documents: Sequence[str],
    index: LabelIndex,
    uids: Sequence[str],
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> list[Prediction]:
    """Completions as traces and rankings; whatever was written, each document is kept.

    completions: what was written after prompt and beginning.
    prompts: what the model was given, without the beginning of its text.
    beginnings: the text that each completion goes on from.
    documents: kept with the traces.
    index: places what is written and is no label.
    uids: of the documents, kept with the traces.
    tokenizer: the model's; None for a server without one, whose traces have no tokens.
    """
    texts = [beginning + completion.text for beginning, completion in zip(beginnings, completions, strict=True)]
    drafts = [read_text.read_draft(text, index.space) for text in texts]
    items = [_answer_items(draft.text, len(beginning)) for draft, beginning in zip(drafts, beginnings, strict=True)]
    unknown: dict[str, None] = {}
    for draft, spans in zip(drafts, items, strict=True):
        unknown.update(dict.fromkeys([*draft.questions, *(draft.text[slice(*span)] for span in spans)]))
    groundings = dict(zip(unknown, index.ground(list(unknown)), strict=True)) if unknown else {}
    predictions = []
    rows = zip(drafts, items, completions, prompts, beginnings, documents, uids, strict=True)
    for draft, spans, completion, prompt, beginning, document, uid in rows:
        trace = draft.trace({text: groundings[text].label for text in draft.questions}, uid, document)
        tokens = _tokens(trace, prompt, beginning, completion, tokenizer) if tokenizer else None
        trace = replace(trace, prompt=prompt, tokens=tokens)
        answers = [groundings[draft.text[slice(*span)]] for span in spans]
        places = [Span(start - len(beginning), end - len(beginning)) for start, end in spans]
        predictions.append(_prediction(trace, answers, places, completion, len(beginning)))
    return predictions


def freely(
    written: Written,
    prompt: str,
    document: str,
    uid: str,
    labels: Sequence[int],
    index: LabelIndex,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Prediction:
    """The text of a model that reasons by itself, as a trace with its phases and as a ranking in its answer's order.

    written: its text.
    prompt: what the model was given.
    document: kept with the trace.
    uid: of the document, kept with the trace.
    labels: those that its prompt shows. An item that is none of them stands for the nearest.
    index: over the label space.
    tokenizer: as in `rank`.
    """

    def nearest(text: str) -> int:
        return int(labels[int(np.argmax(index.vectors(np.asarray(labels)) @ index.embed([text])[0]))])

    completion = written.completion
    text = written.begun + completion.text
    trace, answer = free_text.read(text, free_text.ShownLabels(index.space, labels, nearest), uid, document)
    trace = replace(trace, prompt=prompt)
    if tokenizer is not None:
        trace = replace(trace, tokens=_tokens(trace, prompt, written.begun, completion, tokenizer))
    ranking = answer.labels
    counts = (written.n_tokens, completion.finished, answer.n_items, answer.n_exact)
    return Prediction(trace, ranking, ranking, *counts, forced=written.forced)


def _prediction(
    trace: Trace, answers: Sequence[Grounding], places: Sequence[Span], completion: Completion, n_begun: int
) -> Prediction:
    """The answer's labels by their log-probability.

    answers: the items of the answer as labels.
    places: where these stand in the completion.
    n_begun: characters of the trace's text before the completion.
    """
    scores: dict[int, float] = {}
    for answer, place in zip(answers, places, strict=True):
        score = completion.logprob(*place) if completion.logprobs else float(-len(scores))
        scores.setdefault(answer.label, score)
    refined = tuple(sorted(scores, key=scores.__getitem__, reverse=True))
    shortlisted = _shortlisted(trace, completion, n_begun)
    sums = {label: (label in shortlisted, score + shortlisted.get(label, 0.0)) for label, score in scores.items()}
    ranking = tuple(sorted(refined, key=sums.__getitem__, reverse=True))
    n_exact = sum(answer.how == "exact" for answer in answers)
    logprobs = tuple(sums[label][1] for label in ranking) if completion.logprobs else ()
    return Prediction(
        trace, ranking, refined, completion.n_tokens, completion.finished, len(answers), n_exact, logprobs
    )


def _tokens(
    trace: Trace, prompt: str, beginning: str, completion: Completion, tokenizer: PreTrainedTokenizerBase
) -> TokenizedText:
    """Prompt and text as tokens: a text in the format as the tokenizer has it, any other as the model wrote it.

    A completion that was kept without its token ids is tokenised again.
    """
    if not trace.error or not completion.ids:
        return tokenize(prompt + trace.text, tokenizer)
    return tokenize(prompt + beginning, tokenizer).followed_by(completion.text, completion.ids, completion.offsets)


def _shortlisted(trace: Trace, completion: Completion, n_begun: int) -> dict[int, float]:
    """The log-probability with which each label of the shortlist was written; of a text out of format, nothing."""
    if trace.shortlist is None or not completion.logprobs or traces.format(trace) != trace.text:
        return {}
    written: dict[int, float] = {}
    for label, start, end in trace.mentions:
        if n_begun <= start and end <= trace.shortlist.end:
            written.setdefault(label, completion.logprob(start - n_begun, end - n_begun))
    return written


def _answer_items(text: str, n_begun: int) -> list[Span]:
    """Where the items of the last answer stand, but for those that were handed over with the text's beginning."""
    start = text.rfind(traces.ANSWER)
    items = [Span(*item.span(1)) for item in ITEM.finditer(text, start)] if start >= 0 else []
    return [item for item in items if item.start >= n_begun]


def rankings(predictions: Sequence[Prediction], places: int, refined: bool = False) -> np.ndarray:
    """The rankings as a shortlist [documents, places], -1 where the answer was shorter.

    places: how many labels to keep.
    refined: rank by the answer alone.
    """
    labels = [prediction.refined if refined else prediction.ranking for prediction in predictions]
    return as_array([ranking[:places] for ranking in labels], places)


def summary(predictions: Sequence[Prediction]) -> pd.DataFrame:
    """What was written, counted: one row a fact, columns fact, value and unit."""
    n = len(predictions)
    errors = [prediction.trace.error for prediction in predictions]
    in_format = [
        ("in the format to the letter", errors.count("") / n, "fraction"),
        ("read with an error, kept", sum(map(bool, errors)), "documents"),
    ]
    n_items, n_exact = (sum(getattr(p, name) for p in predictions) for name in ("n_items", "n_exact"))
    facts = [
        ("documents", n, "documents"),
        ("ended by itself", sum(p.finished and not p.forced for p in predictions) / n, "fraction"),
        *(_free_facts(predictions) if predictions[0].forced is not None else in_format),
        ("without an answer", sum(not p.ranking for p in predictions), "documents"),
        ("answer lines that are a label to the letter", n_exact / max(n_items, 1), "fraction"),
        ("tokens written, mean", sum(p.n_tokens for p in predictions) / n, "tokens"),
        ("labels shortlisted, mean", sum(len(p.trace.shortlisted) for p in predictions) / n, "labels"),
        ("labels answered, mean", sum(len(p.ranking) for p in predictions) / n, "labels"),
    ]
    return pd.DataFrame(facts, columns=["fact", "value", "unit"])


def _free_facts(predictions: Sequence[Prediction]) -> list[tuple[str, float, str]]:
    """What free text shows, in place of its format."""
    n, traces = len(predictions), [prediction.trace for prediction in predictions]
    return [
        ("answer forced when the tokens were spent", sum(bool(p.forced) for p in predictions) / n, "fraction"),
        ("sentences that compare two labels, mean", sum(len(t.comparisons) for t in traces) / n, "sentences"),
        ("sentences that judge one label, mean", sum(len(free_text.verdicts(t)) for t in traces) / n, "sentences"),
    ]
