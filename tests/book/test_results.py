"""Results are finite, named once and written whole; figures are opaque; memory is this process's own."""

import json
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ctd.book.results import RESULTS, Recorder


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("CTD_RUN_DIR", str(tmp_path / "run"))
    return Recorder.start()


def test_results_keep_their_order_and_are_plain_json(run):
    run.record("z", np.float32(0.5), "fraction", (np.float64(0.25), 1))
    run.record("a", np.int64(3), "labels")
    run.record("none", None, "fraction")
    run.record("best", "bm25", "retriever")
    run.close()
    written = json.loads((run.folder / "results.json").read_text())
    assert [(r["name"], r["value"], r["interval"]) for r in written["results"]] == [
        ("z", 0.5, [0.25, 1.0]), ("a", 3, None), ("none", None, None), ("best", "bm25", None),
    ]  # fmt: skip
    assert written["peak_memory_mib"] > 10


def test_an_interval_over_seeds_is_a_result_of_its_own_and_one_seed_has_none(run):
    run.record("gain", 0.5, "fraction", (0.25, 0.75), (-1.0, 2.0))
    run.record("one seed", 0.5, "fraction", (0.25, 0.75), (float("nan"), float("nan")))
    run.close()
    written = json.loads((run.folder / "results.json").read_text())["results"]
    assert [(r["name"], r["value"], r["interval"]) for r in written] == [
        ("gain", 0.5, [0.25, 0.75]), ("gain, over seeds", 0.5, [-1.0, 2.0]), ("one seed", 0.5, [0.25, 0.75]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("x", float("inf"), "fraction"), "finite"),
        (("x", np.inf, "fraction"), "finite"),
        (("x", True, "fraction"), "number, text or None"),
        (("x", [1], "labels"), "number, text or None"),
        (("x", 1, ""), "a name and a unit"),
        (("", 1, "labels"), "a name and a unit"),
        (("x", 0.5, "fraction", (0.6, 0.4)), "in order"),
        (("x", 0.5, "fraction", (0.1, float("nan"))), "finite"),
        (("x", 0.5, "fraction", (0.1, 0.2, 0.3)), "low, high"),
        (("x", 0.5, "fraction", (0.1, 0.9), (0.6, 0.4)), "'x, over seeds' must be finite"),
        (("again", 2, "labels"), "recorded already"),
    ],
)
def test_a_bad_result_is_refused(run, arguments, complaint):
    run.record("again", 1, "labels")
    with pytest.raises(ValueError, match=complaint):
        run.record(*arguments)


def test_nothing_is_recorded_after_the_end(run):
    run.close()
    with pytest.raises(ValueError, match="closed"):
        run.record("late", 1, "labels")


def test_a_figure_has_an_opaque_white_face(run):
    figure = Figure(figsize=(2, 1), facecolor="none")
    assert run.figure("line", figure) is None
    with Image.open(run.folder / "figures" / "line.png") as image:
        assert image.size == (320, 160)
        assert image.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)
    for name in ("line", "../line", ""):
        with pytest.raises(ValueError, match="figure's name"):
            run.figure(name, figure)


def test_a_seed_fixes_python_numpy_and_torch(run):
    import random

    import torch

    draws = []
    for _ in range(2):
        Recorder.start(seed=7)
        draws.append((random.random(), np.random.rand(), torch.rand(()).item()))  # noqa: NPY002
    assert draws[0] == draws[1]


def test_without_a_runner_the_folder_is_interactive(tmp_path, monkeypatch):
    monkeypatch.delenv("CTD_RUN_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    assert Recorder.start().folder == tmp_path / "runs" / "interactive"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux passes the parent's peak on to its children")
def test_peak_memory_does_not_count_the_parent():
    asked = [sys.executable, "-c", "from ctd.book.results import peak_memory_mib; print(peak_memory_mib())"]
    ballast = np.ones(400 * 2**20, np.uint8)
    peak = float(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    assert peak < ballast.nbytes / 2**20


def test_what_is_not_a_number_is_no_value(tmp_path, monkeypatch):
    monkeypatch.setenv("CTD_RUN_DIR", str(tmp_path))
    run = Recorder.start()
    run.record("recall", float("nan"), "fraction", (float("nan"), float("nan")))
    run.close()
    [result] = json.loads((tmp_path / RESULTS).read_text())["results"]
    assert result == {"name": "recall", "value": None, "unit": "fraction", "interval": None}
