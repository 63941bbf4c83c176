"""Data of a user's own that cannot be read."""

# ruff: noqa: E501 (a case stands on a line, like the row of a table)
from __future__ import annotations

import gzip
import json
from typing import Any

from tests.bad_input.case import Case, Content

ROW = {"text": "a", "labels": ["x"]}
GOOD = "".join(json.dumps(ROW) + "\n" for _ in range(3))


def distill(dataset: str, source: str, more: str = "") -> str:
    return f"distill organism {{out}} --dataset {dataset} --source {source} {more}"


def records(name: str, content: Content, *says: str, file: str = "m.jsonl", more: str = "") -> Case:
    return Case(f"records: {name}", distill("records", file, more), says, {file: content})


def line(name: str, text: str, *says: str) -> Case:
    """A bad third line."""
    return records(name, GOOD.rstrip("\n").rpartition("\n")[0] + "\n" + text + "\n", "m.jsonl, line 3", *says)


XMC = {
    "lbl": [{"uid": "L0", "title": "zero"}, {"uid": "L1", "title": "one"}],
    "trn": [{"uid": f"d{n}", "title": "t", "target_ind": [0], "target_rel": [1.0]} for n in range(3)],
    "tst": [{"uid": f"t{n}", "title": "t", "target_ind": [1], "target_rel": [1.0]} for n in range(2)],
}


def xmc(name: str, *says: str, **files: Any) -> Case:
    """A folder of which some files are others: text, or JSON Lines; None for none."""
    contents: dict[str, Content] = {}
    for part, rows in (XMC | files).items():
        file = f"set/filter_labels_{part[7:]}.txt" if part.startswith("filter_") else f"set/{part}.json"
        if rows is not None:
            contents[file] = rows if isinstance(rows, str | bytes) else "".join(json.dumps(row) + "\n" for row in rows)
    return Case(f"xmc: {name}", distill("xmc", "set"), says, contents)


def document(**changes: Any) -> list[dict[str, Any]]:
    return [XMC["trn"][0], {**XMC["trn"][1], **changes}]


NOTES = "note_id,subject_id,hadm_id,text\nn1,1,11,a\nn2,2,12,b\n"
CODES = "hadm_id,icd_code,icd_version\n11,I5021,10\n12,I10,10\n"


def mimic(name: str, *says: str, notes: Content | None = NOTES, codes: Content | None = CODES) -> Case:
    files = {"set/discharge.csv": notes, "set/diagnoses_icd.csv": codes}
    contents = {file: content for file, content in files.items() if content is not None}
    return Case(f"mimic: {name}", distill("mimic", "set"), says, contents)


def mesh(name: str, content: Content, *says: str, file: str = "p.xml") -> Case:
    return Case(f"mesh: {name}", distill("mesh", file), says, {file: content})


def setmm(name: str, content: Content, *says: str) -> Case:
    return Case(f"setmm: {name}", distill("setmm", "m.mm"), ("m.mm", *says), {"m.mm": content})


MM = "$( v $) $c |- wff ( ) $. $v ph $. wph $f wff ph $.\nax $a |- ph $.\n"
CITATION = (
    "<PubmedArticleSet><PubmedArticle><MedlineCitation><PMID>{}</PMID><Article><Language>eng</Language>"
    "<ArticleTitle>t</ArticleTitle></Article></MedlineCitation></PubmedArticle></PubmedArticleSet>"
)

