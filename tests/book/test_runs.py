"""A run is refused early, kept whole, not repeated without need, and never lost to a failure."""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from ctd import hardware
from ctd.book import home_folder, kernel, notebook_files, page, progress, provenance, run_folder, runs
from ctd.book.recorder import Recorder
from ctd.book.side_by_side import Outcome

SEED = 'Annotated[int, Field(ge=0, le=1000, description="draws")]'
PARAMETERS = f"""\
from typing import Annotated
from pydantic import Field
from ctd.book.settings import ExistingPath
n: Annotated[int, Field(ge=1, le=100, description="how many")] = 5
note: Annotated[str, Field(description="any text")] = "a=b"
folder: Annotated[ExistingPath, Field(description="your own data")] = ""
seed: {SEED} = 3
"""
BODY = (
    """\
import os, sys, time
from ctd.book.runs import Recorder
run = Recorder.start()
print(n, note, sys.executable, os.environ["PYTHONHASHSEED"], os.environ["TQDM_DISABLE"])""",
    """\
assert n < 50, "too many"
if n == 13:
    time.sleep(60)""",
    """\
run.record("double", 2 * n, "labels")
run.close()""",
)


def write_notebook(path, *cells, parameters=PARAMETERS):
    path.parent.mkdir(exist_ok=True)
    code = [new_code_cell(parameters, metadata={"tags": ["parameters"]}), *map(new_code_cell, cells)]
    nbformat.write(new_notebook(cells=code), path)
    return path


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A folder with a notebook that was run once."""
    base = tmp_path_factory.mktemp("project {braces}")
    write_notebook(base / "notebooks" / "01_first.ipynb", *BODY)
    (base / "notebooks" / "profiles.yml").write_text("default:\nsmoke: {01_first: {n: 2}}\nwrong: {01_first: {m: 2}}\n")
    old = Path.cwd()
    os.chdir(base)
    try:
        runs.run(notebook_files.find_notebook("1"))
    finally:
        os.chdir(old)
    return base


@pytest.fixture
def project(first, tmp_path, monkeypatch):
    """A copy of that folder of the test's own, and the current directory."""
    shutil.copytree(first, tmp_path / "project", copy_function=shutil.copy2)
    monkeypatch.chdir(tmp_path / "project")
    path = tmp_path / "project" / "runs" / "01_first" / "default" / "manifest.json"
    path.write_text(path.read_text().replace(str(first), str(tmp_path / "project")))
    return tmp_path / "project"


@pytest.fixture
def no_kernel(monkeypatch):
    """Executing writes results, and starts nothing."""
    started = []

    def pretend(notebook, copy, parameters, seed):
        started.append(notebook)
        node = notebook_files.read_notebook(notebook)
        for count, cell in enumerate(node.cells, start=1):
            cell.execution_count = count
        nbformat.write(node, copy)
        run = Recorder(copy.parent)
        run.record("double", 2 * parameters.get("n", 5), "labels")
        run.close()
        return 0.0

    monkeypatch.setattr(kernel, "execute_notebook", pretend)
    monkeypatch.setattr("ctd.book.preloaded.start", lambda environment: None)
    return started


@pytest.mark.parametrize(
    ("cpuinfo", "cpu"),
    [
        ("model name\t: a chip\nflags\t\t: sse2 avx2 avx512f avx512_bf16\n", "a chip, avx512_bf16"),
        ("model name\t: a chip\nflags\t\t: sse2 avx2_not\n", "a chip"),
        ("processor\t: 0\n", platform.processor() or platform.machine()),
    ],
)
def test_a_processor_is_named_with_its_best_vector_instructions(monkeypatch, cpuinfo, cpu):
    monkeypatch.setattr(Path, "read_text", lambda _: cpuinfo)
    assert hardware.cpu() == cpu


