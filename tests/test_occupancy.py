from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge import occupancy

MS = 1_000_000


def ns(*ms: float) -> occupancy.IntArray:
    return np.array([round(x * MS) for x in ms], dtype=np.int64)


def held(intervals: list[tuple[float, float]], windows: list[tuple[float, float]], q: float = 0.05) -> float | None:
    return occupancy.held(
        ns(*(a for a, _ in intervals)),
        ns(*(b for _, b in intervals)),
        [(round(a * MS), round(b * MS)) for a, b in windows],
        q,
    )


def test_what_was_kept_for_all_but_a_twentieth_of_the_time_is_held():
    assert held([(0, 1_000), (0, 1_000), (0, 951)], [(0, 1_000)]) == 3
    assert held([(0, 1_000), (0, 1_000), (0, 949)], [(0, 1_000)]) == 2


def test_time_outside_the_windows_does_not_count():
    assert held([(100, 200)], [(100, 200)]) == 1
    assert held([(100, 200)], [(100, 150), (160, 200)]) == 1
    assert held([(100, 200)], [(0, 200)]) == 0


def test_streams_that_began_before_the_window_are_held_in_it():
    assert held([(-500, 5_000)] * 7, [(0, 1_000)]) == 7


def test_without_a_window_nothing_is_known():
    assert held([(0, 1)], []) is None
    assert held([(0, 1)], [(5, 5)]) is None


def test_a_window_without_streams_held_none():
    assert held([], [(0, 100)]) == 0


def test_a_slot_stays_in_use_between_requests_for_250_ms_at_most():
    begin, end = occupancy.bridges(
        np.array([1, 1, 1], dtype=np.int32), ns(0, 300, 1_000), ns(100, 500, 1_100), np.array([True, True, True])
    )

    assert list(begin) == list(ns(100, 500))
    assert list(end) == list(ns(300, 750))


def test_a_slot_whose_request_failed_is_not_in_use_until_the_next():
    begin, _ = occupancy.bridges(np.array([1, 1], dtype=np.int32), ns(0, 300), ns(100, 500), np.array([False, True]))

    assert len(begin) == 0


def test_other_slots_and_open_loops_are_not_bridged():
    begin, _ = occupancy.bridges(
        np.array([1, 2, -1, -1], dtype=np.int32), ns(0, 150, 0, 150), ns(100, 200, 100, 200), np.ones(4, dtype=np.bool_)
    )

    assert len(begin) == 0


INTERVALS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 300)), max_size=20)


@given(INTERVALS, st.integers(0, 300), st.integers(1, 300), st.sampled_from([0.05, 0.5, 0.95]))
def test_held_is_what_counting_each_millisecond_gives(intervals, begin, length, q):
    spans = [(a, a + b) for a, b in intervals]
    counts = sorted(sum(a <= t < b for a, b in spans) for t in range(begin, begin + length))

    found = held([(float(a), float(b)) for a, b in spans], [(begin, begin + length)], q)

    assert found == next(c for c in counts if sum(d <= c for d in counts) >= q * length - 1e-6)


@given(INTERVALS, st.lists(st.integers(0, 800), min_size=2, max_size=6, unique=True))
def test_amounts_are_what_adding_each_overlap_gives(intervals, edges):
    edges = sorted(edges)
    spans = [(a, a + b, 10.0 * (i + 1)) for i, (a, b) in enumerate(intervals)]

    def passed(t: float) -> float:
        return sum(w * (min(max((t - a) / (b - a), 0), 1) if b > a else t >= b) for a, b, w in spans)

    found = occupancy.amount_by(
        ns(*(a for a, _, _ in spans)), ns(*(b for _, b, _ in spans)), np.array([w for *_, w in spans]), ns(*edges)
    )

    assert list(found) == pytest.approx([passed(t) for t in edges], abs=1e-6)


def test_amounts_are_exact_far_from_the_clocks_zero():
    """A machine that has been up for ten years: 3e17 ns."""
    far = 3 * 10**17
    start, end = np.array([far], dtype=np.int64), np.array([far + 1_000 * MS], dtype=np.int64)

    assert occupancy.amount_within(start, end, np.array([50.0]), [(far, far + 500 * MS)]) == pytest.approx(25, abs=1e-6)
