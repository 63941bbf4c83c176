"""Does an explanation help to predict its model's answer, beyond stating it? LAS as published, and balanced.

Notes: leakage-adjusted simulatability (Hase et al., 2020, arXiv:2010.04119). A simulator predicts the explained model's
own answer from the document x, the explanation e (the CoT without the answer), or both. For documents with many labels
we define two kinds of item. "labels": a document and one of its candidate labels; the simulator is right where it
predicts whether the answer has the label. "first": a document; the simulator is right where the candidate that it
scores highest is the answer's first label. The simulator is a logistic regression on how label and text match.
Most items of the first kind are labels that are not answered, so that a simulator that always says no is nearly always
right. Balanced LAS (our definition) therefore weighs items, so that those whose label is answered count as much, all
together, as those whose label is not: accuracies become balanced accuracies. Of the second kind it is LAS itself.
n documents; items: candidates of all documents, in their order.

    measured = features(documents, [trace.cot for trace in traces], candidates, space, encoder)
    simulator = Simulator.fit(measured, candidates, answers)  # of training documents
    result = of_sums(item_sums(simulator, measured, candidates, answers)[None])  # of other documents
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import permutation_test

from ctd import stats
from ctd.cache import DATA
from ctd.distill.simulator import Shown, Simulator, held_items
from ctd.stats import Interval
from ctd.stats.resampling import Options

Measure = Literal["balanced", "published"]
SUMS = 6  # of the items of one class: see `Simulatability.sums`
TIE = 1e-9  # log-odds no further apart are equal: a last bit finds no label
OUR_NAMES = {
    "^full$": "mechanistic", "^vanilla_cot$": "cot", r"_phase(\d)$": r" phase \1", r"_p(\d)_(\w+)$": r" \2\1",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Simulatability:
    """LAS and its parts, as shares of items: -1 .. 1 for LAS and gaps, 0 .. 1 for accuracies.

    balanced: LAS with the items of both classes weighed alike; NaN where a bin is empty.
    las: LAS as published, the unweighted mean of the two gaps; NaN where a bin is empty.
    leaking: what the explanation adds to the accuracy of sim(x), in items that leak.
    other: the same in all other items.
    n_leaking: how many items leak.
    n_other: how many do not.
    accuracies: of the simulator by what is shown, "xe", "x" and "e"; the last is the share of items that leak.
    balanced_accuracies: likewise, the mean over items whose label is answered and those whose label is not.
    majority: accuracy of always guessing the more frequent class; its balanced accuracy is 0.5.
    sums: for each document the gap in leaking items, their number, the gap in the others, their number, and how many
        items are right by (x, e) and by x: six of items whose label is answered, then six of those whose label is not.
    each: balanced LAS of each student alone (`of_students`); NaN where a bin is empty.
    each_published: LAS as published of each student alone.
    """

    balanced: Interval
    las: Interval
    leaking: Interval
    other: Interval
    n_leaking: int
    n_other: int
    accuracies: dict[str, Interval]
    balanced_accuracies: dict[str, Interval]
    majority: Interval
    sums: Float[np.ndarray, "n 12"]
    each: Float[np.ndarray, " students"]
    each_published: Float[np.ndarray, " students"]


def item_sums(
    simulator: Simulator,
    measured: Float[np.ndarray, "items 10"],
    candidates: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
) -> Float[np.ndarray, "n 12"]:
    """What LAS is made of, summed over the items of each document (`Simulatability.sums`).

    The simulator was not trained on these documents. An item leaks where sim(e) is right. With "first" a document
    without an answer is no item, and a label that ties for the highest score is not found.
    Raises what `Simulator.fit` raises of its arguments (one class is allowed).
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
    items = np.stack([leaks * (both - x), leaks, (1 - leaks) * (both - x), 1 - leaks, both, x], axis=1)
    sums = np.zeros((len(candidates), 2, SUMS))
    np.add.at(sums, (document[judged], np.where(held[judged], 0, 1)), items)
    return sums.reshape(len(candidates), -1)


