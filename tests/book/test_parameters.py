"""The values of parameters: checked against types and bounds, and read from the command line."""

import pytest

from ctd.book import chapters, notebook_files
from ctd.book.parameter_cells import read_parameters
from ctd.book.parameters import check_all, parameters_of_model, parse_assignments
from ctd.data.readers import READERS
from tests.book.test_parameter_cells import CELL, notebook


@pytest.fixture
def parameters():
    return read_parameters(notebook(CELL), "n.ipynb")


def test_a_model_lists_its_groups_in_order_and_the_seed_last():
    names = list(parameters_of_model(chapters.CoarseHeads))
    assert names[:5] == ["dataset", "source", "columns", "encoder", "teacher"]
    assert names[-4:] == ["direction", "n_top", "n_effects", "seed"]
    assert set(names) == set(chapters.CoarseHeads.model_fields)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("n_documents=50", 50),
        ("share=1", 1.0),
        ("share=1e-4", 1e-4),
        ("ks=[1, 1000]", [1, 1000]),
        ("ks=7", [7]),
        ("names=b", ["b"]),
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
        ("ks=ten", "ks must be a list such as [10, 100]"),
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


def test_a_dataset_is_a_reader():
    known = parameters_of_model(chapters.CoarseHeads)["dataset"]
    assert known.bound == f"one of: {', '.join(READERS)}"


def test_a_parameter_by_its_old_name_is_taken_with_a_warning(capsys):
    parameters = notebook_files.parameters_of(notebook_files.find_notebook("10"))
    assert parse_assignments(parameters, ["words=[fkl]"]) == {"base_losses": ["fkl"]}
    assert capsys.readouterr().err.splitlines() == [
        "warning: -p words is now -p base_losses; the old name goes with the next version",
    ]
    with pytest.raises(ValueError, match="-p base_losses is given twice"):
        parse_assignments(parameters, ["words=[fkl]", "base_losses=[rkl]"])
