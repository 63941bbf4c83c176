"""Prefixes and their pieces, the cosines by hand, t* against scipy, areas, controls, and whether two phases show."""

import itertools

import numpy as np
import pytest
from scipy.optimize import curve_fit

from ctd.mechanism import breakpoints, cot_prefixes, embed_text, phase_contrasts, targets, trajectories
from ctd.mechanism.curve_means import GRID
from ctd.mechanism.trajectories import Trajectories
from ctd.reasoning import traces
from ctd.reasoning.traces import Trace

COTS = [
    "Topics: heart\nShortlist:\n- Left heart\n- Right heart\nCompare:\nleft side, not right side",
    "Topics: minerals\nShortlist:\n- Calcium/blood\n- Calcium/metabolism\nCompare:\nserum calcium in the blood",
    "Topics: organs\nShortlist:\n- Liver\n- Calcium\nCompare:\nliver tissue rather than bone",
]
DOCUMENTS = ["the left heart fails", "serum calcium was high", "a liver was removed"]
GOLD, NEAR, ANCHORS = [[5], [2], [3]], [[6], [1, 0], [4]], [[7], [0], [3]]


def trace(cot, document="a document", uid="u"):
    return Trace(uid, document, cot, ("Liver",))


def made(curves, boundary=np.nan, **others):
    """Trajectories whose every metric is the same curves, but for those given."""
    curves = np.asarray(curves, float)
    named = {name: np.asarray(others.get(name, curves), float) for name in ("focus", "focus_document", "confusion")}
    gold = np.asarray(others.get("gold", np.zeros_like(curves)), float)
    return Trajectories(GRID, np.broadcast_to(boundary, len(curves)).astype(float), gold=gold, **named)


def hinge(t, start, before, after, joint):
    return start + before * np.minimum(t, joint) + after * np.maximum(t - joint, 0)


def cosine(a, b):
    return a @ b / np.sqrt((a @ a) * (b @ b))


@pytest.fixture
def written(encoder, own_cache):
    return cot_prefixes.embed_prefixes([trace(cot) for cot in COTS], encoder)


@pytest.fixture
def goals(encoder, space, own_cache):
    return targets.embed_targets(DOCUMENTS, GOLD, NEAR, ANCHORS, space, encoder)


class TestPrefixes:
    def test_end_at_the_last_whole_word_within_each_share_of_the_characters(self):
        cot = "aa bbbb\ncc d"
        for t, prefix in zip(GRID, cot_prefixes.prefixes(cot), strict=True):
            heads = [cot[:end] for end in range(int(t * 12 + 1e-9) + 1)]
            whole = [head for head in heads if head.split() == cot.split()[: len(head.split())]]
            assert prefix.split() == max(whole, key=lambda head: len(head.split())).split(), t
        assert cot_prefixes.prefixes(cot, [0, 0.5, 1]) == ["", "aa", cot]

    def test_a_word_that_ends_exactly_at_t_is_whole(self):
        assert cot_prefixes.prefixes("a b c d e.", np.array([0.1, 0.3, 0.7, 1])) == [
            "a",
            "a b",
            "a b c d",
            "a b c d e.",
        ]

    def test_of_nothing_are_nothing(self):
        assert cot_prefixes.prefixes("", [0, 1]) == cot_prefixes.prefixes(" \n", [0, 1]) == ["", ""]

    @pytest.mark.parametrize(
        ("grid", "line"),
        [
            ([0, 0.5, 0.5], "grid must increase, got 0.5 before 0.5"),
            ([0.2, 0.1], "grid must increase, got 0.2 before 0.1"),
            ([0, 1.5], r"grid must lie in \[0, 1\], got 0 to 1.5"),
            ([np.nan], r"grid must lie in \[0, 1\]"),
            ([], "at least 1 point"),
        ],
    )
    def test_grids_that_are_none(self, grid, line):
        with pytest.raises(ValueError, match=line):
            cot_prefixes.prefixes("a b", np.array(grid))


