"""Slopes before and after the boundary, areas between curves, against numpy."""

import numpy as np
import pytest

from ctd.mechanism import phase_contrasts
from ctd.mechanism.curve_means import GRID
from tests.mechanism.conftest import hinge, trajectories_from


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


class TestPhases:
    def phased(self, noise=0.02, n=30, seed=0):
        """Focus rises until 0.5 and stays, Confusion stays until 0.5 and falls."""
        rng = np.random.default_rng(seed)
        focus = hinge(GRID, 0.4, 1, 0, 0.5) + rng.normal(0, noise, (n, 21))
        confusion = hinge(GRID, 0.6, 0, -0.8, 0.5) + rng.normal(0, noise, (n, 21))
        focus[:, 0] = confusion[:, 0] = np.nan
        return trajectories_from(focus, 0.5, confusion=confusion)

    def test_slopes_are_numpys(self):
        rng = np.random.default_rng(4)
        focus, split = rng.normal(size=(6, 21)), rng.uniform(0.2, 0.8, 6)
        focus[:, 0], focus[2, 5] = np.nan, np.nan
        table = phase_contrasts.phase_contrast(trajectories_from(focus, split), draws=20).set_index(
            ["metric", "statistic"]
        )
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
        straight = trajectories_from(np.tile(0.4 + 0.5 * GRID, (30, 1)), confusion=np.tile(0.6 - 0.4 * GRID, (30, 1)))
        table = phase_contrasts.phase_contrast(measured)
        against = phase_contrasts.phase_contrast(measured, control=straight)
        assert phase_contrasts.two_phases(table, against)
        assert set(against["statistic"]) == {"contrast"}
        estimates = table.set_index(["metric", "statistic"])["estimate"]
        assert estimates["focus", "rise before"] == pytest.approx(1, abs=0.03)
        assert estimates["confusion", "fall after"] == pytest.approx(0.8, abs=0.03)
        assert table["n"].tolist() == [30] * 8

    def test_and_not_where_they_are_not(self):
        straight = trajectories_from(
            np.tile(0.4 + 0.5 * GRID, (30, 1)) + np.random.default_rng(0).normal(0, 0.05, (30, 21)), 0.5
        )
        assert not phase_contrasts.two_phases(phase_contrasts.phase_contrast(straight))
        levels_off = trajectories_from(self.phased().focus, 0.5)  # Confusion rises along with Focus and never falls
        table = phase_contrasts.phase_contrast(levels_off).set_index(["metric", "statistic"])
        assert table.loc[("confusion", "contrast"), "shows"]
        assert not table.loc[("confusion", "fall after"), "shows"]
        assert not phase_contrasts.two_phases(table.reset_index())

    def test_nor_where_the_control_does_the_same(self):
        measured, control = self.phased(seed=0), self.phased(seed=1)
        alone, against = (phase_contrasts.phase_contrast(measured, control=other) for other in (None, control))
        assert phase_contrasts.two_phases(alone)
        assert not phase_contrasts.two_phases(alone, against)

    def test_a_document_without_a_boundary_is_left_out(self):
        measured = self.phased()
        boundaries = np.where(np.arange(30) < 4, np.nan, 0.5)
        assert set(phase_contrasts.phase_contrast(measured, boundaries)["n"]) == {26}
        late = phase_contrasts.phase_contrast(measured, 0.99)  # no two points after it
        assert late.set_index("statistic")["n"].to_dict() == {"rise before": 30, "fall after": 0, "contrast": 0}
        assert not phase_contrasts.two_phases(late)

    def test_bad_input(self):
        measured = self.phased()
        with pytest.raises(ValueError, match="none of the 2 traces marks a boundary: give t_star, such as 0.5"):
            phase_contrasts.phase_contrast(trajectories_from(np.zeros((2, 21))))
        for wrong in (0, 1, 1.2):
            with pytest.raises(ValueError, match=f"t_star must lie between 0 and 1 .*, got {wrong}"):
                phase_contrasts.phase_contrast(measured, wrong)
        with pytest.raises(ValueError, match="got documents 30, t_star 2"):
            phase_contrasts.phase_contrast(measured, np.array([0.5, 0.5]))
        with pytest.raises(ValueError, match="got documents 30, documents of the control 2"):
            phase_contrasts.phase_contrast(measured, control=trajectories_from(np.zeros((2, 21))))
        with pytest.raises(ValueError, match="no metric 'blur'"):
            phase_contrasts.two_phases(phase_contrasts.phase_contrast(measured), metrics=("blur",))
