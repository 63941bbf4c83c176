"""Terms of last hidden states: their gradient, what they are blind to, their limits, and the maps that they train."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ctd.distill import train
from ctd.distill.examples import IGNORED, batches, collate
from ctd.distill.methods import METHODS, Arm, answer_examples
from ctd.distill.methods.hidden_states import HiddenStates, TeacherAlong, Text, projection, states_of
from ctd.distill.methods.lelp import Decisions, decisions, subclass_targets
from ctd.distill.methods.pst import answers_before_reasoning, lines_of
from ctd.distill.methods.semcot import paused_answers
from ctd.distill.methods.trg import nodes_of, relations
from ctd.distill.settings import Settings
from ctd.distill.token_loss import token_loss
from ctd.reasoning import predict
from tests.distill.methods.conftest import EXAMPLES, PASSAGES, batch_of, texts
from tests.distill.methods.test_every_method import LOSSES, made_loss
from tests.distill.test_losses import WIDTH, Dying, gradient, normal, stranger

OF_STATES = [name for name, method in METHODS.items() if "hidden" in method.needs]
LEARNED = ["pst", "semcot", "lelp", "dac"]  # methods whose loss has parameters of its own


def text(name, number, student, teacher):
    return Text(number, texts(name)[number], PASSAGES[number], student, teacher)


def read(model, name, number=0):
    """The last hidden state at each token of a method's text."""
    with torch.no_grad(), states_of(model) as states:
        model(input_ids=torch.tensor([texts(name)[number].ids]))
    return states[0][0]


@pytest.fixture
def along(course):
    return TeacherAlong(course.experiment)([0])[0]


def test_every_method_of_states_is_made_of_terms(course):
    assert set(OF_STATES) >= {"pst", "semcot", "trg", "lelp"}
    for name in OF_STATES:
        assert isinstance(made_loss(name, course), HiddenStates), name


@pytest.mark.parametrize("name", OF_STATES)
def test_the_gradient_of_a_term_is_that_of_finite_differences(name, course, student, along):
    term = made_loss(name, course).term
    for number, parameter in enumerate(getattr(term, "parameters", list)()):
        parameter.data += normal(*parameter.shape, seed=number) / 10
    states = read(student, name).requires_grad_()
    assert term(text(name, 0, states, along)).item() > 1e-3
    assert torch.autograd.gradcheck(lambda states: term(text(name, 0, states, along)), states)
    for parameter in getattr(term, "parameters", list)():
        assert torch.autograd.gradcheck(lambda _: term(text(name, 0, states, along)), parameter)


@pytest.mark.parametrize("name", OF_STATES)
def test_a_term_counts_for_every_target_and_beside_the_tokens(name, course, student):
    batch, teacher = batch_of(name), TeacherAlong(course.experiment)
    loss = made_loss(name, course)
    n_targets = (batch.targets != IGNORED).sum(1).tolist()
    terms = sum(
        n * loss.term(text(name, row, read(student, name, row), teacher([row])[0])) for row, n in enumerate(n_targets)
    )
    of_tokens = token_loss(student, batch)
    expected = loss.of_tokens * of_tokens + loss.weight * terms
    assert loss(student, batch).item() == pytest.approx(expected.item(), rel=1e-6)
    assert abs(expected - of_tokens) > 1e-2


@pytest.mark.parametrize("name", OF_STATES)
def test_without_its_weight_it_is_the_token_loss_bit_for_bit(name, course, student):
    weight = {"share" if name == "semcot" else "weight": 0.0}
    (got, value), (expected, same) = (
        gradient(loss, student, batch_of(name)) for loss in (made_loss(name, course, **weight), token_loss)
    )
    assert value == same
    assert torch.equal(got, expected)


def test_no_method_that_trains_more_than_its_student_is_forgotten(course):
    losses = {name: made_loss(name, course) for name in LOSSES}
    trained = [name for name, loss in losses.items() if list(getattr(loss, "parameters", list)())]
    assert sorted(trained) == sorted(LEARNED)


