"""Metamath files: their assertions, what each proof uses, and the sections that assertions stand in.

Notes: proofs are read, not checked. Wherever a function takes `name`, errors call the file by it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from ctd.data.readers.metamath_statements import Refuse, Statement, refusal, statements

HEADING = re.compile(r"\s*(?P<frame>####|#\*#\*|=-=-|-\.-\.)\S*\s*\n(?P<title>.*?)\n\s*(?P=frame)", re.DOTALL)
LEVELS = {"####": 0, "#*#*": 1, "=-=-": 2, "-.-.": 3}


@dataclass(frozen=True)
class Assertion:
    """An axiom, definition or theorem of typecode `|-`.

    label: its name.
    formula: hypotheses and conclusion, in set.mm's own notation `|- ph & |- ( ph -> ps ) => |- ps`.
    comment: the raw comment directly before it, or "".
    section: the number of its section, or -1.
    premises: numbers of the assertions that its proof uses, sorted; None for an axiom or an unfinished proof.
    """

    label: str
    formula: str
    comment: str
    section: int
    premises: list[int] | None


@dataclass(frozen=True)
class Section:
    """A heading of the file.

    number: such as `1.2.3`.
    title: its words.
    parent: the number of the section above it, or -1.
    """

    number: str
    title: str
    parent: int


@dataclass(frozen=True)
class Database:
    """What a Metamath file asserts.

    assertions: in the order of the file.
    sections: those that hold an assertion.
    version: the file's first comment.
    skipped: what is left out, counted.
    """

    assertions: list[Assertion]
    sections: list[Section]
    version: str
    skipped: Counter[str]


def parse(text: str, name: str) -> Database:
    """A Metamath file's assertions of typecode `|-`, what each proof uses, and the sections they stand in.

    text: of the file.
    name: how errors call the file.
    Raises ValueError, naming line and label, for what `statements` refuses, a label used twice, a proof that is not
    terminated or names what does not stand before it, an unbalanced block; and for a file without assertions.
    """
    parser = _Parser(partial(refusal, text, name))
    for statement in statements(text, name):
        parser.take(statement)
    return parser.database(name)


class _Parser:
    """Collects the assertions of a file, statement by statement."""

    def __init__(self, refuse: Refuse) -> None:
        self.refuse = refuse
        self.assertions: list[Assertion] = []
        self.number: dict[str, int] = {}  # of each label: its assertion, or -1 for hypotheses and syntax
        self.outline = _Outline()
        self.skipped: Counter[str] = Counter()
        self.hypotheses: list[str] = []
        self.blocks: list[tuple[int, int]] = []  # where each opens, and how many hypotheses held there
        self.comment = self.version = ""

    def take(self, statement: Statement) -> None:
        if statement.keyword == "$(":
            self._comment(statement.text)
            return
        if statement.keyword == "${":
            self.blocks.append((statement.start, len(self.hypotheses)))
        elif statement.keyword == "$}":
            if not self.blocks:
                raise self.refuse(statement.start, "$} closes a block that was never opened")
            del self.hypotheses[self.blocks.pop()[1] :]
        elif statement.label:
            self._labelled(statement)
        self.comment = ""

    def database(self, name: str) -> Database:
        if self.blocks:
            raise self.refuse(self.blocks[-1][0], "this ${ is never closed by $} (is the file cut short?)")
        if not self.assertions:
            raise ValueError(f"{name} is not a Metamath database of theorems: it asserts nothing of typecode |-")
        return Database(self.assertions, self.outline.sections, self.version, self.skipped)

    def _comment(self, text: str) -> None:
        self.version = self.version or " ".join(text.split())
        if not text.lstrip().startswith(("$j", "$t")):  # notes for other programs
            self.comment = "" if self.outline.enter(text) else text

    def _labelled(self, statement: Statement) -> None:
        keyword, label = statement.keyword, statement.label
        if label in self.number:
            raise self.refuse(statement.start, f"the label '{label}' is used a second time")
        premises = self._premises(statement) if keyword == "$p" else None
        provable = statement.symbols[:1] == ["|-"]
        self.number[label] = -1
        if keyword == "$e" and provable:
            self.hypotheses.append(" ".join(statement.symbols))
        elif keyword in ("$a", "$p") and provable:
            formula = " => ".join(filter(None, [" & ".join(self.hypotheses), " ".join(statement.symbols)]))
            self.number[label] = len(self.assertions)
            self.assertions.append(Assertion(label, formula, self.comment, self.outline.section(), premises))
            self.skipped["axioms and definitions (labels, not documents)"] += keyword == "$a"
            self.skipped["theorems with an unfinished proof"] += keyword == "$p" and premises is None
            self.skipped["theorems whose proof uses hypotheses only"] += premises == []
        else:
            self.skipped["syntax statements (typecode other than |-)"] += keyword in ("$a", "$p")

    def _premises(self, statement: Statement) -> list[int] | None:
        try:
            return _premises(statement.proof, self.number)
        except ValueError as error:
            raise self.refuse(statement.start, f"the proof of '{statement.label}' {error}") from None


class _Outline:
    """The headings that are open while a file is read; a section begins with its first assertion."""

    def __init__(self) -> None:
        self.sections: list[Section] = []
        self.open: list[tuple[int, str, int]] = []  # level, title, section (-1: not begun)
        self.below: Counter[int] = Counter()

    def enter(self, comment: str) -> bool:
        """Open the heading that a comment frames; False when it frames none."""
        if (heading := HEADING.match(comment)) is None:
            return False
        level = LEVELS[heading["frame"]]
        self.open = [entry for entry in self.open if entry[0] < level]
        self.open.append((level, " ".join(heading["title"].split()), -1))
        return True

    def section(self) -> int:
        """The section of an assertion that stands here, -1 before the first heading."""
        above = -1
        for row, (level, title, section) in enumerate(self.open):
            if section < 0:
                self.below[above] += 1
                prefix = f"{self.sections[above].number}." if above >= 0 else ""
                self.sections.append(Section(f"{prefix}{self.below[above]}", title, above))
                section = len(self.sections) - 1
                self.open[row] = (level, title, section)
            above = section
        return above


def _premises(proof: Sequence[str], number: dict[str, int]) -> list[int] | None:
    """The assertions that a proof names, sorted; None when it leaves a step open by `?`.

    proof: the words after `$=`; a compressed proof names its labels in parentheses.
    number: of each label before the proof, -1 for hypotheses and syntax.
    """
    if not proof:
        raise ValueError("is empty")
    labels = proof
    if proof[0] == "(":
        if ")" not in proof:
            raise ValueError("opens ( for its labels and never closes it by )")
        end = proof.index(")")
        labels, letters = proof[1:end], "".join(proof[end + 1 :])
        if not re.fullmatch("[A-Z?]+", letters):
            raise ValueError("is compressed and must end in letters A to Z")
        if "?" in letters:
            return None
    elif "?" in proof:
        return None
    unknown = next((label for label in labels if label not in number), None)
    if unknown is not None:
        raise ValueError(f"names '{unknown}', which does not stand before it")
    return sorted({number[label] for label in labels} - {-1})
