"""A parameters cell is a schema: what it declares is enforced, and what it declares badly is refused."""

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from ctd.book import chapters
from ctd.book.parameter_cells import cell_source, read_parameters

CELL = """\
from typing import Annotated, Literal
from pydantic import Field
n_documents: Annotated[int, Field(ge=50, le=20000, description="documents drawn")] = 1500
share: Annotated[float, Field(ge=0, le=1, description="share kept")] = 0.5
dataset: Annotated[Literal["mesh", "setmm"], Field(description="which task")] = "mesh"
ks: Annotated[list[Annotated[int, Field(ge=1, le=1000)]], Field(description="shortlist sizes")] = [10, 100]
names: Annotated[list[Literal["a", "b"]], Field(description="which")] = ["a"]
fast: Annotated[bool, Field(description="skip the slow part")] = False
title: Annotated[Literal["a = b  # not a comment", "c"], Field(description="shown")] = "a = b  # not a comment"
folder: Annotated[ExistingPath, Field(description="your own data")] = ""
source: Annotated[PathOrName, Field(description="model")] = "minilm"
level: Annotated[Literal[1, 2, 4], Field(description="which level")] = 2
rate: Annotated[float, Field(ge=1e-7, le=1, description="how fast")] = 0.1
seed: Annotated[int, Field(ge=0, le=1000, description="draws")] = 0
"""
MODEL = "from ctd.book.chapters import CoarseHeads as Settings"
CHAPTER = """\
dataset: str = "organism"
n_top: int = 4  # any remark
mine: Annotated[int, Field(ge=1, le=9, description="my own")] = 5
seed: int = 0
"""


def notebook(*cells, others=()):
    cells = [new_code_cell(cell, metadata={"tags": ["parameters"]}) for cell in cells]
    return new_notebook(cells=[*cells, *map(new_code_cell, others)])


@pytest.fixture
def parameters():
    return read_parameters(notebook(CELL), "n.ipynb")


def refused(line):
    with pytest.raises(ValueError, match="refused") as caught:
        read_parameters(notebook(f"{line}\nseed: {SEED} = 0"), "n.ipynb")
    return str(caught.value)


SEED = 'Annotated[int, Field(ge=0, le=9, description="draws")]'
INT = 'Annotated[int, Field(ge=1, le=9, description="count")]'


def test_a_line_becomes_a_parameter(parameters):
    assert list(parameters)[:3] == ["n_documents", "share", "dataset"]
    ks = parameters["ks"]
    assert (ks.type, ks.default, ks.help, ks.bound) == ("list[int]", [10, 100], "shortlist sizes", "each 1 to 1000")
    assert ks.comment == "shortlist sizes; each 1 to 1000"
    assert parameters["title"].default == "a = b  # not a comment"
    assert parameters["rate"].bound == "0.0000001 to 1"
    assert (parameters["fast"].bound, parameters["fast"].comment) == ("", "skip the slow part")
    assert (parameters["folder"].bound, parameters["source"].bound) == ("path", "path or name")


def test_a_chapters_line_takes_meaning_and_bounds_from_its_model_and_its_default_from_the_cell():
    parameters = read_parameters(notebook(CHAPTER, others=[f"import json\n{MODEL}\nstart(Settings)"]), "copy.ipynb")
    assert list(parameters) == ["dataset", "n_top", "mine", "seed"]
    assert (parameters["n_top"].default, parameters["n_top"].bound) == (4, "3 to 1000")
    assert parameters["dataset"].bound.startswith("one of: mesh, ")
    assert parameters["mine"].bound == "1 to 9"
    assert read_parameters(notebook(f"{MODEL}\n{CHAPTER}"), "copy.ipynb").keys() == parameters.keys()


@pytest.mark.parametrize(
    ("line", "other", "complaint"),
    [
        ("n_top: int = 4  # any remark", "n_top: int = 2", "n_top must be a whole number between 3 and 1000, got 2"),
        (
            "n_top: int = 4  # any remark",
            "n_tip: int = 4",
            "nothing says what it means and may be (did you mean n_top?)",
        ),
        ("n_top: int = 4  # any remark", "n_top: str = 4", "the type of n_top is int, got str"),
        ("CoarseHeads", "CoarseHeds", "has no model CoarseHeds (did you mean CoarseHeads?)"),
        ("CoarseHeads", "MANY", "has no model MANY"),
        (" as Settings", "", "nothing says what it means"),
    ],
)
def test_a_line_that_does_not_fit_its_model_is_refused(line, other, complaint):
    cells = [text.replace(line, other) for text in (CHAPTER, MODEL)]
    assert cells != [CHAPTER, MODEL]
    with pytest.raises(ValueError, match="copy.ipynb") as caught:
        read_parameters(notebook(cells[0], others=cells[1:]), "copy.ipynb")
    assert complaint in str(caught.value)


