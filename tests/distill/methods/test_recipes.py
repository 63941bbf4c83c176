"""What each method learns from on real traces, and how its students are taught and asked."""

from dataclasses import replace
from itertools import groupby

import pytest
import torch

from ctd.distill import pool, teach
from ctd.distill.examples import check
from ctd.distill.methods import METHODS, Arm, answer_examples, base_losses, trace_examples
from ctd.distill.methods.chunks import chunk_examples, comes_out, lines, shortened, skippable, starts, without
from ctd.distill.methods.pairs import Pairs, flawed, flawed_pairs, sampled_pairs
from ctd.distill.methods.teacher_samples import teacher_samples
from ctd.distill.methods.texts import answer_first, gold_labels, plans, right_traces
from ctd.distill.methods.warmup import toy_examples
from ctd.reasoning import predict, trace_parser

ALL = {
    "at_least": 0.0,
    "gap": -1.0,
    "n_samples": 2,
    "n_candidates": 2,
    "max_lines": 9,
    "keep": 1.0,
    "n_disturbed": 2,
    "threshold": 0.0,
    "group": 2,
}  # no text is too bad, and few are drawn


def learned(example):
    """The places of the tokens that an example teaches."""
    read = {place for start, end in example.only_read for place in range(start, end)}
    return [place for place in range(example.n_prompt, len(example.ids)) if place not in read]


def test_every_recipe_gives_texts_that_can_be_learned(experiment):
    student = experiment.language_model.model  # one that knows the format
    for name, method in METHODS.items():
        for stage in method.stages:
            if stage.examples.__name__ != "toy_examples":
                check(stage.texts(experiment, student, ALL))
        if method.whole_traces:
            traces = [example.trace for example in method.texts(experiment, student, ALL)]
            assert traces == sorted(set(traces)), name


def test_the_control_learns_right_traces_alone(experiment):
    rows = experiment.task.documents["train"]
    gold = dict(zip(rows["uid"], rows["labels"], strict=True))
    right = [number for number, trace in enumerate(experiment.traces) if set(trace.answered) == set(gold[trace.uid])]
    assert [example.trace for example in right_traces(experiment)] == right
    assert len(right) > 0
    assert right_traces(experiment, at_least=0.0) == trace_examples(experiment)
    wrong = replace(experiment.traces[0], mentions=())
    spoiled = replace(experiment, traces=[wrong] * 2, annotated_traces=experiment.annotated_traces[:2])
    with pytest.raises(ValueError, match="at_least must be lower than 0.5: none of the 2 traces"):
        right_traces(spoiled, at_least=0.5)


def test_chunks_partition_what_cot_learns(experiment):
    whole = trace_examples(experiment)
    parts = chunk_examples(experiment, block=2)
    grouped = [list(group) for _, group in groupby(parts, key=lambda part: tuple(part.ids[: whole[0].n_prompt]))]
    assert len(parts) > 3 * len(whole)
    taught = [place for part in parts for place in learned(part)]
    assert taught == [place for example in whole for place in learned(example)]
    assert grouped


def test_chunks_begin_where_the_trace_says(experiment):
    for trace in experiment.traces:
        if trace.free_form is not None:
            continue
        pieces = [trace.text[place:] for place in starts(trace, 2)]
        assert pieces[0].startswith("Shortlist:")
        assert pieces[-1].startswith("\n</think>")
        assert [trace.text[slice(*line)] for line in lines(trace)] == trace.text[
            slice(*trace.shortlist)
        ].strip().splitlines()[1:]


def test_a_trace_without_what_is_skipped_is_still_a_trace(experiment):
    space = experiment.task.space
    for trace in experiment.traces:
        if trace.free_form is not None:
            continue
        spans = skippable(trace, 4)
        assert len(spans) >= 2
        block = next(span for span in spans if trace.text[slice(*span)].startswith("\n- "))
        for left_out in ([span for span in spans if span != block], spans[:1], spans[-1:]):
            short = trace_parser.parse(without(trace.text, left_out), space, document=trace.document)
            assert short.answer == trace.answer
            assert len(short.text) < len(trace.text)


