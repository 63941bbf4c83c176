"""Students for one's own use that answer as their method has it: `ctd distill`, then `ctd predict`."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from ctd.cli import app
from ctd.data import readers
from ctd.distill import student_predictor, teach
from ctd.distill.methods.answering import AnsweringStudent, load_experts
from ctd.distill.methods.lorid import KNOWLEDGE, REASONING, agreeing
from ctd.distill.methods.planning import best_of_plans
from ctd.reasoning import teachers
from ctd.reasoning.predictor import Predictor

MAX_TOKENS = 120


def call(*words):
    done = CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def distilled(out, *words):
    short = ("--traces", 6, "--steps", 6, "--max-tokens", MAX_TOKENS, "--test", 2)
    call("distill", "organism", out, *words, *short)
    return out


@pytest.fixture(scope="module")
def documents():
    return readers.load("organism").documents["test"]["text"][:3]


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    return distilled(tmp_path_factory.mktemp("students") / "experts", "--method", "lorid")


def as_student(folder, documents, index):
    """What answers these documents, put together by hand."""
    teacher = teachers.load(str(folder))
    others = load_experts(folder / teach.EXPERTS, teacher)
    return AnsweringStudent(teacher, documents, index, max_tokens=MAX_TOKENS, experts=others)


def rankings(labellings):
    return [labelling.labels for labelling in labellings]


def test_three_experts_are_kept_and_answer_as_lorid_has_it(experts, documents, tmp_path):
    assert {home.name for home in (experts / teach.EXPERTS).iterdir()} == {KNOWLEDGE, REASONING}
    source, out = tmp_path / "notes.jsonl", tmp_path / "labels.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    call("predict", experts, source, "--out", out, "--max-tokens", MAX_TOKENS)
    predictor = student_predictor.load(str(experts), max_tokens=MAX_TOKENS)
    texts = [json.loads(line)["trace"] for line in out.read_text().splitlines()]
    assert texts == [labelling.trace for labelling in predictor.label(documents)]
    alone = [agreeing(as_student(experts, [document], predictor.index))[0] for document in documents]
    assert texts == [answer.trace.text for answer in alone]
    card = (experts / "README.md").read_text()
    assert "student_predictor.load" in card
    assert "| method | lorid |" in card


def test_other_experts_are_another_key(experts, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(experts, other)
    before = student_predictor.load(str(other)).key
    assert before == student_predictor.load(str(experts)).key
    for name, source in ((KNOWLEDGE, REASONING), (REASONING, KNOWLEDGE)):
        shutil.copytree(experts / teach.EXPERTS / source, other / teach.EXPERTS / name, dirs_exist_ok=True)
    assert student_predictor.load(str(other)).key != before


def test_plans_are_written_as_taught_and_neighbours_change_nothing(documents, tmp_path):
    student = distilled(tmp_path / "plans", "--method", "plans", "--set", "n_plans=3")
    predictor = student_predictor.load(str(student), max_tokens=MAX_TOKENS)
    alone = [best_of_plans(as_student(student, [document], predictor.index), 3)[0] for document in documents]
    together = predictor.label(documents)
    assert [labelling.trace for labelling in together] == [answer.trace.text for answer in alone]
    assert rankings(predictor.label(documents[1:])) == rankings(together[1:])


def test_another_mode_or_method_writes_one_plain_text(experts, documents, tmp_path):
    assert student_predictor.load(str(experts), mode="answer").own_way is None
    unknown = tmp_path / "unknown"
    shutil.copytree(experts, unknown)
    manifest = json.loads((unknown / "manifest.json").read_text())
    manifest["arm"]["method"] = "mine"
    (unknown / "manifest.json").write_text(json.dumps(manifest))
    predictor = student_predictor.load(str(unknown), max_tokens=MAX_TOKENS)
    plain = Predictor.load(str(unknown), max_tokens=MAX_TOKENS)
    assert predictor.own_way is None
    assert predictor.label(documents) == plain.label(documents)
    assert student_predictor.load("retrieval", "organism", "wordllama").own_way is None
