"""Phases of degradation and recovery, from numbers worked by hand."""

from __future__ import annotations

import math
from itertools import pairwise

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


def noisy(knee: float, rng: np.random.Generator, drift: float = 0.08) -> list[Level]:
    """A closed loop whose answers take 0.3 s each until `knee` users, and from there on come no faster (Little's law):
    each level is off by a drift of its own, held for 10 s, and each request by its own luck."""
    out = []
    for users in (1, 10, 25, 50, 62, 68, 75, 100, 150, 200):
        slower = math.exp(drift * rng.standard_normal())
        takes_s = 0.3 * slower * max(1.0, users / knee)
        n = int(rng.poisson(10 * users / takes_s))
        waits = (takes_s * 1e3 - 100) * np.exp(0.3 * rng.standard_normal(n))
        out.append(Level(users, waits, n, 0, served=n / 10))
    return out


def falls(phases: list[str]) -> int:
    """How often a phase is milder than the one before."""
    order = ["linear", "queueing", "shedding", "collapse"]
    return sum(order.index(b) < order.index(a) for a, b in pairwise(phases))


def test_noise_alone_never_names_a_service_better_than_with_less_load():
    """400 generated tables whose truth is monotone, many with the knee amid fine steps."""
    rng = np.random.default_rng(5)
    tables = [(knee, noisy(knee, rng)) for knee in rng.uniform(20, 160, 400)]
    named = [(knee, [(step.level, step.phase) for step in steps(table, 0.05)]) for knee, table in tables]

    assert sum(falls([phase for _, phase in one]) > 0 for _, one in named) <= 4
    below = [phase for knee, one in named for level, phase in one if level < 0.7 * knee]
    beyond = [phase for knee, one in named for level, phase in one if level > 1.7 * knee]
    assert below.count("linear") > 0.97 * len(below)
    assert len(beyond) - beyond.count("linear") > 0.99 * len(beyond)
    assert beyond.count("queueing") > 0.9 * len(beyond)


def test_a_level_that_surely_heals_is_named_so():
    """A second instance came up between 50 and 100 users: three seconds of waiting are gone."""
    table = [level(10, 10, 200), level(50, 20, 3_000), level(100, 100, 205), level(200, 110, 2_500)]
    assert phases(*table) == ["linear", "queueing", "linear", "queueing"]


def test_one_doubtful_level_among_better_ones_is_noise():
    rng = np.random.default_rng(1)
    few = 320 * np.exp(0.5 * rng.standard_normal(12))
    odd = Level(25, few, 12, 0, served=22.0)
    assert np.median(few) > 1.5 * 200, "by itself it would queue"
    assert phases(level(10, 10, 200), odd, level(50, 50, 205), level(75, 74, 210)) == ["linear"] * 4
    assert phases(level(10, 10, 200), level(50, 30, 900), Level(62, few, 12, 0, served=33.0)) == [
        "linear", "queueing", "queueing"
    ]  # fmt: skip


def test_a_level_that_ended_in_a_crash_is_no_shedding_and_no_collapse():
    table = [level(1, 1, 200), level(50, 50, 210), level(100, 20, 215, errors=80)]
    found = steps(table, 0.05, crashed={100})
    assert [step.phase for step in found] == ["linear", "linear", "crash"]
    assert found[2].error_rate == 0.8
    result = grace(found, np.array([1.0] * 80), [0.5], error_limit=0.05, fast_ms=1_000)
    assert (result.graceful, result.survivors_served) == (False, True)
    assert result.words().startswith("Not graceful: it crashed, errors went past the limit")


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


def test_a_recovery_too_quick_to_time_was_at_once():
    result = told([level(1, 1, 200), level(64, 64, 210)], [], [0.01])

    assert result.words().endswith("it recovered at once")


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
