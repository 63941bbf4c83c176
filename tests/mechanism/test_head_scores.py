"""Means, rankings and tables of the scores of heads."""

import numpy as np
import pandas as pd
import pytest

from ctd.mechanism import scores
from ctd.mechanism.attention import Head
from ctd.mechanism.head_scores import HeadScores


def made_scores():
    """30 documents, 2 layers of 3 heads, whose means rise with the head's number; one document without a score."""
    rng = np.random.default_rng(0)
    values = np.arange(6.0).reshape(1, 1, 2, 3) + rng.normal(0, 0.5, (30, 1, 2, 3))
    values[7] = np.nan
    return HeadScores(tuple(f"d{n}" for n in range(30)), {"a": values, "b": rng.normal(size=values.shape)})


def test_means_rankings_and_their_stability():
    scored = made_scores()
    mean = scored.mean("a")
    np.testing.assert_allclose(mean.estimate, np.nanmean(scored.values["a"][:, 0], axis=0))
    assert (mean.low < mean.estimate).all()
    assert (mean.estimate < mean.high).all()
    assert scored.ranking("a") == [Head(1, 2), Head(1, 1), Head(1, 0), Head(0, 2), Head(0, 1), Head(0, 0)]
    firm, loose = scored.stability("a"), scored.stability("b")
    assert firm.method == "percentile"
    assert firm.low > 0.95
    assert loose.low < 0.8
    with pytest.raises(ValueError, match="score must be one of a, b, got 'c'"):
        scored.ranking("c")
    mute = HeadScores(("d0", "d1"), {scores.REFINE: np.full((2, 6, 2, 3), np.nan)})
    with pytest.raises(ValueError, match="none of the 2 documents tells RefineScore: none weighs a label that is kept"):
        mute.ranking(scores.REFINE)


def test_the_table_holds_every_value_and_comes_back_from_parquet(tmp_path):
    scored = made_scores()
    scored.save(tmp_path / "heads.parquet")
    table = pd.read_parquet(tmp_path / "heads.parquet")
    assert len(table) == 30 * 6
    row = table[(table["document"] == "d4") & (table["layer"] == 1) & (table["head"] == 2)].iloc[0]
    assert row["stage"] == 0
    assert row["b"] == scored.values["b"][4, 0, 1, 2]
    assert table["a"].isna().sum() == 6


def test_the_top_its_depth_and_its_course():
    scored = made_scores()
    top = scored.top("a", 2)
    assert top[["layer", "head"]].to_numpy().tolist() == [[1, 2], [1, 1]]
    assert (top["low"] < top["value"]).all()
    assert top["n"].tolist() == [29, 29], "one document has no score"
    assert [scored.n_documents(name) for name in "ab"] == [29, 30]
    depth = scored.depth("a", 3)
    assert depth.method == "percentile"
    assert depth.scalar == (1.0, 1.0, 1.0)
    assert scored.depth("a", 4).estimate == 0.75
    loose = scored.depth("b", 3)
    assert loose.low < loose.high
