"""Figures hold what the tables say: lines, ribbons, marks and names."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from ctd import plots, trajectories


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def table():
    """Two series of three metrics over the grid, t = 0 undefined."""
    grid = trajectories.GRID
    parts = []
    for shift, series in enumerate(("teacher", "shuffled")):
        for metric in ("focus", "confusion", "margin"):
            part = pd.DataFrame({"series": series, "metric": metric, "t": grid, "estimate": grid / 2 + shift / 10})
            parts.append(part.assign(low=part["estimate"] - 0.05, high=part["estimate"] + 0.05))
    table = pd.concat(parts, ignore_index=True)
    table.loc[table["t"] == 0, ["estimate", "low", "high"]] = np.nan
    return table


class TestTrajectories:
    def test_a_panel_a_metric_with_lines_ribbons_and_marks(self, table):
        marks = {"marked": 0.6, "detected": 0.31, "lost": np.nan}
        figure = plots.trajectories(table, trajectories.published(), marks)
        titles = [axes.get_title(loc=plt.rcParams["axes.titlelocation"]) for axes in figure.axes]
        assert titles == ["Focus (topics)", "Confusion (near misses)", "Margin (near - gold)"]
        for axes in figure.axes:
            teacher = axes.lines[0]
            assert teacher.get_label() == "teacher"
            np.testing.assert_allclose(teacher.get_ydata()[1:], trajectories.GRID[1:] / 2)
            assert len(axes.collections) == 2
            assert [line.get_xdata()[0] for line in axes.lines[-2:]] == [0.6, 0.31]
        names = [text.get_text() for text in figure.legends[0].get_texts()]
        assert names == ["teacher", "shuffled", "published (MIMIC-IV)", "marked t* = 0.60", "detected t* = 0.31"]

    def test_the_published_curve_is_dashed_and_only_where_there_is_one(self, table):
        figure = plots.trajectories(table, trajectories.published())
        dashed = [[line for line in axes.lines if line.get_linestyle() == "--"] for axes in figure.axes]
        np.testing.assert_allclose(dashed[0][0].get_ydata()[:2], [0.46, 0.664])
        assert len(dashed[2][0].get_ydata()) == 0

    def test_a_metric_that_is_missing(self, table):
        with pytest.raises(ValueError, match="the table has no metric 'gold', only focus, confusion, margin"):
            plots.trajectories(table, metrics=("gold",))


class TestHeads:
    def test_maps_are_symmetric_about_white(self):
        figure = plots.head_maps({"a": np.array([[0.0, -2.0], [1.0, 0.5]]), "b": np.zeros((2, 2))})
        images = [image for axes in figure.axes for image in axes.images]
        assert [image.get_clim() for image in images] == [(-2, 2), (-1, 1)]

    def test_a_ranking_names_each_head_and_is_coloured_by_depth(self):
        rows = pd.DataFrame({"layer": [3, 0], "head": [1, 2], "value": [0.9, 0.4], "low": [0.8, 0.1], "high": [1, 0.6]})
        axes = plots.head_ranking(rows, 4, "score").axes[0]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["layer 3, head 1", "layer 0, head 2"]
        colours = axes.collections[-1].get_facecolors()
        assert (colours[0] != colours[1]).any()

    def test_a_course_has_a_line_a_group(self):
        rows = pd.DataFrame({"heads": ["top"] * 2 + ["all"] * 2, "stage": [1, 2] * 2, "value": [1.0, 2, 3, 4]})
        axes = plots.courses(rows.assign(low=0.0, high=5.0), "score").axes[0]
        assert [line.get_label() for line in axes.lines] == ["top", "all"]
        assert axes.lines[1].get_ydata().tolist() == [3, 4]
