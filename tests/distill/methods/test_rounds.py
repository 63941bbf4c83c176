"""Losses of the student's own texts, and of what one who is told makes of them."""

from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch

from ctd.distill import teach
from ctd.distill.examples import IGNORED, check, collate
from ctd.distill.methods import METHODS, Arm, policy, told
from ctd.distill.methods.student_samples import OwnText, own_texts
from ctd.distill.methods.teacher_samples import sample_example
from ctd.distill.methods.texts import gold_labels, trace_examples
from ctd.distill.token_loss import token_loss
from tests.distill.methods.conftest import BATCH, EXAMPLES, TOLD, batch_of
from tests.distill.methods.test_every_method import made_loss
from tests.distill.test_losses import gradient


def number(p):
    return torch.tensor([log(p)], dtype=torch.float64)


ONE = torch.ones(1, dtype=torch.float64)


def test_the_numbers_of_each_loss_by_hand():
    k2 = policy.with_k2(number(0.25), number(0.25), number(0.5), 0 * ONE, first=1.0)
    assert k2.item() == pytest.approx(0.2402265070)
    late = policy.with_k2(number(0.25), number(0.25), number(0.5), 0 * ONE, done=0.5)
    assert late.item() == pytest.approx(3e-3 * 0.2402265070)
    mixed = policy.against_mixture(number(0.3), number(0.25), number(0.5), ONE, own=0.5)
    assert -mixed.item() == pytest.approx(0.8485281374)
    for advantage, ratio in ((1.0, 1.2), (-1.0, 1.4)):  # a gain counts up to the clip, a loss in full
        value = policy.against_mixture(number(0.35), number(0.25), number(0.5), advantage * ONE)
        assert value.item() == pytest.approx(-advantage * ratio)


def test_advantages_are_those_of_a_group():
    rewards = [1.0, 0.5, 0.0, 0.5]
    expected = [(value - 0.5) / (np.std(rewards) + 1e-4) for value in rewards]
    assert policy.advantages(rewards) == pytest.approx(expected)
    assert policy.advantages([0.3] * 4) == pytest.approx([0.0] * 4, abs=1e-9)


def test_the_first_step_of_a_round_follows_the_advantages(course, student):
    """Nothing has changed yet, so that the slope is that of the token loss, each text times its advantage."""
    got = gradient(made_loss("rlvr", course), student, batch_of("rlvr"))[0]
    parts = [
        gradient(token_loss, student, collate(EXAMPLES, [row]))[0] * example.value
        for row, example in enumerate(course.examples)
    ]
    assert any(example.value for example in course.examples)
    torch.testing.assert_close(got, sum(parts), rtol=1e-4, atol=1e-6)


def test_limits_of_the_rounds(course, student):
    rlvr = gradient(made_loss("rlvr", course), student, BATCH)[0]
    for name, settings in (("trrd", {"own": 1.0}), ("kdrl", {"first": 0.0, "last": 0.0})):
        got = gradient(made_loss(name, course, **settings), student, BATCH)[0]
        torch.testing.assert_close(got, rlvr, rtol=1e-9, atol=1e-10)
    same = replace(course, student=course.experiment.language_model.model)
    loss = METHODS["kdrl"].make(replace(same, examples=[example._replace(value=0.0) for example in EXAMPLES]), {})
    slope, value = gradient(loss, same.student.train(), BATCH)
    assert value == pytest.approx(0, abs=1e-12), "the teacher agrees with itself"
    assert slope.abs().max().item() < 1e-9


def test_one_who_is_told_nothing_teaches_nothing(course, student):
    nothing = [example._replace(paired=example) for example in EXAMPLES]
    slope, value = gradient(METHODS["opsd"].make(replace(course, examples=nothing), {}), student, BATCH)
    assert value == pytest.approx(0, abs=1e-12)
    assert slope.abs().max().item() < 1e-9


def test_the_divergence_from_one_who_is_told_is_that_of_the_logits(course, student):
    expected = 0.0
    for plain, with_gold in zip(EXAMPLES, TOLD, strict=True):
        log_p = []
        for text in (plain, with_gold):
            batch = collate([text], [0])
            log_p.append(student(input_ids=batch.ids).logits[batch.targets != IGNORED].log_softmax(-1))
        expected += (log_p[0].exp() * (log_p[0] - log_p[1])).sum().item()
    assert made_loss("opsd", course)(student, batch_of("opsd")).item() == pytest.approx(expected, rel=1e-6)


