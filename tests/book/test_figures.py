"""Figures: one style a series, files for every screen, data behind each, and words for who cannot see them."""

from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat import v4

from ctd.book import figures, plots
from ctd.book.plots import files, series


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_a_series_has_its_style_and_place_in_every_figure():
    names = ["mechanistic", "other", "cot, equal time", "cot"]
    assert series.ordered(names) == ["cot, equal time", "cot", "mechanistic", "other"]
    drawn = series.styles(names)
    assert drawn["cot"] == series.styles(["cot"])["cot"] == series.SERIES["cot"]
    assert drawn["cot, equal time"] == series.SERIES["cot"]._replace(filled=False)
    assert len(set(series.styles([*names, "a", "b", "full", "mechanistic - cot"]).values())) == 8


def contrast(colour):
    """Of a colour with white, by WCAG."""
    parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05)


def test_every_colour_shows_on_white():
    for style in (*series.SERIES.values(), *series.SPARE):
        assert contrast(style.colour) >= 3, style
    for place in (0.0, 0.5, 1.0):
        assert contrast("#" + "".join(f"{round(255 * part):02x}" for part in plots.heads.DEPTHS(place)[:3])) >= 1.8


@pytest.fixture
def arms():
    table = pd.DataFrame(
        {"measure": ["a_b"] * 2 + ["c"] * 2, "arm": ["mechanistic", "cot"] * 2, "value": [1.0, 2, 3, 4]}
    )
    return table.assign(low=table["value"] - 0.5, high=table["value"] + 0.5)


def test_dots_have_a_panel_a_measure_and_a_row_an_arm(arms):
    figure = plots.dots(arms, "measure", "value", "arm", "", "mean")
    where = plt.rcParams["axes.titlelocation"]
    assert [axes.get_title(loc=where) for axes in figure.axes] == ["a b", "c"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["cot", "mechanistic"]
    first, second = figure.axes[1].lines[:2]
    assert (first.get_xdata()[0], second.get_xdata()[0]) == (4, 3)


def test_a_figure_is_saved_for_wide_and_narrow_screens_with_its_data(arms, tmp_path):
    figure = plots.dots(arms, "measure", "value", "arm", "", "mean")
    before = figure.get_size_inches().tolist(), plt.get_fignums()
    files.save(figure, tmp_path, "arms")
    assert (figure.get_size_inches().tolist(), plt.get_fignums()) == before, "the figure itself is left as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["arms-narrow.svg", "arms.csv", "arms.png", "arms.svg"]
    assert pd.read_csv(tmp_path / "arms.csv").equals(arms)
    phone = files.narrow(figure)
    assert phone.get_size_inches()[0] == files.PHONE
    assert {axes.get_subplotspec().get_gridspec().ncols for axes in phone.axes} == {1}
    again = tmp_path / "again"
    again.mkdir()
    files.save(figure, again, "arms")
    assert (again / "arms.svg").read_bytes() == (tmp_path / "arms.svg").read_bytes()


def test_a_legend_fits_a_phone():
    rows = [(name, "focus", t, t) for name in ("teacher", "the same lines in random order") for t in (0.0, 1.0)]
    table = pd.DataFrame(rows, columns=["series", "metric", "t", "estimate"]).assign(low=0.0, high=1.0)
    phone = files.narrow(plots.trajectories(table, boundaries={"marked": 0.5}, metrics=("focus",)))
    (legend,) = phone.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "teacher", "the same lines in random order", "marked t* = 0.50",
    ]  # fmt: skip
    phone.draw_without_rendering()
    assert legend.get_window_extent().x0 >= 0


def apart(texts):
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    return len(boxes) > 1 and not any(a.overlaps(b) for a, b in combinations(boxes, 2))


