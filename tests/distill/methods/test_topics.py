"""DDK's shares of topics by hand, and what they do to the loss."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ctd.distill.examples import collate
from ctd.distill.methods import METHODS
from ctd.distill.methods.ddk import Behind, next_shares, topics_of
from tests.distill.methods.conftest import BATCH, EXAMPLES
from tests.distill.test_losses import gradient


def test_shares_are_those_of_equation_2():
    grown = [0.5 * math.exp(2.0), 0.3 * math.exp(1.0), 0.2 * math.exp(1.5)]
    by_hand = [0.5 * value / sum(grown) + 0.5 / 3 for value in grown]
    assert next_shares([0.5, 0.3, 0.2], [2.0, 1.0, 1.5], 0.5) == pytest.approx(by_hand)
    assert sum(by_hand) == pytest.approx(1)


def test_equal_perplexities_keep_topics_alike_and_no_perplexity_is_too_large():
    assert next_shares([0.25] * 4, [7.0] * 4, 0.5) == pytest.approx([0.25] * 4)
    assert next_shares([0.5, 0.5], [1e6, 1.0], 0.5) == pytest.approx([0.75, 0.25])


def test_shares_change_at_the_beginning_of_a_round_by_the_round_before():
    behind = Behind([3, 1, 2], rounds=2, smoothing=0.5)
    assert behind.factors() == pytest.approx([2 / 3, 2, 1])
    first, second = [8.0, 3.0, 0.0, 4.0, 1.0, 0.0, 4, 2, 0], [2.0, 1.0, 0.0, 2.0, 1.0, 0.0, 1, 2, 0]
    behind.update(first, 0.0)
    behind.update(second, 0.25)
    assert behind.state["shares"] == [1 / 3] * 3
    behind.update(second, 0.5)
    ratios = [math.exp((10 - 6) / 5), math.exp((4 - 2) / 4), 1.0]
    assert behind.state["ratios"] == pytest.approx(ratios)
    assert behind.state["shares"] == pytest.approx(next_shares([1 / 3] * 3, ratios, 0.5))
    assert behind.state["sums"] == second, "those of the new round"
    shares = behind.state["shares"]
    behind.update(second, 0.75)
    assert behind.state["shares"] == shares


def test_a_topic_counts_by_its_share(course, student):
    """Topics are 0, 1, 0, 1; a topic's text counts as often as it would be drawn."""
    loss = METHODS["ddk"].make(course, {})
    parts = [gradient(loss, student, collate(EXAMPLES, rows))[0] for rows in ([0, 2], [1, 3])]
    loss.behind.state["shares"] = [0.9, 0.1]
    got = gradient(loss, student, BATCH)[0]
    expected = 1.8 * parts[0] + 0.2 * parts[1]
    assert (got - expected).norm() < 1e-6 * expected.norm()


def test_what_is_measured_is_each_models_loss_on_each_topic(course, student, teacher):
    loss = METHODS["ddk"].make(course, {})
    loss(student, BATCH)
    sums = loss.behind.noted().reshape(3, 2)
    for topic, rows in enumerate(([0, 2], [1, 3])):
        batch = collate(EXAMPLES, rows)
        for place, model in enumerate((student, teacher)):
            logits = model(input_ids=batch.ids).logits
            value = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="sum")
            assert sums[place, topic].item() == pytest.approx(value.item(), rel=1e-6)
        assert sums[2, topic] == batch.n_targets


def test_topics_are_the_roots_above_what_the_teacher_answers(experiment):
    space = experiment.task.space
    topics = topics_of(experiment)
    roots = [int(space.ancestor(np.array([trace.answered[0]]), 0)[0]) for trace in experiment.traces]
    pairs = set(zip(topics.tolist(), roots, strict=True))
    assert len(pairs) == len(set(roots)) == len(set(topics.tolist()))
    flat = SimpleNamespace(traces=experiment.traces, task=SimpleNamespace(space=SimpleNamespace(parents=None)))
    assert set(topics_of(flat)) == {0}
