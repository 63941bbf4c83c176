"""The Extreme Classification Repository's raw format, from small folders written by the test."""

import gzip
import json
import os

import numpy as np
import pyarrow as pa
import pytest

from ctd.data.readers import xmc
from ctd.data.task import SPLITS, split_by_hash

pytestmark = pytest.mark.usefixtures("own_cache")
LABELS = [{"uid": f"L{n}", "title": f"Label {n}"} for n in range(5)]


def document(uid, labels, title=None, **more):
    title = f"About {uid}" if title is None else title
    return {"uid": uid, "title": title, "target_ind": labels, "target_rel": [1.0] * len(labels)} | more


def packed(file, text):
    file.write_bytes(gzip.compress(text.encode()) if file.suffix == ".gz" else text.encode())


def write(folder, trn=None, tst=None, lbl=LABELS, suffix="", **filters):
    folder.mkdir(parents=True, exist_ok=True)
    trn = [document(f"d{n}", [n % 5, 0]) for n in range(40)] if trn is None else trn
    tst = [document(f"t{n}", [n % 5]) for n in range(6)] if tst is None else tst
    for name, records in (("lbl", lbl), ("trn", trn), ("tst", tst)):
        packed(folder / f"{name}.json{suffix}", "".join(json.dumps(record) + "\n" for record in records))
    for name, pairs in filters.items():
        packed(folder / f"filter_labels_{name}.txt{suffix}", "".join(f"{row} {label}\n" for row, label in pairs))
    return folder


def spoil(file, line, text):
    """Replace a line of a plain file, counted from 1."""
    lines = file.read_text().splitlines()
    lines[line - 1] = text if isinstance(text, str) else json.dumps(text)
    file.write_text("\n".join(lines) + "\n")


def cached(folder):
    return sorted(path.name for path in (folder / "xmc").glob("*")) if (folder / "xmc").is_dir() else []


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_documents_labels_and_splits_are_as_in_the_files(tmp_path, suffix):
    task = xmc.load(write(tmp_path / "LF-Tiny", suffix=suffix))
    assert (task.space.name, len(task.space), task.space.parents) == ("LF-Tiny", 5, None)
    assert task.space.ids == [f"L{n}" for n in range(5)]
    assert task.space.texts == [f"Label {n}" for n in range(5)]
    expected = {split: [] for split in SPLITS}
    for n in range(40):
        row = {"uid": f"d{n}", "text": f"About d{n}", "labels": sorted({n % 5, 0})}
        expected[split_by_hash(f"d{n}", validation=0.05, test=0)].append(row)
    expected["test"] = [{"uid": f"t{n}", "text": f"About t{n}", "labels": [n % 5]} for n in range(6)]
    assert {split: list(task.documents[split]) for split in SPLITS} == expected
    assert not task.filtered
    assert not task.card.dropped


@pytest.mark.parametrize(("share", "fewest", "most"), [(0.0, 0, 0), (0.5, 12, 28)])
def test_validation_is_the_stated_share_of_trn(tmp_path, share, fewest, most):
    task = xmc.load(write(tmp_path / "set"), validation=share)
    assert fewest <= len(task.documents["validation"]) <= most
    assert len(task.documents["train"]) + len(task.documents["validation"]) == 40
    assert len(task.documents["test"]) == 6
    assert task.gold("validation").shape == (len(task.documents["validation"]), 5)


@pytest.mark.parametrize(
    ("name", "title_only", "text"),
    [
        ("LF-Wiki", None, "Head Body"),
        ("LF-WikiTitles-5", None, "Head"),
        ("LF-Wiki", True, "Head"),
        ("LF-WikiTitles-5", False, "Head Body"),
    ],
)
def test_the_folders_name_or_the_option_decides_about_content(tmp_path, name, title_only, text):
    trn = [document("a", [1], "Head", content="Body"), document("b", [1], "Head"), document("c", [1], "", content="B")]
    task = xmc.load(write(tmp_path / name, trn), title_only, on_empty="keep", validation=0)
    assert task.documents["train"]["text"][:] == [text, "Head", "B" if "Body" in text else ""]


def test_filter_pairs_follow_their_documents(tmp_path):
    pairs = [(row, row % 5) for row in range(0, 40, 3)] + [(7, 1), (7, 2), (7, 2)]
    trn = [document(f"d{n}", [] if n == 0 else [n % 5], "" if n == 7 else None) for n in range(40)]
    folder = write(tmp_path / "set", trn, train=pairs, test=[(5, 4)])
    for on_empty in ("keep", "drop"):
        task = xmc.load(folder, on_empty=on_empty, validation=0.4)
        assert len(task.documents["validation"]) > 3
        for split in ("train", "validation"):
            barred = {
                (task.documents[split][int(row)]["uid"], int(label))
                for row, label in zip(*task.filtered[split].nonzero(), strict=True)
            }
            gone = {"d0", "d7"} if on_empty == "drop" else set()
            inside = set(task.documents[split]["uid"]) - gone
            assert barred == {(f"d{row}", label) for row, label in pairs if f"d{row}" in inside}
            assert task.filtered[split].shape == (len(task.documents[split]), 5)
            assert task.filtered[split].dtype == bool
        assert task.filtered["test"].nonzero()[0].tolist() == [5]
        assert task.filtered["test"].nonzero()[1].tolist() == [4]


