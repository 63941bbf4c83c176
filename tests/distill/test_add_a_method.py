"""A method of your own: one function that makes its loss, and one line in `METHODS`."""

from typing import Any

import pytest

from ctd import workers
from ctd.distill import losses, measures, methods, pool, tables, teach
from ctd.distill.experiment import Experiment
from ctd.distill.methods import METHODS, Arm, Method
from ctd.distill.token_loss import Loss


def jensen_shannon(experiment: Experiment, arm: Arm, student: Any) -> Loss:
    """Generalised Jensen-Shannon divergence from the teacher's distribution over the next token."""
    return methods.distillation(experiment, arm, "jsd", beta=0.5)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(METHODS, "jsd", Method(jensen_shannon, needs=frozenset({"distribution"})))


def test_a_new_method_is_taught_measured_and_compared_like_the_others(registered, experiment, tmp_path):
    arms = [Arm("cot", "cot"), Arm("jsd", "jsd")]
    outcomes = pool.run(experiment, arms, [0], tmp_path, n_workers=1)
    table = tables.table(outcomes).set_index(["arm", "measure"])
    assert set(table.index) == {(arm.name, measure) for arm in arms for measure in measures.MEASURES}
    assert outcomes[0].loss != outcomes[1].loss
    assert list(tables.gains(outcomes, "cot", "token_probability")["name"]) == ["jsd"]


def test_the_mechanistic_terms_can_be_added_to_it(registered, experiment):
    assert "jsd" in methods.base_losses()
    loss = METHODS["mechanistic"].loss(experiment, Arm("both", "mechanistic", base_loss="jsd"), student(experiment))
    assert (loss.base_loss.divergence, loss.base_loss.beta) == ("jsd", 0.5)


def student(experiment):
    return experiment.initial_student(0)


def test_its_code_is_in_the_key_of_its_students(registered, experiment, monkeypatch):
    arm = Arm("jsd", "jsd")
    before = teach.key(experiment, arm, 0)

    def jensen_shannon(experiment, arm, student):
        return losses.TokenDistillation(experiment.language_model.model, "jsd", beta=0.25)

    monkeypatch.setitem(METHODS, "jsd", Method(jensen_shannon))
    assert teach.key(experiment, arm, 0) != before


def test_so_are_its_way_of_asking_and_the_code_of_a_base_loss(registered, experiment, monkeypatch):
    alone, added = Arm("jsd", "jsd"), Arm("both", "mechanistic", base_loss="jsd")
    before = [teach.key(experiment, arm, 0) for arm in (alone, added)]
    monkeypatch.setitem(METHODS, "jsd", Method(jensen_shannon, mode="answer"))
    assert teach.key(experiment, alone, 0) != before[0]
    monkeypatch.setitem(METHODS, "jsd", Method(lambda *parts: jensen_shannon(*parts)))
    assert teach.key(experiment, added, 0) != before[1]


def test_its_students_are_taught_in_this_process_which_alone_knows_it(registered, experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "STEP_SECONDS", 20)
    monkeypatch.setattr(workers._POOL, "enter", lambda _: pytest.fail("another process does not know the method"))
    assert len(pool.run(experiment, [Arm("jsd", "jsd")], [0, 1], tmp_path, n_workers=2)) == 2
