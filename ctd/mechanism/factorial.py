"""Do the two phases add up? The factorial of shortlists and refinements, and what each phase buys (Shapley shares).

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
from jaxtyping import Float
from scipy.sparse import csr_matrix

from ctd import stats
from ctd.data.task import Task
from ctd.mechanism.isolation import KINDS
from ctd.mechanism.phases import Phase
from ctd.retrieval import metrics
from ctd.retrieval import shortlists as sl
from ctd.retrieval.shortlists import Shortlist
from ctd.text import excerpt

Metric = Literal["nDCG", "PSP"]
Weights = Float[np.ndarray, "shortlists refinements"]
REFINEMENTS = ("none", "own", "oracle")
ALONE = {phase: f"{phase} alone" for phase in Phase}
CORNERS = {"neither phase": (0, 0), ALONE[Phase.SHORTLIST]: (1, 0), ALONE[Phase.REFINE]: (0, 1), "both phases": (1, 1)}
SHARES = tuple(f"Shapley share of {phase}" for phase in Phase)
LOST = tuple(f"lost without {phase}" for phase in Phase)
SYNERGY = "beyond adding up"


@dataclass(frozen=True, eq=False)
class Factorial:
    """Scores of n documents in each cell: the metric is the sum of `gains` over the sum of `ideals`.

    gains: of each document in each cell.
    ideals: of each document, the same in every cell (1 for a mean).
    shortlists: names along axis 1 of `gains`.
    refinements: names along axis 2 of `gains`.
    """

    gains: Float[np.ndarray, "n shortlists refinements"]
    ideals: Float[np.ndarray, " n"]
    shortlists: tuple[str, ...] = KINDS
    refinements: tuple[str, ...] = REFINEMENTS

    def __post_init__(self) -> None:
        shape = (len(self.ideals), len(self.shortlists), len(self.refinements))
        if np.shape(self.gains) != shape:
            raise ValueError(
                f"gains need the shape [documents, shortlists, refinements] = {shape}, got {np.shape(self.gains)}"
            )

    def cells(self, seed: int = 0) -> pd.DataFrame:
        """The score in every cell: columns shortlist, refinement, value, low, high."""
        ideals = np.broadcast_to(self.ideals[:, None, None], self.gains.shape)
        scores = stats.bootstrap_ratio(self.gains, ideals, seed=seed)
        rows = [
            (shortlist, refinement, *scores[i, j].scalar)
            for i, shortlist in enumerate(self.shortlists)
            for j, refinement in enumerate(self.refinements)
        ]
        return pd.DataFrame(rows, columns=["shortlist", "refinement", "value", "low", "high"])

    def contrasts(self, weights: Mapping[str, Weights], seed: int = 0) -> pd.DataFrame:
        """Weighted sums of the cells, a row each, with the columns of `stats.compared` (p corrected over the rows).

        weights: of each cell, by the name of the sum.
        Raises ValueError for weights of another shape.
        """
        for name, cells in weights.items():
            if np.shape(cells) != self.gains.shape[1:]:
                raise ValueError(f"weights of {name!r} need the shape {self.gains.shape[1:]}, got {np.shape(cells)}")
        differences = {name: np.einsum("nij,ij->n", self.gains, cells) for name, cells in weights.items()}
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
        """What the model's own refinement adds to each shortlist in its order: a row each, as in `contrasts`."""
        return self.contrasts(
            {name: self.cell(name, "own") - self.cell(name, "none") for name in self.shortlists}, seed
        )

    def effects(self, seed: int = 0) -> dict[str, pd.DataFrame]:
        """Main effects of shortlist and refinement, and their interaction, each as deviations that sum to zero.

        With the grand mean they add up to every cell, as in the analysis of variance. Returns three tables by name,
        with the columns of `contrasts`; a row of "interaction" is named "shortlist, refinement".
        """
        rows, columns = self.gains.shape[1:]
        by_shortlist = {name: _deviation(rows, i)[:, None] / columns for i, name in enumerate(self.shortlists)}
        by_refinement = {name: _deviation(columns, j)[None] / rows for j, name in enumerate(self.refinements)}
        tables = {
            "shortlist": {name: weights.repeat(columns, 1) for name, weights in by_shortlist.items()},
            "refinement": {name: weights.repeat(rows, 0) for name, weights in by_refinement.items()},
            "interaction": {
                f"{shortlist}, {refinement}": np.outer(_deviation(rows, i), _deviation(columns, j))
                for i, shortlist in enumerate(self.shortlists)
                for j, refinement in enumerate(self.refinements)
            },
        }
        return {name: self.contrasts(weights, seed) for name, weights in tables.items()}

    def corners(self, absent: str = "retrieved") -> dict[str, Weights]:
        """The cells with neither, one, or both of the model's own phases (`CORNERS`).

        absent: the shortlist in place of the model's own.
        """
        names = ((absent, "own"), ("none", "own"))
        return {corner: self.cell(names[0][first], names[1][second]) for corner, (first, second) in CORNERS.items()}

    def phases(self, absent: str = "retrieved", seed: int = 0) -> pd.DataFrame:
        """What each phase buys: the four corners, exact Shapley shares, losses and synergy, columns as in `contrasts`.

        The shares add up to "both phases" less "neither phase". "beyond adding up" is both - alone - alone + neither,
        above 0 where each phase is worth more beside the other.

        absent: as in `corners`.
        """
        neither, first, second, both = self.corners(absent).values()
        shares = ((first - neither + both - second) / 2, (second - neither + both - first) / 2)
        weights = {
            **dict(zip(SHARES, shares, strict=True)),
            **dict(zip(LOST, (both - second, both - first), strict=True)),
            SYNERGY: both - first - second + neither,
        }
        corners = self.contrasts(self.corners(absent), seed).assign(
            p=np.nan, p_holm=np.nan, cohen_d=np.nan, dominance=np.nan
        )
        return pd.concat([corners, self.contrasts(weights, seed)], ignore_index=True)

    def rescued(self, absent: str = "retrieved", most: int = 5) -> pd.DataFrame:
        """Documents in which one phase rescues the other: those where adding it to the other alone gains most.

        absent: as in `corners`.
        most: how many documents of each phase; those with the largest gain above 0, the first in order where gains
            are alike.
        Returns columns row, rescuer, alone (the score with the other phase alone), both.
        """
        scores = {name: np.einsum("nij,ij->n", self.gains, weights) for name, weights in self.corners(absent).items()}
        both, rows = scores["both phases"], []
        for rescuer, rescued in ((Phase.SHORTLIST, Phase.REFINE), (Phase.REFINE, Phase.SHORTLIST)):
            other = scores[ALONE[rescued]]
            gain = both - other
            best = np.argsort(-gain, kind="stable")[:most]
            rows += [(int(row), str(rescuer), float(other[row]), float(both[row])) for row in best if gain[row] > 0]
        return pd.DataFrame(rows, columns=["row", "rescuer", "alone", "both"])