def test_chunks_are_skipped_where_the_answer_still_comes_out(experiment):
    student, whole = experiment.initial_student(0), trace_examples(experiment)
    shorter = shortened(experiment, student)
    assert all(len(short.ids) <= len(long.ids) for short, long in zip(shorter, whole, strict=True))
    teacher = experiment.language_model.model
    examples = [whole[0]._replace(n_prompt=len(whole[0].ids) - 1)]
    assert comes_out(teacher, examples) == [True], "the teacher ends its own text"


def test_the_answer_comes_first_and_weights_say_what_it_counts(experiment):
    tokenizer = experiment.language_model.tokenizer
    for example, answer, trace in zip(
        answer_first(experiment), answer_examples(experiment), experiment.traces, strict=True
    ):
        text = tokenizer.decode(example.ids)
        assert text.startswith(tokenizer.decode(answer.ids[:-1])), "as the answer alone, up to its end"
        assert text.endswith(f"<think>\n{trace.cot}\n</think>\n{tokenizer.eos_token}")
        assert example.weights == ()
    weighted = answer_first(experiment, answer_weight=0.9)[0]
    (start, middle, high), (same, end, low) = weighted.weights
    assert (start, same, end, high, low) == (weighted.n_prompt, middle, len(weighted.ids), 1.8, pytest.approx(0.2))
    assert tokenizer.decode(weighted.ids[middle:]).startswith("<think>")


def test_a_student_that_answers_first_stops_before_its_reasoning(experiment, monkeypatch):
    calls = []
    monkeypatch.setattr(predict, "generate", lambda model, prompts, sampling, *rest: calls.append((prompts, sampling)))
    monkeypatch.setattr(predict.rank_answers, "rank", lambda *arguments: [])
    for mode in ("first", "answer"):
        predict.reason(experiment.teacher, ["a document"], experiment.index, predict.Request(mode))
    (first, sampling), (answer, plain) = calls
    assert first == answer
    assert (sampling.stop, plain.stop) == (("<think>\n",), ())


