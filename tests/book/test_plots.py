"""Figures hold what the tables say: lines, ribbons, marks and names."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from ctd.book import plots
from ctd.mechanism import curve_means, trajectories


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def table():
    """Two series of three metrics over the grid, t = 0 undefined."""
    grid = curve_means.GRID
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
            np.testing.assert_allclose(teacher.get_ydata()[1:], curve_means.GRID[1:] / 2)
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

    def test_patched_heads_have_a_panel_a_readout_and_way(self):
        rows = pd.DataFrame(
            {"readout": ["anchor"] * 4, "heads": ["top", "top", "random", "random"], "size": [1, 3] * 2}
        )
        rows = rows.assign(value=[0.2, 0.4, 0.0, 0.1], low=0.0, high=0.5)
        tables = {"noising": rows, "denoising": rows.assign(value=1.0)}
        figure = plots.patched(tables, {"anchor": 0.7}, {"anchor": "nats"})
        titles = [axes.get_title(loc=plt.rcParams["axes.titlelocation"]) for axes in figure.axes]
        assert titles == ["anchor, noising", "anchor, denoising"]
        lines = figure.axes[0].lines
        assert lines[0].get_ydata().tolist() == [0.2, 0.4]
        assert lines[2].get_ydata()[0] == 0.7

    def test_the_square_says_every_cell(self):
        rows = [("one", "anchor", 0.5), ("one", "margin", 0.0), ("two", "anchor", -0.1), ("two", "margin", 2.0)]
        table = pd.DataFrame(rows, columns=["noised", "readout", "value"])
        table = table.assign(low=table["value"] - 0.2, high=table["value"] + 0.2)
        axes = plots.square(table, {"anchor": "nats", "margin": "logits"}).axes[0]
        assert [text.get_text().split("\n")[0] for text in axes.texts] == ["0.500", "0.000", "-0.100", "2.000"]
        assert axes.images[0].get_array().tolist() == [[1.0, 0.0], [0.0, 1.0]], "white where the interval holds 0"

    def test_published_lines_are_dashed(self):
        table = pd.DataFrame({"panel": ["a"] * 4, "line": ["ours"] * 2 + ["published"] * 2, "share": [0, 0.1] * 2})
        table = table.assign(
            value=[0.8, 0.5, 0.85, 0.6], low=[0.7, 0.4, np.nan, np.nan], high=[0.9, 0.6, np.nan, np.nan]
        )
        styles = {line.get_label(): line.get_linestyle() for line in plots.written(table).axes[0].lines}
        assert styles == {"ours": "-", "published": "--"}

    def test_an_instrument_shows_random_sets_their_bound_and_whether_known_heads_are_found(self):
        rows = [(way, phase, "anchor", 0.5 * phase, phase == 2) for way in ("noising", "denoising") for phase in (1, 2)]
        table = pd.DataFrame(rows, columns=["intervention", "phase", "readout", "value", "found"])
        table = table.assign(instrument="rows", bound=0.1)
        random = [np.full(3, number / 10) for number in range(4)]
        first, second = plots.instruments(table, random, {"anchor": "nats"}).axes
        assert [label.get_text() for label in first.get_yticklabels()] == ["noising: rows", "denoising: rows"]
        for axes, shown, filled in ((first, (0, 2), False), (second, (1, 3), True)):
            dots, diamonds = axes.collections[0::3], axes.collections[2::3]
            assert [set(dot.get_offsets()[:, 0]) for dot in dots] == [{number / 10} for number in shown]
            assert [diamond.get_offsets()[0, 0] for diamond in diamonds] == [0.5 * (1 + filled)] * 2
            assert all((diamond.get_facecolor() != 1).any() == filled for diamond in diamonds)

    def test_scores_stand_best_first(self):
        table = pd.DataFrame({"score": ["weak", "strong"], "auroc": [0.4, 0.9], "low": [0.3, 0.8], "high": [0.5, 1.0]})
        axes = plots.found_heads(table).axes[0]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["strong", "weak"]


class TestCurves:
    @pytest.fixture
    def runs(self):
        """Two methods at three sizes in one run, at one size in another."""
        rows = [("big", n, arm, at) for n in (64, 256, 1024) for arm, at in (("cot", 0.2), ("mechanistic", 0.3))]
        rows += [("small", 256, "mechanistic", 0.1)]
        table = pd.DataFrame(rows, columns=["run", "traces", "arm", "value"])
        return table.assign(low=table["value"] - 0.05, high=table["value"] + 0.05)

    def test_a_panel_a_run_with_one_colour_a_method_and_an_interval_even_of_one_point(self, runs):
        figure = plots.curves(runs, "traces", "value", "arm", "traces", "nDCG@5", "run")
        big, small = figure.axes
        where = plt.rcParams["axes.titlelocation"]
        assert [big.get_title(loc=where), small.get_title(loc=where)] == ["big", "small"]
        assert [line.get_label() for line in big.lines] == ["cot", "mechanistic"]
        np.testing.assert_array_equal(big.lines[1].get_xdata(), [64, 256, 1024])
        assert small.lines[0].get_color() == big.lines[1].get_color()
        ((low, high),) = (segment[:, 1] for segment in small.collections[-1].get_segments())
        assert (low, high) == pytest.approx((0.05, 0.15))
        assert (big.get_ylabel(), small.get_ylabel()) == ("nDCG@5", "")

    @pytest.mark.parametrize("n", [2, 3, 5])
    def test_every_panel_is_whole_on_the_height_that_they_share(self, runs, n):
        rising = []
        for at in range(n):
            higher = runs[["value", "low", "high"]] + 0.2 * at
            rising.append(runs.assign(run=f"run {at}", **higher))
        figure = plots.curves(pd.concat(rising), "traces", "value", "arm", "traces", "nDCG@5", "run")
        assert len(figure.axes) == n
        for axes in figure.axes:
            assert axes.get_ylim()[0] == 0
            assert axes.get_ylim()[1] >= runs["high"].max() + 0.2 * (n - 1)

    def test_without_panels_it_is_one(self, runs):
        (axes,) = plots.curves(runs[runs["run"] == "big"], "traces", "value", "arm", "traces", "nDCG@5").axes
        assert len(axes.lines) == 2
        assert axes.get_ylim()[0] == 0


class TestCosts:
    def test_a_front_joins_the_arms_that_are_on_it_and_an_arm_without_a_cost_goes_across(self):
        rows = [("cot", 1.0, 0.2, True), ("fkl", 2.0, 0.1, False), ("mechanistic", 3.0, 0.4, True)]
        rows.append(("retrieval", np.nan, 0.3, False))
        table = pd.DataFrame(rows, columns=["arm", "cost", "value", "on_front"])
        table = table.assign(measure="exact_match", low=table["value"] - 0.1, high=table["value"] + 0.1)
        (axes,) = plots.fronts(table, "cost", "GFLOP").axes
        lines = {line.get_label(): line for line in axes.lines}
        assert lines["Pareto front"].get_xdata().tolist() == [1.0, 3.0]
        assert lines["Pareto front"].get_ydata().tolist() == [0.2, 0.4]
        assert set(lines["retrieval"].get_ydata()) == {0.3}

    def test_the_limit_is_drawn_where_somebody_counted(self):
        table = pd.DataFrame(
            [("search", "ours", "labels", 10, 0.2, 0.1), ("metrics", "ours", "documents", 10, 0.3, np.nan)],
            columns=["question", "way", "grows", "size", "seconds", "limit"],
        )
        search, metrics = plots.costs(table).axes
        assert [line.get_label() for line in search.lines] == ["ours", "limit of the machine"]
        assert search.lines[1].get_ydata().tolist() == [0.1]
        assert [line.get_label() for line in metrics.lines] == ["ours"]
        assert metrics.get_xlabel() == "documents"
        assert metrics.get_xticks().tolist() == [10]
