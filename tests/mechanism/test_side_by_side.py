"""What is read and patched in several processes is what one process finds, to the last bit."""

import numpy as np
import pytest

from ctd import hardware
from ctd.distill import trace_signals
from ctd.mechanism import attention, corruptions, head_bins, heads, patching, scores, validation
from ctd.mechanism.forced_answers import Question, near_shares
from ctd.mechanism.patching import Intervention
from ctd.mechanism.phases import Phase
from ctd.mechanism.scores import Score
from ctd.reasoning import models
from ctd.workers import work
from ctd.workers.pool import POOL
from tests.mechanism.test_add_a_score import evenness
from tests.mechanism.test_attention import build_model
from tests.mechanism.test_patching import MANY, WordTokens

LLAMA = build_model("llama")


@pytest.fixture
def side_by_side(monkeypatch):
    """Calls a function with one worker and with two, each of which does a part; gives both results."""
    monkeypatch.setattr(hardware, "seconds_to_read", lambda model, n_tokens: 60.0 * n_tokens)
    entered, enter = [], POOL.enter
    monkeypatch.setattr(POOL, "enter", lambda n: (entered.append(n), enter(n))[1])

    def call(function, *arguments, **options):
        monkeypatch.setenv("CTD_WORKERS", "1")
        alone = function(*arguments, **options)
        assert not entered
        monkeypatch.setenv("CTD_WORKERS", "2")
        beside = function(*arguments, **options)
        assert entered == [1]
        return alone, beside

    return call


def equal(expected, actual):
    assert expected.keys() == actual.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(values, actual[name])


def test_scores_of_heads(side_by_side, monkeypatch):
    monkeypatch.setitem(scores.SCORES, "evenness", Score(Phase.SHORTLIST, evenness, "a score of another module"))
    alone, beside = side_by_side(heads.score, LLAMA, MANY, batch_tokens=200)
    equal(alone.values, beside.values)
    assert "evenness" in beside.values


@pytest.mark.parametrize(
    "how", [Intervention(), Intervention("denoising", "output"), Intervention(noise="mean", phase=Phase.REFINE)]
)
def test_effects_of_patching(side_by_side, how):
    pairs, _ = corruptions.pairs(MANY[:12])
    selected = head_bins.selections({Phase.SHORTLIST: attention.all_heads(LLAMA)}, [1, 2, 4])
    alone, beside = side_by_side(patching.effects, LLAMA, pairs, selected, how, rows=4)
    equal(alone.values, beside.values)


def test_what_is_written_under_an_intervention(side_by_side):
    pairs, _ = corruptions.pairs(MANY[:8])
    selected = head_bins.selections({Phase.SHORTLIST: attention.all_heads(LLAMA)}, [1, 4])
    alone, beside = side_by_side(patching.generated, LLAMA, pairs, selected, WordTokens(), max_tokens=6)
    assert alone == beside


def test_attribution(side_by_side):
    equal(*side_by_side(validation.attribution, LLAMA, MANY[:12]))
    assert all(parameter.requires_grad for parameter in LLAMA.parameters())


def test_signals_of_a_teacher(side_by_side):
    chosen = {phase: attention.all_heads(LLAMA)[:2] for phase in Phase}
    alone, beside = side_by_side(trace_signals.read, LLAMA, MANY, chosen, rows=4)
    for expected, actual in zip(alone, beside, strict=True):
        equal(vars(expected), vars(actual))


def test_forced_answers(side_by_side, monkeypatch):
    monkeypatch.setattr(work, "STARTING", 0)
    monkeypatch.setattr(work, "HANDING_OVER", 0)
    question = Question("Fever and cough.", "Topics: fever. Shortlist: influenza, measles.", "fever", "cough")
    alone, beside = side_by_side(near_shares, models.load("organism"), [question] * 12)
    np.testing.assert_array_equal(alone, beside)
