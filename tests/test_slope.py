"""Theil-Sen slopes with bounds under dependence: the point is scipy's, the bounds are right as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from bench.leaks import ar1
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, theilslopes  # type: ignore[import-untyped, unused-ignore]

from streamgauge.slope import LEAST_POINTS, slope

POINT = st.tuples(st.integers(0, 1_000), st.integers(-(10**9), 10**9))


@settings(max_examples=60, deadline=None)
@given(st.lists(POINT, min_size=LEAST_POINTS, max_size=30))
def test_the_point_is_the_theil_sen_slope_and_lies_between_its_bounds(points):
    x, y = (np.array(side, dtype=np.float64) for side in zip(*sorted(points), strict=True))
    found = slope(x, y)
    if np.ptp(x) == 0:
        assert found is None
        return

    assert found is not None
    with np.errstate(invalid="ignore"):  # of scipy's own bounds, where many points are equal
        point = float(theilslopes(y, x)[0])
    assert found.value == pytest.approx(point, rel=1e-9, abs=1e-9)
    assert found.low <= found.value <= found.high
    assert 0 <= found.p <= 1


@given(seed=st.integers(0, 10_000), first=st.integers(4, 20), second=st.integers(4, 20), jump=st.floats(-1e3, 1e3))
def test_a_slope_common_to_two_parts_leaves_neither_a_rank_correlation(seed, first, second, jump):
    """What Theil and Sen's slope is by its definition: Kendall's S of what is left, added over the parts, is zero."""
    rng = np.random.default_rng(seed)
    parts = np.repeat([0, 1], [first, second])
    x = np.sort(rng.uniform(0, 10, first + second))
    y = 3 * x + jump * parts + rng.standard_normal(len(x))
    found = slope(x, y, parts=parts)
    assert found is not None
    left = y - found.value * x
    score = [
        kendalltau(x[parts == k], left[parts == k]).statistic * n * (n - 1) / 2 for k, n in ((0, first), (1, second))
    ]
    assert abs(sum(score)) <= 2
    moved = slope(x, y + 500 * parts, parts=parts)
    assert moved is not None
    assert (moved.value, moved.low, moved.p) == pytest.approx((found.value, found.low, found.p), rel=1e-6, abs=1e-6)


def test_the_ranks_say_what_kendall_says_where_nothing_depends_on_its_neighbour():
    rng = np.random.default_rng(4)
    for rise in (0.0, 0.02, 0.05):
        x = np.arange(40.0)
        y = rise * x + rng.standard_normal(40)
        found = slope(x, y)
        assert found is not None
        plain = kendalltau(x, y, alternative="greater", method="asymptotic").pvalue
        # Strengths above zero are weighed in, so it is somewhat more careful.
        assert plain <= found.p + 0.02
        assert found.p < plain + 0.1


def test_a_slope_is_in_units_of_y_per_unit_of_x():
    rng = np.random.default_rng(2)
    x = np.arange(20.0)
    y = 3 * x + rng.standard_normal(20)
    one, scaled = slope(x, y), slope(x / 60, 1e6 * y)

    assert one is not None
    assert scaled is not None
    for name in ("value", "low", "high"):
        assert getattr(scaled, name) == pytest.approx(60e6 * getattr(one, name), rel=1e-6)
    assert scaled.p == pytest.approx(one.p)


def test_a_wild_value_or_two_do_not_move_the_slope():
    x = np.arange(24.0)
    y = 2 * x
    y[[5, 17]] = 1e6

    found = slope(x, y)
    assert found is not None
    assert found.value == pytest.approx(2, rel=0.01)


def test_seven_points_give_no_slope():
    assert slope(np.arange(7.0), np.arange(7.0)) is None


def test_what_never_changes_has_no_slope_and_is_known_no_closer_than_a_grain():
    flat = slope(np.linspace(0, 0.5, 20), np.full(20, 5e7), grain=1e6)

    assert flat is not None
    assert flat.value == 0
    assert flat.high == pytest.approx(2e6)
    assert flat.low == pytest.approx(-2e6)
    assert not flat.rises


@pytest.mark.parametrize("phi", [0.0, 0.4, 0.7])
def test_bounds_are_right_though_neighbours_resemble_each_other(phi):
    rng = np.random.default_rng(round(100 * phi))
    repetitions, n = 400, 24
    x = np.linspace(0, 1, n)
    right = []
    for _ in range(repetitions):
        found = slope(x, 5 * x + ar1(rng, n, phi))
        assert found is not None
        right.append((found.low <= 5, found.high >= 5))

    # At 0.7 a few bouts are all there is, and their strength is guessed from them: 4 % short at most.
    least = 0.95 - 3 * math.sqrt(0.95 * 0.05 / repetitions) - (0.04 if phi == 0.7 else 0)
    assert min(np.mean(right, axis=0)) >= least


def test_taking_neighbours_for_independent_would_not_hold():
    """What the mixture is for: the plain bounds of the same series are wrong one time in four."""
    rng = np.random.default_rng(9)
    x = np.linspace(0, 1, 24)
    low = [theilslopes(5 * x + ar1(rng, 24, 0.7), x, alpha=0.9)[2] for _ in range(300)]

    assert np.mean(np.array(low) <= 5) < 0.85


def test_a_gap_loosens_the_tie_between_its_neighbours():
    rng = np.random.default_rng(3)
    places = np.array([*range(10), *range(200, 210)])
    x, y = places / 210, np.concatenate([ar1(rng, 10, 0.9), ar1(rng, 10, 0.9)])

    near, apart = slope(x, y), slope(x, y, places=places)
    assert near is not None
    assert apart is not None
    assert near != apart