def of_sums(by_student: Float[np.ndarray, "students n 12"], draws: int = 1000, seed: int = 0) -> Simulatability:
    """LAS (Hase et al.) of several students, their items counted together, from the sums of each (`item_sums`).

    Intervals: over documents, with the bins of each draw; a draw with an empty bin is left out (`stats.bootstrap`).
    """
    sums = by_student.sum(axis=0)
    options = Options(draws=draws, seed=seed)
    pooled, right = _pooled(sums), _right(sums)
    n_leaking, n_other = pooled[:, 1], pooled[:, 3]
    parts = stats.bootstrap_ratio(
        np.column_stack([pooled[:, [0, 2]], right.sum(axis=1)]),
        np.stack([n_leaking, n_other, *[n_leaking + n_other] * 3], axis=1),
        **options,
    )
    shown = get_args(Shown)
    by_class = np.concatenate([right, _items(sums)[..., None]], axis=2)  # of each class: right by xe, x, e; items
    each = {measure: _of_measure(by_student.sum(axis=1)[..., None], measure)[:, 0] for measure in get_args(Measure)}
    return Simulatability(
        balanced=stats.bootstrap(sums, lambda total: _of_measure(total, "balanced"), **options),
        las=stats.bootstrap(sums, lambda total: _of_measure(total, "published"), **options),
        leaking=parts[0],
        other=parts[1],
        n_leaking=int(n_leaking.sum()),
        n_other=int(n_other.sum()),
        accuracies={name: parts[2 + place] for place, name in enumerate(shown)},
        balanced_accuracies={
            name: stats.bootstrap(by_class[:, :, [place, 3]].reshape(len(sums), 4), _balanced, **options)
            for place, name in enumerate(shown)
        },
        majority=stats.bootstrap(_items(sums), lambda total: total.max(axis=1) / total.sum(axis=1), **options),
        sums=sums,
        each=each["balanced"],
        each_published=each["published"],
    )


def pseudo_values(
    by_student: Float[np.ndarray, "students n 12"], measure: Measure = "balanced"
) -> Float[np.ndarray, "students n"]:
    """What each document of each student adds to the LAS of the students together: values whose mean is that LAS.

    The measures of single documents have intervals and tests for other documents and other students; with these values
    LAS has them too.
    by_student: sums of each student (`item_sums`).
    measure: which LAS.
    Returns NaN where LAS has no value, or would have none without some document.
    Source: the jackknife (Tukey, 1958); the shift to the mean is ours.
    """
    cells = by_student.reshape(-1, by_student.shape[-1]).T
    total = cells.sum(axis=1, keepdims=True)
    level, without = _of_measure(total[None], measure)[0], _of_measure((total - cells)[None], measure)[0]
    values = level + (len(without) - 1) * (without.mean() - without)
    return values.reshape(by_student.shape[:2])


def table(scored: Mapping[str, Simulatability]) -> pd.DataFrame:
    """Both LAS, both gaps and the simulator's accuracies of each arm: columns arm, measure, value, low, high."""
    rows = []
    for arm, score in scored.items():
        intervals = {"balanced LAS": score.balanced, "LAS": score.las}
        intervals |= {"gap, leaking": score.leaking, "gap, not leaking": score.other}
        intervals |= {f"balanced sim({', '.join(shown)})": each for shown, each in score.balanced_accuracies.items()}
        intervals |= {f"sim({', '.join(shown)})": accuracy for shown, accuracy in score.accuracies.items()}
        intervals |= {"always the majority": score.majority}
        rows += [(arm, measure, *interval.scalar) for measure, interval in intervals.items()]
    return pd.DataFrame(rows, columns=["arm", "measure", "value", "low", "high"])


def published() -> pd.DataFrame:
    """LAS of arXiv:2606.06840: columns arm (as chapter 13 names it), published (MIMIC-IV), published (WikiSeeAlso)."""
    notes = json.loads((DATA / "published.json").read_text("utf-8"))["las"]
    names = {"mimic_iv": "published (MIMIC-IV)", "wikiseealso_320k": "published (WikiSeeAlso)"}
    rows = pd.DataFrame(notes).rename(columns=names).rename_axis("arm").reset_index()
    return rows.assign(arm=rows["arm"].replace(OUR_NAMES, regex=True))


def las_difference(a: Simulatability, b: Simulatability, measure: Measure = "balanced", seed: int = 0) -> Interval:
    """LAS of a minus LAS of b on the same n documents: paired, and NaN where either is NaN.

    measure: which LAS.
    Raises ValueError for other numbers of documents, and what `stats.bootstrap` raises.
    """
    _check_same_documents(a, b)
    pairs, n_sums = np.hstack([a.sums, b.sums]), a.sums.shape[1]

    def difference(sums: Float[np.ndarray, "b sums m"]) -> Float[np.ndarray, "b m"]:
        return _of_measure(sums[:, :n_sums], measure) - _of_measure(sums[:, n_sums:], measure)

    return stats.bootstrap(pairs, difference, seed=seed)


