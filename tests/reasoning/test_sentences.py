"""Where sentences end."""

import pytest

from ctd.reasoning.sentences import sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two!  Three? Four", ["One.", " Two!", "  Three?", " Four"]),
        ("A title\nA sentence.\n\nThe last", ["A title", "\nA sentence.", "\n\nThe last"]),
        ("At 3.5 mg it works.", ["At 3.5 mg it works."]),
        ("Ends with a space. ", ["Ends with a space. "]),
        ("", []),
    ],
)
def test_sentences_end_at_stops_and_lines_and_cover_the_text(text, expected):
    spans = sentences(text)
    assert [text[start:end] for start, end in spans] == expected
    assert "".join(expected) == text
