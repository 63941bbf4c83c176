"""A document with its trace as tokens, and where in them each thing stands that heads are scored and patched by.

Notes: spans are of tokens, first .. last + 1. A query predicts the token behind it: the queries of a span are those
that predict its tokens, from the token before it to the one before its last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from ctd.data.label_space import LabelSpace
from ctd.data.task import Task
from ctd.reasoning import prompts, traces
from ctd.reasoning.rank_answers import Prediction
from ctd.reasoning.traces import Span, Trace
from ctd.text import stems, words

TOPICS = "Topics: "
T_STAR = 0.5  # of the CoT, where its format marks no boundary: where the paper draws it
NO_ANCHOR, NO_COT, TOO_LONG = "no anchor", "no CoT", "longer than the model's context"


class Compared(NamedTuple):
    """A comparison: its queries, a gold label and a near miss, and where the text before it mentions each of them.

    gold, near: label numbers. gold_token, near_token: the first tokens in which their texts differ. decided: the
    queries that predict gold_token where the comparison or the answer names the gold label.
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
    """Prompt and trace of one document as token ids.

    document: its words. cot: the queries of the CoT. topics: those of its line of topics, empty where it has none.
    boundary: the first query of Phase 2, at the marked end of the
    shortlist, or at t* where none is marked. anchors: tokens of the anchors' texts. anchor_mentions: the document's
    words that share a stem with an anchor (not stop words). comparisons: those that weigh a gold label against another
    and come after both were mentioned.
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
    """One document's passage, in the prompt on which the teachers are tuned.

    gold: the labels that comparisons are to keep, such as the document's gold labels. anchors: nodes of the label
    space. Raises ValueError for a trace without a CoT, or without anchors.
    """
    if not trace.cot:
        raise ValueError(f"document {trace.uid!r} has {NO_COT}: a passage needs one")
    if not len(anchors):
        raise ValueError(f"document {trace.uid!r} has {NO_ANCHOR}: a passage needs one")
    prompt, text = prompts.plain(trace.document), traces.format(trace)
    encoded: Any = tokenizer(prompt + text, return_offsets_mapping=True, add_special_tokens=False)
    starts, ends = np.array(encoded["offset_mapping"]).T

    def tokens(start: int, end: int, shift: int = len(prompt)) -> Span:
        return Span(
            int(np.searchsorted(ends, start + shift, "right")), int(np.searchsorted(starts, end + shift, "left"))
        )

    def queries(start: int, end: int) -> Span:
        span = tokens(start, end)
        return Span(span.start - 1, span.end - 1)

    cot = queries(*trace.cot_span)
    if trace.shortlist is not None:
        boundary = queries(trace.shortlist.start, trace.shortlist.end).end
    else:
        boundary = cot.start + round(T_STAR * (cot.end - cot.start))
    line = " ".join(trace.document.split())
    begin = prompt.index(line)
    anchor_stems = {stem for anchor in anchors for stem in stems(space.texts[anchor])}
    anchored = [word for word in words(line) if word.stem in anchor_stems]
    return AnnotatedTrace(
        trace.uid,
        tuple(encoded["input_ids"]),
        tokens(begin, begin + len(line), 0),
        cot,
        queries(*_topics(trace)),
        boundary,
        tuple(token for anchor in anchors for token in _ids(f" {space.texts[anchor]}", tokenizer)),
        tuple(tokens(begin + word.start, begin + word.end, 0) for word in anchored),
        tuple(_compared(trace, set(gold), space, tokenizer, tokens, encoded["input_ids"])),
    )


def annotate_traces(
    found: Sequence[Trace],
    gold: Sequence[Sequence[int]],
    anchors: Sequence[Sequence[int]],
    space: LabelSpace,
    tokenizer: PreTrainedTokenizerBase,
    longest: int | None = None,
) -> tuple[list[AnnotatedTrace], Mapping[str, int]]:
    """Passages of the documents that have one, and how many were left out, by the reason.

    longest: tokens at most, such as the model's context.
    """
    made, left_out = [], Counter[str]()
    for trace, right, above in zip(found, gold, anchors, strict=True):
        if not trace.cot or not len(above):
            left_out[NO_ANCHOR if trace.cot else NO_COT] += 1
            continue
        one = annotate_trace(trace, right, above, space, tokenizer)
        if longest and len(one.ids) > longest:
            left_out[TOO_LONG] += 1
        else:
            made.append(one)
    return made, left_out


def annotate_task(
    task: Task,
    predictions: Sequence[Prediction],
    tokenizer: PreTrainedTokenizerBase,
    topic_depth: int = 0,
    n_topics: int = 2,
    decides: str = "answer",
    longest: int | None = None,
) -> tuple[list[AnnotatedTrace], Mapping[str, int]]:
    """Passages of what a teacher reasoned about the test documents, in their order, and how many were left out.

    topic_depth, n_topics: the anchors of a document, which are the nodes at that depth above most of its gold labels.
    decides: "answer" keeps the comparisons of a label that the teacher answers with one that it does not, "gold" those
    of a gold label. longest: as in `annotate_traces`.
    """
    right = [
        one.ranking if decides == "answer" else gold.indices.tolist()
        for one, gold in zip(predictions, task.gold("test"), strict=True)
    ]
    anchors = task.topics("test", topic_depth, n_topics)
    return annotate_traces([one.trace for one in predictions], right, anchors, task.space, tokenizer, longest)


def _topics(trace: Trace) -> Span:
    """Where the trace names its topics: characters of its text, none where it does not."""
    start = trace.cot_span.start
    if not trace.cot.startswith(TOPICS):
        return Span(start, start)
    return Span(start + len(TOPICS), start + len(trace.cot.partition("\n")[0]))


def _compared(
    trace: Trace, gold: set[int], space: LabelSpace, tokenizer: Any, tokens: Any, ids: Sequence[int]
) -> list[Compared]:
    found = []
    for start, end, labels, _ in trace.comparisons:
        right = [label for label in labels if label in gold]
        if len(right) != 1:
            continue
        near = next(label for label in labels if label not in gold)
        mentions = {label: [m for m in trace.mentions if m.label == label] for label in labels}
        before = {label: tuple(tokens(m.start, m.end) for m in mentions[label] if m.end <= start) for label in labels}
        pair = _distinguishing(space.texts[right[0]], space.texts[near], tokenizer)
        if pair is None or not all(before.values()):
            continue
        inside = [m for m in mentions[right[0]] if start <= m.start < end or m.start >= trace.answer_span.start]
        spans = [tokens(m.start, m.end) for m in inside]
        decided = [
            next(place for place in range(*span) if ids[place] == pair[0]) - 1
            for span in spans
            if pair[0] in ids[slice(*span)]
        ]
        span = tokens(start, end)
        queries = Span(span.start - 1, span.end - 1)
        found.append(Compared(queries, right[0], near, *pair, tuple(decided), before[right[0]], before[near]))
    return found


def _distinguishing(gold: str, near: str, tokenizer: Any) -> tuple[int, int] | None:
    """The first tokens in which two labels' lines differ; None where they do not."""
    ids = [_ids(f"- {text}\n", tokenizer) for text in (gold, near)]
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*ids, strict=False)))
    return (ids[0][shared], ids[1][shared]) if shared < min(map(len, ids)) else None


def _ids(text: str, tokenizer: Any) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]
