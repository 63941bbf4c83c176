"""Does an explanation tell what its model will answer, and not merely because it says so? LAS, the published measure.

Notes: leakage-adjusted simulatability (Hase et al., 2020, arXiv:2010.04119). A simulator guesses the explained model's
own answer from the document x, the explanation e (the CoT alone, nothing of the answer), or both. For many labels a
document it is our definition, and there are two. "labels": an item is a document and one of its candidate labels, the
simulator is right where it tells whether the answer holds the label, and all items weigh the same. "first": an item is
a document, and the simulator is right where the candidate that it scores highest is the answer's first label. It is a
logistic regression on how label and text match. n documents; items = candidates of all documents, in their order.

    measured = features(documents, [trace.cot for trace in traces], candidates, space, encoder)
    simulator = Simulator.fit(measured, candidates, answers)  # those of training documents
    found = las(simulator, measured, candidates, answers)  # of others
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.stats import permutation_test
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.pipeline import Pipeline, make_pipeline  # type: ignore[import-untyped]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

from ctd import stats
from ctd.cache import DATA
from ctd.data.label_space import LabelSpace
from ctd.mechanism import embed_text
from ctd.reasoning.read_text import mentions
from ctd.reasoning.traces import Mention
from ctd.retrieval.encoders import Encoder
from ctd.stats import Interval
from ctd.text import normalise

Shown = Literal["xe", "x", "e"]
Which = Literal["labels", "first"]
MATCHES = ("cosine", "share of words", "to the letter", "last mention", "mentions")  # of a label and a text
TIE = 1e-9  # log-odds no further apart are equal: a last bit finds no label
OUR_NAMES = {
    "^full$": "mechanistic", "^vanilla_cot$": "cot", r"_phase(\d)$": r" phase \1", r"_p(\d)_(\w+)$": r" \2\1",
}  # fmt: skip


def features(
    documents: Sequence[str],
    explanations: Sequence[str],
    candidates: Sequence[Sequence[int]],
    space: LabelSpace,
    encoder: Encoder,
) -> Float[np.ndarray, "items 10"]:
    """How each candidate label matches its document (columns 0 to 4) and the explanation (5 to 9), by `MATCHES`.

    cosine: of e(label) and e(text), whole texts (`embed_text.embed`), 0 for an empty one. share of words: how many of
    the label's, normalised, are in the text. to the letter: 1 where the text names the label so (`read_text.mentions`:
    whole words, not as part of a longer label). last mention: where it ends, 0 none .. 1 the text's end. mentions:
    ln(1 + their number). Both texts are asked the same: a copy of the document explains nothing (our definition).
    Raises ValueError for no documents, lengths that differ, a document without candidates or with one twice, or a
    number that is no label.
    """
    _check(candidates, documents=documents, explanations=explanations)
    for labels in candidates:
        space.check(labels)
    return np.hstack([_matches(texts, candidates, space, encoder) for texts in (documents, explanations)])


@dataclass(frozen=True, eq=False)
class Simulator:
    """A guess at the explained model's answer from document, explanation or both: one model, made by `fit`.

    regression: scikit-learn's. which: what it was trained to tell, and is judged by.
    """

    regression: Pipeline
    which: Which

    @classmethod
    def fit(
        cls,
        measured: Float[np.ndarray, "items 10"],
        candidates: Sequence[Sequence[int]],
        answers: Sequence[Sequence[int]],
        which: Which = "labels",
    ) -> Simulator:
        """Trained with input dropout (Hase et al.), exhaustive: each item is seen with (x, e), x alone and e alone.

        measured: `features` of training documents. answers: the explained model's own labels, its first one first.
        What is dropped is zeros; two indicators say what is there. Where both are, each feature stands there once more
        (our definition): x may weigh less beside e. With weights in common sim(x) suffers, and a mere copy of the
        document has a LAS above 0. Features are divided by their standard deviation; penalty L2, C = 1.
        Raises ValueError for lengths that differ, other than one row of features an item, an unknown `which`, what
        `features` says of candidates, a first label that is no candidate ("first"), or items of one class only.
        """
        held, _ = _held(measured, candidates, answers, which)
        if held.all() or not held.any():
            kind = "answered" if held.any() else "not answered"
            raise ValueError(f"a simulator learns from labels answered and not, got {len(held)} items, all {kind}")
        seen = np.vstack([_shown(measured, shown) for shown in get_args(Shown)])
        regression = make_pipeline(StandardScaler(with_mean=False), LogisticRegression(max_iter=1000))
        return cls(regression.fit(seen, np.tile(held, len(get_args(Shown)))), which)

    def predict(self, measured: Float[np.ndarray, "items 10"], shown: Shown = "xe") -> Float[np.ndarray, " items"]:
        """Log-odds (nats) that the label is answered, from what is shown: above 0 it is more likely than not.

        Raises ValueError for anything shown but "xe", "x" and "e".
        """
        return self.regression.decision_function(_shown(measured, shown))


@dataclass(frozen=True, eq=False)
class Simulatability:
    """LAS and what it is made of, as shares of items: -1 .. 1 for LAS and gaps, 0 .. 1 for accuracies.

    las: unweighted mean of the two gaps; NaN where a bin is empty. leaking, other: the gap, which is what e adds to the
    accuracy of sim(x), in the bin of that name. n_leaking, n_other: its items. accuracies: of the simulator by what is
    shown, "xe", "x" and "e"; the last is the share of items that leak. sums: of each document the gap in leaking items,
    their number, the gap in the others, their number, and how many are right by (x, e) and by x. each: the LAS of each
    student alone (`of_students`), NaN where a bin is empty.
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
    held, document = _held(measured, candidates, answers, simulator.which)
    judged = held if simulator.which == "first" else np.ones(len(held), bool)
    right = {}
    for shown in get_args(Shown):
        scores = simulator.predict(measured, shown)
        rival = np.full(len(candidates), -np.inf)
        np.maximum.at(rival, document[~held], scores[~held])
        found = scores > rival[document] + TIE if simulator.which == "first" else (scores > 0) == held
        right[shown] = found[judged].astype(float)
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
        draws, level, seed,
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

    answers, cots: of each student, of each document. Candidates of a document: what the student answered, what its CoT
    names, and `retrieved`. A student's simulator learns from every other document and is asked about the rest, then the
    other way round. Raises ValueError for fewer than 4 documents, and what `features`, `Simulator.fit` and `las` raise.
    """
    if len(documents) < 4:
        raise ValueError(f"half of the documents are learned from, half asked about: at least 4, got {len(documents)}")
    sums = np.zeros((len(answers), len(documents), 6))
    for own_sums, answered, told in zip(sums, answers, cots, strict=True):
        named = [[mention.label for mention in mentions(cot, space)] for cot in told]
        candidates = [
            [int(label) for label in dict.fromkeys([*own, *by_cot, *others]) if label >= 0]
            for own, by_cot, others in zip(answered, named, retrieved, strict=True)
        ]
        measured = features(documents, told, candidates, space, encoder)
        document = np.repeat(np.arange(len(candidates)), [len(labels) for labels in candidates])
        for half in (0, 1):
            asked = np.arange(len(documents)) % 2 == half
            learned, judged = (
                (measured[mine[document]], [candidates[row] for row in rows], [answered[row] for row in rows])
                for mine, rows in ((of, np.flatnonzero(of).tolist()) for of in (~asked, asked))
            )
            own_sums[asked] = las(Simulator.fit(*learned, which), *judged, draws=1).sums
    each = _las(sums.sum(axis=1)[..., None])[:, 0]
    return replace(of_sums(sums.sum(axis=0), seed=seed), each=each)


def table(scored: Mapping[str, Simulatability]) -> pd.DataFrame:
    """LAS, both gaps and the simulator's accuracies of each arm: columns arm, measure, value, low, high."""
    rows = []
    for arm, one in scored.items():
        told = {"LAS": one.las, "gap, leaking": one.leaking, "gap, not leaking": one.other}
        told |= {f"sim({', '.join(shown)})": found for shown, found in one.accuracies.items()}
        rows += [(arm, measure, *interval.scalar) for measure, interval in told.items()]
    return pd.DataFrame(rows, columns=["arm", "measure", "value", "low", "high"])


