"""Commands of a user's own work that cannot be done: sweeps, archives, predictions, plans, the explorer, the cache."""

# ruff: noqa: E501 (a case stands on a line, like the row of a table)
from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.bad_input.case import Case, Content
from tests.bad_input.run_cases import RUN, changed

RUN_FOLDER = "runs/01_first/default"
NOTE = '{"text": "words of a note"}\n'
LABELS = "a\nb\n"


def sweep(name: str, grid: str | bytes, *says: str) -> Case:
    return Case(f"sweep: {name}", "sweep 01 g.yml --out {out}", says, {"g.yml": grid})


def predict(
    name: str, content: Content, *says: str, labels: Content = LABELS, words: str = "", file: str = "n.jsonl"
) -> Case:
    return Case(
        f"predict: {name}",
        f"predict retrieval {file} --labels l.txt --out {{out}} {words}",
        says,
        {file: content, "l.txt": labels},
    )


def archive(name: str, files: dict[str, str], *says: str) -> Case:
    return Case(f"unpack: {name}", "unpack a.ctd.zip --out {out}", ("a.ctd.zip", *says), {"a.ctd.zip": zipped(files)})


def zipped(files: dict[str, str]) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as packed:
            for name, content in files.items():
                packed.writestr(name, content)

    return write


def table(name: str, content: Content, *says: str, words: str = "", file: str = "t.csv") -> Case:
    return Case(f"init: {name}", f"init {file} --out {{out}} {words}", says, {file: content})


