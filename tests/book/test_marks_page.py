"""What the page says of marks by hand: numbers that made-up marks of the committed sheet must give."""

import pytest

from ctd.book import marks_page
from ctd.recipes import natural_marks, natural_rules
from ctd.recipes.natural_marks import MARKS, TextMarks


@pytest.fixture(scope="module")
def sheet():
    return natural_marks.read_sheet()


@pytest.fixture(scope="module")
def rules(sheet):
    return natural_rules.marks(sheet, natural_marks.read_labels())


def page(sheet, a, b, tmp_path):
    natural_marks.join([a, b], sheet, tmp_path / "marks.csv")
    return marks_page.findings(tmp_path / "marks.csv").replace("\xa0", " ")


def row(page, *cells):
    """The cells of the table's row that begins with these."""
    line = next(line for line in page.splitlines() if line.startswith(f"| {' | '.join(cells)} |"))
    return line.strip("| ").split(" | ")[len(cells) :]


def test_readings_that_mark_what_the_rules_do_give_them_full_marks(sheet, rules, tmp_path):
    reading = [TextMarks(text.kinds.replace("-", "N"), text.boundary) for text in rules]
    shown = page(sheet, reading, reading, tmp_path)
    n_judged = sum(text.kinds.count("J") for text in reading)
    assert n_judged > 0
    assert "Two readings of 60 texts (557 sentences) give the same kind to 1.00 [1.00, 1.00]" in shown
    for reader in marks_page.NAMES:
        assert row(shown, "judgements of one label", reader) == [str(n_judged), *["1.00 [1.00, 1.00]"] * 3]
        texts, same, _, near, apart = row(shown, "last new label", reader)
        assert (texts, same, near, apart) == ("60", "1.00 [1.00, 1.00]", "1.00 [1.00, 1.00]", "0.00 [0.00, 0.00]")
    assert row(shown, "final answer") == ["0", "0", "none"]


def test_a_reading_of_other_kinds_and_boundaries_counts_against_readers_and_rules(sheet, rules, tmp_path):
    a = [TextMarks(text.kinds.replace("-", "N"), text.boundary) for text in rules]
    b = [TextMarks("N" * len(text.kinds), None) for text in rules]
    shown = page(sheet, a, b, tmp_path)
    n_sentences = sum(len(text.kinds) for text in rules)
    same = sum(text.kinds.count("-") for text in rules) / n_sentences
    assert f"give the same kind to {same:.2f} [" in shown
    assert "Cohen's kappa is 0.00 [0.00, 0.00]" in shown
    assert row(shown, "judgements of one label", "reading B") == ["0", "0.00 [0.00, 0.00]", "none", "0.00 [0.00, 0.00]"]
    without = sum(text.boundary is None for text in rules)
    assert row(shown, "last new label", "reading B")[1].startswith(f"{without / 60:.2f} [")
    assert row(shown, "last new label", "where both agree")[0] == str(without)


def test_the_committed_marks_are_whole(sheet):
    readings = natural_marks.read_marks(sheet)
    assert [len(reading) for reading in readings] == [60, 60]
    assert "Cohen's kappa" in marks_page.findings(MARKS)
