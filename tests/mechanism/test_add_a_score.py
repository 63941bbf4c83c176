"""A new head score is one function and one line in the registry: it is scored, ranked and listed like the book's."""

import numpy as np
import pytest
import torch

from ctd.mechanism import heads, scores
from ctd.mechanism.phases import Phase
from ctd.mechanism.scores import LayerReading, Score
from tests.mechanism.test_attention import build_model
from tests.mechanism.test_heads import PASSAGES


def evenness(reading: LayerReading) -> torch.Tensor:
    """Entropy (nats) of attention over the document's tokens, a row per query and a column per head."""
    shares = reading.on_document / reading.on_document.sum(-1, keepdim=True).clamp(min=1e-9)
    return torch.special.entr(shares).sum(-1).T


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(scores.SCORES, "evenness", Score(Phase.SHORTLIST, evenness, "looks at many words alike"))


@pytest.mark.usefixtures("registered")
def test_a_strangers_score_is_scored_ranked_and_listed():
    assert scores.names(Phase.SHORTLIST)[-1] == "evenness"
    assert scores.names(Phase.SHORTLIST)[0] == scores.COARSE, "the paper's score stays the first"
    scored = heads.score(build_model("llama"), PASSAGES)
    values = scored.raw("evenness")[:, 0]
    longest = max(trace.document.end - trace.document.start for trace in PASSAGES)
    assert not np.isnan(values).any()
    assert ((values >= 0) & (values <= np.log(longest))).all()
    best = scored.ranking("evenness")[0]
    assert scored.mean("evenness").estimate[best] == pytest.approx(scored.mean("evenness").estimate.max())
    assert "evenness" in scored.table().columns


@pytest.mark.usefixtures("registered")
def test_a_strangers_score_changes_no_other():
    with_it = heads.score(build_model("llama"), PASSAGES)
    del scores.SCORES["evenness"]
    without = heads.score(build_model("llama"), PASSAGES)
    assert set(with_it.values) - set(without.values) == {"evenness"}
    for name, values in without.values.items():
        np.testing.assert_array_equal(values, with_it.values[name])


def test_a_phase_2_score_is_read_where_labels_are_compared(monkeypatch):
    def entropy(reading: LayerReading) -> torch.Tensor:
        start = reading.trace.cot.start
        queries = [query - start for pair in reading.trace.comparisons for query in range(*pair.queries)]
        return torch.special.entr(reading.pattern[:, queries]).sum(-1).T

    monkeypatch.setitem(scores.SCORES, "entropy", Score(Phase.REFINE, entropy, "looks at many tokens"))
    scored = heads.score(build_model("llama"), PASSAGES)
    assert np.isnan(scored.raw("entropy")[:, 1]).all(), "the first stage of the CoT compares nothing"
    assert not np.isnan(scored.raw("entropy")[:, 0]).any()