def test_a_run_says_how_it_was_made(project):
    run = run_folder.find_run("01_first/default")
    assert [(row.metric, row.value) for row in run.rows] == [("double", 10)]
    assert run.frame()["unit"].tolist() == ["labels"]
    manifest = run.manifest
    assert manifest["parameters"] == {"n": 5, "note": "a=b", "folder": "", "seed": 3}
    assert (manifest["profile"], manifest["overrides"], manifest["seed"], manifest["code_cells"]) == (
        "default",
        {},
        3,
        4,
    )
    assert manifest["versions"]["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}")
    assert {"torch", "transformers", "datasets", "faiss-cpu", "sentence-transformers", "papermill"} <= set(
        manifest["versions"]
    )
    assert set(manifest["hardware"]) == {"cpu", "cores", "memory_gib", "cpu_dtype", "gpu"}
    assert manifest["start"].endswith("+00:00")
    assert 0 < manifest["duration_s"] < 60
    assert 10 < manifest["peak_memory_mib"] < 2000
    assert {"commit", "dirty", "ctd_hash", "notebook_hash", "inputs_hash", "key"} <= set(manifest)
    printed = notebook_files.read_notebook(run.notebook).cells[1].outputs[0].text
    assert printed == home_folder.without_home(f"5 a=b {sys.executable} 3 1\n"), (
        "the kernel is this interpreter, whatever is installed for the user"
    )
    assert sorted(os.listdir(run.path)) == ["01_first.ipynb", "manifest.json", "results.json"]


def test_the_copy_names_no_folder_of_this_machine(project):
    text = run_folder.find_run("01_first/default").notebook.read_text()
    assert "input_path" not in text
    assert ".partial" not in text


PRIVATE = (
    """\
from pathlib import Path
from ctd.book.runs import Recorder
run = Recorder.start()
print(Path(folder).read_text(), folder, Path.home())
run.record("letters", len(folder), "letters", method=folder)
run.close()""",
)


def test_a_run_tells_no_secret_and_neither_the_users_folder_nor_the_name_of_the_machine(tmp_path, monkeypatch):
    home, secrets = tmp_path / "home" / "jane doe", {name: f"{name}-s3cr3t" for name in ("HF_TOKEN", "CTD_API_KEY")}
    (home / "data").mkdir(parents=True)
    (home / "data" / "own.txt").write_text("hello")
    for name, value in {"HOME": str(home), **secrets}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(home)
    path = write_notebook(home / "notebooks" / "01_first.ipynb", *PRIVATE)
    (path.parent / "profiles.yml").write_text("default:\n")
    run = runs.run(path, overrides={"folder": "data/own.txt", "note": "~/x"})
    assert notebook_files.read_notebook(run.notebook).cells[2].outputs[0].text == "hello ~/data/own.txt ~\n"
    assert run.rows[0].method == run.manifest["parameters"]["folder"] == "~/data/own.txt"
    assert runs.stale(run) == ""
    text = "".join(file.read_text() for file in run.path.rglob("*") if file.is_file())
    for private in (str(home), platform.node(), *secrets.values()):
        assert private not in text


def test_the_users_folder_is_told_from_what_only_looks_like_it(monkeypatch):
    monkeypatch.setenv("HOME", "/home/jo")
    for text in ("/home/jo/x and /home/jo", "'/home/jo'", '{"a": "/home/jo/b c"}', "see:/home/jo/x"):
        assert "/home/jo" not in home_folder.without_home(text)
    for text in ("/home/jo/x and '/home/jo/y'", '{"a": "/home/jo/b c"}', "see:/home/jo/x"):
        assert home_folder.with_home(home_folder.without_home(text)) == text
    for text in ("/home/joan/x", "/mnt/home/jo/x", "/home/jo.old", "~x", "a~/b"):
        assert home_folder.without_home(text) == home_folder.with_home(text) == text


def test_an_unchanged_notebook_is_not_run_again(project, no_kernel):
    path = notebook_files.find_notebook("01")
    outcome = runs.run(path)
    assert outcome.kept
    assert runs.stale(outcome) == ""
    assert runs.run(path, overrides={"n": 5}).kept, "an override that changes nothing is the same run"
    assert no_kernel == []
    assert not runs.run(path, force=True).kept
    assert len(no_kernel) == 1


