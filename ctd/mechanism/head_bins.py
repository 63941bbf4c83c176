"""Which heads are patched together: cumulative bins of a ranking, from either end, beside random sets like them.

Notes: the bins are the paper's (arXiv:2606.06840), as fractions of its model's heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase

BINS, OF = (3, 8, 16, 40, 100), 5120  # heads, of the paper's model (80 layers of 64)
PUBLISHED_SHARE = BINS[-1] / OF
TOP, LOWEST, RANDOM = "top", "lowest", "random"
TRIES = 200  # draws in a row that give no new set before heads of the next layer are drawn too


def bins(n_heads: int, share: float = PUBLISHED_SHARE) -> list[int]:
    """The paper's bins as the same fractions of a model's heads, each size once.

    n_heads: of the model. A fraction of less than one head is one head.
    share: of all heads in the largest bin. Above the paper's, up to five sizes from 1 head to this share are spread
        evenly on a log scale (our definition).
    Raises ValueError for a share below the paper's, or above 1.
    """
    if not PUBLISHED_SHARE - 1e-9 <= share <= 1:
        raise ValueError(
            f"the largest bin must hold a share of heads from {PUBLISHED_SHARE:.4g}, the paper's, to 1, got {share}"
        )
    if share <= PUBLISHED_SHARE + 1e-3:
        scaled = [round(size * n_heads / OF) for size in BINS]
    else:
        scaled = np.geomspace(1, max(1, share * n_heads), len(BINS)).round().astype(int).tolist()
    return sorted({max(1, size) for size in scaled})


def matched(heads: Sequence[Head], available: Sequence[Head], n: int, rng: np.random.Generator) -> list[list[Head]]:
    """Random sets of as many heads as are given, each head from the layer of one of them (our definition).

    Where these layers hold too few different sets, heads from one layer away are drawn too, then from two, and so on:
    the sets from nearer layers come first.

    heads: that are to be matched.
    available: heads that may be drawn.
    n: how many different sets; fewer where there are no more.
    """
    layers = sorted(head.layer for head in heads)
    furthest = max((abs(head.layer - layer) for head in available for layer in layers), default=0)
    chosen: dict[tuple[Head, ...], None] = {}
    for reach in range(furthest + 1):
        near = [[head for head in available if abs(head.layer - layer) <= reach] for layer in layers]
        failed = 0
        while len(chosen) < n and failed < TRIES:
            before = len(chosen)
            drawn = {near_layer[rng.integers(len(near_layer))] for near_layer in near if near_layer}
            if len(drawn) == len(layers):
                chosen.setdefault(tuple(sorted(drawn)))
            failed = 0 if len(chosen) > before else failed + 1
    return [list(drawn) for drawn in chosen]


def selections(
    rankings: Mapping[Phase, Sequence[Head]],
    sizes: Sequence[int],
    n_random: int = 50,
    seed: int = 0,
    n_smaller: int = 5,
) -> dict[tuple[str, int], list[Head]]:
    """Heads to patch, by kind and size: "P, top" and "P, lowest" of each phase P, "random, P 1", "random, P 2" ...

    Random sets have the size and the layers of the phase's top heads (see `matched`), and none of these heads.

    rankings: of all heads, by phase.
    sizes: of the selections; the highest and the lowest heads are cumulative.
    n_random: how many random sets of the largest size.
    n_smaller: how many of each other size, at most.
    Raises ValueError for a size that a ranking does not fill.
    """
    chosen: dict[tuple[str, int], list[Head]] = {}
    rng = np.random.default_rng(seed)
    for phase, ranking in rankings.items():
        if not all(1 <= size <= len(ranking) for size in sizes):
            raise ValueError(f"bins must be between 1 and {len(ranking)} heads, got {list(sizes)}")
        orders = {TOP: list(ranking), LOWEST: list(ranking)[::-1]}
        chosen |= {(f"{phase}, {kind}", size): order[:size] for kind, order in orders.items() for size in sizes}
        for size in sizes:
            n = n_random if size == max(sizes) else min(n_smaller, n_random)
            drawn = matched(ranking[:size], sorted(ranking[size:]), n, rng)
            chosen |= {(random_kind(phase, number + 1), size): heads for number, heads in enumerate(drawn)}
    return chosen


def of_phase(selected: Mapping[tuple[str, int], Sequence[Head]], phase: Phase) -> dict[tuple[str, int], Sequence[Head]]:
    """The selections of a phase: its top and lowest heads, and random sets like them."""
    return {key: heads for key, heads in selected.items() if str(phase) in key[0]}


def random_kind(phase: Phase, number: int | str = "") -> str:
    """The kind of a phase's random sets, or of one of them."""
    return f"{RANDOM}, {phase} {number}"
