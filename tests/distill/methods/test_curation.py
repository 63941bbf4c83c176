"""Recipes that choose, shorten or exchange traces: by hand, and at their limits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ctd.distill.methods import choosing, hard, pgkd, shortening, trace_examples, writers
from ctd.distill.methods.teacher_samples import Sample, f1_of, sample_example
from ctd.distill.methods.texts import gold_labels
from ctd.reasoning import trace_parser
from ctd.reasoning.traces import OPEN


@pytest.fixture
def samples(experiment, monkeypatch):
    """Lets a test say the F1 of each document's samples, which are all the document's trace."""

    def set_scores(scores):
        drawn = [
            [Sample(trace, score) for score in values] for trace, values in zip(experiment.traces, scores, strict=True)
        ]
        for module in (choosing, shortening):
            monkeypatch.setattr(module, "teacher_samples", lambda *parts: drawn)

    return set_scores


def text_of(experiment, example):
    tokenizer = experiment.language_model.tokenizer
    return OPEN + tokenizer.decode(example.ids[example.n_prompt : -1])


def parsed(experiment, example):
    return trace_parser.parse(text_of(experiment, example), experiment.task.space)


def test_documents_between_always_and_never_right_are_learned_the_most_varied_first(experiment, samples):
    scores = [[1, 1], [1, 0], [1, 0.9], [0, 0], [], [1, 0.5]]
    samples(scores)
    whole = trace_examples(experiment)
    variation = [np.std(values) / np.mean(values) for values in (scores[1], scores[5], scores[2])]
    assert variation == sorted(variation, reverse=True)
    assert choosing.in_between(experiment, keep=1.0) == [whole[1], whole[2], whole[5]]
    assert choosing.in_between(experiment, keep=0.5) == [whole[1], whole[5]]
    samples([[1, 1]] * 6)
    with pytest.raises(ValueError, match="n_samples must be higher than 4: no document"):
        choosing.in_between(experiment)


def test_the_hardest_solved_documents_are_learned(experiment, samples):
    samples([[1, 1], [1, 0], [0, 0], [], [1, 0], [1, 1]])
    tokenizer = experiment.language_model.tokenizer
    expected = [sample_example(experiment.traces[row], tokenizer) for row in (1, 4)]
    assert choosing.hard_but_solved(experiment) == expected, "the same text is learned once"
    assert len(choosing.hard_but_solved(experiment, hardest=1.0)) == 4
    samples([[0]] * 6)
    with pytest.raises(ValueError, match="that a sample of the teacher answers rightly: there is none"):
        choosing.hard_but_solved(experiment)


def test_texts_far_from_all_before_are_chosen_of_five():
    words = ["kitten", "kitten", "sitting", "kit", "sit"]
    distances = [choosing.edits("kitten", word) for word in words]
    assert distances == [0, 0, 3, 3, 4]
    assert choosing.edits("", "abc") == choosing.edits("abc", "") == 3
    assert choosing.edits("abcd", "bd") == 2
    assert choosing.farthest(words, 2, choosing.edits) == ["kitten", "sit"]
    assert choosing.farthest(words, 9, choosing.edits) == ["kitten", "sit", "sitting", "kit"]
    assert choosing.farthest(words, 1, choosing.edits) == ["kitten"]


def test_rewards_of_steps_are_those_by_hand(experiment):
    trace = next(trace for trace in experiment.traces if trace.comparisons)
    first, second = next(c.labels for c in trace.comparisons)
    won, lost = (first, second) if first in trace.answered else (second, first)
    outside = next(label for label in range(len(experiment.task.space)) if label not in trace.shortlisted)
    only = replace(trace, comparisons=trace.comparisons[:1])
    assert choosing.step_reward(only, {won}) == 1.0
    assert choosing.step_reward(only, {won, outside}) == pytest.approx((0.5 + 1) / 2)
    assert choosing.step_reward(only, {lost}) == pytest.approx((float(lost in trace.shortlisted) + 0) / 2)
    assert choosing.step_reward(only, {outside}) == 0.0


def test_the_best_text_is_that_of_the_highest_reward(experiment, samples, monkeypatch):
    samples([[0.5], [], [0.5], [], [], []])
    whole = trace_examples(experiment)
    assert choosing.best_by_steps(experiment) == whole, "the trace itself where nothing is better"
    rewards = iter([0.0, 1.0, *[0.0] * 9])
    monkeypatch.setattr(choosing, "step_reward", lambda text, gold: next(rewards))
    best = choosing.best_by_steps(experiment, steps=1.0)
    assert best[0] == sample_example(experiment.traces[0], experiment.language_model.tokenizer)
    assert best[1:] == whole[1:]
    with pytest.raises(ValueError, match="steps must be between 0 and 1, got 2"):
        choosing.best_by_steps(experiment, steps=2)


def test_a_critic_accepts_what_looks_like_right_samples(experiment, samples):
    samples([[1.0], [0.0], [1.0], [0.0], [1.0], [0.0]])
    whole = trace_examples(experiment)
    assert choosing.accepted(experiment, threshold=0.0) == whole
    assert choosing.accepted(experiment) == whole[::2], "six texts in many dimensions are told apart"
    with pytest.raises(ValueError, match="threshold must be lower than 1: the critic gives 0"):
        choosing.accepted(experiment, threshold=1.0)
    samples([[1.0]] * 6)
    assert choosing.accepted(experiment, threshold=1.0) == whole


def test_traces_are_the_shorter_the_easier_their_document(experiment, samples):
    samples([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [], [1, 1, 1, 0]])
    whole = trace_examples(experiment)
    short = shortening.by_difficulty(experiment)
    assert [short[row] for row in (2, 3, 4)] == [whole[row] for row in (2, 3, 4)]
    for row, (most, n_comparisons) in {0: (4, 0), 1: (8, 1), 5: (4, 0)}.items():
        trace = experiment.traces[row]
        if trace.free_form is not None:
            assert short[row] == whole[row], "it cannot be read"
            continue
        text = parsed(experiment, short[row])
        assert text.answer == trace.answer
        assert set(trace.answered) <= set(text.shortlisted)
        assert len(text.shortlisted) <= max(most, len(trace.answered))
        assert len(text.comparisons) <= n_comparisons
        assert len(short[row].ids) <= len(whole[row].ids)
    assert len(short[0].ids) < len(whole[0].ids)
    with pytest.raises(ValueError, match=r"hard must be at least 0 and below easy \(0.25\)"):
        shortening.by_difficulty(experiment, easy=0.25, hard=0.5)


def test_a_retraced_text_is_never_longer_and_never_worse(experiment):
    before, gold = f1_of(experiment, experiment.traces), gold_labels(experiment)
    n_shorter = 0
    for row, (example, whole) in enumerate(
        zip(shortening.retraced(experiment), trace_examples(experiment), strict=True)
    ):
        if example == whole:
            continue
        text, trace = parsed(experiment, example), experiment.traces[row]
        right = gold[trace.uid]
        f1 = 2 * len(set(text.answered) & right) / (len(text.answered) + len(right))
        assert f1 >= before[row]
        assert len(text.text) < len(trace.text)
        assert len(text.comparisons) < len(trace.comparisons)
        n_shorter += 1
    assert n_shorter > 0, "none was shortened, so that nothing was tested"


def test_gold_labels_are_listed_and_answered_in_an_edited_trace(experiment):
    gold = gold_labels(experiment)
    for trace in experiment.traces:
        right = gold[trace.uid]
        if trace.free_form is not None:
            assert writers.edited(trace, experiment, right) == trace
            continue
        mended = writers.edited(trace, experiment, right)
        assert set(mended.answered) == right <= set(mended.shortlisted)
        assert len(mended.comparisons) == len(trace.comparisons)
        outside = next(label for label in range(len(experiment.task.space)) if label not in trace.shortlisted)
        wrong = writers.edited(trace, experiment, {outside})
        assert wrong.shortlisted == (*trace.shortlisted, outside)
        assert wrong.answered == (outside,)
        assert wrong.prompt == trace.prompt
        assert writers.listing(trace, experiment, list(trace.shortlisted)).text == trace.text


def test_a_few_traces_and_other_writers(experiment):
    whole = trace_examples(experiment)
    assert writers.few_traces(experiment, n_few=2) == whole[:2]
    assert writers.by_writer(experiment, "teacher") == whole
    gold, by_rule = gold_labels(experiment), writers.by_writer(experiment)
    prompts = [tuple(example.ids[: example.n_prompt]) for example in whole]
    assert len(by_rule) > 0
    for example in by_rule:
        row = prompts.index(tuple(example.ids[: example.n_prompt]))
        assert set(parsed(experiment, example).answered) == gold[experiment.traces[row].uid]
    with pytest.raises(ValueError, match="writer must have the tokenizer of organism, got 'smollm2-mesh'"):
        writers.by_writer(experiment, "smollm2-mesh")


def test_documents_are_disturbed_in_three_ways():
    document, rng = "One a. Two b. Three c. Four d.", np.random.default_rng(0)
    parts = ["One a.", "Two b.", "Three c.", "Four d."]
    dropped, reordered, window = (hard.disturb(document, kind, rng) for kind in range(3))
    assert [part for part in parts if part in dropped] == dropped.replace(". ", ".|").split("|")
    assert len(dropped.split(". ")) == 3
    assert sorted(reordered.replace(". ", ".|").split("|")) == sorted(parts)
    assert window in {"One a. Two b.", "Two b. Three c.", "Three c. Four d."}
    assert hard.disturb("One sentence.", 0, rng) == "One sentence."


def test_only_disturbed_documents_with_the_same_answer_are_learned(experiment, monkeypatch):
    whole, tokenizer = trace_examples(experiment), experiment.language_model.tokenizer
    student = experiment.initial_student(0)
    assert hard.disturbed_examples(experiment, student, n_disturbed=0) == whole
    first, other = experiment.traces[:2]
    calls = []

    def written(part, *rest):
        calls.append(part.traces)
        long = [replace(trace, document=trace.document + " Once more." * len(calls)) for trace in part.traces]
        return [long[0], replace(long[1], mentions=()), *part.traces[2:]]

    monkeypatch.setattr(hard, "written", written)
    monkeypatch.setattr(hard, "disturb", lambda document, kind, rng: document)
    monkeypatch.setattr(hard, "divergences", lambda teacher, student, texts: [1.0, 2.0][: len(texts)])
    (added,) = hard.disturbed_examples(experiment, student, n_disturbed=2)[len(whole) :]
    assert added == sample_example(replace(first, document="another"), tokenizer)
    assert len(calls) == 2
    assert not hard.keeps(other, other), "it was not disturbed"


def test_the_divergence_of_a_text_is_that_of_its_logits(experiment):
    teacher, student = experiment.language_model.model, experiment.initial_student(0).eval()
    texts = [sample_example(trace, experiment.language_model.tokenizer) for trace in experiment.traces[:2]]
    for text, value in zip(texts, hard.divergences(teacher, student, texts), strict=True):
        ids = torch.tensor([text.ids])
        with torch.no_grad():
            p, q = (
                model(input_ids=ids).logits[0, text.n_prompt - 1 : -1].log_softmax(-1) for model in (teacher, student)
            )
        assert value == pytest.approx((p.exp() * (p - q)).sum(-1).mean().item(), rel=1e-3)
    assert hard.divergences(teacher, teacher, texts) == pytest.approx([0.0, 0.0], abs=1e-5)
    assert hard.divergences(teacher, student, []) == []


def test_topics_come_as_often_as_their_answers_are_wrong():
    topics = np.array([0, 0, 1, 1])
    assert pgkd.more_of_the_worst(np.array([0.2, 0.4, 0.3, 0.3]), topics) == [0, 1, 2, 3]
    assert pgkd.more_of_the_worst(np.ones(4), topics) == [0, 1, 2, 3]
    assert pgkd.more_of_the_worst(np.array([1.0, 1.0, 0.5, 0.0]), topics) == [2, 2, 3, 3]
    assert pgkd.more_of_the_worst(np.array([0.5, 0.5, 0.0, 0.0]), topics) == [0, 2, 2, 3]


def test_what_the_student_answers_wrongly_stands_in_the_shortlist(experiment, monkeypatch):
    gold = gold_labels(experiment)
    wrong = next(
        label
        for label in range(len(experiment.task.space))
        if all(label not in {*trace.shortlisted, *gold[trace.uid]} for trace in experiment.traces)
    )
    answers = [writers.edited(trace, experiment, {wrong}) for trace in experiment.traces[:1]] + experiment.traces[1:]
    monkeypatch.setattr(pgkd, "written", lambda *parts: answers)
    monkeypatch.setattr(pgkd, "more_of_the_worst", lambda scores, topics: [0, 0, *range(2, 6)])
    texts, whole = pgkd.where_it_fails(experiment, experiment.initial_student(0)), trace_examples(experiment)
    assert texts[0] == texts[1]
    assert parsed(experiment, texts[0]).shortlisted == (*experiment.traces[0].shortlisted, wrong)
    assert text_of(experiment, texts[2]) == text_of(experiment, whole[2])