def test_names_of_rows_stand_apart_and_inside_a_phone():
    names = [f"patterns exchanged, {how} replaced, all queries" for how in ("anchors", "sentences", "documents")]
    rows = [(name, "denoising", phase, readout) for name in names for phase, readout in (("Phase 1", "a"), ("2", "b"))]
    table = pd.DataFrame(rows, columns=["instrument", "intervention", "phase", "readout"])
    table = table.assign(value=1.0, bound=0.5, found=True)
    plots.use_style()
    phone = files.narrow(plots.instruments(table, [np.zeros(2)] * len(table), {"a": "nats", "b": "logits"}))
    phone.draw_without_rendering()
    for axes in phone.axes:
        labels = axes.get_yticklabels()
        assert [label.get_text().replace("\n", " ") for label in labels] == [f"denoising: {name}" for name in names]
        assert apart(labels)
        assert min(label.get_window_extent().x0 for label in labels) >= 0
        assert axes.get_window_extent().width > 0.3 * phone.bbox.width


def test_numbers_of_a_map_stand_apart_on_a_phone():
    ways = ["free", "own", "swapped", "none"]
    table = pd.DataFrame([(row, column) for row in ways for column in ways], columns=["shortlist", "refinement"])
    table = table.assign(value=0.5, low=0.25, high=0.75)
    phone = files.narrow(plots.factorial({"a study": table}, "nDCG@5"))
    phone.draw_without_rendering()
    (axes,) = phone.axes
    assert [text.get_text() for text in axes.texts] == ["0.500\n[0.250,\n0.750]"] * 16
    assert apart(axes.texts)


def test_sizes_of_a_curve_that_lie_close_are_slanted():
    table = pd.DataFrame({"n": [64, 1_024, 1_100], "value": 0.5, "low": 0.4, "high": 0.6, "arm": "cot"})
    drawn = plots.curves(table, "n", "value", "arm", "traces", "nDCG@5")
    assert {label.get_rotation() for label in drawn.axes[0].get_xticklabels()} == {0}
    phone = files.narrow(drawn)
    assert {label.get_rotation() for label in phone.axes[0].get_xticklabels()} == {45}


def test_shares_are_written_in_their_bars_at_every_width():
    table = pd.DataFrame({"retriever": ["BM25"], "found": [0.5], "near miss only": [0.02], "missed": [0.48]})
    drawn = plots.outcome_bars(table, "gold labels")
    for figure in (drawn, files.narrow(drawn)):
        figure.draw_without_rendering()
        (axes,) = figure.axes
        assert [text.get_text() for text in axes.texts] == ["50%", "48%"]
        assert all(axes.bbox.containsx(text.get_window_extent().x0) for text in axes.texts)


def test_data_of_panels_and_of_arrays_are_kept(arms):
    figure = plots.head_maps({"Phase 1": np.array([[0.0, 1.0]])})
    data = getattr(figure, files.DATA)
    assert data.to_dict("list") == {"series": ["Phase 1"] * 2, "row": [0, 0], "column": [0, 1], "value": [0.0, 1.0]}


def test_a_page_shows_the_figure_that_fits_with_words_and_downloads(arms, tmp_path):
    files.save(plots.dots(arms, "measure", "value", "arm", "", "mean"), tmp_path, "arms")
    image = v4.new_output("display_data", {"image/png": "AAAA"})
    metadata = {"mystnb": {"figure": {"caption": "Arms <all>.", "name": "fig-arms"}}}
    cell = v4.new_code_cell('run.figure("arms", f)', metadata=metadata, outputs=[image])
    copy = v4.new_notebook(cells=[cell])
    figures.show(copy, tmp_path, "../f", {"arms": "It is **41**."})
    page = BeautifulSoup(copy.cells[0].outputs[0]["data"]["text/html"], "html.parser")
    assert page.img["alt"] == "Arms <all>. It is 41."
    assert page.img["src"] == "../f/arms.svg"
    assert page.source["srcset"] == "../f/arms-narrow.svg"
    assert [link["href"] for link in page("a")] == ["../f/arms.svg", "../f/arms.png", "../f/arms.csv"]
    assert [cell.get_text() for cell in page.tbody.tr("td")] == ["a_b", "mechanistic", "1.000", "0.500", "1.500"]


def test_a_picture_without_svg_or_data_is_shown_as_it_is(tmp_path):
    (tmp_path / "old.png").write_bytes(b"png")
    page = BeautifulSoup(figures.picture(tmp_path, "f", "old", "Old."), "html.parser")
    assert page.img["src"] == "f/old.png"
    assert page.source is None
    assert page.details is None
