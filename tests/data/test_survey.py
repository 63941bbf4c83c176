"""What `ctd init` says of a table, and the folder that it makes of it."""

import json
import re
import runpy
import shlex

import pandas as pd
import pytest
import yaml
from datasets import Dataset, DatasetDict
from typer.main import get_command
from typer.testing import CliRunner

from ctd.book import notebook_files, parameter_files, runs
from ctd.cache import ROOT
from ctd.cli import app
from ctd.data import readers
from ctd.data.survey import survey

NOTES = [
    ("The calcium of the blood was high.", "calcium; blood"), ("The liver was of a normal size.", "liver"),
    ("The calcium of the blood was high.", "calcium;liver"), ("", "blood"), ("There is a pain in the heart.", ""),
] * 4  # fmt: skip


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        {"id": row, "note": f"{text} {row}" if text else "", "codes": codes} for row, (text, codes) in enumerate(NOTES)
    ]
    rows[2]["note"] = rows[0]["note"]
    pd.DataFrame(rows).to_csv("my.csv", index=False)
    return tmp_path / "my.csv"


def init(*words, code=0):
    done = CliRunner().invoke(app, ["init", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stderr if code else done.stdout


def test_columns_separator_tail_and_duplicates_are_found(table):
    result = survey(table)
    assert (result.text_column, result.label_column, result.separator) == ("note", "codes", ";")
    assert (result.n_rows, result.without_text, result.without_labels) == (20, 4, 4)
    assert result.duplicates == 1 + 3, "a repeated note, and empty ones"
    assert result.labels == {"calcium": 8, "liver": 8, "blood": 8}
    assert result.labels_a_document == (1.5, 2)
    assert result.english > 0.4
    assert survey(table, separator="").labels["calcium; blood"] == 4
    sentences = " ".join(result.sentences())
    assert "3 different ones, 1.5 a document (2 at most)" in sentences
    assert "looks like English" in sentences


def test_prose_in_another_language_is_told_from_english(tmp_path):
    rows = [{"text": f"Der Patient klagt seit Tagen ueber Schmerzen {row}", "label": str(row % 3)} for row in range(30)]
    pd.DataFrame(rows).to_csv(tmp_path / "de.csv", index=False)
    assert "does not look like English prose (" in " ".join(survey(tmp_path / "de.csv").sentences())


def test_a_comma_within_labels_is_no_separator(tmp_path):
    rows = [
        {"text": f"a note {row}", "label": ["Hernia, left", "Asthma", "Pain, chronic"][row % 3]} for row in range(9)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    assert survey(tmp_path / "t.csv").separator == ""


def test_lists_saved_as_text_are_read_as_records_reads_them(tmp_path):
    cells = ["[\"Crohn's disease\", 'Pain, chronic']", "['Crohn\\'s disease']", "[7, 8]", "[no list; a label"]
    pd.DataFrame({"note": [f"a note {row}" for row in range(4)], "labels": cells}).to_csv(
        tmp_path / "t.csv", index=False
    )
    labels = survey(tmp_path / "t.csv", "note", separator=";").labels
    assert labels == {"Crohn's disease": 2, "Pain, chronic": 1, "7": 1, "8": 1, "[no list": 1, "a label": 1}
    task = readers.load_as_asked("records", str(tmp_path / "t.csv"), "note")
    assert {"Crohn's disease", "Pain, chronic", "7", "8"} <= set(task.space.texts)


def test_a_semicolon_divides_labels_also_where_they_never_recur_apart(tmp_path):
    (tmp_path / "t.csv").write_text("note,codes\n" + "one long note,I50;E83\nanother note,K76\n" * 3)
    assert survey(tmp_path / "t.csv").labels == {"I50": 3, "E83": 3, "K76": 3}


def test_the_folder_is_a_task_and_its_parameters_fit_every_chapter(table):
    shown = init("my.csv")
    assert "ctd run 01 -f my/parameters.yml --out runs/my-01" in shown
    task = readers.load_as_asked("records", "my/documents.jsonl")
    assert sorted(task.space.texts) == ["blood", "calcium", "liver"]
    assert (table.parent / "my" / "labels.txt").read_text().split() == ["calcium", "blood", "liver"]
    values = yaml.safe_load((table.parent / "my" / "parameters.yml").read_text())
    assert (values["n_clusters"], values["cutoff"]) == (2, 3)
    for number in ("01", "02", "08"):
        notebook = notebook_files.find_notebook(number)
        parameters = notebook_files.parameters_of(notebook)
        taken = parameter_files.read(table.parent / "my" / "parameters.yml", parameters)
        plan = runs.plan(notebook, "default", taken)
        assert plan.parameters["source"] == str(table.parent / "my" / "documents.jsonl")
        assert "second_dataset" not in parameters or plan.parameters["second_dataset"] == "none"


def test_json_says_the_same(table):
    output = json.loads(init("my.csv", "--json", "--out", "other"))
    assert output["separator"] == ";"
    assert output["folder"] == "other"
    assert output["commands"][0].startswith("ctd run 01 -f other/parameters.yml")
    for _, name, *words in map(shlex.split, output["commands"]):
        get_command(app).commands[name].make_context(name, words)  # raises for an option that there is not
    assert "--source other/documents.jsonl" in output["commands"][-1]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [(("nowhere.csv",), "there is no file nowhere.csv"), (("my.csv", "--label-column", "x"), "has no column 'x'"),
     (("my.csv", "--out", "."), ". exists and is not written over"), (("my.xlsx",), "a file must end in one of"),
     (("only.csv",), "has no column that could hold labels"), (("bare.csv",), "bare.csv holds no rows")],
)  # fmt: skip
def test_bad_input_is_one_line(words, complaint, table):
    (table.parent / "only.csv").write_text("text\nwords\n")
    (table.parent / "bare.csv").write_text("text,label\n")
    (table.parent / "my.xlsx").write_text("")
    assert complaint in init(*words, code=2).splitlines()[-1]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("colour: red\n", "no notebook takes the parameter colour"), ("- a\n", "must hold lines such as"),
     ("n_document: 9\n", "did you mean n_documents")],
)  # fmt: skip
def test_a_parameter_file_that_cannot_be_right_is_one_line(content, complaint, tmp_path):
    (tmp_path / "p.yml").write_text(content)
    with pytest.raises(ValueError, match=".") as refused:
        parameter_files.read(tmp_path / "p.yml", {})
    assert complaint in str(refused.value)