def test_what_a_result_depends_on_makes_a_run_stale(project, no_kernel, tmp_path, monkeypatch):
    path, own_file = notebook_files.find_notebook("01"), project / "own.txt"
    own_file.write_text("one")
    run = runs.run(path, overrides={"folder": "own.txt"})
    assert run.manifest["parameters"]["folder"] == str(own_file)
    assert runs.stale(run) == ""
    own_file.write_text("other")
    assert runs.stale(run) == "inputs changed"
    assert not runs.run(path, overrides={"folder": "own.txt"}).kept
    assert run.path == runs.plan(path, overrides={"folder": "own.txt"}).folder, "the same folder"

    default = run_folder.find_run("01_first/default")
    monkeypatch.setattr(runs, "files_digest", lambda *places, without=(): "edited")
    assert runs.stale(default) == "ctd changed"
    monkeypatch.undo()
    monkeypatch.chdir(project)
    write_notebook(path, *BODY, "1")
    assert runs.stale(default) == "notebook changed"
    (project / "notebooks" / "profiles.yml").write_text("default: {01_first: {n: 6}}")
    assert runs.stale(default) == "notebook, parameters changed"
    path.unlink()
    assert "no notebook" in runs.stale(default)


def test_outputs_and_execution_counts_do_not_make_a_notebook_another(project):
    path = notebook_files.find_notebook("01")
    node = notebook_files.read_notebook(path)
    before = provenance.notebook_digest(node)
    node.cells[1].execution_count = 7
    node.cells[1].outputs = [nbformat.v4.new_output("stream", text="hello")]
    assert provenance.notebook_digest(node) == before
    node.cells[1].metadata["tags"] = ["hide-input"]
    assert provenance.notebook_digest(node) != before


def test_compiled_python_and_golden_results_are_no_input(tmp_path):
    (tmp_path / "golden").mkdir()
    (tmp_path / "a.py").write_text("1")
    before = provenance.files_digest(tmp_path, without=[tmp_path / "golden"])
    (tmp_path / "golden" / "x.json").write_text("{}")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("1")
    assert provenance.files_digest(tmp_path, without=[tmp_path / "golden"]) == before
    (tmp_path / "a.py").write_text("2")
    assert provenance.files_digest(tmp_path, without=[tmp_path / "golden"]) != before


def test_values_come_from_cell_then_profile_then_overrides(project):
    path = notebook_files.find_notebook("01_first")
    assert runs.plan(path).parameters["n"] == 5
    smoke = runs.plan(path, "smoke")
    assert (smoke.parameters["n"], smoke.folder) == (2, project / "runs" / "01_first" / "smoke")
    both = runs.plan(path, "smoke", {"n": 9})
    assert both.parameters["n"] == 9
    assert both.folder.name.startswith("smoke-")
    assert len(both.folder.name) == len("smoke-") + 8
    assert both.folder != runs.plan(path, "smoke", {"n": 8}).folder


def test_everything_wrong_is_said_before_anything_runs(project, no_kernel):
    with pytest.raises(ValueError, match="refuses") as caught:
        runs.run(notebook_files.find_notebook("01"), overrides={"n": 0, "sed": 1, "note": 3})
    message = str(caught.value)
    for complaint in (
        "n must be a whole number between 1 and 100, got 0",
        "no parameter sed (did you mean seed?)",
        "note must be text, got 3",
        "What it takes: ctd params 01_first",
    ):
        assert complaint in message
    assert "\n" not in message
    assert no_kernel == []


@pytest.mark.parametrize(
    ("profiles", "profile", "complaint"),
    [
        (None, "wrong", "profile wrong: no parameter m"),
        (None, "smok", r"no profile smok \(did you mean smoke\?\); profiles.yml has: default, smoke, wrong"),
        ("default: {01_frist: {n: 2}}", "default", "no 01_frist.ipynb beside it"),
        ("default: [1]", "default", "must map notebooks"),
        ("- default", "default", "must map profiles"),
        ("default: {01_first: [", "default", "profiles.yml, line 1: not YAML"),
    ],
)
def test_a_bad_profile_is_refused(project, profiles, profile, complaint):
    if profiles:
        (project / "notebooks" / "profiles.yml").write_text(profiles)
    with pytest.raises(ValueError, match=complaint):
        runs.plan(notebook_files.find_notebook("01"), profile)


