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
    said = CliRunner().invoke(app, ["plan", "04"], catch_exceptions=False).stdout
    assert "200 texts written" in said
    assert "memory: about" in said
    found = json.loads(CliRunner().invoke(app, ["plan", "04", "--json"], catch_exceptions=False).stdout)
    assert found["parts"][0]["tokens"] == 20_000
    assert "no model writes" in CliRunner().invoke(app, ["plan", "01"], catch_exceptions=False).stdout
