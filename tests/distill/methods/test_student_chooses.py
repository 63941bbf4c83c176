"""Texts of the teacher that the student has a say in: dasd and genssd."""

from math import log

import numpy as np
import pytest
import torch

from ctd.distill.examples import Example, collate
from ctd.distill.methods import dasd, genssd
from ctd.distill.methods.scoring import line_means, lines_of, target_log_p
from ctd.distill.methods.teacher_samples import sample_example, teacher_samples
from ctd.reasoning.traces import OPEN
from tests.distill.methods.conftest import EXAMPLES

DRAWN = {"n_samples": 2}


@pytest.fixture(scope="module")
def beginner(experiment):
    return experiment.initial_student(0)


def test_a_line_of_the_teacher_is_one_that_it_finds_twice_as_likely():
    """The first line is the teacher's, .7958 against .3420; in the second it is a little less sure than twice."""
    teacher, student = (torch.tensor(p).log() for p in ([0.9, 0.8, 0.7, 0.9], [0.5, 0.2, 0.4, 0.46]))
    lines = torch.tensor([0, 0, 0, 1])
    assert line_means(teacher, lines).exp().tolist() == pytest.approx([0.7958, 0.9], abs=1e-4)
    assert line_means(student, lines).exp().tolist() == pytest.approx([0.3420, 0.46], abs=1e-4)
    assert dasd.teacher_share(teacher, student, lines, 2.0) == 0.5
    assert dasd.teacher_share(teacher, student, lines, 1.9) == 1.0
    assert dasd.teacher_share(teacher, student, lines, 2.4) == 0.0


def test_log_probabilities_of_texts_are_those_of_their_logits(student):
    texts = [Example(example.ids, example.n_prompt) for example in EXAMPLES]
    for text, values in zip(texts, target_log_p(student, texts), strict=True):
        batch = collate([text], [0])
        log_p = student(input_ids=batch.ids).logits[0].log_softmax(-1)
        expected = [log_p[place - 1, text.ids[place]].item() for place in range(text.n_prompt, len(text.ids))]
        assert values.tolist() == pytest.approx(expected)


def test_lines_of_a_sample_are_those_of_its_text(experiment):
    tokenizer = experiment.language_model.tokenizer
    for trace in experiment.traces[:2]:
        text, lines = sample_example(trace, tokenizer), lines_of(trace, tokenizer)
        learned = text.ids[text.n_prompt :]
        assert len(lines) == len(learned)
        for number, line in enumerate(trace.text.splitlines(keepends=True)[1:]):
            ids = [token for token, its in zip(learned[:-1], lines[:-1], strict=True) if its == number]
            assert tokenizer.decode(ids) == line


def test_the_sample_with_most_lines_of_the_teacher_is_learned(experiment, beginner, monkeypatch):
    drawn = teacher_samples(experiment, **DRAWN)
    with_any = [samples for samples in drawn if samples]
    shares = [0.1 * (number % 2) for samples in with_any for number, _ in enumerate(samples)]
    next_shares = iter(shares)
    monkeypatch.setattr(dasd, "teacher_share", lambda *parts: next(next_shares))
    tokenizer = experiment.language_model.tokenizer
    chosen = dasd.divergent_samples(experiment, beginner, **DRAWN)
    assert chosen == [sample_example(samples[-1].trace, tokenizer) for samples in with_any]


def test_a_draft_that_goes_astray_is_continued_by_the_teacher_and_all_learned(experiment, beginner, monkeypatch):
    begun = f"{OPEN}Topics: begun by the student\n"
    monkeypatch.setattr(dasd, "cut", lambda draft, rng: begun)
    tokenizer = experiment.language_model.tokenizer
    texts = dasd.continued(experiment, beginner)
    assert texts
    for text in texts:
        assert text.only_read == ()
        assert (OPEN + tokenizer.decode(text.ids[text.n_prompt :])).startswith(begun)
    teacher = dasd.continued(experiment, experiment.language_model.model, 1e-9)
    assert teacher == [], "what is as good as the teacher's trace is not astray"
    chosen = dasd.divergent_samples(experiment, beginner, **DRAWN)
    assert dasd.mixed_policy(experiment, beginner, **DRAWN, student_share=0.0) == chosen
    with pytest.raises(ValueError, match="student_share must be at least 0 and below 1, got 1"):
        dasd.mixed_policy(experiment, beginner, student_share=1.0)


def test_a_draft_is_cut_after_a_line_of_its_reasoning(experiment):
    trace = experiment.traces[0]
    cuts = {dasd.cut(trace, np.random.default_rng(seed)) for seed in range(40)}
    assert len(cuts) > 3
    for beginning in cuts:
        assert trace.text.startswith(beginning)
        assert beginning.endswith("\n")
        assert "</think>" not in beginning


def test_the_likeliest_line_that_is_new_goes_on_until_none_is_likely_enough():
    text = f"{OPEN}Topics: none\nShortlist:\n- a\n"
    assert genssd.choose(text, ["- a\n", "- b\n", "- c\n"], [-0.1, -2.0, -1.0], -5.0) == "- c\n"
    assert genssd.choose(text, ["- a\n", "- b\n"], [-0.1, -2.0], log(0.5)) is None
    assert genssd.choose(OPEN, ["Topics: none\n"], [-9.0], -1.0) == "Topics: none\n", "nothing is listed yet"
    assert genssd.choose(text, ["- a\n"], [-0.1], -1.0) is None


def test_a_text_that_ended_goes_on_with_its_answer():
    text = f"{OPEN}Topics: none\nShortlist:\n- a\n"
    ended = f"{text}Compare:\n</think>\nAnswer:\n"
    assert genssd.answering(text) == genssd.answering(f"{text}Compare:\n") == ended
    assert genssd.answering(f"{text}Compare:\n</think>\n") == ended


def test_candidates_are_lines_of_the_teacher_and_judged_by_the_student(experiment, beginner):
    begun = [f"{trace.prompt}{OPEN}" for trace in experiment.traces[:3]]
    offers = genssd.offered(experiment, begun, 3, 1.0, 0)
    assert all(line.startswith("Topics:") and line.count("\n") == 1 for lines in offers for line in lines)
    assert any(len(lines) > 1 for lines in offers), "they are drawn"
    judged = genssd.likelihoods(experiment, beginner, begun, offers)
    tokenizer = experiment.language_model.tokenizer
    before, both = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in (begun[0], begun[0] + offers[0][0])
    )
    (log_p,) = target_log_p(beginner, [Example(both, len(before))])
    assert judged[0][0] == pytest.approx(log_p.mean().item(), rel=1e-4)
    assert [len(values) for values in judged] == [len(lines) for lines in offers]
    with pytest.raises(ValueError, match="n_candidates must be at least 1, got 0"):
        genssd.chosen_by_student(experiment, beginner, n_candidates=0)