class TestPieces:
    def test_hold_every_word_in_order_and_never_too_many_characters(self):
        text = " ".join(COTS) + "\u00a0and\tso on, " + "x" * 95
        found = embed_text.pieces(text, 30)
        assert max(map(len, found)) <= 30
        assert "".join("".join(found).split()) == "".join(text.split())

    def test_prefixes_share_all_but_their_last_one(self):
        cot = " ".join(COTS)
        whole = embed_text.pieces(cot, 40)
        for prefix in cot_prefixes.prefixes(cot)[1:]:
            *full, _ = embed_text.pieces(prefix, 40)
            assert full == whole[: len(full)]

    def test_the_end_of_a_long_text_counts(self, own_cache):
        class Short:
            """Reads the first 20 characters, as a transformer reads its first tokens."""

            name, key, dim, at_once = "short", "short", 26, 512

            def vectors(self, texts):
                out = np.array([[text[:20].count(chr(97 + c)) for c in range(26)] for text in texts], np.float32)
                return out / np.linalg.norm(out, axis=1, keepdims=True)

        text = "a" * 20 + " " + "b" * 20 + " " + "c" * 10
        whole, pieced = (embed_text.embed(Short(), [text], longest)[0] for longest in (1000, 20))
        assert np.flatnonzero(whole).tolist() == [0]
        np.testing.assert_allclose(pieced[:3], np.array([2, 2, 1]) / 3, rtol=1e-6)  # weighted by characters, unit norm

    def test_each_is_encoded_once_and_then_read_from_the_cache(self, encoder, own_cache, monkeypatch):
        seen = []
        plain = encoder.vectors
        monkeypatch.setattr(encoder, "vectors", lambda texts: seen.extend(texts) or plain(texts))
        both = [trace(COTS[0]), trace(COTS[0] + " ")]
        once = cot_prefixes.embed_prefixes(both, encoder, longest=30)
        assert len(seen) == len(set(seen)) > 0
        again = cot_prefixes.embed_prefixes(both, encoder, longest=30)
        np.testing.assert_array_equal(once.vectors, again.vectors)
        assert len(seen) == len(set(seen))

    def test_a_piece_of_nothing_is_refused(self):
        with pytest.raises(ValueError, match="longest must be at least 1 character, got 0"):
            embed_text.pieces("a", 0)


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
        found = targets.at_end([[cot, "", COTS[0]] for cot in COTS], goals, encoder)
        for metric in ("focus", "confusion"):
            np.testing.assert_allclose(found[metric][:, 0], getattr(measured, metric)[:, -1], atol=1e-6)
            assert np.isnan(found[metric][:, 1]).all()
            assert found[metric][0, 2] == found[metric][0, 0]
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

    @pytest.mark.parametrize("given", [[], [trace("")], [trace(" \n"), trace("")]])
    def test_no_cot_at_all_is_refused(self, encoder, given):
        line = f"at least 1 trace with a CoT, got {len(given)} traces and none has one"
        with pytest.raises(ValueError, match=line):
            cot_prefixes.embed_prefixes(given, encoder)

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
        marked = traces.parse(text, space)
        written = cot_prefixes.embed_prefixes([marked, trace(COTS[0])], encoder)
        assert written.boundary[0] == marked.boundary
        assert np.isnan(written.boundary[1])


class TestTable:
    def test_is_the_mean_with_an_interval_around_it(self):
        rng = np.random.default_rng(3)
        curves = rng.normal(size=(40, 21))
        curves[0, :4] = np.nan
        table = made(curves).table()
        part = table[table["metric"] == "focus"]
        assert part["t"].tolist() == GRID.tolist()
        np.testing.assert_allclose(part["estimate"], np.nanmean(curves, axis=0))
        assert part["n"].tolist() == [39] * 4 + [40] * 17
        wanted = 2 * 1.96 * np.nanstd(curves, axis=0) / np.sqrt(part["n"])
        np.testing.assert_allclose(part["high"] - part["low"], wanted, rtol=0.15)

    def test_has_every_metric_and_margin_is_a_difference(self):
        table = made(np.full((3, 21), 0.5), gold=np.full((3, 21), 0.2)).table(draws=20).groupby("metric")["estimate"]
        assert table.mean().round(9).to_dict() == {
            "focus": 0.5, "focus_document": 0.5, "confusion": 0.5, "gold": 0.2, "margin": 0.3,
        }  # fmt: skip


