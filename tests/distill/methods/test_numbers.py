"""Losses of tokens against numbers that were stepped by hand, and the state of one across a killed run."""

import math
from itertools import permutations

import pytest
import torch

from ctd.distill import train
from ctd.distill.examples import Example, batches, collate
from ctd.distill.methods import METHODS, Seen
from ctd.distill.methods.dac import clipped
from ctd.distill.methods.pairs import asymmetric, log_odds, odds_ratio, prospect
from ctd.distill.methods.pld import plackett_luce, pld, ranking
from ctd.distill.methods.taid import Taid
from ctd.distill.methods.tsd import mean_over, most, opening, selective
from ctd.distill.settings import Settings
from ctd.distill.stateful import parts_of
from tests.distill.methods.conftest import BATCH, EXAMPLES
from tests.distill.methods.test_every_method import LOSSES, made_loss
from tests.distill.test_losses import Dying, stranger


def seen(student, teacher, target=0):
    student, teacher = (torch.tensor([logits], dtype=torch.float64).log_softmax(-1) for logits in (student, teacher))
    return Seen(student, teacher, torch.tensor([target]))


@pytest.mark.parametrize(
    ("n_steps", "expected"),
    [
        (10, [0.40, 0.40, 0.46, 0.52, 0.58, 0.64]),
        (1_000_000, [0.4, 0.4, 0.4001500750, 0.4003001534, 0.4004501710, 0.4006002144]),
    ],
)
def test_taids_target_moves_as_by_hand(n_steps, expected):
    loss, used = Taid(), []
    for step, mean in enumerate((2.0, 1.8, 1.7, 1.75, 1.6)):
        used.append(loss.state["t"])
        loss.update((3 * mean, 3), step / n_steps)
    assert [*used, loss.state["t"]] == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(
    ("teacher", "target", "expected"),
    [((2, 1, 0), 0, 0.4408012511), ((2, 1, 0), 2, 0.4282195016), ((50, 0, 0), 0, 0.5142950728)],
)
def test_pld_of_three_tokens_is_that_by_hand(teacher, target, expected):
    assert pld(seen((1, 0.2, -0.5), teacher, target)).item() == pytest.approx(expected, abs=1e-9)


def test_the_orders_of_three_items_have_a_probability_of_one_together():
    scores = torch.tensor([1.0, 0.2, -0.5], dtype=torch.float64)
    orders = torch.stack([scores[list(order)] for order in permutations(range(3))])
    assert torch.exp(-plackett_luce(orders).sum(-1)).sum().item() == pytest.approx(1)


def test_a_ranking_of_labels_puts_first_what_the_teacher_answers():
    log_p, teacher = (torch.log(torch.tensor(p, dtype=torch.float64)) for p in ([0.5, 0.4, 0.3], [0.2, 0.9, 0.1]))
    lines = [torch.tensor([0]), torch.tensor([1]), torch.tensor([2])]
    worth, s = torch.tensor([0.2, 0.9, 0.1]) / 1.2, [0.5, 0.4, 0.3]

    def by_hand(*order):
        left = [sum(s[j] for j in order[k:]) for k in range(3)]
        return sum(worth[k] * math.log(left[place] / s[k]) for place, k in enumerate(order))

    assert ranking(log_p, teacher, lines, [False, False, False]).item() == pytest.approx(by_hand(1, 0, 2).item())
    assert ranking(log_p, teacher, lines, [False, False, True]).item() == pytest.approx(by_hand(2, 1, 0).item())


def test_unranked_tokens_are_drawn_last():
    full, some = (pld(seen((1, 0.2, -0.5, 0.3), (2, 1, 0, -1)), items=items).item() for items in (3, 1))
    log_p = torch.tensor([1, 0.2, -0.5, 0.3], dtype=torch.float64).log_softmax(-1)
    p = torch.tensor([2.0, 1, 0, -1], dtype=torch.float64).softmax(-1)
    by_hand = -p[0] * log_p[0] - p[1] * (log_p[1] - torch.log1p(-log_p[0].exp()))
    assert some == pytest.approx(by_hand.item())
    assert full > some