def published() -> pd.DataFrame:
    """LAS of arXiv:2606.06840: columns arm (as chapter 12 names it), published (MIMIC-IV), published (WikiSeeAlso)."""
    notes = json.loads((DATA / "published.json").read_text())["las"]
    names = {"mimic_iv": "published (MIMIC-IV)", "wikiseealso_320k": "published (WikiSeeAlso)"}
    found = pd.DataFrame(notes).rename(columns=names).rename_axis("arm").reset_index()
    return found.assign(arm=found["arm"].replace(OUR_NAMES, regex=True))


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
    """Two-sided p-value of that difference: what a and b have of a document changes sides (`scipy`'s permutation test).

    1 where either has no LAS. Raises ValueError for other numbers of documents.
    """
    _check_same_documents(a, b)
    n, rows = len(a.sums), np.vstack([a.sums, b.sums])

    def difference(one: Int[np.ndarray, "*b n"], other: Int[np.ndarray, "*b n"], axis: int) -> Float[np.ndarray, "*b"]:
        first, second = (_las(rows[of].sum(axis=axis - 1).reshape(-1, 6, 1)) for of in (one, other))
        return np.nan_to_num(first - second).reshape(one.shape[:-1])

    found = permutation_test(
        (np.arange(n), np.arange(n, 2 * n)), difference, permutation_type="samples", vectorized=True,
        n_resamples=draws, batch=1000, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(found.pvalue)


def gains(scored: Mapping[str, Simulatability], pairs: Sequence[tuple[str, str]], seed: int = 0) -> pd.DataFrame:
    """LAS of one arm less that of another, for each pair: as `arms.gains`, without an effect size; name "arm - other".

    p: of `exchange_test`; Holm over the pairs. Raises what `las_difference` raises.
    """
    rows = []
    for arm, other in pairs:
        a, b = scored[arm], scored[other]
        apart = a.each - b.each
        over_documents = las_difference(a, b, seed=seed).scalar
        over_seeds = stats.t_interval(apart).scalar[1:]
        p = exchange_test(a, b, seed=seed)
        rows.append((f"{arm} - {other}", *over_documents, p, int((apart > 0).sum()), *over_seeds))
    found = pd.DataFrame(rows, columns=["name", "value", "low", "high", "p", "seeds", "seed_low", "seed_high"])
    return found.assign(p_holm=stats.holm(found["p"].to_numpy()))


def _check_same_documents(a: Simulatability, b: Simulatability) -> None:
    if len(a.sums) != len(b.sums):
        raise ValueError(f"a and b need the same documents (paired), got {len(a.sums)} and {len(b.sums)}")


def _las(sums: Float[np.ndarray, "b 6 m"]) -> Float[np.ndarray, "b m"]:
    return (stats.ratio(sums[:, 0:2]) + stats.ratio(sums[:, 2:4])) / 2


def _matches(
    texts: Sequence[str], candidates: Sequence[Sequence[int]], space: LabelSpace, encoder: Encoder
) -> Float[np.ndarray, "items 5"]:
    """`MATCHES` of each candidate with its document's text."""
    names = [space.texts[label] for labels in candidates for label in labels]
    of_labels = embed_text.embed(encoder, names, desc="embedding labels")
    of_texts = np.repeat(embed_text.embed(encoder, texts), [len(labels) for labels in candidates], axis=0)
    rows = []
    for text, labels in zip(texts, candidates, strict=True):
        words = set(normalise(text).split())
        named: defaultdict[int, list[Mention]] = defaultdict(list)
        for mention in mentions(text, space):
            named[mention.label].append(mention)
        for label in labels:
            name, found = space.texts[label], named[label]
            own = set(normalise(name).split())
            exact = any(text[mention.start : mention.end] == name for mention in found)
            last = found[-1].end / len(text) if found else 0.0
            rows.append((len(own & words) / max(len(own), 1), exact, last, np.log1p(len(found))))
    cosines = np.nan_to_num(np.einsum("id,id->i", of_labels, of_texts, dtype=np.float64))
    return np.column_stack([cosines, np.array(rows, np.float64)])


def _shown(measured: Float[np.ndarray, "items 10"], shown: Shown) -> Float[np.ndarray, "items 22"]:
    """What the regression sees: the features of what is shown, again where both are, and an indicator of each."""
    if shown not in get_args(Shown):
        raise ValueError(f"shown must be one of {', '.join(get_args(Shown))}, got {shown!r}")
    there = np.array(["x" in shown, "e" in shown])
    visible = np.where(np.repeat(there, len(MATCHES)), measured, 0.0)
    return np.hstack([visible, visible * there.all(), np.tile(there, (len(measured), 1))])


def _held(
    measured: Float[np.ndarray, "items 10"],
    candidates: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    which: Which,
) -> tuple[Bool[np.ndarray, " items"], Int[np.ndarray, " items"]]:
    """Whether each item's label is answered (with "first": is the first answered), and which document it belongs to."""
    if which not in get_args(Which):
        raise ValueError(f"which must be one of {', '.join(get_args(Which))}, got {which!r}")
    _check(candidates, answers=answers)
    document = np.repeat(np.arange(len(candidates)), [len(labels) for labels in candidates])
    if np.shape(measured) != (wanted := (len(document), 2 * len(MATCHES))):
        raise ValueError(f"features need the shape [items, columns] = {wanted}, got {np.shape(measured)}")
    held: list[bool] = []
    for row, (labels, answer) in enumerate(zip(candidates, answers, strict=True)):
        if which == "first" and not set(answer := answer[:1]) <= set(labels):
            raise ValueError(f"candidates of document {row} must hold the first label of its answer, {answer[0]}")
        held += [label in answer for label in labels]
    return np.array(held), document


def _check(candidates: Sequence[Sequence[int]], **others: Sized) -> None:
    for name, of in others.items():
        if len(of) != len(candidates):
            raise ValueError(f"{name} need one entry a document, got {len(of)}, and candidates of {len(candidates)}")
    if not len(candidates):
        raise ValueError("simulatability needs at least 1 document, got 0")
    for row, labels in enumerate(candidates):
        if not len(labels) or len(set(labels)) < len(labels):
            raise ValueError(f"document {row} needs at least 1 candidate, and none twice, got {list(labels)}")
