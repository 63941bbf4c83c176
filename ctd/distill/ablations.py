"""What an ablation changes of the mechanistic loss: one thing at a time, said in words ("without 1", "heads 8")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ctd.distill.experiment import Arm, Plan
from ctd.distill.losses import Weights


def ablated(weights: Weights, terms: Sequence[str]) -> list[Arm]:
    """An arm for each phase ("1", "2"), term or kind of term, named after what it leaves out of the loss; none for one
    that has no weight anyway. Raises ValueError as `Weights.without` does.
    """
    names = {term: f"without phase {term}" if term.isdigit() else f"without {term}" for term in terms}
    left = [Arm(name, "mechanistic", weights.without(term)) for term, name in names.items()]
    return [arm for arm in left if arm.weights != weights]


def changed(full: Arm, plan: Plan, changes: Sequence[str]) -> list[tuple[Arm, Plan]]:
    """For each change the arm and the plan that it makes of the full ones; none for one that changes nothing.

    changes: "without TERM" (see `ablated`), "weights X" (all of them times X), "fade X" (see `Arm`),
    "heads N" and "matching RULE" (see `Plan`). Raises ValueError for another change, or a value out of range.
    """
    made = [one for change in changes for one in _changed(full, plan, change)]
    return [(arm, of) for arm, of in made if (replace(arm, name=full.name), of) != (full, plan)]


def _changed(full: Arm, plan: Plan, change: str) -> list[tuple[Arm, Plan]]:
    way, _, value = change.partition(" ")
    if way == "without":
        return [(replace(full, name=arm.name, weights=arm.weights), plan) for arm in ablated(full.weights, [value])]
    if way == "weights":
        factor = _number(change, value)
        return [(replace(full, name=f"weights times {factor:g}", weights=full.weights.times(factor)), plan)]
    if way == "fade":
        share = _number(change, value)
        return [(replace(full, name=f"fading over {share:g}", fade=share), plan)]
    if way == "heads":
        n = _number(change, value, int)
        return [(replace(full, name=f"{n} heads"), replace(plan, n_heads=n))]
    if way == "matching":
        rule: Any = value
        return [(replace(full, name=f"matched by {rule}"), replace(plan, matching=rule))]
    raise ValueError(
        "a change must be one of without TERM, weights NUMBER, fade NUMBER, heads NUMBER and matching RULE, got "
        f"{change!r}"
    )


def _number(change: str, value: str, kind: type = float) -> Any:
    try:
        return kind(value)
    except ValueError:
        raise ValueError(
            f"a change of {change.split()[0]} needs {'a whole' if kind is int else 'a'} number, got {change!r}"
        ) from None
