"""Kendall's test and Theil and Sen's line, held against scipy.stats."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, theilslopes  # type: ignore[import-untyped, unused-ignore]

from streamgauge.ranks import kendall, theil_sen

LEVELS = st.sampled_from((3, 10, 10**9))
"""Few of them: many ties."""
POINTS = st.tuples(st.integers(2, 45), LEVELS, LEVELS).flatmap(
    lambda of: st.tuples(*[st.lists(st.integers(0, most), min_size=of[0], max_size=of[0]) for most in of[1:]])
)


def held_against_scipy(x: np.ndarray, y: np.ndarray) -> None:
    assert kendall(x, y) == pytest.approx(kendalltau(x, y).pvalue, rel=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it warns where it gives no bounds
        line = theilslopes(y, x, alpha=0.95)
    assert theil_sen(x, y) == pytest.approx((line.slope, line.low_slope, line.high_slope), rel=1e-9, nan_ok=True)


@settings(max_examples=200, deadline=None)
@given(POINTS)
def test_any_points_with_and_without_ties_give_the_numbers_of_scipy(points: tuple[list[int], list[int]]) -> None:
    x, y = (np.array(one, dtype=np.float64) for one in points)
    assume(np.ptp(x) > 0 and np.ptp(y) > 0)
    held_against_scipy(x, y)


def test_ties_that_leave_nothing_to_vary_give_a_slope_without_bounds() -> None:
    x = np.array([0.0, 0.0, 0.0, 0.0, 1.0])
    held_against_scipy(x, x)
    assert np.isnan(theil_sen(x, x)[1])


@pytest.mark.parametrize("n", [2, 3, 12, 33, 34, 200])
def test_every_strength_of_a_trend_gives_the_numbers_of_scipy(n: int) -> None:
    rng = np.random.default_rng(n)
    x = np.arange(n, dtype=np.float64)
    for strength in (0.0, 0.1, 1.0, 10.0, -10.0):
        held_against_scipy(x, strength * x + rng.normal(size=n))