def test_own_texts_are_tokens_as_the_student_drew_them(experiment):
    teacher = experiment.language_model.model  # as a student that knows the format
    texts = own_texts(experiment, teacher, experiment.traces[:3], 2)
    assert len(texts) == 6
    assert any(text.trace.answered for text in texts)
    tokenizer = experiment.language_model.tokenizer
    for row, text in enumerate(texts):
        trace = experiment.traces[row // 2]
        assert tokenizer.decode(text.example.ids).startswith(f"{trace.prompt}<think>\n")
        written = tokenizer.decode(text.example.ids[text.example.n_prompt :])
        assert written.removesuffix(tokenizer.eos_token) == text.trace.text.removeprefix("<think>\n")
        assert text.trace.uid == trace.uid
    assert [text.example.ids[-1] for text in texts].count(tokenizer.eos_token_id) > 0
    check([text.example for text in texts])


def test_texts_count_against_others_about_their_document(experiment, monkeypatch):
    gold, whole = gold_labels(experiment), trace_examples(experiment)
    right = [text for text in experiment.traces if text.free_form is None and set(text.answered) == gold[text.uid]]
    drawn = [OwnText(whole[0], trace) for text in right[:2] for trace in (text, replace(text, mentions=()))]
    monkeypatch.setattr(policy, "own_texts", lambda *parts: drawn)
    learned = policy.own_samples(replace(experiment, traces=right[:2]), None, group=2)
    assert [text.value for text in learned] == pytest.approx([1, -1, 1, -1], abs=1e-3)
    with pytest.raises(ValueError, match="group must be at least 2, got 1"):
        policy.own_samples(experiment, None, group=1)


def test_one_who_is_told_reads_the_gold_labels_in_the_shortlist(experiment, monkeypatch):
    tokenizer, space = experiment.language_model.tokenizer, experiment.task.space
    trace = next(text for text in experiment.traces if text.free_form is None and text.comparisons)
    outside = next(label for label in range(len(space)) if space.texts[label] not in trace.text)
    monkeypatch.setattr(told, "gold_labels", lambda _: {trace.uid: {outside}})
    plain, wrong = sample_example(trace, tokenizer), replace(trace, error="out of the format")
    student = experiment.initial_student(0)
    monkeypatch.setattr(told, "written", lambda *parts: [trace, wrong])
    (example,) = told.own_texts_told(experiment, student)
    assert f"- {space.texts[outside]}\nCompare:\n" in tokenizer.decode(example.paired.ids)
    assert list(example.ids) == list(plain.ids)
    learned = tokenizer.decode(told.targets(example))
    assert told.targets(example) == told.targets(example.paired)
    assert learned.removesuffix(tokenizer.eos_token) == trace.text.partition("\nCompare:\n")[2]
    monkeypatch.setattr(told, "written", lambda *parts: [wrong])
    with pytest.raises(ValueError, match="opsd needs texts of the student in the format, and there is none"):
        told.own_texts_told(experiment, student)


def test_a_teacher_that_is_told_writes_on_from_the_gold_labels(experiment):
    gold, tokenizer = gold_labels(experiment), experiment.language_model.tokenizer
    texts, space = told.told_traces(experiment), experiment.task.space
    prompts = [tuple(known.ids[: known.n_prompt]) for known in trace_examples(experiment)]
    for example in texts:
        uid = experiment.traces[prompts.index(tuple(example.ids[: example.n_prompt]))].uid
        shortlist, answer = tokenizer.decode(example.ids).split("Answer:\n")
        assert set(answer.splitlines()[:-1]) == {f"- {space.texts[label]}" for label in gold[uid]}
        assert all(f"- {space.texts[label]}\n" in shortlist for label in gold[uid])
    with pytest.raises(ValueError, match="at_least must be lower than 2"):
        told.told_traces(experiment, at_least=2.0)


@pytest.mark.parametrize("name", ["kdrl", "opsd"])
def test_a_killed_round_ends_with_the_same_weights(name, experiment, tmp_path, monkeypatch):
    """The rounds before are read again, and with them the student that wrote the texts of the last one."""
    whole = trace_examples(experiment)
    monkeypatch.setattr(
        policy,
        "own_texts",
        lambda _, student, documents, n_each: [
            OwnText(whole[row], trace if turn else replace(trace, mentions=()))
            for row, trace in enumerate(documents)
            for turn in range(n_each)
        ],
    )
    monkeypatch.setattr(told, "written", lambda *parts: experiment.traces)
    short = replace(experiment, plan=replace(experiment.plan, n_steps=5, batch_tokens=256))
    loss_class, settings = {"kdrl": (policy.Policy, (("n_documents", 2), ("group", 2))), "opsd": (told.Told, ())}[name]
    arm = Arm(name, name, settings=settings)
    weights, forward, calls = [], loss_class.forward, []

    def dying(self, model, batch):
        calls.append(batch)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return forward(self, model, batch)

    for killed in (False, True):
        if killed:
            monkeypatch.setattr(loss_class, "forward", dying)
            with pytest.raises(KeyboardInterrupt):
                teach.train_student(short, arm, 0, tmp_path / str(killed))
        student, log = teach.train_student(short, arm, 0, tmp_path / str(killed))
        weights.append(torch.cat([weight.detach().flatten() for weight in student.parameters()]))
        assert len(log) == 5
    assert torch.equal(*weights)
