"""Students stopped on validation documents, and seeds with draws of traces of their own."""

import csv
from dataclasses import replace

import pytest

from ctd.distill import checkpoint, pool, teach
from ctd.distill import prepare as prepare_module
from ctd.distill.prepare import prepare, prepare_draws
from tests.distill.conftest import COT, FULL, PLAN

PATIENT = replace(PLAN, patience=1, n_validation=3, n_steps=10, learning_rate=0.1)  # far too high


@pytest.fixture(scope="module")
def patient(experiment):
    return prepare(experiment.teacher, experiment.task, experiment.index, PATIENT)


def test_a_student_stops_where_its_validation_loss_rises_and_takes_the_weights_of_the_lowest(patient, tmp_path):
    home = tmp_path / "student"
    _, log = teach.train_student(patient, COT, 0, home)
    with open(home / checkpoint.LOG) as file:
        looks = [float(row["validation"]) for row in csv.DictReader(file)]
    assert len(log) == len(looks) < 10
    assert looks[-1] >= min(looks), "the last look was no better"
    chosen = teach.chosen_step(patient, log)
    assert chosen == looks.index(min(looks)) + 1 == len(log) - 1
    shorter = replace(patient, plan=replace(PATIENT, patience=0, n_steps=chosen))
    assert teach.chosen_step(shorter, log) == len(log), "without patience the last weights count"


def test_every_arm_is_stopped_and_nothing_is_left_behind(patient, tmp_path):
    (outcome,) = pool.run(patient, [FULL], [0], tmp_path, n_workers=1)
    assert outcome.chosen_step < outcome.steps <= 10
    assert not [*tmp_path.glob(f"*/{checkpoint.BEST}"), *tmp_path.glob(f"*/{checkpoint.CHECKPOINT}")]


def test_validation_documents_are_no_others(patient, experiment):
    def documents(traces):
        return {trace.document for trace in traces}

    validation = patient.validation
    assert len(validation.traces) == len(validation.annotated_traces) == 3
    there = set(patient.task.documents["validation"]["text"])
    assert documents(validation.traces) <= there
    assert not documents(validation.traces) & (documents(patient.traces) | set(patient.test_documents))
    assert not experiment.validation_traces, "a plan without patience asks for none"
    plan = replace(PATIENT, split="validation", n_test=5)
    both = prepare(experiment.teacher, experiment.task, experiment.index, plan)
    assert set(both.test_documents) <= there
    assert not documents(both.validation.traces) & set(both.test_documents)


def test_what_stops_a_student_is_in_its_key(patient):
    fewer = replace(patient, validation_traces=patient.validation_traces[:2])
    fewer = replace(fewer, validation_annotated=patient.validation_annotated[:2])
    longer = replace(patient, plan=replace(PATIENT, patience=2))
    assert len({teach.key(changed, COT, 0) for changed in (patient, fewer, longer)}) == 3


def test_patience_without_validation_documents_is_refused(experiment):
    documents = {name: part for name, part in experiment.task.documents.items() if name != "validation"}
    task = replace(experiment.task, documents=type(experiment.task.documents)(documents))
    with pytest.raises(ValueError, match="patience needs validation documents, and the task has none behind"):
        prepare(experiment.teacher, task, experiment.index, PATIENT)


def test_each_seed_has_a_draw_of_its_own_or_all_share_the_first(experiment, monkeypatch):
    monkeypatch.setattr(prepare_module, "prepare", lambda *inputs: inputs[-1])
    inputs = (experiment.teacher, experiment.task, experiment.index, PLAN, [3, 4, 5])
    assert prepare_draws(*inputs) == {3: 3, 4: 4, 5: 5}
    assert prepare_draws(*inputs, draw_per_seed=False) == {3: 3, 4: 3, 5: 3}


def test_seeds_of_one_draw_are_taught_together_and_of_others_each_with_its_own(experiment, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(pool, "run", lambda experiment, arms, seeds, folder: calls.append((experiment, seeds)) or [])
    other = replace(experiment)
    pool.run_draws({1: experiment, 2: experiment, 3: other}, [COT], tmp_path)
    assert [seeds for _, seeds in calls] == [[1, 2], [3]]
    assert calls[0][0] is experiment
    assert calls[1][0] is other
    elsewhere = replace(experiment, plan=replace(PLAN, n_test=3))
    with pytest.raises(ValueError, match="must have the same test documents"):
        pool.run_draws({1: experiment, 2: elsewhere}, [COT], tmp_path)
