"""What is shown in a notebook: shades follow weights, and text is never markup."""

import re

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from ctd.book import report
from ctd.stats import Interval


@pytest.fixture
def shown(monkeypatch):
    outputs = []
    monkeypatch.setattr(report, "display", lambda output: outputs.append(output.data))
    return outputs


def test_words_are_shaded_by_their_weight(shown):
    report.attended(["the", "<liver>", "failed"], [0.0, 0.5, 0.25])
    shades = [float(alpha) for alpha in re.findall(r"rgba\(230, 120, 30, ([\d.]+)\)", shown[0])]
    assert shades == [0.0, 1.0, 0.5]
    assert "&lt;liver&gt;" in shown[0]


@pytest.mark.parametrize("weights", [[0.0, 0.0], [-1.0, -2.0]])
def test_words_without_weight_are_not_shaded(shown, weights):
    report.attended(["a", "b"], weights)
    assert set(re.findall(r"30, ([\d.]+)\)", shown[0])) == {"0.00"}


def test_every_word_needs_a_weight():
    with pytest.raises(ValueError, match="every word needs a weight, got 2 words and 1 weights"):
        report.attended(["a", "b"], [1.0])


def test_a_gain_stands_in_one_cell_and_one_seed_has_no_interval():
    columns = {
        "name": ["a", "b"], "value": [0.05, -0.1], "low": [0.01, -0.2], "high": [0.09, 0.0], "p": [0.01, 0.2],
        "p_holm": [0.02, 0.2], "cohen_d": [0.3, -0.1], "dominance": [0.1, 0.0], "seeds": [3, 0],
        "seed_low": [-0.01, float("nan")], "seed_high": [0.11, float("nan")],
    }  # fmt: skip
    shown = report.gains(pd.DataFrame(columns), "name")
    assert list(shown) == ["name", "gain", "over seeds", "p (Holm)", "d", "seeds"]
    cells = [[str(cell).replace(report.NO_BREAK_SPACE, " ") for cell in row] for row in shown.to_numpy()]
    assert cells == [
        ["a", "0.050 [0.010, 0.090]", "[-0.010, 0.110]", "0.02", "0.3", "3"],
        ["b", "-0.100 [-0.200, 0.000]", "", "0.2", "-0.1", "0"],
    ]


def test_a_table_has_its_caption_and_the_columns_to_filter_by(shown):
    report.table(pd.DataFrame({"run": ["a"], "what_for": ["b"]}), caption="Runs & more.", filters=["what_for"])
    page = BeautifulSoup(shown[0], "html.parser")
    assert page.table.caption.get_text() == "Runs & more."
    assert page.table["data-filters"] == "1"
    assert page.details is None


def test_a_long_table_is_folded_behind_its_caption(shown):
    report.table(pd.DataFrame({"n": range(report.MOST_ROWS + 1)}), caption="Numbers.")
    page = BeautifulSoup(shown[0], "html.parser")
    assert page.details.summary.get_text() == f"Numbers ({report.MOST_ROWS + 1} rows)"
    assert len(page.details.table("tr")) == report.MOST_ROWS + 2


def test_a_cell_breaks_before_an_interval_and_not_within_it(shown):
    report.table(pd.DataFrame({"n": [1234], "gain": [report.estimate(0.5, 0.25, 0.75)]}))
    cells = re.findall("<td>(.*?)</td>", shown[0])
    assert cells == ["1,234", f"0.500 [0.250,{report.NO_BREAK_SPACE}0.750]"]


def test_an_interval_says_how_it_was_made_unless_by_bca():
    ends = [np.array(value) for value in (0.3721, 0.351, 0.394)]
    assert report.interval(Interval(*ends)) == report.estimate(0.3721, 0.351, 0.394)
    assert report.interval(Interval(*ends, method="percentile")).endswith("0.394] (percentile)")


def test_a_study_is_not_called_twice_by_the_same_name():
    assert report.study("mesh", "smollm2-mesh") == "mesh, smollm2-mesh"
    assert report.study("organism", "organism") == "organism"
