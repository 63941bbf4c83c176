"""Traces: what a model wrote while it chose labels, with the two phases and every label named in it marked.

The format of a trace's text (our definition), line by line; `parse` takes nothing else:

    text       = "<think>" cot "</think>" "Answer:" item+        each of these on its own line, each line ended by "\\n"
    cot        = topics "Shortlist:" item+ "Compare:" comparison*
    topics     = "Topics:" [" " prose]                           prose: anything that is no line break
    item       = "- " label                                      no label twice in a list
    comparison = words that hold two different labels as [[label]], and any number of "quotes" from the document

Every label is the text of one in the label space, letter for letter. Only what would be misread is escaped, as
`&#N;` with the character's number: a line break (10) anywhere; `"` (34) inside a quote; inside brackets `[` (91) before
another, and `]` (93) before another or at the end; `&` (38) before such an escape. Nothing else may be, so each trace
has one text.

Phase 1 (shortlisting) ends with the last item of the shortlist: the marked phase boundary t*. The prompt, the document
in it, is no part of the text. Positions are characters of `format(trace)`; `token_spans` maps them to tokens.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from ctd.cache import atomic
from ctd.data.label_space import LabelSpace
from ctd.text import normalise

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

OPEN, CLOSE, ANSWER = "<think>\n", "\n</think>\n", "Answer:\n"
MOST_GROUNDED = 256  # texts of one trace that `read` grounds: babble must not hold up a run

ESCAPE = re.compile(r"&#(10|34|38|91|93);")
IN_LINE = r"\n|&(?=#(?:10|34|38|91|93);)"
IN_MARK = IN_LINE + r"|\[(?=\[)|\](?=\]|\Z)"
IN_QUOTE = IN_LINE + '|"'
MARKED = re.compile(r'\[\[(?P<label>(?:(?!\[\[|\]\]).)+)\]\]|"(?P<quote>[^"\n]+)"')

WORD = re.compile(r"(?:[^\W_]|[\u0300-\u036f])+")
BULLET = re.compile(r"[ \t>]*(?:[-*+•·–]|\(?\d{1,3}[.):])[ \t]+(?=\S)")
HEADING = re.compile(
    r"^[^\w\n]*(?:(?:the|my|final|predicted|assigned)[ \t]+)*(?:answers?|labels?|codes?|headings?)"
    r"(?:[ \t]+(?:is|are))?[^\w\n:]*(?::[^\w\n]*|$)",
    re.IGNORECASE | re.MULTILINE,
)
SHORTLIST = re.compile(r"^[^\w\n]*(?:shortlist|candidates)[^\w\n]*$", re.IGNORECASE | re.MULTILINE)


class Span(NamedTuple):
    """Characters start .. end - 1 of a trace's text."""

    start: int
    end: int


class Mention(NamedTuple):
    """Where a label is named: its number in the label space, first character, one past the last."""

    label: int
    start: int
    end: int


class Comparison(NamedTuple):
    """A sentence that weighs two labels, in the order in which it names them, and the words it quotes."""

    start: int
    end: int
    labels: tuple[int, int]
    quotes: tuple[str, ...] = ()


class Grounded(Protocol):
    """What `read` asks of a grounding (`ctd.retrieval.index.Grounding` is one)."""

    @property
    def label(self) -> int: ...


Ground = Callable[[Sequence[str]], Sequence[Grounded]]


@dataclass(frozen=True)
class Trace:
    """A document, the CoT about it, the answer, and what is marked in them; positions are those in `format(trace)`.

    answer: label texts, in the order given. shortlist: the shortlist with its heading, None where none is marked.
    mentions: every label named in CoT and answer, by position. Of labels that share a text the first is meant.
    error: why `parse` refused the text that the trace was read from, "" for a text in the format. A trace with an
    error may still hold an answer: what could not be read at all has an error and no answer.
    Raises ValueError for a position outside the text.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    uid: str
    document: str
    cot: str
    answer: tuple[str, ...]
    shortlist: Span | None = None
    comparisons: tuple[Comparison, ...] = ()
    mentions: tuple[Mention, ...] = ()
    error: str = ""

    def __post_init__(self) -> None:
        marked: list[Span | Comparison | Mention] = [*self.comparisons, *self.mentions]
        if self.shortlist is not None:
            marked.append(self.shortlist)
        length = len(format(self))
        for mark in marked:
            if not 0 <= mark.start < mark.end <= length:
                raise ValueError(
                    f"marks of trace {self.uid!r} must lie within its {length} characters, got {mark.start}..{mark.end}"
                )

    @property
    def cot_span(self) -> Span:
        """Where the CoT stands."""
        return Span(len(OPEN), len(OPEN) + len(self.cot))

    @property
    def answer_span(self) -> Span:
        """Where the answer's items stand."""
        return Span(self.cot_span.end + len(CLOSE + ANSWER), len(format(self)))

    @property
    def boundary(self) -> float | None:
        """The marked t*: the end of the shortlist as a fraction of the CoT's characters; None where none is marked."""
        return None if self.shortlist is None else (self.shortlist.end - self.cot_span.start) / len(self.cot)

    @property
    def shortlisted(self) -> tuple[int, ...]:
        """Labels of the shortlist, in its order."""
        return () if self.shortlist is None else self._named(self.shortlist)

    @property
    def answered(self) -> tuple[int, ...]:
        """Labels of the answer, in its order; texts that are no label's are missing."""
        return self._named(self.answer_span)

    def _named(self, span: Span) -> tuple[int, ...]:
        inside = (m.label for m in self.mentions if span.start <= m.start and m.end <= span.end)
        return tuple(dict.fromkeys(inside))


