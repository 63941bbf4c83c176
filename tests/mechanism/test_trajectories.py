"""Cosines along the chain of thought, by hand; their table; the published curves."""

import itertools

import numpy as np
import pytest

from ctd.mechanism import cot_prefixes, targets, trajectories
from ctd.mechanism.curve_means import GRID
from ctd.mechanism.untestable import NotTestable
from ctd.reasoning import trace_parser, traces
from tests.mechanism.conftest import ANCHORS, COTS, DOCUMENTS, GOLD, NEAR, trace, trajectories_from


def cosine(a, b):
    return a @ b / np.sqrt((a @ a) * (b @ b))


class TestCosines:
    def test_are_those_by_hand(self, written, goals, encoder, space):
        measured = written.towards(goals)
        for row, t in itertools.product(range(3), range(3, 21)):
            (prefix,) = encoder.vectors([cot_prefixes.prefixes(COTS[row])[t]])  # all shorter than a piece
            near = encoder.vectors([space.texts[label] for label in NEAR[row]]).mean(axis=0)
            (gold,) = encoder.vectors([space.texts[GOLD[row][0]]])
            (anchor,) = encoder.vectors([space.texts[ANCHORS[row][0]]])
            (document,) = encoder.vectors([DOCUMENTS[row]])
            wanted = {
                "focus": cosine(prefix, anchor),
                "focus_document": cosine(prefix, document),
                "confusion": cosine(prefix, near),
                "margin": cosine(prefix, near) - cosine(prefix, gold),
            }
            for metric, value in wanted.items():
                assert getattr(measured, metric)[row, t] == pytest.approx(value, abs=1e-6), (metric, row, t)

    def test_at_the_end_are_the_last_of_the_curve(self, written, goals, encoder):
        measured = written.towards(goals)
        cosines = targets.at_end([[cot, "", COTS[0]] for cot in COTS], goals, encoder)
        for metric in ("focus", "confusion"):
            np.testing.assert_allclose(cosines[metric][:, 0], getattr(measured, metric)[:, -1], atol=1e-6)
            assert np.isnan(cosines[metric][:, 1]).all()
            assert cosines[metric][0, 2] == cosines[metric][0, 0]
        with pytest.raises(ValueError, match="texts"):
            targets.at_end([["a"]], goals, encoder)

    def test_before_the_first_word_are_undefined(self, written, goals):
        measured = written.towards(goals)
        assert np.isnan(measured.focus[:, 0]).all()
        assert not np.isnan(measured.focus[:, 3:]).any()

    def test_a_document_without_near_misses_or_anchors_is_left_out_and_counted(self, written, encoder, space):
        goals = targets.embed_targets(DOCUMENTS, GOLD, [[6], [], [4]], [[], [], [3]], space, encoder)
        measured = written.towards(goals)
        assert measured.left_out == {"focus": 2, "focus_document": 0, "confusion": 1, "gold": 0, "margin": 1}
        table = measured.table(draws=50).set_index(["metric", "t"])
        assert table.loc[("confusion", 1.0), "n"] == 2
        assert table.loc[("confusion", 1.0), "estimate"] == pytest.approx(measured.confusion[[0, 2], -1].mean())
        assert table.loc[("focus", 1.0), "estimate"] == pytest.approx(measured.focus[2, -1])

    def test_a_trace_without_a_cot_is_left_out_and_counted(self, encoder, goals):
        written = cot_prefixes.embed_prefixes([trace(COTS[0]), trace(""), trace(COTS[2])], encoder)
        assert written.towards(goals).left_out == dict.fromkeys(trajectories.METRICS, 1)

    @pytest.mark.parametrize("answers", [[], [trace("")], [trace(" \n"), trace("")]])
    def test_no_cot_at_all_is_refused(self, encoder, answers):
        line = f"a curve needs a text with a chain of thought, and none of the {len(answers)} has one"
        with pytest.raises(NotTestable, match=line):
            cot_prefixes.embed_prefixes(answers, encoder)

    def test_lengths_that_differ_and_labels_outside(self, written, goals, encoder, space):
        with pytest.raises(ValueError, match="got documents 3, gold 2, near_misses 3, anchors 3"):
            targets.embed_targets(DOCUMENTS, GOLD[:2], NEAR, ANCHORS, space, encoder)
        with pytest.raises(ValueError, match="labels of 'tiny' run from 0 to 6, got 7"):
            targets.embed_targets(DOCUMENTS, [[7], [2], [3]], NEAR, ANCHORS, space, encoder)
        for wrong in (8, -1):
            with pytest.raises(ValueError, match=f"anchors must be nodes of 'tiny', 0 to 7, got {wrong}"):
                targets.embed_targets(DOCUMENTS, GOLD, NEAR, [[7], [wrong], [3]], space, encoder)
        two = targets.embed_targets(DOCUMENTS[:2], GOLD[:2], NEAR[:2], ANCHORS[:2], space, encoder)
        with pytest.raises(ValueError, match="got traces 3, targets 2"):
            written.towards(two)

    def test_the_marked_boundary_is_the_traces_own(self, encoder, space, own_cache):
        text = traces.write("organs", ["Liver", "Left heart"], ["[[Liver]], not [[Left heart]]."], ["Liver"])
        marked = trace_parser.parse(text, space)
        written = cot_prefixes.embed_prefixes([marked, trace(COTS[0])], encoder)
        assert written.boundary[0] == marked.boundary
        assert np.isnan(written.boundary[1])


class TestTable:
    def test_is_the_mean_with_an_interval_around_it(self):
        rng = np.random.default_rng(3)
        curves = rng.normal(size=(40, 21))
        curves[0, :4] = np.nan
        table = trajectories_from(curves).table()
        part = table[table["metric"] == "focus"]
        assert part["t"].tolist() == GRID.tolist()
        np.testing.assert_allclose(part["estimate"], np.nanmean(curves, axis=0))
        assert part["n"].tolist() == [39] * 4 + [40] * 17
        wanted = 2 * 1.96 * np.nanstd(curves, axis=0) / np.sqrt(part["n"])
        np.testing.assert_allclose(part["high"] - part["low"], wanted, rtol=0.15)

    def test_has_every_metric_and_margin_is_a_difference(self):
        table = (
            trajectories_from(np.full((3, 21), 0.5), gold=np.full((3, 21), 0.2))
            .table(draws=20)
            .groupby("metric")["estimate"]
        )
        assert table.mean().round(9).to_dict() == {
            "focus": 0.5, "focus_document": 0.5, "confusion": 0.5, "gold": 0.2, "margin": 0.3,
        }  # fmt: skip


class TestPublished:
    def test_is_the_authors_curve(self):
        table = trajectories.published()
        assert table.groupby("metric").size().to_dict() == {"confusion": 21, "focus": 21}
        np.testing.assert_allclose(table["t"].unique(), GRID)
        focus = table[table["metric"] == "focus"].set_index("t")["estimate"]
        assert (focus[0.0], focus[0.3]) == (0.46, 0.948)  # "0.46 to about 0.9 by t = 0.3"

    def test_unknown_ones(self):
        with pytest.raises(ValueError, match="model must be one of teacher, .*, got 'gpt'"):
            trajectories.published("gpt")
        for data in ("las", "t_star", "wiki"):
            with pytest.raises(ValueError, match=f"data must be one of mimic_iv .*, got '{data}'"):
                trajectories.published(data=data)