CASES = [
    Case("records: nowhere", distill("records", "nowhere.jsonl"), ("nowhere.jsonl is neither a file nor a folder", "check")),
    Case("records: a spreadsheet", distill("records", "t.xlsx"), ("t.xlsx: a file must end in one of .jsonl", ".csv"),
         {"t.xlsx": "text,labels\na,b\n"}),
    Case("init: a table cut short", "init t.csv --out {out}", ("t.csv, line 2: a row must have 2 cells, one a column, got 1",),
         {"t.csv": "text,labels\na\n"}),
    Case("predict: labels twice", "predict retrieval t.txt --labels l.txt --out {out}", ("line 2: the label 'a' stands more than once",),
         {"t.txt": "words\n", "l.txt": "a\na\n"}),
    Case("run: a parameter file with a misspelt name", "run 01 -f p.yml --out {out}", ("p.yml: no notebook takes the parameter n_document",),
         {"p.yml": "n_document: 9\n"}),
    Case("records: an empty folder", distill("records", "d"), ("d cannot be read as a dataset", "mend or rewrite"), {"d/a.txt": ""}),
    Case("records: a saved folder that is damaged", distill("records", "d"), ("d cannot be read as a dataset",),
         {"d/dataset_dict.json": "{"}),
    Case("records: a saved folder without its splits", distill("records", "d"), ("d cannot be read as a dataset",),
         {"d/dataset_dict.json": '{"splits": ["train"]}'}),
    records("empty", "", "m.jsonl: no document has a label in 'labels'", "columns"),
    records("no labels at all", '{"text": "a", "labels": []}\n', "no document has a label in 'labels'", "columns"),
    records("another column", GOOD, "m.jsonl, line 1: no field 'body'; it has 'text', 'labels'", more="--text-column body"),
    records("another label column", GOOD, "line 1: no field 'tags'; it has", more="--label-column tags"),
    records("a list around all", "[\n" + GOOD, "m.jsonl, line 1: not valid JSON", "one object a line"),
    records("a gzip cut short", gzip.compress(GOOD.encode() * 50)[:40], "m.jsonl.gz is a truncated or damaged gzip", "fetch", file="m.jsonl.gz"),
    records("a zip", b"PK\x03\x04rest", "m.jsonl is packed as zip, and only gzip is read; unpack it"),
    records("an xz", b"\xfd7zXZ\x00rest", "m.jsonl is packed as xz, and only gzip is read; unpack it"),
    records("Latin letters", GOOD.encode() + b'{"text": "caf\xe9", "labels": []}\n', "m.jsonl, line 4: byte 14 .0xe9. is not UTF-8", "iconv"),
    records("UTF-16", GOOD.encode("utf-16"), "m.jsonl, line 1: byte 1 .* is not UTF-8", "iconv"),
    line("cut short", '{"text": "a", "labels": ["x"', "not valid JSON"),
    line("an empty line", "", "empty line; remove it"),
    line("a number", "5", "expected one JSON object a line", "int"),
    line("a field twice", '{"text": "a", "labels": "x", "labels": "y"}', "the field 'labels' stands twice; keep one"),
    line("half a character", '{"text": "\\ud800", "labels": "x"}', "not valid JSON", "surrogates"),
    line("deep", "[" * 100_000, "not valid JSON|recursion"),
    line("a text that is a number", '{"text": 5, "labels": "x"}', "'text' must be a string, got 5"),
    line("a text that is a list", '{"text": ["a"], "labels": "x"}', "'text' must be a string"),
    line("a label that is a mapping", '{"text": "a", "labels": {"x": 1}}', "'labels' must be a string, a whole number or a list"),
    line("a label that is a fraction", '{"text": "a", "labels": [1.5]}', "'labels' must be", "float"),
    line("a label that is true", '{"text": "a", "labels": [true]}', "'labels' must be", "bool"),
    line("labels without commas", '{"text": "a", "labels": "[\'x\' \'y\']"}', "is a list without commas", "save it as a list"),
    line("no field", '{"text": "a"}', "no field 'labels'; it has 'text'"),
    xmc("no labels file", "set holds neither lbl.json nor lbl.json.gz", "unpack", lbl=None),
    xmc("no test file", "set holds neither tst.json nor tst.json.gz", tst=None),
    xmc("no labels", "lbl.json holds no label", lbl=""),
    xmc("a label twice", "lbl.json, line 3: label uid 'L0' stands more than once", lbl=[*XMC["lbl"], XMC["lbl"][0]]),
    xmc("a label without a title field", "lbl.json, line 1: no field 'title'", lbl=[{"uid": "L0"}]),
    xmc("a document twice", "trn.json, line 4: uid 'd0' stands more than once; keep one", trn=[*XMC["trn"], XMC["trn"][0]]),
    xmc("a label beyond", "trn.json, line 2: target_ind must be between 0 and 1", "same data set", trn=document(target_ind=[9])),
    xmc("a label below", "trn.json, line 2: target_ind must be between 0 and 1", "got -1", trn=document(target_ind=[-1])),
    xmc("labels that are words", "trn.json, line 2: target_ind must be a list of label numbers", trn=document(target_ind=["L0"])),
    xmc("too few relevances", "trn.json, line 2: target_ind must be a list", trn=document(target_rel=[])),
    xmc("a uid that is a list", "trn.json, line 2: 'uid' must be a string or a whole number", trn=document(uid=[])),
    xmc("no document to learn from", "trn.json leaves no document for the split 'train'", trn=""),
    xmc("only documents without labels", "tst.json leaves no document for the split 'test' .1 lines", tst=document(uid="t", target_ind=[], target_rel=[])[1:]),
    xmc("a filter of words", "filter_labels_train.txt, line 1: expected two whole numbers", filter_train="a b\n"),
    xmc("a filter beyond the rows", "filter_labels_train.txt, line 1: row must be between 0 and 2", filter_train="9 0\n"),
    xmc("a filter beyond the labels", "filter_labels_test.txt, line 2: label must be between 0 and 1", filter_test="0 0\n0 7\n"),
    Case("xmc: nowhere", distill("xmc", "nowhere"), ("nowhere is not a folder", "lbl.json, trn.json and tst.json")),
    mimic("no notes", "set holds neither discharge.csv.gz nor discharge.csv", notes=None),
    mimic("no codes", "set holds neither diagnoses_icd.csv.gz nor diagnoses_icd.csv", codes=None),
    mimic("no column", "discharge.csv has no column 'text'; found note_id", notes=NOTES.replace("text", "words")),
    mimic("a column twice", "discharge.csv has the column 'text' 2 times", notes="note_id,subject_id,hadm_id,text,text\n1,1,1,a,b\n"),
    mimic("an empty text", "discharge.csv, row 2: text is empty", notes=NOTES.replace(",b", ",")),
    mimic("a note twice", "discharge.csv, row 3: note_id 'n1' stands more than once", notes=NOTES + "n1,1,11,a\n"),
    mimic("no rows", "discharge.csv has a header and no rows", notes=NOTES.splitlines()[0] + "\n"),
    mimic("an empty file", "discharge.csv is not a whole CSV file", notes=""),
    mimic("a quote left open", "discharge.csv is not a whole CSV file", notes=NOTES + 'n3,3,13,"open\n'),
    mimic("another version", "diagnoses_icd.csv, row 2: icd_version must be 9 or 10, got '11'", codes=CODES.replace("I10,10", "I10,11")),
    mimic("nothing in common", "have no admission with ICD-10 codes in common", codes=CODES.replace("\n1", "\n9")),
    mimic("a gzip cut short", "truncated or damaged gzip|not a whole CSV", notes=gzip.compress(NOTES.encode() * 99)[:60]),
    mimic("Latin letters", "discharge.csv is not a whole CSV file", notes=NOTES.encode() + b"n3,3,13,caf\xe9\n"),
    mimic("a zip", "discharge.csv is packed as zip", notes=b"PK\x03\x04"),
    Case("mimic: nowhere", distill("mimic", "nowhere"), ("nowhere is not a folder", "MIMIC-IV's")),
    Case("mesh: nowhere", distill("mesh", "nowhere.xml"), ("there is no file nowhere.xml; check the path",)),
    Case("mesh: a folder without files", distill("mesh", "d"), ("d holds no PubMed file .*xml or .*xml.gz",), {"d/a.xml.md5": ""}),
    mesh("a web page", "<html></html>", "p.xml holds no PubmedArticle", "baseline or update file"),
    mesh("no XML", "PMID- 1\n", "p.xml is not well-formed PubMed XML after 0 citations", "fetch"),
    mesh("empty", "", "p.xml is not well-formed PubMed XML"),
    mesh("cut short", CITATION.format(1)[:-30], "p.xml is not well-formed PubMed XML"),
    mesh("a citation without its number", CITATION.format(""), "p.xml: citation 1 has no PMID"),
    mesh("a gzip cut short", gzip.compress(CITATION.format(1).encode())[:-20], "p.xml.gz is a truncated or damaged gzip file", file="p.xml.gz"),
    mesh("a zip", b"PK\x03\x04", "p.zip is packed as zip", file="p.zip"),
    setmm("empty", "", "is not a Metamath database"),
    setmm("prose", "Dear reader\n", "line 2: the file ends after 'reader'"),
    setmm("bytes", b"\x89PNG\xff", "is not a Metamath file: it is not text"),
    setmm("a gzip cut short", gzip.compress(MM.encode() * 99)[:50], "truncated or damaged gzip file"),
    setmm("a comment left open", MM + "$( open", "line 2|line 3", "comment"),
    setmm("a block left open", MM + "${ ", "never closed by", "cut short"),
    setmm("a block never opened", MM + "$}", "closes a block that was never opened"),
    setmm("a statement left open", MM + "th $p |- ph $= ax", "is never closed"),
    setmm("a label twice", MM + "ax $a |- ph $.", "ax"),
    setmm("a proof from nowhere", MM + "th $p |- ph $= nothing $.", "nothing"),
    setmm("too few theorems", MM, "has 0 theorems with premises; at least 10 are needed"),
    Case("setmm: nowhere", distill("setmm", "nowhere.mm"), ("no Metamath file nowhere.mm", "give the path")),
]  # fmt: skip