def test_the_odds_ratio_is_that_by_hand():
    better, worse = torch.tensor([-0.5, -1.0], dtype=torch.float64)
    assert (log_odds(better) - log_odds(worse)).item() == pytest.approx(0.9740769842, abs=1e-9)
    assert odds_ratio(better, worse, 1.0).item() - 0.5 == pytest.approx(0.3202997852, abs=1e-9)


def test_ktos_values_are_those_by_hand():
    gain, point, far = (torch.tensor(value, dtype=torch.float64) for value in (1.0, 0.2, 1e9))
    assert prospect(gain, -far, point).item() == pytest.approx(0.4800106598, abs=1e-9)
    assert prospect(far, gain, point).item() == pytest.approx(0.5199893402, abs=1e-9)


@pytest.mark.parametrize(("beta", "share"), [(1.0, 0.7232), (0.1, 0.9734), (0.01, 0.9974)])
def test_redi_is_the_limit_of_simpo(beta, share):
    """Proposition B.3 of its source: the slope of SimPO over beta sigmoid(gamma) tends to that of alpha = 1."""
    better, worse = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (-0.5, -1.2))
    simpo = -torch.nn.functional.logsigmoid(beta * (better - worse) - 0.5)
    (slope,) = torch.autograd.grad(simpo, better)
    (redi_slope,) = torch.autograd.grad(asymmetric(better, worse, 1.0), better)
    by_scale = slope / (beta * torch.sigmoid(torch.tensor(0.5, dtype=torch.float64)))
    assert (by_scale / redi_slope).item() == pytest.approx(share, abs=1e-3)


def test_tsd_rewards_the_teachers_order_and_not_its_reverse():
    """The released code has it the other way round."""

    def ranking(student, teacher):
        zeros, ones = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        case = seen(student, teacher)
        return (selective(case, ones, zeros, candidates=4) - selective(case, zeros, zeros, candidates=4)).item()

    agrees, opposes = ranking((3, 2, 1, 0), (3, 2, 1, 0)), ranking((0, 1, 2, 3), (3, 2, 1, 0))
    assert (agrees, opposes) == pytest.approx((1.16, 7.16), abs=0.01)


def test_tsd_selects_within_each_text():
    entropies = torch.tensor([0.2, 0.1, 3.0, 0.7, 1.0, 0.0, 9.0, 0.0])
    text = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1])
    assert opening(entropies, text, 0.1).tolist() == [1, 1, 1, 0, 0, 1, 1, 0]
    assert opening(entropies, text, 0.05).tolist() == [1, 1, 0, 0, 0, 1, 1, 0]
    assert most(entropies, text, 0.3).tolist() == [0, 0, 1, 0, 1, 0, 1, 0]
    assert mean_over(most(entropies, text, 0.3), text).tolist() == [0, 0, 2.5, 0, 2.5, 0, 3, 0]


STATEFUL = ["ddk", "taid", "tgeo"]


def test_no_method_with_a_state_is_forgotten(course):
    assert [name for name in LOSSES if parts_of(made_loss(name, course))] == STATEFUL


