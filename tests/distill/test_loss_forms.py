"""The forms of the terms by hand, by finite differences, and each fault of an original form beside its mended one."""

import math

import pytest
import torch

from ctd.distill import loss_forms, losses, signals
from ctd.distill.loss_forms import FORMS, MENDED, ORIGINAL, Forms
from tests.distill.test_losses import CHOSEN, WIDTH, distribution, learned, normal, stranger
from tests.distill.test_signals import read
from tests.mechanism.test_attention import build_model
from tests.mechanism.test_heads import PASSAGES

ROW = torch.tensor([0, 0, 0, 1, 1])


def double(*rows):
    return torch.tensor(rows, dtype=torch.float64)


class TestLoop:
    TEACHER = double([0.018, 0.002, 0.98])  # nine parts in ten of the little that goes to the two labels
    STUDENT = double([0.002, 0.018, 0.98])  # the other way round

    def test_by_hand(self):
        assert loss_forms.of_two(double([0.3, 0.1, 0.6])).tolist() == [[pytest.approx(0.75), pytest.approx(0.25)]]
        assert loss_forms.of_two(double([0, 0, 1.0])).tolist() == [[0.5, 0.5]]

    def test_a_student_that_confuses_the_labels_pays_only_in_two_ways(self):
        three = losses.kl(self.TEACHER, self.STUDENT).item()
        two = losses.kl(*map(loss_forms.of_two, (self.TEACHER, self.STUDENT))).item()
        assert three == pytest.approx(0.016 * math.log(9)), "almost nothing, for 98 parts in 100 agree"
        assert two == pytest.approx(0.8 * math.log(9))

    def test_where_the_rest_of_the_attention_goes_does_not_matter_in_two_ways(self):
        half = self.TEACHER * double([0.5, 0.5, 1]) + double([0, 0, 0.01])
        assert losses.kl(loss_forms.of_two(self.TEACHER), loss_forms.of_two(half)).item() == pytest.approx(0)

    def test_gradient_is_that_of_finite_differences(self):
        def term(student):
            return losses.kl(loss_forms.of_two(distribution(5, 3, 1)), loss_forms.of_two(student))

        assert torch.autograd.gradcheck(term, distribution(5, 3, 2).requires_grad_())


class TestInteraction:
    def test_by_hand(self):
        teacher, student = double([1, 0.5], [0.5, 1])[None], double([1, -0.1], [-0.1, 1])[None]
        assert losses.gram_distance(teacher, student).item() == pytest.approx(2 * 0.36)
        assert losses.gram_distance(teacher, student, per_pair=True).item() == pytest.approx(0.36)
        assert losses.gram_distance(teacher[:, :1, :1], student[:, :1, :1], per_pair=True).item() == 0

    def test_the_sum_grows_with_the_number_of_heads_and_the_mean_does_not(self):
        def apart(k, per_pair):
            teacher, student = (torch.eye(k) * (1 - cosine) + cosine for cosine in (0.2, 0.5))
            return losses.gram_distance(teacher[None], student[None], per_pair).item()

        assert apart(20, False) / apart(4, False) == pytest.approx(20 * 19 / (4 * 3), rel=1e-4)
        assert apart(20, True) == pytest.approx(apart(4, True), rel=1e-4)

    def test_gradient_is_that_of_finite_differences(self):
        def term(student):
            return losses.gram_distance(normal(2, 3, 3, seed=1), student, per_pair=True)

        assert torch.autograd.gradcheck(term, normal(2, 3, 3, seed=2).requires_grad_())


