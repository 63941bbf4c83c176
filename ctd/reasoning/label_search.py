"""Where a text names labels."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from ctd.data.label_space import LabelSpace
from ctd.reasoning.traces import Mention
from ctd.text import normalise

WORD = re.compile(r"(?:[^\W_]|[\u0300-\u036f])+")


def mentions(text: str, space: LabelSpace) -> list[Mention]:
    """Where a text names labels: whole words that normalise (`ctd.text.normalise`) to a label's text.

    The longest label wins, then reading goes on behind it. One pass, with a look-up for each length that a label with
    these first two words has. Of labels that only punctuation tells apart, the one that stands there to the letter.
    """
    known = known_labels(space)
    runs = [(word, *match.span()) for match in WORD.finditer(text) for word in normalise(match[0]).split()]
    words = [word for word, _, _ in runs]
    named = []
    row = 0
    while row < len(words):
        lengths = chain(known.lengths.get(" ".join(words[row : row + 2]), ()), (1,))
        for length in lengths:
            labels = known.normal.get(" ".join(words[row : row + length])) if row + length <= len(words) else None
            if labels:
                start, end = runs[row][1], runs[row + length - 1][2]
                named.append(_to_the_letter(text, start, end, labels, space))
                row += length
                break
        else:
            row += 1
    return named


def _to_the_letter(text: str, start: int, end: int, labels: list[int], space: LabelSpace) -> Mention:
    """The label whose own punctuation surrounds the words; else the first, and the words alone."""
    best = Mention(labels[0], start, end)
    for label in labels:
        name = space.texts[label]
        lead = word.start() if (word := WORD.search(name)) else 0
        whole = Mention(label, start - lead, start - lead + len(name))
        if len(name) > best.end - best.start and lead <= start and text.startswith(name, whole.start):
            best = whole
        elif len(name) == best.end - best.start and text.startswith(name, start):
            return whole
    return best


class KnownLabels(NamedTuple):
    """Labels by their normalised texts.

    normal: the labels that have a text.
    lengths: by the first two words of a text, how many words the texts that begin so have, longest first.
    """

    normal: dict[str, list[int]]
    lengths: dict[str, tuple[int, ...]]


@lru_cache(maxsize=2)
def known_labels(space: LabelSpace) -> KnownLabels:
    """The labels of a space by their normalised texts, computed once."""
    normal: dict[str, list[int]] = {}
    lengths: defaultdict[str, set[int]] = defaultdict(set)
    for label, text in enumerate(space.texts[: len(space)]):
        if name := normalise(text):
            normal.setdefault(name, []).append(label)
            words = name.split()
            if len(words) > 1:
                lengths[" ".join(words[:2])].add(len(words))
    shared: dict[tuple[int, ...], tuple[int, ...]] = {}
    ordered = {pair: tuple(sorted(counts, reverse=True)) for pair, counts in lengths.items()}
    return KnownLabels(normal, {pair: shared.setdefault(counts, counts) for pair, counts in ordered.items()})
