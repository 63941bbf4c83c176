"""What each control teaches: other signals of the same shape, from the heads, queries or weights that its name says."""

from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from ctd.distill import controls, methods, students, teach
from ctd.distill.controls import CONTROLS, Shuffled, untrained
from ctd.distill.examples import collate
from ctd.distill.loss_forms import MENDED
from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase
from tests.distill.conftest import COT, FULL


def heads_of(experiment):
    return experiment.student_heads(experiment.initial_student(0))


def requested_heads(experiment, monkeypatch, control, seed=0):
    """The heads whose signals a control asks for."""
    requested = []
    monkeypatch.setattr(type(experiment), "signals", lambda self, heads, *rest, **more: requested.append(heads) or [])
    CONTROLS[control](experiment, lambda: heads_of(experiment), seed)
    return requested[0]


@pytest.mark.parametrize("control", [name for name in CONTROLS if name != "none"])
def test_a_control_teaches_other_signals_of_the_same_shape(experiment, control):
    shallow = experiment.with_plan(layers=2)  # the more layers it has, the more heads are copied from their own
    uncontrolled = CONTROLS["none"](shallow, lambda: heads_of(shallow), 0)
    controlled = CONTROLS[control](shallow, lambda: heads_of(shallow), 0)
    assert len(controlled) == len(uncontrolled) == 6
    for signals, changed in zip(uncontrolled[:], controlled[:], strict=True):
        for field in fields(signals):
            assert getattr(signals, field.name).shape == getattr(changed, field.name).shape, field.name
        assert not np.allclose(signals.write1, changed.write1)


@pytest.mark.parametrize("control", ["none", "shuffled"])
def test_an_arm_is_taught_what_its_control_says(experiment, control):
    student = experiment.initial_student(0)
    loss = replace(FULL, control=control, draw=3).loss(experiment, student)
    assert isinstance(loss.teacher_signals, Shuffled) == (control == "shuffled")
    batch = collate(methods.trace_examples(experiment), [0, 1])
    assert loss(student.train(), batch).item() > COT.loss(experiment, student)(student, batch).item()


def test_copied_heads_are_those_whose_weights_the_student_has(experiment, monkeypatch):
    student, teacher = experiment.initial_student(0), experiment.language_model.model
    for phase, heads in requested_heads(experiment, monkeypatch, "copied").items():
        for head, source in zip(experiment.student_heads(student)[phase], heads, strict=True):
            layer, original = student.model.layers[head.layer], teacher.model.layers[source.layer]
            assert torch.equal(layer.self_attn.q_proj.weight, original.self_attn.q_proj.weight.float())
            assert head.head == source.head
    with pytest.raises(ValueError, match="control copied needs a student made of the teacher's layers"):
        CONTROLS["copied"](experiment.with_plan(student_heads=2), lambda: heads_of(experiment), 0)


