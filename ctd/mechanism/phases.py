"""The two phases that the paper tells apart (arXiv:2606.06840)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line knows phases, and starts without pandas
    import pandas as pd


class Phase(IntEnum):
    """A phase of reasoning: first a broad shortlist, then its refinement."""

    SHORTLIST = 1
    REFINE = 2

    def __str__(self) -> str:
        """As pages say it: "Phase 1"."""
        return f"Phase {self.value}"


def table(rows: Sequence[tuple[Any, ...]], columns: list[str]) -> pd.DataFrame:
    """Rows as a table whose column `phase` holds phases: pandas by itself would make numbers of them."""
    import pandas as pd

    phases = [row[columns.index("phase")] for row in rows]
    return pd.DataFrame(rows, columns=columns).assign(phase=pd.Series(phases, dtype=object))
