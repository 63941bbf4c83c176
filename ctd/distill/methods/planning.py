"""Several first phases, of which one is gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ctd.distill.methods.answering import AnsweringStudent, phase_1, phase_2
from ctd.distill.methods.texts import f1
from ctd.reasoning.rank_answers import Prediction


def best_of_plans(student: AnsweringStudent, n_plans: int = 4) -> list[Prediction]:
    """Several first phases are written, and the second goes on from the one that is most like the others.

    The first of them takes the likeliest tokens, the others are sampled at temperature 1.

    n_plans: how many are written; with 1 the student answers as cot does.
    Raises ValueError for fewer than one.

    Source: RLAD (abstractions), arXiv:2510.02263, and the test-time half of Explore-Execute Chain, arXiv:2509.23946;
    abstracts and third parties were read, and the choice is ours.
    """
    if n_plans < 1:
        raise ValueError(f"n_plans must be at least 1, got {n_plans}")
    written = [
        student.write(phase_1(student.request, 1.0 if number else 0.0), seed=number) for number in range(int(n_plans))
    ]
    by_document = list(zip(*written, strict=True))
    chosen = [plans[most_alike([set(plan.trace.shortlisted) for plan in plans])] for plans in by_document]
    answers = student.write(phase_2(student.request, chosen))
    return [
        replace(answer, n_tokens=answer.n_tokens + sum(plan.n_tokens for plan in plans))
        for answer, plans in zip(answers, by_document, strict=True)
    ]


def most_alike(shortlists: Sequence[set[int]]) -> int:
    """Which shortlist has the highest F1 against all, the first of equal ones."""
    agreement = [sum(f1(shortlist, other) for other in shortlists) for shortlist in shortlists]
    return agreement.index(max(agreement))
