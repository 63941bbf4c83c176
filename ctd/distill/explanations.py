"""LAS of students, and of explanations of known quality: who is asked about what, and what is shown.

Notes: students are compared on one set of candidate labels, since a student that names odd labels would otherwise be
asked other questions than the rest. n documents.

    candidates = shared_candidates(answers_of_all, cots_of_all, retrieved, space)
    scored = {arm: of_students(answers[arm], cots[arm], documents, candidates, space, encoder) for arm in arms}
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float

from ctd.data.label_space import LabelSpace
from ctd.distill.simulatability import Simulatability, item_sums, of_sums
from ctd.distill.simulator import Simulator, Which, features
from ctd.reasoning.label_search import mentions
from ctd.retrieval.encoders import Encoder

STATED, OWN, SHUFFLED, ANOTHERS = KNOWN = (
    "answer stated", "own explanation", "own words shuffled", "another explanation",
)  # fmt: skip  # from the most that an explanation can tell to nothing
MASK = "[label]"


def shared_candidates(
    answers: Iterable[Sequence[Sequence[int]]],
    cots: Iterable[Sequence[str]],
    retrieved: Sequence[Sequence[int]],
    space: LabelSpace,
) -> list[list[int]]:
    """The labels of each document that every simulator is asked about (our definition).

    They are all that any student answered or named in its CoT, and retrieved labels.
    answers: labels by student and document.
    cots: reasoning by student and document.
    retrieved: retrieved labels of each document.
    """
    candidates: list[dict[int, None]] = [{} for _ in retrieved]
    for answered in answers:
        for known, labels in zip(candidates, answered, strict=True):
            known |= dict.fromkeys(int(label) for label in labels if label >= 0)
    for explanations in cots:
        for known, cot in zip(candidates, explanations, strict=True):
            known |= dict.fromkeys(mention.label for mention in mentions(cot, space))
    return [
        list(known | dict.fromkeys(int(label) for label in others if label >= 0))
        for known, others in zip(candidates, retrieved, strict=True)
    ]


def without_names(text: str, space: LabelSpace) -> str:
    """The text with "[label]" in place of every label that it names: what is left cannot state the answer."""
    parts, end = [], 0
    for mention in mentions(text, space):
        parts += [text[end : mention.start], MASK]
        end = mention.end
    return "".join([*parts, text[end:]])


def of_students(
    answers: Sequence[Sequence[Sequence[int]]],
    cots: Sequence[Sequence[str]],
    documents: Sequence[str],
    candidates: Sequence[Sequence[int]],
    space: LabelSpace,
    encoder: Encoder,
    which: Which = "labels",
    seed: int = 0,
) -> Simulatability:
    """LAS of several students on the same n documents, their items counted together (our definition).

    seed: draws the bootstrap's samples; the other arguments are those of `sums_of_students`.
    Raises what `sums_of_students` raises.
    """
    return of_sums(sums_of_students(answers, cots, documents, candidates, space, encoder, which), seed=seed)


def sums_of_students(
    answers: Sequence[Sequence[Sequence[int]]],
    cots: Sequence[Sequence[str]],
    documents: Sequence[str],
    candidates: Sequence[Sequence[int]],
    space: LabelSpace,
    encoder: Encoder,
    which: Which = "labels",
) -> Float[np.ndarray, "students n 12"]:
    """What the LAS of students is made of (`item_sums`), by student and document.

    A student's simulator learns from every other document and predicts the rest, then the other way round.
    answers: labels by student and document, best first.
    cots: reasoning by student and document.
    documents: what was asked about.
    candidates: labels of each document that the simulator is asked about; see `shared_candidates`.
    which: kind of item.
    Raises ValueError for fewer than 4 documents, and what `features`, `Simulator.fit` and `item_sums` raise.
    """
    if len(documents) < 4:
        raise ValueError(f"half of the documents are learned from, half asked about: at least 4, got {len(documents)}")
    document = np.repeat(np.arange(len(candidates)), [len(labels) for labels in candidates])
    by_student = []
    for answered, explanations in zip(answers, cots, strict=True):
        measured, halves = features(documents, explanations, candidates, space, encoder), []
        for half in (0, 1):
            judged_rows = np.arange(len(documents)) % 2 == half
            learned, judged = (
                (measured[chosen[document]], [candidates[row] for row in rows], [answered[row] for row in rows])
                for chosen, rows in ((mask, np.flatnonzero(mask).tolist()) for mask in (~judged_rows, judged_rows))
            )
            halves.append(item_sums(Simulator.fit(*learned, which), *judged))
        by_student.append(np.stack([halves[row % 2][row // 2] for row in range(len(documents))]))
    return np.stack(by_student)


def of_known_explanations(
    answers: Sequence[Sequence[int]],
    cots: Sequence[str],
    documents: Sequence[str],
    candidates: Sequence[Sequence[int]],
    space: LabelSpace,
    encoder: Encoder,
    which: Which = "labels",
    seed: int = 0,
) -> dict[str, Simulatability]:
    """LAS of one model's answers with explanations of known quality, from the best to the worst (our definition).

    They are the labels of the answer themselves, the model's own explanations, their words in random order, and the
    explanations of the next document. LAS that does not order these cannot order students. Other arguments are those of
    `of_students`.

    answers: of each document.
    cots: of each document.
    seed: draws the order of words too.
    Raises what `of_students` raises.
    """
    rng = np.random.default_rng(seed)
    stated = ["; ".join(space.texts[label] for label in labels if label >= 0) for labels in answers]
    shuffled = [" ".join(rng.permutation(cot.split())) for cot in cots]
    return {
        quality: of_students([answers], [shown], documents, candidates, space, encoder, which, seed)
        for quality, shown in zip(KNOWN, (stated, list(cots), shuffled, [*cots[1:], *cots[:1]]), strict=True)
    }
