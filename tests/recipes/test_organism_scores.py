"""Scores on several organisms: which find the planted heads of all."""

import pandas as pd
import pytest

from ctd.data.readers.organism import label_space
from ctd.mechanism import scores
from ctd.mechanism.phases import Phase
from ctd.recipes import organism_scores, organism_texts
from ctd.recipes.organism_recipe import ELSEWHERE


def ratings(**aurocs):
    """Rows as `ratings_on` gives them: for each organism, the AUROC of scores a and b."""
    rows = [
        {"organism": organism, "phase": Phase.SHORTLIST, "score": score, "auroc": value}
        for organism, values in aurocs.items()
        for score, value in zip("ab", values, strict=True)
    ]
    return pd.DataFrame(rows)


def test_a_score_counts_as_many_organisms_as_it_finds_the_heads_of():
    table = organism_scores.found_on(ratings(one=(0.95, 0.91), two=(0.5, 0.99), three=(0.9, 1.0)))
    assert table["score"].tolist() == ["b", "a"]
    assert table["found"].tolist() == [3, 1]  # 0.9 itself is not above 0.9
    assert table.loc[1, ["one", "two", "three"]].tolist() == [0.95, 0.5, 0.9]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_every_score_of_both_phases_is_rated(name):
    table = organism_scores.ratings_on(name, organism_texts.cases("test", 6), label_space())
    for phase in Phase:
        assert set(scores.PAPER.values()) & set(table.loc[table["phase"] == phase, "score"]) == {scores.PAPER[phase]}
    assert table["auroc"].between(0, 1).all()
    assert set(table["organism"]) == {name}


def test_an_organism_without_planted_heads_is_refused():
    with pytest.raises(ValueError, match="no heads were planted in organism"):
        organism_scores.ratings_on("organism", organism_texts.cases("test", 4), label_space())
