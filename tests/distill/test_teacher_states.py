"""A student that learns from stored states of its teacher learns what it would from a pass of the teacher."""

import pickle
from dataclasses import replace

import pytest
import torch

from ctd.distill import losses, methods, students, teacher_states, train
from ctd.distill.examples import Example, collate
from ctd.distill.methods import Arm
from tests.distill.conftest import COT, FULL
from tests.distill.test_losses import gradient, stranger
from tests.distill.test_train import SHORT
from tests.mechanism.test_attention import build_model
from tests.mechanism.test_heads import PASSAGES

EXAMPLES = [Example(trace.ids, trace.cot.start + 1) for trace in PASSAGES]


@pytest.mark.parametrize("which", ["fkl", "rkl"])
def test_gradients_on_real_traces_are_those_of_a_pass_of_the_teacher(which, experiment):
    arm = Arm(which, which)
    student = students.shallower(experiment.language_model.model, 3).train()
    batch = collate(methods.trace_examples(experiment), [3, 0, 5])
    live, value = gradient(arm.loss(replace(experiment, live=True), student), student, batch)
    stored, same = gradient(arm.loss(experiment, student), student, batch)
    assert same == pytest.approx(value, rel=1e-5)
    assert (stored - live).norm() < 1e-4 * live.norm()


def test_states_are_computed_once_whatever_batch_asks_for_them(tmp_path, monkeypatch):
    model = build_model("llama")
    states = teacher_states.stored(model, "weights", EXAMPLES, tmp_path)
    assert states.nbytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    live = teacher_states.Live(model)
    for rows in ([0, 1, 2, 3], [2], [3, 1]):
        batch = collate(EXAMPLES, rows)
        torch.testing.assert_close(states(batch), live(batch))
    monkeypatch.setattr(teacher_states, "_computed", None)
    again = teacher_states.stored(model, "weights", EXAMPLES, tmp_path)
    assert torch.equal(pickle.loads(pickle.dumps(again))(batch), states(batch))


def test_states_keep_the_precision_of_the_teacher(tmp_path):
    model = build_model("llama").bfloat16()
    batch = collate(EXAMPLES, [1, 2])
    states = teacher_states.stored(model, "weights", EXAMPLES, tmp_path)(batch)
    assert states.dtype == torch.bfloat16
    torch.testing.assert_close(states, teacher_states.Live(model)(batch))


def test_a_batch_of_other_targets_is_refused_and_one_with_nothing_to_learn_gets_nothing(tmp_path):
    states = teacher_states.stored(build_model("llama"), "weights", EXAMPLES, tmp_path)
    batch = collate(EXAMPLES, [0, 1])
    idle = batch._replace(targets=torch.full_like(batch.targets, -100))
    assert len(states(idle)) == 0
    longer = collate([example._replace(n_prompt=example.n_prompt + 1) for example in EXAMPLES], [0, 1])
    with pytest.raises(ValueError, match=f"a batch of {longer.n_targets} targets asks for the states of"):
        states(longer)


def test_a_step_in_several_passes_reads_the_states_of_each(tmp_path):
    teacher = build_model("llama")
    states = teacher_states.stored(teacher, "weights", EXAMPLES, tmp_path)
    trained = []
    for pass_tokens in (0, 60):
        student, settings = stranger(), replace(SHORT, batch_tokens=200, pass_tokens=pass_tokens, epochs=3)
        loss = losses.TokenDistillation(teacher, "fkl", states=states)
        train.train(student, EXAMPLES, settings, tmp_path / str(pass_tokens), loss=loss)
        trained.append(torch.cat([weight.detach().flatten() for weight in student.parameters()]))
    torch.testing.assert_close(*trained, rtol=1e-3, atol=1e-5)


def test_arms_say_what_is_computed_of_the_teacher_before_their_students_begin(experiment, monkeypatch):
    both = replace(FULL, base_loss="fkl")
    assert [set(arm.needs) for arm in (COT, FULL, Arm("rkl", "rkl"), both)] == [
        set(), {"heads"}, {"distribution"}, {"heads", "distribution"},
    ]  # fmt: skip
    computed = []
    monkeypatch.setattr(teacher_states, "stored", lambda *inputs: computed.append("distribution"))
    monkeypatch.setattr("ctd.distill.trace_signals.stored", lambda *inputs, **named: computed.append("heads"))
    methods.read_teacher(replace(experiment), [COT])
    assert computed == []
    methods.read_teacher(replace(experiment), [both])
    assert sorted(computed) == ["distribution", "heads"]
