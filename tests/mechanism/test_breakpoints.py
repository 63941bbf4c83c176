"""The boundary of two phases, against scipy's fit."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from ctd.mechanism import breakpoints
from ctd.mechanism.curve_means import GRID
from tests.mechanism.conftest import hinge, trajectories_from


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
        detected = breakpoints.detect(curve)
        assert detected == pytest.approx(joint, abs=0.08)

        t, y = GRID[1:], curve[1:]

        def error(at):
            columns = np.stack([np.ones_like(t), t, np.maximum(t - at, 0)], axis=1)
            return np.square(y - columns @ np.linalg.lstsq(columns, y)[0]).sum()

        assert error(detected) <= min(map(error, np.linspace(0.1, 0.95, 2000))) + 1e-12
        fits = [curve_fit(hinge, t, y, p0=[0.4, 1, 0, start], maxfev=20000)[0] for start in np.linspace(0.15, 0.9, 16)]
        best = min((fit for fit in fits if t[0] < fit[3] < 1), key=lambda fit: np.square(y - hinge(t, *fit)).sum())
        assert detected == pytest.approx(best[3], abs=1e-4)

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
        table = breakpoints.boundaries(trajectories_from(curves, marked), draws=300)
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
        assert np.isnan(breakpoints.boundaries(trajectories_from(curves), draws=20).loc["marked", "t"])

    def test_an_unknown_metric(self):
        with pytest.raises(ValueError, match="metric must be one of focus, .*, got 'blur'"):
            breakpoints.boundaries(trajectories_from(np.zeros((2, 21))), metric="blur")
