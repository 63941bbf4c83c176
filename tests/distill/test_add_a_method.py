"""A method of your own: one function, and one line in `METHODS`."""

import math
from dataclasses import replace

import pytest
import torch

from ctd import workers
from ctd.distill import measures, methods, pool, tables, teach
from ctd.distill.methods import METHODS, Arm, Method, Seen
from ctd.distill.methods.token_by_token import TokenByToken


def skewed(seen: Seen, share: float = 0.1) -> torch.Tensor:
    """KL of the teacher's distribution from a mixture of both."""
    mixture = torch.logaddexp(seen.teacher_log_p + math.log(share), seen.log_p + math.log1p(-share))
    return (seen.teacher_log_p.exp() * (seen.teacher_log_p - mixture)).sum(-1)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(METHODS, "skewed", Method(tokens=skewed, needs=frozenset({"distribution"})))


def test_a_new_method_is_taught_measured_and_compared_like_the_others(registered, experiment, tmp_path):
    arms = [Arm("cot", "cot"), Arm("skewed", "skewed")]
    outcomes = pool.run(experiment, arms, [0], tmp_path, n_workers=1)
    table = tables.table(outcomes).set_index(["arm", "measure"])
    assert set(table.index) == {(arm.name, measure) for arm in arms for measure in measures.MEASURES}
    assert outcomes[0].loss != outcomes[1].loss
    assert list(tables.gains(outcomes, "cot", "token_probability")["name"]) == ["skewed"]


def test_the_mechanistic_terms_can_be_added_to_it(registered, experiment):
    assert "skewed" in methods.base_losses()
    loss = Arm("both", "mechanistic", base_loss="skewed").loss(experiment, student(experiment))
    assert isinstance(loss.base_loss, TokenByToken)


def student(experiment):
    return experiment.initial_student(0)


def test_its_code_is_in_the_key_of_its_students(registered, experiment, monkeypatch):
    arm = Arm("skewed", "skewed")
    before = teach.key(experiment, arm, 0)

    def skewed(seen, share=0.1):
        return -seen.target_log_p

    monkeypatch.setitem(METHODS, "skewed", Method(tokens=skewed, needs=frozenset({"distribution"})))
    assert teach.key(experiment, arm, 0) != before


def test_so_are_its_way_of_asking_and_the_code_of_a_base_loss(registered, experiment, monkeypatch):
    alone, added = Arm("skewed", "skewed"), Arm("both", "mechanistic", base_loss="skewed")
    before = [teach.key(experiment, arm, 0) for arm in (alone, added)]
    monkeypatch.setitem(METHODS, "skewed", Method(tokens=skewed, mode="answer"))
    assert teach.key(experiment, alone, 0) != before[0]
    monkeypatch.setitem(METHODS, "skewed", Method(tokens=lambda *parts: skewed(*parts)))
    assert teach.key(experiment, added, 0) != before[1]


def test_its_students_are_taught_in_this_process_which_alone_knows_it(registered, experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "STEP_SECONDS", 20)
    monkeypatch.setattr(workers._POOL, "enter", lambda _: pytest.fail("another process does not know the method"))
    assert len(pool.run(experiment, [Arm("skewed", "skewed")], [0, 1], tmp_path, n_workers=2)) == 2


def test_its_settings_are_its_arguments_with_a_default(registered, experiment):
    assert METHODS["skewed"].settings == {"share": 0.1}
    tried = replace(Arm("skewed", "skewed"), settings=(("share", 0.3),))
    assert tried.loss(experiment, student(experiment)).tokens.keywords == {"share": 0.3}
    assert teach.key(experiment, tried, 0) != teach.key(experiment, Arm("skewed", "skewed"), 0)
    with pytest.raises(ValueError, match=r"settings of skewed are share \(0\.1\), got 'shares'"):
        replace(tried, settings=(("shares", 0.3),))
