"""ctd.stats against scipy.stats, exact enumeration and simulated coverage."""

import itertools
import warnings

import numpy as np
import pytest
from scipy import stats as scipy_stats

from ctd import stats
from ctd.stats import Interval, bootstrap_difference, bootstrap_mean, bootstrap_ratio, resampling


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def assert_close_to_scipy(interval, expected):
    """Both ends within 0.1 standard errors: four times the Monte-Carlo error of two sets of 20,000 draws."""
    low, high = expected.confidence_interval
    np.testing.assert_allclose(interval.low, low, atol=0.1 * np.max(expected.standard_error))
    np.testing.assert_allclose(interval.high, high, atol=0.1 * np.max(expected.standard_error))


METHODS = ["BCa", "percentile"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_mean_agrees_with_scipy(rng, level, method):
    values = rng.gamma(0.5, size=60)
    expected = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method=method, confidence_level=level, rng=rng
    )
    got = bootstrap_mean(values, draws=20_000, level=level, method=method)
    assert got.estimate == pytest.approx(values.mean())
    assert_close_to_scipy(got, expected)


@pytest.mark.parametrize("method", METHODS)
def test_ratio_of_sums_agrees_with_scipy(rng, method):
    below = rng.gamma(2, size=80)
    above = below * rng.random(80)

    def ratio(a, b, axis):
        return a.sum(axis) / b.sum(axis)

    expected = scipy_stats.bootstrap((above, below), ratio, n_resamples=20_000, method=method, paired=True, rng=rng)
    got = bootstrap_ratio(above, below, draws=20_000, method=method)
    assert got.estimate == pytest.approx(above.sum() / below.sum())
    assert_close_to_scipy(got, expected)


def test_difference_is_paired(rng):
    b = rng.normal(size=70) * 10
    a = b + rng.normal(0.5, 0.1, size=70)

    def difference(a, b, axis):
        return a.mean(axis) - b.mean(axis)

    expected = scipy_stats.bootstrap((a, b), difference, n_resamples=20_000, method="BCa", paired=True, rng=rng)
    got = bootstrap_difference(a, b, draws=20_000)
    assert_close_to_scipy(got, expected)
    assert got.high - got.low < 0.1, "unpaired it would be ten times as wide"


def test_three_documents_give_the_27_possible_means():
    values = np.array([0.0, 1.0, 5.0])
    means = sorted(np.mean(pick) for pick in itertools.product(values, repeat=3))
    got = bootstrap_mean(values, draws=20_000, level=0.9, method="percentile")
    # 5 % and 95 % lie inside ties of the exact distribution, so its quantiles are met exactly.
    assert got.low == pytest.approx(means[1])
    assert got.high == pytest.approx(means[-2])


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("method", METHODS)
def test_intervals_cover_the_true_mean_and_ratio_as_often_as_they_say(rng, level, method):
    # Each column is a study of 300 documents; columns are independent given the draws they share.
    studies = 1500
    below = rng.gamma(2, size=(300, studies))
    above = below * rng.beta(2, 3, size=(300, studies))
    error = 3 * np.sqrt(level * (1 - level) / studies)
    mean = bootstrap_mean(above, level=level, method=method)
    ratio = bootstrap_ratio(above, below, level=level, method=method)
    for interval, truth in ((mean, 2 * 2 / 5), (ratio, 2 / 5)):
        covered = ((interval.low <= truth) & (truth <= interval.high)).mean()
        assert covered == pytest.approx(level, abs=error)


def test_same_seed_same_interval_whatever_the_chunk(rng, monkeypatch):
    above, below = rng.random((40, 3)), 1 + rng.random((40, 3))
    whole = bootstrap_ratio(above, below, draws=50, seed=5)
    for cells in (1, 130, 2000):
        monkeypatch.setattr(resampling, "CELLS", cells)
        parts = bootstrap_ratio(above, below, draws=50, seed=5)
        np.testing.assert_allclose([parts.low, parts.high], [whole.low, whole.high], rtol=1e-12)
    other = bootstrap_ratio(above, below, draws=50, seed=6)
    assert (other.low != whole.low).all()


def test_columns_share_their_draws_and_do_not_touch_each_other(rng):
    values = rng.random((30, 2))
    both = bootstrap_mean(np.column_stack([values, np.full(30, np.nan), values]))
    assert str(both[0]) == str(both[3])
    np.testing.assert_allclose(both.low[:2], bootstrap_mean(values).low, rtol=1e-12)
    assert np.isnan([both.estimate[2], both.low[2], both.high[2]]).all()


def test_a_skewed_mean_is_covered_on_both_sides_alike_by_bca(rng):
    # Of the misses of a mean of skewed values, the percentile interval has most on one side; BCa mends part of it.
    values = rng.lognormal(0, 1, size=(60, 2000))
    missed = {}
    for method in METHODS:
        got = bootstrap_mean(values, method=method)
        missed[method] = (got.high < np.exp(0.5)).mean()
    assert 0.025 < missed["BCa"] < missed["percentile"] - 0.005


