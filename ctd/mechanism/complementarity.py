"""Do the two phases add up? The factorial of shortlists and refinements, Shapley shares, errors removed, heads noised.

Notes: a document's score in a cell of the factorial is that of the answer that this shortlist and this refinement give
(our definition). Effects are linear in the cells, so that each is one paired contrast over documents, for nDCG@k (a
mean) as for PSP@k (a ratio of sums whose denominators no cell changes). A phase left out is a retriever's shortlist
of equal length (or a corrupted one) in place of the model's own, and the shortlist in its order in place of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

from ctd import stats
from ctd.data.task import Task
from ctd.mechanism.attention import Head
from ctd.mechanism.isolation import KINDS
from ctd.mechanism.patch_effects import Effects
from ctd.mechanism.phases import Phase
from ctd.retrieval import metrics, shortlist_tables
from ctd.retrieval import shortlists as sl
from ctd.retrieval.shortlists import Shortlist
from ctd.text import excerpt

Metric = Literal["nDCG", "PSP"]
REFINEMENTS = ("none", "own", "oracle")
ALONE = {phase: f"{phase} alone" for phase in Phase}
CORNERS = {"neither phase": (0, 0), ALONE[Phase.SHORTLIST]: (1, 0), ALONE[Phase.REFINE]: (0, 1), "both phases": (1, 1)}
SHARES = tuple(f"Shapley share of {phase}" for phase in Phase)
LOST = tuple(f"lost without {phase}" for phase in Phase)
SYNERGY = "beyond adding up"
BOTH = "both"
WORSE_IS_HIGHER = ("confusion",)  # readouts that rise with the damage
Weights = Float[np.ndarray, "shortlists refinements"]


@dataclass(frozen=True, eq=False)
class Factorial:
    """Scores of n documents in each cell: the metric is the sum of `gains` over the sum of `ideals`.

    gains: of a document in a cell. ideals: of a document, the same in every cell (1 for a mean). Axes 1 and 2 of
    `gains` are `shortlists` and `refinements`.
    """

    gains: Float[np.ndarray, "n shortlists refinements"]
    ideals: Float[np.ndarray, " n"]
    shortlists: tuple[str, ...] = KINDS
    refinements: tuple[str, ...] = REFINEMENTS

    def __post_init__(self) -> None:
        wanted = (len(self.ideals), len(self.shortlists), len(self.refinements))
        if np.shape(self.gains) != wanted:
            raise ValueError(
                f"gains need the shape [documents, shortlists, refinements] = {wanted}, got {np.shape(self.gains)}"
            )

    def cells(self, seed: int = 0) -> pd.DataFrame:
        """The score in every cell: columns shortlist, refinement, value, low, high."""
        found = stats.bootstrap_ratio(
            self.gains, np.broadcast_to(self.ideals[:, None, None], self.gains.shape), seed=seed
        )
        rows = [
            (shortlist, refinement, *found[i, j].scalar)
            for i, shortlist in enumerate(self.shortlists)
            for j, refinement in enumerate(self.refinements)
        ]
        return pd.DataFrame(rows, columns=["shortlist", "refinement", "value", "low", "high"])

    def contrasts(self, weights: Mapping[str, Weights], seed: int = 0) -> pd.DataFrame:
        """Weighted sums of the cells, a row each, with the columns of `stats.compared` (p corrected over the rows).

        Raises ValueError for weights of another shape.
        """
        for name, of in weights.items():
            if np.shape(of) != self.gains.shape[1:]:
                raise ValueError(f"weights of {name!r} need the shape {self.gains.shape[1:]}, got {np.shape(of)}")
        differences = {name: np.einsum("nij,ij->n", self.gains, of) for name, of in weights.items()}
        return stats.compared(differences, seed, self.ideals)

    def cell(self, shortlist: str, refinement: str) -> Weights:
        """The weights that pick one cell. Raises ValueError for a name that the factorial does not have."""
        for name, names in ((shortlist, self.shortlists), (refinement, self.refinements)):
            if name not in names:
                raise ValueError(f"{name!r} is not one of {', '.join(names)}")
        picked = np.zeros(self.gains.shape[1:])
        picked[self.shortlists.index(shortlist), self.refinements.index(refinement)] = 1.0
        return picked

    def gained(self, seed: int = 0) -> pd.DataFrame:
        """What the model's own refinement adds to each shortlist in its order: a row a shortlist, as in `contrasts`."""
        return self.contrasts(
            {name: self.cell(name, "own") - self.cell(name, "none") for name in self.shortlists}, seed
        )

    def effects(self, seed: int = 0) -> dict[str, pd.DataFrame]:
        """Main effects of shortlist and refinement, and their interaction, each as deviations that sum to zero.

        With the grand mean they add up to every cell, as in the analysis of variance. Three tables, by name, columns as
        in `contrasts`; a row of "interaction" is named "shortlist, refinement".
        """
        rows, columns = self.gains.shape[1:]
        by_shortlist = {name: _deviation(rows, i)[:, None] / columns for i, name in enumerate(self.shortlists)}
        by_refinement = {name: _deviation(columns, j)[None] / rows for j, name in enumerate(self.refinements)}
        tables = {
            "shortlist": {name: of.repeat(columns, 1) for name, of in by_shortlist.items()},
            "refinement": {name: of.repeat(rows, 0) for name, of in by_refinement.items()},
            "interaction": {
                f"{shortlist}, {refinement}": np.outer(_deviation(rows, i), _deviation(columns, j))
                for i, shortlist in enumerate(self.shortlists)
                for j, refinement in enumerate(self.refinements)
            },
        }
        return {name: self.contrasts(weights, seed) for name, weights in tables.items()}

    def corners(self, absent: str = "retrieved") -> dict[str, Weights]:
        """The cells with neither, one, or both of the model's own phases (`CORNERS`).

        absent: the shortlist in place of its own.
        """
        names = ((absent, "own"), ("none", "own"))
        return {corner: self.cell(names[0][first], names[1][second]) for corner, (first, second) in CORNERS.items()}

    def phases(self, absent: str = "retrieved", seed: int = 0) -> pd.DataFrame:
        """What each phase buys: the four corners, exact Shapley shares, losses and synergy, columns as in `contrasts`.

        The shares add up to "both phases" less "neither phase"; "beyond adding up" is both - alone - alone + neither,
        above 0 where each phase is worth more beside the other. absent: as in `corners`.
        """
        neither, first, second, both = self.corners(absent).values()
        shares = ((first - neither + both - second) / 2, (second - neither + both - first) / 2)
        told = {
            **dict(zip(SHARES, shares, strict=True)),
            **dict(zip(LOST, (both - second, both - first), strict=True)),
            SYNERGY: both - first - second + neither,
        }
        corners = self.contrasts(self.corners(absent), seed).assign(
            p=np.nan, p_holm=np.nan, cohen_d=np.nan, dominance=np.nan
        )
        return pd.concat([corners, self.contrasts(told, seed)], ignore_index=True)

    def rescued(self, absent: str = "retrieved", most: int = 5) -> pd.DataFrame:
        """Documents in which one phase rescues the other: those where adding it to the other alone gains most.

        For each phase the `most` documents with the largest gain above 0, the first in order where gains are alike
        (the rule). Columns row, rescuer, alone (the score with the other phase alone), both.
        """
        scores = {name: np.einsum("nij,ij->n", self.gains, of) for name, of in self.corners(absent).items()}
        both, rows = scores["both phases"], []
        for rescuer, rescued in ((Phase.SHORTLIST, Phase.REFINE), (Phase.REFINE, Phase.SHORTLIST)):
            other = scores[ALONE[rescued]]
            gain = both - other
            best = np.argsort(-gain, kind="stable")[:most]
            rows += [(int(row), str(rescuer), float(other[row]), float(both[row])) for row in best if gain[row] > 0]
        return pd.DataFrame(rows, columns=["row", "rescuer", "alone", "both"])


