"""The trace of any text at all: what can be made out of free-form reasoning, and the labels that a text names.

A text in the format is read by `trace_parser.parse`. In any other, the CoT is the first `<think>` block, or what stands
before the last heading like "Final answer:", or before the list at the end. Labels named in it are found by `mentions`;
a list headed "Shortlist" or "Candidates" and lines that name two labels in [[double brackets]] are marked. The
answer's list items (its lines where it has no list) are labels by their text, or by the labels named in them where
those make up half of the words. Any other item is a question for a grounding, such as `LabelIndex.ground`; without one
it stands for the labels named in it, or is kept as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np

from ctd.data.label_space import LabelSpace
from ctd.reasoning.label_search import WORD, known_labels, mentions
from ctd.reasoning.token_spans import Span
from ctd.reasoning.trace_parser import first_labels, parse
from ctd.reasoning.traces import MARKED, Comparison, FreeForm, Mention, Trace, unescape
from ctd.text import normalise

MOST_GROUNDED = 256  # texts of one trace that `read` grounds: babble must not hold up a run
BULLET = re.compile(r"[ \t>]*(?:[-*+•·–]|\(?\d{1,3}[.):])[ \t]+(?=\S)")
HEADING = re.compile(
    r"^[^\w\n]*(?:(?:the|my|final|predicted|assigned)[ \t]+)*(?:answers?|labels?|codes?|headings?)"
    r"(?:[ \t]+(?:is|are))?[^\w\n:]*(?::[^\w\n]*|$)",
    re.IGNORECASE | re.MULTILINE,
)
NOWHERE = Span(0, 0)
SHORTLIST = re.compile(r"^[^\w\n]*(?:shortlist|candidates)[^\w\n]*$", re.IGNORECASE | re.MULTILINE)


class Grounded(Protocol):
    """What `read` needs of a grounding (`ctd.retrieval.index.Grounding` is one)."""

    @property
    def label(self) -> int: ...


Ground = Callable[[Sequence[str]], Sequence[Grounded]]


def read(text: str, space: LabelSpace, ground: Ground | None = None, uid: str = "", document: str = "") -> Trace:
    """The trace of any text at all; no text makes it raise.

    ground: texts to labels; called once, for at most 256 texts.
    uid: of the document, kept with the trace.
    document: kept with the trace.
    """
    draft = read_draft(text, space)
    if ground is None or not draft.questions:
        return draft.trace({}, uid, document)
    labels = [int(grounded.label) for grounded in ground(draft.questions)]
    return draft.trace(dict(zip(draft.questions, labels, strict=True)), uid, document)


@dataclass(frozen=True)
class Draft:
    """A text that has been read as far as that goes without a grounding.

    text: what was written.
    space: the label space.
    parsed: the trace of a text in the format, else None.
    error: why the text is not in the format.
    cot: where it stands in the text.
    answer: where it stands in the text.
    items: of the answer, by position in the text.
    shortlist: where it stands in the text, None where none is marked.
    listed: the shortlist's items.
    compared: comparisons.
    placed: the labels that an item stands for, with their places in it.
    unplaced: of an item that may stand for another label, the labels that it names.
    """

    text: str
    space: LabelSpace
    parsed: Trace | None = None
    error: str = ""
    cot: Span = NOWHERE
    answer: Span = NOWHERE
    items: tuple[Span, ...] = ()
    shortlist: Span | None = None
    listed: tuple[Span, ...] = ()
    compared: tuple[_Compared, ...] = ()
    placed: Mapping[str, list[Mention]] = field(default_factory=dict)
    unplaced: Mapping[str, list[Mention]] = field(default_factory=dict)

    @property
    def questions(self) -> list[str]:
        """Texts that stand for no known label: what a grounding is to place."""
        return [text for text in self.unplaced if text.strip()][:MOST_GROUNDED]

    def trace(self, grounded: Mapping[str, int], uid: str = "", document: str = "") -> Trace:
        """The trace.

        grounded: labels of the questions; a question without one stands for the labels named in it.
        uid: of the document, kept with the trace.
        document: kept with the trace.
        """
        if self.parsed is not None:
            return replace(self.parsed, uid=uid, document=document)
        answer: dict[str, None] = {}
        answered = []
        for item in self.items:
            mentions = self._labels(item, grounded)
            for mention in mentions:
                if (text := self.space.texts[mention.label]) not in answer:
                    answered.append(mention)
                    answer[text] = None
            if not mentions:
                answer[self.text[slice(*item)]] = None
        named_in_cot, comparisons = self._marks(grounded)
        return Trace(
            uid,
            document,
            self.text[slice(*self.cot)],
            tuple(answer),
            self.shortlist,
            tuple(comparisons),
            (*sorted(named_in_cot, key=lambda mention: mention.start), *answered),
            self.error if answer else f"no answer found; {self.error}",
            FreeForm(self.text, self.cot, self.answer),
        )

    def _marks(self, grounded: Mapping[str, int]) -> tuple[list[Mention], list[Comparison]]:
        """Labels named in the CoT, and its comparisons."""
        marked = [*self.listed, *(span for line in self.compared for span in line.labels)]
        labels = {span: {mention.label for mention in self._labels(span, grounded)} for span in marked}
        whole = {span: named.pop() for span, named in labels.items() if len(named) == 1}
        taken = np.zeros(len(self.text) + 1, bool)
        for span in whole:
            taken[slice(*span)] = True
        free = _shifted(mentions(self.text[slice(*self.cot)], self.space), self.cot.start)
        named = [Mention(label, *span) for span, label in whole.items()]
        named += [mention for mention in free if not taken[mention.start : mention.end].any()]
        comparisons = [
            Comparison(*line.place, (whole[first], whole[second]), line.quotes)
            for line in self.compared
            for first, second in [line.labels]
            if first in whole and second in whole and whole[first] != whole[second]
        ]
        return named, comparisons

    def _labels(self, span: Span, grounded: Mapping[str, int]) -> list[Mention]:
        """The labels that an item stands for, by their places in the text."""
        text = self.text[slice(*span)]
        if text not in self.placed and text in grounded:
            return [Mention(grounded[text], *span)]
        return _shifted(self.placed.get(text, self.unplaced.get(text, [])), span.start)


def read_draft(text: str, space: LabelSpace) -> Draft:
    """A text read as far as that goes without a grounding."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    try:
        return Draft(text, space, parse(text, space))
    except ValueError as error:
        reason = str(error)
    cot, answer = _halves(text)
    cot = _stripped(text, cot)
    shortlist, listed = _shortlist(text[slice(*cot)])
    compared = _compared(text[slice(*cot)])
    items = _items(text[slice(*answer)])
    marked = [*listed, *(span for line in compared for span in line.labels)]
    texts = [text[slice(*_moved(span, answer.start))] for span in items]
    texts += [text[slice(*_moved(span, cot.start))] for span in marked]
    return Draft(
        text,
        space,
        None,
        reason,
        cot,
        answer,
        tuple(_moved(span, answer.start) for span in items),
        _moved(shortlist, cot.start) if shortlist else None,
        tuple(_moved(span, cot.start) for span in listed),
        tuple(line.moved(cot.start) for line in compared),
        *_placed(texts, space),
    )


