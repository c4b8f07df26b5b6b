"""Formulas against scipy, published tables and brute force; coverage stands in test_stats_coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest  # type: ignore[import-untyped, unused-ignore]

from streamgauge import stats

FINITE = st.floats(0.001, 1e6, allow_nan=False)


def ordered(*values: float) -> stats.FloatArray:
    return np.sort(np.array(values, dtype=np.float64))


def test_p95_of_50_is_the_48th_value_and_p99_the_50th():
    """Not the 47th and the 49th, as floor(p (n - 1)) gives: peers' mistake 10."""
    values = ordered(*range(1, 51))

    assert stats.quantile(values, 0.95) == 48
    assert stats.quantile(values, 0.99) == 50
    assert stats.quantile(values, 0.5) == 25


def test_floating_point_does_not_push_a_whole_rank_up():
    assert stats.rank(0.07, 100) == 7
    assert stats.rank(0.95, 20) == 19
    assert stats.rank(0.99, 100) == 99


@given(st.lists(FINITE, min_size=1, max_size=200), st.sampled_from([0.01, 0.5, 0.9, 0.95, 0.99, 0.999]))
def test_nearest_rank_is_the_least_value_that_a_share_q_does_not_exceed(values, q):
    found = stats.quantile(ordered(*values), q)

    assert found == min(v for v in values if sum(w <= v for w in values) >= q * len(values) - 1e-9)


@given(st.lists(FINITE, min_size=1, max_size=100), st.sampled_from([0.5, 0.95, 0.99]))
def test_quantile_agrees_with_numpys_inverted_cdf(values, q):
    assert stats.quantile(ordered(*values), q) == np.quantile(values, q, method="inverted_cdf")


def test_a_quantile_of_nothing_is_none():
    assert stats.quantile(ordered(), 0.95) is None


def test_a_censored_value_is_above_all_others():
    assert stats.quantile(ordered(*range(19), math.inf), 0.95) == 18
    assert stats.quantile(ordered(*range(18), math.inf, math.inf), 0.95) == math.inf


@pytest.mark.parametrize(
    ("q", "place_from_top", "n"),
    [(0.95, 1, 59), (0.95, 2, 93), (0.95, 3, 124), (0.99, 1, 299), (0.99, 2, 473), (0.90, 1, 29)],
)
def test_upper_bounds_appear_at_the_sample_sizes_of_wilks(q, place_from_top, n):
    """Wilks 1941; the 95/95 column is the one used in nuclear safety (59, 93, 124)."""
    at, before = stats.rank_bounds(n, q)[1], stats.rank_bounds(n - 1, q)[1]

    assert at == n + 1 - place_from_top
    assert before == (None if place_from_top == 1 else (n - 1) + 2 - place_from_top)


@pytest.mark.parametrize(("n", "low", "high"), [(6, 1, 6), (10, 2, 9), (20, 6, 15), (25, 8, 18), (50, 18, 33)])
def test_the_medians_interval_is_that_of_the_sign_tests_table(n, low, high):
    """Two-sided 95 % (each side 97.5 %), as printed in Conover and in Dixon & Massey."""
    assert stats.rank_bounds(n, 0.5, 0.975) == (low, high)


@pytest.mark.parametrize("q", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [5, 59, 100, 400, 1000])
@pytest.mark.parametrize("confidence", [0.95, 0.975])
def test_rank_bounds_are_the_tightest_that_keep_their_confidence(n, q, confidence):
    low, high = stats.rank_bounds(n, q, confidence)

    if low is None:
        assert binom.cdf(0, n, q) >= 1 - confidence
    else:  # X(low) > quantile needs at most low - 1 values below it
        assert binom.cdf(low - 1, n, q) <= 1 - confidence < binom.cdf(low, n, q) + 1e-12
    if high is None:
        assert binom.cdf(n - 1, n, q) < confidence
    else:
        assert binom.cdf(high - 1, n, q) >= confidence > binom.cdf(high - 2, n, q) - 1e-12


def test_dependence_widens_the_ranks():
    low, high = stats.rank_bounds(400, 0.95)
    wide_low, wide_high = stats.rank_bounds(400, 0.95, n_effective=100)

    assert low is not None
    assert high is not None
    assert wide_low is not None
    assert wide_high is not None
    assert wide_low < low < 380 < high < wide_high
    assert stats.rank_bounds(400, 0.95, n_effective=50)[1] is None


@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 100), (1, 50), (3, 598), (50, 100), (99, 100), (100, 100)])
@pytest.mark.parametrize("confidence", [0.95, 0.975])
def test_rate_bounds_are_scipys_exact_ones(k, n, confidence):
    expected = binomtest(k, n).proportion_ci(2 * confidence - 1, method="exact")

    found = stats.rate_bounds(k, n, confidence)

    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)


