"""The sheet of texts that readers mark by hand, and files of marks: read, checked and joined."""

import json
import lzma
import re

import numpy as np
import pytest

from ctd.cache import DATA
from ctd.recipes import natural_marks
from ctd.recipes.natural_marks import SheetText, TextMarks

SHEET = [SheetText(1, "x-00", ("Gout.", " Asthma?", "\n- Gout")), SheetText(2, "x-01", ("Labels: Gout",))]
MARKS = ["text,sentence,kind", "1,1,L", "1,2,J", "1,3,A", "1,,boundary=2", "2,1,A", "2,,boundary=none"]


@pytest.fixture
def file(tmp_path):
    def write(lines):
        path = tmp_path / "reader.csv"
        path.write_text("\n".join(lines) + "\n", "utf-8")
        return path

    return write


def test_marks_are_read_in_any_order_and_joined(file, tmp_path):
    expected = [TextMarks("LJA", 2), TextMarks("A", None)]
    assert natural_marks.read_reading(file(MARKS), SHEET) == expected
    assert natural_marks.read_reading(file([MARKS[0], *reversed(MARKS[1:])]), SHEET) == expected
    other = [TextMarks("LCA", None), TextMarks("N", 1)]
    natural_marks.join([expected, other], SHEET, tmp_path / "both.csv")
    assert natural_marks.read_marks(SHEET, tmp_path / "both.csv") == [expected, other]


@pytest.mark.parametrize(
    ("line", "row", "message"),
    [
        (0, "text,sentence", "reader.csv must begin with the line text,sentence,kind"),
        (1, "1,1", "reader.csv, line 2: a row has 3 fields, got 2"),
        (1, "3,1,L", "line 2: text must be a number of the sheet (1 to 2), got '3'"),
        (1, "1,4,L", "line 2: sentence must be a number from 1 to 3, got '4'"),
        (1, "1,one,L", "line 2: sentence must be a number from 1 to 3, got 'one'"),
        (1, "1,1,X", "line 2: kind must be one of C, J, L, A, N, got 'X'"),
        (2, "1,1,L", "line 3: sentence 1 of text 1 is marked twice"),
        (2, "1,3,J", "line 4: sentence 3 of text 1 is marked twice"),
        (4, "1,,boundary=4", "line 5: sentence must be a number from 1 to 3, got '4'"),
        (4, "1,,2", "line 5: without a sentence, a row has boundary=NUMBER or =none, got '2'"),
        (6, "1,,boundary=1", "line 7: the boundary of text 1 is marked twice"),
        (3, "", "reader.csv: sentence 3 of text 1 is not marked"),
        (6, "", "reader.csv: text 2 has no row with its boundary"),
    ],
)
def test_bad_marks_are_told_in_one_line(file, line, row, message):
    lines = [*MARKS[:line], row, *MARKS[line + 1 :]]
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        natural_marks.read_reading(file(lines), SHEET)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_and_an_unknown_reader_are_told(tmp_path):
    path = tmp_path / "reader.csv"
    path.write_bytes(b"text,sentence,kind\n1,1,\xff\n")
    with pytest.raises(ValueError, match=r"^reader.csv is no CSV file in UTF-8"):
        natural_marks.read_reading(path, SHEET)
    path.write_text("reader,text,sentence,kind\nc,1,1,L\n")
    with pytest.raises(ValueError, match=r"line 2: reader must be one of a, b, got 'c'"):
        natural_marks.read_marks(SHEET, path)


def test_the_command_refuses_bad_marks_and_writes_nothing(file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(natural_marks, "read_sheet", lambda: SHEET)
    monkeypatch.setattr(natural_marks.join, "__defaults__", (tmp_path / "both.csv",))
    good = str(file(MARKS))
    with pytest.raises(SystemExit) as stopped:
        natural_marks.main([good, str(tmp_path / "none.csv")])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "both.csv").exists()
    natural_marks.main([good, good])
    assert natural_marks.read_marks(SHEET, tmp_path / "both.csv")[1][0].boundary == 2


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("1. Gout: fits. 2. Asthma.", ["1. Gout: fits.", " 2. Asthma."]),
        ("Gout. **", ["Gout. **"]),
        ("Labels:\n- Gout\n\n- Asthma", ["Labels:", "\n- Gout", "\n\n- Asthma"]),
        ("", []),
    ],
)
def test_a_piece_without_a_letter_goes_with_its_neighbour(text, pieces):
    assert natural_marks.pieces(text) == pieces


def completions(what):
    """The texts of the book's files that have this description, each with where it stands."""
    manifest = json.loads((DATA / "texts" / "manifest.json").read_text())
    for name in sorted(name for name, entry in manifest.items() if entry["what"] == f"qwen-1.5b, {what}"):
        lines = lzma.decompress((DATA / "texts" / name).read_bytes()).splitlines()
        rows = [completion for line in lines for completion in json.loads(line)["completions"]]
        yield from ((f"{name[:8]}-{row:02d}", completion) for row, completion in enumerate(rows))


def test_the_sheet_has_sixty_of_the_texts_drawn_by_seed_word_for_word():
    thoughts, answers = dict(completions("thinking")), dict(completions("thinking, forced"))
    endings = [f"\n\nLabels:\n{answer['text']}" for answer in answers.values()]
    sheet = natural_marks.read_sheet()
    drawn = np.random.default_rng(0).permutation(64)[:60]
    assert [text.source for text in sheet] == [list(thoughts)[row] for row in drawn]
    assert [text.text for text in sheet] == list(range(1, 61))
    for text in sheet:
        thought, whole = thoughts[text.source], "".join(text.sentences).rstrip()
        if thought["finished"]:
            assert whole == thought["text"].rstrip()
        else:
            assert whole in {(thought["text"].rstrip() + ending).rstrip() for ending in endings}
