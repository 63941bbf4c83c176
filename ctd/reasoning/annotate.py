"""A document and its trace as tokens, with the spans that heads are scored and patched by.

Notes: spans are of tokens, first .. last + 1. A query is the place that predicts the next token, so the queries of a
span run from the token before it to its last token but one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from ctd.data.label_space import LabelSpace
from ctd.data.task import Task
from ctd.reasoning import prompts
from ctd.reasoning.judgements import Judged, TraceText, judgements
from ctd.reasoning.rank_answers import Prediction
from ctd.reasoning.sentences import sentences
from ctd.reasoning.token_spans import Span, TokenizedText, tokenize
from ctd.reasoning.traces import Trace
from ctd.text import stems, words

TOPICS = "Topics: "
T_STAR = 0.5  # of the CoT, where its format marks no boundary: where the paper draws it
NO_ANCHOR, NO_COT, TOO_LONG = "no anchor", "no CoT", "longer than the model's context"


class Compared(NamedTuple):
    """A comparison of a gold label with a near miss.

    queries: the queries of its sentence.
    gold: the gold label's number.
    near: the near miss's number.
    gold_token: the first token in which the gold label's text differs from the near miss's.
    near_token: the near miss's token at that place.
    decided: the query that predicts gold_token where the comparison names the gold label; empty where it names the near
        miss first, since little is left to decide then (our definition).
    gold_mentions: where the text before the comparison names the gold label.
    near_mentions: where it names the near miss.
    """

    queries: Span
    gold: int
    near: int
    gold_token: int
    near_token: int
    decided: tuple[int, ...]
    gold_mentions: tuple[Span, ...]
    near_mentions: tuple[Span, ...]


@dataclass(frozen=True)
class AnnotatedTrace:
    """Prompt and trace of one document as tokens.

    uid: of the document.
    ids: the token ids.
    document: tokens of the document.
    cot: the queries of the CoT.
    topics: the queries of its line of topics, none where it has no such line.
    boundary: the first query of Phase 2: at the marked end of the shortlist, or at t* where none is marked.
    anchors: tokens of the anchors' texts.
    anchor_mentions: the document's words that share a stem with an anchor (not stop words).
    comparisons: those that weigh a gold label against another and come after both were mentioned.
    sentences: tokens of the document's sentences, side by side.
    shortlist: tokens of the shortlist's lines, side by side; none where the trace has no shortlist.
    judgements: those of one label, the sides of comparisons among them.
    """

    uid: str
    ids: tuple[int, ...]
    document: Span
    cot: Span
    topics: Span
    boundary: int
    anchors: tuple[int, ...]
    anchor_mentions: tuple[Span, ...]
    comparisons: tuple[Compared, ...]
    sentences: tuple[Span, ...] = ()
    shortlist: tuple[Span, ...] = ()
    judgements: tuple[Judged, ...] = ()

    @property
    def early(self) -> Span:
        """The queries of Phase 1."""
        return Span(self.cot.start, self.boundary)

    def stages(self, n: int = 5) -> list[Span]:
        """The CoT's queries in n stages of about equal length, first to last."""
        ends = np.linspace(self.cot.start, self.cot.end, n + 1).round().astype(int).tolist()
        return [Span(*pair) for pair in pairwise(ends)]


def annotate_trace(
    trace: Trace, gold: Sequence[int], anchors: Sequence[int], space: LabelSpace, tokenizer: PreTrainedTokenizerBase
) -> AnnotatedTrace:
    """Prompt and trace of one document as the model read and wrote them.

    trace: one without tokens, such as a constructed trace, is tokenised after the plain prompt.
    gold: the labels that count as right; a comparison of one of them with another label is kept.
    anchors: nodes of the label space.
    tokenizer: that of the model that wrote the trace.
    Raises ValueError for a trace without a CoT, or without anchors.
    """
    if not trace.cot:
        raise ValueError(f"document {trace.uid!r} has {NO_COT}: an annotated trace needs one")
    if not len(anchors):
        raise ValueError(f"document {trace.uid!r} has {NO_ANCHOR}: an annotated trace needs one")
    prompt = trace.prompt or prompts.plain(trace.document)
    tokens = trace.tokens or tokenize(prompt + trace.text, tokenizer)
    text = TraceText(tokens, len(prompt))
    cot = text.queries(trace.cot_span)
    middle = cot.start + round(T_STAR * (cot.end - cot.start))
    document = prompts.document_span(prompt, trace.document)
    anchor_stems = {stem for anchor in anchors for stem in stems(space.texts[anchor])}
    anchored = [word for word in words(prompt[slice(*document)]) if word.stem in anchor_stems]
    return AnnotatedTrace(
        trace.uid,
        tokens.ids,
        tokens.span(*document) if document.start < document.end else Span(0, 0),
        cot,
        text.queries(_topics(trace)),
        text.queries(trace.shortlist).end if trace.shortlist else middle,
        tuple(token for anchor in anchors for token in _ids(f" {space.texts[anchor]}", tokenizer)),
        tuple(tokens.span(document.start + word.start, document.start + word.end) for word in anchored),
        tuple(_compared(trace, set(gold), space, tokenizer, text)),
        _pieces(tokens, [Span(*(document.start + end for end in span)) for span in sentences(trace.document)]),
        _pieces(tokens, [Span(*(len(prompt) + end for end in span)) for span in _lines(trace)]),
        tuple(judgements(trace, prompt, text, space, tokenizer)),
    )


