"""The words of generated vignettes: sentences to fill in, and how a description may be reworded.

Notes: to vary the vignettes, add to the lists. What tells a description from its near misses survives a rewording.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import TypeVar

import numpy as np

from ctd.data.readers import icd10cm

T = TypeVar("T")

OPENINGS = {
    "adult": (
        "A {age}-year-old patient was seen {place}.",
        "This {age}-year-old patient presented {place}.",
        "{age}-year-old patient, reviewed {place}.",
    ),
    "pregnant": (
        "A {age}-year-old patient with a current or recent pregnancy was seen {place}.",
        "This {age}-year-old obstetric patient was reviewed {place}.",
    ),
    "newborn": ("A newborn was examined {place}.", "This infant, a few days old, was reviewed {place}."),
}
AGES = {"adult": (19, 92), "pregnant": (19, 44), "newborn": (0, 1)}
PLACES = ("in the emergency department", "in clinic", "on the ward", "after transfer from another hospital")
FINDINGS = (
    "The assessment established {finding}.",
    "The chart documents {finding}.",
    "Findings were those of {finding}.",
    "History, examination and tests pointed to {finding}.",
    "The working diagnosis of {finding} was confirmed.",
    "The team is treating {finding}.",
)
RULED_OUT = (
    "There was no evidence of {finding}.",
    "A diagnosis of {finding} was considered and excluded.",
    "Tests for {finding} were negative.",
    "The team looked for {finding} and found none.",
)
FAMILY = ("Family history is notable for {topic}.", "A parent was treated for {topic}.", "A sibling had {topic}.")
PAST = (
    "An episode of {topic} years ago has fully resolved.",
    "The old record mentions {topic}, since resolved without treatment.",
    "A past problem, {topic}, is no longer present.",
)
NORMAL = {
    "chapter-3": "The blood count was within normal limits.",
    "chapter-4": "Glucose and thyroid function were normal.",
    "chapter-5": "Mood, orientation and sleep were unremarkable.",
    "chapter-6": "Strength, sensation and reflexes were symmetric.",
    "chapter-7": "Pupils were equal and reactive to light.",
    "chapter-8": "Both eardrums looked normal.",
    "chapter-9": "Heart sounds were regular, without a murmur.",
    "chapter-10": "The lungs were clear on auscultation.",
    "chapter-11": "The abdomen was soft and not tender.",
    "chapter-12": "The skin was intact, without a rash.",
    "chapter-14": "Urinalysis was unremarkable.",
}
FILLERS = (
    "Vital signs were recorded on arrival and repeated during the stay.",
    "The medication list was checked with the family and the pharmacy.",
    "The plan was explained in plain words, and questions were answered.",
    "A follow-up appointment was arranged before discharge.",
)


# Rewordings of the list's own phrases: each match becomes one of the alternatives or stays as it is.
REWORDINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r" \([a-z ]+\)", ("",)),  # by the list's conventions, words in parentheses do not change a code
    (r", initial encounter for closed fracture$", (", a closed fracture under active treatment",)),
    (r", initial encounter for open fracture", (", under active treatment for an open fracture",)),
    (r", initial encounter$", (", under active treatment", ", now treated for the first time")),
    (r", subsequent encounter$", (", in the healing phase", ", back for routine aftercare")),
    (r", sequela$", (", as the cause of a late effect", ", long healed but with a lasting effect")),
    (
        r", (right|left) (eye|ear|hip|knee|shoulder|elbow|wrist|hand|ankle)$",
        (r" of the \1 \2", r" on the \1, at the \2"),
    ),
    (r", bilateral$", (" on both sides", ", left and right alike")),
    (r", unspecified$", (", not further specified", ", details not recorded")),
    (r"^Unspecified ([^,]+)", (r"\1, not further specified", r"\1 of a kind not recorded")),
    (r"\bdue to\b", ("caused by", "resulting from")),
    (r"\bwithout\b", ("with no",)),
)
VAGUE = re.compile(r"\b(other|others|unspecified|elsewhere|certain|not specified|NOS)\b", re.IGNORECASE)


def reworded(text: str, rng: np.random.Generator) -> str:
    """A description in other words, to stand inside a sentence.

    text: a description of the list.
    rng: draws the words.
    """
    for pattern, alternatives in REWORDINGS:
        choice = rng.integers(len(alternatives) + 1)
        if choice < len(alternatives):
            text = re.sub(pattern, alternatives[choice], text)
    return text if _keeps_capital(text) else text[0].lower() + text[1:]


def _keeps_capital(text: str) -> bool:
    """Whether a description begins with a name or an abbreviation."""
    word = re.match(r"[^ ,-]*", text)[0]  # type: ignore[index]
    lower, capital = _spellings()
    if not word[1:].islower() or word in capital:
        return True
    return word.lower() not in lower and bool(re.match(r"\w+('s\b|-[A-Z]| disease| syndrome)", text))


def denies(a: str, b: str) -> bool:
    """Whether one description denies what another names: a says "without heart failure", b "heart failure"."""
    return any(denied.strip() in b.lower() for denied in re.findall(r"without ([a-z ]+)", a))


@cache
def own_terms() -> dict[str, list[str]]:
    """Inclusion terms that can stand for a label, by node id: under that node alone, short, naming no other code."""
    terms = icd10cm.inclusion_terms()
    names = [*icd10cm.label_space().texts, *(term for node in terms.values() for term in node)]
    uses = Counter(map(_bare, names))

    def stands_alone(term: str) -> bool:
        short = len(term.split()) <= 20
        return uses[_bare(term)] == 1 and short and not (VAGUE.search(term) or re.search(rf":|{icd10cm.CODE}", term))

    fit = {id: list(filter(stands_alone, node)) for id, node in terms.items()}
    return {id: node for id, node in fit.items() if node}


@cache
def _spellings() -> tuple[frozenset[str], frozenset[str]]:
    """Words that the list writes in lower case somewhere, and others that it capitalises within a description."""
    text = "\n".join(icd10cm.label_space().texts)
    lower = frozenset(re.findall(r"(?<![\w'-])[a-z][a-z']+", text))
    return lower, frozenset(w for w in re.findall(r"(?<=[a-z,] )[A-Z][a-z']+", text) if w.lower() not in lower)


def _bare(text: str) -> str:
    """A text without what a rewording may drop, for comparisons."""
    return re.sub(r" \([a-z ]+\)", "", text).casefold()


def pick(options: Sequence[T], rng: np.random.Generator) -> T:
    """One of several things, drawn at random."""
    return options[int(rng.integers(len(options)))]
