"""Does an explanation help to predict its model's answer, beyond stating it? LAS, the published measure.

Notes: leakage-adjusted simulatability (Hase et al., 2020, arXiv:2010.04119). A simulator predicts the explained model's
own answer from the document x, the explanation e (the CoT without the answer), or both. For documents with many labels
we define two kinds of item. "labels": a document and one of its candidate labels; the simulator is right where it
predicts whether the answer has the label. "first": a document; the simulator is right where the candidate that it
scores highest is the answer's first label. The simulator is a logistic regression on how label and text match.
n documents; items: candidates of all documents, in their order.

    measured = features(documents, [trace.cot for trace in traces], candidates, space, encoder)
    simulator = Simulator.fit(measured, candidates, answers)  # of training documents
    result = las(simulator, measured, candidates, answers)  # of other documents
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import permutation_test

from ctd import stats
from ctd.cache import DATA
from ctd.data.label_space import LabelSpace
from ctd.distill.simulator import Shown, Simulator, Which, features, held_items
from ctd.reasoning.label_search import mentions
from ctd.retrieval.encoders import Encoder
from ctd.stats import Interval

OWN, ANOTHERS = "own explanation", "another explanation"
TIE = 1e-9  # log-odds no further apart are equal: a last bit finds no label
OUR_NAMES = {
    "^full$": "mechanistic", "^vanilla_cot$": "cot", r"_phase(\d)$": r" phase \1", r"_p(\d)_(\w+)$": r" \2\1",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Simulatability:
    """LAS and its parts, as shares of items: -1 .. 1 for LAS and gaps, 0 .. 1 for accuracies.

    las: unweighted mean of the two gaps; NaN where a bin is empty.
    leaking: what the explanation adds to the accuracy of sim(x), in items that leak.
    other: the same in all other items.
    n_leaking, n_other: how many items that is.
    accuracies: of the simulator by what is shown, "xe", "x" and "e"; the last is the share of items that leak.
    sums: for each document the gap in leaking items, their number, the gap in the others, their number, and how many
        items are right by (x, e) and by x.
    each: the LAS of each student alone (`of_students`); NaN where a bin is empty.
    """

    las: Interval
    leaking: Interval
    other: Interval
    n_leaking: int
    n_other: int
    accuracies: dict[str, Interval]
    sums: Float[np.ndarray, "n 6"]
    each: Float[np.ndarray, " students"]


def las(
    simulator: Simulator,
    measured: Float[np.ndarray, "items 10"],
    candidates: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Simulatability:
    """LAS (Hase et al.) of documents that the simulator was not trained on. An item leaks where sim(e) is right.

    Intervals: over documents, with the bins of each draw; a draw with an empty bin is left out (`stats.bootstrap`).
    With "first" a document without an answer is no item, and a label that ties for the highest score is not found.
    Raises what `Simulator.fit` raises of its arguments (one class is allowed), and what `stats.bootstrap` raises.
    """
    held, document = held_items(measured, candidates, answers, simulator.which)
    judged = held if simulator.which == "first" else np.ones(len(held), bool)
    right = {}
    for shown in get_args(Shown):
        scores = simulator.predict(measured, shown)
        rival = np.full(len(candidates), -np.inf)
        np.maximum.at(rival, document[~held], scores[~held])
        hits = scores > rival[document] + TIE if simulator.which == "first" else (scores > 0) == held
        right[shown] = hits[judged].astype(float)
    both, x, leaks = right.values()
    sums = np.zeros((len(candidates), 6))
    items = [leaks * (both - x), leaks, (1 - leaks) * (both - x), 1 - leaks, both, x]
    np.add.at(sums, document[judged], np.stack(items, axis=1))
    return of_sums(sums, draws, level, seed)


def of_sums(sums: Float[np.ndarray, "n 6"], draws: int = 1000, level: float = 0.95, seed: int = 0) -> Simulatability:
    """LAS from its sums over documents (`Simulatability.sums`), such as those of several students added up."""
    n_leaking, n_other = sums[:, 1], sums[:, 3]
    parts = stats.bootstrap_ratio(
        sums[:, [0, 2, 4, 5, 1]],
        np.stack([n_leaking, n_other, *[n_leaking + n_other] * 3], axis=1),
        draws=draws, level=level, seed=seed,
    )  # fmt: skip
    accuracies = {shown: parts[2 + place] for place, shown in enumerate(get_args(Shown))}
    whole = stats.bootstrap(sums, _las, draws, level, seed)
    counts, each = (int(n_leaking.sum()), int(n_other.sum())), np.array([whole.scalar[0]])
    return Simulatability(whole, parts[0], parts[1], *counts, accuracies, sums, each)


def of_students(
    answers: Sequence[Sequence[Sequence[int]]],
    cots: Sequence[Sequence[str]],
    documents: Sequence[str],
    retrieved: Sequence[Sequence[int]],
    space: LabelSpace,
    encoder: Encoder,
    which: Which = "labels",
    seed: int = 0,
) -> Simulatability:
    """LAS of several students on the same n documents, their items counted together (our definition).

    A student's simulator learns from every other document and predicts the rest, then the other way round. Candidates
    of a document are what the student answered, what its CoT names, and retrieved labels.
    answers: labels by student and document, best first.
    cots: reasoning by student and document.
    documents: what was asked about.
    retrieved: retrieved labels of each document.
    which: kind of item.
    seed: draws the bootstrap's samples.
    Raises ValueError for fewer than 4 documents, and what `features`, `Simulator.fit` and `las` raise.
    """
    if len(documents) < 4:
        raise ValueError(f"half of the documents are learned from, half asked about: at least 4, got {len(documents)}")
    sums = np.zeros((len(answers), len(documents), 6))
    for student_sums, answered, explanations in zip(sums, answers, cots, strict=True):
        named = [[mention.label for mention in mentions(cot, space)] for cot in explanations]
        candidates = [
            [int(label) for label in dict.fromkeys([*answer, *by_cot, *others]) if label >= 0]
            for answer, by_cot, others in zip(answered, named, retrieved, strict=True)
        ]
        measured = features(documents, explanations, candidates, space, encoder)
        document = np.repeat(np.arange(len(candidates)), [len(labels) for labels in candidates])
        for half in (0, 1):
            judged_rows = np.arange(len(documents)) % 2 == half
            learned, judged = (
                (measured[chosen[document]], [candidates[row] for row in rows], [answered[row] for row in rows])
                for chosen, rows in ((mask, np.flatnonzero(mask).tolist()) for mask in (~judged_rows, judged_rows))
            )
            student_sums[judged_rows] = las(Simulator.fit(*learned, which), *judged, draws=1).sums
    each = _las(sums.sum(axis=1)[..., None])[:, 0]
    return replace(of_sums(sums.sum(axis=0), seed=seed), each=each)


def of_known_explanations(
    answers: Sequence[Sequence[int]],
    cots: Sequence[str],
    documents: Sequence[str],
    retrieved: Sequence[Sequence[int]],
    space: LabelSpace,
    encoder: Encoder,
    which: Which = "labels",
    seed: int = 0,
) -> dict[str, Simulatability]:
    """LAS of one model's answers with its own explanations, and with those of the next document (our definition).

    LAS that does not tell these apart cannot tell students apart. Both are asked about the same candidates.
    answers, cots, retrieved: of each document; the other arguments are those of `of_students`.
    Raises what `of_students` raises.
    """
    shown = {OWN: list(cots), ANOTHERS: [*cots[1:], *cots[:1]]}
    candidates = [list(labels) for labels in retrieved]
    for explanations in shown.values():
        for labels, cot in zip(candidates, explanations, strict=True):
            labels += [mention.label for mention in mentions(cot, space)]
    return {
        name: of_students([answers], [explanations], documents, candidates, space, encoder, which, seed)
        for name, explanations in shown.items()
    }


def table(scored: Mapping[str, Simulatability]) -> pd.DataFrame:
    """LAS, both gaps and the simulator's accuracies of each arm: columns arm, measure, value, low, high."""
    rows = []
    for arm, score in scored.items():
        intervals = {"LAS": score.las, "gap, leaking": score.leaking, "gap, not leaking": score.other}
        intervals |= {f"sim({', '.join(shown)})": accuracy for shown, accuracy in score.accuracies.items()}
        rows += [(arm, measure, *interval.scalar) for measure, interval in intervals.items()]
    return pd.DataFrame(rows, columns=["arm", "measure", "value", "low", "high"])


