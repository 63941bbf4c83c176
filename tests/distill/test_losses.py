"""Each term is zero on identical input, has the right gradient, and does not see padding; divergences against TRL."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch

from ctd.distill import loss_forms, losses, signals, trace_signals, train
from ctd.distill.examples import IGNORED, Example, batches, collate
from ctd.distill.losses import Weights
from ctd.distill.settings import Settings
from ctd.distill.token_loss import token_loss
from tests.distill.test_signals import CHOSEN, read
from tests.mechanism.test_attention import build_model
from tests.mechanism.test_heads import PASSAGES

WIDTH = build_model("llama").config.hidden_size


def learned():
    return loss_forms.LearnedMap(WIDTH, WIDTH)


def stranger():
    """A model of the same shape with other weights."""
    model = build_model("llama")
    torch.manual_seed(5)
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.data = torch.randn_like(weight) * weight.std()
    return model


ROW = torch.tensor([0, 0, 1, 1, 1])


def distribution(n, x, seed):
    return torch.rand(n, x, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).add(0.05).softmax(-1)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


CASES = {
    "kl": (losses.kl, lambda seed: distribution(5, 4, seed)),
    "write_cosine": (loss_forms.write_cosine, lambda seed: normal(5, 6, seed=seed)),
    "gram_distance": (losses.gram_distance, lambda seed: normal(2, 3, 3, seed=seed)),
    "along_cosine": (lambda t, s: losses.along_cosine(t, s, ROW, 2), lambda seed: normal(5, seed=seed)),
}


@pytest.mark.parametrize("name", CASES)
class TestTerms:
    def test_is_zero_on_identical_input_and_above_on_other(self, name):
        loss, draw = CASES[name]
        assert loss(draw(1), draw(1)).item() == pytest.approx(0, abs=1e-12)
        assert loss(draw(1), draw(2)).item() > 1e-3

    def test_gradient_is_that_of_finite_differences(self, name):
        loss, draw = CASES[name]
        assert torch.autograd.gradcheck(lambda student: loss(draw(1), student), draw(2).requires_grad_())

    def test_nothing_asks_for_nothing(self, name):
        if name == "gram_distance":
            pytest.skip("of passages, of which a batch has some")
        loss, draw = CASES[name]
        none = draw(2)[:0].requires_grad_()
        value = (
            losses.along_cosine(none.detach(), none, ROW[:0], 2) if name == "along_cosine" else loss(draw(1)[:0], none)
        )
        assert value.item() == 0
        value.backward()


def test_terms_against_formulas():
    p, q = distribution(3, 4, 1), distribution(3, 4, 2)
    assert losses.kl(p, q).item() == pytest.approx((p * (p / q).log()).sum(-1).mean().item())
    a, b = normal(3, 4, seed=1), normal(3, 4, seed=2)
    cosine = (a * b).sum(-1) / a.norm(dim=-1) / b.norm(dim=-1)
    assert loss_forms.write_cosine(a, b).item() == pytest.approx((1 - cosine).mean().item())
    t, s = normal(5, seed=1), normal(5, seed=2)
    by_row = [1 - (t[r == ROW] @ s[r == ROW] / t[r == ROW].norm() / s[r == ROW].norm()).item() for r in (0, 1)]
    assert losses.along_cosine(t, s, ROW, 3).item() == pytest.approx(np.mean(by_row)), "the third has no query"


def test_the_interaction_is_blind_to_a_rotation_of_the_writes():
    writes, other = normal(5, 3, 6, seed=1), normal(5, 3, 6, seed=2)
    turn, _ = torch.linalg.qr(normal(6, 6, seed=3))
    grams = [signals.gram(values, ROW, 2) for values in (writes, other, other @ turn)]
    assert losses.gram_distance(grams[0], grams[1]).item() == pytest.approx(
        losses.gram_distance(grams[0], grams[2]).item()
    )
    with pytest.raises(ValueError, match=r"as many heads on both sides, got \[2, 3, 3\] and \[2, 2, 2\]"):
        losses.gram_distance(grams[0], grams[0][:, :2, :2])


class Diverging(torch.autograd.Function):
    """A divergence as a function of the student's logits, with the gradient that comes with it."""

    @staticmethod
    def forward(ctx, teacher, student, which):
        value, ctx.gradient = losses.divergence(teacher.log_softmax(-1), student.log_softmax(-1), which, 0.3)
        return value

    @staticmethod
    def backward(ctx, by):
        return None, by * ctx.gradient, None