def factorial(
    given: Mapping[str, Sequence[Sequence[int]]],
    outputs: Mapping[str, Shortlist],
    gold: csr_matrix,
    propensity: Float[np.ndarray, " labels"],
    metric: Metric = "nDCG",
    cutoff: int = 5,
) -> Factorial:
    """The factorial of shortlists and refinements.

    given: the shortlists that were handed over, in their order. outputs: what the model answered on each. propensity:
    inverse ones, of each label. Raises ValueError for an unknown metric, or shortlists without an output.
    """
    if metric not in get_args(Metric):
        raise ValueError(f"metric must be one of {', '.join(get_args(Metric))}, got {metric!r}")
    if set(given) != set(outputs):
        raise ValueError(f"each shortlist needs an output, got {', '.join(given)} and {', '.join(outputs)}")
    scored = {
        name: [
            _scored(pred, gold, propensity, metric, cutoff)
            for pred in answers(lists, outputs[name], gold, propensity, cutoff)
        ]
        for name, lists in given.items()
    }
    gains = np.array([[above for above, _ in row] for row in scored.values()])
    ideals = next(iter(scored.values()))[0][1]
    return Factorial(gains.transpose(2, 0, 1), ideals, tuple(given))


def answers(
    lists: Sequence[Sequence[int]],
    output: Shortlist,
    gold: csr_matrix,
    propensity: Float[np.ndarray, " labels"],
    cutoff: int,
) -> tuple[Shortlist, Shortlist, Shortlist]:
    """A shortlist as it stands, what the model made of it, and its gold labels put first, the rarest before others."""
    right = [set(row.indices.tolist()) for row in gold]
    first = [
        sorted(labels, key=lambda label: (label not in hits, -propensity[label])) if hits else list(labels)
        for labels, hits in zip(lists, right, strict=True)
    ]
    return sl.as_array(lists, cutoff), output, sl.as_array(first, cutoff)