class TestBoundary:
    @pytest.mark.parametrize("joint", [0.15, 0.35, 0.523, 0.8])
    def test_is_found_exactly_without_noise(self, joint):
        assert breakpoints.detect(hinge(GRID, 0.4, 1.2, -0.1, joint)) == pytest.approx(joint, abs=1e-6)

    @pytest.mark.filterwarnings("ignore:Covariance of the parameters")
    @pytest.mark.parametrize("seed", range(8))
    def test_is_the_minimum_that_scipy_finds(self, seed):
        rng = np.random.default_rng(seed)
        joint = rng.uniform(0.2, 0.8)
        curve = hinge(GRID, 0.4, 1, -0.2, joint) + rng.normal(0, 0.02, 21)
        curve[0] = np.nan
        found = breakpoints.detect(curve)
        assert found == pytest.approx(joint, abs=0.08)

        t, y = GRID[1:], curve[1:]

        def error(at):
            columns = np.stack([np.ones_like(t), t, np.maximum(t - at, 0)], axis=1)
            return np.square(y - columns @ np.linalg.lstsq(columns, y)[0]).sum()

        assert error(found) <= min(map(error, np.linspace(0.1, 0.95, 2000))) + 1e-12
        fits = [curve_fit(hinge, t, y, p0=[0.4, 1, 0, start], maxfev=20000)[0] for start in np.linspace(0.15, 0.9, 16)]
        best = min((fit for fit in fits if t[0] < fit[3] < 1), key=lambda fit: np.square(y - hinge(t, *fit)).sum())
        assert found == pytest.approx(best[3], abs=1e-4)

    def test_a_straight_line_has_none(self):
        assert np.isnan(breakpoints.detect(0.2 + 0.3 * GRID))
        assert np.isnan(breakpoints.detect(np.full(21, 0.3)))

    def test_too_few_points_and_lengths_that_differ(self):
        curve = np.where(GRID < 0.2, GRID, np.nan)
        with pytest.raises(ValueError, match="at least 5 points, got 4"):
            breakpoints.detect(curve)
        with pytest.raises(ValueError, match="got curve 3, grid 21"):
            breakpoints.detect(np.zeros(3))

    def test_the_three_side_by_side(self):
        rng = np.random.default_rng(0)
        curves = hinge(GRID, 0.4, 1, 0, 0.4) + rng.normal(0, 0.1, (60, 21))
        curves[:2] = np.nan
        marked = rng.uniform(0.4, 0.6, 60)
        marked[:5] = np.nan
        table = breakpoints.boundaries(made(curves, marked), draws=300)
        assert table.index.tolist() == ["marked", "detected", "fixed"]
        assert table["n"].tolist() == [55, 58, 60]
        assert table.loc["marked", "t"] == pytest.approx(np.nanmean(marked))
        assert table.loc["detected", "t"] == pytest.approx(breakpoints.detect(np.nanmean(curves, axis=0)))
        assert table.loc["detected", "low"] < 0.4 < table.loc["detected", "high"]
        assert table.loc["detected", "high"] - table.loc["detected", "low"] < 0.15
        assert table.loc["fixed", "t"] == 0.5
        assert np.isnan(table.loc["fixed", "low"])

    def test_none_marked_is_nan(self):
        curves = hinge(GRID, 0.4, 1, 0, 0.4) + np.random.default_rng(0).normal(0, 0.1, (5, 21))
        assert np.isnan(breakpoints.boundaries(made(curves), draws=20).loc["marked", "t"])

    def test_an_unknown_metric(self):
        with pytest.raises(ValueError, match="metric must be one of focus, .*, got 'blur'"):
            breakpoints.boundaries(made(np.zeros((2, 21))), metric="blur")


class TestArea:
    def test_of_a_constant_distance_is_that_distance(self):
        a = np.random.default_rng(0).normal(size=(30, 21))
        area = phase_contrasts.area_between(a, a - 0.25)
        assert area.method == "percentile"
        assert area.scalar == pytest.approx((0.25, 0.25, 0.25))  # paired: every draw has it

    def test_is_numpys_trapezoid_of_the_mean_curves(self):
        rng = np.random.default_rng(1)
        a, b = rng.normal(size=(2, 9, 21))
        wanted = np.trapezoid(np.abs(a.mean(axis=0) - b.mean(axis=0)), GRID)
        area = phase_contrasts.area_between(a, b)
        assert float(area.estimate) == pytest.approx(wanted)
        assert float(area.low) < float(area.high)

    def test_of_crossing_curves_does_not_cancel(self):
        assert float(phase_contrasts.area_between(np.tile(GRID, (2, 1)), 1 - GRID).estimate) == pytest.approx(0.5)

    def test_leaves_out_where_a_curve_is_undefined(self):
        a = np.ones((4, 21))
        a[:, 0] = np.nan
        assert float(phase_contrasts.area_between(a, np.full(21, 0.4)).estimate) == pytest.approx(0.6)

    def test_pairing_narrows_and_other_numbers_need_apart(self):
        rng = np.random.default_rng(2)
        shared = rng.normal(size=(50, 1))
        a, b = shared + np.zeros(21), shared + 1 + rng.normal(0, 0.01, (50, 21))
        paired, apart = (phase_contrasts.area_between(a, b, paired=how) for how in (True, False))
        assert paired.high - paired.low < 0.1 * (apart.high - apart.low)
        with pytest.raises(ValueError, match="got documents of a 50, documents of b 20"):
            phase_contrasts.area_between(a, b[:20])
        assert phase_contrasts.area_between(a, b[:20], paired=False).low > 0

    def test_bad_input(self):
        with pytest.raises(ValueError, match="got a 21, b 20, grid 21"):
            phase_contrasts.area_between(np.zeros((2, 21)), np.zeros((2, 20)))
        with pytest.raises(ValueError, match="at least 2 points"):
            phase_contrasts.area_between(np.full((2, 21), np.nan), np.zeros((2, 21)))
        with pytest.raises(ValueError, match="draws must be at least 1"):
            phase_contrasts.area_between(np.zeros((2, 21)), np.zeros((2, 21)), draws=0)


