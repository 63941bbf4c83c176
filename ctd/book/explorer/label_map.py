"""The labels as points on a plane: the first two principal components of their vectors.

Notes: a label with a qualifier (`Calcium/metabolism`) stands at the point of the label above it (`Calcium`). p points,
l labels, d dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.decomposition import PCA  # type: ignore[import-untyped]

from ctd.data.label_space import LabelSpace
from ctd.retrieval.index import LabelIndex

SCALE = 65_535  # coordinates are written in 16 bits
EDGE = 0.0005  # share of the points on each side that lies on the edge of the map
MOST = 60_000  # points


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Where each label stands.

    points: the labels that have a point of their own.
    point: of each label, -1 where it has none.
    places: of the points, from 0 to 1 on both axes.
    """

    points: Int[np.ndarray, " p"]
    point: Int[np.ndarray, " l"]
    places: Float[np.ndarray, "p 2"]

    def arrays(self) -> dict[str, bytes]:
        """The places in 16 bits, the first axis of all points before the second."""
        return {"places": np.rint(self.places.T * SCALE).astype("<u2").tobytes()}

    def centre(self, labels: Int[np.ndarray, " n"]) -> list[float] | None:
        """The middle of some labels' points; None where none of them has one."""
        shown = self.point[labels]
        shown = shown[shown >= 0]
        return np.round(np.median(self.places[shown], axis=0), 4).tolist() if len(shown) else None


def heads_of_families(space: LabelSpace) -> Int[np.ndarray, " l"]:
    """For each label the highest label above it, itself where there is none: MeSH's unqualified headings."""
    labels = np.arange(len(space))
    if space.parents is None:
        return labels
    highest, above = labels, space.parents[labels]
    while (climbs := (above >= 0) & (above < len(space))).any():
        highest = np.where(climbs, above, highest)
        above = np.where(climbs, space.parents[np.where(climbs, above, 0)], -1)
    return highest


def make(index: LabelIndex, needed: Int[np.ndarray, " n"], most: int = MOST, seed: int = 0) -> LabelMap:
    """The map of a label space.

    index: over the labels.
    needed: labels that must have a point.
    most: points at most; beyond that others are left out at random.
    seed: of that draw.
    """
    highest = heads_of_families(index.space)
    points = np.unique(highest)
    if len(points) > most:
        wanted = np.unique(highest[needed])
        others = np.random.default_rng(seed).permutation(np.setdiff1d(points, wanted))
        points = np.union1d(wanted, others[: max(0, most - len(wanted))])
    number = np.full(len(index.space), -1)
    number[points] = np.arange(len(points))
    return LabelMap(points, number[highest], project(index.vectors(points)))


def project(vectors: Float[np.ndarray, "p d"]) -> Float[np.ndarray, "p 2"]:
    """Two principal components, each stretched to 0 .. 1; a few outliers lie on the edge."""
    if min(vectors.shape) < 2:
        return np.full((len(vectors), 2), 0.5)
    components = PCA(2, svd_solver="covariance_eigh").fit_transform(np.asarray(vectors, np.float64))
    low, high = np.quantile(components, [EDGE, 1 - EDGE], axis=0)
    return np.clip((components - low) / np.maximum(high - low, 1e-12), 0, 1)


def payload(label_map: LabelMap, space: LabelSpace) -> dict[str, Any]:
    """What the page is told of the map, beside its arrays."""
    return {"names": [space.texts[label] for label in label_map.points]}
