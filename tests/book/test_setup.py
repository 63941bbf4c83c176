"""A notebook begins with checked parameters, and gets what they name."""

import dataclasses
from types import SimpleNamespace

import pytest

from ctd.book import chapters
from ctd.book.recorder import Recorder
from ctd.book.setup import Chapter, start
from ctd.distill.experiment import Plan

VALUES = {
    "dataset": "organism", "teacher": "organism", "encoder": "wordllama", "max_tokens": 60, "n_clusters": 0,
    "topic_depth": 2, "n_documents": 12, "n_top": 4, "seed": 3, "np": None,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CTD_RUN_DIR", str(tmp_path))


def test_a_chapter_has_what_its_parameters_name():
    chapter = start(chapters.CoarseHeads, VALUES)
    assert (chapter.settings.n_top, chapter.settings.n_scored) == (4, chapters.CoarseHeads().n_scored)
    assert len(chapter.task.documents["test"]) == 12
    assert chapter.index.space is chapter.task.space
    assert [prediction.trace.uid for prediction in chapter.predictions] == chapter.task.documents["test"]["uid"]
    assert chapter.run.folder.is_dir()


def test_a_model_that_reasons_by_itself_gets_documents_as_they_are_drawn(monkeypatch):
    def uids(natural, n):
        monkeypatch.setattr(Chapter, "teacher", SimpleNamespace(natural=natural))
        return list(start(chapters.CoarseHeads, VALUES | {"n_documents": n}).task.documents["test"]["uid"])

    few, more = uids(True, 10), uids(True, 15)
    assert more[:10] == few
    assert uids(False, 10) != few
    assert set(uids(False, 10)) == set(few)


def test_a_chapter_that_cannot_be_tested_still_says_how_many_documents_it_read():
    def ended(documents=None, **read):
        chapter = start(chapters.CoarseHeads, VALUES)
        vars(chapter).update(read)
        if documents is not None:
            chapter.run.record("documents", documents, unit="documents")
        chapter.end_untestable("no text is long enough")
        return [(row.metric, row.value) for row in chapter.run.rows]

    task = SimpleNamespace(documents={"test": range(12)})
    assert ended(_task_and_index=(task, None)) == [("documents", 12), ("not_testable", "no text is long enough")]
    assert ended(_task_and_index=(task, None), documents=5)[0] == ("documents", 5), "what was recorded stays"
    assert ended() == [("not_testable", "no text is long enough")], "none was read"


def test_clusters_of_labels_become_the_topics():
    with_tree = start(chapters.CoarseHeads, VALUES).task.space
    clustered = start(chapters.CoarseHeads, VALUES | {"n_clusters": 8}).task.space
    assert len(clustered.ids) == len(with_tree.ids) + 8


def test_a_bad_parameter_is_one_line():
    with pytest.raises(ValueError, match=r"^n_top must be a whole number between 3 and 1000, got 2$"):
        start(chapters.CoarseHeads, VALUES | {"n_top": 2})


def test_a_plan_is_filled_with_every_parameter_that_it_has():
    chapter = start(chapters.Ablations, {"n_steps": 7, "split": "validation", "loss_forms": "mended"})
    plan = dataclasses.asdict(chapter.fill(Plan, n_topics=7))
    assert (plan["n_steps"], plan["split"], plan["ranked_by"], plan["n_topics"]) == (7, "validation", "mass", 7)
    shared = {field.name for field in dataclasses.fields(Plan)} & chapters.Ablations.model_fields.keys()
    assert {name: plan[name] for name in shared} == {name: getattr(chapter.settings, name) for name in shared}
    assert {"layers", "n_traces", "batch_tokens", "learning_rate", "matching", "topic_depth", "n_test"} <= shared


def test_a_task_without_test_documents_is_refused_and_what_was_left_out_is_said(tmp_path, monkeypatch, own_cache):
    lines = []
    monkeypatch.setattr("ctd.book.report.say", lines.append)
    file = tmp_path / "few.jsonl"
    file.write_text('{"text": "a", "labels": ["x"]}\n{"text": "b", "labels": []}\n')
    values = {"dataset": "records", "source": str(file)}
    with pytest.raises(ValueError, match=r"^few has no test documents \(1 to learn from\): give more documents, or a"):
        Chapter(chapters.RetrievalShortlists(**values), Recorder(tmp_path)).read_task()
    assert lines == ["Left out of few: 1 documents without labels."]
