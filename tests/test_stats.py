"""ctd.stats against scipy.stats.bootstrap, exact enumeration and simulated coverage."""

import itertools
import warnings

import numpy as np
import pytest
from scipy import stats as scipy_stats

from ctd import stats
from ctd.stats import Interval, bootstrap_difference, bootstrap_mean, bootstrap_ratio


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def assert_close_to_scipy(interval, expected):
    """Both ends within 0.1 standard errors: four times the Monte-Carlo error of two sets of 20,000 draws."""
    low, high = expected.confidence_interval
    np.testing.assert_allclose(interval.low, low, atol=0.1 * np.max(expected.standard_error))
    np.testing.assert_allclose(interval.high, high, atol=0.1 * np.max(expected.standard_error))


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_mean_agrees_with_scipy(rng, level):
    values = rng.gamma(0.5, size=60)
    expected = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", confidence_level=level, rng=rng
    )
    got = bootstrap_mean(values, 20_000, level)
    assert got.estimate == pytest.approx(values.mean())
    assert_close_to_scipy(got, expected)


def test_ratio_of_sums_agrees_with_scipy(rng):
    below = rng.gamma(2, size=80)
    above = below * rng.random(80)

    def ratio(a, b, axis):
        return a.sum(axis) / b.sum(axis)

    expected = scipy_stats.bootstrap(
        (above, below), ratio, n_resamples=20_000, method="percentile", paired=True, rng=rng
    )
    got = bootstrap_ratio(above, below, 20_000)
    assert got.estimate == pytest.approx(above.sum() / below.sum())
    assert_close_to_scipy(got, expected)


def test_difference_is_paired(rng):
    b = rng.normal(size=70) * 10
    a = b + rng.normal(0.5, 0.1, size=70)

    def difference(a, b, axis):
        return a.mean(axis) - b.mean(axis)

    expected = scipy_stats.bootstrap((a, b), difference, n_resamples=20_000, method="percentile", paired=True, rng=rng)
    got = bootstrap_difference(a, b, 20_000)
    assert_close_to_scipy(got, expected)
    assert got.high - got.low < 0.1, "unpaired it would be ten times as wide"


def test_three_documents_give_the_27_possible_means():
    values = np.array([0.0, 1.0, 5.0])
    means = sorted(np.mean(pick) for pick in itertools.product(values, repeat=3))
    got = bootstrap_mean(values, draws=20_000, level=0.9)
    # 5 % and 95 % lie inside ties of the exact distribution, so its quantiles are met exactly.
    assert got.low == pytest.approx(means[1])
    assert got.high == pytest.approx(means[-2])


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_intervals_cover_the_true_mean_and_ratio_as_often_as_they_say(rng, level):
    # Each column is a study of 300 documents; columns are independent given the draws they share.
    studies = 1500
    below = rng.gamma(2, size=(300, studies))
    above = below * rng.beta(2, 3, size=(300, studies))
    error = 3 * np.sqrt(level * (1 - level) / studies)
    mean = bootstrap_mean(above, level=level)
    ratio = bootstrap_ratio(above, below, level=level)
    for interval, truth in ((mean, 2 * 2 / 5), (ratio, 2 / 5)):
        covered = ((interval.low <= truth) & (truth <= interval.high)).mean()
        assert covered == pytest.approx(level, abs=error)


def test_same_seed_same_interval_whatever_the_chunk(rng, monkeypatch):
    above, below = rng.random((40, 3)), 1 + rng.random((40, 3))
    whole = bootstrap_ratio(above, below, draws=50, seed=5)
    for cells in (1, 130, 2000):
        monkeypatch.setattr(stats, "CELLS", cells)
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
    assert any(np.isnan(one.low) for one in alone), "a single draw that misses it leaves no interval"


def test_an_interval_reads_as_people_write_it():
    one = Interval(np.array(0.3721), np.array(0.3509), np.array(0.3944))
    assert str(one) == "0.372 [0.351, 0.394]"
    assert one.scalar == (0.3721, 0.3509, 0.3944)
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
