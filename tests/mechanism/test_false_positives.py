"""On random weights there is nothing to find: how often the ledger's instruments find something, in 200 null runs."""

import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from ctd.mechanism import heads, patching_controls, random_weights, scores, validation
from ctd.mechanism.patching_controls import DEFAULT, Settings
from ctd.mechanism.phases import Phase
from tests.mechanism.test_attention import build_model
from tests.mechanism.test_heads import APART
from tests.mechanism.test_patching_controls import KNOWN, WHOLE

LEVEL = 0.05


def patching_finds(n_models):
    """Whether each instrument of the ledger finds heads that nobody planted: 4 runs a model."""
    used = list(DEFAULT.values())
    runs = patching_controls.null_runs(build_model("llama"), WHOLE, KNOWN, n_models, Settings(3, 100), used)
    assert len(runs) == 4 * n_models
    return runs["passes"].to_numpy()


def scores_find(n_models):
    """Whether the paper's scores are said to find such heads, as the ledger judges it: 2 runs a model."""
    runs = random_weights.null_scores(build_model("llama"), APART, KNOWN, n_models)
    published = runs[runs["score"].isin(scores.PAPER.values())]
    assert len(published) == 2 * n_models
    return published["passes"].to_numpy()


def test_a_handful_of_null_runs_finds_next_to_nothing():
    assert patching_finds(1).sum() <= 1
    assert scores_find(2).sum() <= 1


@pytest.mark.slow
@pytest.mark.parametrize(("find", "n_models"), [(patching_finds, 50), (scores_find, 100)])
def test_in_200_null_runs_at_most_one_in_twenty_finds_something(find, n_models):
    passes = find(n_models)
    assert len(passes) == 200
    assert passes.mean() <= LEVEL


def test_an_interval_over_documents_alone_would_find_heads_that_nobody_planted():
    """The same two heads rank high in every document of a model, or low: only other heads tell what is chance."""
    scored = heads.score(build_model("llama"), APART)
    name = scores.PAPER[Phase.SHORTLIST]
    values = scored.raw(name)[:, 0]
    highest = scored.ranking(name)[:2]
    (row,) = validation.ratings({name: values}, highest, draws=200).to_dict("records")
    chance = validation.random_auroc(18, 2, draws=500)
    assert row["low"] > 0.5
    assert chance.scalar[2] > 0.85
    assert chance.scalar[0] == 0.5


def test_shares_are_counted_by_model_and_by_tool():
    runs = pd.DataFrame(
        {"score": ["a", "b", "a", "b"], "model": [0, 0, 1, 1], "passes": [False, True, True, True], "auroc": 0.5}
    )
    share, by_tool = random_weights.false_positives(runs)
    half = ttest_1samp([0.5, 1.0], 0).confidence_interval()
    assert share.scalar == pytest.approx((0.75, half.low, half.high))
    assert by_tool.values.tolist() == [["b", 1.0, 2], ["a", 0.5, 2]]
    patched = runs.rename(columns={"score": "instrument"}).assign(intervention="noising")
    assert random_weights.false_positives(patched)[1]["tool"].tolist() == ["noising, b", "noising, a"]
