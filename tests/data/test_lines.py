"""Lines of gzip and plain files with the place they stand at, and which documents get in."""

import gzip
import json
import os

import pytest

from ctd.data.readers.lines import Documents, identifier, read_json_lines, read_lines, string


def gathered(on_empty="error"):
    batches = []
    return Documents({"train": batches.append}, on_empty), batches


@pytest.mark.parametrize("name", ["plain.txt", "packed.txt.gz", "packed-in-spite-of-its-name.txt"])
def test_gzip_and_plain_files_give_the_same_lines_and_places(tmp_path, name):
    raw = "één\ntwo\r\nthree".encode()
    (tmp_path / name).write_bytes(gzip.compress(raw) if "packed" in name else raw)
    lines = list(read_lines(tmp_path / name))
    assert [line for _, line in lines] == ["één", "two", "three"]
    assert [where for where, _ in lines] == [f"{tmp_path / name}, line {n}" for n in (1, 2, 3)]


def test_an_empty_file_has_no_lines(tmp_path):
    (tmp_path / "empty").touch()
    assert list(read_lines(tmp_path / "empty")) == []


@pytest.mark.parametrize("cut", [5, 100, -9, -1])
def test_a_truncated_gzip_file_is_named(tmp_path, cut):
    file = tmp_path / "t.gz"
    file.write_bytes(gzip.compress(os.urandom(200).hex().encode() + b"\n")[:cut])
    with pytest.raises(ValueError, match=r"t\.gz is a truncated or damaged gzip file, after line \d; fetch it again"):
        list(read_lines(file))


def test_a_damaged_gzip_file_is_named(tmp_path):
    packed = bytearray(gzip.compress(b"some text, long enough to be spoilt in the middle\n" * 20))
    packed[20:30] = b"\xff" * 10
    (tmp_path / "d.gz").write_bytes(packed)
    with pytest.raises(ValueError, match=r"d\.gz is a truncated or damaged gzip file"):
        list(read_lines(tmp_path / "d.gz"))


def test_latin_1_is_refused_with_line_and_byte(tmp_path):
    (tmp_path / "l.txt").write_bytes(b"good\n" + "café".encode("latin-1") + b"\n")
    with pytest.raises(ValueError, match=r"l\.txt, line 2: byte 4 \(0xe9\) is not UTF-8; convert the file"):
        list(read_lines(tmp_path / "l.txt"))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not valid JSON"),
        ('{"a": 1} {"b": 2}', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"a": "\\ud800"}', "not valid JSON"),  # half a surrogate pair cannot be written as UTF-8
        ("[1, 2]", "expected one JSON object a line .*, got a list"),
        ("", "empty line; remove it"),
        ('{"a": 1, "b": 2, "a": 3}', "not valid JSON .the field 'a' stands twice; keep one"),
        ('{"b": {"c": 1, "c": 1}}', "not valid JSON .the field 'c' stands twice; keep one"),
    ],
)
def test_a_bad_json_line_is_named(tmp_path, line, complaint):
    (tmp_path / "b.json").write_text(f'{{"a": 1}}\n{line}\n{{"a": 2}}\n')
    with pytest.raises(ValueError, match=rf"b\.json, line 2: {complaint}"):
        list(read_json_lines(tmp_path / "b.json"))


def test_escaped_and_plain_characters_read_alike(tmp_path):
    record = {"a": "𝛼 é", "b": None}
    (tmp_path / "u.json").write_text(
        json.dumps(record) + "\n" + json.dumps(record, ensure_ascii=False), encoding="utf-8"
    )
    assert [row for _, row in read_json_lines(tmp_path / "u.json")] == [record, record]


@pytest.mark.parametrize("value", ["", "  ", None, True, 1.5, ["x"]])
def test_a_uid_is_a_string_or_a_whole_number(value):
    assert identifier({"uid": 7}, "uid", "here") == "7"
    assert identifier({"uid": " B00 "}, "uid", "here") == "B00"
    with pytest.raises(ValueError, match="here: 'uid' must be a string or a whole number, and not empty"):
        identifier({"uid": value}, "uid", "here")


def test_a_missing_or_wrong_field_is_named():
    with pytest.raises(ValueError, match="here: no field 'title'; it has 'uid', 'text'"):
        string({"uid": 1, "text": "x"}, "title", "here")
    with pytest.raises(ValueError, match="here: 'title' must be a string, got 12"):
        string({"title": 12}, "title", "here")
    assert string({"title": None}, "title", "here") == ""


def test_documents_come_out_in_batches_and_in_order():
    documents, batches = gathered()
    for n in range(2_500):
        assert documents.add("here", "train", f"u{n}", f"text {n}", [n])
    documents.finish()
    assert [len(batch) for batch in batches] == [1000, 1000, 500]
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert rows == [{"uid": f"u{n}", "text": f"text {n}", "labels": [n]} for n in range(2_500)]


@pytest.mark.parametrize(("text", "labels", "lack"), [("", [1], "text"), ("x", [], "labels"), ("", [], "text")])
def test_empty_documents_stop_are_dropped_or_kept(text, labels, lack):
    documents, _ = gathered("error")
    with pytest.raises(ValueError, match=f"f, line 3: document 'u' has no {lack}; pass on_empty='drop'.*'keep'"):
        documents.add("f, line 3", "train", "u", text, labels)
    documents, batches = gathered("drop")
    assert not documents.add("f, line 3", "train", "u", text, labels)
    documents.finish()
    assert documents.dropped == {f"documents without {lack}": 1}
    assert not batches
    documents, batches = gathered("keep")
    assert documents.add("f, line 3", "train", "u", text, labels)
    documents.finish()
    assert batches[0].to_pylist() == [{"uid": "u", "text": text, "labels": labels}]
    assert not documents.dropped


def test_a_uid_enters_once_even_if_its_document_was_dropped():
    documents, _ = gathered("drop")
    documents.add("f, line 1", "train", "u", "", [])
    with pytest.raises(ValueError, match="f, line 2: uid 'u' stands more than once"):
        documents.add("f, line 2", "train", "u", "x", [1])


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="on_empty must be one of error, drop, keep, got 'skip'"):
        gathered("skip")


def test_a_mark_at_the_head_of_a_file_is_no_part_of_it(tmp_path):
    (tmp_path / "bom.json").write_bytes(b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n')
    assert [record for _, record in read_json_lines(tmp_path / "bom.json")] == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(("first", "kind"), [(b"PK\x03\x04", "zip"), (b"BZh9", "bzip2"), (b"\xfd7zXZ\x00", "xz")])
def test_an_archive_of_another_kind_is_named(tmp_path, first, kind):
    (tmp_path / "a.json.gz").write_bytes(first + b"...")
    with pytest.raises(ValueError, match=rf"a\.json\.gz is packed as {kind}, and only gzip is read; unpack it"):
        list(read_lines(tmp_path / "a.json.gz"))


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file .*nowhere; check the path"):
        list(read_lines(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="is a folder; give a file"):
        list(read_lines(tmp_path))
