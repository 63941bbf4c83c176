"""A sweep on a cluster: Ray places the cells, what comes out is that of the serial run, and no cell is there twice."""

import csv
import io
import sys
import tarfile
from dataclasses import replace
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from ctd.book import cluster, kernel, looks, runs
from ctd.cli import app
from tests.book.test_runs import BODY, no_kernel, write_notebook  # noqa: F401 (a fixture)

GRID = "grid: {n: [1, 2, 3], note: [a, b]}"


class LocalRay:
    """As much of Ray as a sweep uses, in this process: tasks run when they are waited for, the newest first."""

    class RayError(Exception):
        pass

    def __init__(self):
        self.exceptions, self.tasks, self.most, self.options_of_tasks = (
            SimpleNamespace(RayError=self.RayError),
            {},
            0,
            [],
        )

    def init(self, address, **_):
        self.address = address

    def shutdown(self):
        self.address = None

    def remote(self, thing):
        return SimpleNamespace(options=lambda **options: self._with(thing, options))

    def _with(self, thing, options):
        if isinstance(thing, type):
            return SimpleNamespace(remote=lambda: _Actor(self, thing()))
        self.options_of_tasks.append(options)
        return SimpleNamespace(remote=lambda *words: self.submit(lambda: thing(*words)))

    def submit(self, call):
        reference = object()
        self.tasks[reference] = call
        return reference

    def wait(self, references, timeout):
        self.most = max(self.most, len(references))
        return references[-1:], references[:-1]

    def get(self, reference):
        return self.tasks.pop(reference)()


class _Actor:
    def __init__(self, ray, inner):
        self.ray, self.inner = ray, inner

    def __getattr__(self, name):
        method = getattr(self.inner, name)
        if name == "add":  # at once, for nobody asks what came of it
            return SimpleNamespace(remote=method)
        return SimpleNamespace(remote=lambda *words: self.ray.submit(lambda: method(*words)))


@pytest.fixture
def ray(monkeypatch):
    library = LocalRay()
    monkeypatch.setitem(sys.modules, "ray", library)
    return library


