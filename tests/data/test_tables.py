"""A user's own table is read row by row, and what cannot be read is named by file and line."""

import gzip
import json

import pandas as pd
import pytest

from ctd.data import documents, label_files
from ctd.data.label_space import LabelSpace
from ctd.data.readers import tables

ROWS = [{"text": "serum, calcium", "labels": "a"}, {"text": 'two\nlines with "quotes"', "labels": "b"}]


def rows(file):
    return [dict(row) for _, row in tables.read_rows(file)]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.jsonl", "t.parquet"])
def test_every_kind_of_table_gives_the_same_rows(name, tmp_path):
    frame, file = pd.DataFrame(ROWS), tmp_path / name
    if name.endswith(".parquet"):
        frame.to_parquet(file)
    elif name.endswith(".jsonl"):
        file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        frame.to_csv(file, index=False, sep="\t" if ".tsv" in name else ",")
    assert rows(file) == ROWS


@pytest.mark.parametrize("delimiter", tables.DELIMITERS)
def test_the_delimiter_of_a_csv_file_is_seen_in_its_first_line(delimiter, tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + delimiter.join("ab").encode() + f"\n1{delimiter}2\n".encode())
    assert rows(tmp_path / "t.csv") == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("t.csv", "a,b\n1,2\n3\n", "t.csv, line 3: a row must have 2 cells, one a column, got 1"),
        ("t.csv", "a,a\n1,2\n", "t.csv, line 1: the column 'a' stands twice"),
        ("t.csv", "", "the first line must name the columns"),
        ("t.csv", 'a,b\n1,"2\n', "t.csv, line 2: not valid CSV"),
        ("t.csv", b"a,b\n1,\xff\n", "t.csv, line 2: byte 3 (0xff) is not UTF-8"),
        ("t.csv.gz", gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9], "truncated or damaged gzip file"),
        ("t.parquet", "a,b\n", "t.parquet is not a whole Parquet file"),
        ("t.xlsx", "", "a file must end in one of .jsonl"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(name, content, complaint, tmp_path):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=".") as refused:
        rows(tmp_path / name)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_documents_have_the_names_of_the_table_or_numbers(tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text("uid,text\nx,one\ny,two\n")
    assert list(documents.read(str(tmp_path / "t.csv"))) == [("x", "one"), ("y", "two")]
    (tmp_path / "t.txt").write_text("one\n\n  two \n")
    assert list(documents.read(str(tmp_path / "t.txt"))) == [("0", "one"), ("1", "two")]
    with open(tmp_path / "t.txt") as lines:
        monkeypatch.setattr("sys.stdin", lines)
        assert list(documents.read("-")) == [("0", "one"), ("1", "two")]
    (tmp_path / "t.in").write_text('{"note": "one", "n": 7}\n')
    with open(tmp_path / "t.in") as lines:
        monkeypatch.setattr("sys.stdin", lines)
        assert list(documents.read("-", "note", "n")) == [("7", "one")]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [("{", "line 1: not valid JSON"), ('{"a": 1}', "no column 'text' (--text-column); there are: 'a'"),
     ('{"text": " "}', "'text' must be a text that is not empty, got ' '"), ('{"text": 3}', "got 3")],
)  # fmt: skip
def test_a_line_of_standard_input_that_is_no_document(line, complaint, tmp_path, monkeypatch):
    (tmp_path / "in").write_text(line + "\n")
    with open(tmp_path / "in") as lines:
        monkeypatch.setattr("sys.stdin", lines)
        with pytest.raises(ValueError, match=".") as refused:
            list(documents.read("-"))
    assert complaint in str(refused.value)


def test_standard_input_of_other_bytes_names_the_line(tmp_path, monkeypatch):
    (tmp_path / "in").write_bytes(b"one\ncaf\xe9\n")
    with open(tmp_path / "in") as lines:
        monkeypatch.setattr("sys.stdin", lines)
        with pytest.raises(ValueError, match=r"standard input, line 2: byte 4 \(0xe9\) is not UTF-8"):
            list(documents.read("-"))


def test_a_label_may_have_the_number_0_as_its_id(tmp_path):
    (tmp_path / "l.jsonl").write_text('{"id": 0, "text": "Calcium"}\n{"id": null, "text": "Liver"}\n')
    assert label_files.read(tmp_path / "l.jsonl").ids == ["0", "Liver"]


def test_labels_come_from_a_list_a_table_or_a_saved_label_space(tmp_path, space):
    (tmp_path / "mine.txt").write_text("Calcium\n\nLiver \n")
    assert label_files.read(tmp_path / "mine.txt").texts == ["Calcium", "Liver"]
    (tmp_path / "mine.csv").write_text("id,name\nD1,Calcium\nD2,Liver\n")
    read = label_files.read(tmp_path / "mine.csv")
    assert (read.name, read.ids, read.texts) == ("mine", ["D1", "D2"], ["Calcium", "Liver"])
    space.save(tmp_path / "labels.parquet")
    assert label_files.read(tmp_path / "labels.parquet").texts == space.texts
    assert isinstance(read, LabelSpace)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [("a.txt", "x\nx\n", "line 2: the label 'x' stands more than once"), ("a.txt", "\n", "holds no label"),
     ("a.csv", "code\nx\n", "no column 'text' or 'label' or 'name'; there are: code"),
     ("a.csv", "id,text\nx,\n", "the label's 'text' is empty")],
)  # fmt: skip
def test_a_file_without_usable_labels(name, content, complaint, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=".") as refused:
        label_files.read(tmp_path / name)
    assert complaint in str(refused.value)
