"""What a run will cost is told from what writing cost on this machine, with its spread, and scales with the work."""

import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from ctd import workers
from ctd.book import chapters, estimates, notebook_files, runs
from ctd.cache import cache_dir
from ctd.cli import app
from ctd.reasoning import costs
from ctd.reasoning.models import LanguageModel


def write(parameters, tokens, seconds, texts=10):
    model = LanguageModel("m", SimpleNamespace(num_parameters=lambda: parameters), None, f"key {parameters}")
    costs.record(model, texts, tokens, seconds)


@pytest.fixture
def plan_of(own_cache, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(estimates, "n_parameters", lambda name: 2_000_000)

    def plan(number, **overrides):
        return runs.plan(notebook_files.find_notebook(number), "default", overrides)

    return plan


def test_recordings_are_kept_and_a_torn_line_is_not_read(own_cache):
    write(2_000_000, 1000, 10.0)
    write(2_000_000, 10, 10.0)
    with open(costs._file(), "a") as file:
        file.write('{"model": "x", "para')
    assert [(cost.tokens, cost.seconds) for cost in costs.recorded()] == [(1000, 10.0)]


def test_the_same_model_counts_before_others_and_others_in_proportion(own_cache):
    assert costs.seconds_a_token(costs.recorded(), 2_000_000) is None
    write(4_000_000, 1000, 40.0)
    assert costs.seconds_a_token(costs.recorded(), 2_000_000).middle == pytest.approx(0.02)
    for seconds in (10.0, 11.0, 30.0):
        write(2_000_000, 1000, seconds)
    spread = costs.seconds_a_token(costs.recorded(), 2_000_000)
    assert (spread.middle, spread.n) == (pytest.approx(0.011), 3)
    assert spread.low < spread.middle < spread.high
    assert costs.tokens_a_text(costs.recorded(), 2_000_000).middle == 100


def test_minutes_follow_documents_and_recordings(plan_of):
    write(2_000_000, 1000, 10.0)
    (part,) = estimates.estimate(plan_of("04")).parts
    assert (part.tokens, part.minutes[1]) == (200 * 100, pytest.approx(200 * 100 * 0.01 / 60))
    (more,) = estimates.estimate(plan_of("04", n_documents=400)).parts
    assert more.tokens == 2 * part.tokens
    _, training = estimates.estimate(plan_of("10")).parts
    assert "matrix products" in training.source
    for number, seconds in enumerate((1.0, 2.0, 3.0)):
        folder = cache_dir("students") / str(number)
        folder.mkdir()
        (folder / "outcome.json").write_text(json.dumps({"plan": {"layers": 3}, "tokens": 1000, "seconds": seconds}))
    _, training = estimates.estimate(plan_of("10")).parts
    assert "3 students of as many layers taught here" in training.source
    assert training.minutes[1] == pytest.approx(training.tokens * 0.002 / 60 / workers.available())
    assert estimates.estimate(plan_of("01")).parts == []


def test_without_recordings_the_machines_speed_is_used_and_the_bound_of_the_length(plan_of):
    (part,) = estimates.estimate(plan_of("04", max_tokens=100)).parts
    assert part.tokens == 200 * 100
    assert "matrix products" in part.source
    assert part.minutes[0] < part.minutes[1] < part.minutes[2]


def test_every_chapter_that_a_teacher_writes_in_can_be_estimated(plan_of):
    write(2_000_000, 1000, 10.0)
    for stem in chapters.NEEDS:
        plan = plan_of(stem)
        assert bool(estimates.estimate(plan).parts) == ("teacher" in plan.parameters), stem


def test_the_size_of_a_model_is_read_from_its_files(tmp_path):
    from ctd.reasoning import models

    assert estimates.n_parameters("organism") == models.load("organism").model.num_parameters()
    with pytest.raises(FileNotFoundError, match="the model 'nowhere' is not on this machine"):
        estimates.n_parameters("nowhere")


def test_the_command_says_it_in_words_and_in_json(plan_of):
    write(2_000_000, 1000, 10.0)
    output = CliRunner().invoke(app, ["plan", "04"], catch_exceptions=False).stdout
    assert "200 texts written" in output
    assert "memory: about" in output
    estimate = json.loads(CliRunner().invoke(app, ["plan", "04", "--json"], catch_exceptions=False).stdout)
    assert estimate["parts"][0]["tokens"] == 20_000
    assert "no model writes" in CliRunner().invoke(app, ["plan", "01"], catch_exceptions=False).stdout


def test_gpu_hours_are_operations_over_speed_times_what_writing_took_beyond_them_here(plan_of):
    write(2_000_000, 1000, 10.0)
    assert estimates.estimate(plan_of("04")).gpu_hours[1] == pytest.approx(
        estimates.OVERHEAD * 2 * 2e6 * 200 * 100 / 989e12 / 3600
    )
    speed = estimates._gflops("writing") * 1e9 * workers.available()
    write(200_000_000, 1000, 30 * 1000 * 2 * 2e8 / speed)
    low, middle, high = estimates.estimate(plan_of("04")).gpu_hours
    assert middle == pytest.approx(30 * 2 * 2e6 * 200 * 100 / 989e12 / 3600, rel=1e-3)
    assert (low, high) == (pytest.approx(middle / 3), pytest.approx(3 * middle))


def test_a_student_of_a_known_teacher_has_its_share_of_the_layers(plan_of, monkeypatch):
    name, (size, layers, outside) = next(iter(estimates.KNOWN.items()))
    assert size == 70_553_706_496
    assert outside == 2 * 128_256 * 8192 + 8192
    a_layer = 2 * 8192**2 + 2 * 8192 * 1024 + 3 * 8192 * 28_672 + 2 * 8192
    assert estimates._student_size(name, size, 6) == outside + 6 * a_layer
    assert size == outside + layers * a_layer
    assert estimates._student_size("organism", 2_000_000, 3) == 2_000_000


def test_the_whole_of_the_profile_paper_is_estimated_without_its_teacher(own_cache):
    done = CliRunner().invoke(app, ["plan", "--profile", "paper"], catch_exceptions=False)
    assert "an estimate for a GPU that was not measured" in done.stdout
    planned = json.loads(
        CliRunner().invoke(app, ["plan", "--profile", "paper", "--json"], catch_exceptions=False).stdout
    )
    assert "01_retrieval_shortlists" not in planned
    taught = planned["09_standard_distillation"]["parts"][1]
    assert taught["tokens"] == 4 * 3 * 4000 * 8192
    assert taught["gpu_hours"][1] == pytest.approx(8 * 6 * taught["tokens"] * 7.235e9 / 989e12 / 3600, rel=1e-3)
    total = next(line for line in done.stdout.splitlines() if "together" in line)
    tokens = sum(part["tokens"] for estimate in planned.values() for part in estimate["parts"])
    assert f"{tokens:,}" in total
    assert "name it" in CliRunner().invoke(app, ["plan", "-p", "n_documents=5"]).stderr
