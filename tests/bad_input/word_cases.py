"""Words of commands, parameters and notebooks that cannot be right."""

# ruff: noqa: E501 (a case stands on a line, like the row of a table)
from __future__ import annotations

import json
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from tests.bad_input.case import Case

SEED = 'seed: Annotated[int, Field(ge=0, le=9, description="draws")] = 1'
TYPES = "from typing import Annotated\nfrom pydantic import Field\n"
N = 'n: Annotated[int, Field(ge=1, le=9, description="how many")] = '
RUN = "ctd params 01_retrieval_shortlists"


def notebook(*lines: str, tagged: int = 1):
    """Writes a notebook with that parameters cell, so many times."""

    def write(path: Path) -> None:
        cells = [new_code_cell(TYPES + "\n".join(lines), metadata={"tags": ["parameters"]}) for _ in range(tagged)]
        nbformat.write(new_notebook(cells=cells), path)

    return write


def cell(name: str, lines: tuple[str, ...], *says: str, tagged: int = 1) -> Case:
    return Case(name, "params notebooks/01_x.ipynb", ("01_x.ipynb", *says), {
        "notebooks/01_x.ipynb": notebook(*lines, tagged=tagged)
    })  # fmt: skip


def profiles(name: str, content: str, *says: str, profile: str = "default") -> Case:
    files = {"notebooks/01_x.ipynb": notebook(N + "5", SEED), "notebooks/profiles.yml": content}
    return Case(name, f"run 01 --profile {profile}", says, files)


def parameter(name: str, words: str, *says: str, notebook: str = "01") -> Case:
    return Case(f"parameter: {name}", f"run {notebook} {words}", ("refuses|-p", *says))


def source(name: str, dataset: str, path: str, *says: str) -> Case:
    """A run of a dataset with a source of another kind."""
    words = f"run 01 --out {{out}} -p dataset={dataset}" + f" -p source={path}" * bool(path)
    files = {"f.csv": "a,b\n", "f.zip": b"PK\x03\x04", "d/f.txt": ""}
    return Case(f"source: {name}", words, ("01_retrieval_shortlists.ipynb refuses its source: ", *says), files)


def distill(name: str, words: str, *says: str) -> Case:
    return Case(f"distill: {name}", f"distill organism {{out}} {words}", says)