def test_notebooks_are_found_by_path_stem_and_number(project):
    path = project / "notebooks" / "01_first.ipynb"
    for name in ("1", "01", "01_first", "notebooks/01_first.ipynb", str(path)):
        assert notebook_files.find_notebook(name) == path
    with pytest.raises(FileNotFoundError, match=r"no notebook 01_frist \(did you mean 01_first\?\)"):
        notebook_files.find_notebook("01_frist")
    with pytest.raises(FileNotFoundError, match="no notebook 11"):
        notebook_files.find_notebook("11")
    shutil.copy(path, path.with_name("1_other.ipynb"))
    with pytest.raises(ValueError, match="number of 2 notebooks"):
        notebook_files.find_notebook("1")
    path.write_text("{")
    with pytest.raises(ValueError, match="is not a notebook"):
        runs.plan(path)


def test_runs_are_found_and_half_made_ones_are_not(project):
    base = project / "runs" / "01_first"
    shutil.copytree(base / "default", base / ".default.7.partial")
    (base / "default.failed").mkdir()
    assert [run.name for run in run_folder.all_runs()] == ["01_first/default"]
    assert run_folder.find_run(str(base / "default")).stem == "01_first"
    with pytest.raises(FileNotFoundError, match=r"did you mean 01_first/default\?"):
        run_folder.find_run("01_first/defualt")


def test_a_failing_cell_leaves_the_good_run_and_the_copy_so_far(project):
    path, out = notebook_files.find_notebook("01"), project / "out"
    shutil.move(project / "runs" / "01_first" / "default", out)
    before = (out / "results.json").read_text()
    with pytest.raises(kernel.RunFailed, match=r"01_first: cell \[4\] raised AssertionError: too many; see ") as caught:
        runs.run(path, overrides={"n": 60}, out=out)
    copy = Path(str(caught.value).rpartition("see ")[2])
    assert copy == project / "out.failed" / "01_first.ipynb"
    assert "too many" in copy.read_text()
    assert (out / "results.json").read_text() == before
    assert runs.run(path, out=out).kept
    assert not [name for name in os.listdir(project) if name.endswith(".partial")]


def test_a_slow_cell_a_dead_kernel_and_an_early_exit_are_failures(project, monkeypatch):
    monkeypatch.setattr(kernel, "CELL_TIMEOUT", 2)
    seed = f"from typing import Annotated\nfrom pydantic import Field\nseed: {SEED} = 3"
    for number, cell, complaint in (
        (2, "import time\ntime.sleep(30)", r"cell \[2\] took longer than 2 s"),
        (3, "import os\nos.kill(os.getpid(), 9)", r"the kernel died in cell \[2\]"),
        (4, "import sys\nsys.exit()", "ended early: 1 of 3 code cells"),
    ):
        path = write_notebook(project / "notebooks" / f"0{number}_bad.ipynb", cell, "1", parameters=seed)
        with pytest.raises(kernel.RunFailed, match=complaint):
            runs.run(path)
        assert (project / "runs" / path.stem / "default.failed" / path.name).is_file()


