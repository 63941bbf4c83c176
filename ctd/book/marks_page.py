"""What the page `natural` shows of the readers' marks: how far two readings agree, and how well the rules read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ctd.book.markdown import captioned
from ctd.book.report import interval
from ctd.recipes import natural_rules
from ctd.recipes.natural_marks import KINDS, MARKS, Reading, SheetText, read_labels, read_marks, read_sheet
from ctd.recipes.natural_rules import COMPARES, JUDGES, RuleMarks
from ctd.recipes.reading_agreement import (
    Boundaries,
    agreed,
    before_the_answer,
    boundaries,
    kappas,
    rule_scores,
    same_kind,
)

NAMES = ("reading A", "reading B", "where both agree")
RULES = {COMPARES: "comparisons", JUDGES: "judgements of one label"}


def findings(path: Path = MARKS) -> str:
    """How far the readings agree and how well the rules do, in words and as tables."""
    sheet = read_sheet()
    a, b = read_marks(sheet, path)
    rules = natural_rules.marks(sheet, read_labels())
    tables = (kinds(a, b), rules_table(rules, a, b), boundary_table(rules, a, b))
    return f"{agreement_in_words(sheet, a, b)} {rules_in_words(rules, a, b)}\n\n" + "\n".join(tables)


def agreement_in_words(sheet: Sequence[SheetText], a: Reading, b: Reading) -> str:
    """The agreement of the two readings, in words."""
    n_sentences = sum(len(text.sentences) for text in sheet)
    same, kappa = interval(same_kind(a, b), 2), interval(kappas(a, b)[""], 2)
    ends = {name: interval(value, 2) for name, value in boundaries(_boundaries(a), _boundaries(b)).items()}
    return (
        f"Two readings of {len(sheet)} texts ({n_sentences} sentences) give the same kind to {same} of the sentences; "
        f"Cohen's kappa is {kappa}. They agree on whether a text has a boundary in {ends['both or neither']} of the "
        f"texts. Both see one in {ends['both']} of them; there, {ends['within one sentence']} of the boundaries lie at "
        "most one sentence apart."
    )


def rules_in_words(rules: Sequence[RuleMarks], a: Reading, b: Reading) -> str:
    """How well the rules find what both readings mark before the answer, in words."""
    reading = agreed(before_the_answer(a), before_the_answer(b))[0]
    sentences = []
    for kind, name in RULES.items():
        measured = rule_scores(kind, [text.kinds for text in rules], reading)
        precision, recall = measured[0], measured[1]
        sentences.append(
            f"Of the {sum(text.kinds.count(kind) for text in reading)} {name} that both mark before the answer, the "
            f"rules find {interval(recall, 2)}; of what they find, {interval(precision, 2)} are marked so."
        )
    return " ".join(sentences)


def kinds(a: Reading, b: Reading) -> str:
    """Each kind of sentence: how often it was given, and how far the readings agree on it."""
    kappa = kappas(a, b)
    lines = [
        [name, *(str(sum(text.kinds.count(kind) for text in reading)) for reading in (a, b)), interval(kappa[kind], 2)]
        for kind, name in KINDS.items()
    ]
    caption = "How far the two readings agree on the kinds of sentences; Cohen's kappa of each kind against the rest."
    return captioned("natural-marks-kinds", caption, ["a sentence that", "reading A", "reading B", "kappa"], lines)


def rules_table(rules: Sequence[RuleMarks], a: Reading, b: Reading) -> str:
    """How well the rules find comparisons and judgements of one label before the answer."""
    readings = [before_the_answer(reading) for reading in (a, b)]
    readings.append(agreed(*readings)[0])
    letters = [text.kinds for text in rules]
    lines = []
    for kind, name in RULES.items():
        for reader, reading in zip(NAMES, readings, strict=True):
            measured = rule_scores(kind, letters, reading)
            marked = sum(text.kinds.count(kind) for text in reading)
            lines.append([name, reader, str(marked), *(interval(measured[column], 2) for column in range(3))])
    caption = "How well the rules find the sentences that the readings mark, before the answer."
    heads = ["rule for", "against", "sentences marked", "precision", "recall", "F1"]
    return captioned("natural-marks-rules", caption, heads, lines)


def boundary_table(rules: Sequence[RuleMarks], a: Reading, b: Reading) -> str:
    """How far boundaries lie apart: of the readings, and of the rules against each of them."""
    same = np.flatnonzero(agreed(a, b)[1])
    by_rule = {
        "last new label": [text.boundary for text in rules],
        "breakpoint": [text.breakpoint for text in rules],
    }
    pairs: list[tuple[str, str, Boundaries, Boundaries]] = [("reading A", "reading B", _boundaries(a), _boundaries(b))]
    for rule, places in by_rule.items():
        pairs += [(rule, name, places, _boundaries(reading)) for name, reading in zip(NAMES, (a, b), strict=False)]
        if same.size:
            both = [_boundaries(a)[row] for row in same]
            pairs.append((rule, NAMES[-1], [places[row] for row in same], both))
    lines = []
    for first, second, ends, others in pairs:
        measured = boundaries(ends, others)
        lines.append([first, second, str(len(ends)), *(interval(value, 2) for value in measured.values())])
    heads = ["boundary by", "against", "texts", "both or neither", "both", "within one sentence", "sentences apart"]
    caption = "How far boundaries agree. The last two columns are of the texts in which both have a boundary."
    return captioned("natural-marks-boundaries", caption, heads, lines)


def _boundaries(reading: Reading) -> list[int | None]:
    return [text.boundary for text in reading]
