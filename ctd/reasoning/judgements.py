"""Judgements of one label at a time, and what the list that the model chooses from has beside it (our definition).

Notes: a judgement is a sentence of free text that weighs one label, or one side of a comparison: the words behind the
label named before, up to the end of this one. The list of candidates is that of the prompt or, where the prompt lists
none, the shortlist of the text. Labels that stand for a candidate are told apart by the tokens with which the judgement
would name them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from ctd.data.label_space import LabelSpace
from ctd.reasoning import free_text, prompts
from ctd.reasoning.label_search import known_labels
from ctd.reasoning.token_spans import Span, TokenizedText
from ctd.reasoning.traces import Mention, Trace
from ctd.text import normalise, stems, words

LISTED = re.compile(r"^- (\S.*)$", re.MULTILINE)  # a label in a prompt


class TraceText(NamedTuple):
    """A trace's text within the tokens of prompt and text; spans are characters of the trace's text."""

    tokens: TokenizedText
    prompt_length: int

    def span(self, span: tuple[int, int]) -> Span:
        return self.tokens.span(span[0] + self.prompt_length, span[1] + self.prompt_length)

    def queries(self, span: tuple[int, int]) -> Span:
        return self.tokens.queries(span[0] + self.prompt_length, span[1] + self.prompt_length)


class Candidate(NamedTuple):
    """A label of the list that a model chooses from.

    label: its number.
    ids: the tokens with which the judgement would name it.
    listed: tokens of its name in the list.
    evidence: the document's words that share a stem with its text (not stop words).
    """

    label: int
    ids: tuple[int, ...]
    listed: Span
    evidence: tuple[Span, ...]


class Judged(NamedTuple):
    """A judgement of one label.

    queries: those that predict its words.
    named: the first token of the label's name in it.
    own: the label that is judged.
    others: the other candidates, in the order of the list.
    """

    queries: Span
    named: int
    own: Candidate
    others: tuple[Candidate, ...]

    @property
    def choices(self) -> list[tuple[int, int, int]]:
        """Each other candidate whose name differs: the place in the name where it does, the own token and its token."""
        apart = [(_common(self.own.ids, other.ids), other.ids) for other in self.others]
        return [
            (place, self.own.ids[place], ids[place]) for place, ids in apart if place < min(len(self.own.ids), len(ids))
        ]

    def of_another(self) -> Judged:
        """The same words as a judgement of the candidate that follows in the list: a control."""
        first, *rest = self.others
        return self._replace(own=first, others=(*rest, self.own))


def judgements(
    trace: Trace, prompt: str, text: TraceText, space: LabelSpace, tokenizer: PreTrainedTokenizerBase
) -> list[Judged]:
    """The judgements of labels that the list of candidates has, beside at least one other.

    prompt: what stands before the trace's text.
    text: both as tokens.
    """
    places = _sentences(trace)
    listed = _in_prompt(prompt, space, text.prompt_length) or _in_shortlist(trace)
    if not places or len(listed) < 2:
        return []
    evidence = _evidence(trace, prompt, space, listed, text)
    judged = []
    for span, mention in places:
        if mention.label not in listed or listed[mention.label][1] > span.start:
            continue
        name = text.span(mention[1:])
        spelled = _spelling(trace, mention, name, text)
        candidates = {
            label: Candidate(
                label, _ids(spelled, space.texts[label], tokenizer), text.span(place), evidence.get(label, ())
            )
            for label, place in listed.items()
        }
        order = [*listed]
        behind = order.index(mention.label)
        others = tuple(candidates[label] for label in (*order[behind + 1 :], *order[:behind]))
        own = candidates[mention.label]._replace(ids=text.tokens.ids[slice(*name)])
        if (whole := Judged(text.queries(span), name.start, own, others)).choices:
            judged.append(whole)
    return judged


def _sentences(trace: Trace) -> list[tuple[Span, Mention]]:
    """The words of each judgement, and where it names its label."""
    sentences = []
    for comparison in trace.comparisons:
        inside = [at for at in trace.mentions if comparison.start <= at.start and at.end <= comparison.end]
        first = {at.label: at for at in reversed(inside) if at.label in comparison.labels}
        start = comparison.start
        for mention in sorted(first.values(), key=lambda at: at.start):
            sentences.append((Span(start, mention.end), mention))
            start = mention.end
    for verdict in free_text.verdicts(trace) if trace.error == free_text.FREE else ():
        span = Span(verdict.start, verdict.end)
        named = (at for at in trace.mentions if at.label == verdict.label and at.start in range(*span))
        sentences.append((span, next(named)))
    return sorted(sentences)


def _in_prompt(prompt: str, space: LabelSpace, prompt_length: int) -> dict[int, Span]:
    """The labels that a prompt lists, and where, counted from the end of the prompt: places are negative."""
    listed: dict[int, Span] = {}
    for line in LISTED.finditer(prompt):
        for label in known_labels(space).normal.get(normalise(line[1]), ()):
            if space.texts[label] == line[1]:
                listed.setdefault(label, Span(line.start(1) - prompt_length, line.end(1) - prompt_length))
    return listed


def _in_shortlist(trace: Trace) -> dict[int, Span]:
    """The labels of a text's shortlist, and where it names them first."""
    inside = range(*trace.shortlist) if trace.shortlist and trace.error != free_text.FREE else range(0)
    return {at.label: Span(at.start, at.end) for at in reversed(trace.mentions) if at.start in inside}


def _evidence(
    trace: Trace, prompt: str, space: LabelSpace, labels: Mapping[int, Span], text: TraceText
) -> dict[int, tuple[Span, ...]]:
    """For each label, the document's words that share a stem with its text."""
    start, end = prompts.document_span(prompt, trace.document)
    places = [(word.stem, text.tokens.span(start + word.start, start + word.end)) for word in words(prompt[start:end])]
    by_label = {label: stems(space.texts[label]) for label in labels}
    return {label: tuple(span for stem, span in places if stem in known) for label, known in by_label.items()}


class _Spelling(NamedTuple):
    """How a judgement would write a label in place of its own: what its first token has before it, and its case."""

    lead: str
    lower: bool


def _spelling(trace: Trace, mention: Mention, name: Span, text: TraceText) -> _Spelling:
    start = mention.start + text.prompt_length
    lead = text.tokens.text[text.tokens.offsets[name.start][0] : start]
    return _Spelling(lead, trace.text[mention.start].islower())


def _ids(spelled: _Spelling, label: str, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    first = label[:1].upper()
    if spelled.lower and label[1:2].islower():
        first = label[:1].lower()
    cased = first + label[1:]
    return tuple(tokenizer(spelled.lead + cased, add_special_tokens=False)["input_ids"])


def _common(ids: Sequence[int], others: Sequence[int]) -> int:
    """How many first tokens two names share."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ids, others, strict=False)))
