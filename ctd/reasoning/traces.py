"""Traces: what a model wrote while it chose labels, with the two phases and every label named in it marked.

The format of a trace's text (our definition), line by line; `trace_parser.parse` takes nothing else:

    text       = "<think>" cot "</think>" "Answer:" item+        each of these on its own line, each line ended by "\\n"
    cot        = topics "Shortlist:" item+ "Compare:" comparison*
    topics     = "Topics:" [" " prose]                           prose: anything that is no line break
    item       = "- " label                                      no label twice in a list
    comparison = words that hold two different labels as [[label]], and any number of "quotes" from the document

Every label is the text of one in the label space, letter for letter. Only what would be misread is escaped, as
`&#N;` with the character's number: a line break (10) anywhere; `"` (34) inside a quote; inside brackets `[` (91) before
another, and `]` (93) before another or at the end; `&` (38) before such an escape. Nothing else may be escaped, so each
trace has exactly one text.

Phase 1 (shortlisting) ends with the last item of the shortlist: the marked phase boundary t*. The prompt, the document
in it, is no part of the text. `ctd.reasoning.token_spans` maps characters of the text to tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import ConfigDict

from ctd.reasoning.token_spans import Span, TokenizedText

OPEN, CLOSE, ANSWER = "<think>\n", "\n</think>\n", "Answer:\n"
ESCAPE = re.compile(r"&#(10|34|38|91|93);")
IN_LINE = r"\n|&(?=#(?:10|34|38|91|93);)"
IN_MARK = IN_LINE + r"|\[(?=\[)|\](?=\]|\Z)"
IN_QUOTE = IN_LINE + '|"'
MARKED = re.compile(r'\[\[(?P<label>(?:(?!\[\[|\]\]).)+)\]\]|"(?P<quote>[^"\n]+)"')


class Mention(NamedTuple):
    """Where a label is named.

    label: its number in the label space.
    start: the first character.
    end: the character after the last.
    """

    label: int
    start: int
    end: int


class Comparison(NamedTuple):
    """A sentence that weighs two labels.

    start: the first character.
    end: the character after the last.
    labels: in the order in which the sentence names them.
    quotes: words of the document, without their quotation marks.
    """

    start: int
    end: int
    labels: tuple[int, int]
    quotes: tuple[str, ...] = ()


class FreeForm(NamedTuple):
    """A text out of the format, as it was written, and where in it CoT and answer stand."""

    text: str
    cot: Span
    answer: Span


@dataclass(frozen=True)
class Trace:
    """A document, the CoT about it, the answer, and what is marked in them.

    Positions are characters of `text`. Where labels share a text, the first is meant. A text that could not be read has
    an error and no answer.

    uid: of the document.
    document: as much of it as the model saw.
    cot: the reasoning, without the tags around it.
    answer: label texts, in the order given.
    shortlist: where the shortlist stands, its heading included; None where none is marked.
    comparisons: those of two labels.
    mentions: every label named in CoT and answer, by position.
    error: why `trace_parser.parse` refused the text, "" for a text in the format.
    free_form: the text itself where it is not in the format, else None.
    prompt: what the model was given before the text, "" where that is not known.
    tokens: prompt and text as the model read and wrote them, None where they are not known.
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
    free_form: FreeForm | None = None
    prompt: str = ""
    tokens: TokenizedText | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        marked: list[Span | Comparison | Mention] = [*self.comparisons, *self.mentions]
        if self.shortlist is not None:
            marked.append(self.shortlist)
        length = len(self.text)
        for mark in marked:
            if not 0 <= mark.start < mark.end <= length:
                raise ValueError(
                    f"marks of trace {self.uid!r} must lie within its {length} characters, got {mark.start}..{mark.end}"
                )

    @property
    def text(self) -> str:
        """CoT and answer as the model wrote them after its prompt."""
        return format(self) if self.free_form is None else self.free_form.text

    @property
    def cot_span(self) -> Span:
        """Where the CoT stands."""
        return Span(len(OPEN), len(OPEN) + len(self.cot)) if self.free_form is None else self.free_form.cot

    @property
    def answer_span(self) -> Span:
        """Where the answer's items stand."""
        if self.free_form is not None:
            return self.free_form.answer
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
    """CoT and answer in the format, which is the trace's text unless that is free-form."""
    return f"{OPEN}{trace.cot}{CLOSE}{ANSWER}{''.join(item_line(text) for text in trace.answer)}"


def write(topics: str, shortlist: Iterable[str], comparisons: Iterable[str], answer: Iterable[str]) -> str:
    """A text in the format from its parts: prose, label texts, sentences made with `mark` and `quote`, label texts."""
    prose = f" {escape(topics, IN_LINE)}" if topics else ""
    cot = [f"Topics:{prose}\nShortlist:\n", *map(item_line, shortlist), "Compare:\n"]
    cot += [f"{sentence}\n" for sentence in comparisons]
    return f"{OPEN}{''.join(cot)[:-1]}{CLOSE}{ANSWER}{''.join(map(item_line, answer))}"


def mark(label: str) -> str:
    """A label's text as a comparison names it: `[[Calcium/blood]]`."""
    return f"[[{escape(label, IN_MARK)}]]"


def quote(words: str) -> str:
    """Words of the document as a comparison quotes them: `"serum calcium"`."""
    return f'"{escape(words, IN_QUOTE)}"'


def item_line(label: str) -> str:
    return f"- {escape(label, IN_LINE)}\n"


def escape(text: str, pattern: str) -> str:
    return re.sub(pattern, lambda match: f"&#{ord(match[0])};", text)


def unescape(text: str) -> str:
    return ESCAPE.sub(lambda match: chr(int(match[1])), text)
