"""The two phases that the paper tells apart (arXiv:2606.06840)."""

from __future__ import annotations

from enum import IntEnum


class Phase(IntEnum):
    """A phase of reasoning: first a broad shortlist, then its refinement."""

    SHORTLIST = 1
    REFINE = 2

    def __str__(self) -> str:
        """As pages say it: "Phase 1"."""
        return f"Phase {self.value}"
