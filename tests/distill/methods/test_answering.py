"""Ways of answering that take more than one text: their limits, what each text is asked for, and what they cost."""

from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch

from ctd.distill import ask_again, teach, train
from ctd.distill.examples import answer_example
from ctd.distill.methods import METHODS, Arm, Stage, copt, planning
from ctd.distill.methods.answering import PHASE_2, AnsweringStudent, load_experts, phase_1, phase_2, plainly
from ctd.distill.methods.lorid import KNOWLEDGE, REASONING, agreeing
from ctd.reasoning import predict
from ctd.reasoning.predict import Request


@pytest.fixture(scope="module")
def teacher_as_student(experiment):
    """The teacher itself, asked as a student."""
    return AnsweringStudent(
        experiment.teacher, experiment.test_documents, experiment.index, max_tokens=experiment.plan.max_tokens
    )


def texts(answers):
    return [answer.trace.text for answer in answers]


def labels(answers):
    return [sorted(answer.ranking) for answer in answers]


def test_phase_1_ends_before_the_comparisons_and_phase_2_goes_on_from_it(experiment, teacher_as_student):
    whole, plans = teacher_as_student.write(), teacher_as_student.write(phase_1(teacher_as_student.request))
    for plan, text in zip(plans, texts(whole), strict=True):
        assert plan.trace.text == text[: text.index(PHASE_2)]
        assert plan.trace.shortlisted
    assert [plan.trace.shortlisted for plan in plans] == [answer.trace.shortlisted for answer in whole]
    assert texts(teacher_as_student.write(phase_2(teacher_as_student.request, plans))) == texts(whole)
    assert phase_2(teacher_as_student.request, plans).beginnings[0].endswith(PHASE_2)


class TestPlans:
    def test_one_plan_is_the_plain_way(self, teacher_as_student):
        plain, planned = teacher_as_student.write(), planning.best_of_plans(teacher_as_student, 1)
        assert texts(planned) == texts(plain)
        assert labels(planned) == labels(plain)

    def test_the_plan_most_like_the_others_is_gone_on_with(self):
        assert planning.most_alike([{1, 2}, {1, 3}, {1, 2, 3}, {9}]) == 2
        assert planning.most_alike([{1}, {2}]) == 0  # none is more alike
        assert planning.most_alike([set(), {2}, {2}]) == 1

    def test_all_plans_are_paid_for_and_one_of_them_stands_in_the_text(self, teacher_as_student, monkeypatch):
        written = []
        monkeypatch.setattr(
            AnsweringStudent,
            "write",
            lambda self, *args, write=AnsweringStudent.write, **options: (
                written.append(write(self, *args, **options)) or written[-1]
            ),
        )
        answers = planning.best_of_plans(teacher_as_student, 3)
        *plans, last = written
        assert len(plans) == 3
        assert texts(plans[0]) != texts(plans[1]) != texts(plans[2])
        for row, answer in enumerate(answers):
            assert answer.trace.text.partition(PHASE_2)[0] in [plan[row].trace.text for plan in plans]
            assert answer.n_tokens == sum(plan[row].n_tokens for plan in plans) + last[row].n_tokens

    def test_none_is_refused(self, teacher_as_student):
        with pytest.raises(ValueError, match="n_plans must be at least 1, got 0"):
            planning.best_of_plans(teacher_as_student, 0)


