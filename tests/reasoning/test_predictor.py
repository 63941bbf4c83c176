"""Labels for documents: the same ones whether a run was killed or not, and never those of another model or document."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from ctd.cache import ROOT
from ctd.cli import app
from ctd.data import readers
from ctd.data.documents import Document
from ctd.reasoning import predict, predictions_file, teachers
from ctd.reasoning.predictor import Predictor
from ctd.reasoning.teachers import Teacher
from ctd.retrieval import encoders
from ctd.retrieval.index import LabelIndex
from ctd.retrieval.linear import WithoutLanguageModel
from tests.reasoning.test_generate import byte_level, tiny
from tests.retrieval.test_linear import task  # noqa: F401 (a fixture)

TEXTS = ["calcium in the blood", "the left heart", "liver"]


@pytest.fixture
def retrieval(space, encoder, own_cache):
    return Predictor(LabelIndex.build(space, encoder), n_labels=2, n_shortlist=4)


@pytest.fixture
def by_model(retrieval):
    return replace(retrieval, teacher=Teacher(tiny(byte_level()), True, 20, {}, None), max_tokens=16)


def test_retrieval_gives_the_nearest_labels_with_their_cosines(retrieval):
    (labelling,) = retrieval.label(TEXTS[:1])
    scores, labels = retrieval.index.search(TEXTS[:1], 4)
    assert labelling.shortlist == tuple(labels[0])
    assert labelling.labels == tuple(labels[0][:2])
    assert labelling.scores == pytest.approx(np.maximum(scores[0][:2], 0), abs=1e-6)


def test_predict_and_predict_proba_are_matrices_over_the_classes(retrieval):
    predicted, proba = retrieval.predict(TEXTS), retrieval.predict_proba(TEXTS)
    assert predicted.shape == proba.shape == (3, len(retrieval.classes_)) == (3, 7)
    assert predicted.toarray().sum(1).tolist() == [2, 2, 2]
    assert ((proba.toarray() > 0) <= (predicted.toarray() > 0)).all()
    assert proba.max() <= 1
    best = retrieval.classes_[proba.toarray().argmax(1)]
    assert best[1] == "I1", "the text of that label stands in the document"


def test_linear_adds_classifiers_to_the_index(task, encoder, own_cache, monkeypatch):  # noqa: F811
    monkeypatch.setattr(readers, "load", lambda name: task)
    monkeypatch.setattr(encoders, "load", lambda name: encoder)
    predictor = Predictor.load("linear", "organism", n_labels=2, n_shortlist=4)
    texts, ranker = list(task.documents["test"]["text"][:5]), predictor.ranker
    scores, labels = ranker.search(texts, 4)
    for labelling, row, values in zip(predictor.label(texts), labels, scores, strict=True):
        assert labelling.shortlist == tuple(row)
        assert labelling.labels == tuple(row[:2])
        assert labelling.scores == pytest.approx(values[:2] / (1 + ranker.cosine_weight), abs=1e-6)
    assert predictor.predict_proba(texts).max() <= 1
    others = [replace(predictor, ranker=None), replace(predictor, ranker=replace(ranker, cosine_weight=9.0))]
    fewer = WithoutLanguageModel.fit(task.sample("train", 100, 0), predictor.index, (10.0,))
    others.append(replace(predictor, ranker=replace(fewer, cosine_weight=ranker.cosine_weight)))
    assert len({predictor.key, *(other.key for other in others)}) == 4
    assert Predictor.load("linear", "organism", n_labels=2, n_shortlist=4).key == predictor.key


def test_a_models_scores_are_the_probabilities_of_what_it_wrote(by_model, monkeypatch):
    seen, reason = [], predict.reason
    monkeypatch.setattr(predict, "reason", lambda *args, **options: seen.extend(reason(*args, **options)) or seen)
    labellings = by_model.label(TEXTS)
    assert len(seen) == len(TEXTS)
    for labelling, prediction in zip(labellings, seen, strict=True):
        assert labelling.labels == prediction.ranking[:2]
        assert labelling.trace == prediction.trace.text
        assert labelling.scores == pytest.approx(np.exp(prediction.scores[:2]), abs=1e-6)


def test_a_file_goes_on_behind_its_last_whole_line(retrieval, tmp_path, monkeypatch):
    monkeypatch.setattr(predictions_file, "AT_ONCE", 4)
    documents = [Document(str(row), f"{TEXTS[row % 3]} {row}") for row in range(11)]
    assert predictions_file.write(retrieval, documents, tmp_path / "whole.jsonl") == (0, 11)
    whole = (tmp_path / "whole.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    for n_there, torn in ((0, 9), (1, 0), (4, 30), (6, 17), (11, 0)):
        (tmp_path / "torn.jsonl").write_bytes(b"".join(lines[:n_there]) + lines[min(n_there, 10)][:torn])
        assert predictions_file.write(retrieval, documents, tmp_path / "torn.jsonl") == (n_there, 11 - n_there)
        assert (tmp_path / "torn.jsonl").read_bytes() == whole


def test_lines_of_other_documents_or_settings_are_not_mixed(retrieval, tmp_path):
    documents = [Document("a", "calcium"), Document("b", "liver")]
    out = tmp_path / "out.jsonl"
    predictions_file.write(retrieval, documents, out)
    before = out.read_bytes()
    for predictor, changed in (
        (retrieval, [documents[0], Document("b", "the left heart")]),
        (replace(retrieval, n_labels=3), documents),
    ):
        with pytest.raises(ValueError, match="of another document, model or setting"):
            predictions_file.write(predictor, changed, out)
    with pytest.raises(ValueError, match="has 2 lines and there are 1 documents"):
        predictions_file.write(retrieval, documents[:1], out)
    assert out.read_bytes() == before
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="holds something else than predictions"):
        predictions_file.write(retrieval, documents, tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def command(*words, code=0):
    done = CliRunner().invoke(app, ["predict", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stderr if code else done.stdout


def test_the_command_writes_json_lines(tmp_path, own_cache):
    (tmp_path / "labels.txt").write_text("calcium\nleft heart\nliver\n")
    (tmp_path / "notes.csv").write_text("id,note\nn1,calcium of the liver\nn2,left heart\n")
    words = ("retrieval", tmp_path / "notes.csv", "--labels", tmp_path / "labels.txt", "--encoder", "wordllama")
    words += ("--text-column", "note", "--top", "1", "--shortlist", "2")
    first, second = map(json.loads, command(*words).splitlines())
    assert (first["uid"], second["uid"]) == ("n1", "n2")
    assert [label["text"] for label in second["labels"]] == ["left heart"]
    assert second["labels"][0]["score"] == pytest.approx(1, abs=1e-5)
    assert len(second["shortlist"]) == 2
    assert command(*words, "--out", tmp_path / "out.jsonl").endswith("2 documents, 2 of them labelled now\n")
    assert command(*words, "--out", tmp_path / "out.jsonl").endswith("2 documents, 0 of them labelled now\n")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("retrieval", "notes.txt"), "retrieval comes without labels to choose from"),
        (("linear", "notes.txt", "--labels", "notes.txt"), "linear learns from a dataset's documents: give one of"),
        (("organism", "notes.txt"), "organism comes without labels to choose from"),
        (("retrieval", "nowhere.txt"), "there is no file nowhere.txt"),
        (("retrieval", "notes.txt", "--labels", "nowhere.csv"), "there is no file nowhere.csv with labels"),
        (("retrieval", "notes.txt", "--labels", "notes.txt", "--top", "0"), "n_labels must be at least 1, got 0"),
        (("nowhere/model", "notes.txt", "--labels", "notes.txt"), "nowhere/model"),
    ],
)
def test_bad_input_is_one_line(words, complaint, tmp_path, monkeypatch, own_cache):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "notes.txt").write_text("calcium\n")
    assert complaint in command(*words, code=2).splitlines()[-1]


@pytest.mark.slow
def test_a_kill_in_the_middle_of_a_thousand_lines_loses_nothing(tmp_path, own_cache):
    student = tiny(byte_level())
    student.model.config.max_position_embeddings = 256
    student.model.save_pretrained(tmp_path / "student")
    student.tokenizer.save_pretrained(tmp_path / "student")
    (tmp_path / "student" / "manifest.json").write_text('{"recipe": {"document_tokens": 24}}')
    (tmp_path / "labels.txt").write_text("calcium\nleft heart\nliver\n")
    (tmp_path / "in.txt").write_text("".join(f"{TEXTS[row % 3]} number {row}\n" for row in range(1000)))
    assert teachers.load(str(tmp_path / "student")).tuned

    def start(out, cache="cache"):
        words = ["predict", "student", "in.txt", "--labels", "labels.txt", "--encoder", "wordllama"]
        words += ["--max-tokens", "16", "--out", out]
        set_ = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CTD_CACHE": str(tmp_path / cache)}
        return subprocess.Popen(
            [sys.executable, "-m", "ctd.cli", *words], cwd=tmp_path, env=os.environ | set_, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    out, process = tmp_path / "out.jsonl", start("out.jsonl")
    while not (out.exists() and out.stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    n_there = out.read_bytes().count(b"\n")
    assert 0 < n_there < 1000
    output, _ = start("out.jsonl").communicate()
    assert output == f"out.jsonl: 1,000 documents, {1000 - n_there:,} of them labelled now\n"
    start("whole.jsonl", "another").communicate()
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert [json.loads(line)["uid"] for line in out.read_text().splitlines()] == [str(row) for row in range(1000)]