def test_a_chapters_cell_can_be_written_from_its_model():
    model = "from ctd.book.chapters import Ablations as Settings"
    parameters = read_parameters(notebook(cell_source(chapters.Ablations), others=[model]), "n.ipynb")
    assert {name: parameter.default for name, parameter in parameters.items()} == {
        name: getattr(chapters.Ablations(), name) for name in chapters.Ablations.model_fields
    }


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("n = 5", "every line must read"),
        ("import os", "every line must read"),
        ("from os import path", "imports only types"),
        ("n: int = 5", "nothing says what it means and may be; write it as `n: Annotated[int, Field("),
        ("n: Annotated[int, Field(ge=1, le=9)] = 5", "description must say"),
        ("n: Annotated[int, Field(description='count')] = 5", "a bound is missing"),
        ("n: Annotated[int, Field(ge=1, description='count')] = 5", "a bound is missing"),
        ("n: Annotated[int, Field(ge=9, le=1, description='count')] = 5", "the bound `9 to 1` does not fit"),
        (f"n: {INT} = 15", "n must be a whole number between 1 and 9, got 15"),
        (f"n: {INT} = 1.0", "n must be a whole number between 1 and 9, got 1.0"),
        (f"n: {INT} = True", "got True"),
        (f"n: {INT}", "needs a default"),
        (f"n: {INT} = 2 + 3", "plain value"),
        ("n: Annotated[int | None, Field(description='count')] = None", "the type must be one of"),
        ("n: Annotated[dict, Field(description='count')] = {}", "the type is not understood"),
        ("n: Annotated[open('x'), Field(description='count')] = 1", "the type is not understood"),
        ("n: Annotated[int, 'count'] = 1", "a bound is missing"),
        ("n: Annotated[list[int], Field(description='counts')] = [1]", "a bound is missing"),
        ("n: Annotated[list[Annotated[int, Field(ge=1, le=9)]], Field(description='counts')] = []", "not empty"),
        ("n: Annotated[list[ExistingPath], Field(description='folders')] = ['a']", "list of paths"),
        ("n: Annotated[ExistingPath, Field(description='where')] = 'x'", 'default of a path must be ""'),
        (f"seed: {INT} = 1", "declared twice"),
    ],
)
def test_a_bad_line_is_refused_and_quoted(line, complaint):
    message = refused(line)
    assert complaint in message
    assert "n.ipynb" in message
    if "twice" not in complaint:
        assert f"line 1 `{line}`" in message


def test_all_bad_lines_are_named_at_once():
    message = refused("a = 1\nb: int = 2")
    assert "line 1" in message
    assert "line 2" in message


@pytest.mark.parametrize(
    ("cells", "complaint"),
    [
        ((), "exactly 1 code cell tagged 'parameters', got 0"),
        ((CELL, CELL), "got 2"),
        ((f"n: {INT} = 5",), "it needs a line such as `seed: Annotated"),
        ((f"seed: {SEED} = 5".replace("9", "4294967296"),), "within 0 to 4294967295"),
        ((f"seed: {SEED} = '5'".replace("int", "str").replace("ge=0, le=9, ", ""),), "seed must be an int"),
        (("n: int = (",), "not Python"),
    ],
)
def test_a_bad_cell_is_refused(cells, complaint):
    with pytest.raises(ValueError, match="n.ipynb") as caught:
        read_parameters(notebook(*cells), "n.ipynb")
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "annotation",
    [
        "Annotated[int, [c for c in ().__class__.__base__.__subclasses__()], print('run')]",
        "Annotated[int, Field(ge=1, le=9, description=open('run', 'w').name)]",
        "Annotated[int, (lambda: open('run', 'w'))()]",
        "Annotated[int, Field.__init__.__globals__['sys'].exit()]",
        "Annotated[list.__class__, 1]",
        "Annotated[int, f'{print(1)}']",
    ],
)
def test_a_type_of_a_strangers_notebook_is_read_and_not_run(annotation, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "the type is not understood" in refused(f"n: {annotation} = 5")
    assert not (tmp_path / "run").exists()
