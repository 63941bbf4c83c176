"""Rewordings keep what tells two codes apart."""

from collections import defaultdict

import numpy as np
import pytest

from ctd.data.readers import icd10cm, wording


def test_rewording_never_makes_two_codes_the_same():
    space = icd10cm.label_space()
    rng = np.random.default_rng(0)
    terms, meanings = wording.own_terms(), defaultdict(set)
    for label in range(len(space)):
        for name in (space.texts[label], *terms.get(space.ids[label], [])):
            meanings[wording.reworded(name, rng).lower()].add(space.ids[label])
    assert [codes for codes in meanings.values() if len(codes) > 1] == []


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("Heart failure, unspecified", "heart failure"),
        ("Parkinson's disease without dyskinesia", "Parkinson's disease"),
        ("Crohn's disease of large intestine", "Crohn's disease"),
        ("COVID-19", "COVID-19"),
        ("Vogt disease", "Vogt disease"),
        ("Ascariasis", "ascariasis"),
    ],
)
def test_a_description_keeps_its_capital_only_where_it_is_a_name(text, start):
    assert wording.reworded(text, np.random.default_rng(0)).startswith(start)
