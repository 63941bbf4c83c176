"""Generated clinical vignettes with ICD-10-CM codes: documents for those without access to real notes.

Notes: no human wrote these texts and no patient is behind them; the book always calls them generated. Codes are
drawn at random, so what stands together need not be medically likely. The sentences come from the lists below; to
vary the vignettes, add to the lists.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Int

from ctd.data.label_space import LabelSpace
from ctd.data.readers import icd10cm
from ctd.data.task import SPLITS, Card, Task, split_by_hash, splits_of

WORDS = (40, 120)

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

NEVER_GOLD = ("chapter-20", "chapter-21")
"""External causes and reasons for encounters: they code circumstances, not findings."""

TOPIC_CHAPTERS = frozenset(f"chapter-{number}" for number in range(1, 15))
VAGUE = re.compile(r"\b(other|others|unspecified|elsewhere|certain|not specified|NOS)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Vignette:
    """One generated document.

    labels: its gold labels, sorted. ruled_out: near misses that the text names and denies. topics: ids of the
    categories that serve as family history or past problems.
    """

    uid: str
    text: str
    labels: tuple[int, ...]
    ruled_out: tuple[int, ...]
    topics: tuple[str, ...]


def load(
    n_documents: int = 2000,
    seed: int = 0,
    closed: bool = False,
    labels_per_document: Sequence[int] = (1, 3),
    n_ruled_out: int = 1,
    n_distractors: int = 3,
) -> Task:
    """The generated ICD-10-CM task: one short paragraph to its one to three codes.

    n_documents, seed: a document depends on the seed and its number alone, so a longer run begins with a shorter
    one. closed: choose from the heart-failure set only. labels_per_document: fewest and most gold labels, from
    distinct categories. n_ruled_out: near misses denied in the text, at most (some codes have none).
    n_distractors: sentences of family history, past problems and normal findings from other chapters.
    Raises ValueError for a value out of range.
    """
    space = icd10cm.heart_failure_set() if closed else icd10cm.label_space()
    parts: dict[str, list[dict[str, object]]] = {split: [] for split in SPLITS}
    for vignette in generate(space, n_documents, seed, labels_per_document, n_ruled_out, n_distractors):
        row: dict[str, object] = {"uid": vignette.uid, "text": vignette.text, "labels": list(vignette.labels)}
        parts[split_by_hash(vignette.uid)].append(row)
    return Task(
        documents=splits_of(parts),
        space=space,
        card=Card(
            title="Generated ICD-10-CM vignettes" + (", heart-failure set" if closed else ""),
            licence="CC0: generated by this repository from the ICD-10-CM tabular list, a U.S. Government work",
            source="package simple-icd-10-cm (list of April 2026) and the sentences in ctd.data.readers.vignettes",
            made=f"Generated, seed {seed}: no human wrote them and no patient is behind them. Codes drawn at "
            "random are worded by template, among near misses that the text denies and topics of other chapters. "
            "Split by a hash of the document's number.",
            generated=True,
        ),
    )


def generate(
    space: LabelSpace,
    n_documents: int,
    seed: int = 0,
    labels_per_document: Sequence[int] = (1, 3),
    n_ruled_out: int = 1,
    n_distractors: int = 3,
) -> Iterator[Vignette]:
    """Vignettes over the ICD-10-CM list or a subset of it; parameters and errors as in `load`."""
    fewest, most = labels_per_document
    if n_documents < 1:
        raise ValueError(f"n_documents must be at least 1, got {n_documents}")
    if not 1 <= fewest <= most <= 3:
        raise ValueError(f"labels_per_document must be two numbers with 1 <= fewest <= most <= 3, got {fewest}, {most}")
    if not 0 <= n_ruled_out <= 2:
        raise ValueError(f"n_ruled_out must be between 0 and 2, got {n_ruled_out}")
    if not 0 <= n_distractors <= 4:
        raise ValueError(f"n_distractors must be between 0 and 4, got {n_distractors}")
    writer = _Writer(space)
    for row in range(n_documents):
        rng = np.random.default_rng((seed, row))
        n_labels = int(rng.integers(fewest, most + 1))
        while True:
            drawn = writer.write(f"generated-{row:06d}", n_labels, n_ruled_out, n_distractors, rng)
            if len(drawn.text.split()) <= WORDS[1]:
                yield drawn
                break


class _Writer:
    """Draws labels from a label space and words them."""

    def __init__(self, space: LabelSpace) -> None:
        self.space = space
        everything = np.arange(len(space))
        self.chapters = np.array(space.ids)[space.ancestor(everything, 0)]
        self.categories = space.ancestor(everything, 2)
        self.eligible = np.flatnonzero(~np.isin(self.chapters, NEVER_GOLD))
        order = self.eligible[np.argsort(self.categories[self.eligible], kind="stable")]
        starts = np.flatnonzero(np.diff(self.categories[order], prepend=-1))
        self.by_category = np.split(order, starts[1:])
        self.whole = space.name == icd10cm.label_space().name

    def write(
        self, uid: str, n_labels: int, n_ruled_out: int, n_distractors: int, rng: np.random.Generator
    ) -> Vignette:
        """One vignette; it may be longer than `WORDS` allows."""
        gold = self._gold(n_labels, rng)
        ruled_out = self._ruled_out(gold, n_ruled_out, rng)
        chapters = set(self.chapters[gold])
        stage = "newborn" if "chapter-16" in chapters else "pregnant" if "chapter-15" in chapters else "adult"
        distractors, topics = _distractors(n_distractors, chapters, stage, rng)
        body = [
            *(_worded(_pick(FINDINGS, rng), self._name(label, rng)) for label in gold),
            *(_worded(_pick(RULED_OUT, rng), reworded(self.space.texts[label], rng)) for label in ruled_out),
            *distractors,
        ]
        opening = _pick(OPENINGS[stage], rng).format(age=rng.integers(*AGES[stage]), place=_pick(PLACES, rng))
        sentences = [opening, *(body[row] for row in rng.permutation(len(body)))]
        for filler in rng.permutation(np.array(FILLERS)):
            if sum(len(sentence.split()) for sentence in sentences) >= WORDS[0]:
                break
            sentences.append(str(filler))
        return Vignette(uid, " ".join(sentences), tuple(sorted(gold)), tuple(ruled_out), tuple(topics))

    def _gold(self, n_labels: int, rng: np.random.Generator) -> list[int]:
        """Labels of distinct categories, none excluded by another's Excludes1, all of one stage of life.

        Over the whole list a category is drawn first (else fractures would fill it), in a subset a label. When no
        label fits in 100 draws there are fewer.
        """
        gold: list[int] = []
        for _ in range(100):
            if len(gold) == n_labels:
                break
            family = self.by_category[rng.integers(len(self.by_category))] if self.whole else self.eligible
            label = int(family[rng.integers(len(family))])
            if all(self._together(label, other) for other in gold):
                gold.append(label)
        return gold

    def _together(self, a: int, b: int) -> bool:
        exclusions = self.space.exclusions
        assert exclusions is not None
        chapters = {self.chapters[a], self.chapters[b]}
        return bool(
            self.categories[a] != self.categories[b]
            and exclusions[a, b] != 1
            and exclusions[b, a] != 1
            and ("chapter-16" not in chapters or chapters <= {"chapter-16", "chapter-17"})
            and not denies(self.space.texts[a], self.space.texts[b])
            and not denies(self.space.texts[b], self.space.texts[a])
        )

    def _ruled_out(self, gold: list[int], n: int, rng: np.random.Generator) -> list[int]:
        """Near misses of the gold labels, one for each in turn, that can be denied without denying a gold label."""
        found: list[int] = []
        families = {self.categories[label]: label for label in gold}
        for label in rng.permutation(np.array(gold)):
            rivals = [
                int(rival)
                for rival in self._rivals(int(label))
                if not VAGUE.search(self.space.texts[rival])
                and families.get(self.categories[rival], label) == label
                and self.chapters[rival] not in NEVER_GOLD
                and rival not in found
            ]
            if rivals and len(found) < n:
                found.append(rivals[rng.integers(len(rivals))])
        return found

    def _rivals(self, label: int) -> Int[np.ndarray, " rivals"]:
        """Near misses; of codes that differ only in the encounter (S82.034B, S82.034D), cousins of the same."""
        space, id = self.space, self.space.ids[label]
        if not re.fullmatch(r".{7}[A-Z]", id):
            return space.near_misses([label], m=200)
        assert space.parents is not None
        parent = space.parents[label]
        grandparent = space.parents[parent]
        if space.depth[grandparent] < 2:
            return np.empty(0, np.int32)
        cousins = space.descend(int(grandparent))
        same = np.array([space.ids[cousin][-1] == id[-1] for cousin in cousins])
        return cousins[same & (space.parents[cousins] != parent)]

    def _name(self, label: int, rng: np.random.Generator) -> str:
        """A gold label in words: one of its own inclusion terms, or its description."""
        terms = own_terms().get(self.space.ids[label], [])
        return reworded(_pick([self.space.texts[label], *terms], rng), rng)


def reworded(text: str, rng: np.random.Generator) -> str:
    """A description in other words, to stand inside a sentence; what tells it from its near misses is kept."""
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
    """Whether a says "without heart failure" and b names heart failure."""
    return any(denied.strip() in b.lower() for denied in re.findall(r"without ([a-z ]+)", a))


def _distractors(n: int, chapters: set[str], stage: str, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """n sentences from other chapters than the gold labels', and the ids of the categories they name."""
    kinds: list[tuple[str, ...] | None] = [FAMILY, None] if stage == "newborn" else [FAMILY, PAST, None]
    normal = [sentence for chapter, sentence in NORMAL.items() if chapter not in chapters]
    topics = [(id, text) for id, text, chapter in _topics() if chapter not in chapters]
    sentences, named = [], []
    for _ in range(n):
        templates = kinds[rng.integers(len(kinds))]
        if templates is None:
            sentences.append(normal.pop(rng.integers(len(normal))))
        else:
            id, text = topics[rng.integers(len(topics))]
            named.append(id)
            sentences.append(_pick(templates, rng).format(topic=reworded(text, rng)))
    return sentences, named


