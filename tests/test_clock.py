"""Clocks by a clock that moves only when told: offsets, steps, and what neither may hide."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.clock import MS, REMAP_EVERY_NS, US, FakeClock, RealtimeMap, S, SystemClock, offset


@dataclass
class Slow(FakeClock):
    """A clock each of whose readings takes its time, longer and shorter ones in turn."""

    takes: tuple[int, ...] = (0,)
    reads: int = 0

    def now(self) -> int:
        self.reads += 1
        self.advance(self.takes[self.reads % len(self.takes)])
        return self.monotonic_ns


def test_an_offset_is_exact_where_reading_takes_no_time() -> None:
    clock = FakeClock(monotonic_ns=5 * S, wall_ns=1_760_000_000 * S)
    assert offset(clock) == (5 * S - 1_760_000_000 * S, 0)


@given(st.lists(st.integers(0, 10 * MS), min_size=1, max_size=9), st.integers(1, 60))
def test_the_true_offset_lies_within_the_uncertainty_whatever_reading_takes(takes: list[int], tries: int) -> None:
    clock = Slow(takes=tuple(takes))
    true = clock.monotonic_ns - clock.wall_ns
    found, uncertainty = offset(clock, tries)
    assert abs(found - true) <= uncertainty


def test_the_tightest_of_many_readings_is_taken() -> None:
    disturbed = Slow(takes=(4 * MS, 3 * MS, 9 * MS, 2 * US, 7 * MS))
    assert offset(disturbed, 50)[1] == 1 * US
    assert offset(disturbed, 1)[1] >= 1 * US


@pytest.mark.parametrize(
    ("step", "noticed"),
    [
        (0, False),
        (99 * US, False),
        (100 * US, False),
        (101 * US, True),
        (-99 * US, False),
        (-101 * US, True),
        (S, True),
    ],
)
def test_a_jump_over_100_us_is_a_step_and_a_smaller_one_is_drift(step: int, noticed: bool) -> None:
    clock = FakeClock()
    mapped = RealtimeMap(clock)
    began = clock.now()
    clock.advance(100 * MS)
    clock.step_wall(step)
    assert mapped.refresh() is noticed
    assert mapped.steps == ([(began, began + 100 * MS, -step)] if noticed else [])
    assert clock.wall() + mapped.offset == clock.now(), "either way the map is right again"
    clock.advance(100 * MS)
    assert mapped.refresh() is False, "a step is told once"


def test_a_jump_within_the_uncertainty_of_the_reading_is_no_step() -> None:
    clock = Slow(takes=(300 * US,))
    mapped = RealtimeMap(clock)
    clock.step_wall(150 * US)
    assert mapped.refresh() is False
    clock.step_wall(2 * MS)
    assert mapped.refresh() is True


def test_drift_adds_up_without_ever_being_a_step() -> None:
    clock = FakeClock()
    mapped = RealtimeMap(clock)
    for _ in range(100):
        clock.advance(100 * MS)
        clock.step_wall(50 * US)  # 500 ppm, the most that NTP slews
        assert mapped.refresh() is False
    assert clock.wall() + mapped.offset == clock.now()


def test_a_map_wants_to_look_again_every_100_ms() -> None:
    clock = FakeClock()
    mapped = RealtimeMap(clock)
    assert mapped.next_look == clock.now() + REMAP_EVERY_NS == clock.now() + 100 * MS
    clock.advance(250 * MS)
    mapped.refresh()
    assert mapped.next_look == clock.now() + 100 * MS


def test_a_fake_clock_moves_only_when_told_and_notes_its_sleeps() -> None:
    clock = FakeClock(monotonic_ns=10, wall_ns=100)
    clock.sleep_until(25)
    clock.sleep_until(20)
    assert (clock.now(), clock.wall(), clock.sleeps) == (25, 115, [15])
    clock.step_wall(-50)
    assert (clock.now(), clock.wall()) == (25, 65)


def test_the_systems_clocks_are_the_systems_and_it_never_wakes_early() -> None:
    clock = SystemClock()
    before, wall = time.monotonic_ns(), time.time_ns()
    assert before <= clock.now() <= time.monotonic_ns()
    assert abs(clock.wall() - wall) < 5 * S
    due = clock.now() + 3 * MS
    clock.sleep_until(due)
    assert clock.now() >= due
    clock.sleep_until(due - S)


def test_this_machines_offset_is_known_to_within_the_time_of_two_readings() -> None:
    mapped = RealtimeMap(SystemClock())
    assert 0 <= mapped.uncertainty < 1 * MS
    assert abs(time.time_ns() + mapped.offset - time.monotonic_ns()) < 1_000 * MS


@given(
    st.integers(400 * MS, 2 * 3600 * S),  # a shorter one may fit between the bounds either way: flagged, not told apart
    st.sampled_from((-1, 1)),
    st.booleans(),
    st.integers(0, 300 * MS),
    st.integers(0, 300 * MS),
)
def test_a_stamp_from_before_or_after_a_step_is_put_where_it_was_taken(
    ns: int, towards: int, old: bool, since: int, until: int
) -> None:
    step = towards * ns
    clock = FakeClock()
    mapped = RealtimeMap(clock)
    if old:
        taken, stamp = clock.now(), clock.wall()
        clock.step_wall(step)
    else:
        clock.step_wall(step)
        taken, stamp = clock.now(), clock.wall()
    mapped.refresh()
    assert mapped.at(stamp, taken - since, taken + until) == taken


def test_a_stamp_that_no_known_clock_explains_is_no_later_than_its_read() -> None:
    clock = FakeClock()
    mapped = RealtimeMap(clock)
    now = clock.now()
    assert mapped.at(clock.wall() + S, now - MS, now) == now
    assert mapped.at(0, now - MS, now) == now
