"""Rivals of the scores against finite differences and single runs; ranking against scipy; and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu

from ctd.mechanism import attention, corruptions, patching, readouts, validation
from ctd.mechanism.attention import Head
from ctd.mechanism.patching import Intervention
from ctd.mechanism.readouts import ANCHOR, MARGIN
from ctd.reasoning.token_spans import Span
from tests.mechanism.test_attention import build_model
from tests.mechanism.test_heads import PASSAGES

KNOWN = np.zeros((3, 6), bool)
KNOWN[1, 2] = KNOWN[2, 0] = True


@pytest.fixture
def llama():
    return build_model("llama")


@pytest.mark.parametrize("family", ["llama", "gemma2, capped and sliding"])
def test_attribution_is_the_slope_by_a_head_s_output(family):
    model = build_model(family)
    if family == "llama":
        model = model.double()  # not Gemma 2: transformers masks a padded row twice, which overflows float64
    attributed = validation.attribution(model, PASSAGES[:2])
    step = 1e-2  # a tenth of it drowns in rounding: some of a model computes in float32 whatever its weights are
    for row, trace in enumerate(PASSAGES[:2]):
        for head in (Head(0, 1), Head(1, 4), Head(2, 5)):
            values = []
            for factor in (1 + step, 1 - step):

                def scale(attended, head=head, factor=factor):
                    if attended.layer == head.layer:
                        attended.output[:, :, head.head] *= factor

                with torch.no_grad(), attention.attention_hooks(model, scale):
                    logits = model(input_ids=torch.tensor([trace.ids])).logits[0]
                values.append(readouts.read_out(logits[readouts.queries_read(trace)], trace))
            for name in (ANCHOR, MARGIN):
                slope = (values[0][name] - values[1][name]).item() / (2 * step)
                assert attributed[name][row][head] == pytest.approx(slope, rel=2e-2, abs=2e-4)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_attribution_says_nothing_of_a_readout_that_is_not_there(llama):
    mute = replace(PASSAGES[0], comparisons=())
    attributed = validation.attribution(llama, [mute, PASSAGES[1]])
    assert np.isnan(attributed[MARGIN][0]).all()
    assert not np.isnan(attributed[ANCHOR]).any()
    assert not np.isnan(attributed[MARGIN][1]).any()


def test_each_head_alone_is_a_patched_run_of_its_own(llama):
    documents, _ = corruptions.pairs(PASSAGES)
    losses = validation.alone(llama, documents, noise="uniform", rows=7)
    effects = patching.effects(llama, documents, {("top", 1): [Head(1, 4)]}, Intervention(noise="uniform"))
    for name in (ANCHOR, MARGIN):
        assert losses[name].shape == (4, 3, 6)
        lost = effects.values[name][:, 0] - effects.values[name][:, 2]
        np.testing.assert_allclose(losses[name][:, 1, 4], lost, rtol=1e-3, atol=1e-4)


def test_auroc_is_scipy_s_and_precision_is_counted_by_hand():
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 6, (20, 3, 6)).astype(float)  # with ties
    expected = [
        mannwhitneyu(values[KNOWN], values[~KNOWN]).statistic / (KNOWN.sum() * (~KNOWN).sum()) for values in maps
    ]
    np.testing.assert_allclose(validation.auroc(maps, KNOWN), expected)
    perfect = KNOWN.astype(float)
    assert validation.auroc(perfect, KNOWN) == 1.0
    assert validation.auroc(-perfect, KNOWN) == 0.0
    assert validation.auroc(np.zeros((3, 6)), KNOWN) == 0.5
    half = perfect.copy()
    half[0, 0], half[2, 0] = 3.0, -1.0
    assert validation.precision(half, KNOWN) == 0.5
    assert validation.precision(perfect, KNOWN, k=4) == 0.5


def test_a_score_that_sees_the_known_heads_is_told_from_one_that_does_not():
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(30, 3, 6))
    seeing = noise + 3 * KNOWN
    seeing[4] = np.nan
    known = [Head(1, 2), Head(2, 0)]
    table = validation.ratings({"seeing": seeing, "blind": noise}, known).set_index("score")
    assert table.loc["seeing", ["auroc", "low", "precision", "worst"]].tolist() == [1.0, 1.0, 1.0, 2]
    assert table["n"].to_dict() == {"seeing": 29, "blind": 30}
    assert table.loc["blind", "low"] < 0.6 < table.loc["seeing", "low"]
    weak = noise + KNOWN
    course = validation.by_documents({"weak": weak, "seeing": seeing}, known, [1, 29, 30])
    assert course[course["score"] == "seeing"]["documents"].tolist() == [1, 29]
    first, *_, last = course[course["score"] == "weak"]["auroc"]
    assert first < last


@pytest.mark.parametrize(
    ("values", "known", "message"),
    [
        (np.full((3, 3, 6), np.nan), [Head(0, 0)], "no document tells the score 'it'"),
        (np.zeros((3, 3, 6)), [], "some heads must be known and some not, got 0 of 18"),
        (np.zeros((3, 1, 1)), [Head(0, 0)], "some heads must be known and some not, got 1 of 1"),
    ],
)
def test_a_ranking_needs_documents_and_both_kinds_of_heads(values, known, message):
    with pytest.raises(ValueError, match=message):
        validation.ratings({"it": values}, known)


def test_a_passage_without_topics_has_no_anchor_readout(llama):
    attributed = validation.attribution(llama, [replace(PASSAGES[0], topics=Span(15, 15))])
    assert np.isnan(attributed[ANCHOR]).all()


def test_heads_at_random_are_found_half_the_time_and_a_few_of_them_anywhere():
    rng = np.random.default_rng(1)
    value, low, high = validation.random_auroc(36, 2).scalar
    drawn = [validation.auroc(rng.random((6, 6)), np.arange(36).reshape(6, 6) < 2) for _ in range(2000)]
    assert value == 0.5
    assert (low, high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.03)
    assert np.ptp(validation.random_auroc(36, 18).scalar[1:]) < (high - low) / 2
    with pytest.raises(ValueError, match="some heads must be known and some not, got 4 of 4"):
        validation.random_auroc(4, 4)
