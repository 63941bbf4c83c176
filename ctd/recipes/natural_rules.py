"""What the book's own rules say of the texts that readers marked, sentence by sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from ctd.data.label_space import LabelSpace
from ctd.mechanism import breakpoints
from ctd.mechanism.curve_means import GRID
from ctd.reasoning import free_text
from ctd.reasoning.free_text import ShownLabels
from ctd.reasoning.token_spans import Span
from ctd.reasoning.traces import Mention
from ctd.recipes.natural_marks import SheetText

COMPARES, JUDGES, NEITHER = "C", "J", "-"


class RuleMarks(NamedTuple):
    """What the rules say of a text.

    kinds: a letter for each sentence: "C" compares two labels, "J" judges one, "-" neither.
    boundary: the number of the sentence, from 1, that names the last new label before the answer; None without one.
    breakpoint: that of the sentence in which the number of labels named so far stops growing as it did; None for a
        text without such a point.
    """

    kinds: str
    boundary: int | None
    breakpoint: int | None


def marks(sheet: Sequence[SheetText], space: LabelSpace) -> list[RuleMarks]:
    """What the rules say of each text.

    space: the labels, all of which every prompt showed.
    """
    shown = ShownLabels(space, range(len(space)), nearest=lambda text: 0)  # which label is nearest changes no phase
    return [_marks(text.sentences, shown) for text in sheet]


def _marks(parts: Sequence[str], shown: ShownLabels) -> RuleMarks:
    text, ends = "".join(parts), list(accumulate(map(len, parts)))
    cot, _ = free_text.parts(text, shown)
    named = shown.named(text[slice(*cot)], cot.start)
    comparisons, verdicts = free_text.weighed(text, cot, named)
    kinds = [NEITHER] * len(parts)
    for letter, spans in ((JUDGES, verdicts), (COMPARES, comparisons)):
        for span in spans:
            kinds[_sentence(span.start, ends) - 1] = letter
    phase_1, turn = free_text.phase_1(named), _breakpoint(named, cot)
    return RuleMarks(
        "".join(kinds),
        None if phase_1 is None else _sentence(phase_1.end - 1, ends),
        None if turn is None else _sentence(turn, ends),
    )


def _breakpoint(named: Sequence[Mention], cot: Span) -> int | None:
    """The character at the breakpoint of the number of different labels named so far, over the reasoning."""
    first = {mention.label: mention.end for mention in reversed(named)}
    places = cot.start + GRID * (cot.end - cot.start)
    curve = (np.array(list(first.values()))[:, None] <= places).sum(axis=0) if first else np.zeros(len(GRID))
    turn = breakpoints.detect(curve.astype(float))
    return None if math.isnan(turn) else math.ceil(cot.start + turn * (cot.end - cot.start)) - 1


def _sentence(place: int, ends: Sequence[int]) -> int:
    """The number, from 1, of the sentence that has this character."""
    return int(np.searchsorted(ends, place, side="right")) + 1