def evaluate(
    inputs: Mapping[str, Sequence[Sequence[int]]],
    outputs: Mapping[str, Shortlist],
    gold: csr_matrix,
    propensity: Float[np.ndarray, " labels"],
    metric: Metric = "nDCG",
    cutoff: int = 5,
) -> Factorial:
    """The factorial of shortlists and refinements.

    inputs: the shortlists that were handed over, in their order, by kind.
    outputs: what the model answered on each.
    gold: the gold labels of each document.
    propensity: inverse propensity of each label.
    metric: nDCG or PSP.
    cutoff: places of an answer that count.
    Raises ValueError for an unknown metric, or shortlists without an output.
    """
    if metric not in get_args(Metric):
        raise ValueError(f"metric must be one of {', '.join(get_args(Metric))}, got {metric!r}")
    if set(inputs) != set(outputs):
        raise ValueError(f"each shortlist needs an output, got {', '.join(inputs)} and {', '.join(outputs)}")
    scored = {
        name: [
            score_documents(answer, gold, propensity, metric, cutoff)
            for answer in answers(lists, outputs[name], gold, propensity, cutoff)
        ]
        for name, lists in inputs.items()
    }
    gains = np.array([[above for above, _ in row] for row in scored.values()])
    ideals = next(iter(scored.values()))[0][1]
    return Factorial(gains.transpose(2, 0, 1), ideals, tuple(inputs))


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


def in_words(
    rescued: pd.DataFrame,
    task: Task,
    inputs: Mapping[str, Sequence[Sequence[int]]],
    outputs: Mapping[str, Shortlist],
    cutoff: int,
    absent: str = "retrieved",
) -> pd.DataFrame:
    """The documents of `Factorial.rescued` in words: what is gold, and what each way put in the first places.

    rescued: as `Factorial.rescued` returns it.
    task: of the documents.
    inputs, outputs, cutoff: as in `evaluate`.
    absent: as in `Factorial.corners`.
    Returns columns document, rescuer, gold labels, other phase alone, both phases, score alone, score of both; what is
    gold is marked with a star.
    """
    documents, gold, texts = task.documents["test"], task.gold("test"), task.space.texts
    rows = []
    for row, rescuer, alone, both in zip(*(rescued[name].tolist() for name in rescued), strict=True):
        right = gold[row].indices.tolist()
        lists = (inputs["own"][row] if rescuer == str(Phase.REFINE) else outputs[absent][row], outputs["own"][row])
        answered = [
            "; ".join(
                f"{texts[label]} *" if label in right else texts[label] for label in labels[:cutoff] if label >= 0
            )
            for labels in lists
        ]
        gold_texts = "; ".join(texts[label] for label in right)
        rows.append((excerpt(documents[row]["text"]), rescuer, gold_texts, *answered, alone, both))
    columns = ["document", "rescuer", "gold labels", "other phase alone", "both phases", "score alone", "score of both"]
    return pd.DataFrame(rows, columns=columns)


def _deviation(n: int, place: int) -> Float[np.ndarray, " n"]:
    """Weights of one level less the mean of all."""
    return np.eye(n)[place] - 1 / n


def score_documents(
    answer: Shortlist, gold: csr_matrix, propensity: Float[np.ndarray, " labels"], metric: Metric, cutoff: int
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """What each document adds to the metric's numerator and denominator."""
    if metric == "PSP":
        return metrics.psp_at_k(answer, gold, cutoff, propensity, average=False)
    return metrics.ndcg_at_k(answer, gold, cutoff, average=False), np.ones(gold.shape[0])