def format(trace: Trace) -> str:
    """The trace's text: CoT and answer, as the model writes them after its prompt."""
    return f"{OPEN}{trace.cot}{CLOSE}{ANSWER}{''.join(_item(text) for text in trace.answer)}"


def write(topics: str, shortlist: Iterable[str], comparisons: Iterable[str], answer: Iterable[str]) -> str:
    """A text in the format from its parts: prose, label texts, sentences made with `mark` and `quote`, label texts."""
    cot = [f"Topics: {_escape(topics, IN_LINE)}\nShortlist:\n", *map(_item, shortlist), "Compare:\n"]
    cot += [f"{sentence}\n" for sentence in comparisons]
    return f"{OPEN}{''.join(cot)[:-1]}{CLOSE}{ANSWER}{''.join(map(_item, answer))}"


def mark(label: str) -> str:
    """A label's text as a comparison names it: `[[Calcium/blood]]`."""
    return f"[[{_escape(label, IN_MARK)}]]"


def quote(words: str) -> str:
    """Words of the document as a comparison quotes them: `"serum calcium"`."""
    return f'"{_escape(words, IN_QUOTE)}"'


def _item(label: str) -> str:
    return f"- {_escape(label, IN_LINE)}\n"


def _escape(text: str, pattern: str) -> str:
    return re.sub(pattern, lambda found: f"&#{ord(found[0])};", text)


def _unescape(text: str) -> str:
    return ESCAPE.sub(lambda found: chr(int(found[1])), text)


def parse(text: str, space: LabelSpace, uid: str = "", document: str = "") -> Trace:
    """The trace that a text in the format stands for: `format(parse(text, space)) == text`.

    uid, document: kept with the trace. Raises ValueError for any other text, with line number and what was expected.
    """
    reader = _Reader(text, space)
    reader.literal("<think>")
    if not re.fullmatch("Topics:(?: .+)?", reader.line):
        reader.refuse("'Topics: ...'")
    reader.advance()
    start = reader.start
    reader.literal("Shortlist:")
    _, shortlisted = reader.items("Compare:")
    reader.literal("Compare:")
    comparisons, compared = reader.comparisons("</think>")
    cot = text[len(OPEN) : reader.start - 1]
    reader.literal("</think>")
    reader.literal("Answer:")
    answer, answered = reader.items(None)
    return Trace(
        uid,
        document,
        cot,
        tuple(answer),
        Span(start, shortlisted[-1].end),
        tuple(comparisons),
        (*shortlisted, *compared, *answered),
    )


