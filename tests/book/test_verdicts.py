"""Verdicts: what an interval shows, on both sides of every bound, and how often a rule errs."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from ctd import stats
from ctd.book import rules, verdicts
from ctd.book.verdicts import Estimate, Judgement, Verdict, evidence

E = 1e-9


@pytest.mark.parametrize(
    ("estimate", "claimed", "shown"),
    [
        ((1.0, E, 2.0), "above", "holds"),
        ((1.0, -E, 2.0), "above", None),
        ((-1.0, -2.0, -E), "above", "opposite"),
        ((-1.0, -2.0, -E), "below", "holds"),
        ((0.0, -0.5 + E, 0.5 - E), "above", "nothing"),
        ((0.0, -0.5 - E, 0.4), "above", None),
        ((0.0, -0.5 + E, 0.5 - E), "at", "holds"),
        ((0.0, -0.4, 0.5 + E), "at", None),
        ((1.0, 0.4, 1.6), "at", None),
        ((1.5, 0.6, 2.4), "at", "opposite"),
    ],
)
def test_an_interval_shows_what_lies_wholly_on_one_side(estimate, claimed, shown):
    verdict = evidence(Estimate(*estimate), claimed, bound=0.5)._asdict()
    assert [name for name, p in verdict.items() if p <= verdicts.SIDE] == ([shown] if shown else [])


def test_a_null_value_moves_everything_along():
    at_half = evidence(Estimate(0.8, 0.7, 0.9), "above", 0.1, null=0.5)
    assert at_half == pytest.approx(evidence(Estimate(0.3, 0.2, 0.4), "above", 0.1))


def test_p_values_are_those_of_one_sided_t_tests_on_many_values():
    values = np.random.default_rng(0).normal(0.02, 1.0, 40_000)

    def p(null, alternative):
        return scipy_stats.ttest_1samp(values, null, alternative=alternative).pvalue

    shown = evidence(Estimate(*stats.t_interval(values).scalar), "above", bound=0.03)
    assert shown.holds == pytest.approx(p(0, "greater"), rel=0.01)
    assert shown.opposite == pytest.approx(p(0, "less"), rel=0.01)
    assert shown.nothing == pytest.approx(max(p(-0.03, "greater"), p(0.03, "less")), rel=0.01)


def test_a_bound_of_nothing_is_refused():
    with pytest.raises(ValueError, match="a bound must be above 0, got 0"):
        evidence(Estimate(1, 0, 2), "above", 0)


def test_no_width_says_only_that_nothing_differed():
    assert Estimate.of(0.0, (0.0, 0.0), 30) == pytest.approx((0.0, -0.1157, 0.1157), abs=1e-4)
    assert scipy_stats.binom.cdf(0, 30, 0.1157) == pytest.approx(0.025, abs=1e-4)
    assert Estimate.of(0.5, (0.4, 0.6), 30) == (0.5, 0.4, 0.6)


def test_a_difference_of_independent_estimates_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    a, b = rng.normal(1.0, 0.3, 5000), rng.normal(0.4, 0.1, 5000)
    widths = 1.96 * np.array([0.3, 0.1])
    covered = [
        low <= 0.6 <= high
        for x, y in zip(a, b, strict=True)
        for _, low, high in [Estimate(x, x - widths[0], x + widths[0]).less(Estimate(y, y - widths[1], y + widths[1]))]
    ]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.01)
    assert Estimate(1, 0, 2).times(-0.5) == (-0.5, -1, 0)


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ([(0.02, 1, 1), (0.025, 1, 1)], Verdict.REPRODUCED),
        ([(0.02, 1, 1), (0.026, 1, 1)], Verdict.INCONCLUSIVE),
        ([(0.001, 1, 1), (1, 0.012, 1)], Verdict.CONTRADICTED),
        ([(0.001, 1, 1), (1, 0.013, 1)], Verdict.INCONCLUSIVE),
        ([(0.001, 1, 1), (1, 1, 0.012)], Verdict.EQUIVALENT),
        ([(0.001, 1, 0.001)], Verdict.EQUIVALENT),
    ],
)
def test_a_claim_takes_all_of_its_numbers_and_one_refutes_it(parts, verdict):
    assert verdicts.judge([verdicts.Evidence(*part) for part in parts]).verdict == verdict


def test_what_does_not_stand_among_the_others_is_inconclusive():
    alone = [Judgement(Verdict.REPRODUCED, p) for p in (0.02, 0.001, 0.012)]
    together = verdicts.corrected(alone)
    assert [each.verdict for each in together] == [Verdict.REPRODUCED] * 3
    assert [each.p for each in together] == pytest.approx([0.048, 0.006, 0.048])
    crowd = verdicts.corrected([*alone, *[Judgement(Verdict.INCONCLUSIVE, 0.5)] * 5])
    assert [each.verdict for each in crowd[:3]] == [Verdict.INCONCLUSIVE, Verdict.REPRODUCED, Verdict.INCONCLUSIVE]
    assert verdicts.corrected([]) == []


def test_the_smallest_effect_seen_is_seen_in_four_studies_of_five():
    least = verdicts.smallest_seen(Estimate(0.0, -1.96, 1.96))
    assert verdicts.simulate([("above", 1e-6)], [least], [1.0])[Verdict.REPRODUCED] == pytest.approx(0.8, abs=0.03)


def test_every_rule_of_the_ledger_errs_in_at_most_one_study_of_twenty():
    table = rules.power().set_index("claim")
    assert (table["false alarm"] <= 0.05).all()
    assert (table["power"] >= 0.75).all()


@pytest.mark.parametrize("truth", [-1.0, 1.0])
def test_something_is_called_nothing_in_at_most_one_study_of_twenty(truth):
    shares = verdicts.simulate([("above", 1.0)], [truth], [0.2])
    assert shares[Verdict.EQUIVALENT] <= 0.05
    assert verdicts.simulate([("above", 1.0)], [0.0], [0.2])[Verdict.EQUIVALENT] > 0.9
    assert sum(shares.values()) == pytest.approx(1.0)


def test_a_real_bootstrap_of_no_effect_rarely_reproduces_a_claim():
    rng = np.random.default_rng(2)
    reproduced = 0
    for _ in range(300):
        value, low, high = stats.bootstrap_mean(rng.exponential(1.0, 60) - 1.0, draws=300).scalar
        shown = evidence(Estimate.of(value, (low, high), 60), "above", 0.01)
        reproduced += verdicts.judge([shown]).verdict is Verdict.REPRODUCED
    assert reproduced / 300 <= 0.05
