"""Do the costs of noising both phases' heads add up to those of noising each phase's alone?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from ctd import stats
from ctd.mechanism.attention import Head
from ctd.mechanism.factorial import SYNERGY
from ctd.mechanism.patch_effects import Effects
from ctd.mechanism.phases import Phase

BOTH = "both"
WORSE_IS_HIGHER = ("confusion",)  # readouts that rise with the damage


def tops_and_both(rankings: Mapping[Phase, Sequence[Head]], size: int) -> dict[tuple[str, int], list[Head]]:
    """The highest heads of each of two phases, and all of them together: what `patching.effects` takes.

    rankings: of all heads, by phase.
    size: how many heads of each phase. Heads high in both phases stand in "both" once.
    Raises ValueError for another number of phases, or a size that a ranking does not fill.
    """
    if len(rankings) != 2 or not all(1 <= size <= len(ranking) for ranking in rankings.values()):
        raise ValueError(
            f"additivity needs two rankings of at least {size} heads (and at least 1), got {len(rankings)}"
        )
    tops = {(str(phase), size): list(ranking[:size]) for phase, ranking in rankings.items()}
    return {**tops, (BOTH, size): list(dict.fromkeys(head for top in tops.values() for head in top))}


def costs(noised: Effects, seed: int = 0) -> pd.DataFrame:
    """What noising the heads of each phase and of both costs each readout, and what both cost beyond adding up.

    Costs are above 0 where the readout gets worse: Confusion rises, all others fall. Above 0 in "beyond adding up" is
    super-additive: one phase had stood in for the other.

    noised: with the selections of `tops_and_both`. A readout that fewer than two documents have is left out.
    Returns columns readout, noised, n (documents), and those of `stats.compared`.
    Raises ValueError for other selections.
    """
    if len(noised.keys) != 3 or noised.keys[2][0] != BOTH:
        raise ValueError(
            f"additivity needs the selections of `tops_and_both`, got {', '.join(kind for kind, _ in noised.keys)}"
        )
    tables = []
    for readout in noised.values:
        sign = -1 if readout in WORSE_IS_HIGHER else 1
        by_kind = {key[0]: sign * noised.moved(readout, key) for key in noised.keys}
        first, second, both = by_kind.values()
        if len(both) > 1:
            table = stats.compared({**by_kind, SYNERGY: both - first - second}, seed)
            tables.append(table.rename(columns={"name": "noised"}).assign(readout=readout, n=len(both)))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def adds_up(low: float, high: float) -> str:
    """What an interval of the synergy says."""
    return "super-additive" if low > 0 else "sub-additive" if high < 0 else "not told apart from additive"
