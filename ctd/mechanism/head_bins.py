"""Which heads are patched together: cumulative bins of a ranking, from either end, beside heads at random.

Notes: the bins are the paper's (arXiv:2606.06840), as fractions of its model's heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase

BINS, OF = (3, 8, 16, 40, 100), 5120  # heads, of the paper's model (80 layers of 64)
TOP, LOWEST, RANDOM = "top", "lowest", "random"


def bins(n_heads: int, published: Sequence[int] = BINS, n_published: int = OF) -> list[int]:
    """The paper's bins as the same fractions of a model's heads.

    n_heads: of the model. One too small for these fractions gets sizes from 1 head to a third of all, even on a log
        scale and each larger than the one before (our definition).
    published: the paper's sizes.
    n_published: heads of the paper's model.
    Raises ValueError for fewer than twice as many heads as bins.
    """
    if n_heads < 2 * len(published):
        raise ValueError(f"{len(published)} bins need at least {2 * len(published)} heads, got {n_heads}")
    scaled = [round(size * n_heads / n_published) for size in published]
    if scaled[0] < 1 or len(set(scaled)) < len(scaled):
        scaled = np.geomspace(1, n_heads / 3, len(published)).round().astype(int).tolist()
    for place in range(1, len(scaled)):
        scaled[place] = max(scaled[place], scaled[place - 1] + 1)
    return scaled


def selections(
    rankings: Mapping[Phase, Sequence[Head]], sizes: Sequence[int], n_random: int = 5, seed: int = 0
) -> dict[tuple[str, int], list[Head]]:
    """Heads to patch, by kind and size: "P, top" and "P, lowest" of each phase P, "random 1", "random 2" ...

    rankings: of all heads, by phase.
    sizes: of the selections; those of one kind are cumulative.
    n_random: how many kinds are drawn at random.
    Raises ValueError for a size that a ranking does not fill.
    """
    orders: dict[str, list[Head]] = {}
    for phase, ranking in rankings.items():
        if not all(1 <= size <= len(ranking) for size in sizes):
            raise ValueError(f"bins must be between 1 and {len(ranking)} heads, got {list(sizes)}")
        orders |= {f"{phase}, {TOP}": list(ranking), f"{phase}, {LOWEST}": list(ranking)[::-1]}
    rng, heads = np.random.default_rng(seed), sorted(next(iter(rankings.values())))
    orders |= {f"{RANDOM} {n + 1}": [heads[row] for row in rng.permutation(len(heads))] for n in range(n_random)}
    return {(kind, size): order[:size] for kind, order in orders.items() for size in sizes}
