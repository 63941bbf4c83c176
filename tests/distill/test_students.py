"""Students: what they take over, how their heads are matched, and who is refused."""

from collections import Counter

import pytest
import torch
from transformers import AutoModelForCausalLM

from ctd.distill import students
from ctd.mechanism import attention
from ctd.mechanism.attention import Head
from ctd.mechanism.phases import Phase
from ctd.reasoning import architecture, models
from ctd.recipes import tiny_models
from tests.mechanism.test_attention import build_model


def deep(layers=6):
    """A tiny Llama with many layers."""
    config = build_model("llama").config
    config.num_hidden_layers = layers
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


@torch.no_grad()
def test_a_student_of_all_layers_is_its_teacher():
    teacher = deep(3)
    ids = torch.arange(1, 12)[None]
    torch.testing.assert_close(students.shallower(teacher, 3)(input_ids=ids).logits, teacher(input_ids=ids).logits)


def test_a_shallow_student_takes_layers_evenly_with_both_ends():
    teacher = deep(6)
    student = students.shallower(teacher, 3)
    assert student.config.num_hidden_layers == 3
    for layer, source in enumerate((0, 2, 5)):
        weight = student.model.layers[layer].mlp.up_proj.weight
        assert torch.equal(weight, teacher.model.layers[source].mlp.up_proj.weight)
    with torch.no_grad():
        student.model.embed_tokens.weight.zero_()
    assert teacher.model.embed_tokens.weight.any(), "nothing is shared with the teacher"


@torch.no_grad()
def test_a_shallow_student_keeps_what_is_set_layer_by_layer():
    teacher = tiny_models.build("smollm3", no_rope_layers=[1, 0, 1, 0])
    student = students.shallower(teacher, 3)
    assert (student.config.no_rope_layers, student.config.layer_types) == ([1, 1, 0], ["full_attention"] * 3)
    assert [layer.self_attn.use_rope for layer in student.model.layers] == [1, 1, 0]
    ids = torch.arange(1, 12)[None]
    whole = students.shallower(teacher, 4)
    torch.testing.assert_close(whole(input_ids=ids).logits, teacher(input_ids=ids).logits)


def test_a_narrow_student_has_heads_of_the_same_size():
    student = students.narrower(deep(), 2, 2, seed=1)
    shape = architecture.shape(student)
    assert (shape.layers, shape.heads, shape.head_size) == (2, 2, architecture.shape(deep()).head_size)
    assert shape.width == 2 * shape.head_size
    same = students.narrower(deep(), 2, 2, seed=1)
    assert torch.equal(student.model.embed_tokens.weight, same.model.embed_tokens.weight)
    student(input_ids=torch.arange(1, 9)[None])


class TestMatching:
    HEADS = (Head(0, 1), Head(3, 2), Head(5, 0), Head(5, 3))

    def test_by_depth_is_the_identity_on_a_student_shaped_like_its_teacher(self):
        teacher = deep()
        assert students.by_depth(teacher, teacher, self.HEADS) == list(self.HEADS)

    def test_by_depth_keeps_relative_depth_and_takes_no_head_twice(self):
        teacher = deep()
        student = students.shallower(teacher, 3)
        matched = students.by_depth(teacher, student, [Head(0, 1), Head(1, 1), Head(4, 1), Head(5, 1)])
        assert matched == [Head(0, 1), Head(0, 2), Head(2, 1), Head(2, 2)]
        everything = students.by_depth(teacher, student, attention.all_heads(teacher)[:12])
        assert len(set(everything)) == 12

    EARLY, LATE = [Head(4, 0), Head(4, 1), Head(5, 0), Head(5, 1)], [Head(4, 0), Head(5, 2), Head(3, 1), Head(3, 2)]

    def test_by_depth_gives_both_phases_the_same_head_and_crowds_deep_heads_and_apart_does_neither(self):
        teacher = deep()
        student = students.shallower(teacher, 3)
        phases = {Phase.SHORTLIST: self.EARLY, Phase.REFINE: self.LATE}
        crowded = {phase: students.by_depth(teacher, student, heads) for phase, heads in phases.items()}
        assert set(crowded[Phase.SHORTLIST]) & set(crowded[Phase.REFINE])
        assert {head.layer for head in crowded[Phase.SHORTLIST]} == {2}
        spread = students.apart(teacher, student, phases)
        together = [*spread[Phase.SHORTLIST], *spread[Phase.REFINE]]
        assert len(set(together)) == 8
        assert max(Counter(head.layer for head in together).values()) == 3, (
            "as many as in layers 4 and 5 of the teacher"
        )
        pairs = sorted(zip([*self.EARLY, *self.LATE], together, strict=True))
        layers = [student_head.layer for _, student_head in pairs]
        assert layers == sorted(layers) == [0, 0, 1, 1, 1, 2, 2, 2], "in the order of the teacher's layers"

    def test_apart_is_the_identity_on_a_student_shaped_like_its_teacher(self):
        teacher = deep()
        phases = {Phase.SHORTLIST: [*self.HEADS], Phase.REFINE: [Head(5, 1), Head(5, 2)]}
        assert students.apart(teacher, teacher, phases) == phases
        shared = students.apart(teacher, teacher, {Phase.SHORTLIST: [Head(3, 2)], Phase.REFINE: [Head(3, 2)]})
        assert shared == {Phase.SHORTLIST: [Head(3, 2)], Phase.REFINE: [Head(3, 3)]}

    def test_apart_fills_a_student_and_refuses_what_does_not_fit(self):
        teacher = deep(2)
        student = students.shallower(teacher, 1)
        half = attention.all_heads(teacher)[:3]
        full = students.apart(teacher, student, {Phase.SHORTLIST: half, Phase.REFINE: half})
        assert sorted([*full[Phase.SHORTLIST], *full[Phase.REFINE]]) == attention.all_heads(student)
        with pytest.raises(ValueError, match="12 heads cannot be matched, the student has 6"):
            students.apart(teacher, student, {Phase.SHORTLIST: attention.all_heads(teacher)})

    def test_by_score_is_the_identity_on_a_student_that_equals_its_teacher(self):
        ranking = [Head(1, 2), Head(0, 0), Head(1, 0)]
        assert students.by_score({Phase.SHORTLIST: ranking}, 2) == {Phase.SHORTLIST: ranking[:2]}

    def test_bad_input(self):
        teacher = deep(2)
        student = students.shallower(teacher, 1)
        with pytest.raises(ValueError, match="12 heads cannot be matched, the student has 6"):
            students.by_depth(teacher, student, attention.all_heads(teacher))
        with pytest.raises(ValueError, match="every head may be named once"):
            students.by_depth(teacher, teacher, [Head(0, 0), Head(0, 0)])
        with pytest.raises(ValueError, match="k must be between 1 and 1"):
            students.by_score({Phase.SHORTLIST: [Head(0, 0)]}, 2)
        with pytest.raises(ValueError, match="layers must be between 1 and 2"):
            students.shallower(teacher, 3)
        with pytest.raises(ValueError, match="at least 1, got 0 and 2"):
            students.narrower(teacher, 0, 2)


def test_another_tokenizer_is_refused_with_the_reason():
    tokenizer, other = (models.load(name).tokenizer for name in ("organism", "smollm2"))
    students.same_tokens(tokenizer, tokenizer, "same")
    with pytest.raises(ValueError, match="student 'other' has another tokenizer .* compared token by token") as error:
        students.same_tokens(tokenizer, other, "other")
    assert "\n" not in str(error.value)