def test_samples_of_the_teacher_are_drawn_once_and_graded(experiment, monkeypatch):
    drawn, gold = teacher_samples(experiment, n_samples=2), gold_labels(experiment)
    for samples, trace in zip(drawn, experiment.traces, strict=True):
        for sample in samples:
            answered, wanted = set(sample.trace.answered), gold[trace.uid]
            assert sample.trace.prompt == trace.prompt
            assert sample.f1 == pytest.approx(2 * len(answered & wanted) / (len(answered) + len(wanted)))
    texts = [[sample.trace.text for sample in samples] for samples in drawn]
    assert any(first != second for first, second in (pair for pair in texts if len(pair) == 2))
    monkeypatch.setattr(type(experiment.language_model.model), "forward", lambda *_: pytest.fail("they are kept"))
    assert [[sample.trace.text for sample in samples] for samples in teacher_samples(experiment, n_samples=2)] == texts
    for wrong in ({"n_samples": 0}, {"temperature": 0.0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
            teacher_samples(experiment, **wrong)


def test_a_pair_is_a_trace_and_the_worst_sample(experiment):
    whole, drawn = trace_examples(experiment), teacher_samples(experiment, n_samples=2)
    for pair in sampled_pairs(experiment, gap=-1.0, n_samples=2):
        worst = min(drawn[pair.trace], key=lambda sample: sample.f1).trace
        assert pair._replace(paired=None) == whole[pair.trace]
        assert experiment.language_model.tokenizer.decode(pair.paired.ids).startswith(worst.prompt + worst.text)
    with pytest.raises(ValueError, match="gap must be lower than 2: no document has an answer that is worse"):
        sampled_pairs(experiment, gap=2.0, n_samples=2)


def test_a_flawed_trace_answers_what_it_decided_against(experiment):
    space, n_flawed = experiment.task.space, 0
    for trace in experiment.traces:
        if (text := flawed(trace, space.texts)) is None:
            continue
        wrong, n_flawed = trace_parser.parse(text, space, document=trace.document), n_flawed + 1
        assert wrong.shortlisted == trace.shortlisted
        assert len(set(trace.answered) - set(wrong.answered)) == 1
        assert flawed(wrong, space.texts) == trace.text
    assert n_flawed > 0
    assert len(flawed_pairs(experiment)) == n_flawed


@pytest.mark.parametrize("name", ["redi", "orpo", "kto"])
def test_a_killed_training_of_pairs_ends_with_the_same_weights(name, experiment, tmp_path, monkeypatch):
    """The last stage begins again, and with it the reference, which is the student of the stage before."""
    plan = replace(experiment.plan, n_steps=2)
    settings = tuple((key, value) for key, value in ALL.items() if key in METHODS[name].settings)
    short, arm = replace(experiment, plan=plan), Arm(name, name, settings=settings)
    weights, calls, of_pairs = [], [], Pairs.forward

    def dying(self, model, batch):
        calls.append(batch)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return of_pairs(self, model, batch)

    for killed in (False, True):
        if killed:
            monkeypatch.setattr(Pairs, "forward", dying)
            with pytest.raises(KeyboardInterrupt):
                teach.train_student(short, arm, 0, tmp_path / str(killed))
        student, log = teach.train_student(short, arm, 0, tmp_path / str(killed))
        weights.append(torch.cat([weight.detach().flatten() for weight in student.parameters()]))
        assert len(log) == 2
    assert torch.equal(*weights)
    if arm.base.before:  # then each stage takes one step, the first of its rates
        assert log[1]["rate"] == pytest.approx(log[0]["rate"] * arm.base.rate)
    assert teach.key(short, arm, 0) != teach.key(short, Arm("cot", "cot"), 0)


def test_plans_teach_phase_1_alone(experiment):
    tokenizer = experiment.language_model.tokenizer
    for example, trace, whole in zip(plans(experiment), experiment.traces, trace_examples(experiment), strict=True):
        places = learned(example)
        assert places[0] == whole.n_prompt
        text = tokenizer.decode(example.ids[places[0] : places[-1] + 1])
        assert trace.text[trace.cot_span.start : trace.shortlist.end].startswith(text.rstrip("\n"))
        assert "Shortlist:" in text
        assert "Compare" not in text


def test_the_mechanistic_terms_can_be_added_to_every_method_of_whole_traces(experiment):
    student = experiment.initial_student(0)
    assert {"filtered", "taid", "tsd", "pld-labels", "efsft", "warmup"} <= set(base_losses())
    for name in base_losses():
        known = METHODS[name].settings
        settings = tuple((setting, value) for setting, value in ALL.items() if setting in known)
        arm = Arm("both", "mechanistic", base_loss=name, settings=settings)
        examples = arm.texts(experiment, None, student)
        loss = arm.loss(experiment, student, None, examples)
        traces = [experiment.annotated_traces[example.trace] for example in examples]
        assert loss.annotated_traces == traces, name


def test_a_method_of_two_stages_shares_its_steps(experiment, tmp_path):
    plan = replace(experiment.plan, n_steps=5)
    two = replace(experiment, plan=plan)
    (outcome,) = pool.run(two, [Arm("efsft", "efsft")], [0], tmp_path, n_workers=1)
    (home,) = tmp_path.iterdir()
    assert outcome.steps == 5
    assert len((home / "stage_1" / "log.csv").read_text().splitlines()) == 1 + 2
    assert not list(home.rglob("checkpoint.pt"))
    assert teach.key(two, Arm("efsft", "efsft"), 0) != teach.key(two, Arm("cot", "cot"), 0)


def test_a_toy_domain_gives_traces_in_the_format_that_fit(experiment):
    tokenizer = experiment.language_model.tokenizer
    toys = toy_examples(experiment, n_toy=12)
    check(toys)
    assert 0 < len(toys) <= 12
    for example in toys:
        assert tokenizer.decode(example.ids[: example.n_prompt]).endswith("<think>\n")
        assert tokenizer.decode(example.ids[example.n_prompt :]).startswith("Topics:")
    with pytest.raises(ValueError, match="domain must have texts that fit into the teacher's context"):
        toy_examples(experiment, domain="setmm-slice", n_toy=2)