HASHES = json.dumps({"manifest.json": "0" * 64})
CASES = [
    Case("sweep: no grid file", "sweep 01 nowhere.yml", ("there is no grid file nowhere.yml",)),
    sweep("not YAML", "grid: [", "g.yml, line 1: not YAML"),
    sweep("empty", "", "g.yml must hold lines such as `grid:"),
    sweep("a misspelt key", "gird: {seed: [0]}", "g.yml takes grid, exclude, include, got 'gird'"),
    sweep("a value that is no list", "grid: {seed: 0}", "grid must map each parameter to a list of values"),
    sweep("no cell", "grid: {}", "g.yml has no cell"),
    sweep("too many cells", f"grid: {{seed: {[*range(200)]}, n_documents: {[*range(200)]}}}", "may have 10,000 cells, got 40,000"),
    sweep("an exclusion of nothing", "grid: {seed: [0]}\nexclude: [{seed: 5}]", "is no part of the grid"),
    sweep("a cell twice", "grid: {seed: [0, 0]}", "the grid has a cell twice"),
    sweep("a parameter that is not there", "grid: {colour: [1]}", "no parameter colour"),
    sweep("a value out of bounds", "grid: {n_documents: [1]}", "n_documents must be a whole number between 10"),
    sweep("a name that is a number", "grid: {1: [1]}", "the name of a parameter must be text, got 1"),
    sweep("bytes", b"grid: \xff\n", "g.yml: byte 7 is not UTF-8: save the file as UTF-8"),
    Case("sweep: a folder", "sweep 01 g", ("there is no grid file g",), {"g/a": ""}),
    Case("sweep: an unknown profile", "sweep 01 g.yml --profile fast", ("no profile fast",), {"g.yml": "grid: {seed: [0]}"}),
    Case("predict: nowhere", "predict retrieval nowhere.jsonl --labels l.txt --out {out}", ("there is no file nowhere.jsonl",), {"l.txt": LABELS}),
    predict("no JSON", "words\n", "n.jsonl, line 1: not valid JSON"),
    predict("an empty text", '{"text": " "}\n', "n.jsonl, line 1", "'text' must be a text that is not empty"),
    predict("another column", NOTE, "no column 'body'", words="--text-column body"),
    predict("no label asked for", NOTE, "must be at least 1, got 0", words="--top 0"),
    predict("no place in the shortlist", NOTE, "must be at least 1, got 0", words="--shortlist 0"),
    predict("no labels in the file", NOTE, "l.txt", labels=""),
    predict("labels of bytes", NOTE, "l.txt", labels=b"\xff\xfe"),
    predict("an unknown mode", NOTE, "--mode", "'trace', 'answer'", words="--mode loud"),
    predict("an unknown encoder", NOTE, "nobody", words="--encoder nobody/nothing"),
    predict("a note of Latin letters", b'{"text": "caf\xe9"}\n', "n.jsonl, line 1: byte"),
    Case("predict: no labels named", "predict retrieval n.jsonl --out {out}", ("comes without labels to choose from", "--labels"), {"n.jsonl": NOTE}),
    Case("predict: labels nowhere", "predict retrieval n.jsonl --labels nowhere.txt --out {out}", ("nowhere.txt",), {"n.jsonl": NOTE}),
    Case("predict: the output is something else", "predict retrieval n.jsonl --labels l.txt --out thesis.txt", ("thesis.txt holds something else than predictions", "--out"),
         {"n.jsonl": NOTE, "l.txt": LABELS, "thesis.txt": "precious\n"}),
    Case("predict: no model", "predict ./nowhere n.jsonl --labels l.txt --out {out}", ("nowhere",), {"n.jsonl": NOTE, "l.txt": LABELS}),
    Case("unpack: nowhere", "unpack nowhere.zip", ("there is no archive nowhere.zip; ctd pack makes one",)),
    Case("unpack: no zip", "unpack a.zip --out {out}", ("a.zip is no archive of ctd pack, or is damaged", "fetch it again"), {"a.zip": "words"}),
    Case("unpack: a folder that is there", "unpack a.ctd.zip --out there", ("there exists and is not written over", "--out"), {"a.ctd.zip": zipped({}), "there/a": ""}),
    archive("a stranger's", {"a.txt": "a"}, "it lacks"),
    archive("hashes that are not JSON", {"manifest.json": "{}", "sha256.json": "{"}, "lacks|not JSON"),
    archive("a file that was changed", {"manifest.json": "{}", "sha256.json": HASHES}, "lacks|is not the file that was packed"),
    Case("pack: no such run", "pack 01/nothing --out {out}", ("no run 01/nothing",)),
    Case("pack: a run that is damaged", f"pack {RUN} --out {{out}}", ("manifest.json is not JSON",), {RUN: changed(manifest="{")}),
    Case("pack: a file that is there", f"pack shared/{RUN_FOLDER} --out a.zip", ("a.zip exists and is not written over",), {"a.zip": "precious"}),
    Case("plan: an unknown notebook", "plan 99", ("no notebook 99",)),
    Case("plan: a parameter out of bounds", "plan 02 -p n_documents=0", ("n_documents must be a whole number between",)),
    Case("plan: no parameter file", "plan 02 -f nowhere.yml", ("there is no parameter file nowhere.yml; ctd init writes one",)),
    Case("plan: a parameter file that is a list", "plan 02 -f p.yml", ("p.yml must hold lines such as `dataset: records`",), {"p.yml": "[1]"}),
    Case("plan: a teacher that is not here", "plan 02 -p teacher=nobody/nothing", ("nobody/nothing",)),
    Case("init: nowhere", "init nowhere.csv --out {out}", ("there is no file nowhere.csv|nowhere.csv: No such file",)),
    table("empty", "", "t.csv: the first line must name the columns, and it is empty"),
    table("one column", "text\na\n", "t.csv"),
    table("no such column", "text,labels\na,b\n", "no column 'codes'", words="--label-column codes"),
    table("a table that is none", b"\x89PNG\xff\n", "t.csv"),
    table("a Parquet file that is none", "words", "t.parquet", file="t.parquet"),
    Case("init: a folder that is there", "init t.csv --out there", ("there exists and is not written over",), {"t.csv": "text,labels\na,b\n", "there/a": ""}),
    Case("explorer: a folder of something else", "explorer --dataset organism --teacher '' --n-documents 2 --out mine", ("mine",), {"mine/thesis.txt": "precious"}),
    Case("explorer: too few documents", "explorer --n-documents 1 --out {out}", ("--n-documents", "greater than or equal to 2", "ctd explorer --help")),
    Case("explorer: an unknown dataset", "explorer --dataset pubmed --out {out}", ("dataset must be one of", "'pubmed'")),
    Case("explorer: no source", "explorer --dataset records --out {out}", ("needs a source",)),
    Case("explorer: an unknown profile", "explorer --profile fast --out {out}", ("profile must be one of smoke, default, full, got 'fast'",)),
    Case("serve: a host that is none", "serve --host 999.1.1.1 --labels l.txt", ("cannot listen on 999.1.1.1, port 8000", "choose another --host or --port"), {"l.txt": LABELS}),
    Case("serve: a port that is none", "serve --port 99999", ("--port", "ctd serve --help")),
    Case("serve: no labels named", "serve --port 0", ("comes without labels to choose from", "--labels")),
    Case("serve: a model that is not here", "serve ./nowhere --port 0 --labels l.txt", ("nowhere",), {"l.txt": LABELS}),
    Case("cache: less than nothing", "cache --keep-gb=-1", ("--keep-gb", "greater than or equal to 0", "ctd cache --help")),
    Case("cache: a bound that is a word", "cache", ("CTD_CACHE_GB must be a number from 0 on, got 'much'",), environment={"CTD_CACHE_GB": "much"}),
    Case("environment: workers that are a word", "machine", ("CTD_WORKERS must be a whole number from 1 on, got 'all'",), environment={"CTD_WORKERS": "all"}),
    Case("environment: no worker", "machine", ("CTD_WORKERS must be a whole number from 1 on, got '0'",), environment={"CTD_WORKERS": "0"}),
    Case("environment: an unknown dtype", "machine", ("CTD_DTYPE must be one of float32, bfloat16, got 'int4'",), environment={"CTD_DTYPE": "int4"}),
    Case("methods: a word too many", "methods magic", ("unexpected extra argument",)),
    Case("book: an option that is not there", "book --fast", ("No such option: --fast",)),
    Case("keep: no such run", "keep 01/nothing mine", ("no run 01/nothing",)),
    Case("distill: a setting without a value", "distill organism {out} --method taid --set beta", ("--set takes NAME=VALUE, got 'beta'",)),
    Case("distill: a setting that the method has not", "distill organism {out} --method taid --set colour=1", ("colour",)),
]  # fmt: skip
