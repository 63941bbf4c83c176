"""Whatever is wrong with what a user gives, the command line says it in one line and leaves with status 2.

The catalogue is in the modules `*_cases`; each case is run in this process, in a folder of its own.
"""

import os
import re
import shlex
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ctd.cli import app
from ctd.data.label_space import LabelSpace
from tests.bad_input import command_cases, data_cases, model_cases, run_cases, word_cases

CASES = [*word_cases.CASES, *run_cases.CASES, *command_cases.CASES, *data_cases.CASES, *model_cases.CASES]
TRACEBACK = re.compile(r"Traceback|File \".*\", line \d")


@pytest.fixture(autouse=True)
def _small_label_spaces(monkeypatch):
    """The large label spaces take seconds to read, and no case comes as far as to need them whole."""
    codes = LabelSpace("icd10cm", ["I50.21", "I10"], ["acute", "high"], 2, np.array([-1, -1], np.int32))
    headings = LabelSpace("mesh", ["D002118", "D006801"], ["Calcium", "Humans"], 2, np.array([-1, -1], np.int32))
    monkeypatch.setattr("ctd.data.readers.icd10cm.label_space", lambda: codes)
    monkeypatch.setattr("ctd.data.readers.mesh.label_space", lambda mtrees=None, descriptors=False: headings)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """What is made once for all cases: a model, and a run."""
    base = tmp_path_factory.mktemp("shared")
    model_cases.write_model(base / "model")
    run_cases.write_run(base / "runs" / "01_first" / "default")
    return base


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_one_clear_line_and_status_2(case, shared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CTD_DEBUG", raising=False)
    monkeypatch.setenv("CTD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("ctd.book.published_runs.FOLDER", tmp_path / "results")
    monkeypatch.setattr("ctd.book.validate.GOLDEN", tmp_path / "golden")
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "shared").symlink_to(shared)
    for name, content in case.files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    before = _files(tmp_path)
    done = CliRunner().invoke(app, shlex.split(case.words.replace("{out}", "out")))
    lines = [line for line in re.split(r"[\r\n]+", done.stderr) if line.strip()]
    assert done.exit_code == 2, done.output
    assert not TRACEBACK.search(done.output)
    assert lines[-1].startswith("error: ")
    assert sum(line.startswith("error: ") for line in lines) == 1
    for pattern in case.says:
        assert re.search(pattern, lines[-1]), lines[-1]
    assert len(lines[-1]) < 900
    assert not os.path.lexists("out")
    assert {name: content for name, content in _files(tmp_path).items() if name in before} == before, "files were lost"


def _files(folder):
    names = [path for path in folder.rglob("*") if path.is_file() and "cache" not in path.relative_to(folder).parts]
    return {str(path): path.read_bytes() for path in names}


def test_there_are_at_least_120_cases_and_each_has_a_name_of_its_own():
    assert [name for name, count in Counter(case.name for case in CASES).items() if count > 1] == []
    assert len(CASES) >= 120


def test_an_unforeseen_error_is_one_line_and_its_traceback_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("CTD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CTD_DEBUG", raising=False)

    def stumble(name):
        raise KeyError("nobody thought of it")

    monkeypatch.setattr("ctd.book.run_folder.find_run", stumble)
    done = CliRunner().invoke(app, ["show", "x"])
    assert done.exit_code == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "error: unforeseen (KeyError: 'nobody thought of it'). This is our fault: report it with the"
    )
    (report,) = (tmp_path / "cache" / "errors").iterdir()
    assert line.endswith(report.name)
    assert "in stumble" in report.read_text()
    monkeypatch.setenv("CTD_DEBUG", "1")
    with pytest.raises(KeyError):
        CliRunner().invoke(app, ["show", "x"], catch_exceptions=False)


def test_where_the_traceback_cannot_be_kept_the_line_says_how_to_see_it(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CTD_CACHE", str(tmp_path / "file"))
    monkeypatch.delenv("CTD_DEBUG", raising=False)
    monkeypatch.setattr("ctd.book.run_folder.find_run", lambda name: {}["x"])
    done = CliRunner().invoke(app, ["show", "x"])
    assert done.exit_code == 3
    assert "CTD_DEBUG=1" in done.stderr
    assert done.stderr.count("\n") == 1
