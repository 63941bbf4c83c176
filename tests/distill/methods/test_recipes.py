"""What each method learns from on real traces, and how its students are taught and asked."""

from dataclasses import replace
from itertools import groupby

import pytest

from ctd.distill import pool, teach
from ctd.distill.examples import check
from ctd.distill.methods import METHODS, Arm, answer_examples, base_losses, trace_examples
from ctd.distill.methods.chunks import chunk_examples, comes_out, lines, shortened, skippable, starts, without
from ctd.distill.methods.texts import answer_first, plans, right_traces
from ctd.distill.methods.warmup import toy_examples
from ctd.reasoning import predict, trace_parser


def learned(example):
    """The places of the tokens that an example teaches."""
    read = {place for start, end in example.only_read for place in range(start, end)}
    return [place for place in range(example.n_prompt, len(example.ids)) if place not in read]


def test_every_recipe_gives_texts_that_can_be_learned(experiment):
    student = experiment.initial_student(0)
    for name, method in METHODS.items():
        for stage in method.stages:
            if stage.examples.__name__ != "toy_examples":
                check(stage.texts(experiment, student, {"at_least": 0.0}))
        if method.whole_traces:
            traces = [example.trace for example in method.texts(experiment, student, {"at_least": 0.0})]
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
    kept = shortened(experiment, student)
    assert all(len(short.ids) <= len(long.ids) for short, long in zip(kept, whole, strict=True))
    teacher = experiment.language_model.model
    asked = [whole[0]._replace(n_prompt=len(whole[0].ids) - 1)]
    assert comes_out(teacher, asked) == [True], "the teacher ends its own text"


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
    asked = []
    monkeypatch.setattr(predict, "generate", lambda model, prompts, sampling, *rest: asked.append((prompts, sampling)))
    monkeypatch.setattr(predict.rank_answers, "rank", lambda *given: [])
    for mode in ("first", "answer"):
        predict.reason(experiment.teacher, ["a document"], experiment.index, predict.Request(mode))
    (first, sampling), (answer, plain) = asked
    assert first == answer
    assert (sampling.stop, plain.stop) == (("<think>\n",), ())


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
        arm = Arm("both", "mechanistic", base_loss=name)
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
