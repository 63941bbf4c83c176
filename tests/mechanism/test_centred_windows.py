"""Windows of a chain of thought, centred cosines by hand, and what an encoder allows."""

import numpy as np
import pytest

from ctd.mechanism import centred_windows, cot_prefixes, phase_contrasts, targets
from ctd.mechanism.centred_windows import boundaries, topicless, windows
from ctd.mechanism.targets import Targets
from ctd.reasoning import trace_parser, traces
from tests.mechanism.conftest import COTS, trace


def units(rng, n=6, d=5):
    vectors = rng.normal(size=(n, d))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def made_goals(rng):
    return Targets(*(units(rng) for _ in range(4)))


class TestWindows:
    def test_end_at_t_and_begin_a_width_before(self):
        cot = " ".join("abcdefghij")
        assert windows(cot, np.array([0.0, 0.1, 0.5, 1.0]), 0.2) == ["", "a", "d e", "i j"]
        assert windows("", np.array([0.5]), 0.2) == [""]

    def test_all_words_stand_in_some_window(self):
        for cot in COTS:
            seen = " ".join(windows(cot, np.arange(21) / 20, 0.1)).split()
            assert set(seen) == set(cot.split())

    def test_the_line_of_topics_is_left_out_and_t_star_moves_with_it(self, space):
        sentences = ["[[Liver]], not [[Left heart]]."]
        marked = trace_parser.parse(traces.write("organs", ["Liver", "Left heart"], sentences, ["Liver"]), space)
        cut = topicless(marked)
        assert "Topics" not in cut.cot
        assert cut.cot == marked.cot.split("\n", 1)[1]
        (t,) = boundaries([marked])
        assert t * len(cut.cot) == pytest.approx(marked.boundary * len(marked.cot) - (len(marked.cot) - len(cut.cot)))
        assert np.isnan(boundaries([trace("no marks")])).all()
        assert topicless(trace("no topics here")).cot == "no topics here"

    def test_are_embedded_alone(self, encoder, own_cache):
        written = centred_windows.embed_windows(COTS, np.full(3, 0.5), encoder)
        assert written.vectors.shape[:2] == (3, 11)
        assert np.isnan(written.vectors[:, 0]).all()
        last = windows(COTS[1])[-1]
        np.testing.assert_allclose(written.vectors[1, -1], encoder.vectors([last])[0], atol=1e-6)
        with pytest.raises(ValueError, match="lengths must agree"):
            centred_windows.embed_windows(COTS, np.zeros(2), encoder)


class TestCentred:
    def test_by_hand(self, rng, made_goals):
        vectors = np.stack([units(rng, 4) for _ in range(6)])
        vectors[:, 0] = np.nan
        written = cot_prefixes.PrefixVectors(np.arange(4) / 3, vectors, np.full(6, 0.5))
        measured = centred_windows.centred(written, made_goals)
        centre = vectors[:, 1:].reshape(-1, 5).mean(0)
        anchors = made_goals.anchor - made_goals.anchor.mean(0)
        anchors /= np.linalg.norm(anchors, axis=1, keepdims=True)
        for row in range(6):
            text = vectors[row, 2] - centre
            cosines = anchors @ text / np.linalg.norm(text)
            assert measured.focus[row, 2] == pytest.approx(cosines[row] - np.delete(cosines, row).mean())
        assert np.isnan(measured.focus[:, 0]).all()
        assert measured.focus[:, 1:].shape == measured.confusion[:, 1:].shape

    def test_a_text_that_is_alike_for_all_documents_is_about_none(self, rng, made_goals):
        """Of the same text for every document, Focus is 0 on average, whatever the text."""
        vectors = np.repeat(units(rng, 4)[None], 6, axis=0)
        written = cot_prefixes.PrefixVectors(np.arange(4) / 3, vectors, np.full(6, 0.5))
        measured = centred_windows.centred(written, made_goals)
        np.testing.assert_allclose(measured.focus.mean(0), 0, atol=1e-12)
        np.testing.assert_allclose(measured.confusion.mean(0), 0, atol=1e-12)

    def test_a_document_without_a_target_is_left_out(self, rng, made_goals):
        near = made_goals.near_miss.copy()
        near[2] = np.nan
        goals = Targets(made_goals.anchor, made_goals.document, near, made_goals.gold)
        written = cot_prefixes.PrefixVectors(np.arange(3) / 2, np.stack([units(rng, 3)] * 6), np.full(6, 0.5))
        measured = centred_windows.centred(written, goals)
        assert np.isnan(measured.confusion[2]).all()
        assert np.isfinite(np.delete(measured.confusion, 2, axis=0)).all()

    def test_what_approaches_its_topics_and_then_stays_bends_at_its_own_t_star(self, rng, made_goals):
        t = np.arange(11) / 10
        stars = np.linspace(0.35, 0.65, 6)
        share = np.minimum(t, stars[:, None])[..., None] / stars[:, None, None]
        noise = np.stack([units(rng, 1).repeat(11, axis=0) for _ in range(6)])
        vectors = share * made_goals.anchor[:, None] + (1 - share) * noise
        vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
        measured = centred_windows.centred(cot_prefixes.PrefixVectors(t, vectors, stars), made_goals)
        contrasts = phase_contrasts.phase_contrast(measured).set_index(["metric", "statistic"])
        assert contrasts.loc[("focus", "contrast"), "low"] > 0


class TestLimits:
    def test_a_text_of_the_gold_labels_is_as_near_to_them_as_can_be(self, goals):
        table = centred_windows.limits(goals, draws=50).set_index(["text", "metric"])
        assert table.loc[("its gold labels", "gold"), "value"] == pytest.approx(1, abs=1e-5)
        assert table.loc[("its topics", "focus"), "value"] == pytest.approx(1, abs=1e-5)
        by_hand = (goals.gold * goals.near_miss).sum(1).mean()
        assert table.loc[("its gold labels", "confusion"), "value"] == pytest.approx(by_hand, abs=1e-5)
        elsewhere = (goals.gold[[2, 0, 1]] * goals.anchor).sum(1).mean()
        assert table.loc[("another document's gold labels", "focus"), "value"] == pytest.approx(elsewhere, abs=1e-5)
        assert (table["n"] == 3).all()

    def test_no_text_has_less_confusion_than_the_least_and_one_has_it(self, rng, made_goals):
        goals, f = made_goals, 0.9
        least, _, _, n = centred_windows.least_confusion(goals, f, draws=20)
        assert n == 6
        cosines = (goals.anchor * goals.near_miss).sum(1)
        across = goals.near_miss - cosines[:, None] * goals.anchor
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        lowest = f * goals.anchor - np.sqrt(1 - f**2) * across
        assert least == pytest.approx((lowest * goals.near_miss).sum(1).mean())
        others = units(rng, 6)
        others -= (others * goals.anchor).sum(1, keepdims=True) * goals.anchor
        others /= np.linalg.norm(others, axis=1, keepdims=True)
        some = f * goals.anchor + np.sqrt(1 - f**2) * others
        assert (some * goals.near_miss).sum(1).mean() >= least
        goal = targets.Targets(*[goals.anchor] * 4)
        assert centred_windows.least_confusion(goal, f, draws=20)[0] == pytest.approx(f)