def published() -> pd.DataFrame:
    """LAS of arXiv:2606.06840: columns arm (as chapter 13 names it), published (MIMIC-IV), published (WikiSeeAlso)."""
    notes = json.loads((DATA / "published.json").read_text())["las"]
    names = {"mimic_iv": "published (MIMIC-IV)", "wikiseealso_320k": "published (WikiSeeAlso)"}
    rows = pd.DataFrame(notes).rename(columns=names).rename_axis("arm").reset_index()
    return rows.assign(arm=rows["arm"].replace(OUR_NAMES, regex=True))


def las_difference(
    a: Simulatability, b: Simulatability, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """LAS of a less LAS of b on the same n documents: paired, and NaN where either is. Candidates may differ.

    Raises ValueError for other numbers of documents, and what `stats.bootstrap` raises.
    """
    _check_same_documents(a, b)
    pairs = np.hstack([a.sums, b.sums])
    return stats.bootstrap(pairs, lambda sums: _las(sums[:, :6]) - _las(sums[:, 6:]), draws, level, seed)


def exchange_test(a: Simulatability, b: Simulatability, draws: int = 9999, seed: int = 0) -> float:
    """Two-sided p-value of that difference, by scipy's permutation test: a document's items change sides.

    1 where either has no LAS. Raises ValueError for other numbers of documents.
    """
    _check_same_documents(a, b)
    n, rows = len(a.sums), np.vstack([a.sums, b.sums])

    def difference(left: Int[np.ndarray, "*b n"], right: Int[np.ndarray, "*b n"], axis: int) -> Float[np.ndarray, "*b"]:
        first, second = (_las(rows[places].sum(axis=axis - 1).reshape(-1, 6, 1)) for places in (left, right))
        return np.nan_to_num(first - second).reshape(left.shape[:-1])

    test = permutation_test(
        (np.arange(n), np.arange(n, 2 * n)), difference, permutation_type="samples", vectorized=True,
        n_resamples=draws, batch=1000, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(test.pvalue)


def gains(scored: Mapping[str, Simulatability], pairs: Sequence[tuple[str, str]], seed: int = 0) -> pd.DataFrame:
    """LAS of one arm minus that of another, for each pair.

    scored: by arm.
    pairs: names of an arm and another.
    Returns the columns of `tables.gains` without an effect size; the name is "arm - other", p is that of
    `exchange_test`, and Holm's correction is over the pairs.
    Raises what `las_difference` raises.
    """
    rows = []
    for arm, other in pairs:
        a, b = scored[arm], scored[other]
        apart = a.each - b.each
        over_documents = las_difference(a, b, seed=seed).scalar
        over_seeds = stats.t_interval(apart).scalar[1:]
        p = exchange_test(a, b, seed=seed)
        rows.append((f"{arm} - {other}", *over_documents, p, int((apart > 0).sum()), *over_seeds))
    table = pd.DataFrame(rows, columns=["name", "value", "low", "high", "p", "seeds", "seed_low", "seed_high"])
    return table.assign(p_holm=stats.holm(table["p"].to_numpy()))


def _check_same_documents(a: Simulatability, b: Simulatability) -> None:
    if len(a.sums) != len(b.sums):
        raise ValueError(f"a and b need the same documents (paired), got {len(a.sums)} and {len(b.sums)}")


def _las(sums: Float[np.ndarray, "b 6 m"]) -> Float[np.ndarray, "b m"]:
    return (stats.ratio(sums[:, 0:2]) + stats.ratio(sums[:, 2:4])) / 2
