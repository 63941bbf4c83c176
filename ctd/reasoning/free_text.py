"""Free text that reasons about labels: its answer whatever the form, and the two phases as far as they show (ours).

Notes: a model that was told of no format lists its answer with bullets, numbers or commas, as JSON, or a label a line.
Only the labels that it was shown count: an item stands for those that it names, else for the nearest. Phase 1 of the
reasoning ends where the last new label is named. A sentence that weighs labels names one (a verdict) or two (a
comparison).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ctd.data.label_space import LabelSpace
from ctd.reasoning.label_search import WORD, mentions
from ctd.reasoning.read_text import BULLET, HEADING
from ctd.reasoning.sentences import sentences
from ctd.reasoning.token_spans import Span
from ctd.reasoning.traces import Comparison, FreeForm, Mention, Trace
from ctd.text import normalise

OPEN, CLOSE = "<think>", "</think>"
FREE = "free text: no format was asked for"
NO_ANSWER = "no answer found in free text"
LINE = re.compile(r"\S(?:.*\S)?")  # without the white space around it
IN_PARENTHESES = re.compile(r"\s*\([^()]*\)")
SEPARATOR = re.compile(r"[,;]")
JSON_ANSWER = re.compile(r"[\[{].*[\]}]", re.DOTALL)
WEIGHS = re.compile(
    r"\b(?:rather than|instead of|as opposed to|whereas|however|although|but not|and not|more (?:specific|likely)"
    r"|less (?:specific|likely)|better|best|match(?:es|ed)?|fits?|appl(?:y|ies)|applicable|relevant|irrelevant"
    r"|correspond(?:s|ed)?|consistent|mention(?:s|ed)?|support(?:s|ed)?|rul(?:e|es|ed|ing) out|exclud(?:e|es|ed)"
    r"|eliminat(?:e|es|ed)|confirm(?:s|ed)?|indicat(?:e|es|ed)|no evidence|absent|unrelated)\b",
    re.IGNORECASE,
)  # words with which a sentence says that a label is right or wrong


class Item(NamedTuple):
    """A piece of an answer.

    span: where it stands in the text.
    form: "item" of a list, "line" that may be a label or several with commas, or "prose", which stands for the labels
        named in it alone.
    """

    span: Span
    form: Literal["item", "line", "prose"]


class Verdict(NamedTuple):
    """A sentence that weighs one label.

    start: the first character.
    end: the character after the last.
    label: its number.
    """

    start: int
    end: int
    label: int


@dataclass(frozen=True)
class Answered:
    """An answer as labels.

    labels: in the order in which they are listed.
    places: where each of them was first named.
    n_items: pieces of the answer.
    n_exact: those that are a label to the letter.
    """

    labels: tuple[int, ...]
    places: tuple[Span, ...]
    n_items: int
    n_exact: int


class ShownLabels:
    """The labels that a model was shown; a text may name them without what stands in parentheses.

    space: the label space.
    labels: the numbers of those that were shown.
    nearest: the nearest of these labels to a text.
    """

    def __init__(self, space: LabelSpace, labels: Sequence[int], nearest: Callable[[str], int]) -> None:
        self.space, self.labels, self.nearest = space, sorted(labels), nearest
        texts = {space.texts[label]: label for label in reversed(self.labels)}
        known = {normalise(text) for text in texts}
        for text, label in list(texts.items()):
            short = IN_PARENTHESES.sub("", text).strip()
            if short and normalise(short) not in known:
                texts.setdefault(short, label)
        self._numbers = list(texts.values())
        self._spellings = LabelSpace(f"{space.name}, shown", list(texts), list(texts), len(texts))

    @property
    def texts(self) -> list[str]:
        """Their texts."""
        return [self.space.texts[label] for label in self.labels]

    @property
    def longest(self) -> int:
        """Words of the longest of them."""
        return max(len(WORD.findall(text)) for text in self._spellings.texts)

    def named(self, text: str, start: int = 0) -> list[Mention]:
        """Where a text names them.

        start: where the text begins within a longer one; places are counted in the longer one.
        """
        spelled = mentions(text, self._spellings)
        return [Mention(self._numbers[at.label], at.start + start, at.end + start) for at in spelled]


def read(text: str, shown: ShownLabels, uid: str = "", document: str = "") -> tuple[Trace, Answered]:
    """What a model wrote freely, as a trace with its phases marked, and its answer; no text makes it raise.

    shown: the labels that it was shown.
    uid: of the document, kept with the trace.
    document: kept with the trace.
    """
    text = text.encode("utf-8", "replace").decode("utf-8")
    cot, items = parts(text, shown)
    answer = answered(text, items, shown)
    named = shown.named(text[slice(*cot)], cot.start)
    whole = Span(items[0].span.start, items[-1].span.end) if items else Span(len(text), len(text))
    comparisons, _ = weighed(text, cot, named)
    marks = (*named, *(Mention(label, *place) for label, place in zip(answer.labels, answer.places, strict=True)))
    trace = Trace(
        uid,
        document,
        text[slice(*cot)],
        tuple(shown.space.texts[label] for label in answer.labels),
        phase_1(named),
        tuple(comparisons),
        marks,
        FREE if answer.labels else NO_ANSWER,
        FreeForm(text, cot, whole),
    )
    return trace, answer


def parts(text: str, shown: ShownLabels) -> tuple[Span, list[Item]]:
    """Where a text reasons, and the pieces of its answer.

    The answer is what follows a closed `<think>` block, else what follows the last heading such as "Labels:". Without
    these it is the last list, if each of its items names a label, else what follows that list. The reasoning is
    everything before the answer, without the tags.

    shown: the labels that the model was shown.
    """
    opened = text.find(OPEN) + len(OPEN) if OPEN in text else 0
    closed = text.find(CLOSE, opened)
    behind = closed + len(CLOSE) if closed >= 0 else opened

    def divided(start: int, items: list[Item]) -> tuple[Span, list[Item]]:
        return _stripped(text, opened, closed if closed >= 0 else start), items

    for heading in reversed(list(HEADING.finditer(text, behind))):
        if heading[0].lstrip()[:1] in ('"', "{"):  # a key of JSON
            continue
        colon = heading[0].rfind(":")
        start = heading.end() if colon < 0 else heading.start() + colon + 1
        if items := _pieces(text, start, shown.longest):
            return divided(heading.start(), items)
    if closed >= 0 and (items := _pieces(text, behind, shown.longest)):
        return divided(behind, items)
    last = _last_list(text, behind)
    if not last:
        return divided(len(text), [])
    if all(shown.named(text[slice(*item.span)]) for item in last):
        return divided(text.rfind("\n", 0, last[0].span.start) + 1, last)
    rest = [Item(line, "prose") for line in _lines(text, last[-1].span.end)]
    named = [item for item in rest if shown.named(text[slice(*item.span)])]
    return divided(named[0].span.start if named else len(text), named)


def _last_list(text: str, start: int) -> list[Item]:
    """The items of the last list after a place; blank lines may stand between them."""
    items: list[Item] = []
    for line in reversed(_lines(text, start)):
        bullet = BULLET.match(text, *line)
        if bullet is not None:
            items.insert(0, Item(Span(bullet.end(), line.end), "item"))
        elif items:
            break
    return [item for item in items if _has_words(text, item.span)]


def _stripped(text: str, start: int, end: int) -> Span:
    """The span without the white space at its ends."""
    inside = text[start:end]
    start += len(inside) - len(inside.lstrip())
    return Span(start, start + len(inside.strip()))


def _pieces(text: str, start: int, longest: int) -> list[Item]:
    """The pieces of the answer that begins there: JSON, the first list, or the lines of the first paragraph."""
    if strings := _of_json(text, start):
        return [Item(span, "item") for span in strings]
    behind = _lines(text, start)
    bullets = [(BULLET.match(text, *line), line) for line in behind]
    first = next((row for row, (bullet, _) in enumerate(bullets) if bullet), None)
    if first is not None:
        run = []
        for bullet, line in bullets[first:]:
            if bullet is None:
                break
            run.append(Item(Span(bullet.end(), line.end), "item"))
        return [item for item in run if _has_words(text, item.span)]
    paragraph: list[Span] = []
    for line in behind:
        if paragraph and "\n\n" in text[paragraph[-1].end : line.start]:
            break
        if _has_words(text, line):
            paragraph.append(line)
    return [Item(line, "line" if _may_be_labels(text[slice(*line)], longest) else "prose") for line in paragraph]


def _lines(text: str, start: int) -> list[Span]:
    return [Span(*line.span()) for line in LINE.finditer(text, start)]


def _has_words(text: str, span: Span) -> bool:
    return WORD.search(text, *span) is not None


def _may_be_labels(line: str, longest: int) -> bool:
    """Whether each part of a line between commas is no longer than a label, and it does not end as a sentence does."""
    return max(len(WORD.findall(part)) for part in SEPARATOR.split(line)) <= longest and line[-1] not in ".:"


def _of_json(text: str, start: int) -> list[Span]:
    """Where the strings of a JSON answer stand: those of a list, or of the lists of an object."""
    if (block := JSON_ANSWER.search(text, start)) is None:
        return []
    try:
        value = json.loads(block[0])
    except ValueError:
        return []
    listed = [value] if isinstance(value, list) else [part for part in value.values() if isinstance(part, list)]
    spans, at = [], block.start()
    for string in (item for part in listed for item in part if isinstance(item, str) and item.strip()):
        written = next((form for form in (json.dumps(string), f'"{string}"') if form in text[at:]), None)
        if written is not None:
            at = text.index(written, at)
            spans.append(Span(at + 1, at + len(written) - 1))
            at += len(written)
    return spans


def answered(text: str, items: Sequence[Item], shown: ShownLabels) -> Answered:
    """The labels that the pieces of an answer stand for.

    A piece that names labels stands for them; where they make up less than half of an item's words, the rest explains,
    and it stands for the first. An item that names none stands for the nearest label, and so does each part of a line
    between commas.
    """
    places: dict[int, Span] = {}
    exact = set(shown.texts)
    n_exact = 0
    for span, form in items:
        piece = text[slice(*span)]
        named = shown.named(piece, span.start)
        n_exact += piece.strip(" \t*_`'\".,;") in exact
        covered = sum(len(WORD.findall(text[mention.start : mention.end])) for mention in named)
        if form == "line":
            named += [Mention(shown.nearest(text[slice(*part)]), *part) for part in _between(text, span, named)]
            named.sort(key=lambda mention: mention.start)
        elif form == "item" and named and 2 * covered < len(WORD.findall(piece)):
            named = named[:1]
        elif form == "item" and not named:
            named = [Mention(shown.nearest(piece), *span)]
        for label, start, end in named:
            places.setdefault(label, Span(start, end))
    return Answered(tuple(places), tuple(places.values()), len(items), n_exact)


def _between(text: str, span: Span, named: Sequence[Mention]) -> list[Span]:
    """The parts of a line between commas that have words and name no label."""
    commas = [match.span() for match in SEPARATOR.finditer(text, *span)]
    commas = [comma for comma in commas if not any(at.start <= comma[0] < at.end for at in named)]
    starts, ends = [span.start, *(end for _, end in commas)], [*(start for start, _ in commas), span.end]
    parts = [_stripped(text, start, end) for start, end in zip(starts, ends, strict=True)]
    free = [part for part in parts if not any(part.start < at.end and at.start < part.end for at in named)]
    return [part for part in free if _has_words(text, part)]


def phase_1(named: Sequence[Mention]) -> Span | None:
    """Where a text goes through labels for the first time: from the first one named to the last that is new."""
    first = {mention.label: mention for mention in reversed(named)}
    if not first:
        return None
    return Span(named[0].start, max(mention.end for mention in first.values()))


def weighed(text: str, cot: Span, named: Sequence[Mention]) -> tuple[list[Comparison], list[Verdict]]:
    """The sentences that say whether a label fits: comparisons name two, verdicts one.

    named: where the reasoning names labels.
    """
    comparisons, verdicts = [], []
    for start, end in sentences(text[slice(*cot)]):
        span = _stripped(text, cot.start + start, cot.start + end)
        labels = tuple(dict.fromkeys(at.label for at in named if span.start <= at.start and at.end <= span.end))
        weighs = WEIGHS.search(text, *span) is not None
        if weighs and len(labels) == 2:
            comparisons.append(Comparison(*span, (labels[0], labels[1])))
        elif weighs and len(labels) == 1:
            verdicts.append(Verdict(*span, labels[0]))
    return comparisons, verdicts


def verdicts(trace: Trace) -> list[Verdict]:
    """The sentences of a trace's reasoning that weigh one label."""
    return weighed(trace.text, trace.cot_span, [at for at in trace.mentions if at.end <= trace.cot_span.end])[1]
