"""Results are finite, recorded once and written whole; figures are opaque; memory is this process's own."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ctd.book import results
from ctd.book.recorder import Recorder
from ctd.book.results import RESULTS

OVER = {"interval_over": "documents", "n": 80}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("CTD_RUN_DIR", str(tmp_path / "run"))
    return Recorder.start()


def closed(run):
    """The rows that a run wrote."""
    run.close()
    return results.read(run.folder / RESULTS)


def test_results_keep_their_order_and_are_plain_json(run):
    run.record("z", np.float32(0.5), "fraction", (np.float64(0.25), 1), **OVER, k=np.int64(7))
    run.record("a", np.int64(3), "labels", phase=1)
    run.record("none", None, "fraction")
    run.record("best", "bm25", "retriever")
    rows = closed(run)
    assert [(row.metric, row.value, row.interval) for row in rows] == [
        ("z", 0.5, (0.25, 1.0)), ("a", 3, None), ("none", None, None), ("best", "bm25", None),
    ]  # fmt: skip
    assert (rows[0].interval_over, rows[0].interval_method, rows[0].n, rows[0].k) == ("documents", "BCa", 80, 7)
    written = json.loads((run.folder / RESULTS).read_text())
    assert (written["schema"], written["answer"], written["figures"]) == (2, None, [])
    assert written["peak_memory_mib"] > 10


def test_a_metric_at_k_is_the_metric_and_its_k(run):
    run.record("ndcg@5", 0.5, "fraction")
    (row,) = closed(run)
    assert (row.metric, row.k) == ("ndcg", 5)


def test_a_gain_has_a_row_over_documents_and_one_over_seeds_and_one_seed_has_none(run):
    gain = SimpleNamespace(value=0.5, low=0.25, high=0.75, seed_low=-1.0, seed_high=2.0)
    run.record_gain("exact_match", gain, 80, 3, arm="mechanistic", baseline="cot")
    run.record_gain("exact_match", gain, 80, 1, "tokens", arm="fkl", baseline="cot")
    rows = closed(run)
    assert [row.unit for row in rows] == ["fraction", "fraction", "tokens"]
    assert [(row.arm, row.interval, row.interval_over, row.interval_method, row.n) for row in rows] == [
        ("mechanistic", (0.25, 0.75), "documents", "BCa", 80), ("mechanistic", (-1.0, 2.0), "seeds", "Student's t", 3),
        ("fkl", (0.25, 0.75), "documents", "BCa", 80),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "fields", "complaint"),
    [
        (("x", float("inf"), "fraction"), {}, "cannot record 'x': a value must be finite, or None"),
        (("x", np.inf, "fraction"), {}, "finite"),
        (("x", True, "fraction"), {}, "cannot record 'x': a value must be a number, text or None, got True"),
        (("x", [1], "labels"), {}, "number, text or None"),
        (("x", 1, ""), {}, "cannot record 'x': unit: .* at least 1 character"),
        (("", 1, "labels"), {}, "cannot record '': metric: .* at least 1 character"),
        (("x", 0.5, "fraction", (0.6, 0.4)), OVER, "cannot record 'x': interval must be .low, high. in order"),
        (("x", 0.5, "fraction", (0.1, float("nan"))), OVER, "finite"),
        (("x", 0.5, "fraction", (0.1, 0.2, 0.3)), OVER, "at most 2 items"),
        (("x", 0.5, "fraction", (0.1, 0.9)), {}, "cannot record 'x': an interval needs interval_over"),
        (("x", 0.5, "fraction"), {"colour": "red"}, "cannot record 'x': colour: Extra inputs"),
        (("again", 2, "labels"), {"k": 5}, r"again@5 is recorded already; say in what"),
        (("again@5", 2, "labels"), {}, r"again@5 is recorded already"),
    ],
)
def test_a_bad_result_is_refused_in_one_line(run, arguments, fields, complaint):
    run.record("again", 1, "labels", k=5)
    run.record("again", 1, "labels", k=6)
    with pytest.raises(ValueError, match=complaint) as raised:
        run.record(*arguments, **fields)
    assert "\n" not in str(raised.value)


def test_nothing_is_recorded_after_the_end(run):
    run.close()
    with pytest.raises(ValueError, match="closed"):
        run.record("late", 1, "labels")


def test_the_answer_is_a_sentence_with_its_figure(run):
    with pytest.raises(ValueError, match=r"figure must be one that was saved \(none\), got 'line'"):
        run.answer("It holds.", figure="line")
    run.figure("line", Figure(figsize=(2, 1)))
    with pytest.raises(ValueError, match="needs a sentence"):
        run.answer(" ", figure="line")
    run.answer("It holds: 0.5 [0.4, 0.6].", figure="line")
    with pytest.raises(ValueError, match="one answer"):
        run.answer("It does not.", figure="line")
    run.close()
    written = json.loads((run.folder / RESULTS).read_text())
    assert written["answer"] == {"sentence": "It holds: 0.5 [0.4, 0.6].", "figure": "line"}


def test_a_figure_has_an_opaque_white_face(run):
    figure = Figure(figsize=(2, 1), facecolor="none")
    assert run.figure("line", figure) is None
    with Image.open(run.folder / "figures" / "line.png") as image:
        assert image.size == (352, 192)  # two inches by one, a tenth of an inch around them
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
    command = [sys.executable, "-c", "from ctd.book.recorder import peak_memory_mib; print(peak_memory_mib())"]
    ballast = np.ones(400 * 2**20, np.uint8)
    peak = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert peak < ballast.nbytes / 2**20


def test_what_is_not_a_number_is_no_value(run):
    run.record("recall", float("nan"), "fraction", (float("nan"), float("nan")), **OVER)
    (row,) = closed(run)
    assert (row.value, row.interval, row.interval_over, row.n) == (None, None, "documents", 80)


def test_what_rests_on_nothing_has_no_n(run):
    run.record("focus", float("nan"), "cosine", (float("nan"), float("nan")), interval_over="documents", n=0)
    (row,) = closed(run)
    assert (row.value, row.interval, row.n) == (None, None, None)


def test_a_gain_without_ends_over_seeds_is_kept_with_those_over_documents(tmp_path):
    run = Recorder(tmp_path)
    gain = SimpleNamespace(value=0.1, low=0.0, high=0.2, seed_low=float("nan"), seed_high=float("nan"))
    run.record_gain("las", gain, 12, 2, arm="a", baseline="b")
    run.close()
    [row] = results.read(tmp_path / RESULTS)
    assert (row.interval_over, row.n) == ("documents", 12)


def test_an_interval_that_was_forgotten_is_missed(tmp_path):
    run = Recorder(tmp_path)
    with pytest.raises(ValueError, match="interval_over and interval_method are said of an interval"):
        run.record("auroc", 0.5, "probability", interval_over="documents", n=12)
    run.record("auroc", 0.5, "probability", n=12)
    run.close()
    assert results.read(tmp_path / RESULTS)[0].n == 12
