"""The six parsers of text that others wrote, each as a function of bytes: it reads them, or refuses them in one line.

What a parser refuses is a ValueError that names the file (a trace: the line). Anything else is a fault.
"""

import tempfile
from pathlib import Path

import numpy as np

from ctd.data.label_space import LabelSpace
from ctd.data.readers import label_cells, lines, mesh, metamath, metamath_statements, mimic, xmc
from ctd.reasoning import read_text, trace_parser, traces

LABELS = ["Calcium", "Calcium/blood", "Left heart", 'a [[b]] "c"', "I&#10;", "two\nlines", "- Answer:"]
SPACE = LabelSpace("made", [f"L{row}" for row in range(len(LABELS))], LABELS, len(LABELS))
CODES = LabelSpace("icd10cm", ["I50.21", "I10"], ["acute", "high"], 2, np.array([-1, -1], np.int32))


class Fault(AssertionError):
    """A parser did not say in one line what is wrong, or read what it cannot write again."""


def refused(error, file):
    """Whether an error is a refusal as it should be."""
    message = str(error)
    return isinstance(error, ValueError) and "\n" not in message and str(file) in message and len(message) < 2000


def json_lines(content, folder):
    _read(folder / "m.jsonl", content, lambda file: [
        label_cells.names(record.get("labels"), where, "labels") for where, record in lines.read_json_lines(file)
    ])  # fmt: skip


def xc(content, folder):
    """The labels, the filters and a document of a data set of the Extreme Classification Repository."""
    _read(folder / "lbl.json", content, lambda file: xmc._label_space(file, "made", xmc.Counter()))
    _read(folder / "filter_labels_train.txt", content, lambda file: xmc._filter_pairs(file, 3, file, SPACE))
    _read(folder / "trn.json", content, lambda file: [
        (xmc.identifier(record, "uid", where), xmc._text(record, False, where),
         xmc._gold(record, where, len(SPACE), file))
        for where, record in lines.read_json_lines(file)
    ])  # fmt: skip


def pubmed(content, folder):
    _read(folder / "p.xml", content, lambda file: [*mesh.read_records(file)])


def set_mm(content, folder):
    _read(folder / "m.mm", content, lambda file: metamath.parse(metamath_statements.read(file), str(file)))


def mimic_csv(content, folder):
    _read(folder / "diagnoses_icd.csv", content, lambda file: mimic._codes(file, CODES, "drop", mimic.Counter()))
    _read(folder / "discharge.csv", content, lambda file: [*mimic._rows(file, mimic.NOTE_COLUMNS)])


def trace(content, folder):
    """A text of a model: strictly, where what is read is written again letter for letter, and leniently, always."""
    text = content.decode("utf-8", "replace")
    try:
        parsed = trace_parser.parse(text, SPACE)
    except ValueError as error:
        if not refused(error, "line"):
            raise Fault(f"refused badly: {error}") from error
    else:
        if traces.format(parsed) != text:
            raise Fault("read, and written otherwise")
    read = read_text.read(text, SPACE)
    if read.text != text:
        raise Fault("the text was changed")


PARSERS = {"json-lines": json_lines, "xc": xc, "pubmed": pubmed, "set.mm": set_mm, "mimic": mimic_csv, "trace": trace}
# ruff: noqa: E501 (below: what files look like)
SEEDS = {
    "json-lines": [b'{"text": "a", "labels": ["x", 1, null]}\n', b'{"labels": "[\'a\', \'b\']"}\n', b'\xef\xbb\xbf{"a": "\\ud800"}'],
    "xc": [b'{"uid": "L0", "title": "zero"}\n', b"0 1\n2 0\n",
           b'{"uid": "d", "title": "t", "content": "c", "target_ind": [0], "target_rel": [1.0]}\n'],
    "pubmed": [
        b'<?xml version="1.0" encoding="utf-8"?><PubmedArticleSet><PubmedArticle><MedlineCitation><PMID>1</PMID><Article>'
        b"<Language>eng</Language><ArticleTitle>t <i>x</i></ArticleTitle><Abstract><AbstractText>a</AbstractText></Abstract>"
        b'</Article><MeshHeadingList><MeshHeading><DescriptorName UI="D1"/><QualifierName UI="Q1"/></MeshHeading>'
        b"</MeshHeadingList></MedlineCitation></PubmedArticle><DeleteCitation><PMID>2</PMID></DeleteCitation></PubmedArticleSet>"
    ],
    "set.mm": [b"$( v $) $c |- wff ( ) -> $. $v ph $. wph $f wff ph $.\n$( About it. (Contributed by N, 1-Jan-2000.) $)\n"
               b"ax $a |- ph $.\n${ h $e |- ph $. th $p |- ph $= ( ax ) AB $. $}\nt2 $p |- ph $= wph ax $.\n"],
    "mimic": [b"hadm_id,icd_code,icd_version\n11,I5021,10\n12,I10,10\n", b"note_id,subject_id,hadm_id,text\nn1,1,11,a\nn2,2,,\"b\nc\"\n"],
    "trace": [b"<think>\nTopics: x\nShortlist:\n- Calcium\n- Left heart\nCompare:\n[[Calcium]] over [[Left heart]], \"w\"\n"
              b"</think>\nAnswer:\n- Calcium\n", b"I think so.\nFinal answer: Calcium, Left heart\n1. Calcium/blood\n"],
}  # fmt: skip


def _read(file, content, read):
    file.write_bytes(content)
    try:
        read(file)
    except Exception as error:
        if not refused(error, file):
            raise Fault(f"{type(error).__name__}: {error}") from error


def fresh_folder():
    """A folder in memory where there is one: a fuzzer writes a file each time."""
    return Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