def test_random_heads_are_others_of_the_same_layers(experiment, monkeypatch):
    chosen = {Phase.SHORTLIST: [Head(1, 2), Head(1, 3)], Phase.REFINE: [Head(4, head) for head in range(5)]}
    other = replace(experiment)
    other.__dict__["teacher_heads"] = chosen
    draws = [requested_heads(other, monkeypatch, "random", seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    for phase, heads in draws[0].items():
        assert len(set(heads)) == len(heads)
        assert Counter(head.layer for head in heads) == Counter(head.layer for head in chosen[phase])
    assert not set(draws[0][Phase.SHORTLIST]) & set(chosen[Phase.SHORTLIST])
    assert draws[0][Phase.REFINE][0] == Head(4, 5), "the only one that is not chosen"


def test_lowest_heads_end_the_ranking(experiment, monkeypatch):
    for phase, heads in requested_heads(experiment, monkeypatch, "lowest").items():
        assert heads == experiment.teacher_rankings[phase][:-5:-1]


def test_the_wrong_phase_is_the_other_phase(experiment, monkeypatch):
    chosen = experiment.teacher_heads
    exchanged = {Phase.SHORTLIST: chosen[Phase.REFINE], Phase.REFINE: chosen[Phase.SHORTLIST]}
    assert requested_heads(experiment, monkeypatch, "wrong-phase") == exchanged
    uneven = replace(experiment)
    uneven.__dict__["teacher_heads"] = {**chosen, Phase.REFINE: chosen[Phase.REFINE][:1]}
    with pytest.raises(ValueError, match="need the same number, got 4 and 1"):
        CONTROLS["wrong-phase"](uneven, lambda: {}, 0)


def test_a_shuffled_trace_has_its_own_values_at_other_queries(experiment):
    unshuffled = experiment.teacher_signals
    shuffled = Shuffled(unshuffled, 1)
    for row, signals in enumerate(shuffled):
        assert (signals.attention != unshuffled[row].attention).any()
        order = [np.flatnonzero((unshuffled[row].write1 == write).all(1))[0] for write in signals.write1]
        assert sorted(order) == sorted({*order}) == list(range(len(unshuffled[row].write1)))
        np.testing.assert_array_equal(
            signals.attention, unshuffled[row].attention[order], "rows and writes move together"
        )
        np.testing.assert_array_equal(np.sort(signals.along), np.sort(unshuffled[row].along))
        np.testing.assert_array_equal(signals.gram1, unshuffled[row].gram1)
        np.testing.assert_array_equal(signals.attention, shuffled[row].attention, "the same whenever it is asked for")


def test_an_untrained_teacher_has_the_shape_of_the_teacher_and_other_weights(experiment):
    teacher = experiment.language_model.model
    first, again, other = (untrained(teacher, seed) for seed in (0, 0, 1))
    for weight, same, another, trained in zip(
        *(model.parameters() for model in (first, again, other, teacher)), strict=True
    ):
        assert weight.shape == trained.shape
        assert torch.equal(weight, same)
        assert weight.ndim < 2 or not (torch.equal(weight, another) or torch.equal(weight, trained))


def test_controls_and_forms_are_in_the_key_of_those_who_read_heads_alone(experiment):
    arms = [FULL, *(replace(FULL, control=name) for name in CONTROLS if name != "none"), replace(FULL, forms=MENDED)]
    assert len({teach.key(experiment, arm, 0) for arm in arms}) == len(arms)
    assert teach.key(experiment, replace(COT, forms=MENDED), 0) == teach.key(experiment, COT, 0)
    other = experiment.with_plan(ranked_by="mass", matching="apart")
    assert teach.key(other, COT, 0) == teach.key(experiment, COT, 0)
    assert teach.key(other, FULL, 0) != teach.key(experiment, FULL, 0)


def first_layer(experiment, student_heads, seed):
    """What the first heads of the first layer compute."""
    chosen = experiment.teacher_heads
    return experiment.signals({phase: [Head(0, number) for number in range(len(chosen[phase]))] for phase in chosen})


def test_a_new_control_is_a_function_and_a_line(experiment, monkeypatch):
    monkeypatch.setitem(CONTROLS, "first-layer", first_layer)
    arm = replace(FULL, control="first-layer")
    loss = arm.loss(experiment, experiment.initial_student(0))
    assert len(loss.teacher_signals) == 6
    assert not np.allclose(loss.teacher_signals[0].write1, experiment.teacher_signals[0].write1)
    assert controls.summary("first-layer") == "What the first heads of the first layer compute"


def test_the_code_of_a_control_of_ones_own_is_in_the_key(experiment, monkeypatch):
    def unchanged(experiment, student_heads, seed):
        return experiment.teacher_signals

    monkeypatch.setitem(CONTROLS, "mine", unchanged)
    arm = replace(FULL, control="mine")
    before = teach.key(experiment, arm, 0)
    monkeypatch.setitem(
        CONTROLS, "mine", lambda experiment, student_heads, seed: Shuffled(experiment.teacher_signals, 0)
    )
    assert teach.key(experiment, arm, 0) != before
    assert not methods.is_packaged(arm)
    assert methods.is_packaged(replace(FULL, control="random"))


def test_bad_controls_are_refused():
    with pytest.raises(ValueError, match="control must be one of none, copied, .*, got 'x'"):
        replace(FULL, control="x")
    with pytest.raises(ValueError, match="control is for what heads compute, which cot does not teach"):
        replace(COT, control="random")


def test_sources_are_the_layers_that_a_student_is_made_of(experiment):
    assert students.sources(experiment.language_model.model, 3) == [0, 2, 5]
    assert students.sources(experiment.language_model.model, 1) == [5]