@pytest.mark.parametrize("which", ["fkl", "rkl", "jsd"])
def test_a_divergence_is_zero_on_identical_input_and_comes_with_its_gradient(which):
    logits, other = normal(5, 7, seed=1), normal(5, 7, seed=2)
    assert Diverging.apply(logits, logits + 3, which).item() == pytest.approx(0, abs=1e-12)
    assert Diverging.apply(logits, other, which).item() > 1e-3
    assert torch.autograd.gradcheck(lambda student: Diverging.apply(logits, student, which), other.requires_grad_())
    assert Diverging.apply(logits[:0], other[:0], which).item() == 0


def test_divergences_against_trl():
    trl = pytest.importorskip("trl.experimental.gkd", reason="optional cross-check: pip install .[crosscheck]")
    student, teacher = normal(1, 6, 9, seed=1).float(), normal(1, 6, 9, seed=2).float()
    for beta, which in ((0.1, "jsd"), (0.5, "jsd"), (0.9, "jsd"), (0.0, "fkl"), (1.0, "rkl")):
        wanted = trl.GKDTrainer.generalized_jsd_loss(student, teacher, beta=beta, reduction="sum")
        got, _ = losses.divergence(
            teacher[0].log_softmax(-1), student[0].log_softmax(-1), which, beta if which == "jsd" else 0.5
        )
        assert got.item() == pytest.approx(wanted.item(), rel=1e-5), (beta, which)


