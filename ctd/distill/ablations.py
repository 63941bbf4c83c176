"""What an ablation changes of the mechanistic loss: one thing at a time, said in words ("without 1", "heads 8")."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ctd.distill.experiment import Plan
from ctd.distill.methods import Arm


def ablated(full: Arm, terms: Sequence[str]) -> list[Arm]:
    """An arm for each term, named after what it leaves out of the loss; none for a term whose weight is 0 anyway.

    full: the arm with the full loss.
    terms: a phase ("1", "2"), a term, or a kind of term, as in `Weights.without`.
    Raises ValueError as `Weights.without` does.
    """
    names = {term: f"without phase {term}" if term.isdigit() else f"without {term}" for term in terms}
    arms = [replace(full, name=name, weights=full.weights.without(term)) for term, name in names.items()]
    return [arm for arm in arms if arm.weights != full.weights]


def changed(full: Arm, plan: Plan, changes: Sequence[str]) -> list[tuple[Arm, Plan]]:
    """The arm and the plan that each change makes of the full ones; none for a change that changes nothing.

    full: the arm with the full loss.
    plan: its plan.
    changes: "without TERM" (see `ablated`), "weights X" (all of them times X), "anneal X" (`anneal_fraction` of `Arm`),
        "heads N", "ranked SCORES" or "matching RULE" (see `Plan`), "loop FORM", "write FORM" or "interaction FORM" (see
        `loss_forms.Forms`), or "control NAME" (see `ctd.distill.controls`).
    Raises ValueError for another change, or a value out of range.
    """
    pairs = [pair for change in changes for pair in _changed(full, plan, change)]
    return [(arm, its_plan) for arm, its_plan in pairs if (replace(arm, name=full.name), its_plan) != (full, plan)]


def _changed(full: Arm, plan: Plan, change: str) -> list[tuple[Arm, Plan]]:
    kind, _, value = change.partition(" ")
    if kind == "fade":
        print(f"warning: {change} is now anneal {value}; the old word goes with the next version", file=sys.stderr)
        kind = "anneal"
    if kind == "without":
        return [(arm, plan) for arm in ablated(full, [value])]
    if kind == "weights":
        factor = _number(change, value)
        return [(replace(full, name=f"weights times {factor:g}", weights=full.weights.times(factor)), plan)]
    if kind == "anneal":
        fraction = _number(change, value)
        return [(replace(full, name=f"annealed over {fraction:g}", anneal_fraction=fraction), plan)]
    if kind == "heads":
        n = _number(change, value, int)
        return [(replace(full, name=f"{n} heads"), replace(plan, n_heads=n))]
    of_plan = {"ranked": ("ranked_by", f"heads ranked by {value}"), "matching": ("matching", f"matched by {value}")}
    if kind in of_plan:
        field, name = of_plan[kind]
        changed_plan: dict[str, Any] = {field: value}
        return [(replace(full, name=name), replace(plan, **changed_plan))]
    if kind in ("loop", "write", "interaction"):
        form: dict[str, Any] = {kind: value}
        return [(replace(full, name=change, forms=replace(full.forms, **form)), plan)]
    if kind == "control":
        return [(replace(full, name=change, control=value), plan)]
    raise ValueError(
        "a change must be one of without TERM, weights NUMBER, anneal NUMBER, heads NUMBER, ranked SCORES, matching "
        f"RULE, loop FORM, write FORM, interaction FORM and control NAME, got {change!r}"
    )


def _number(change: str, value: str, kind: type = float) -> Any:
    try:
        return kind(value)
    except ValueError:
        raise ValueError(
            f"a change of {change.split()[0]} needs {'a whole' if kind is int else 'a'} number, got {change!r}"
        ) from None