def test_no_failure_in_100_does_not_show_a_rate_below_half_a_percent_but_598_do():
    """Peers' mistake 11."""
    assert stats.rate_bounds(0, 100).high == pytest.approx(0.0295, abs=1e-4)
    assert stats.rate_bounds(0, 597).high > 0.005  # type: ignore[operator]
    assert stats.rate_bounds(0, 598).high < 0.005  # type: ignore[operator]


def test_a_rate_of_nothing_has_no_bounds():
    assert stats.rate_bounds(0, 0) == stats.NO_BOUNDS


def test_fractions_of_an_effective_n_agree_with_whole_ones():
    whole, fraction = stats.rate_bounds(10, 100), stats.rate_bounds(40, 400, n_effective=100)

    assert fraction.low == pytest.approx(whole.low)
    assert fraction.high == pytest.approx(whole.high)


@pytest.mark.parametrize(("limit", "n"), [(0.05, 59), (0.01, 299), (0.005, 598), (0.5, 5)])
def test_least_n_is_where_zero_of_n_first_passes(limit, n):
    assert stats.least_n(limit) == n
    assert stats.rate_bounds(0, n).high < limit <= stats.rate_bounds(0, n - 1).high  # type: ignore[operator]


@pytest.mark.parametrize(("n", "limit", "actual"), [(150, 0.05, 0.01), (800, 0.01, 0.002), (2000, 0.005, 0.001)])
def test_chance_of_pass_is_the_sum_over_every_count_that_passes(n, limit, actual):
    expected = sum(binom.pmf(k, n, actual) for k in range(60) if (stats.rate_bounds(k, n).high or 1.0) < limit)

    assert stats.chance_of_pass(n, limit, actual) == pytest.approx(expected, abs=1e-9)


def test_no_request_has_no_chance_to_pass():
    assert stats.chance_of_pass(0, 0.05, 0.01) == 0.0
    assert stats.chance_of_pass(58, 0.05, 0.0) == 0.0
    assert stats.chance_of_pass(59, 0.05, 0.0) == 1.0


def decided(k: float, n: int, limit: float) -> bool:
    k = math.ceil(k - 1e-9) if k / n < limit else math.floor(k + 1e-9)
    bounds = stats.rate_bounds(k, n)
    assert bounds.low is not None
    assert bounds.high is not None
    return bounds.high < limit or bounds.low > limit


@pytest.mark.parametrize(
    ("k", "n", "limit"), [(0, 50, 0.05), (0, 280, 0.01), (1, 100, 0.05), (6, 60, 0.05), (1, 598, 0.005)]
)
def test_needed_requests_settle_it_and_one_fewer_do_not(k, n, limit):
    more = stats.more_needed(k, n, limit)

    assert more is not None
    assert decided(k / n * (n + more), n + more, limit)
    assert not any(decided(k / n * m, m, limit) for m in range(n, n + more))


def test_nineteen_more_settle_p99_after_280_clean_requests():
    assert stats.more_needed(0, 280, 0.01) == 19


def test_a_share_at_its_limit_is_never_settled():
    assert stats.more_needed(20, 400, 0.05) is None


def test_nothing_is_needed_where_it_is_settled():
    assert stats.more_needed(0, 400, 0.05) == 0
    assert stats.more_needed(100, 400, 0.05) == 0


def test_with_nothing_seen_the_least_n_is_needed():
    assert stats.more_needed(0, 0, 0.05) == 59


LJUNG_BOX = [
    # Made with statsmodels 0.14 acorr_ljungbox(..., lags=[10]).
    ([(i * i * 31 + i * 17) % 97 for i in range(150)], 0.060119948411732294),
    ([1.0 if (i * i * 7 + i * 3) % 23 == 0 else 0.0 for i in range(300)], 1.9870300460090553e-13),
    ([((i * 7919 + 13) ** 2) % 1009 for i in range(200)], 9.11808346056654e-05),
]


@pytest.mark.parametrize(("values", "p"), LJUNG_BOX)
def test_ljung_box_is_that_of_statsmodels(values, p):
    assert stats.ljung_box(np.array(values, dtype=np.float64)) == pytest.approx(p, rel=1e-9)


def test_constant_values_are_not_called_dependent():
    assert stats.ljung_box(np.zeros(500)) == 1.0
    assert stats.effective_n(np.ones(500)) == 500


def test_bouts_are_worth_fewer_requests_than_they_are():
    bouts = np.repeat(np.random.default_rng(1).random(40) < 0.3, 10).astype(np.float64)

    assert 20 < stats.effective_n(bouts) < 90
    assert stats.effective_n(np.random.default_rng(1).permutation(bouts)) == 400


def test_a_million_values_that_hang_together_are_weighed_at_once():
    """Half the run slow, half quick: the sum runs over hundreds of thousands of lags."""
    assert stats.effective_n(np.repeat([0.0, 1.0], 500_000)) < 10


def test_dependence_is_not_looked_for_below_a_hundred_values():
    assert stats.effective_n(np.repeat([0.0, 1.0], 49)) == 98


def test_alternation_is_never_worth_more_than_n():
    assert stats.effective_n(np.tile([0.0, 1.0], 200)) == 400