class TestMechanistic:
    def batch(self, rows=range(4), longest=0):
        examples = [Example(trace.ids, trace.cot.start + 1) for trace in PASSAGES]
        if longest:
            examples.append(Example(list(range(1, longest)), 3))
        return collate(examples, rows)

    def test_a_student_that_equals_its_teacher_pays_for_words_alone(self):
        model = build_model("llama")
        teacher_signals = trace_signals.read(model, PASSAGES, CHOSEN)
        loss = losses.Mechanistic(PASSAGES, teacher_signals, CHOSEN, Weights(), learned())
        batch = self.batch()
        added = loss(model.train(), batch) - token_loss(model, batch)
        assert added.item() / int((batch.targets != -100).sum()) == pytest.approx(0, abs=2e-4)
        other = stranger().train()
        assert (loss(other, batch) - token_loss(other, batch)).item() > 1

    def test_outside_training_it_is_the_token_loss(self):
        model = build_model("llama")
        loss = losses.Mechanistic(PASSAGES, trace_signals.read(model, PASSAGES, CHOSEN), CHOSEN, Weights(), learned())
        assert loss(stranger().eval(), self.batch()).item() == pytest.approx(
            token_loss(stranger(), self.batch()).item()
        )

    def test_terms_do_not_see_padding(self):
        teacher, student = build_model("llama"), stranger()
        with torch.no_grad():
            short = [read(model, PASSAGES) for model in (teacher, student)]
            long = [read(model, PASSAGES, length=70) for model in (teacher, student)]
        of_short = losses.terms(short[0][0], short[1][0], short[0][1], learned())
        of_long = losses.terms(long[0][0], long[1][0], long[0][1], learned())
        for name, value in of_short.items():
            assert value.item() == pytest.approx(of_long[name].item(), rel=1e-4, abs=1e-6), name
            assert value.item() > 1e-6, name

    def test_the_weight_of_a_term_is_what_it_counts(self):
        teacher, student = build_model("llama"), stranger().train()
        teacher_signals, batch = trace_signals.read(teacher, PASSAGES, CHOSEN), self.batch()
        n = int((batch.targets != -100).sum())
        words = token_loss(student, batch).item()

        def added(weights):
            loss = losses.Mechanistic(PASSAGES, teacher_signals, CHOSEN, weights, learned())
            return (loss(student, batch).item() - words) / n

        none = Weights(0, 0, 0, 0, 0, 0)
        assert added(none) == pytest.approx(0, abs=1e-6)
        parts = [added(replace(none, **{name: 1.0})) for name in none.__dataclass_fields__]
        assert min(parts) > 1e-5
        assert added(Weights(1, 1, 1, 1, 1, 1)) == pytest.approx(sum(parts), rel=1e-4)
        assert added(Weights(1, 1, 1, 1, 1, 1).without("1")) == pytest.approx(sum(parts[3:]), rel=1e-4)

    def test_terms_fade_over_their_part_of_the_training(self):
        teacher, student = build_model("llama"), stranger().train()
        teacher_signals, batch = trace_signals.read(teacher, PASSAGES, CHOSEN), self.batch()
        words = token_loss(student, batch).item()

        def added(fade, done):
            loss = losses.Mechanistic(PASSAGES, teacher_signals, CHOSEN, Weights(), learned(), fade)
            return loss(student, batch._replace(done=done)).item() - words

        full = added(0.0, 0.9)
        assert full > 1
        assert added(0.5, 0.0) == pytest.approx(full, rel=1e-5)
        assert added(0.5, 0.125) == pytest.approx(0.75 * full, rel=1e-4)
        assert [added(0.5, done) for done in (0.5, 0.9)] == [0, 0]
        with pytest.raises(ValueError, match="anneal_fraction must be between 0 and 1, got 1.5"):
            added(1.5, 0.0)

    def test_terms_on_top_of_another_loss_of_words_are_the_same(self):
        teacher, student, batch = build_model("llama"), stranger().train(), self.batch()
        teacher_signals, words = trace_signals.read(teacher, PASSAGES, CHOSEN), losses.TokenDistillation(teacher)
        both = losses.Mechanistic(PASSAGES, teacher_signals, CHOSEN, Weights(), learned(), base_loss=words)
        text = losses.Mechanistic(PASSAGES, teacher_signals, CHOSEN, Weights(), learned())
        added = text(student, batch) - token_loss(student, batch)
        assert (both(student, batch) - words(student, batch)).item() == pytest.approx(added.item(), rel=1e-4)
        assert [id(weight) for weight in both.parameters()] == [id(both.write_term.project.weight)], (
            "the teacher is not trained"
        )
        faded = losses.Mechanistic(PASSAGES, teacher_signals, CHOSEN, Weights(), learned(), 0.5, words)
        done = batch._replace(done=0.5)
        assert faded(student, done).item() == pytest.approx(words(student, done).item())
        assert both(student.eval(), batch).item() == pytest.approx(token_loss(student, batch).item())

    def test_weights_in_the_order_of_their_names(self):
        weights = Weights.of((1, 0.5, 0, 2, 1, 0))
        assert weights == Weights(attention1=1, write1=0.5, interaction1=0, loop2=2, write2=1, interaction2=0)
        assert weights.times(2) == Weights(2, 1, 0, 4, 2, 0)
        with pytest.raises(ValueError, match="there are 6 weights .attention1, .*, interaction2., got 2"):
            Weights.of((1, 1))

    def test_the_projection_is_learned_along_and_of_the_students_width(self):
        teacher = build_model("llama")
        teacher_signals = trace_signals.read(teacher, PASSAGES, CHOSEN)
        loss = losses.Mechanistic(PASSAGES, teacher_signals, CHOSEN, Weights(), learned())
        loss(stranger().train(), self.batch()).backward()
        (weight,) = loss.parameters()
        assert weight.shape == (WIDTH, teacher_signals[0].write1.shape[1])
        assert weight.grad.abs().max() > 0

    def test_bad_input(self):
        with pytest.raises(ValueError, match="weight loop2 must be at least 0, got -1"):
            Weights(loop2=-1)
        with pytest.raises(ValueError, match="term must be one of attention1, .* got 'x'"):
            Weights().without("x")
        with pytest.raises(ValueError, match="every trace needs its signals, got 4 traces and 0 signals"):
            losses.Mechanistic(PASSAGES, [], CHOSEN, Weights(), learned())