class _Compared(NamedTuple):
    """A line with two labels in double brackets: its place, the labels' places, and what it quotes."""

    place: Span
    labels: tuple[Span, Span]
    quotes: tuple[str, ...]

    def moved(self, by: int) -> _Compared:
        first, second = self.labels
        return _Compared(_moved(self.place, by), (_moved(first, by), _moved(second, by)), self.quotes)


def _moved(span: Span, by: int) -> Span:
    return Span(span.start + by, span.end + by)


def _shifted(mentions: Sequence[Mention], by: int) -> list[Mention]:
    return [Mention(label, start + by, end + by) for label, start, end in mentions]


def _stripped(text: str, span: Span) -> Span:
    """The span without the white space at its ends."""
    inside = text[slice(*span)]
    start = span.start + len(inside) - len(inside.lstrip())
    return Span(start, start + len(inside.strip()))


def _halves(text: str) -> tuple[Span, Span]:
    """Where CoT and answer of a free-form text stand."""
    before, closed, after = text.partition("</think>")
    opened = "<think>" in before
    start = before.index("<think>") + len("<think>") if opened else 0
    cot = before[start:]
    if closed:
        answer = len(before) + len(closed)
        heading = next(HEADING.finditer(after), None)
        after = after.partition("<think>")[0]
        lead = heading.end() if heading and heading.end() <= len(after) else 0
        return Span(start, len(before)), Span(answer + lead, answer + len(after))
    for heading in reversed(list(HEADING.finditer(cot))):
        if cot[heading.end() :].strip():
            return Span(start, start + heading.start()), Span(start + heading.end(), len(text))
    end = len(cot)
    if not opened:
        for line in reversed(list(_lines(cot))):
            if not BULLET.match(cot, line.start, line.end):
                break
            end = line.start
    return Span(start, start + end), Span(start + end, len(text))


