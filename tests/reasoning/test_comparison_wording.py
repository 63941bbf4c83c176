"""Which words of a document tell two labels apart."""

import pytest

from ctd.reasoning import comparison_wording
from ctd.text import words


@pytest.mark.parametrize(
    ("document", "gold", "near", "deciding"),
    [
        ("The serum was tested for metabolic change.", "Calcium/metabolism", "Calcium/blood", "metabolic"),
        ("Metabolism and blood.", "Calcium/blood", "Calcium/metabolism", "blood"),
        (
            "An acute attack; acute systolic failure came.",
            "Acute systolic failure",
            "Chronic failure",
            "acute systolic",
        ),
        ("Receptors here.", "Receptor", "Calcium", "Receptors"),
        ("Nothing.", "Calcium", "Calcium/blood", ""),
        ("Serum calcium rose.", "Calcium", "Calcium/blood", "calcium"),
        ("Calcium in blood.", "Calcium", "Calcium/blood", ""),
        ("Calcium.", "Calcium", "calcium", ""),
        ("of the", "Disease of the liver", "Disease", ""),
    ],
)
def test_deciding_words(document, gold, near, deciding):
    assert comparison_wording.deciding_words(document, words(document), gold, near) == deciding
