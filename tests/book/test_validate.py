"""Validation passes for a faithful run and fails, with a clear line, for every way of being unfaithful."""

import json
import os
import shutil
from pathlib import Path

import nbformat
import pytest

from ctd.book import notebook_files, run_folder, runs
from ctd.book.results import Row
from ctd.book.run_folder import RunFolder
from ctd.book.validate import default_tolerance, differences, is_compared, validate, write_golden
from tests.book.test_runs import write_notebook

BODY = (
    """\
import time
from matplotlib import pyplot
from ctd.book.runs import Recorder
run = Recorder.start()
print(n)""",
    """\
figure, axes = pyplot.subplots(figsize=(1, 1))
_ = axes.plot([1, n])
run.figure("line", figure)""",
    """\
run.record("labels", n, "labels")
run.record("recall", 0.3721, "fraction", (0.35, 0.39), interval_over="documents", n=9, k=5)
run.record("norm", 8.0, "L2 norm")
run.record("pace", time.time(), "texts a second")
run.close()""",
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with a run and golden results of it."""
    base = tmp_path_factory.mktemp("project")
    write_notebook(base / "notebooks" / "01_first.ipynb", *BODY)
    old = Path.cwd()
    os.chdir(base)
    try:
        write_golden(runs.run(notebook_files.find_notebook("1")), base / "golden")
    finally:
        os.chdir(old)
    return base


@pytest.fixture
def run(project, tmp_path, monkeypatch):
    """That run in a folder of the test's own, with its golden results beside it."""
    shutil.copytree(project, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return run_folder.RunFolder(tmp_path / "project" / "runs" / "01_first" / "default")


@pytest.fixture
def golden(tmp_path):
    return tmp_path / "project" / "golden"


@pytest.fixture
def again(monkeypatch):
    """Nothing is executed again: for complaints that need no second execution."""
    monkeypatch.setattr("ctd.book.validate.executed_again", lambda run: [])


GONE = {"metric": "gone", "unit": "labels", "arm": "cot", "value": 1, "tolerance": 0}


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_copy(run, change):
    node = notebook_files.read_notebook(run.notebook)
    change([cell for cell in node.cells if cell.cell_type == "code"])
    nbformat.write(node, run.notebook)


def test_a_faithful_run_passes_and_is_left_as_it_was(run, golden):
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    report = validate(run, golden)
    assert report.problems == []
    assert (report.cells, report.numbers) == (1, 3)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_a_corrupted_output_fails(run, golden):
    edit_copy(run, lambda code: code[1].outputs[0].update(text="6\n"))
    (problem,) = validate(run, golden).problems
    assert problem.startswith("cell [2]: Cell outputs differ: mismatch 'stdout'")
    assert r"'6\n' == '5\n'" in problem


def test_an_edited_number_within_the_golden_tolerance_fails(run, golden):
    edit_json(run.path / "results.json", lambda content: content["rows"][1].update(value=0.3731))
    (problem,) = validate(run, golden).problems
    assert problem == (
        "recall@5 is 0.3731 [0.35, 0.39] fraction in results.json; run again, it is 0.3721 [0.35, 0.39] fraction"
    )


def test_a_cell_that_fails_the_second_time_fails(run, golden):
    edit_copy(run, lambda code: code[2].update(source="1 / 0"))
    problems = validate(run, golden).problems
    assert problems[0] == "cell [3]: Cell execution caused an exception: ZeroDivisionError: division by zero"


def test_a_run_that_found_its_question_untestable_passes_unless_its_reason_was_edited(run, golden):
    cells = (
        "from ctd.book import setup\nfrom ctd.book.recorder import Recorder\nrun = Recorder.start()\n"
        "setup.end_where_untestable(run)\nprint(n)\nrun.record('documents', n, 'documents')",
        "from ctd.mechanism.untestable import NotTestable\nraise NotTestable('no text is long enough')",
        "never = run.rows",
    )
    early = runs.run(write_notebook(Path("notebooks") / "02_early.ipynb", *cells))
    assert validate(early, golden).problems == []
    edit_json(early.path / "results.json", lambda content: content["rows"][1].update(value="another"))
    (problem,) = validate(RunFolder(early.path), golden).problems
    assert problem.startswith("not_testable is 'another' reason in results.json; run again, it is 'no text is")


def test_a_stripped_copy_fails(run, golden):
    def strip(code):
        for cell in code:
            cell.update(execution_count=None, outputs=[])

    edit_copy(run, strip)
    report = validate(run, golden)
    assert report.cells == 0
    assert "cell [1] was never executed (no execution count): the copy is stripped" in report.problems
    assert "no cell was compared: no executed cell has printed output" in report.problems


def test_one_cell_that_was_not_executed_fails(run, golden, again):
    edit_copy(run, lambda code: code[3].update(execution_count=None))
    (problem,) = validate(run, golden).problems
    assert problem.startswith("cell [4] was never executed")


def test_executed_cells_without_output_compare_nothing(run, golden, again):
    edit_copy(run, lambda code: code[1].update(outputs=[]))
    assert validate(run, golden).problems == ["no cell was compared: no executed cell has printed output"]


@pytest.mark.parametrize("place", ["cell", "file"])
def test_a_damaged_picture_fails(run, golden, again, place):
    if place == "cell":
        edit_copy(run, lambda code: code[2].outputs[0].data.update({"image/png": "aGVsbG8="}))
        assert validate(run, golden).problems == ["the picture of cell [3] is damaged"]
    else:
        picture = run.path / "figures" / "line.png"
        picture.write_bytes(picture.read_bytes()[:-200])
        assert validate(run, golden).problems == ["line.png is damaged"]


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda golden: golden.pop(1), "recall@5 has no golden result in 01_first.default.json"),
        (lambda golden: golden.append(GONE), "golden gone (arm=cot) is not among the results"),
        (
            lambda golden: golden[1].update(value=0.3822),
            "recall@5 must be 0.3822 within 0.01 (golden), got 0.3721 [0.35, 0.39] fraction",
        ),
        (lambda golden: golden[0].update(value=6), "labels must be 6 within 0 (golden), got 5 labels"),
        (lambda golden: golden[2].update(value=8.5), "norm must be 8.5 within 0.4 (golden), got 8.0 L2 norm"),
    ],
)
def test_golden_results_bind(run, golden, again, edit, complaint):
    edit_json(golden / "01_first.default.json", edit)
    (problem,) = validate(run, golden).problems
    assert problem.startswith(complaint)