def errors_removed(
    given: Mapping[str, Sequence[Sequence[int]]],
    outputs: Mapping[str, Shortlist],
    gold: csr_matrix,
    cutoff: int,
    groups: Mapping[str, tuple[Int[np.ndarray, " x"], Sequence[str]]],
    absent: str = "retrieved",
    seed: int = 0,
) -> pd.DataFrame:
    """Which errors each phase removes by itself, and whether they are the same ones.

    An error is a gold label that is not among the first `cutoff` with neither phase; a phase removes it where the label
    is there with that phase alone (our definition). groups: by what they are grouped, the number of each document's or
    each label's group, and the groups' names. Columns by, group, errors, phase_1, phase_2 (shares removed), both (share
    that each removes), jaccard and yules_q with low and high; Q is 1 where the same are removed, -1 where others are,
    and NaN where it is not defined.
    """
    document, label = gold.nonzero()
    base, alone_1, alone_2 = (
        np.asarray(shortlist_tables.found_pairs(pred[:, :cutoff], gold)[document, label]).ravel()
        for pred in (sl.as_array(given[absent], cutoff), sl.as_array(given["own"], cutoff), outputs[absent])
    )
    missed = ~base
    kind = np.where(alone_1, np.where(alone_2, 0, 1), np.where(alone_2, 2, 3))
    rows = []
    for by, (of, called) in {"all": (np.zeros(gold.shape[0], int), ["all"]), **groups}.items():
        member = of[document if len(of) == gold.shape[0] else label]
        counts = np.zeros((gold.shape[0], 4, len(called)))
        np.add.at(counts, (document[missed], kind[missed], member[missed]), 1.0)
        overlap = [stats.bootstrap(counts, of, seed=seed) for of in (jaccard, yules_q)]
        both, first, second, _ = total = counts.sum(0)
        for place, group in enumerate(called):
            if not (n := total[:, place].sum()):
                continue
            shares = ((both + first)[place] / n, (both + second)[place] / n, both[place] / n)
            rows.append((by, group, int(n), *shares, *overlap[0][place].scalar, *overlap[1][place].scalar))
    columns = ["by", "group", "errors", "phase_1", "phase_2", "both", "jaccard", "jaccard_low", "jaccard_high"]
    return pd.DataFrame(rows, columns=[*columns, "yules_q", "yules_q_low", "yules_q_high"])


def jaccard(counts: Float[np.ndarray, "b 4 m"]) -> Float[np.ndarray, "b m"]:
    """Errors that both phases remove over those that either does; counts of both, first only, second only, neither."""
    both, first, second, _ = np.moveaxis(counts, 1, 0)
    return stats.ratio(np.stack([both, both + first + second], axis=1))


def yules_q(counts: Float[np.ndarray, "b 4 m"]) -> Float[np.ndarray, "b m"]:
    """Yule's Q (1900) of the same counts: (both x none - first x second) / (both x none + first x second)."""
    both, first, second, none = np.moveaxis(counts, 1, 0)
    same, other = both * none, first * second
    return stats.ratio(np.stack([same - other, same + other], axis=1))