def test_an_empty_filter_file_filters_nothing_and_each_stands_alone(tmp_path):
    task = xmc.load(write(tmp_path / "set", test=[]))
    assert set(task.filtered) == {"test"}
    assert task.filtered["test"].nnz == 0
    assert task.filtered["test"].shape == (6, 5)


def test_labels_without_relevance_are_not_gold_and_repeats_count_once(tmp_path):
    trn = [{"uid": "a", "title": "x", "target_ind": [4, 2, 2, 3], "target_rel": [1, 0.5, 1, 0.0]}]
    assert xmc.load(write(tmp_path / "set", trn), validation=0).documents["train"][0]["labels"] == [2, 4]


def test_a_label_without_title_goes_by_its_uid_and_is_counted(tmp_path):
    task = xmc.load(write(tmp_path / "set", lbl=[*LABELS[:4], {"uid": 44, "title": " "}]))
    assert task.space.texts[3:] == ["Label 3", "44"]
    assert task.card.dropped == {"label titles, empty: the uid stands in": 1}


def test_the_same_uid_may_be_a_label_and_a_document(tmp_path):
    task = xmc.load(write(tmp_path / "set", [document("L1", [2])]), validation=0)
    assert task.documents["train"]["uid"][:] == ["L1"]


def test_the_second_load_reads_no_file(tmp_path, monkeypatch):
    folder = write(tmp_path / "set", train=[(3, 1)])
    first = xmc.load(folder)

    def refuse(*_):
        raise AssertionError("read again")

    monkeypatch.setattr(xmc, "_prepare", refuse)
    second = xmc.load(folder)
    assert list(second.documents["train"]) == list(first.documents["train"])
    assert second.space.texts == first.space.texts
    assert second.card == first.card
    assert (second.filtered["train"] != first.filtered["train"]).nnz == 0
    assert second.documents["train"].cache_files  # on disk, memory-mapped
    with pytest.raises(AssertionError, match="read again"):
        xmc.load(folder, validation=0.5)


