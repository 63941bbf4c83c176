"""Commands of a user's own work that cannot be done: sweeps, archives, predictions, plans, the explorer, the cache."""

# ruff: noqa: E501 (a case stands on a line, like the row of a table)
from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

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


def parquet(*columns: tuple[str, Any]) -> Callable[[Path], object]:
    """Writes a table of these columns; a name may stand twice."""
    written = pa.Table.from_arrays([pa.array(values) for _, values in columns], names=[name for name, _ in columns])
    return lambda path: pq.write_table(written, path)


def link(path: Path) -> None:
    """A link to itself."""
    path.symlink_to(path.name)


def spoilt_zip(path: Path) -> None:
    """An archive of which the packed bytes of a file are others."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("manifest.json", "{}")
        packed.writestr("SHA256.json", "{}" * 99)
    content = bytearray(path.read_bytes())
    start = content.find(b"SHA256.json") + len(b"SHA256.json")
    content[start : start + 4] = b"\xff" * 4
    path.write_bytes(bytes(content))


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
    sweep("a value that holds itself", "grid: &a {seed: [*a]}", "g.yml: not YAML .a value holds itself"),
    sweep("aliases that unfold without end", "\n".join(f"k{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]" for n in range(9)) + "\ngrid: {seed: *a8}", "g.yml: not YAML .its aliases unfold to more than 1,000,000 values"),
    sweep("a date for a number", "grid: {seed: [2026-01-01]}", "seed must be a whole number"),
    sweep("two documents", "grid: {seed: [0]}\n---\n", "g.yml, line 2: not YAML"),
    sweep("code", "grid: !!python/object/apply:os.getcwd []", "g.yml, line 1: not YAML .could not determine a constructor"),
    *(
        Case(f"sweep: {gpus} GPUs", f"sweep 01 g.yml --out {{out}} --on auto --gpus={gpus}", ("--gpus", reason), {"g.yml": "grid: {seed: [0]}"})
        for gpus, reason in {"nan": "greater than or equal to 0", "-1": "greater than or equal to 0", "inf": "must be a finite number, got inf"}.items()
    ),
    Case("sweep: below a file", "sweep 01 g.yml --out thesis.txt", ("thesis.txt is not a folder, so .* cannot be made: name another folder",), {"g.yml": "grid: {seed: [0]}", "thesis.txt": "precious"}),
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
    predict("a name that is null", '{"uid": null, "text": "x"}\n', "n.jsonl, line 1: 'uid' must be a string or a whole number", "None"),
    predict("a name that is a list", '{"uid": [1], "text": "x"}\n', "n.jsonl, line 1: 'uid' must be a string or a whole number"),
    predict("a row that is a list", '["a"]\n', "n.jsonl, line 1: expected one JSON object a line"),
    predict("texts that are records", parquet(("text", [{"a": "x"}])), "n.parquet, row 0: 'text' must be a text", file="n.parquet"),
    predict("a link to itself", link, "there is no file n.jsonl; give a file"),
    predict("labels of blank lines", NOTE, "l.txt holds no label", labels="\n \n"),
    Case("predict: a folder of notes", "predict retrieval n.jsonl --labels l.txt --out {out}", ("there is no file n.jsonl; give a file",), {"n.jsonl/a": NOTE, "l.txt": LABELS}),
    Case("predict: labels in a damaged Parquet file", "predict retrieval n.jsonl --labels l.parquet --out {out}", ("l.parquet is not a whole Parquet file",), {"n.jsonl": NOTE, "l.parquet": "words"}),
    Case("predict: labels whose id is a list", "predict retrieval n.jsonl --labels l.jsonl --out {out}", ("l.jsonl, line 1: 'id' must be a string or a whole number",),
         {"n.jsonl": NOTE, "l.jsonl": '{"id": [1], "text": "a"}\n'}),
    Case("predict: labels that are numbers", "predict retrieval n.jsonl --labels l.jsonl --out {out}", ("l.jsonl, line 1: 'text' must be a string, got 5",),
         {"n.jsonl": NOTE, "l.jsonl": '{"text": 5}\n'}),
    Case("predict: the output is a folder", "predict retrieval n.jsonl --labels l.txt --out there", ("there is a folder: name a file with --out",), {"n.jsonl": NOTE, "l.txt": LABELS, "there/a": ""}),
    Case("predict: the output is the input", "predict retrieval n.jsonl --labels l.txt --out n.jsonl", ("n.jsonl holds something else than predictions", "--out"), {"n.jsonl": NOTE, "l.txt": LABELS}),
    Case("predict: the output below a file", "predict retrieval n.jsonl --labels l.txt --out l.txt/x", ("l.txt is not a folder, so l.txt/x cannot be made", "--out"), {"n.jsonl": NOTE, "l.txt": LABELS}),
    Case("predict: no model", "predict ./nowhere n.jsonl --labels l.txt --out {out}", ("nowhere",), {"n.jsonl": NOTE, "l.txt": LABELS}),
    Case("unpack: nowhere", "unpack nowhere.zip", ("there is no archive nowhere.zip; ctd pack makes one",)),
    Case("unpack: no zip", "unpack a.zip --out {out}", ("a.zip is no archive of ctd pack, or is damaged", "fetch it again"), {"a.zip": "words"}),
    Case("unpack: a folder that is there", "unpack a.ctd.zip --out there", ("there exists and is not written over", "--out"), {"a.ctd.zip": zipped({}), "there/a": ""}),
    Case("unpack: packed bytes that were changed", "unpack a.ctd.zip --out {out}", ("a.ctd.zip is no archive of ctd pack, or is damaged", "fetch it again"), {"a.ctd.zip": spoilt_zip}),
    Case("unpack: below a file", "unpack a.ctd.zip --out thesis.txt/x", ("thesis.txt is not a folder, so thesis.txt/x cannot be made",), {"a.ctd.zip": zipped({}), "thesis.txt": "precious"}),
    archive("a stranger's", {"a.txt": "a"}, "it lacks"),
    archive("hashes that are not JSON", {"manifest.json": "{}", "sha256.json": "{"}, "lacks|not JSON"),
    archive("a file that was changed", {"manifest.json": "{}", "sha256.json": HASHES}, "lacks|is not the file that was packed"),
    Case("pack: no such run", "pack 01/nothing --out {out}", ("no run 01/nothing",)),
    Case("pack: a run that is damaged", f"pack {RUN} --out {{out}}", ("manifest.json is not JSON",), {RUN: changed(manifest="{")}),
    Case("pack: a file that is there", f"pack shared/{RUN_FOLDER} --out a.zip", ("a.zip exists and is not written over",), {"a.zip": "precious"}),
    Case("run: below a file", "run 01 --out thesis.txt/x", ("thesis.txt is not a folder, so thesis.txt/x cannot be made: name another folder",), {"thesis.txt": "precious"}),
    Case("run: where a link to itself is", "run 01 --out x", ("x is a link that leads nowhere: name another folder with --out",), {"x": link}),
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
    table("texts that are records", parquet(("text", [{"a": "x"}, {"a": "y"}]), ("labels", ["a", "b"])), "t.parquet, row 0: 'text' must be", "dict", file="t.parquet"),
    table("texts of bytes", parquet(("text", [b"\xff"]), ("labels", ["a"])), "t.parquet, row 0: 'text' must be a string, got b", file="t.parquet", words="--text-column text"),
    table("labels that are records", parquet(("text", ["x", "y"]), ("labels", [[{"c": "a"}], [{"c": "b"}]])), "t.parquet, row 0: 'labels' must be .* got one with a dict", file="t.parquet"),
    table("labels in lists of lists", parquet(("text", ["x", "y"]), ("labels", [[["a"]], [["b"]]])), "t.parquet, row 0: 'labels' must be .* got one with a list", file="t.parquet"),
    table("labels that are not numbers", parquet(("text", ["x", "y"]), ("labels", [1.0, float("nan")])), "t.parquet, row 0: 'labels' must be .* got one with a float", file="t.parquet"),
    table("a Parquet column twice", parquet(("text", ["x"]), ("text", ["y"]), ("labels", ["a"])), "t.parquet: the column 'text' stands twice; rename one", file="t.parquet"),
    table("a Parquet file of which the middle is lost", b"PAR1" + b"x" * 20 + b"PAR1", "t.parquet is not a whole Parquet file", file="t.parquet"),
    table("a Parquet file without rows", parquet(("text", pa.array([], pa.string()))), "t.parquet holds no rows", file="t.parquet"),
    table("a header and no rows", "text,labels\n", "t.csv holds no rows: give a table with a document a row"),
    table("a name twice in the header", "text,text,labels\na,b,c\n", "t.csv, line 1: the column 'text' stands twice; rename one"),
    table("UTF-16", "text,labels\na,b\n".encode("utf-16"), "t.csv, line 1: byte 1 .0xff. is not UTF-8", "iconv"),
    table("lines that end as forty years ago", "text,labels\ra,b\r", "t.csv, line 1: not valid CSV"),
    table("a quote left open", 'text,labels\n"a,b\n', "t.csv, line 2: not valid CSV", "quote"),
    table("a list of fractions", '{"text": "a", "labels": [1.5]}\n', "t.jsonl, line 1: 'labels' must be", "float", file="t.jsonl"),
    table("one column for both", "text,labels\na,b\n", "--text-column and --label-column both name 'text'", words="--text-column text --label-column text"),
    Case("init: a folder where the table should be", "init t.csv --out {out}", ("t.csv is a folder; give a file",), {"t.csv/a": ""}),
    Case("init: a link to itself", "init t.csv --out {out}", ("there is no file t.csv; check the path",), {"t.csv": link}),
    Case("init: below a file", "init t.csv --out thesis.txt/x", ("thesis.txt is not a folder, so thesis.txt/x cannot be made: name another folder with --out",), {"t.csv": "text,labels\na,b\n", "thesis.txt": "precious"}),
    Case("init: where a link to itself is", "init t.csv --out x", ("x exists and is not written over: name another folder",), {"t.csv": "text,labels\na,b\n", "x": link}),
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
    Case("cache: no number", "cache --keep-gb nan", ("--keep-gb", "greater than or equal to 0")),
    Case("cache: without end", "cache --keep-gb inf", ("--keep-gb must be a number from 0 on, got inf",)),
    Case("cache: a bound without end", "cache", ("CTD_CACHE_GB must be a number from 0 on, got 'inf'",), environment={"CTD_CACHE_GB": "inf"}),
    Case("cache: a bound that is a word", "cache", ("CTD_CACHE_GB must be a number from 0 on, got 'much'",), environment={"CTD_CACHE_GB": "much"}),
    Case("environment: workers that are a word", "machine", ("CTD_WORKERS must be a whole number from 1 on, got 'all'",), environment={"CTD_WORKERS": "all"}),
    Case("environment: no worker", "machine", ("CTD_WORKERS must be a whole number from 1 on, got '0'",), environment={"CTD_WORKERS": "0"}),
    Case("environment: an unknown dtype", "machine", ("CTD_DTYPE must be one of float32, bfloat16, got 'int4'",), environment={"CTD_DTYPE": "int4"}),
    Case("methods: a word too many", "methods magic", ("unexpected extra argument",)),
    Case("book: an option that is not there", "book --fast", ("No such option: --fast",)),
    Case("keep: no such run", "keep 01/nothing mine", ("no run 01/nothing",)),
    Case("distill: a setting without a value", "distill organism {out} --method taid --set beta", ("--set takes NAME=VALUE, got 'beta'",)),
    Case("distill: a setting that is no number", "distill organism {out} --method taid --set beta=nan", ("--set beta must be finite, got nan",)),
    Case("distill: a weight without end", "distill organism {out} --weights inf 0 0 0 0 0", ("--weights must be finite, got inf",)),
    Case("distill: a learning rate without end", "distill organism {out} --learning-rate inf", ("--learning-rate must be finite, got inf",)),
    Case("distill: a setting that the method has not", "distill organism {out} --method taid --set colour=1", ("colour",)),
]  # fmt: skip