CASES = [
    Case("an unknown command", "nonsense", ("No such command 'nonsense'", "ctd --help")),
    Case("a misspelt command", "parms 01", ("No such command 'parms'", "params")),
    Case("an unknown option", "run --fast", ("No such option: --fast", "ctd run --help")),
    Case("an option without its value", "run 01 --profile", ("--profile", "requires an argument", "ctd --help")),
    Case("an argument too many", "params 01 02", ("unexpected extra argument.*02", "ctd params --help")),
    Case("an argument too few", "show", ("Missing argument 'RUN'", "ctd show --help")),
    Case("no notebook named", "run", ("name the notebooks to run, or give --all",)),
    Case("notebooks named and all", "run 01 --all", ("name the notebooks to run, or give --all",)),
    Case("one folder for two runs", "run 01 02 --out x", ("--out is the folder of one run, and 2 notebooks",)),
    Case("a notebook that is not there", "run 99", ("no notebook 99", "there are: 00_label_spaces")),
    Case("a misspelt notebook", "run 01_retrieval_shortlist", ("did you mean 01_retrieval_shortlists",)),
    Case("a path that is no notebook", "run nowhere.ipynb", ("no notebook nowhere.ipynb",)),
    Case("an unknown profile", "run 01 --profile fast", ("no profile fast", "profiles.yml has: smoke, default, full")),
    Case("a folder of something else", "run 01 --out mine", ("mine exists and is not a run of 01", "another folder"),
         {"mine/thesis.txt": "precious"}),
    Case("a run that is not there", "show 01/nothing", ("no run 01/nothing", "none in runs/")),
    Case("a comparison with nothing", "compare a b", ("no run a",)),
    Case("nothing to validate", "validate", ("no runs in runs/ to validate", "ctd run 00")),
    Case("an unknown profile of claims", "claims --profile fast", ("no profile fast",)),
    Case("an unknown profile of the book", "book --profile fast", ("no profile fast",)),
    Case("a number that is a word in a choice", "distill organism {out} --matching colour", ("--matching", "'depth'", "'score'")),
    parameter("no value", "-p n_documents", "-p takes name=value, got 'n_documents'"),
    parameter("no name", "-p =5", "-p takes name=value, got '=5'"),
    parameter("given twice", "-p seed=1 -p seed=2", "-p seed is given twice"),
    parameter("unknown", "-p colour=red", "no parameter colour", RUN),
    parameter("misspelt", "-p n_document=20", "no parameter n_document .did you mean n_documents", RUN),
    parameter("text for a number", "-p n_documents=many", "n_documents must be a whole number between 10 and", "'many'"),
    parameter("a fraction for a whole number", "-p n_documents=10.5", "n_documents must be a whole number", "10.5"),
    parameter("true for a number", "-p n_documents=true", "n_documents must be a whole number", "True"),
    parameter("a list for a number", "-p 'n_documents=[1]'", "n_documents must be a whole number", r"\[1\]"),
    parameter("nothing for a number", "-p n_documents=", "n_documents must be a whole number", "None"),
    parameter("too small", "-p n_documents=1", "n_documents must be a whole number between 10 and 1000000, got 1"),
    parameter("too large", "-p cutoff=1000", "cutoff must be a whole number between 1 and 100, got 1000"),
    parameter("not a number", "-p corruption=.nan", "corruption must be a number between 0 and 1, got nan", notebook="03"),
    parameter("infinite", "-p corruption=.inf", "corruption must be a number between 0 and 1, got inf", notebook="03"),
    parameter("an empty list", "-p 'ks=[]'", r"ks must be a list such as \[10, 30", "not empty", r"got \[\]"),
    parameter("a word in a list", "-p 'ks=[10, ten]'", "ks must be a list such as", "'ten'"),
    parameter("out of bounds in a list", "-p 'ks=[0]'", "ks must be a list", "each between 1 and 100000"),
    parameter("a tag that does not fit", "-p 'n_documents=!!int '", "-p n_documents: not YAML"),
    parameter("a day that there is not", "-p n_documents=2026-13-45", "-p n_documents: not YAML .month must be"),
    parameter("no YAML", "-p 'ks=[1,'", "-p ks, line 1: not YAML"),
    parameter("a key twice in YAML", "-p 'ks={a: 1, a: 2}'", "-p ks.*the key 'a' stands twice; keep one"),
    parameter("no choice", "-p index_kind=fast", "index_kind must be one of: flat, hnsw, ivfpq, fastscan, got 'fast'"),
    parameter("no dataset", "-p dataset=pubmed", "dataset must be one of: mesh, mesh-descriptors", "got 'pubmed'"),
    parameter("no dataset in a list", "-p tasks=pubmed", "tasks must be a list such as", "pubmed", notebook="00"),
    parameter("a path that is not there", "-p source=./nowhere", "source must be an existing path or name", "nowhere"),
    source("mimic without any", "mimic", "", "dataset 'mimic' needs a source .source=PATH.: MIMIC-IV"),
    source("mimic of a file", "mimic", "f.csv", "f.csv is not a folder; give the one that holds MIMIC-IV's"),
    source("mimic without the codes", "mimic", "d", "d holds neither discharge.csv.gz nor discharge.csv"),
    source("xmc of a file", "xmc", "f.csv", "f.csv is not a folder; give the one that holds lbl.json"),
    source("xmc of another folder", "xmc", "d", "d holds neither lbl.json nor lbl.json.gz"),
    source("one for nothing", "organism", "f.csv", "dataset 'organism' takes no source, got '.*f.csv': leave it out"),
    source("set.mm of a folder", "setmm", "d", "no Metamath file .*d; give the path of set.mm"),
    source("PubMed of a folder without", "mesh", "d", "d holds no PubMed file"),
    source("PubMed of a name", "mesh", "nowhere", "there is no file nowhere; check the path"),
    source("PubMed in a zip", "mesh", "f.zip", "f.zip is packed as zip, and only gzip is read; unpack it"),
    source("a table of no kind", "records", "f.zip", "f.zip: a file must end in one of .jsonl"),
    source("a table that is nowhere", "records", "nowhere.csv", "nowhere.csv is neither a file nor a folder; check the path"),
    Case("source: of a cell", "sweep 01 g.yml --out {out}", ("01_retrieval_shortlists.ipynb refuses its source: dataset 'xmc' needs a source",),
         {"g.yml": "grid: {dataset: [organism, xmc]}"}),
    parameter("several wrong", "-p cutoff=0 -p colour=red", "cutoff must be", "no parameter colour"),
    cell("cell: no parameters cell", (SEED,), "must have exactly 1 code cell tagged 'parameters', got 0", tagged=0),
    cell("cell: two parameters cells", (SEED,), "exactly 1 code cell tagged 'parameters', got 2", tagged=2),
    cell("cell: not Python", ("n = = 1",), "cell is not Python"),
    cell("cell: no type", ("n = 5", SEED), "line 3 `n = 5`: every line must read `name: type = default`"),
    cell("cell: no default", (N.rpartition("=")[0], SEED), "it needs a default"),
    cell("cell: no bound", ('n: Annotated[int, Field(description="x")] = 1', SEED), "a bound is missing", "ge=LOW, le=HIGH"),
    cell("cell: no meaning", ("n: Annotated[int, Field(ge=1, le=9)] = 1", SEED), "must say what the parameter means"),
    cell("cell: a plain type", ("n: int = 1", SEED), "nothing says what it means and may be", "write it as"),
    cell("cell: an unknown type", ("n: Annotated[Number, Field()] = 1", SEED), "the type is not understood"),
    cell("cell: a default out of bounds", (N + "50", SEED), "n must be a whole number between 1 and 9, got 50"),
    cell("cell: a default that is computed", (N + "2 + len('a')", SEED), "the default must be a plain value"),
    cell("cell: declared twice", (N + "1", N + "2", SEED), "n is declared twice"),
    cell("cell: no seed", (N + "1",), "it needs a line such as `seed:"),
    cell("cell: an import of something", ("import os", SEED), "every line must read|imports only types"),
    cell("cell: a call in a type", ("n: Annotated[int, __import__('os').getcwd()] = 1", SEED), "the type is not understood"),
    Case("notebook: not JSON", "params notebooks/01_x.ipynb", ("01_x.ipynb is not a notebook",),
         {"notebooks/01_x.ipynb": "<html>"}),
    Case("notebook: empty", "params notebooks/01_x.ipynb", ("01_x.ipynb is not a notebook",), {"notebooks/01_x.ipynb": ""}),
    Case("notebook: a list", "params notebooks/01_x.ipynb", ("01_x.ipynb is not a notebook",), {"notebooks/01_x.ipynb": "[]"}),
    Case("notebook: no cells", "params notebooks/01_x.ipynb", ("01_x.ipynb is not a notebook",),
         {"notebooks/01_x.ipynb": json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}})}),
    Case("notebook: bytes", "params notebooks/01_x.ipynb", ("01_x.ipynb is not a notebook",),
         {"notebooks/01_x.ipynb": b"\xff\xfe\x00"}),
    Case("notebook: a folder", "params notebooks/01_x.ipynb", ("no notebook notebooks/01_x.ipynb",),
         {"notebooks/01_x.ipynb/a": ""}),
    Case("notebook: two of one number", "params 01", ("01 is the number of 2 notebooks: 01_x, 01_y",),
         {"notebooks/01_x.ipynb": notebook(SEED), "notebooks/01_y.ipynb": notebook(SEED)}),
    profiles("profiles: not YAML", "default: [", "profiles.yml, line 1: not YAML"),
    profiles("profiles: a list", "[a, b]", "profiles.yml must map profiles to notebooks to parameters"),
    profiles("profiles: a notebook twice", "default:\n  01_x: {n: 1}\n  01_x: {n: 2}\n", "profiles.yml, line", "'01_x' stands twice"),
    profiles("profiles: a word for a mapping", "default: fast\n", "profile default must map notebooks to parameters"),
    profiles("profiles: no such notebook", "default: {02_y: {n: 1}}\n", "names 02_y, and there is no 02_y.ipynb beside it"),
    profiles("profiles: no such parameter", "default: {01_x: {m: 1}}\n", "profile default: no parameter m"),
    profiles("profiles: out of bounds", "default: {01_x: {n: 99}}\n", "profile default: n must be .* between 1 and 9, got 99"),
    profiles("profiles: bytes", b"default: \xff\n".decode("latin-1") + "\x00", "profiles.yml"),
    distill("a word for a number", "--layers three", "--layers", "valid integer"),
    distill("no layers", "--layers 0", "layers must be at least 1, got 0"),
    distill("no traces", "--traces 0", "n_traces must be at least 1, got 0|traces must be at least 1, got 0"),
    distill("no steps", "--steps 0", "steps must be at least 1, got 0"),
    distill("no learning rate", "--learning-rate 0", "learning_rate must be above 0, got 0"),
    distill("a learning rate that is no number", "--learning-rate nan", "learning_rate must be above 0, got nan"),
    distill("fewer than no heads", "--heads=-1", "heads must be at least 0, got -1"),
    distill("an unknown method", "--method magic", "method must be one of", "magic"),
    distill("an unknown loss", "--base-loss magic", "base_loss|--base-loss", "magic"),
    distill("too few weights", "--weights 1 2", "--weights", "requires 6 arguments"),
    distill("an unknown dataset", "--dataset pubmed", "dataset must be one of mesh, mesh-descriptors, setmm", "got 'pubmed'"),
    distill("no source", "--dataset records", "dataset 'records' needs a source", "with a text and a labels column"),
    distill("a source for nothing", "--dataset organism --source x", "dataset 'organism' takes no source, got 'x': leave"),
    Case("distill: a folder that is there", "distill organism there", ("there exists and is not written over", "name another"),
         {"there/a": ""}),
    Case("environment: no such set.mm", "distill organism {out} --dataset setmm", ("CTD_SETMM names nowhere", "mend it, or unset"),
         environment={"CTD_SETMM": "nowhere"}),
    Case("environment: the cache is a file", "distill organism {out} --dataset xmc --source data", ("file.*: .*directory|file.*: File exists",),
         {"data/lbl.json": '{"uid": "a", "title": "b"}\n', "data/trn.json": "{}\n", "data/tst.json": "{}\n", "file": ""},
         {"CTD_CACHE": "file"}),
]  # fmt: skip