def exchange_test(a: Simulatability, b: Simulatability, measure: Measure = "balanced", seed: int = 0) -> float:
    """The two-sided p-value of `las_difference`, by a permutation test that exchanges all items of a document.

    It is 1 where either has no LAS. Raises ValueError for other numbers of documents.
    """
    _check_same_documents(a, b)
    n, rows = len(a.sums), np.vstack([a.sums, b.sums])

    def difference(left: Int[np.ndarray, "*b n"], right: Int[np.ndarray, "*b n"], axis: int) -> Float[np.ndarray, "*b"]:
        sides = (rows[places].sum(axis=axis - 1).reshape(-1, rows.shape[1], 1) for places in (left, right))
        first, second = (_of_measure(sums, measure) for sums in sides)
        return np.nan_to_num(first - second).reshape(left.shape[:-1])

    test = permutation_test(
        (np.arange(n), np.arange(n, 2 * n)), difference, permutation_type="samples", vectorized=True,
        n_resamples=9999, batch=1000, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(test.pvalue)


def gains(
    scored: Mapping[str, Simulatability],
    pairs: Sequence[tuple[str, str]],
    measure: Measure = "balanced",
    seed: int = 0,
) -> pd.DataFrame:
    """LAS of one arm minus that of another, for each pair.

    scored: by arm.
    pairs: names of an arm and another.
    measure: which LAS.
    Returns the columns of `tables.gains` without an effect size; the name is "arm - other", p is that of
    `exchange_test`, and Holm's correction is over the pairs.
    Raises what `las_difference` raises.
    """
    rows = []
    for arm, other in pairs:
        a, b = scored[arm], scored[other]
        apart = a.each - b.each if measure == "balanced" else a.each_published - b.each_published
        over_documents = las_difference(a, b, measure, seed=seed).scalar
        over_seeds = stats.t_interval(apart).scalar[1:]
        p = exchange_test(a, b, measure, seed=seed)
        rows.append((f"{arm} - {other}", *over_documents, p, int((apart > 0).sum()), *over_seeds))
    table = pd.DataFrame(rows, columns=["name", "value", "low", "high", "p", "seeds", "seed_low", "seed_high"])
    return table.assign(p_holm=stats.holm(table["p"].to_numpy()))


def _check_same_documents(a: Simulatability, b: Simulatability) -> None:
    if len(a.sums) != len(b.sums):
        raise ValueError(f"a and b need the same documents (paired), got {len(a.sums)} and {len(b.sums)}")


def _pooled(sums: Float[np.ndarray, "b 12 ..."]) -> Float[np.ndarray, "b 6 ..."]:
    """The sums over items of both classes."""
    return sums[:, :SUMS] + sums[:, SUMS:]


def _items(sums: Float[np.ndarray, "n 12"]) -> Float[np.ndarray, "n 2"]:
    """How many items of each class there are."""
    by_class = sums.reshape(len(sums), 2, SUMS)
    return by_class[:, :, 1] + by_class[:, :, 3]


def _right(sums: Float[np.ndarray, "n 12"]) -> Float[np.ndarray, "n 2 3"]:
    """How many items of each class are right by (x, e), by x and by e."""
    return sums.reshape(len(sums), 2, SUMS)[:, :, [4, 5, 1]]


def _of_measure(sums: Float[np.ndarray, "b 12 m"], measure: Measure) -> Float[np.ndarray, "b m"]:
    """The mean over the two bins of the gap; NaN where a bin is empty.

    Each item counts once ("published"), or by one over the number of items of its class ("balanced").
    """
    if measure == "published":
        pooled = _pooled(sums)
        return (stats.ratio(pooled[:, 0:2]) + stats.ratio(pooled[:, 2:4])) / 2
    by_class = sums.reshape(len(sums), 2, SUMS, -1)
    weights = 1 / np.maximum(by_class[:, :, [1, 3]].sum(axis=2), 1)  # the items of each class count 1 together
    weighed = np.einsum("bcsm,bcm->bsm", by_class, weights)
    return (stats.ratio(weighed[:, 0:2]) + stats.ratio(weighed[:, 2:4])) / 2


def _balanced(sums: Float[np.ndarray, "b 4 m"]) -> Float[np.ndarray, "b m"]:
    """The mean of the two classes' ratios of a sum to the number of items; of one class where the other has none."""
    answered, other = stats.ratio(sums[:, 0:2]), stats.ratio(sums[:, 2:4])
    there = ~np.isnan(answered), ~np.isnan(other)
    total = np.where(there[0], answered, 0) + np.where(there[1], other, 0)
    return np.divide(
        total, there[0].astype(int) + there[1], out=np.full(total.shape, np.nan), where=there[0] | there[1]
    )