class TestCopT:
    def test_its_ends_are_the_answer_at_once_and_the_trace(self, teacher_as_student):
        drafts, thought = teacher_as_student.write(Request("answer")), teacher_as_student.write()
        assert copt.where_unsure(teacher_as_student, float("inf")) == drafts
        always = copt.where_unsure(teacher_as_student, float("-inf"))
        assert texts(always) == texts(thought)
        assert [answer.n_tokens for answer in always] == [
            draft.n_tokens + text.n_tokens for draft, text in zip(drafts, thought, strict=True)
        ]

    def test_between_them_the_uncertain_ones_are_thought_about(self, experiment, teacher_as_student):
        tokenizer, model = experiment.language_model.tokenizer, experiment.language_model.model
        drafts = teacher_as_student.write(Request("answer"))
        examples = [answer_example(draft.trace, tokenizer) for draft in drafts]
        gaps = [copt.uncertainty(model, example.ids, example.n_prompt) for example in examples]
        middle = float(np.mean([min(gaps), max(gaps)]))
        thought = ["<think>" in text for text in texts(copt.where_unsure(teacher_as_student, middle))]
        assert thought == [gap > middle for gap in gaps]
        assert 0 < sum(thought) < len(thought)

    def test_the_contrast_by_hand(self):
        read, expected = (torch.tensor([[p, 1 - p] for p in values]).log() for values in ((0.9, 0.8), (0.6, 0.7)))
        assert copt.contrast(read, expected, torch.tensor([0, 0])) == pytest.approx(0.2694982504)
        assert copt.contrast(read, expected, torch.tensor([1, 1])) == pytest.approx(
            (log(0.1 / 0.4) + log(0.2 / 0.3)) / 2
        )

    def test_the_uncertainty_is_that_of_two_passes_by_hand(self, experiment, teacher_as_student):
        model = experiment.language_model.model
        ids = [*range(20, 40)]
        with torch.no_grad():
            log_p = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            read = model.get_input_embeddings()(torch.tensor(ids))
            for place in range(15, 20):
                read[place] = (log_p[place - 1].exp()[:, None] * model.get_input_embeddings().weight).sum(0)
            expected = model(inputs_embeds=read[None]).logits[0].log_softmax(-1)
        by_hand = np.mean(
            [(log_p[place - 1, ids[place]] - expected[place - 1, ids[place]]).item() for place in range(16, 19)]
        )
        assert copt.uncertainty(model, ids, 15) == pytest.approx(by_hand, abs=1e-4)
        assert copt.uncertainty(model, ids[:17], 15) == 0
        assert copt.uncertainty(model, ids[:18], 15) != 0

    def test_one_that_is_sure_of_every_token_is_certain(self, experiment, monkeypatch):
        model, ids = experiment.language_model.model, [*range(20, 35)]
        head = model.lm_head.forward
        monkeypatch.setattr(model.lm_head, "forward", lambda hidden: 1e4 * head(hidden))
        with torch.no_grad():
            for _ in range(5):
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        assert copt.uncertainty(model, ids, 15) == 0

    def test_its_students_learn_both_orders(self, experiment):
        learned = copt.both_orders(experiment)
        text = [experiment.language_model.tokenizer.decode(example.ids[example.n_prompt :]) for example in learned]
        half = len(experiment.traces)
        assert len(text) == 2 * half
        assert all("Shortlist:" in part for part in text[:half])
        assert not any("Shortlist:" in part for part in text[half:])


