"""The trace of any text at all: what can be made out of free-form reasoning, and the labels that a text names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import NamedTuple, Protocol

import numpy as np

from ctd.data.label_space import LabelSpace
from ctd.reasoning.traces import (
    ANSWER,
    CLOSE,
    MARKED,
    OPEN,
    Comparison,
    Mention,
    Span,
    Trace,
    first_labels,
    item_line,
    parse,
    unescape,
)
from ctd.text import normalise

MOST_GROUNDED = 256  # texts of one trace that `read` grounds: babble must not hold up a run
WORD = re.compile(r"(?:[^\W_]|[\u0300-\u036f])+")
BULLET = re.compile(r"[ \t>]*(?:[-*+•·–]|\(?\d{1,3}[.):])[ \t]+(?=\S)")
HEADING = re.compile(
    r"^[^\w\n]*(?:(?:the|my|final|predicted|assigned)[ \t]+)*(?:answers?|labels?|codes?|headings?)"
    r"(?:[ \t]+(?:is|are))?[^\w\n:]*(?::[^\w\n]*|$)",
    re.IGNORECASE | re.MULTILINE,
)
SHORTLIST = re.compile(r"^[^\w\n]*(?:shortlist|candidates)[^\w\n]*$", re.IGNORECASE | re.MULTILINE)


class Grounded(Protocol):
    """What `read` asks of a grounding (`ctd.retrieval.index.Grounding` is one)."""

    @property
    def label(self) -> int: ...


Ground = Callable[[Sequence[str]], Sequence[Grounded]]


def read(text: str, space: LabelSpace, ground: Ground | None = None, uid: str = "", document: str = "") -> Trace:
    """The trace of any text at all: as `parse` reads it, else what can be made out; no text makes it raise.

    Free-form reasoning: the CoT is the first `<think>` block, or what stands before the last heading like "Final
    answer:", or before the list at the end. Labels named in it are found by `mentions`; a list headed "Shortlist" or
    "Candidates" and lines that name two labels in [[double brackets]] are marked. The answer's list items, or its
    lines where it has no list, are labels by their text, or by the labels named in them where those make up half
    of the words; else `ground` places them; without it they are the labels named in them, or are kept as they stand.

    ground: texts to label numbers, such as `LabelIndex.ground`; asked once, for at most 256 texts.
    """
    text = text.encode("utf-8", "replace").decode("utf-8")
    try:
        return parse(text, space, uid, document)
    except ValueError as error:
        why = str(error)
    cot, rest = _halves(text)
    cot = cot.strip()
    shortlist, listed = _shortlist(cot)
    compared = _compared(cot)
    marked = [*listed, *(span for _, a, b, _ in compared for span in (a, b))]
    items = [rest[span.start : span.end] for span in _items(rest)]
    place = _placer([*items, *(cot[span.start : span.end] for span in marked)], space, ground)

    whole = {span: labels[0] for span in marked if len(labels := place(cot[span.start : span.end])) == 1}
    named = [Mention(label, *span) for span, label in whole.items()]
    taken = np.zeros(len(cot) + 1, bool)
    for span in whole:
        taken[span.start : span.end] = True
    named += [mention for mention in mentions(cot, space) if not taken[mention.start : mention.end].any()]
    shift = len(OPEN)
    comparisons = [
        Comparison(line.start + shift, line.end + shift, (whole[a], whole[b]), quotes)
        for line, a, b, quotes in compared
        if a in whole and b in whole and whole[a] != whole[b]
    ]
    answer: dict[str, int | None] = {}
    for item in items:
        labels = place(item)
        answer.update({space.texts[label]: label for label in labels} if labels else {item: None})
    start = len(OPEN + cot + CLOSE + ANSWER)
    answered = []
    for written, label in answer.items():
        end = start + len(item_line(written))
        if label is not None:
            answered.append(Mention(label, start + 2, end - 1))
        start = end
    return Trace(
        uid,
        document,
        cot,
        tuple(answer),
        Span(shortlist.start + shift, shortlist.end + shift) if shortlist else None,
        tuple(comparisons),
        (*(Mention(m.label, m.start + shift, m.end + shift) for m in sorted(named, key=lambda m: m.start)), *answered),
        why if answer else f"no answer found; {why}",
    )


def _halves(text: str) -> tuple[str, str]:
    """CoT and answer of a free-form text."""
    before, closed, after = text.partition("</think>")
    opened = "<think>" in before
    cot = before.partition("<think>")[2] if opened else before
    headings = list(HEADING.finditer(after if closed else cot))
    if closed:
        after = after.partition("<think>")[0]
        return cot, after[headings[0].end() :] if headings and headings[0].end() <= len(after) else after
    for heading in reversed(headings):
        if cot[heading.end() :].strip():
            return cot[: heading.start()], cot[heading.end() :]
    if opened:
        return cot, ""
    end = len(cot)
    for line in reversed(list(_lines(cot))):
        if not BULLET.match(cot, line.start, line.end):
            break
        end = line.start
    return cot[:end], cot[end:]


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


def _compared(cot: str) -> list[tuple[Span, Span, Span, tuple[str, ...]]]:
    """Each line with two labels in double brackets: the line, the labels, and what it quotes."""
    compared = []
    for line in _lines(cot):
        marks = list(MARKED.finditer(cot, line.start, line.end))
        labels = [Span(*found.span("label")) for found in marks if found["label"] is not None]
        if len(labels) == 2:
            quotes = tuple(unescape(found["quote"]) for found in marks if found["quote"] is not None)
            compared.append((line, labels[0], labels[1], quotes))
    return compared


def _placer(texts: list[str], space: LabelSpace, ground: Ground | None) -> Callable[[str], list[int]]:
    """Text to the labels it stands for, none where that cannot be told; prepared for the given texts."""
    placed: dict[str, list[int]] = {}
    unplaced: dict[str, list[int]] = {}
    labels, known = first_labels(space), _known(space)
    for text in dict.fromkeys(texts):
        spelt = (unescape(text), unescape(text).strip(" \t*_`'\".,;"))
        label = next((labels[s] for s in spelt if s in labels), known.normal.get(normalise(spelt[0]), [None])[0])
        if label is not None:
            placed[text] = [label]
            continue
        named = mentions(text, space)
        covered = sum(len(WORD.findall(text[mention.start : mention.end])) for mention in named)
        found = list(dict.fromkeys(mention.label for mention in named))
        (placed if named and 2 * covered >= len(WORD.findall(text)) else unplaced)[text] = found
    asked = [text for text in unplaced if text.strip()][:MOST_GROUNDED] if ground else []
    if ground and asked:
        unplaced |= {text: [int(g.label)] for text, g in zip(asked, ground(asked), strict=True)}
    return lambda text: placed[text] if text in placed else unplaced[text]


def mentions(text: str, space: LabelSpace) -> list[Mention]:
    """Where a text names labels: whole words that normalise (`ctd.retrieval.index.normalise`) to a label's text.

    The longest label wins, then reading goes on behind it. One pass, with a look-up for each length that a label with
    these first two words has. Of labels that only punctuation tells apart, the one that stands there to the letter.
    """
    known = _known(space)
    runs = [(word, *found.span()) for found in WORD.finditer(text) for word in normalise(found[0]).split()]
    words = [word for word, _, _ in runs]
    found = []
    row = 0
    while row < len(words):
        lengths = chain(known.lengths.get(" ".join(words[row : row + 2]), ()), (1,))
        for length in lengths:
            labels = known.normal.get(" ".join(words[row : row + length])) if row + length <= len(words) else None
            if labels:
                start, end = runs[row][1], runs[row + length - 1][2]
                found.append(_to_the_letter(text, start, end, labels, space))
                row += length
                break
        else:
            row += 1
    return found


def _to_the_letter(text: str, start: int, end: int, labels: list[int], space: LabelSpace) -> Mention:
    """The label whose own punctuation surrounds the words; else the first, and the words alone."""
    best = Mention(labels[0], start, end)
    for label in labels:
        name = space.texts[label]
        lead = found.start() if (found := WORD.search(name)) else 0
        whole = Mention(label, start - lead, start - lead + len(name))
        if len(name) > best.end - best.start and lead <= start and text.startswith(name, whole.start):
            best = whole
        elif len(name) == best.end - best.start and text.startswith(name, start):
            return whole
    return best


class _Known(NamedTuple):
    """normal: labels by normalised text. lengths: by its first two words, how many it has, longest first."""

    normal: dict[str, list[int]]
    lengths: dict[str, tuple[int, ...]]


@lru_cache(maxsize=2)
def _known(space: LabelSpace) -> _Known:
    normal: dict[str, list[int]] = {}
    lengths: defaultdict[str, set[int]] = defaultdict(set)
    for label, text in enumerate(space.texts[: len(space)]):
        if name := normalise(text):
            normal.setdefault(name, []).append(label)
            words = name.split()
            if len(words) > 1:
                lengths[" ".join(words[:2])].add(len(words))
    shared: dict[tuple[int, ...], tuple[int, ...]] = {}
    ordered = {pair: tuple(sorted(found, reverse=True)) for pair, found in lengths.items()}
    return _Known(normal, {pair: shared.setdefault(found, found) for pair, found in ordered.items()})
