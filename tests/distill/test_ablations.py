"""One change at a time: what it changes is what its name says, and all else stays."""

from dataclasses import replace

import pytest

from ctd.distill.ablations import ablated, changed
from ctd.distill.experiment import Plan
from ctd.distill.loss_forms import Forms
from ctd.distill.losses import Weights
from ctd.distill.methods import Arm

FULL = Arm("full", "mechanistic", Weights(1, 0.5, 0.25, 2, 1, 0.5), base_loss="fkl")
PLAN = Plan(n_heads=4, matching="depth")


def test_an_arm_leaves_out_what_its_name_says_and_there_is_none_for_what_has_no_weight():
    weights = Weights(1, 0, 3, 2, 0, 6)
    full = replace(FULL, weights=weights)
    arms = ablated(full, ["1", "loop2", "write2"])
    assert {arm.base_loss for arm in arms} == {FULL.base_loss}
    assert [arm.name for arm in arms] == ["without phase 1", "without loop2"]
    assert [arm.weights for arm in arms] == [Weights(0, 0, 0, 2, 0, 6), replace(weights, loop2=0.0)]
    both = ablated(replace(full, weights=replace(weights, write2=5.0)), ["write", "interaction"])
    assert [arm.name for arm in both] == ["without write", "without interaction"], "a kind goes from both phases"
    assert [arm.weights for arm in both] == [weights, Weights(1, 0, 0, 2, 5, 0)]


@pytest.mark.parametrize(
    ("change", "name", "arm", "plan"),
    [
        ("without 1", "without phase 1", {"weights": Weights(0, 0, 0, 2, 1, 0.5)}, {}),
        ("without loop2", "without loop2", {"weights": Weights(1, 0.5, 0.25, 0, 1, 0.5)}, {}),
        ("weights 3", "weights times 3", {"weights": Weights(3, 1.5, 0.75, 6, 3, 1.5)}, {}),
        ("anneal 0.5", "annealed over 0.5", {"anneal_fraction": 0.5}, {}),
        ("heads 8", "8 heads", {}, {"n_heads": 8}),
        ("matching score", "matched by score", {}, {"matching": "score"}),
        ("ranked mass", "heads ranked by mass", {}, {"ranked_by": "mass"}),
        ("loop two-way", "loop two-way", {"forms": Forms(loop="two-way")}, {}),
        ("write fixed", "write fixed", {"forms": Forms(write="fixed")}, {}),
        ("interaction per-pair", "interaction per-pair", {"forms": Forms(interaction="per-pair")}, {}),
        ("control copied", "control copied", {"control": "copied"}, {}),
    ],
)
def test_a_change_is_one_of_arm_or_plan(change, name, arm, plan):
    assert changed(FULL, PLAN, [change]) == [(replace(FULL, name=name, **arm), replace(PLAN, **plan))]


def test_the_old_word_for_annealing_is_taken_with_a_warning(capsys):
    assert changed(FULL, PLAN, ["fade 0.5"]) == changed(FULL, PLAN, ["anneal 0.5"])
    assert capsys.readouterr().err == "warning: fade 0.5 is now anneal 0.5; the old word goes with the next version\n"


def test_what_changes_nothing_is_no_arm():
    assert changed(FULL, PLAN, ["heads 4", "matching depth", "anneal 0", "weights 1", "loop three-way"]) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("without x", "term must be one of attention1, .* interaction, loop, got 'x'"),
        ("weights", "a change of weights needs a number, got 'weights'"),
        ("heads 2.5", "a change of heads needs a whole number, got 'heads 2.5'"),
        ("heads -1", "n_heads must be at least 0, got -1"),
        ("anneal 2", "anneal_fraction must be between 0 and 1, got 2.0"),
        ("weights -1", "weight attention1 must be at least 0, got -1.0"),
        ("ranked luck", "ranked_by must be one of paper, mass, got 'luck'"),
        ("loop one-way", "loop must be one of three-way, two-way, got 'one-way'"),
        ("control group", "control must be one of none, copied, .*, got 'group'"),
        ("matching width", "matching must be one of depth, apart, score, got 'width'"),
        ("more heads", "a change must be one of without TERM, weights NUMBER, .* got 'more heads'"),
    ],
)
def test_a_change_that_cannot_be_made_is_one_line(change, line):
    with pytest.raises(ValueError, match=line):
        changed(FULL, PLAN, [change])