class TestControls:
    def test_shuffling_keeps_the_lines_and_drops_the_marks(self, space):
        lines = ["Liver", "Left heart", "Right heart", "Calcium"]
        sentences = ["[[Liver]], not [[Left heart]].", "[[Calcium]], not [[Liver]]."]
        marked = traces.parse(traces.write("organs", lines, sentences, ["Liver"]), space)
        mixed = cot_prefixes.shuffled(marked, np.random.default_rng(0))
        assert mixed.cot != marked.cot
        assert sorted(mixed.cot.split("\n")) == sorted(marked.cot.split("\n"))
        assert mixed.boundary is None
        assert mixed.comparisons == mixed.mentions == ()
        assert (mixed.uid, mixed.document, mixed.answer) == (marked.uid, marked.document, marked.answer)
        assert cot_prefixes.shuffled(marked, np.random.default_rng(0)) == mixed

    def test_every_order_of_the_lines_comes_up(self):
        rng = np.random.default_rng(0)
        assert len({cot_prefixes.shuffled(trace("a\nb\n\nc"), rng).cot for _ in range(100)}) == 6

    def test_a_single_line_is_shuffled_by_sentences(self):
        found = {cot_prefixes.shuffled(trace("One. Two! Three"), np.random.default_rng(s)).cot for s in range(60)}
        assert found == {" ".join(order) for order in itertools.permutations(["One.", "Two!", "Three"])}

    def test_without_a_cot_nothing_changes(self):
        assert cot_prefixes.shuffled(trace(""), np.random.default_rng(0)).cot == ""

    def test_no_document_keeps_its_own_cot_and_each_is_used_once(self):
        rng = np.random.default_rng(0)
        for n in (2, 3, 7):
            given = [trace(f"cot {row}") for row in range(n)]
            orders = {tuple(cot_prefixes.of_other_documents(given, rng)) for _ in range(60)}
            for order in orders:
                assert sorted(order) == list(range(n))
                assert all(row != place for place, row in enumerate(order))
            assert n > 3 or len(orders) == n - 1  # all derangements of 2 and of 3

    def test_what_has_no_cot_takes_no_part(self):
        given = [trace("a"), trace(""), trace("b"), trace("c")]
        order = cot_prefixes.of_other_documents(given, np.random.default_rng(0))
        assert order[1] == 1
        assert sorted(order) == [0, 1, 2, 3]
        assert (order[[0, 2, 3]] != [0, 2, 3]).all()

    @pytest.mark.parametrize("given", [[], [trace("a")], [trace("a"), trace("")]])
    def test_one_document_has_no_other(self, given):
        with pytest.raises(ValueError, match=f"at least 2 traces with a CoT, got {min(len(given), 1)}"):
            cot_prefixes.of_other_documents(given, np.random.default_rng(0))

    def test_anothers_cot_is_scored_without_embedding_it_anew(self, written, goals, encoder, space):
        order = np.array([1, 2, 0])
        anew = cot_prefixes.embed_prefixes([trace(COTS[row]) for row in order], encoder).towards(goals)
        calls = encoder.calls
        swapped = written.swapped(order).towards(goals)
        assert encoder.calls == calls
        np.testing.assert_allclose(swapped.focus, anew.focus)
        np.testing.assert_allclose(swapped.margin, anew.margin)
        own = written.towards(goals)
        assert own.focus[:, -1].mean() > swapped.focus[:, -1].mean()


