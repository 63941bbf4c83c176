"""How a constructed trace compares two labels: by the words of the document that tell them apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctd.reasoning import traces
from ctd.text import Word, stems

DECIDED = (
    "{gold}, not {near}: {words}.",
    "{words} speaks for {gold} over {near}.",
    "{gold} rather than {near}, given {words}.",
    "Not {near} but {gold}: the text says {words}.",
    "Between {near} and {gold}, {words} decides for the latter.",
)
UNDECIDED = (
    "{gold} fits better than {near}.",
    "{near} fits less well than {gold}.",
    "No single word decides, but {gold} before {near}.",
    "{gold} stays, {near} goes.",
)
LONGEST_QUOTE = 6  # words


def deciding_words(document: str, words: Sequence[Word], gold: str, near: str) -> str:
    """The words of the document that tell one label from another, verbatim; "" where no word does.

    Of all runs of up to six words the one that shares most stems with what the gold label's text has and the near
    miss's lacks; of these the shortest, then the first. Where it has nothing more (`Calcium` against `Calcium/blood`)
    its own words decide, if the document has none of those that the near miss adds. Stop words do not count.

    words: the document's, as `ctd.text.words` gives them.
    """
    telling, added = stems(gold) - stems(near), stems(near) - stems(gold)
    if not telling and added and added.isdisjoint(word.stem for word in words):
        telling = stems(gold)
    hits = [row for row, word in enumerate(words) if word.stem in telling]
    best, quote = (0, 0), ""
    for place, first in enumerate(hits):
        seen = set()
        for last in hits[place : place + LONGEST_QUOTE]:
            if last - first >= LONGEST_QUOTE:
                break
            seen.add(words[last].stem)
            if (score := (len(seen), first - last)) > best:
                best, quote = score, document[words[first].start : words[last].end]
    return quote


def comparison(document: str, words: list[Word], gold: str, near: str, rng: np.random.Generator) -> str:
    """A sentence that prefers the gold label to the near miss, quoting the words that decide where there are any."""
    marked = {"gold": traces.mark(gold), "near": traces.mark(near)}
    if decided := deciding_words(document, words, gold, near):
        return pick(DECIDED, rng).format(words=traces.quote(decided), **marked)
    return pick(UNDECIDED, rng).format(**marked)


def quotes(comparison: str) -> bool:
    """Whether a comparison quotes the document."""
    return any(marked["quote"] for marked in traces.MARKED.finditer(comparison))


def pick(templates: Sequence[str], rng: np.random.Generator) -> str:
    """A template drawn at random."""
    return templates[int(rng.integers(len(templates)))]