def label_counts(gold: csr_matrix) -> tuple[Int[np.ndarray, " documents"], list[str]]:
    """Each document's third by its number of gold labels, and the thirds' names; fewer where counts are few."""
    counts = np.diff(gold.indptr)
    edges = np.unique(np.quantile(counts, [1 / 3, 2 / 3], method="lower"))
    edges = edges[edges < counts.max()]
    starts, ends = [counts.min(), *(edges + 1)], [*edges, counts.max()]
    names = [
        "1 label" if a == b == 1 else f"{a} labels" if a == b else f"{a} to {b} labels"
        for a, b in zip(starts, ends, strict=True)
    ]
    return np.searchsorted(edges, counts), names


def in_words(
    rescued: pd.DataFrame,
    task: Task,
    given: Mapping[str, Sequence[Sequence[int]]],
    outputs: Mapping[str, Shortlist],
    cutoff: int,
    absent: str = "retrieved",
) -> pd.DataFrame:
    """The documents of `Factorial.rescued` in words: what is gold, and what each way put in the first places.

    Columns document, rescuer, gold labels, other phase alone, both phases, score alone, score of both; what is gold is
    marked with a star.
    """
    part, gold, texts = task.documents["test"], task.gold("test"), task.space.texts
    rows = []
    for row, rescuer, alone, both in zip(*(rescued[name].tolist() for name in rescued), strict=True):
        right = gold[row].indices.tolist()
        lists = (given["own"][row] if rescuer == str(Phase.REFINE) else outputs[absent][row], outputs["own"][row])
        answered = [
            "; ".join(
                f"{texts[label]} *" if label in right else texts[label] for label in labels[:cutoff] if label >= 0
            )
            for labels in lists
        ]
        told = "; ".join(texts[label] for label in right)
        rows.append((excerpt(part[row]["text"]), rescuer, told, *answered, alone, both))
    columns = ["document", "rescuer", "gold labels", "other phase alone", "both phases", "score alone", "score of both"]
    return pd.DataFrame(rows, columns=columns)


def disturbed(rankings: Mapping[Phase, Sequence[Head]], size: int) -> dict[tuple[str, int], list[Head]]:
    """The highest heads of each of two phases, and all of them together: what `patching.effects` takes.

    Heads high in both phases stand in "both" once. Raises ValueError for another number of phases, or a size that a
    ranking does not fill.
    """
    if len(rankings) != 2 or not all(1 <= size <= len(ranking) for ranking in rankings.values()):
        raise ValueError(
            f"additivity needs two rankings of at least {size} heads (and at least 1), got {len(rankings)}"
        )
    tops = {(str(phase), size): list(ranking[:size]) for phase, ranking in rankings.items()}
    return {**tops, (BOTH, size): list(dict.fromkeys(head for top in tops.values() for head in top))}


def additivity(found: Effects, seed: int = 0) -> pd.DataFrame:
    """What noising the heads of each phase and of both costs each readout, and what both cost beyond the two added up.

    Costs are above 0 where the readout gets worse: Confusion rises, all others fall.
    found: of noising, with the selections of `disturbed`. Columns readout, noised, and those of `stats.compared`; above
    0 in "beyond adding up" is super-additive: one phase had stood in for the other. A readout that fewer than two
    documents have is left out. Raises ValueError for other selections.
    """
    if len(found.keys) != 3 or found.keys[2][0] != BOTH:
        raise ValueError(
            f"additivity needs the selections of `disturbed`, got {', '.join(kind for kind, _ in found.keys)}"
        )
    tables = []
    for readout in found.values:
        sign = -1 if readout in WORSE_IS_HIGHER else 1
        costs = {key[0]: sign * found.moved(readout, key) for key in found.keys}
        first, second, both = costs.values()
        if len(both) > 1:
            table = stats.compared({**costs, SYNERGY: both - first - second}, seed)
            tables.append(table.rename(columns={"name": "noised"}).assign(readout=readout))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def adds_up(low: float, high: float) -> str:
    """What an interval of the synergy says."""
    return "super-additive" if low > 0 else "sub-additive" if high < 0 else "not told apart from additive"


def _deviation(n: int, place: int) -> Float[np.ndarray, " n"]:
    """Weights of one level less the mean of all."""
    return np.eye(n)[place] - 1 / n


def _scored(
    pred: Shortlist, gold: csr_matrix, propensity: Float[np.ndarray, " labels"], metric: Metric, cutoff: int
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """What each document adds to the metric's numerator and denominator."""
    if metric == "PSP":
        return metrics.psp_at_k(pred, gold, cutoff, propensity, average=False)
    return metrics.ndcg_at_k(pred, gold, cutoff, average=False), np.ones(gold.shape[0])