class TestPhases:
    def phased(self, noise=0.02, n=30, seed=0):
        """Focus rises until 0.5 and stays, Confusion stays until 0.5 and falls."""
        rng = np.random.default_rng(seed)
        focus = hinge(GRID, 0.4, 1, 0, 0.5) + rng.normal(0, noise, (n, 21))
        confusion = hinge(GRID, 0.6, 0, -0.8, 0.5) + rng.normal(0, noise, (n, 21))
        focus[:, 0] = confusion[:, 0] = np.nan
        return made(focus, 0.5, confusion=confusion)

    def test_slopes_are_numpys(self):
        rng = np.random.default_rng(4)
        focus, split = rng.normal(size=(6, 21)), rng.uniform(0.2, 0.8, 6)
        focus[:, 0], focus[2, 5] = np.nan, np.nan
        table = phase_contrasts.phase_contrast(made(focus, split), draws=20).set_index(["metric", "statistic"])
        before, after = [], []
        for row, t_star in zip(focus, split, strict=True):
            for inside, slopes in ((t_star >= GRID, before), (t_star <= GRID, after)):
                used = inside & ~np.isnan(row)
                slopes.append(np.polyfit(GRID[used], row[used], 1)[0])
        assert table.loc[("focus", "rise before"), "estimate"] == pytest.approx(np.mean(before))
        assert table.loc[("confusion", "fall after"), "estimate"] == pytest.approx(-np.mean(after))
        assert table.loc[("focus", "contrast"), "estimate"] == pytest.approx(np.mean(before) - np.mean(after))

    def test_two_phases_show_where_they_are(self):
        measured = self.phased()
        straight = made(np.tile(0.4 + 0.5 * GRID, (30, 1)), confusion=np.tile(0.6 - 0.4 * GRID, (30, 1)))
        own = phase_contrasts.phase_contrast(measured)
        against = phase_contrasts.phase_contrast(measured, control=straight)
        assert phase_contrasts.two_phases(own, against)
        assert set(against["statistic"]) == {"contrast"}
        estimates = own.set_index(["metric", "statistic"])["estimate"]
        assert estimates["focus", "rise before"] == pytest.approx(1, abs=0.03)
        assert estimates["confusion", "fall after"] == pytest.approx(0.8, abs=0.03)
        assert own["n"].tolist() == [30] * 8

    def test_and_not_where_they_are_not(self):
        straight = made(np.tile(0.4 + 0.5 * GRID, (30, 1)) + np.random.default_rng(0).normal(0, 0.05, (30, 21)), 0.5)
        assert not phase_contrasts.two_phases(phase_contrasts.phase_contrast(straight))
        levels_off = made(self.phased().focus, 0.5)  # Confusion rises along with Focus and never falls
        table = phase_contrasts.phase_contrast(levels_off).set_index(["metric", "statistic"])
        assert table.loc[("confusion", "contrast"), "shows"]
        assert not table.loc[("confusion", "fall after"), "shows"]
        assert not phase_contrasts.two_phases(table.reset_index())

    def test_nor_where_the_control_does_the_same(self):
        measured, control = self.phased(seed=0), self.phased(seed=1)
        own, against = (phase_contrasts.phase_contrast(measured, control=other) for other in (None, control))
        assert phase_contrasts.two_phases(own)
        assert not phase_contrasts.two_phases(own, against)

    def test_a_document_without_a_boundary_is_left_out(self):
        measured = self.phased()
        given = np.where(np.arange(30) < 4, np.nan, 0.5)
        assert set(phase_contrasts.phase_contrast(measured, given)["n"]) == {26}
        late = phase_contrasts.phase_contrast(measured, 0.99)  # no two points after it
        assert late.set_index("statistic")["n"].to_dict() == {"rise before": 30, "fall after": 0, "contrast": 0}
        assert not phase_contrasts.two_phases(late)

    def test_bad_input(self):
        measured = self.phased()
        with pytest.raises(ValueError, match="none of the 2 traces marks a boundary: give t_star, such as 0.5"):
            phase_contrasts.phase_contrast(made(np.zeros((2, 21))))
        for wrong in (0, 1, 1.2):
            with pytest.raises(ValueError, match=f"t_star must lie between 0 and 1 .*, got {wrong}"):
                phase_contrasts.phase_contrast(measured, wrong)
        with pytest.raises(ValueError, match="got documents 30, t_star 2"):
            phase_contrasts.phase_contrast(measured, np.array([0.5, 0.5]))
        with pytest.raises(ValueError, match="got documents 30, documents of the control 2"):
            phase_contrasts.phase_contrast(measured, control=made(np.zeros((2, 21))))
        with pytest.raises(ValueError, match="no metric 'blur'"):
            phase_contrasts.two_phases(phase_contrasts.phase_contrast(measured), metrics=("blur",))


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