def test_a_question_that_the_texts_cannot_answer_ends_the_chapter_with_the_reason(project):
    begin = "from ctd.book.setup import end_where_untestable\nrun = Recorder.start()\nend_where_untestable(run)"
    cells = (
        f"from ctd.book.recorder import Recorder\n{begin}\nrun.record('documents', 4, 'documents')",
        "from ctd.mechanism.untestable import NotTestable\nprint(7)\nraise NotTestable('no text is long enough')",
        "run.record('slope', 1.0, 'cosine')",
    )
    seed = f"from typing import Annotated\nfrom pydantic import Field\nseed: {SEED} = 3"
    path = write_notebook(project / "notebooks" / "05_none.ipynb", *cells, parameters=seed)
    run = runs.run(path)
    assert [(row.metric, row.value) for row in run.rows] == [
        ("documents", 4), ("not_testable", "no text is long enough"),
    ]  # fmt: skip
    assert page.read_answer(run) == {"sentence": "**Not testable:** no text is long enough.", "figure": None}
    copy = notebook_files.read_notebook(run.notebook)
    *_, stopped, left = copy.cells
    assert [output.output_type for output in stopped.outputs] == ["stream", "display_data"]
    assert stopped.outputs[1].data["text/markdown"].startswith("**Not testable:** no text is long enough.")
    assert (left.execution_count, left.outputs) == (None, [])
    assert "Traceback" not in run.notebook.read_text()
    assert "papermill-error-cell-tag" not in run.notebook.read_text()
    lines = progress.line(Outcome(run.stem, run)).splitlines()
    assert lines[1] == "  not testable: no text is long enough"
    assert runs.run(path).kept


def test_a_notebook_that_records_nothing_fails(project, no_kernel, monkeypatch):
    monkeypatch.setattr(Recorder, "close", lambda self: None)
    with pytest.raises(kernel.RunFailed, match=r"wrote no results\.json"):
        runs.run(notebook_files.find_notebook("01"), force=True)


@pytest.mark.parametrize(
    ("number", "at_interrupts", "reason"),
    [
        (signal.SIGINT, signal.default_int_handler, "interrupted"),
        (signal.SIGTERM, signal.default_int_handler, "ended by SIGTERM"),
        (signal.SIGTERM, signal.SIG_IGN, "ended by SIGTERM"),  # as a shell starts what it puts in the background
    ],
)
def test_an_interrupt_is_one_line_ends_the_kernel_and_keeps_the_good_run(project, number, at_interrupts, reason):
    before = (project / "runs" / "01_first" / "default" / "manifest.json").read_text()
    path = notebook_files.find_notebook("01")
    write_notebook(path, *BODY[:2], "open('kernel.pid', 'w').write(str(os.getpid())); time.sleep(60)", BODY[2])
    ctd = [sys.executable, "-c", "from ctd.cli import app; app()"]
    process = subprocess.Popen(
        [*ctd, "run", "01"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, at_interrupts),
    )
    deadline = time.time() + 120
    while not (written := list((project / "runs" / "01_first").glob(".*/kernel.pid"))) or not written[0].read_text():
        assert time.time() < deadline
        time.sleep(0.05)
    kernel = int(written[0].read_text())
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert errors.splitlines() == [f"error: {reason}: nothing half-made was kept, earlier runs are as they were"]
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)
    assert os.listdir(project / "runs" / "01_first") == ["default"]
    assert (project / "runs" / "01_first" / "default" / "manifest.json").read_text() == before


def test_a_folder_of_something_else_is_never_replaced(project, no_kernel):
    path = notebook_files.find_notebook("01")
    (project / "mine").mkdir()
    (project / "mine" / "thesis.txt").touch()
    for out in ("mine", "mine/thesis.txt", "runs", "runs/01_first", "notebooks"):
        with pytest.raises(ValueError, match="is not a run of 01_first"):
            runs.run(path, out=Path(out))
    assert no_kernel == []
    assert not runs.run(path, out=project / "new" / "folder").kept


def test_a_damaged_run_is_made_again(project, no_kernel):
    folder = project / "runs" / "01_first" / "default"
    for name in ("results.json", "01_first.ipynb", "manifest.json"):
        (folder / name).unlink()
        assert not runs.run(notebook_files.find_notebook("01")).kept
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        _ = run_folder.RunFolder(folder).manifest
    assert not runs.run(notebook_files.find_notebook("01")).kept
    assert json.loads((folder / "manifest.json").read_text())["seed"] == 3


def test_outside_a_repository_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.git_state() == {"commit": "unknown", "dirty": None}