@pytest.mark.parametrize("name", STATEFUL)
@pytest.mark.parametrize("pass_tokens", [0, 50])
def test_a_killed_run_goes_on_with_the_state_of_its_loss(name, course, tmp_path, pass_tokens):
    settings = Settings(batch_tokens=100, pass_tokens=pass_tokens, epochs=4, warmup_steps=2, save_every=3)
    n_passes = len(batches(EXAMPLES, settings)) * (2 if pass_tokens else 1)
    weights, states = [], []
    for killed in (False, True):
        for left in (n_passes // 2 + 1, 10**9) if killed else (10**9,):
            student, loss = stranger(), METHODS[name].make(course, {})
            loss.head = [stranger().get_output_embeddings()]
            width = loss.head[0].in_features
            loss.states = lambda batch, width=width: torch.ones(batch.n_targets, width)
            (part,) = parts_of(loss)
            begun = dict(part.state)
            try:
                train.train(student, EXAMPLES, settings, tmp_path / str(killed), loss=Dying(loss, left))
            except KeyboardInterrupt:
                continue
        weights.append(torch.cat([weight.detach().flatten() for weight in student.parameters()]))
        states.append(part.state)
    assert torch.equal(*weights)
    assert states[0] == states[1] != begun


def test_the_state_changes_once_a_step_however_many_passes_it_takes(course, tmp_path, monkeypatch):
    updates, original = [], Taid.update
    monkeypatch.setattr(
        Taid, "update", lambda self, sums, done: updates.append([*sums, done]) or original(self, sums, done)
    )
    for pass_tokens in (0, 50):
        loss = METHODS["taid"].make(course, {})
        settings = Settings(batch_tokens=100, pass_tokens=pass_tokens, epochs=1, warmup_steps=2)
        examples = [Example(example.ids, example.n_prompt) for example in EXAMPLES]
        train.train(stranger().double(), examples, settings, tmp_path / str(pass_tokens), loss=loss)
    assert len(updates) % 2 == 0
    first, second = updates[: len(updates) // 2], updates[len(updates) // 2 :]
    for sums, same in zip(first, second, strict=True):
        assert sums == pytest.approx(same, rel=1e-6)


def test_a_clipped_distribution_is_that_by_hand():
    teacher, student = (torch.tensor([p], dtype=torch.float64).log() for p in ([0.7, 0.2, 0.1], [0.5, 0.3, 0.2]))
    low, high = math.log(0.15), math.log(0.5)
    masks = [1 / ((1 + 0.15 / p) * (1 + p / 0.5)) for p in (0.7, 0.2, 0.1)]
    masked = [p * mask for p, mask in zip((0.7, 0.2, 0.1), masks, strict=True)]
    part = [value / sum(masked) for value in masked]
    by_hand = sum(p * math.log(p / q) for p, q in zip(part, (0.5, 0.3, 0.2), strict=True))
    bounds = torch.tensor([[low, high]], dtype=torch.float64)
    assert clipped(teacher, student, bounds).item() == pytest.approx(by_hand)
    assert torch.autograd.gradcheck(lambda bounds: clipped(teacher, student, bounds), bounds.requires_grad_())


def test_the_bounds_learn_from_the_loss(course, student):
    loss = METHODS["dac"].make(course, {})
    loss.bounds.last.weight.data.normal_(generator=torch.Generator().manual_seed(2))
    weight, step = loss.bounds.first.weight, 1e-5
    loss(student, BATCH).backward()
    slope, start = weight.grad.clone(), weight.detach().clone()
    values = []
    for sign in (1, -1):
        weight.data = start + sign * step * slope / slope.norm()
        values.append(loss(student, BATCH).item())
    assert slope.norm() > 1e-4
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope.norm().item(), rel=1e-5)


def test_products_of_neighbours_are_those_of_whole_distributions(course, student, teacher):
    """Two lines of two and three tokens give three pairs; each counts as a third of the text's targets."""
    with_spans, without = (METHODS["dac"].make(course, {"spans": spans, "likeliest": 5}) for spans in (0.1, 0.0))
    batch = collate(EXAMPLES, [0])
    p, q = (model(input_ids=batch.ids).logits[0].softmax(-1) for model in (teacher, student))
    total = 0.0
    for token in (19, 22, 23):  # the first of each pair; the query before a token predicts it
        products = (p[token - 1] * p[token]).topk(5)
        total += ((products.values - (q[token - 1] * q[token])[products.indices]) ** 2).sum().item()
    expected = 0.1 * batch.n_targets * total / 3
    assert (with_spans(student, batch) - without(student, batch)).item() == pytest.approx(expected, rel=1e-4)
