"""Reading a text in the format of `ctd.reasoning.traces`: the trace that it stands for, or what is wrong with it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NoReturn

from ctd.data.label_space import LabelSpace
from ctd.reasoning.token_spans import Span
from ctd.reasoning.traces import (
    IN_LINE,
    IN_MARK,
    IN_QUOTE,
    MARKED,
    OPEN,
    Comparison,
    Mention,
    Trace,
    escape,
    unescape,
)


def parse(text: str, space: LabelSpace, uid: str = "", document: str = "") -> Trace:
    """The trace that a text in the format stands for: `format(parse(text, space)) == text`.

    uid: of the document, kept with the trace.
    document: kept with the trace.
    Raises ValueError for any other text, with line number and what was expected.
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
        self.space, self.labels = space, first_labels(space)
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
            for match in MARKED.finditer(self.line):
                if match["quote"] is not None:
                    quotes.append(self.unescaped(match["quote"], IN_QUOTE))
                else:
                    label = self.label(match["label"], IN_MARK)
                    named.append(Mention(label, *(self.start + place for place in match.span("label"))))
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
        text = unescape(escaped)
        if escape(text, pattern) != escaped:
            self.refuse("an escape only where one is needed")
        return text


@lru_cache(maxsize=2)
def first_labels(space: LabelSpace) -> dict[str, int]:
    """The first label of each text."""
    return {space.texts[label]: label for label in reversed(range(len(space)))}