@pytest.mark.parametrize("name", LEARNED)
def test_a_killed_run_goes_on_with_the_map_of_its_loss(name, course, tmp_path):
    settings, learned = Settings(batch_tokens=100, epochs=4, warmup_steps=2, save_every=3), texts(name)
    ends = []
    for killed in (False, True):
        for left in (len(batches(learned, settings)) // 2 + 1, 10**9) if killed else (10**9,):
            student = stranger()
            loss = made_loss(name, course).float()
            loss.teacher = lambda numbers, device: [normal(32, WIDTH, seed=number).float() for number in numbers]
            loss.states = lambda batch: torch.ones(batch.n_targets, WIDTH)
            loss.head = [stranger().get_output_embeddings()]
            begun = torch.cat([weight.detach().flatten().clone() for weight in loss.parameters()])
            try:
                train.train(student, learned, settings, tmp_path / str(killed), loss=Dying(loss, left))
            except KeyboardInterrupt:
                continue
        ends.append([torch.cat([w.detach().flatten() for w in part.parameters()]) for part in (student, loss)])
    assert all(torch.equal(expected, actual) for expected, actual in zip(*ends, strict=True))
    assert not torch.equal(ends[0][1], begun)


class TestZero:
    def test_of_lines_that_are_the_teachers(self, course, along):
        """The same states, wherever in the student's text they stand."""
        term, example = made_loss("pst", course).term, texts("pst")[0]
        states = normal(len(example.ids), along.shape[1])
        states[-22:-1] = along[:21]
        assert term(text("pst", 0, states, along)).item() == pytest.approx(0, abs=1e-12)
        states[:19] += 1
        assert term(text("pst", 0, states, along)).item() == pytest.approx(0, abs=1e-12)
        states[-20] += normal(along.shape[1])
        assert term(text("pst", 0, states, along)).item() > 1e-3

    def test_of_pauses_whose_mean_is_the_teachers_reasoning(self, course, along):
        states = normal(40, along.shape[1])
        states[12:14] = along[:21].mean(0) * 3 + torch.stack([normal(along.shape[1]), -normal(along.shape[1])])
        assert made_loss("semcot", course).term(text("semcot", 0, states, along)).item() == pytest.approx(0, abs=1e-12)

    def test_of_a_graph_that_is_turned(self, along):
        turn = torch.linalg.qr(normal(*along.shape[1:] * 2))[0]
        states = torch.cat([normal(15, along.shape[1]), along @ turn])
        assert relations(text("trg", 0, states, along)).item() == pytest.approx(0, abs=1e-12)
        assert relations(text("trg", 0, states * 3, along)).item() == pytest.approx(0, abs=1e-12)
        states[nodes_of(PASSAGES[0])[0]] *= -1
        assert relations(text("trg", 0, states, along)).item() > 0.1


def test_a_graph_is_that_by_hand():
    """Two nodes at 60 degrees in the teacher and at 90 in the student."""
    trace = replace(PASSAGES[0], comparisons=(), shortlist=(PASSAGES[0].shortlist[0], PASSAGES[0].shortlist[2]))
    first, second = nodes_of(trace)
    student, teacher = torch.zeros(40, 2, dtype=torch.float64), torch.zeros(25, 2, dtype=torch.float64)
    student[first, 0] = student[second, 1] = teacher[first - 15, 0] = 2
    teacher[second - 15] = torch.tensor([0.5, 0.75**0.5])
    case = Text(0, EXAMPLES[0], trace, student, teacher)
    assert relations(case, neighbours=0).item() == pytest.approx(2 * 0.25 / 4)
    t, s = (1 / (1 + np.exp(-gap)) for gap in (0.5, 1))
    assert relations(case, edges=0, temperature=1).item() == pytest.approx(
        t * np.log(t / s) + (1 - t) * np.log((1 - t) / (1 - s))
    )
    assert relations(Text(0, EXAMPLES[0], replace(trace, shortlist=()), student, teacher)).item() == 0


def test_a_map_between_the_same_widths_may_be_none(course):
    fixed, learned = projection(course, "fixed"), projection(course, "learned")
    assert (len(list(fixed.parameters())), len(list(learned.parameters()))) == (0, 1)
    assert torch.equal(fixed.matrix, learned.matrix)
    course.experiment.shares_basis = False
    assert not torch.equal(projection(course, "fixed").matrix, learned.matrix)
    with pytest.raises(ValueError, match="projection_form must be one of learned, fixed, got 'free'"):
        projection(course, "free")


class TestLelp:
    def targets(self, subclasses, seed=0, n=12):
        rng = np.random.default_rng(3)
        verdict = np.arange(n) % 3 // 2
        decided = Decisions(*np.zeros((2, n), int), verdict, rng.standard_normal((n, 6)), rng.uniform(0.5, 1, n))
        return decided, subclass_targets(decided, subclasses, 1.0, seed)

    def test_subclasses_sum_to_the_verdicts_probability(self):
        decided, targets = self.targets(4)
        assert targets.shape == (12, 8)
        of_verdict = np.where(decided.verdict == 0, targets[:, :4].sum(1), targets[:, 4:].sum(1))
        assert of_verdict == pytest.approx(decided.sure)
        assert targets.sum(1) == pytest.approx(np.ones(12))

    def test_with_one_subclass_it_is_the_verdict_alone(self):
        decided, targets = self.targets(1)
        first = np.where(decided.verdict == 0, decided.sure, 1 - decided.sure)
        assert targets == pytest.approx(np.stack([first, 1 - first], 1))

    def test_coordinates_are_principal_components_with_variance_one(self):
        """By an eigendecomposition of the covariance."""
        decided, targets = self.targets(2)
        rows = decided.verdict == 0
        centre = decided.states[rows].mean(0)
        values, vectors = np.linalg.eigh(np.cov(decided.states[rows].T))
        coordinates = (decided.states - centre) @ vectors[:, [-1, -2]] / np.sqrt(values[[-1, -2]])
        turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((2, 2)))
        log_odds = np.log(targets[:, 0] / targets[:, 1])
        ways = [coordinates * signs @ turn for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
        assert any(np.allclose(way[:, 0] - way[:, 1], log_odds) for way in ways)

    def test_the_margin_of_the_two_labels_is_taken_out(self, course, teacher):
        decided = decisions(course.experiment)
        pairs = [(n, pair) for n, trace in enumerate(PASSAGES) for pair in trace.comparisons]
        assert decided.trace.tolist() == [n for n, _ in pairs]
        for row, (number, pair) in enumerate(pairs):
            logits = teacher(input_ids=torch.tensor([PASSAGES[number].ids])).logits[0, pair.decided[0]]
            gold, near = logits[[pair.gold_token, pair.near_token]].tolist()
            assert decided.sure[row] == pytest.approx(1 / (1 + np.exp(near - gold)), rel=1e-6)
            margin = teacher.lm_head.weight[pair.gold_token] - teacher.lm_head.weight[pair.near_token]
            assert decided.states[row] @ margin.detach().numpy() == pytest.approx(0, abs=1e-9)
        assert decided.verdict.tolist() == [0, 1] * 4, "which label was named first"

    def test_a_trace_without_a_decision_has_no_term(self, course, along):
        term = made_loss("lelp", course).term
        term.decided = term.decided._replace(trace=term.decided.trace + 1)
        assert term(text("lelp", 0, normal(40, WIDTH), along)).item() == 0


class TestRecipes:
    def test_the_reasoning_behind_the_answer_is_the_teachers_token_for_token(self, experiment):
        tokenizer = experiment.language_model.tokenizer
        rows = zip(
            answers_before_reasoning(experiment),
            answer_examples(experiment),
            experiment.traces,
            experiment.annotated_traces,
            strict=True,
        )
        for example, answer, trace, annotated in rows:
            assert (example.ids[: len(answer.ids)], example.n_prompt) == (answer.ids, answer.n_prompt)
            assert example.only_read == ((len(answer.ids), len(example.ids)),)
            assert tokenizer.decode(example.ids[len(answer.ids) :]) == f"<think>\n{trace.cot}"
            shift = len(example.ids) - annotated.cot.end - 1
            lines = lines_of(trace, tokenizer)
            assert len(lines) == sum(line not in ("Shortlist:", "Compare:") for line in trace.cot.splitlines())
            for start, end in lines:
                same = annotated.ids[start + 1 : end + 1]
                assert tuple(example.ids[start + 1 + shift : end + 1 + shift]) == same
                assert tokenizer.decode(same).strip("\n") in trace.cot.splitlines()

    def test_without_the_reasoning_the_loss_is_that_of_the_answer(self, experiment):
        student = experiment.initial_student(0).train()
        gradients = [
            gradient(token_loss, student, collate(recipe(experiment), range(2)))
            for recipe in (answers_before_reasoning, answer_examples)
        ]
        assert gradients[0][1] == pytest.approx(gradients[1][1], rel=1e-5)
        torch.testing.assert_close(gradients[0][0], gradients[1][0], rtol=1e-3, atol=1e-3)

    def test_pauses_stand_before_the_answer_and_none_are_the_answer_alone(self, experiment):
        tokenizer = experiment.language_model.tokenizer
        assert paused_answers(experiment, 0) == answer_examples(experiment)
        for example, answer, trace in zip(
            paused_answers(experiment), answer_examples(experiment), experiment.traces, strict=True
        ):
            (start, end), (same, learned) = example.only_read
            assert (tokenizer.decode(example.ids[start:end]), start, end) == (".\n" * 5, example.n_prompt, same)
            assert tokenizer.decode(example.ids[:start]) == trace.prompt
            assert tokenizer.decode(example.ids[end:learned]) == "Answer:\n"
            assert example.ids[learned:] == answer.ids[answer.n_prompt :]
        with pytest.raises(ValueError, match="n_pauses must be at least 0, got -1"):
            paused_answers(experiment, -1)

    def test_a_student_is_asked_as_it_was_taught(self, experiment, monkeypatch):
        prompts_seen = []
        monkeypatch.setattr(predict, "generate", lambda model, prompts, *rest: prompts_seen.extend(prompts))
        monkeypatch.setattr(predict.rank_answers, "rank", lambda *arguments: [])
        for arm in (Arm("a", "answer"), Arm("s", "semcot"), Arm("t", "semcot", settings=(("n_pauses", 2),))):
            request = predict.Request(arm.base.mode, after_prompt=arm.after_prompt)
            predict.reason(experiment.teacher, ["a document"], experiment.index, request)
        assert prompts_seen == [f"Document: a document\n{between}Answer:\n" for between in ("", ".\n" * 5, ".\n.\n")]