def test_an_edited_file_is_read_anew(tmp_path):
    folder = write(tmp_path / "set")
    assert xmc.load(folder).documents["test"][0]["text"] == "About t0"
    before = (folder / "tst.json").stat()
    spoil(folder / "tst.json", 1, document("t0", [0], "Abuot t0"))
    os.utime(folder / "tst.json", ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert (folder / "tst.json").stat().st_size == before.st_size
    assert xmc.load(folder).documents["test"][0]["text"] == "Abuot t0"


def test_a_prepared_task_can_be_saved_and_sampled(tmp_path):
    task = xmc.load(write(tmp_path / "set", test=[(0, 1)]))
    task.save(tmp_path / "saved")
    again = xmc.Task.load(tmp_path / "saved")
    assert list(again.documents["test"]) == list(task.documents["test"])
    assert len(task.sample("test", 2, seed=0).documents["test"]) == 2


def test_documents_without_text_or_labels(tmp_path, own_cache):
    trn = [document("a", [1]), document("b", [], "no labels"), document("c", [1], " "), document("d", [1])]
    folder = write(tmp_path / "set", trn)
    with pytest.raises(ValueError, match=r"trn\.json, line 2: document 'b' has no labels; pass on_empty='drop'"):
        xmc.load(folder, validation=0)
    assert cached(own_cache) == []
    dropped = xmc.load(folder, on_empty="drop", validation=0)
    assert dropped.documents["train"]["uid"][:] == ["a", "d"]
    assert dropped.card.dropped == {"documents without labels": 1, "documents without text": 1}
    task = xmc.load(folder, on_empty="keep", validation=0)
    assert task.documents["train"]["uid"][:] == ["a", "b", "c", "d"]
    assert task.documents["train"]["labels"][1] == []


@pytest.mark.parametrize(
    ("name", "line", "text", "complaint"),
    [
        ("trn.json", 3, '{"uid": "d2", "title": "cut', r"trn\.json, line 3: not valid JSON"),
        ("lbl.json", 2, "[]", r"lbl\.json, line 2: expected one JSON object"),
        ("tst.json", 6, {"uid": "t5", "title": "x", "target_ind": [1]}, r"tst\.json, line 6: no field 'target_rel'"),
        ("trn.json", 2, {"uid": "d1", "target_ind": [], "target_rel": []}, r"trn\.json, line 2: no field 'title'"),
        ("lbl.json", 5, {"title": "x"}, r"lbl\.json, line 5: no field 'uid'; it has 'title'"),
        ("trn.json", 9, document("d8", [5]), r"line 9: target_ind must be between 0 and 4 \(rows of lbl.json\), got 5"),
        ("tst.json", 1, document("t0", [1, -1]), r"tst\.json, line 1: target_ind must be between 0 and 4 .*, got -1"),
        ("tst.json", 1, document("t0", [1], target_rel=[]), "line 1: target_ind must be a list of label numbers"),
        ("tst.json", 1, document("t0", ["1"]), "line 1: target_ind must be a list of label numbers"),
        ("tst.json", 1, document("t0", [True]), "line 1: target_ind must be a list of label numbers"),
        ("trn.json", 5, document("d0", [1]), r"trn\.json, line 5: uid 'd0' stands more than once"),
        ("tst.json", 2, document("d39", [1]), r"tst\.json, line 2: uid 'd39' stands more than once"),
        ("lbl.json", 4, LABELS[0], r"lbl\.json, line 4: label uid 'L0' stands more than once"),
        ("trn.json", 2, document("d1", [1], 7), r"trn\.json, line 2: 'title' must be a string, got 7"),
        ("trn.json", 2, document("d1", [1], content=[]), r"trn\.json, line 2: 'content' must be a string"),
        ("filter_labels_train.txt", 1, "0", r"train\.txt, line 1: expected two whole numbers, 'row label', got '0'"),
        ("filter_labels_train.txt", 1, "0 1.5", r"train\.txt, line 1: expected two whole numbers"),
        ("filter_labels_train.txt", 1, "40 1", r"line 1: row must be between 0 and 39 \(trn.json\), got 40"),
        ("filter_labels_test.txt", 1, "-1 1", r"test\.txt, line 1: row must be between 0 and 5 \(tst.json\), got -1"),
        ("filter_labels_test.txt", 1, "0 5", r"line 1: label must be between 0 and 4 \(labels of 'set'\), got 5"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_left_behind(tmp_path, own_cache, name, line, text, complaint):
    folder = write(tmp_path / "set", train=[(0, 1)], test=[(0, 1)])
    good = (folder / name).read_bytes()
    spoil(folder / name, line, text)
    with pytest.raises(ValueError, match=complaint) as caught:
        xmc.load(folder)
    assert "\n" not in str(caught.value)
    assert cached(own_cache) == []
    (folder / name).write_bytes(good)
    assert len(xmc.load(folder).documents["test"]) == 6
    assert len(cached(own_cache)) == 1


@pytest.mark.parametrize("name", ["lbl.json.gz", "trn.json.gz", "tst.json.gz", "filter_labels_test.txt.gz"])
def test_a_truncated_gzip_file_is_named_and_nothing_is_left_behind(tmp_path, own_cache, name):
    folder = write(tmp_path / "set", suffix=".gz", test=[(n, 1) for n in range(6)])
    raw = (folder / name).read_bytes()
    (folder / name).write_bytes(raw[:-9])
    with pytest.raises(ValueError, match=rf"{name} is a truncated or damaged gzip file, after line \d+"):
        xmc.load(folder)
    assert cached(own_cache) == []


def test_latin_1_is_refused_not_guessed(tmp_path):
    folder = write(tmp_path / "set")
    (folder / "tst.json").write_bytes((folder / "tst.json").read_bytes().replace(b"About t1", b"Caf\xe9 t1"))
    with pytest.raises(ValueError, match=r"tst\.json, line 2: byte \d+ \(0xe9\) is not UTF-8"):
        xmc.load(folder)


@pytest.mark.parametrize("name", ["lbl.json", "trn.json", "tst.json"])
def test_a_missing_or_empty_file_is_named(tmp_path, own_cache, name):
    folder = write(tmp_path / "set")
    (folder / name).write_text("")
    with pytest.raises(ValueError, match=name):
        xmc.load(folder)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"set holds neither {name} nor {name}\.gz"):
        xmc.load(folder)
    with pytest.raises(FileNotFoundError, match="elsewhere is not a folder; give the one that holds lbl.json"):
        xmc.load(tmp_path / "elsewhere")
    assert cached(own_cache) == []


def test_bad_options_are_refused(tmp_path):
    folder = write(tmp_path / "set")
    with pytest.raises(ValueError, match="validation must be at least 0 and below 1 .*, got 1"):
        xmc.load(folder, validation=1)
    with pytest.raises(ValueError, match="on_empty must be one of error, drop, keep, got 'skip'"):
        xmc.load(folder, on_empty="skip")


def test_an_interrupted_read_leaves_nothing_behind(tmp_path, own_cache, monkeypatch):
    folder, added = write(tmp_path / "set"), xmc.Documents.add

    def interrupt(self, where, *document):
        if where.endswith("trn.json, line 30"):
            raise KeyboardInterrupt
        return added(self, where, *document)

    monkeypatch.setattr(xmc.Documents, "add", interrupt)
    with pytest.raises(KeyboardInterrupt):
        xmc.load(folder)
    assert cached(own_cache) == []


def test_documents_are_handed_on_in_batches_not_held(tmp_path):
    trn = [document(f"d{n}", [n % 5]) for n in range(2_300)]
    task = xmc.load(write(tmp_path / "set", trn, suffix=".gz"), validation=0)
    with pa.ipc.open_stream(task.documents["train"].cache_files[0]["filename"]) as stream:
        assert [len(batch) for batch in stream] == [1000, 1000, 300]
    assert np.diff(task.gold("train").indptr).tolist() == [1] * 2_300
