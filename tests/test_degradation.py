"""Phases of degradation and recovery, from numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from streamgauge.capacity import Level
from streamgauge.degradation import Grace, grace, recovery_s, steps


def level(at: float, served: float, ttft: float, *, errors: int = 0, n: int = 100) -> Level:
    values = np.full(n, float(ttft))
    values[n - errors :] = np.inf
    return Level(at, values, n, errors, served=served)


def phases(*levels: Level) -> list[str]:
    return [step.phase for step in steps(levels, 0.05)]


def test_twice_the_users_that_get_twice_the_answers_are_linear():
    assert phases(level(1, 0.5, 200), level(10, 5, 205), level(50, 24, 230)) == ["linear"] * 3


def test_users_who_add_no_answers_queue():
    """From 50 to 75 users 1 answer a second is gained: 0.04 a user, where the first ones gave 0.5 each."""
    found = steps([level(1, 0.5, 200), level(50, 25, 210), level(75, 26, 700)], 0.05)

    assert [step.phase for step in found] == ["linear", "linear", "queueing"]
    assert found[2].gain == pytest.approx(0.04 / 0.5)
    assert found[2].growth == pytest.approx(3.5)


def test_waiting_longer_is_queueing_although_the_answers_still_rise():
    assert phases(level(1, 1, 200), level(10, 9, 320))[1] == "queueing"


def test_two_requests_at_the_lowest_level_are_no_measure_of_what_is_usual():
    """They happened to meet the quicker of two services."""
    found = steps([level(1, 0.7, 230, n=2), level(10, 9.6, 360), level(25, 23, 352)], 0.05)

    assert [step.phase for step in found] == ["linear"] * 3
    assert [step.growth for step in found] == [None, 1.0, pytest.approx(352 / 360)]


def test_a_few_ms_more_than_next_to_nothing_are_no_queue():
    assert phases(level(1, 1, 1), level(10, 10, 4))[1] == "linear"


def test_refusing_what_is_too_much_is_shedding():
    assert phases(level(1, 1, 200), level(64, 64, 210), level(100, 63, 215, errors=36))[2] == "shedding"


def test_less_for_more_is_collapse():
    found = steps([level(1, 1, 200), level(50, 40, 300), level(100, 20, 900, errors=3)], 0.05)

    assert found[2].phase == "collapse"
    assert found[2].kept == pytest.approx(0.5)


def test_half_of_all_failing_is_collapse_only_where_the_pace_is_not_known():
    """Twice what a rate limit lets through: half is refused, and the others are served as ever."""
    assert phases(level(50, 50, 200), level(100, 50, 200, errors=50))[1] == "shedding"
    assert phases(level(50, 1, 200, errors=60)) == ["collapse"]


def test_steps_of_one_user_make_no_gain_of_noise():
    """76 users gave 1 % less than 75: against 50 users they still added all they should."""
    found = steps([level(1, 1, 200), level(50, 50, 200), level(75, 75, 200), level(76, 74.3, 200)], 0.05)

    assert found[3].phase == "linear"
    assert found[3].gain == pytest.approx(24.3 / 26)


def test_levels_come_in_their_own_order_and_empty_ones_not_at_all():
    empty = Level(5, np.empty(0), 0, 0)
    found = steps([level(50, 50, 200), empty, level(1, 1, 200)], 0.05)
    assert [step.level for step in found] == [1, 50]


def test_what_was_not_measured_is_none():
    one = Level(10, np.full(20, 100.0), 20, 0)
    found = steps([one, Level(20, np.full(20, 100.0), 20, 0)], 0.05)
    assert [(step.gain, step.kept) for step in found] == [(None, None), (None, None)]


def test_recovery_is_the_first_request_since_which_all_is_as_before():
    due = np.arange(30.0)
    ttft = np.where(due < 7, 5_000.0, 200.0)
    good = due != 3
    assert recovery_s(due, good, ttft, 300.0) == 7.0


def test_one_slow_request_in_forty_later_is_no_relapse():
    due = np.arange(41.0)
    ttft = np.where((due < 1) | (due == 30), 5_000.0, 200.0)
    assert recovery_s(due, np.ones(41, bool), ttft, 300.0) == 1.0


def test_no_recovery_is_infinite_too_few_are_none_and_at_once_is_zero():
    due, bad = np.arange(20.0) + 0.3, np.full(20, np.inf)
    assert recovery_s(due, np.zeros(20, bool), bad, 300.0) == math.inf
    assert recovery_s(due[:9], np.ones(9, bool), np.ones(9), 300.0) is None
    assert recovery_s(due, np.ones(20, bool), np.full(20, 100.0), 300.0) == 0.0


def told(levels: list[Level], failures: list[float], recoveries: list[float | None]) -> Grace:
    found = steps(levels, 0.05)
    return grace(found, np.array(failures), recoveries, error_limit=0.05, fast_ms=1_000)


def test_quick_refusals_beside_steady_service_and_a_quick_recovery_are_graceful():
    result = told([level(1, 1, 200), level(64, 64, 210), level(100, 63, 215, errors=36)], [3.0] * 36, [0.0, 1.5])

    assert result == Grace(False, True, True, 1.5, True)
    assert result.words().startswith("Graceful: errors went past the limit, failures were told at once")
    assert "recovered in 1.5 s" in result.words()


def test_errors_that_take_a_minute_are_not_graceful():
    result = told([level(1, 1, 200), level(100, 63, 215, errors=36)], [60_000.0] * 36, [0.0])
    assert result.graceful is False
    assert "made their users wait" in result.words()


def test_no_recovery_is_not_graceful_whatever_else():
    result = told([level(1, 1, 200), level(100, 90, 215)], [], [math.inf, 2.0])
    assert result.graceful is False
    assert "had not recovered" in result.words()


def test_what_nobody_looked_at_leaves_it_open():
    result = told([level(1, 1, 200), level(100, 90, 215)], [], [None])
    assert result.graceful is None
    assert result.words().startswith("Graceful or not cannot be told")