class TestWrite:
    def test_centring_is_within_a_trace(self):
        writes = double([1, 0], [3, 0], [5, 3], [10, 1], [20, 1])
        assert loss_forms.centred(writes, ROW).tolist() == [[-2, -1], [0, -1], [2, 2], [-5, 0], [5, 0]]

    def test_a_map_that_is_trained_learns_a_student_that_never_moved_and_a_fixed_one_cannot(self):
        teacher, student = normal(40, 8, seed=1).float() + 3, normal(40, 8, seed=2).float() + 3  # unrelated but for 3
        row = torch.zeros(40, dtype=torch.int64)
        trained = loss_forms.LearnedMap(8, 8)
        before = trained(teacher, student, row).item()
        optimizer = torch.optim.Adam(trained.parameters(), 0.05)
        for _ in range(60):
            optimizer.zero_grad()
            trained(teacher, student, row).backward()
            optimizer.step()
        assert trained(teacher, student, row).item() < before / 2
        fixed = (loss_forms.SharedBasis(), loss_forms.FittedMap(torch.eye(8)))
        assert not any([*term.parameters()] for term in fixed)

    def test_what_all_writes_share_hides_that_they_are_unrelated_unless_they_are_centred(self):
        teacher, student = normal(400, 8, seed=1).float() + 5, normal(400, 8, seed=2).float() + 5
        row = torch.zeros(400, dtype=torch.int64)
        assert loss_forms.SharedBasis()(teacher, student, row).item() < 0.1
        assert loss_forms.FittedMap(torch.eye(8))(teacher, student, row).item() == pytest.approx(1, abs=0.05)

    def test_the_map_between_vocabularies_finds_a_turn_of_the_basis(self):
        teacher, student = build_model("llama"), build_model("llama")
        turn, _ = torch.linalg.qr(normal(WIDTH, WIDTH, seed=3).float())
        with torch.no_grad():
            rows = teacher.get_output_embeddings().weight
            student.get_output_embeddings().weight.copy_(rows @ turn + 0.5)
        fitted = loss_forms.fit_to_vocabularies(teacher, student)
        torch.testing.assert_close(fitted, turn, rtol=1e-3, atol=1e-3)
        writes = normal(5, WIDTH, seed=1).float()
        assert loss_forms.FittedMap(fitted)(writes, writes @ turn + 2, ROW).item() == pytest.approx(0, abs=1e-4)

    def test_gradient_is_that_of_finite_differences(self):
        term, teacher = loss_forms.FittedMap(normal(4, 6, seed=3)), normal(5, 4, seed=1)
        assert torch.autograd.gradcheck(lambda student: term(teacher, student, ROW), normal(5, 6).requires_grad_())

    def test_no_query_costs_nothing(self):
        none = torch.zeros(0, 6, requires_grad=True)
        value = loss_forms.FittedMap(torch.eye(6))(none.detach(), none, ROW[:0])
        value.backward()
        assert value.item() == 0

    def test_which_term_a_form_is(self):
        teacher = build_model("llama")
        assert isinstance(loss_forms.write_term("learned", teacher, teacher, True), loss_forms.LearnedMap)
        assert isinstance(loss_forms.write_term("fixed", teacher, teacher, True), loss_forms.SharedBasis)
        assert isinstance(loss_forms.write_term("fixed", teacher, stranger(), False), loss_forms.FittedMap)


@pytest.mark.parametrize("name", FORMS)
def test_a_student_that_equals_its_teacher_pays_nothing_in_any_form_and_padding_is_not_seen(name):
    forms = FORMS[name]
    teacher, student = build_model("llama"), stranger()
    term = loss_forms.write_term(forms.write, teacher, student, True)
    with torch.no_grad():
        short, long = ([read(model, PASSAGES, length=length) for model in (teacher, student)] for length in (0, 70))
        same = losses.terms(short[0][0], short[0][0], short[0][1], term, forms)
        other = [losses.terms(both[0][0], both[1][0], both[0][1], term, forms) for both in (short, long)]
    for term_name, value in same.items():
        assert value.item() == pytest.approx(0, abs=1e-6), term_name
        assert other[0][term_name].item() > 1e-6, term_name
        assert other[0][term_name].item() == pytest.approx(other[1][term_name].item(), rel=1e-3, abs=1e-6), term_name


def test_the_forms_change_the_terms_that_they_name():
    teacher, student = build_model("llama"), stranger()
    with torch.no_grad():
        (teacher_signals, where), (student_signals, _) = read(teacher, PASSAGES), read(student, PASSAGES)
        before = losses.terms(teacher_signals, student_signals, where, learned())
        for forms, changed in (
            (Forms(loop="two-way"), {"loop2"}),
            (Forms(interaction="per-pair"), {"interaction1", "interaction2"}),
        ):
            after = losses.terms(teacher_signals, student_signals, where, learned(), forms)
            assert {name for name in after if after[name].item() != before[name].item()} == changed
    assert signals.places(PASSAGES, 50).row1.tolist() == where.row1.tolist()
    assert len(CHOSEN) == 2


def test_forms_by_name_and_bad_ones():
    assert FORMS == {"original": ORIGINAL, "mended": MENDED}
    assert Forms("three-way", "learned", "sum") == ORIGINAL
    assert Forms("two-way", "fixed", "per-pair") == MENDED
    with pytest.raises(ValueError, match="loop must be one of three-way, two-way, got 'x'"):
        Forms(loop="x")