class _Reader:
    """A cursor over the lines of a text in the format; the text after the last line break is no line."""

    def __init__(self, text: str, space: LabelSpace) -> None:
        self.lines = text.split("\n")
        self.space, self.labels = space, _labels(space)
        self.row = self.start = 0

    @property
    def line(self) -> str:
        return self.lines[self.row]

    @property
    def ended(self) -> bool:
        return self.row == len(self.lines) - 1

    def advance(self) -> None:
        if self.ended:
            self.refuse("a line break")
        self.start += len(self.line) + 1
        self.row += 1

    def refuse(self, expected: str) -> NoReturn:
        shown = "the end" if self.ended and not self.line else repr(self.line[:80])
        raise ValueError(f"line {self.row + 1}: expected {expected}, got {shown}")

    def literal(self, line: str) -> None:
        if self.line != line:
            self.refuse(repr(line))
        self.advance()

    def items(self, until: str | None) -> tuple[list[str], list[Mention]]:
        """The labels of a list that ends before the line `until`, or with the text."""
        texts: list[str] = []
        mentions = []
        while not texts or not (self.ended and not self.line if until is None else self.line == until):
            if not self.line.startswith("- "):
                self.refuse("'- ' and a label" + (f", or {until!r}" if texts and until else ""))
            label = self.label(self.line[2:], IN_LINE)
            if self.space.texts[label] in texts:
                self.refuse("a label that the list does not hold yet")
            texts.append(self.space.texts[label])
            mentions.append(Mention(label, self.start + 2, self.start + len(self.line)))
            self.advance()
        return texts, mentions

    def comparisons(self, until: str) -> tuple[list[Comparison], list[Mention]]:
        comparisons, mentions = [], []
        while self.line != until:
            quotes, named = [], []
            for found in MARKED.finditer(self.line):
                if found["quote"] is not None:
                    quotes.append(self.unescaped(found["quote"], IN_QUOTE))
                else:
                    label = self.label(found["label"], IN_MARK)
                    named.append(Mention(label, *(self.start + place for place in found.span("label"))))
            if len({mention.label for mention in named}) != 2 or len(named) != 2:
                self.refuse(f"two different labels in [[double brackets]], or {until!r}")
            if re.search(r'"|\[\[|\]\]', MARKED.sub("", self.line)):
                self.refuse("brackets and quotes in pairs")
            labels = (named[0].label, named[1].label)
            comparisons.append(Comparison(self.start, self.start + len(self.line), labels, tuple(quotes)))
            mentions += named
            self.advance()
        return comparisons, mentions

    def label(self, escaped: str, pattern: str) -> int:
        label = self.labels.get(self.unescaped(escaped, pattern))
        if label is None:
            self.refuse(f"a label of '{self.space.name}'")
        return label

    def unescaped(self, escaped: str, pattern: str) -> str:
        text = _unescape(escaped)
        if _escape(text, pattern) != escaped:
            self.refuse("an escape only where one is needed")
        return text


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
        end = start + len(_item(written))
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
            quotes = tuple(_unescape(found["quote"]) for found in marks if found["quote"] is not None)
            compared.append((line, labels[0], labels[1], quotes))
    return compared


def _placer(texts: list[str], space: LabelSpace, ground: Ground | None) -> Callable[[str], list[int]]:
    """Text to the labels it stands for, none where that cannot be told; prepared for the given texts."""
    placed: dict[str, list[int]] = {}
    unplaced: dict[str, list[int]] = {}
    labels, known = _labels(space), _known(space)
    for text in dict.fromkeys(texts):
        spelt = (_unescape(text), _unescape(text).strip(" \t*_`'\".,;"))
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
def _labels(space: LabelSpace) -> dict[str, int]:
    """The first label of each text."""
    return {space.texts[label]: label for label in reversed(range(len(space)))}


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


def token_spans(
    text: str, spans: Iterable[tuple[int, int]], tokenizer: PreTrainedTokenizerFast, special_tokens: bool = False
) -> list[Span]:
    """Character spans of a text as token spans: every token that holds one of the characters, first .. last + 1.

    text: what the tokenizer is given, such as prompt and `format(trace)`; shift the spans by the prompt's length.
    special_tokens: whether the tokenizer is to add its own, such as one that begins the text.
    Raises ValueError for a tokenizer without offsets, a span outside the text or empty, one that no token covers.
    """
    if not tokenizer.is_fast:
        raise ValueError(f"tokenizer must be a fast one (it gives offsets), got {type(tokenizer).__name__}")
    encoded: Any = tokenizer(text, return_offsets_mapping=True, add_special_tokens=special_tokens, truncation=False)
    starts, ends = np.array(encoded["offset_mapping"], np.int64).reshape(-1, 2).T
    found = []
    for start, end in spans:
        if not 0 <= start < end <= len(text):
            raise ValueError(f"a span must lie within the text's {len(text)} characters, got {start}..{end}")
        tokens = np.flatnonzero((starts < end) & (ends > start) & (starts < ends))
        if not len(tokens):
            raise ValueError(f"no token covers characters {start}..{end} of the text ({text[start:end][:40]!r})")
        found.append(Span(int(tokens[0]), int(tokens[-1]) + 1))
    return found


def save(traces: Iterable[Trace], path: Path) -> None:
    """Write traces as JSON Lines, whole or not at all; gzip-compressed when the name ends in `.gz`."""
    with atomic(path) as scratch, open(scratch, "wb") as raw:
        packed = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw
        with packed:
            for trace in traces:
                packed.write(json.dumps(asdict(trace), ensure_ascii=False).encode() + b"\n")


def load(path: Path) -> list[Trace]:
    """Read what `save` wrote. Raises ValueError with file and line for a line that is no trace."""
    reader = TypeAdapter(Trace)
    traces = []
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):  # noqa: B007
                traces.append(reader.validate_json(line, strict=True))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the line"
        raise ValueError(f"{path}, line {number}: {place}: {first['msg']}") from None
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}, after line {number}: not a whole gzip file ({error})") from None
    return traces