class TestLoRID:
    @pytest.fixture
    def alike(self, teacher_as_student):
        """Three experts that are one and the same model."""
        return replace(teacher_as_student, experts=dict.fromkeys((KNOWLEDGE, REASONING), teacher_as_student.model))

    def test_experts_that_are_the_same_agree_at_once_on_the_plain_answer(self, alike):
        plain = alike.write()
        for tries in (1, 4):
            answers = agreeing(alike, tries)
            assert texts(answers) == texts(plain)
            assert all(answer.n_tokens > 2 * short.n_tokens - 5 for answer, short in zip(answers, plain, strict=True))

    def test_who_never_agrees_falls_back_on_the_first_answer_of_both_phases(self, alike, monkeypatch):
        plain, asked_of = alike.write(), []
        write = AnsweringStudent.write

        def disagreeing(self, request=None, writer=None, rows=None, seed=0):
            asked_of.append((list(rows), seed, request.temperature))
            written = write(self, request, writer, rows, seed)
            at_once = writer is None
            return [
                replace(answer, ranking=(10**6,)) if at_once and row else answer
                for row, answer in zip(rows, written, strict=True)
            ]

        monkeypatch.setattr(AnsweringStudent, "write", disagreeing)
        answers = agreeing(alike, 3)
        assert texts(answers) == texts(plain)
        everyone = list(range(len(plain)))
        assert asked_of == [
            *[(everyone, 0, 0.0)] * 3, *[(everyone[1:], 1, 1.0)] * 3, *[(everyone[1:], 2, 1.0)] * 3,
        ]  # fmt: skip
        assert answers[1].n_tokens > 2 * answers[0].n_tokens

    def test_fewer_than_one_try_is_refused(self, teacher_as_student):
        with pytest.raises(ValueError, match="tries must be at least 1, got 0"):
            agreeing(teacher_as_student, 0)

    def test_each_expert_is_a_student_of_its_own_texts(self, experiment, tmp_path, monkeypatch):
        """Without adapters, the expert that reasons at once is a cot student of as many steps, to the last bit."""
        short, arm = experiment.with_plan(n_steps=6), Arm("lorid", "lorid")
        whole = replace(
            METHODS["lorid"], rank=0, before=tuple(replace(stage, rank=0) for stage in METHODS["lorid"].before)
        )
        monkeypatch.setitem(METHODS, "lorid", whole)
        student, log = teach.train_student(short, arm, 0, tmp_path / "lorid")
        alone, _ = teach.train_student(experiment.with_plan(n_steps=2), Arm("cot", "cot"), 0, tmp_path / "cot")
        assert len(log) == 6
        assert all(torch.equal(a, b) for a, b in zip(student.parameters(), alone.parameters(), strict=True))
        for name, stage in zip((KNOWLEDGE, REASONING), whole.before, strict=True):
            monkeypatch.setitem(METHODS, "part", replace(METHODS["cot"], examples=stage.examples))
            alone, _ = teach.train_student(experiment.with_plan(n_steps=2), Arm("part", "part"), 0, tmp_path / name)
            expert = load_experts(tmp_path / "lorid" / teach.EXPERTS, experiment.teacher)[name]
            assert all(
                torch.equal(a, b)
                for a, b in zip(expert.language_model.model.parameters(), alone.parameters(), strict=True)
            )

    def test_adapters_change_each_expert_in_few_directions(self, experiment, tmp_path):
        arm = Arm("lorid", "lorid")
        teach.teach(experiment, arm, 0, tmp_path)
        (home,) = tmp_path.iterdir()
        first = dict(experiment.initial_student(0).named_parameters())
        by_name = load_experts(home / teach.EXPERTS, experiment.teacher)
        assert by_name.keys() == {KNOWLEDGE, REASONING}
        experts = [expert.language_model.model for expert in by_name.values()]
        for expert in experts:
            changed = {name: weight.float() - first[name] for name, weight in expert.named_parameters()}
            moved = [name for name, change in changed.items() if change.abs().max() > 0]
            assert moved
            assert all(torch.linalg.matrix_rank(changed[name], rtol=1e-3) <= 16 for name in moved)
            assert not any("norm" in name or "embed" in name for name in moved)
        assert any(not torch.equal(a, b) for a, b in zip(*(expert.parameters() for expert in experts), strict=True))
        answers = ask_again.answers(experiment, arm, 0, tmp_path)
        assert [list(answer.ranking) for answer in answers] == teach.read(home, "lorid", 0).answers

    def test_a_killed_training_ends_with_the_same_experts(self, experiment, tmp_path, monkeypatch):
        short, arm, step, calls = experiment.with_plan(n_steps=3), Arm("lorid", "lorid"), train.Trainer.step, []

        def dying(self, *args):
            calls.append(args)
            if len(calls) == 3:  # the first step of the last stage
                raise KeyboardInterrupt
            return step(self, *args)

        weights = []
        for killed in (False, True):
            home = tmp_path / str(killed)
            if killed:
                monkeypatch.setattr(train.Trainer, "step", dying)
                with pytest.raises(KeyboardInterrupt):
                    teach.train_student(short, arm, 0, home)
            student, log = teach.train_student(short, arm, 0, home)
            assert len(log) == 3
            experts = load_experts(home / teach.EXPERTS, experiment.teacher)
            models = [student, *(expert.language_model.model for expert in experts.values())]
            assert len(models) == 3
            weights.append([weight.detach().float() for model in models for weight in model.parameters()])
        assert len(calls) == 4
        assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_a_way_of_answering_is_in_the_key_and_its_settings_are_the_methods(experiment, monkeypatch):
    assert METHODS["plans"].settings == {"n_plans": 4}
    assert METHODS["cot"].answers is plainly
    traced = {name for name in ("cot", "answer", "lorid", "copt", "plans", "fkl") if Arm(name, name).writes_traces}
    assert traced == {"cot", "fkl"}
    arm = Arm("plans", "plans")
    before = teach.key(experiment, arm, 0)
    assert teach.key(experiment, replace(arm, settings=(("n_plans", 2),)), 0) != before
    monkeypatch.setitem(METHODS, "plans", replace(METHODS["plans"], answers=plainly))
    assert teach.key(experiment, arm, 0) != before
    monkeypatch.setitem(METHODS, "plans", replace(METHODS["cot"], before=(Stage(expert="another"),)))
    assert teach.key(experiment, arm, 0) != teach.key(experiment, Arm("cot", "cot"), 0)


def test_a_stop_of_a_request_takes_the_place_of_the_modes_own(experiment, teacher_as_student):
    request = Request("first", stop=("\n",))
    for answer in predict.reason(
        experiment.teacher, experiment.test_documents, experiment.index, request, max_tokens=50
    ):
        assert "\n" not in answer.trace.text.removeprefix("Answer:\n").strip("\n")