def gradient(loss, model, batch):
    """The gradient of a model's weights in a row, and the loss."""
    model.zero_grad()
    value = loss(model, batch)
    value.backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters()]), value.item()


@pytest.mark.parametrize("which", ["fkl", "rkl", "jsd"])
def test_word_level_distillation_compares_whole_distributions(which, monkeypatch):
    monkeypatch.setattr("ctd.distill.token_loss.LOGITS_AT_ONCE", 7)  # several pieces, the last one smaller
    teacher, student = build_model("llama").double(), stranger().double().train()
    batch = collate([Example(trace.ids, trace.cot.start + 1) for trace in PASSAGES], range(4))

    def plain(model, batch):
        wanted = batch.targets != IGNORED
        p, q = (model(input_ids=batch.ids).logits[wanted].softmax(-1) for model in (teacher, model))
        p, mixed = p.detach(), 0.1 * p.detach() + 0.9 * q
        return {
            "fkl": (p * (p / q).log()).sum(),
            "rkl": (q * (q / p).log()).sum(),
            "jsd": 0.1 * (p * (p / mixed).log()).sum() + 0.9 * (q * (q / mixed).log()).sum(),
        }[which]

    got, value = gradient(losses.TokenDistillation(teacher, which), student, batch)
    wanted, oracle = gradient(plain, student, batch)
    assert value == pytest.approx(oracle, rel=1e-6)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)
    assert all(weight.grad is None for weight in teacher.parameters())


def test_bad_divergences():
    with pytest.raises(ValueError, match="divergence must be one of fkl, rkl, jsd, got 'tv'"):
        losses.TokenDistillation(None, "tv")
    with pytest.raises(ValueError, match="beta must be between 0 and 1"):
        losses.TokenDistillation(None, "jsd", 1.0)


class Dying(torch.nn.Module):
    """A loss that is killed at a step."""

    def __init__(self, loss, step):
        super().__init__()
        self.loss, self.left = loss, step

    def forward(self, model, batch):
        if model.training:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        return self.loss(model, batch)


def test_a_training_of_the_mechanism_killed_at_ten_steps_ends_with_the_same_weights(tmp_path):
    teacher = build_model("llama")
    teacher_signals = trace_signals.read(teacher, PASSAGES, CHOSEN)
    examples = [Example(trace.ids, trace.cot.start + 1) for trace in PASSAGES]
    settings = Settings(batch_tokens=100, epochs=6, warmup_steps=2, save_every=3)
    assert len(batches(examples, settings)) == 12

    def ended(folder, *deaths):
        for left in (*deaths, 1000):
            student = stranger()
            loss = losses.Mechanistic(PASSAGES, teacher_signals, CHOSEN, Weights(), learned())
            with suppress(KeyboardInterrupt):
                train.train(student, examples, settings, folder, loss=Dying(loss, left))
        return [*student.parameters(), *loss.parameters()]

    whole = ended(tmp_path / "whole")
    for step in np.random.default_rng(7).choice(np.arange(1, 12), 10, replace=False).tolist():
        resumed = ended(tmp_path / f"killed at {step}", step)
        assert all(torch.equal(*pair) for pair in zip(whole, resumed, strict=True)), step