@pytest.fixture
def sweep(tmp_path, monkeypatch, no_kernel):  # noqa: F811
    """`ctd sweep --on auto` in an empty project; executing a cell starts no kernel."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CTD_DEBUG", raising=False)
    monkeypatch.setenv("CTD_WORKERS", "2")
    write_notebook(tmp_path / "notebooks" / "01_first.ipynb", *BODY)

    def call(text=GRID, *words, code=0, on=("--on", "auto")):
        (tmp_path / "grid.yml").write_text(text)
        done = CliRunner().invoke(app, ["sweep", "01", "grid.yml", *on, *words], catch_exceptions=False)
        assert done.exit_code == code, done.output
        return done

    return call


def values(folder):
    with (folder / "default-grid.csv").open() as file:
        return [(row["cell"], row["metric"], row["value"]) for row in csv.DictReader(file)]


def test_a_cluster_gives_the_table_of_the_serial_run_and_runs_no_cell_again(sweep, ray, no_kernel, tmp_path):  # noqa: F811
    sweep(GRID, "--out", "serial", on=())
    sweep(GRID, "--out", "cluster")
    assert values(tmp_path / "cluster") == values(tmp_path / "serial")
    assert len(no_kernel) == 12
    assert ray.address is None
    assert ray.options_of_tasks == [{"num_cpus": 1, "num_gpus": 0, "max_retries": 2}]
    assert "6 cells" in sweep(GRID, "--out", "cluster").stdout
    assert len(no_kernel) == 12
    manifests = [runs.RunFolder(folder).manifest for folder in sorted((tmp_path / "cluster").glob("default-n=1*"))]
    assert [manifest["parameters"]["note"] for manifest in manifests] == ["a", "b"]
    sweep("grid: {n: [1, 2, 3], note: [a, b, c]}", "--out", "cluster", "--jobs", "2", "--gpus", "0.5")
    assert len(no_kernel) == 15
    assert ray.options_of_tasks[-1]["num_gpus"] == 0.5


def test_no_more_cells_are_handed_out_than_jobs(sweep, ray):
    sweep(GRID, "--jobs", "2")
    assert ray.most == 2


def test_a_cell_that_fails_is_told_and_the_others_go_on(sweep, ray, monkeypatch, tmp_path):
    execute = kernel.execute_notebook

    def fails(notebook, copy, parameters, seed):
        memory = execute(notebook, copy, parameters, seed)
        if parameters.get("n") == 2:
            raise kernel.RunFailed("cell [1] raised")
        return memory

    monkeypatch.setattr(kernel, "execute_notebook", fails)
    error = sweep("grid: {n: [1, 2, 3]}", code=1).stderr
    failed = tmp_path / "runs" / "01_first" / "default-n=2.failed" / "01_first.ipynb"
    assert f"cell [1] raised; see {failed}" in error
    assert failed.is_file()
    assert len(values(tmp_path / "runs" / "01_first")) == 2


def test_a_cell_whose_process_dies_too_often_is_told_and_the_others_go_on(sweep, ray, monkeypatch):
    get = ray.get

    def dies(reference):
        result = get(reference)
        if isinstance(result, tuple) and not dies.died:
            dies.died = True
            raise ray.RayError("the worker died\n unexpectedly")
        return result

    dies.died = False
    monkeypatch.setattr(ray, "get", dies)
    assert "default-n=3: its process died 3 times (the worker died unexpectedly)" in sweep(
        "grid: {n: [1, 2, 3]}", code=1
    ).stderr  # fmt: skip


def test_an_interrupt_leaves_what_is_finished(sweep, ray, monkeypatch, no_kernel):  # noqa: F811
    wait, n_waits = ray.wait, []

    def interrupted(references, timeout):
        n_waits.append(1)
        if timeout and sum(n_waits) > 4:
            raise KeyboardInterrupt
        return wait(references, timeout)

    monkeypatch.setattr(ray, "wait", interrupted)
    errors = sweep("grid: {n: [1, 2, 3]}", code=130).stderr
    assert "2 of 3 cells are finished: the same command goes on" in errors
    assert ray.address is None
    monkeypatch.setattr(ray, "wait", wait)
    sweep("grid: {n: [1, 2, 3]}")
    assert len(no_kernel) == 3


def test_a_node_with_another_ctd_refuses(sweep, ray, monkeypatch):
    portable = cluster._portable
    other = {"ctd_hash": "0", "inputs_hash": "0"}
    monkeypatch.setattr(cluster, "_portable", lambda plan: replace(portable(plan), parts={**plan.parts, **other}))
    assert "not the caller's ctd and inputs: every node needs the same" in sweep("grid: {n: [1]}", code=1).stderr


def test_a_full_disk_of_a_node_is_told_in_one_line(sweep, ray, monkeypatch):
    def full(*_):
        raise OSError("could not write results.json: 0 MiB free")

    monkeypatch.setattr(kernel, "execute_notebook", full)
    error = sweep("grid: {n: [1]}", code=1).stderr
    assert error.startswith("error: 01_first on ")
    assert error.endswith(": could not write results.json: 0 MiB free\n")


def test_looks_of_a_run_that_is_replaced_stay_in_the_log(tmp_path):
    def look(date):
        return looks.pd.DataFrame([("organism", "organism", "09", "a run", 3, 0, date, "c")], columns=looks.COLUMNS)

    plan = SimpleNamespace(folder=tmp_path / "run")
    looks.append(look("2026-01-01"), plan.folder / looks.FILE)
    looks.append(look("2026-02-02"), tmp_path / "node" / looks.FILE)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(tmp_path / "node", ".")
    cluster._kept("a", plan, "", packed.getvalue())
    assert looks.read(plan.folder / looks.FILE)["date"].tolist() == ["2026-01-01", "2026-02-02"]


def test_without_ray_one_line_says_what_to_install(sweep, monkeypatch, no_kernel):  # noqa: F811
    monkeypatch.setitem(sys.modules, "ray", None)
    error = sweep("grid: {n: [1]}", code=2).stderr
    assert "a cluster takes Ray, which is not installed: pip install 'ctd[cluster]'" in error
    assert error.count("\n") == 1
    assert no_kernel == []


def test_an_address_that_does_not_answer_is_one_line(sweep, ray, monkeypatch):
    def refuse(address, **_):
        raise ConnectionError("ray client connection\n timeout")

    monkeypatch.setattr(ray, "init", refuse)
    error = sweep("grid: {n: [1]}", code=2).stderr
    assert "no Ray cluster answers at auto (ray client connection timeout): begin one with `ray start --head`" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("127.0.0.1:1", "refused"),
        ("ray://127.0.0.1:1", "refused"),
        ("cluster", "is auto, HOST:PORT or ray://HOST:PORT"),
    ],
)
def test_an_address_where_nothing_listens_is_refused_at_once(sweep, ray, address, complaint):
    error = sweep("grid: {n: [1]}", code=2, on=("--on", address)).stderr
    assert f"no Ray cluster answers at {address}" in error
    assert complaint in error
    assert error.count("\n") == 1


def test_gpus_are_those_of_a_cluster(sweep):
    assert "got 1 without --on" in sweep("grid: {n: [1]}", "--gpus", "1", code=2, on=()).stderr
