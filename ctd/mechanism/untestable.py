"""Texts that cannot answer a question: a chapter then ends with a reason, and not with a failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # this module is imported wherever notebooks are run
    from ctd.reasoning.annotate import AnnotatedTrace


class NotTestable(ValueError):
    """Nothing is wrong with the input, but a measure has nothing to rest on. The message is the precondition."""


def require_traces(traces: Sequence[AnnotatedTrace], left_out: Mapping[str, int]) -> None:
    """Raise NotTestable where no text has phases that can be read.

    left_out: how many documents have no annotated trace, by the reason.
    """
    if not traces:
        raise NotTestable(f"heads are scored on texts with phases, and no text has any ({reasons(left_out)})")


def require_comparisons(traces: Sequence[AnnotatedTrace], least: int) -> None:
    """Raise NotTestable where too few texts compare labels for the scores of Phase 2.

    least: texts that must weigh a label that is kept against one that is not; an interval over documents takes two.
    """
    comparing = sum(bool(trace.comparisons) for trace in traces)
    if comparing < least:
        raise NotTestable(
            "refining heads are scored where a text weighs a label that is kept against one that is not: "
            f"{comparing} of {len(traces)} texts with phases do, and at least {least} must"
        )


def reasons(left_out: Mapping[str, int]) -> str:
    """Why documents were left out, each reason with their number."""
    return "; ".join(f"{reason}: {n:,}" for reason, n in left_out.items() if n) or "no documents"
