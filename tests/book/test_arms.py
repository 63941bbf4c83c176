"""A paragraph for each arm, from the registry."""

from typing import get_args

import pandas as pd
import pytest

from ctd.book import arms
from ctd.distill.comparison import RETRIEVAL
from ctd.distill.methods import METHODS
from ctd.distill.methods.method import Known, Need


def levels(name):
    rows = [(name, "exact_match", 0.25, 0.1, 0.4), (name, "ndcg@5", 0.5, 0.4, 0.6)]
    return pd.DataFrame(rows, columns=["arm", "measure", "value", "low", "high"])


GAINS = pd.DataFrame(
    [("fkl", "cot", "exact_match", 0.1, 0.05, 0.15, 0.01), ("lelp", "cot", "exact_match", -0.1, -0.2, -0.05, 0.01)],
    columns=["name", "against", "measure", "value", "low", "high", "p_holm"],
)


@pytest.mark.parametrize("name", [*METHODS, "fkl + mechanistic", RETRIEVAL])
def test_every_arm_has_a_paragraph(name):
    words = arms.paragraph(name, levels(name), GAINS)
    assert words.startswith(f"**{name}.** ")
    assert "Reached: exact match 0.250" in words
    assert ("Gain:" in words) == (name in set(GAINS["name"]))
    if name in METHODS:
        assert METHODS[name].source in words


def test_every_mark_and_need_of_the_registry_has_words():
    assert set(arms.KNOWN) == set(get_args(Known)) - {"ours"}
    assert set(arms.NEEDS) == set(get_args(Need))


def test_better_are_those_above_cot():
    assert arms.better(GAINS, "exact_match") == ["fkl"]
    assert arms.better(GAINS, "exact_match", 0.001) == []
