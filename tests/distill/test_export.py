"""`ctd distill`: a folder that every notebook takes as a teacher, whatever the student began as."""

import json
import os
import re
import subprocess
import sys

import huggingface_hub
import pandas as pd
import pytest
import torch
import transformers
from typer.testing import CliRunner

from ctd.cache import ROOT, cache_dir
from ctd.cli import app
from ctd.data import readers
from ctd.distill import methods
from ctd.reasoning import models, teachers
from ctd.reasoning.predictor import Predictor

SHORT = ("--traces", "6", "--steps", "2", "--max-tokens", "200", "--test", "4")


def distill(*words, code=0):
    done = CliRunner().invoke(app, ["distill", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stderr if code else done.stdout


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    out = tmp_path_factory.mktemp("students") / "five"
    assert "2 steps, loss" in distill("organism", out, "--layers", 5, *SHORT)
    return out


def test_the_folder_is_a_model_and_a_teacher(student):
    plain = transformers.AutoModelForCausalLM.from_pretrained(student)
    assert plain.config.num_hidden_layers == 5
    teacher = teachers.load(str(student))
    assert teacher.tuned
    assert teacher.document_tokens == teachers.load("organism").document_tokens
    manifest = json.loads((student / "manifest.json").read_text())
    assert manifest["parameters"] == plain.num_parameters()
    log = pd.read_csv(student / "loss.csv")
    assert manifest["steps"] == len(log) == 2
    assert manifest["tokens"] == log["tokens"].sum()
    begun = models.load("organism", dtype="float32").model.get_decoder().layers[0].mlp.up_proj.weight
    assert not torch.equal(plain.float().get_decoder().layers[0].mlp.up_proj.weight, begun)


def test_the_folder_has_a_model_card_that_the_hub_reads(student):
    card = huggingface_hub.ModelCard.load(student / "README.md")
    assert card.data.library_name == "transformers"
    assert {result.metric_type for result in card.data.eval_results} == {
        "exact_match", "ndcg@5", "shortlist_recall", "token_probability"
    }  # fmt: skip
    manifest = json.loads((student / "manifest.json").read_text())
    measured = manifest["measured"]["student"]["ndcg@5"]
    assert f"| nDCG@5 | {manifest['measured']['teacher']['ndcg@5']['value']:.3f} [" in card.text
    assert f"| {measured['value']:.3f} [{measured['low']:.3f}, {measured['high']:.3f}] |" in card.text
    for part in ("`organism`", "## Data", "## Limits", "**generated**", "| method | mechanistic |", "4 documents"):
        assert part in card.text
    assert "None" not in card.content


def test_the_folder_brings_the_labels_and_says_how_it_is_asked(student):
    predictor = Predictor.load(str(student), max_tokens=48)
    assert predictor.space.texts == readers.load("organism").space.texts
    assert predictor.asked == "trace"
    assert predictor.index.encoder.name == "wordllama"
    assert predictor.predict(["A note about asthma."]).shape == (1, len(predictor.space))


def test_another_student_goes_on_from_it(student, tmp_path):
    distill("organism", tmp_path / "more", "--student", student, "--method", "cot", *SHORT)
    more = pd.read_csv(tmp_path / "more" / "loss.csv")
    first = pd.read_csv(student / "loss.csv")
    assert json.loads((tmp_path / "more" / "config.json").read_text())["num_hidden_layers"] == 5
    assert more["loss"][0] < first["loss"][0], "without the terms, and two steps on"


def test_a_student_of_its_own_width(tmp_path):
    distill("organism", tmp_path / "narrow", "--layers", 2, "--student-heads", 3, "--heads", 2, *SHORT)
    settings = json.loads((tmp_path / "narrow" / "config.json").read_text())
    assert (settings["num_hidden_layers"], settings["num_attention_heads"]) == (2, 3)


def test_a_teacher_read_in_every_step_teaches_the_same(student, tmp_path):
    cached = set(cache_dir("signals").iterdir())
    distill("organism", tmp_path / "live", "--layers", 5, "--heads", 3, "--live", *SHORT)
    assert set(cache_dir("signals").iterdir()) == cached
    distill("organism", tmp_path / "stored", "--layers", 5, "--heads", 3, *SHORT)
    live, stored = (pd.read_csv(tmp_path / name / "loss.csv")["loss"].tolist() for name in ("live", "stored"))
    assert live == pytest.approx(stored, rel=1e-3)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--student", "smollm2"), "student 'smollm2' has another tokenizer than its teacher"),
        (("--layers", "9"), "layers must be between 1 and 6"),
        (
            ("--method", "rkl", "--base-loss", "fkl"),
            "base_loss is what the mechanistic terms are added to, and rkl has none",
        ),
        (("--anneal-fraction", "2"), "anneal_fraction must be between 0 and 1, got 2.0"),
        (("--steps", "0"), "n_steps must be at least 1, got 0"),
        (("--dataset", "xmc"), "dataset 'xmc' needs a source (source=PATH)"),
        (("--heads", "40"), "k must be between 1 and 36"),
        (("--heads", "0"), "no heads were planted in organism"),
    ],
)
def test_bad_input_is_one_line_and_makes_nothing(words, complaint, tmp_path):
    output = distill("organism", tmp_path / "out", *SHORT, *words, code=2)
    assert complaint in output
    assert output.strip().splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_options_by_their_old_names_are_taken_with_a_warning(tmp_path):
    words = ("organism", tmp_path / "out", "--teaching", "mechanistic", "--words", "fkl", "--fade", "2", *SHORT)
    *warnings, error = distill(*words, code=2).strip().splitlines()
    assert error == "error: anneal_fraction must be between 0 and 1, got 2.0"
    assert [line.partition(";")[0] for line in warnings] == [
        "warning: --teaching is now --method", "warning: --words is now --base-loss",
        "warning: --fade is now --anneal-fraction",
    ]  # fmt: skip
    assert "--teaching" not in distill("--help")


def test_methods_are_listed_with_what_they_need_and_cost():
    listed = CliRunner().invoke(app, ["methods"], catch_exceptions=False).stdout
    rows = [re.split(r"\s{2,}", line.strip()) for line in listed.splitlines()]
    named = {row[0]: row for row in rows if row[0] in methods.METHODS}
    assert list(named) == list(methods.METHODS)
    (without,) = [row for row in rows if row[0] == "retrieval"]
    assert "arXiv:1609.02521" in " ".join(without)
    for name, method in methods.METHODS.items():
        assert method.source in " ".join(named[name]), name
        assert method.summary, name


def test_a_folder_that_is_there_is_left_alone(student):
    before = (student / "model.safetensors").read_bytes()
    assert "exists and is not written over" in distill("organism", student, *SHORT, code=2)
    assert (student / "model.safetensors").read_bytes() == before


def test_two_processes_teach_the_same_student(student, tmp_path):
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ctd.cli", "distill"]
    command += ["organism", str(tmp_path / "two"), "--layers", "5", *SHORT]
    set_ = {"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=os.environ | set_)
    assert done.returncode == 0, done.stderr[-2000:]
    alone, together = (pd.read_csv(folder / "loss.csv") for folder in (student, tmp_path / "two"))
    assert together["loss"].tolist() == pytest.approx(alone["loss"].tolist(), rel=0.02)
    first, second = (
        transformers.AutoModelForCausalLM.from_pretrained(path).float() for path in (student, tmp_path / "two")
    )
    apart = [(a - b).abs().max() for a, b in zip(first.parameters(), second.parameters(), strict=True)]
    assert max(apart) < 0.01
