"""A parameters cell is a schema: what it declares is enforced, and what it declares badly is refused."""

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from ctd.book.parameters import check_all, parse_assignments, read_parameters

CELL = """\
n_documents: int = 1500  # documents drawn; 50 to 20000
share: float = 0.5  # share kept; 0 to 1
dataset: str = "mesh"  # which task; one of: mesh, setmm
ks: list[int] = [10, 100]  # shortlist sizes (# is fine); each 1 to 1000
names: list[str] = ["a"]  # which; each one of: a, b
fast: bool = False  # skip the slow part
title: str = "a = b  # not a comment"  # shown above; whatever; one of: a = b  # not a comment, c
folder: str = ""  # your own data; path
source: str = "minilm"  # model; path or name
level: int = 2  # which level; one of: 1, 2, 4
seed: int = 0  # draws; 0 to 1000
"""


def notebook(*cells):
    return new_notebook(cells=[new_code_cell(cell, metadata={"tags": ["parameters"]}) for cell in cells])


@pytest.fixture
def parameters():
    return read_parameters(notebook(CELL), "n.ipynb")


def refused(line):
    with pytest.raises(ValueError, match="refused") as caught:
        read_parameters(notebook(f"{line}\nseed: int = 0  # draws; 0 to 9"), "n.ipynb")
    return str(caught.value)


def test_a_line_becomes_a_parameter(parameters):
    assert list(parameters)[:3] == ["n_documents", "share", "dataset"]
    ks = parameters["ks"]
    assert (ks.annotation, ks.default, ks.help, ks.bound) == (
        "list[int]", [10, 100], "shortlist sizes (# is fine)", "each 1 to 1000",
    )  # fmt: skip
    assert parameters["title"].default == "a = b  # not a comment"
    assert parameters["fast"].bound == ""


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("n = 5  # count; 1 to 9", "every line must read"),
        ("import os", "every line must read"),
        ("n: int = 5", "comment must say"),
        ("n: int = 5  # ; 1 to 9", "comment must say"),
        ("n: int = 5  # count", "a bound is missing"),
        ("n: int = 5  # count; 9 to 1", "the bound `9 to 1` does not fit"),
        ("n: int = 5  # count; 0.5 to 9", "the bound `0.5 to 9` does not fit"),
        ("n: int = 15  # count; 1 to 9", "n must be a whole number between 1 and 9, got 15"),
        ("n: int = 1.0  # count; 1 to 9", "n must be a whole number between 1 and 9, got 1.0"),
        ("n: int = True  # count; 1 to 9", "got True"),
        ("n: int  # count; 1 to 9", "needs a default"),
        ("n: int = 2 + 3  # count; 1 to 9", "plain value"),
        ("n: int | None = None  # count; 1 to 9", "the type must be one of"),
        ("n: dict[str, int] = {}  # count", "the type must be one of"),
        ("n: list[int] = [1]  # counts; 1 to 9", "must begin with `each`"),
        ("n: list[int] = []  # counts; each 1 to 9", "not empty"),
        ("n: list[str] = ['a']  # folders; each path", "list of paths"),
        ("n: bool = True  # whether; 0 to 1", "bool takes none"),
        ("n: str = 'x'  # where; path", 'default of a path must be ""'),
        ("n: str = 'x'  # where; somewhere", "the bound `somewhere` does not fit"),
        ("seed: int = 1  # again; 0 to 9", "declared twice"),
    ],
)
def test_a_bad_line_is_refused_and_quoted(line, complaint):
    said = refused(line)
    assert complaint in said
    assert "n.ipynb" in said
    if "twice" not in complaint:
        assert f"line 1 `{line}`" in said


def test_all_bad_lines_are_named_at_once():
    said = refused("a = 1\nb: int = 2")
    assert "line 1" in said
    assert "line 2" in said


@pytest.mark.parametrize(
    ("cells", "complaint"),
    [
        ((), "exactly 1 code cell tagged 'parameters', got 0"),
        ((CELL, CELL), "got 2"),
        (("n: int = 5  # count; 1 to 9",), "seed"),
        (("seed: int = 5  # draws; 0 to 4294967296",), "within 0 to 4294967295"),
        (("seed: str = '5'  # draws",), "seed must be an int"),
        (("n: int = (",), "not Python"),
    ],
)
def test_a_bad_cell_is_refused(cells, complaint):
    with pytest.raises(ValueError, match="n.ipynb") as caught:
        read_parameters(notebook(*cells), "n.ipynb")
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("n_documents=50", 50),
        ("share=1", 1.0),
        ("share=1e-4", 1e-4),
        ("ks=[1, 1000]", [1, 1000]),
        ("dataset=setmm", "setmm"),
        ("title=c", "c"),
        ("title='c'", "c"),
        ("fast=true", True),
        ("folder=", ""),
        ("source=org/some-model", "org/some-model"),
        ("level=4", 4),
        ("names=[b, a]", ["b", "a"]),
    ],
)
def test_good_values_are_taken(parameters, text, value):
    checked, problems = check_all(parameters, parse_assignments(parameters, [text]), "given")
    assert problems == []
    ((_, got),) = checked.items()
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("n_documents=49", "n_documents must be a whole number between 50 and 20000, got 49"),
        ("n_documents=20001", "got 20001"),
        ("n_documents=None", "got 'None'"),
        ("n_documents=null", "got None"),
        ("n_documents=", "got None"),
        ("n_documents=60.5", "got 60.5"),
        ("n_documents='60'", "got '60'"),
        ("n_documents=yes", "got True"),
        ("share=1.01", "share must be a number between 0 and 1, got 1.01"),
        ("share=.nan", "got nan"),
        ("dataset=None", "dataset must be one of: mesh, setmm, got 'None'"),
        ("dataset=12", "got '12'"),
        ("ks=10", "ks must be a list such as [10, 100]"),
        ("ks=[]", "not empty"),
        ("ks='[10]'", "got '[10]'"),
        ("ks=[0]", "each between 1 and 1000, got [0]"),
        ("names=[c]", "each one of: a, b, got ['c']"),
        ("fast=1", "fast must be true or false, got 1"),
        ("folder=/no/such/place", "existing path, or empty for none, got '/no/such/place'"),
        ("source=./nowhere", "existing path or name"),
        ("level=3", "level must be one of: 1, 2, 4, got 3"),
        ("level=true", "got True"),
        ("n_document=60", "no parameter n_document (did you mean n_documents?)"),
    ],
)
def test_bad_values_are_refused(parameters, text, complaint):
    checked, (problem,) = check_all(parameters, parse_assignments(parameters, [text]), "given")
    assert checked == {}
    assert complaint in problem


def test_paths_are_made_absolute_and_a_default_name_stays_a_name(parameters, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "minilm").mkdir()
    (tmp_path / "mine").mkdir()
    values = {"folder": "mine", "source": "mine"}
    assert check_all(parameters, values, "")[0] == dict.fromkeys(values, str(tmp_path / "mine"))
    assert check_all(parameters, {"source": "minilm"}, "")[0] == {"source": "minilm"}


@pytest.mark.parametrize("texts", [["seed"], ["=3"], ["seed=1", "seed=2"], ["seed=[1"]])
def test_what_is_no_assignment_is_refused(parameters, texts):
    with pytest.raises(ValueError, match="-p"):
        parse_assignments(parameters, texts)