@settings(max_examples=50)
@given(st.lists(st.booleans(), min_size=100, max_size=300))
def test_effective_n_lies_between_one_and_n(hits):
    assert 1 <= stats.effective_n(np.array(hits, dtype=np.float64)) <= len(hits)


@pytest.mark.parametrize(("which", "expected"), [("mean", 3.0), ("sd", math.sqrt(2.5)), ("cv", math.sqrt(2.5) / 3)])
def test_moments_are_the_textbooks(which, expected):
    assert stats.moment(ordered(1, 2, 3, 4, 5), which) == pytest.approx(expected)


def test_one_value_has_a_mean_and_no_spread():
    assert stats.moment(ordered(4), "mean") == 4
    assert stats.moment(ordered(4), "sd") is None
    assert stats.moment(ordered(), "mean") is None


def test_bounds_of_a_moment_hold_its_value_and_repeat_with_the_seed():
    values = np.random.default_rng(3).lognormal(6, 0.4, 120)

    found = stats.moment_bounds(values, "cv", np.random.default_rng(7))

    assert found.low < stats.moment(values, "cv") < found.high  # type: ignore[operator]
    assert found == stats.moment_bounds(values, "cv", np.random.default_rng(7))


def test_few_or_equal_values_bound_no_moment():
    rng = np.random.default_rng(0)

    assert stats.moment_bounds(np.arange(1.0, 9.0), "cv", rng) == stats.NO_BOUNDS
    assert stats.moment_bounds(np.full(50, 3.0), "cv", rng) == stats.NO_BOUNDS


def test_many_values_give_nearly_what_the_bootstrap_gives():
    values = np.random.default_rng(5).gamma(4, 1, 2_001)

    normal = stats.moment_bounds(values, "mean", np.random.default_rng(0))
    drawn = stats.moment_bounds(values[:2_000], "mean", np.random.default_rng(0))

    assert normal.low == pytest.approx(drawn.low, rel=0.01)
    assert normal.high == pytest.approx(drawn.high, rel=0.01)


def test_two_arms_too_small_for_a_bound_of_their_own_have_none_of_their_difference():
    """p95 of 50 has no upper bound, so neither has a difference to which it is added."""
    rng = np.random.default_rng(0)
    small, large = np.sort(rng.random(50)), np.sort(rng.random(400))

    found = stats.quantile_difference_bounds(small, large, 0.95, rng)

    assert found.high is None
    assert found.low is not None


def test_arms_that_never_reach_the_quantile_have_no_difference():
    rng = np.random.default_rng(0)
    never = np.full(400, np.inf)

    assert stats.quantile_difference_bounds(never, never, 0.95, rng) == stats.NO_BOUNDS
    assert stats.quantile_difference_bounds(ordered(), never, 0.95, rng) == stats.NO_BOUNDS


def test_the_order_statistic_bootstrap_is_the_bootstrap():
    """Its bounds are those of plain resampling, up to the noise of either."""
    rng = np.random.default_rng(11)
    a, b = np.sort(rng.lognormal(6, 0.3, 200)), np.sort(rng.lognormal(6.2, 0.3, 200))
    resampled = np.sort(
        [
            stats.quantile(np.sort(rng.choice(a, 200)), 0.95) - stats.quantile(np.sort(rng.choice(b, 200)), 0.95)  # type: ignore[operator]
            for _ in range(3_000)
        ]
    )

    found = stats.quantile_difference_bounds(a, b, 0.95, rng)

    assert found.low == pytest.approx(resampled[150], abs=15)
    assert found.high == pytest.approx(resampled[-150], abs=15)


def test_pooled_values_of_independent_clusters_have_nearly_the_plain_interval():
    values = np.random.default_rng(2).permutation(10_000).astype(np.float64)

    found = stats.clustered_quantile(values, np.full(2_000, 5), 0.95)
    plain = stats.quantile_bounds(np.sort(values), 0.95)

    assert found is not None
    assert found.value == stats.quantile(np.sort(values), 0.95)
    assert found.bounds.low == pytest.approx(plain.low, abs=15)
    assert found.bounds.high == pytest.approx(plain.high, abs=15)
    assert 8_000 < found.n_effective <= 10_000


def test_pooled_values_that_agree_within_a_cluster_are_worth_one_each():
    values = np.repeat(np.random.default_rng(2).random(400), 30)

    found = stats.clustered_quantile(values, np.full(400, 30), 0.5)

    assert found is not None
    assert found.n_effective == pytest.approx(400, rel=0.02)


def test_one_cluster_bounds_nothing():
    found = stats.clustered_quantile(np.arange(100.0), np.array([100]), 0.95)

    assert found is not None
    assert found.value == 94
    assert found.bounds == stats.NO_BOUNDS


def test_no_values_have_no_pooled_quantile():
    assert stats.clustered_quantile(np.empty(0), np.zeros(3, dtype=np.int64), 0.95) is None
