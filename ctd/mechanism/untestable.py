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
    if why := too_few_comparisons(traces, least):
        raise NotTestable(why)


def too_few_comparisons(traces: Sequence[AnnotatedTrace], least: int) -> str:
    """Why the paper's score of Phase 2 has nothing to rest on; "" where it has.

    least: as in `require_comparisons`.
    """
    comparing = sum(bool(trace.comparisons) for trace in traces)
    if comparing >= least:
        return ""
    return (
        "refining heads are scored where a text weighs a label that is kept against one that is not: "
        f"{comparing} of {len(traces)} texts with phases do, and at least {least} must"
    )


def refining_score(traces: Sequence[AnnotatedTrace], least: int) -> tuple[str, str]:
    """The score by which refining heads can be ranked, and why it is not the paper's; "" where it is.

    VerdictScore stands in where too few texts compare labels, and enough judge one at a time.
    least: as in `require_comparisons`.
    Raises NotTestable where too few do either.
    """
    from ctd.mechanism import scores

    why = too_few_comparisons(traces, least)
    if why and sum(bool(trace.judgements) for trace in traces) < least:
        raise NotTestable(why)
    return (scores.VERDICT if why else scores.REFINE), why


def reasons(left_out: Mapping[str, int]) -> str:
    """Why documents were left out, each reason with their number."""
    return "; ".join(f"{reason}: {n:,}" for reason, n in left_out.items() if n) or "no documents"
