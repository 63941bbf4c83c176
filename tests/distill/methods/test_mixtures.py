"""tgeo's mixture looks ahead, and dear's scores of labels are those by hand."""

from math import exp, log

import pytest
import torch

from ctd.distill.examples import IGNORED, collate
from ctd.distill.methods import trace_examples
from ctd.distill.methods.dear import phase_2, pointwise, ranknet, scored
from ctd.distill.methods.texts import plans
from ctd.distill.methods.tgeo import Mixture, all_but_held, moved
from ctd.distill.token_loss import token_loss
from tests.distill.methods.conftest import BATCH, EXAMPLES
from tests.distill.methods.test_every_method import made_loss
from tests.distill.methods.test_recipes import learned as taught
from tests.distill.test_losses import gradient

WEIGHTS = [0.3, -0.2, 0.4, 0.1]


@pytest.fixture
def seen(course, student, pieces):
    """tgeo's loss with some weights, and what its mixture is given."""
    loss = made_loss("tgeo", course, stride=0.2)
    loss.mixture.state["weights"] = WEIGHTS
    states, text = loss.states(BATCH), (BATCH.targets != IGNORED).nonzero()[:, 0]
    return loss, states, text, loss.distances(student, BATCH, states, text)


def test_distances_are_those_of_the_three_distributions(seen, student, teacher):
    distances = seen[-1]
    for row, example in enumerate(EXAMPLES):
        batch = collate([example], [0])
        known = batch.targets[0] != IGNORED
        s, t = (model(input_ids=batch.ids).logits[0, known].softmax(-1) for model in (student, teacher))
        g = torch.nn.functional.one_hot(batch.targets[0, known], s.shape[1])
        expected = [(p - q).norm(dim=1).mean().item() for p, q in ((s, t), (t, g), (s, g))]
        assert distances[row].tolist() == pytest.approx([*expected, 1.0], rel=1e-5)


def test_the_slope_of_the_mixture_is_that_of_the_loss_after_a_step(seen, student):
    loss, states, text, distances = seen
    parameters, ahead = list(student.parameters()), collate(loss.held, range(len(loss.held)))

    def after_a_step(weights):
        loss.mixture.state["weights"] = weights
        share = loss.mixture(distances)[text]
        slope = torch.autograd.grad(loss.mixed(student, BATCH, states, share) / len(text), parameters)
        with moved(parameters, slope, -loss.stride), torch.no_grad():
            return token_loss(student, ahead).item() / ahead.n_targets

    before = [weight.detach().clone() for weight in parameters]
    got = loss.slope(student, BATCH, states, text, distances)
    assert all(torch.equal(old, new) for old, new in zip(before, parameters, strict=True)), "nothing has moved"
    for place in range(4):
        high, low = ([w + sign * (k == place) for k, w in enumerate(WEIGHTS)] for sign in (1e-2, -1e-2))
        expected = (after_a_step(high) - after_a_step(low)) / 2e-2
        assert got[place].item() == pytest.approx(expected, rel=2e-2, abs=1e-7)
    assert got.norm() > 1e-6


def test_the_mixture_takes_a_step_down_and_counts():
    mixture = Mixture(rate=0.5)
    mixture.update([3.0, 0.0, 4.0, 0.0], 0.0)
    assert mixture.state == {"weights": pytest.approx([-0.3, 0.0, -0.4, 0.0]), "step": 1}
    mixture.update([0.0] * 4, 0.1)
    assert mixture.state["step"] == 2
    share = mixture(torch.tensor([[1.0, 2.0, 1.0, 1.0]]))
    assert share.item() == pytest.approx(1 / (1 + exp(0.7)))


def test_it_looks_ahead_now_and_then(course, student, monkeypatch):
    loss, looks = made_loss("tgeo", course, every=2), []
    monkeypatch.setattr(loss, "slope", lambda *parts: looks.append(1) or torch.ones(4))
    for step in range(4):
        loss(student, BATCH)
        loss.mixture.update(loss.mixture.noted().tolist(), step / 4)
    assert len(looks) == 2
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        made_loss("tgeo", course, every=0)


def test_the_last_traces_are_held_out(experiment):
    whole = trace_examples(experiment)
    assert all_but_held(experiment) == whole[:-1], "a quarter of six"


def test_ranknet_is_that_by_hand():
    scores, teacher = (torch.tensor(values, dtype=torch.float64) for values in ((1, 0, -1), (2, 0, 1)))
    assert ranknet(scores, teacher).item() == pytest.approx(0.7138652432)


def test_the_loss_of_a_shortlist_is_that_by_hand():
    student, teacher = (torch.tensor(values, dtype=torch.float64) for values in ((-1, -3, -1), (-0.2, -0.4, -2)))
    lines = [torch.tensor([0, 1]), torch.tensor([2])]
    one_by_one = (2 - log(1 - exp(-1))) / 2
    odds = 1 / (1 + exp(-(-0.3 + 2)))
    in_order = odds * log(1 + exp(1)) + (1 - odds) * log(1 + exp(-1))
    kl = odds * log(odds * (1 + exp(1))) + (1 - odds) * log((1 - odds) * (1 + exp(-1)))
    assert scored(student, teacher, lines, [True, False]).item() == pytest.approx(one_by_one + in_order + kl)


def test_scores_that_do_not_count_leave_the_token_loss(course, student):
    expected = gradient(token_loss, student, BATCH)[0]
    weightless, weighted = (gradient(pointwise(course, weight), student, BATCH)[0] for weight in (0.0, 0.1))
    torch.testing.assert_close(weightless, expected, rtol=1e-8, atol=1e-9)
    assert (weighted - expected).norm() > 1e-2


def test_phase_2_is_what_plans_leave(experiment):
    for first, second, whole in zip(plans(experiment), phase_2(experiment), trace_examples(experiment), strict=True):
        assert taught(first) + taught(second) == taught(whole)
        assert taught(second)