def test_a_statistic_of_several_sums(rng):
    counts = rng.integers(0, 3, size=(50, 4)).astype(float)

    def q(totals):
        agree, differ = totals[:, 0] * totals[:, 3], totals[:, 1] * totals[:, 2]
        return (agree - differ) / (agree + differ)

    expected = scipy_stats.bootstrap(
        tuple(counts.T),
        lambda a, b, c, d, axis: (
            q(np.moveaxis(np.stack([x.sum(axis) for x in (a, b, c, d)]), 0, 1)[..., None])[..., 0]
            if np.ndim(a.sum(axis))
            else q(np.array([[a.sum(), b.sum(), c.sum(), d.sum()]]))[0]
        ),
        n_resamples=20_000,
        paired=True,
        method="BCa",
        rng=rng,
    )
    assert_close_to_scipy(stats.bootstrap(counts, q, 20_000), expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cells", [100, resampling.CELLS])
def test_a_statistic_of_weights_has_the_interval_of_the_same_one_of_sums(rng, monkeypatch, method, cells):
    monkeypatch.setattr(resampling, "CELLS", cells)
    values = rng.gamma(0.5, size=(30, 2, 3))
    sums = stats.bootstrap(values, stats.ratio, 200, method=method)
    weighted = stats.bootstrap_weighted(
        lambda weights: stats.ratio(np.tensordot(weights, values, 1)), 30, 200, method=method
    )
    for end in ("estimate", "low", "high"):
        np.testing.assert_allclose(getattr(weighted, end), getattr(sums, end))
    assert weighted.method == sums.method == sums[0].method == method


class TestComparisons:
    def test_sign_flips_are_exact_where_they_can_be(self):
        differences = np.array([1.0, 2.0, 3.0, -0.5])
        means = [np.mean(differences * signs) for signs in itertools.product([-1, 1], repeat=4)]
        expected = np.mean(np.abs(means) >= differences.mean() - 1e-12)
        assert stats.sign_flip_test(differences) == pytest.approx(expected)

    def test_sign_flips_agree_with_the_t_test_where_both_hold(self, rng):
        differences = rng.normal(0.2, 1, size=200)
        expected = scipy_stats.ttest_1samp(differences, 0).pvalue
        assert stats.sign_flip_test(differences) == pytest.approx(expected, abs=0.01)

    def test_holm_is_the_closure_of_bonferroni(self, rng):
        for _ in range(20):
            p = rng.random(5) ** 3
            subsets = [s for size in range(1, 6) for s in itertools.combinations(range(5), size)]
            expected = [max(min(1, len(s) * p[list(s)].min()) for s in subsets if i in s) for i in range(5)]
            np.testing.assert_allclose(stats.holm(p), expected)
        assert stats.holm(np.empty(0)).shape == (0,)

    def test_effect_sizes(self, rng):
        a, b = rng.normal(1, 1, size=(2, 40))
        t = scipy_stats.ttest_rel(a, b).statistic
        assert stats.cohen_d(a - b) == pytest.approx(t / np.sqrt(40))
        assert stats.dominance(np.array([1.0, 2, 0, -1])) == 0.25
        assert np.isnan(stats.cohen_d(np.ones(3)))
        assert np.isnan(stats.cohen_d(np.ones(1)))

    def test_a_table_of_comparisons_corrects_over_its_rows(self, rng):
        table = stats.compared({"none": rng.normal(size=30), "much": rng.normal(2, 1, size=30)})
        assert table["name"].tolist() == ["none", "much"]
        np.testing.assert_allclose(table["p_holm"], stats.holm(table["p"].to_numpy()))
        assert table["p_holm"][1] < 0.01 < table["p_holm"][0]
        assert table["low"][1] < table["value"][1] < table["high"][1]

    def test_bad_input(self):
        with pytest.raises(ValueError, match="at least 2 numbers and no NaN"):
            stats.sign_flip_test(np.array([1.0, np.nan]))
        with pytest.raises(ValueError, match="between 0 and 1"):
            stats.holm(np.array([0.2, 1.2]))


def test_shape_of_the_result_follows_the_input(rng):
    assert bootstrap_mean(rng.random(9)).low.shape == ()
    assert bootstrap_mean(rng.random((9, 4))).low.shape == (4,)
    assert bootstrap_mean(rng.random((9, 4, 2)) > 0.5).low.shape == (4, 2)


def test_undefined_ratios_are_nan_without_a_warning():
    above = np.array([[1.0, 0, np.nan, 2], [1, 0, 1, 3]])
    below = np.array([[2.0, 0, 1, np.nan], [2, 0, 1, 4]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = bootstrap_ratio(above, below, draws=20)
    for part in (got.estimate, got.low, got.high):
        np.testing.assert_array_equal(np.isnan(part), [False, True, True, True])
    assert got.estimate[0] == got.low[0] == got.high[0] == 0.5


def test_draws_that_miss_a_rare_group_are_left_out():
    # Only document 0 has the label: about a third of the draws miss it, the others all give 0.5.
    above, below = np.array([1.0, 0, 0, 0]), np.array([2.0, 0, 0, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bootstrap_ratio(above, below).scalar == (0.5, 0.5, 0.5)
        alone = [bootstrap_ratio(above, below, draws=1, seed=seed) for seed in range(20)]
    assert any(np.isnan(interval.low) for interval in alone), "a single draw that misses it leaves no interval"


def test_an_interval_reads_as_people_write_it():
    interval = Interval(np.array(0.3721), np.array(0.3509), np.array(0.3944))
    assert str(interval) == "0.372 [0.351, 0.394]"
    assert interval.scalar == (0.3721, 0.3509, 0.3944)
    two = Interval(np.array([0.1, 0.2]), np.array([0.0, 0.1]), np.array([0.2, 0.3]))
    assert str(two) == "0.100 [0.000, 0.200]\n0.200 [0.100, 0.300]"
    assert str(two[1]) == "0.200 [0.100, 0.300]"
    assert two[1].scalar == (0.2, 0.1, 0.3)
    with pytest.raises(ValueError, match="1 number, got 2"):
        _ = two.scalar


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"numerators": np.ones((0, 2)), "denominators": np.ones((0, 2))}, r"at least 1 document .*\(0, 2\)"),
        ({"numerators": 1.0, "denominators": 2.0}, "at least 1 document"),
        ({"denominators": np.ones((5, 1))}, r"same shape, got \(5, 2\) and \(5, 1\)"),
        ({"draws": 0}, "draws must be at least 1, got 0"),
        ({"level": 0}, "level must be between 0 and 1 .*got 0"),
        ({"level": 1.0}, "level must be between 0 and 1 .*got 1"),
        ({"level": 95}, "got 95"),
        ({"level": float("nan")}, "got nan"),
        ({"method": "magic"}, "method must be one of BCa, percentile, got 'magic'"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        bootstrap_ratio(**({"numerators": np.ones((5, 2)), "denominators": np.ones((5, 2))} | arguments))
    assert "\n" not in str(error.value)


def test_means_and_differences_check_their_input_too():
    with pytest.raises(ValueError, match="at least 1 document"):
        bootstrap_mean(np.empty(0))
    with pytest.raises(ValueError, match=r"a and b need the same shape .*\(3,\) and \(4,\)"):
        bootstrap_difference(np.ones(3), np.ones(4))


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_interval_of_a_few_values_is_students(rng, level):
    values = rng.normal(0.3, 1, 5)
    expected = scipy_stats.ttest_1samp(values, 0).confidence_interval(level)
    assert stats.t_interval(values, level).scalar == pytest.approx((values.mean(), expected.low, expected.high))


def test_interval_of_one_value_or_equal_ones_or_none():
    value, low, high = stats.t_interval(np.array([2.0])).scalar
    assert value == 2.0
    assert np.isnan(low)
    assert np.isnan(high)
    assert stats.t_interval(np.full(3, 0.5)).scalar == (0.5, 0.5, 0.5)
    assert stats.t_interval(np.full(3, 0.5)).method == "Student's t"
    with pytest.raises(ValueError, match="a mean needs at least one value, got none"):
        stats.t_interval(np.array([]))


@pytest.mark.parametrize(("seeds", "by_seed", "by_document"), [(5, 0.05, 0.0), (5, 0.02, 0.3), (3, 0.0, 0.3)])
def test_an_interval_over_seeds_and_documents_covers_other_seeds_and_other_documents(seeds, by_seed, by_document):
    rng, covered = np.random.default_rng(0), 0
    for _ in range(1000):
        table = rng.normal(0, by_seed, (seeds, 1)) + rng.normal(0, by_document, (1, 100))
        interval = stats.crossed_interval(table + rng.normal(0, 0.3, (seeds, 100)))
        covered += interval.low <= 0 <= interval.high
    assert covered / 1000 >= 0.95 - 3 * (0.95 * 0.05 / 1000) ** 0.5


def test_an_interval_over_seeds_and_documents_is_that_of_what_varies():
    rng = np.random.default_rng(1)
    by_seed = rng.normal(size=(6, 1)) + np.zeros((1, 40))
    assert stats.crossed_interval(by_seed).scalar == pytest.approx(stats.t_interval(by_seed[:, 0]).scalar)
    by_document = np.zeros((6, 1)) + rng.normal(size=(1, 40))
    assert stats.crossed_interval(by_document).scalar == pytest.approx(stats.t_interval(by_document[0]).scalar)
    assert stats.crossed_interval(np.ones((3, 4))).scalar == (1, 1, 1)


@pytest.mark.parametrize("values", [np.ones(3), np.ones((1, 3)), np.ones((3, 1)), np.array([[1, np.nan], [0, 1]])])
def test_an_interval_over_seeds_and_documents_needs_some_of_each(values):
    with pytest.raises(ValueError, match="at least 2 seeds and 2 documents"):
        stats.crossed_interval(values)
