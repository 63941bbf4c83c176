"""The command line: what it prints, its exit codes, and one line for every error."""

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from ctd.book import kernel
from ctd.book.validate import Report
from ctd.cli import app
from tests.book.test_runs import BODY, SEED, no_kernel, write_notebook  # noqa: F401 (a fixture)


@pytest.fixture
def ctd(tmp_path, monkeypatch, no_kernel):  # noqa: F811
    """The command in a folder with two notebooks; executing them starts no kernel."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CTD_DEBUG", raising=False)
    for name in ("01_first", "02_second"):
        write_notebook(tmp_path / "notebooks" / f"{name}.ipynb", *BODY)
    (tmp_path / "notebooks" / "profiles.yml").write_text("smoke: {01_first: {n: 2}}\ndefault:\n")

    def call(*words, code=0):
        done = CliRunner().invoke(app, words, catch_exceptions=False)
        assert done.exit_code == code, done.output
        return done.stderr if code else done.stdout

    return call


def test_run_keeps_an_unchanged_notebook(ctd, no_kernel):  # noqa: F811
    assert "01_first: done in" in ctd("run", "01")
    assert "01_first: unchanged, kept" in ctd("run", "01")
    assert "01_first: done in" in ctd("run", "01", "--force")
    assert "02_second: done in" in ctd("run", "--all")
    assert len(no_kernel) == 3


def test_run_takes_parameters_as_yaml(ctd, tmp_path):
    ctd("run", "01", "--profile", "smoke", "-p", "n=7", "-p", "note=c=d", "--out", "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["overrides"] == {"n": 7, "note": "c=d"}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("run",), "name the notebooks to run, or give --all"),
        (("run", "01", "--all"), "name the notebooks to run, or give --all"),
        (("run", "01", "02", "--out", "x"), "--out is the folder of one run, and 2 notebooks are to run"),
        (("run", "01_fist"), "no notebook 01_fist (did you mean 01_first?)"),
        (("run", "01", "--profile", "full"), "no profile full; profiles.yml has: smoke, default"),
        (("run", "01", "-p", "n"), "-p takes name=value, got 'n'"),
        (("run", "01", "--out", "notebooks"), "exists and is not a run of 01_first"),
        (("params", "03"), "no notebook 03"),
        (("show", "01_first/default"), "no run 01_first/default; there are: none in runs/"),
        (("compare", "a", "b"), "no run a"),
        (("validate",), "no runs in runs/ to validate"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(ctd, words, complaint):
    output = ctd(*words, code=2)
    assert complaint in output
    assert output.startswith("error: ")
    assert output.count("\n") == 1


def test_a_wrong_parameter_anywhere_stops_every_notebook_before_it_starts(ctd, no_kernel, tmp_path):  # noqa: F811
    write_notebook(tmp_path / "notebooks" / "02_second.ipynb", *BODY, parameters=f"seed: {SEED} = 1")
    output = ctd("run", "--all", "-p", "n=3", code=2)
    assert "02_second.ipynb refuses" in output
    assert "no parameter n" in output
    assert no_kernel == []


def test_debug_shows_the_traceback(ctd, monkeypatch):
    monkeypatch.setenv("CTD_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        ctd("run", "09")


def test_a_failed_notebook_is_exit_code_1(ctd, monkeypatch):
    def fail(notebook, copy, parameters, seed):
        raise kernel.RunFailed("cell [2] raised ValueError: no")

    monkeypatch.setattr(kernel, "execute_notebook", fail)
    assert ctd("run", "01", code=1).startswith("error: 01_first: cell [2] raised ValueError: no; see ")


def test_an_interrupt_is_exit_code_130(ctd, monkeypatch):
    def interrupt(notebook, copy, parameters, seed):
        raise KeyboardInterrupt

    monkeypatch.setattr(kernel, "execute_notebook", interrupt)
    assert ctd("run", "01", code=130).startswith("error: interrupted")
    assert os.listdir("runs/01_first") == []


def test_params_list_show_and_compare(ctd, tmp_path):
    listed = ctd("params", "01")
    assert "how many" in listed
    assert "1 to 100" in listed
    assert "no runs" in ctd("list")
    ctd("run", "01")
    ctd("run", "01", "--profile", "smoke")
    write_notebook(tmp_path / "notebooks" / "01_first.ipynb", *BODY, "1")
    ctd("run", "01")
    assert [line.split()[:2] + line.split()[-2:] for line in ctd("list").splitlines() if "01_first" in line] == [
        ["01_first", "default", "1", "current"],
        ["01_first", "smoke", "notebook", "changed"],
    ]
    shown = ctd("show", "01_first/smoke")
    assert "parameters n" in shown
    assert "4 labels" in shown
    compared = ctd("compare", "01_first/smoke", "01_first/default")
    assert "10 labels" in compared
    assert "+6" in compared
    assert "0 of 1 results are the same" in compared
    assert "1 of 1 results are the same" in ctd("compare", "01_first/smoke", "01_first/smoke")


def test_a_damaged_run_does_not_hide_the_others(ctd, tmp_path):
    ctd("run", "--all")
    (tmp_path / "runs" / "01_first" / "default" / "manifest.json").write_text("{")
    listed = ctd("list")
    assert "damaged" in listed
    assert "current" in listed


def test_validate_fails_when_any_run_does(ctd, monkeypatch):
    ctd("run", "--all")
    problems = {"01_first": ["cell [2]: differs"], "02_second": []}
    monkeypatch.setattr("ctd.book.validate.validate", lambda run: Report(3, 4, True, problems[run.stem]))
    output = ctd("validate", code=1)
    assert "cell [2]: differs" in output
    assert "02_second/default: ok, 3 cells and 4 numbers compared" in ctd("validate", "02_second/default")


def test_golden_results_are_written_for_runs_without_overrides(ctd, tmp_path, monkeypatch):
    monkeypatch.setattr("ctd.book.validate.GOLDEN", tmp_path / "golden")
    ctd("run", "01")
    ctd("run", "01", "-p", "n=9")
    ctd("validate", "--write-golden")
    assert os.listdir(tmp_path / "golden") == ["01_first.default.json"]


def test_the_command_starts_without_the_heavy_libraries():
    code = "import sys, ctd.cli; print(*{'torch', 'papermill', 'nbformat', 'matplotlib', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_json_is_the_same_as_the_tables(ctd):
    ctd("run", "01")
    assert json.loads(ctd("list", "--json"))[0]["notebook"] == "01_first"
    assert {row["parameter"] for row in json.loads(ctd("params", "01", "--json"))} >= {"n", "seed"}
    shown = json.loads(ctd("show", "01_first/default", "--json"))
    assert shown["manifest"]["notebook"].endswith("01_first.ipynb")
    assert json.loads(ctd("compare", "01_first/default", "01_first/default", "--json")) == []
    assert "Nothing differs" in ctd("compare", "01_first/default", "01_first/default", "--html")


def test_every_command_shows_an_example_in_its_help():
    from typer.main import get_command

    for name, command in get_command(app).commands.items():
        assert f"ctd {name}" in (command.epilog or ""), name