def test_tables_frames_and_datasets_are_the_same_task(tmp_path, own_cache):
    rows = [{"text": f"note {row}", "labels": ["a", "b"][: 1 + row % 2]} for row in range(40)]
    frame = pd.DataFrame(rows)
    frame.to_parquet(tmp_path / "t.parquet")
    frame.assign(labels=frame["labels"].map(str)).to_csv(tmp_path / "t.csv", index=False)
    dataset = Dataset.from_pandas(frame)
    sources = (frame, dataset, DatasetDict(train=dataset), tmp_path / "t.csv", str(tmp_path / "t.parquet"))
    tasks = [readers.load("records", source=source) for source in sources]
    assert {tuple(task.space.texts) for task in tasks} == {("a", "b")}
    assert len({str(task.documents["test"].to_list()) for task in tasks}) == 1
    assert tasks[3].card.title == "t"


def test_the_worked_example_of_the_book_is_made_ready(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "book" / "_static" / "packages.py"))
    page = (ROOT / "book" / "own_data.md").read_text()
    assert "literalinclude} _static/packages.py" in page
    (command,) = re.findall(r"^ctd (init packages.csv .*)$", page, re.MULTILINE)
    result = CliRunner().invoke(app, shlex.split(command))
    assert result.exit_code == 0, result.output
    assert "texts in 'description'" in result.output
    assert "labels in 'classifiers', several in a cell, divided by ';'" in result.output
    rows = [json.loads(line) for line in (tmp_path / "packages" / "documents.jsonl").read_text().splitlines()]
    assert len(rows) > 100
    assert "Intended Audience :: Developers" in {label for row in rows for label in row["labels"]}
