"""What is shown in a notebook: shades follow weights, and text is never markup."""

import re

import pytest

from ctd import report


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