def test_golden_results_allow_what_their_tolerance_says(run, golden, again):
    edit_json(golden / "01_first.default.json", lambda golden: golden[1].update(value=0.3819))
    edit_json(golden / "01_first.default.json", lambda golden: golden[2].update(value=8.39))
    assert validate(run, golden).problems == []


def test_a_run_without_golden_results_is_not_bound_by_any(run, golden, again):
    assert validate(run, golden).golden
    (golden / "01_first.default.json").unlink()
    report = validate(run, golden)
    assert (report.golden, report.problems) == (False, [])


def test_golden_results_are_not_made_of_a_run_with_overrides(run, golden, again):
    edit_json(run.path / "manifest.json", lambda manifest: manifest.update(overrides={"n": 6}))
    other = run_folder.RunFolder(run.path)
    assert validate(other, golden).problems == []
    with pytest.raises(ValueError, match="golden results belong to a profile"):
        write_golden(other, golden)


def test_golden_results_of_another_shape_are_refused(run, golden, again):
    for content in ('{"recall": 0.3}', '[{"metric": "recall", "unit": "fraction", "value": 0.3}]', "[5]"):
        (golden / "01_first.default.json").write_text(content)
        with pytest.raises(ValueError, match=r"must be a list of results, each with a value and a tolerance \("):
            validate(run, golden)


def test_golden_results_are_written_without_times_and_keep_stated_tolerances(run, golden):
    path = golden / "01_first.default.json"
    recall = {"metric": "recall", "k": 5, "unit": "fraction", "interval_over": "documents", "value": 0.3721}
    assert json.loads(path.read_text()) == [
        {"metric": "labels", "unit": "labels", "value": 5, "tolerance": 0},
        {**recall, "tolerance": 0.01},
        {"metric": "norm", "unit": "L2 norm", "value": 8.0, "tolerance": 0.4},
    ]
    edit_json(path, lambda golden: golden[1].update(value=0, tolerance=0.002))
    write_golden(run, golden)
    assert json.loads(path.read_text())[1] == {**recall, "tolerance": 0.002}


def test_tolerances_follow_the_kind_of_number():
    def tolerance(value, unit):
        return default_tolerance(Row(metric="a", value=value, unit=unit))

    assert tolerance(3, "labels") == tolerance("bm25", "retriever") == tolerance(None, "fraction") == 0
    assert tolerance(0.9, "fraction") == 0.01
    assert tolerance(-3.1416, "cosine") == 0.157


def rows(*entries):
    how = {"interval_over": "documents", "interval_method": "BCa", "n": 9}
    return [
        Row(metric=metric, value=value, unit=unit, interval=ends, **(how if ends else {}))
        for metric, value, unit, ends in entries
    ]


@pytest.mark.parametrize(
    ("stored", "again", "complaint"),
    [
        (("a", 1.0, "x", None), ("a", 1.0 + 1e-9, "x", None), None),
        (("a", 1.0, "x", None), ("a", 1.0 + 1e-5, "x", None), "a is 1.0 x in results.json; run again"),
        (("a", 1, "x", None), ("a", 2, "x", None), "a is 1 x"),
        (("a", None, "x", None), ("a", 0.0, "x", None), "a is None x"),
        (("a", "b", "x", None), ("a", "c", "x", None), "a is 'b' x"),
        (("a", 1.0, "x", [0, 2]), ("a", 1.0, "x", [0, 3]), "run again, it is 1.0 [0.0, 3.0] x"),
        (("a", 1.0, "seconds", None), ("a", 9.0, "seconds", None), None),
        (("a", 1.0, "MiB", None), ("a", 9.0, "MiB", None), None),
        (("a", 1, "x", None), ("b", 1, "seconds", None), "results.json has a; run again, it is not recorded"),
        (("a", 1, "seconds", None), ("b", 1, "x", None), "run again, b is recorded; results.json lacks it"),
    ],
)
def test_a_second_execution_must_record_the_same(stored, again, complaint):
    problems = differences(rows(stored), rows(again))
    assert [complaint in problem for problem in problems] == ([True] if complaint else [])


@pytest.mark.parametrize(
    ("output", "counts"),
    [
        (nbformat.v4.new_output("stream", text="0.37\n"), True),
        (nbformat.v4.new_output("stream", text="\n"), False),
        (nbformat.v4.new_output("display_data", {"text/markdown": "**5**", "text/plain": "<IPython.core..."}), True),
        (nbformat.v4.new_output("display_data", {"image/png": "x", "text/plain": "<Figure size 1x1>"}), False),
    ],
)
def test_only_printed_output_counts_as_compared(output, counts):
    cell = nbformat.v4.new_code_cell("1", outputs=[output], execution_count=1)
    assert is_compared(cell) is counts
    cell.source = "# NBVAL_IGNORE_OUTPUT\n1"
    assert not is_compared(cell)
    cell.update(source="1", metadata={"tags": ["nbval-skip"]})
    assert not is_compared(cell)