@cache
def _topics() -> list[tuple[str, str, str]]:
    """Categories fit for a family history or a past problem: id, text, chapter."""
    space = icd10cm.label_space()
    nodes = np.flatnonzero(space.depth == 2)
    chapters = space.ancestor(nodes, 0)
    return [
        (space.ids[node], space.texts[node], space.ids[chapter])
        for node, chapter in zip(nodes, chapters, strict=True)
        if space.ids[chapter] in TOPIC_CHAPTERS and not VAGUE.search(space.texts[node])
    ]


@cache
def own_terms() -> dict[str, list[str]]:
    """Inclusion terms that can stand for a label: filed under one node only, short, and naming no other code."""
    terms = icd10cm.inclusion_terms()
    named = [*icd10cm.label_space().texts, *(term for node in terms.values() for term in node)]
    uses = Counter(_bare(text) for text in named)
    return {
        id: fit
        for id, node in terms.items()
        if (
            fit := [
                term
                for term in node
                if uses[_bare(term)] == 1
                and len(term.split()) <= 20
                and not VAGUE.search(term)
                and not re.search(rf":|{icd10cm.CODE}", term)
            ]
        )
    }


@cache
def _spellings() -> tuple[frozenset[str], frozenset[str]]:
    """Words that the list writes in lower case somewhere, and others that it capitalises inside a description."""
    text = "\n".join(icd10cm.label_space().texts)
    lower = frozenset(re.findall(r"(?<![\w'-])[a-z][a-z']+", text))
    return lower, frozenset(w for w in re.findall(r"(?<=[a-z,] )[A-Z][a-z']+", text) if w.lower() not in lower)


def _bare(text: str) -> str:
    """A text without what a rewording may drop, to compare."""
    return re.sub(r" \([a-z ]+\)", "", text).casefold()


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _worded(template: str, finding: str) -> str:
    return template.format(finding=finding, Finding=finding[0].upper() + finding[1:])
