"""What every method of the registry must be: its gradient, its blindness, its sum over passes, its limits."""

import itertools
from dataclasses import replace

import pytest
import torch

from ctd.distill.examples import IGNORED, collate
from ctd.distill.methods import METHODS, token_by_token
from ctd.distill.token_loss import token_loss
from tests.distill.methods.conftest import BATCH, EXAMPLES, WORSE, batch_of, texts
from tests.distill.test_losses import gradient

BY_LOSS = {method.tokens or method.loss: name for name, method in reversed(METHODS.items()) if not method.reads_heads}
LOSSES = sorted(BY_LOSS.values())  # the first method of each loss; of those that read heads: test_losses.py
DIVERGENCES = {"fkl", "rkl", "jsd", "skew"}


def made_loss(name, course, **settings):
    return METHODS[name].make(replace(course, examples=texts(name)), settings)


@pytest.fixture
def replayed(monkeypatch):
    """What is taken as given stays as it was at first: finite differences then see what the gradient sees."""
    constants, calls = [], itertools.count()

    def fixed(value):
        number = next(calls)
        if number == len(constants):
            constants.append(value.detach().clone())
        return constants[number]

    def again():
        nonlocal calls
        calls = itertools.count()

    for module in ("token_by_token", "taid", "tsd", "pairs", "dac", "told", "tgeo"):
        monkeypatch.setattr(f"ctd.distill.methods.{module}.fixed", fixed)
    return again


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_that_of_finite_differences(name, course, student, pieces, replayed):
    """By the output layer's weights: models compute their norms in single precision, whatever their weights are."""
    loss, weight, step, batch = made_loss(name, course), student.lm_head.weight, 1e-5, batch_of(name)
    gradient(loss, student, batch)
    slope, start = weight.grad.clone(), weight.detach().clone()
    direction = slope / slope.norm() + torch.randn(
        slope.shape, generator=torch.Generator().manual_seed(1), dtype=slope.dtype
    ) / len(slope)
    values = []
    for sign in (1, -1):
        replayed()
        weight.data = start + sign * step * direction
        values.append(loss(student, batch).item())
    assert (values[0] - values[1]) / (2 * step) == pytest.approx((slope * direction).sum().item(), rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_padding_and_what_is_not_learned_do_not_count(name, course, student, pieces):
    loss, batch = made_loss(name, course), batch_of(name)
    padding = torch.zeros(len(batch.ids), 5, dtype=torch.int64)
    longer = batch._replace(
        ids=torch.cat([batch.ids, padding + 3], 1), targets=torch.cat([batch.targets, padding + IGNORED], 1)
    )
    (short, value), (long, same) = (gradient(loss, student, case) for case in (batch, longer))
    assert same == pytest.approx(value, rel=1e-9)
    torch.testing.assert_close(short, long, rtol=1e-7, atol=1e-9)
    idle = batch._replace(targets=torch.full_like(batch.targets, IGNORED))
    assert loss(student, idle).item() == 0


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "kto"])  # it compares the pairs of a pass
def test_a_step_in_several_passes_is_the_step_in_one(name, course, student):
    loss = made_loss(name, course)
    whole, value = gradient(loss, student, batch_of(name))
    parts = [gradient(loss, student, collate(texts(name), rows)) for rows in ([2, 0], [3, 1])]
    assert sum(part for _, part in parts) == pytest.approx(value, rel=1e-6)
    torch.testing.assert_close(sum(part for part, _ in parts), whole, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", LOSSES)
def test_outside_training_it_is_the_token_loss(name, course, student):
    student.eval()
    batch = batch_of(name)
    assert made_loss(name, course)(student, batch).item() == pytest.approx(token_loss(student, batch).item())


@pytest.mark.parametrize("name", sorted(DIVERGENCES))
def test_a_divergence_is_zero_for_a_student_that_is_its_teacher(name, course, teacher):
    slope, value = gradient(made_loss(name, course), teacher.train(), BATCH)
    assert value == pytest.approx(0, abs=1e-9)
    assert slope.abs().max().item() < 1e-9


@pytest.mark.parametrize("name", LOSSES)
def test_another_student_pays_and_learns(name, course, student):
    slope, value = gradient(made_loss(name, course), student, batch_of(name))
    assert value > 0.1
    assert slope.norm() > 1e-3


class TestLimits:
    def slope(self, name, course, student, **settings):
        return gradient(made_loss(name, course, **settings), student, BATCH)[0]

    def test_taid_at_its_end_is_the_forward_kl_and_at_its_beginning_nothing(self, course, student):
        torch.testing.assert_close(
            self.slope("taid", course, student, start=1.0), self.slope("fkl", course, student), rtol=1e-9, atol=1e-10
        )
        assert self.slope("taid", course, student, start=0.0).abs().max().item() < 1e-12

    def test_redi_that_unlearns_nothing_learns_texts_alike_however_long_they_are(self, course, student):
        learned = BATCH.targets != IGNORED
        lengths = learned.sum(1, keepdim=True)
        by_text = BATCH._replace(weights=(lengths.double().mean() / lengths).expand_as(learned))
        expected, value = gradient(token_loss, student, by_text)
        got, same = gradient(made_loss("redi", course, alpha=0.0), student, BATCH)
        assert same == pytest.approx(value)
        torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(self.slope("orpo", course, student, weight=0.0), expected, rtol=1e-7, atol=1e-9)

    def test_pairs_of_equal_texts_teach_nothing_where_both_count_alike(self, course, student):
        same = [example._replace(paired=example) for example in EXAMPLES]
        loss = METHODS["redi"].make(replace(course, examples=same), {"alpha": 1.0})
        slope, value = gradient(loss, student, BATCH)
        assert value == pytest.approx(0, abs=1e-9)
        assert slope.abs().max().item() < 1e-9

    def test_kto_begins_at_its_reference(self, course, student):
        """Nothing is gained yet, so each text pays half, and its slope is a quarter of beta."""
        slope, value = gradient(made_loss("kto", course), student, BATCH)
        targets = (BATCH.targets != IGNORED).sum().item() / len(EXAMPLES)
        assert value == pytest.approx(targets * len(EXAMPLES))
        better, worse = (gradient(token_loss, student, collate(texts, range(4)))[0] for texts in (EXAMPLES, WORSE))
        expected = targets * 0.1 / 4 * (better - worse)
        assert (slope - expected).norm() < 1e-5 * expected.norm()

    def test_dac_with_open_bounds_is_the_forward_kl_beside_the_text(self, course, student):
        for text in (0.0, 1.0):
            loss = made_loss("dac", course, text=text, spans=0.0)
            loss.bounds.last.bias.data = torch.tensor([-90.0, 90.0], dtype=torch.float64)
            expected = self.slope("fkl", course, student) + text * gradient(token_loss, student, BATCH)[0]
            got = gradient(loss, student, BATCH)[0]
            assert (got - expected).norm() < 1e-6 * expected.norm()

    def test_ddk_of_topics_that_count_alike_is_cross_entropy_and_a_kl(self, course, student):
        expected = gradient(token_loss, student, BATCH)[0] + 0.2 * self.slope("fkl", course, student)
        assert (self.slope("ddk", course, student) - expected).norm() < 1e-6 * expected.norm()

    def test_tgeo_is_the_forward_kl_or_cross_entropy_where_one_alone_counts(self, course, student):
        for bias, expected in (
            (99.0, self.slope("fkl", course, student)),
            (-99.0, gradient(token_loss, student, BATCH)[0]),
        ):
            loss = made_loss("tgeo", course)
            loss.mixture.state["weights"] = [0.0, 0.0, 0.0, bias]
            got = gradient(loss, student, BATCH)[0]
            assert (got - expected).norm() < 1e-6 * expected.norm()

    def test_skew_without_a_mixture_is_the_forward_kl(self, course, student):
        torch.testing.assert_close(
            self.slope("skew", course, student, alpha=1e-12), self.slope("fkl", course, student), rtol=1e-6, atol=1e-7
        )

    def test_jsd_beside_its_ends_is_one_of_the_two_kl(self, course, student):
        for beta, name in ((1e-8, "fkl"), (1 - 1e-8, "rkl")):
            share = beta if name == "fkl" else 1 - beta
            got = self.slope("jsd", course, student, beta=beta) / share
            torch.testing.assert_close(got, self.slope(name, course, student), rtol=1e-4, atol=1e-5)

    def test_a_ranking_of_labels_that_does_not_count_is_the_token_loss(self, course, student):
        weightless = gradient(made_loss("pld-labels", course, weight=0.0), student, BATCH)[0]
        torch.testing.assert_close(weightless, gradient(token_loss, student, BATCH)[0], rtol=1e-8, atol=1e-9)
        assert (self.slope("pld-labels", course, student) - weightless).norm() > 1e-2

    def test_tsd_without_what_it_selects_is_jsd(self, course, student, monkeypatch):
        monkeypatch.setattr(torch, "sigmoid", torch.ones_like)
        got = self.slope("tsd", course, student, beta=0.3, ranking=0.0, confidence=0.0)
        torch.testing.assert_close(got, self.slope("jsd", course, student, beta=0.3), rtol=1e-9, atol=1e-10)

    def test_pld_of_the_true_token_alone_is_cross_entropy_weighted_by_the_teacher(self, course, student, teacher):
        learned = BATCH.targets != IGNORED
        with torch.no_grad():
            log_p, teacher_log_p = (
                model(input_ids=BATCH.ids).logits[learned].log_softmax(-1).gather(1, BATCH.targets[learned][:, None])
                for model in (student, teacher)
            )
        value = made_loss("pld", course, items=0)(student, BATCH).item()
        assert value == pytest.approx(-(teacher_log_p.exp() * log_p).sum().item())


def test_values_of_targets_and_their_gradient_are_those_of_the_logits(student, pieces):
    learned = BATCH.targets != IGNORED
    hidden = student.get_decoder()(input_ids=BATCH.ids).last_hidden_state[learned]
    target = BATCH.targets[learned]
    slopes = []
    for way in range(2):
        student.zero_grad()
        hidden = student.get_decoder()(input_ids=BATCH.ids).last_hidden_state[learned]
        if way:
            values = student.lm_head(hidden).log_softmax(-1).gather(1, target[:, None])[:, 0]
        else:
            values = token_by_token.each_target(
                student, hidden, lambda log_p, places: log_p.gather(1, target[places][:, None])[:, 0]
            )
        (values**2).sum().backward()
        slopes.append(torch.cat([weight.grad.flatten() for weight in student.parameters()]))
    torch.testing.assert_close(*slopes, rtol=1e-8, atol=1e-9)
    assert slopes[0].norm() > 1