def _lines(text: str) -> Iterator[Span]:
    """The lines that hold more than white space, without the white space around them."""
    start = 0
    for line in text.split("\n"):
        if line.strip():
            yield Span(start + len(line) - len(line.lstrip()), start + len(line.rstrip()))
        start += len(line) + 1


def _items(text: str) -> list[Span]:
    """The list items, without their bullets; where there is no list the lines, but for those that end in a colon."""
    lines = list(_lines(text))
    bullets = [(BULLET.match(text, line.start, line.end), line) for line in lines]
    items = [Span(bullet.end(), line.end) for bullet, line in bullets if bullet]
    return items or [line for line in lines if text[line.end - 1] != ":"]


def _shortlist(cot: str) -> tuple[Span | None, list[Span]]:
    """The first list headed as a shortlist, and its items."""
    if (heading := SHORTLIST.search(cot)) is None:
        return None, []
    items = []
    for line in _lines(cot[heading.end() :]):
        line = Span(line.start + heading.end(), line.end + heading.end())
        if (bullet := BULLET.match(cot, line.start, line.end)) is None:
            break
        items.append(Span(bullet.end(), line.end))
    return (Span(heading.start(), items[-1].end), items) if items else (None, [])


def _compared(cot: str) -> list[_Compared]:
    """Each line with two labels in double brackets."""
    compared = []
    for line in _lines(cot):
        marks = list(MARKED.finditer(cot, line.start, line.end))
        labels = [Span(*mark.span("label")) for mark in marks if mark["label"] is not None]
        if len(labels) == 2:
            quotes = tuple(unescape(mark["quote"]) for mark in marks if mark["quote"] is not None)
            compared.append(_Compared(line, (labels[0], labels[1]), quotes))
    return compared


def _placed(texts: list[str], space: LabelSpace) -> tuple[dict[str, list[Mention]], dict[str, list[Mention]]]:
    """The labels that each text stands for; and, of texts for which that cannot be told, the labels named in them."""
    placed: dict[str, list[Mention]] = {}
    unplaced: dict[str, list[Mention]] = {}
    labels, known = first_labels(space), known_labels(space)
    for text in dict.fromkeys(texts):
        spelt = (unescape(text), unescape(text).strip(" \t*_`'\".,;"))
        label = next((labels[s] for s in spelt if s in labels), known.normal.get(normalise(spelt[0]), [None])[0])
        if label is not None:
            placed[text] = [Mention(label, 0, len(text))]
            continue
        named = mentions(text, space)
        covered = sum(len(WORD.findall(text[mention.start : mention.end])) for mention in named)
        (placed if named and 2 * covered >= len(WORD.findall(text)) else unplaced)[text] = named
    return placed, unplaced