def annotate_traces(
    traces: Sequence[Trace],
    gold: Sequence[Sequence[int]],
    anchors: Sequence[Sequence[int]],
    space: LabelSpace,
    tokenizer: PreTrainedTokenizerBase,
    longest: int | None = None,
) -> tuple[list[AnnotatedTrace], Mapping[str, int]]:
    """The traces that can be annotated, and how many were left out, by the reason.

    gold: labels of each trace, as in `annotate_trace`.
    anchors: nodes of each trace, as in `annotate_trace`.
    longest: tokens at most, such as the model's context.
    """
    annotated, left_out = [], Counter[str]()
    for trace, labels, nodes in zip(traces, gold, anchors, strict=True):
        if not trace.cot or not len(nodes):
            left_out[NO_ANCHOR if trace.cot else NO_COT] += 1
            continue
        whole = annotate_trace(trace, labels, nodes, space, tokenizer)
        if longest and len(whole.ids) > longest:
            left_out[TOO_LONG] += 1
        else:
            annotated.append(whole)
    return annotated, left_out


def annotate_task(
    task: Task,
    predictions: Sequence[Prediction],
    tokenizer: PreTrainedTokenizerBase,
    topic_depth: int = 0,
    n_topics: int = 2,
    decides: str = "answer",
    longest: int | None = None,
) -> tuple[list[AnnotatedTrace], Mapping[str, int]]:
    """What a teacher wrote about the test documents, annotated in their order, and how many were left out.

    topic_depth: the level of the tree at which a document's anchors lie, above most of its gold labels.
    n_topics: how many anchors a document has at most.
    decides: which labels count as right in a comparison: those that the teacher answers ("answer"), or the gold labels
        ("gold").
    longest: as in `annotate_traces`.
    """
    labels = [
        prediction.ranking if decides == "answer" else gold.indices.tolist()
        for prediction, gold in zip(predictions, task.gold("test"), strict=True)
    ]
    traces = [prediction.trace for prediction in predictions]
    return annotate_traces(traces, labels, task.topics("test", topic_depth, n_topics), task.space, tokenizer, longest)


def _topics(trace: Trace) -> Span:
    """Where the trace names its topics: characters of its text, none where it does not."""
    start = trace.cot_span.start
    if not trace.cot.startswith(TOPICS):
        return Span(start, start)
    return Span(start + len(TOPICS), start + len(trace.cot.partition("\n")[0]))


def _lines(trace: Trace) -> list[tuple[int, int]]:
    """The lines of a trace's shortlist that name a label, each with its line break: characters of its text."""
    if trace.shortlist is None:
        return []
    starts = [0, *(match.end() for match in re.finditer("\n", trace.text)), len(trace.text)]
    named = [mention.start for mention in trace.mentions if mention.start in range(*trace.shortlist)]
    return [line for line in pairwise(starts) if any(start in range(*line) for start in named)]


def _pieces(tokens: TokenizedText, spans: Sequence[tuple[int, int]]) -> tuple[Span, ...]:
    """Adjacent spans of characters as adjacent spans of tokens; a token that lies in two belongs to the second."""
    covered = [tokens.span(*span) for span in spans]
    ends = [span.start for span in covered[1:]] + [span.end for span in covered[-1:]]
    return tuple(Span(span.start, end) for span, end in zip(covered, ends, strict=True) if span.start < end)


def _compared(
    trace: Trace, gold: set[int], space: LabelSpace, tokenizer: PreTrainedTokenizerBase, text: TraceText
) -> list[Compared]:
    compared = []
    for start, end, labels, _ in trace.comparisons:
        right = [label for label in labels if label in gold]
        if len(right) != 1:
            continue
        near = next(label for label in labels if label not in gold)
        mentions = {label: [mention for mention in trace.mentions if mention.label == label] for label in labels}
        before = {label: tuple(text.span(m[1:]) for m in mentions[label] if m.end <= start) for label in labels}
        pair = _distinguishing(space.texts[right[0]], space.texts[near], tokenizer)
        if pair is None or not all(before.values()):
            continue
        named = [mention for mention in trace.mentions if start <= mention.start < end and mention.label in labels]
        first = min(named, key=lambda mention: mention.start)
        places = [place for place in range(*text.span(first[1:])) if text.tokens.ids[place] == pair[0]]
        decided = tuple(place - 1 for place in places[:1] if first.label == right[0])
        queries = text.queries((start, end))
        compared.append(Compared(queries, right[0], near, *pair, decided, before[right[0]], before[near]))
    return compared


def _distinguishing(gold: str, near: str, tokenizer: Any) -> tuple[int, int] | None:
    """The first tokens in which two labels' lines differ; None where they do not."""
    ids = [_ids(f"- {text}\n", tokenizer) for text in (gold, near)]
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*ids, strict=False)))
    return (ids[0][shared], ids[1][shared]) if shared < min(map(len, ids)) else None


def _ids(text: str, tokenizer: Any) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]
