"""What an experiment prepares, and which plans may share it."""

import copy
from dataclasses import replace

import pytest

from ctd.distill import prepare as module
from ctd.distill.prepare import prepare
from ctd.mechanism.untestable import NotTestable
from tests.distill.conftest import PLAN


def test_documents_to_learn_from_and_to_answer_are_others(experiment):
    assert not {trace.document for trace in experiment.traces} & set(experiment.test_documents)
    assert len(experiment.test_documents) == experiment.gold.shape[0] == 4


def test_fewer_traces_than_were_asked_for_are_said_to_be_fewer(experiment):
    assert experiment.description == "6 traces"
    there = len(experiment.task.documents["train"])
    more = replace(experiment, plan=replace(PLAN, n_traces=there + 1), left_out={"no CoT": there - 6})
    assert more.description == (
        f"6 traces ({there + 1:,} asked for; the task has {there:,} training documents; {there - 6:,} left out: no CoT)"
    )


def test_students_are_trained_in_their_teachers_precision(experiment):
    assert not experiment.mixed, "an organism's students are trained in single precision"
    half = copy.deepcopy(experiment.language_model.model).bfloat16()
    teacher = replace(experiment.teacher, language_model=replace(experiment.language_model, model=half))
    assert replace(experiment, teacher=teacher).mixed


def test_heads_are_the_teachers_highest_or_those_planted(experiment):
    chosen = experiment.teacher_heads
    assert [len(heads) for heads in chosen.values()] == [4, 4]
    planted = replace(experiment, plan=replace(PLAN, n_heads=0))
    with pytest.raises(ValueError, match="no heads were planted in organism"):
        _ = planted.teacher_heads


def test_a_plan_may_change_what_is_trained_but_not_its_data(experiment):
    changed = experiment.with_plan(n_heads=2, n_steps=9)
    assert (changed.plan.n_heads, changed.plan.n_steps, changed.plan.n_traces) == (2, 9, PLAN.n_traces)
    assert changed.annotated_traces is experiment.annotated_traces
    for name, value in (("n_traces", 3), ("split", "validation"), ("n_test", 2), ("topic_depth", 1), ("max_tokens", 9)):
        with pytest.raises(ValueError, match=f"{name} would change the data"):
            experiment.with_plan(**{name: value})


def test_bad_plans_and_teachers_are_refused(experiment):
    for name, value in (("layers", 0), ("n_steps", 0), ("n_heads", -1), ("matching", "luck"), ("learning_rate", 0)):
        with pytest.raises(ValueError, match=name):
            replace(PLAN, **{name: value})
    served = replace(experiment.teacher, language_model=None)
    with pytest.raises(ValueError, match="load the teacher here, not behind a server"):
        prepare(served, experiment.task, experiment.index, PLAN)
    with pytest.raises(ValueError, match="split must be one of train, validation, test, got 'dev'"):
        prepare(experiment.teacher, experiment.task, experiment.index, replace(PLAN, split="dev"))


def test_a_teacher_whose_texts_have_no_phases_teaches_nobody_and_says_why(experiment, monkeypatch):
    monkeypatch.setattr(module, "_written", lambda *_: ([], [], {"no CoT": 1200, "no anchor": 0}))
    with pytest.raises(NotTestable, match=r"at least 2 traces to learn from, got 0 \(left out: no CoT: 1,200\)$"):
        prepare(experiment.teacher, experiment.task, experiment.index, PLAN)
