"""What a shard has due and when, told by a clock that moves only when told. No socket, no worker."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.arrivals import Trace
from streamgauge.client import target_from_url
from streamgauge.clock import FakeClock
from streamgauge.control import Begin, Job
from streamgauge.plan import Hold, Lane, Phase, Shot
from streamgauge.schedule import STARTS, Owner, Schedule, Slot
from streamgauge.target import Target

MS = 1_000_000
S = 1_000 * MS


@dataclass
class Shard:
    """A Schedule and what it started."""

    phases: tuple[Phase, ...]
    shard: int = 0
    shards: int = 1
    rpm: float | None = None
    names: tuple[str, ...] = ("a",)
    clock: FakeClock = field(default_factory=FakeClock)
    started: list[tuple[Shot, Owner]] = field(default_factory=list)
    shed: list[tuple[Shot, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        job = Job(
            targets=tuple(target(name, self.rpm) for name in self.names), prompts={"short": ("Hi",), "long": ("Ho",)},
            phases=self.phases, samples="-", shard=self.shard, shards=self.shards, seed=3,
        )  # fmt: skip
        self.schedule = Schedule(job, self.clock, self._start, lambda shot, cap: self.shed.append((shot, cap)))
        self.began = self.clock.now()
        self.begin(0)

    def _start(self, shot: Shot, lane: Lane, owner: Owner) -> None:
        assert shot.target in lane.targets
        self.started.append((shot, owner))

    def begin(self, phase: int) -> None:
        self.schedule.begin(Begin(phase, self.clock.now()), self.phases[phase])

    def fire(self) -> list[Shot]:
        """What starts now."""
        before = len(self.started)
        while self.schedule.fire():
            pass
        return [shot for shot, _ in self.started[before:]]

    def end(self, n: int, pause_ns: int = 0) -> bool:
        """The n-th stream that was started ended now; whether its slot goes on."""
        owner = self.started[n][1]
        goes_on = self.schedule.freed(owner) is not None
        if goes_on:
            assert isinstance(owner, Slot)
            self.schedule.again(owner, self.clock.now(), pause_ns)
        return goes_on

    def since(self, ns: int) -> int:
        return ns - self.began

    def wake(self) -> int:
        """When it wants to be asked again, after the beginning; a minute at most."""
        now = self.clock.now()
        return self.since(self.schedule.wake(now, now + 60 * S))


def target(name: str, rpm: float | None) -> Target:
    return target_from_url("http://127.0.0.1:1/v1", dialect="openai-chat", name=name, model="m", rpm=rpm)


def held(level: int, *, targets: tuple[str, ...] = ("a",), spread_ns: int = 0, requests: int | None = None) -> Lane:
    return Lane(targets, ("short", "long"), Hold(level, spread_ns), requests)


def phase(*lanes: Lane, duration_ns: int | None = None, lockstep: int | None = None, think_ns: int = 0) -> Phase:
    return Phase("main", lanes, sum(lane.load.most for lane in lanes), duration_ns, lockstep, think_ns)


def test_slots_rise_evenly_over_the_spread() -> None:
    shard = Shard((phase(held(4, spread_ns=400 * MS)),))
    assert [len(shard.fire())] == [1]
    for at in (100, 200, 300):
        assert shard.wake() == at * MS
        shard.clock.advance(100 * MS)
        assert [shard.since(shot.due_ns) for shot in shard.fire()] == [at * MS]
    assert shard.wake() == 300 * MS + 60 * S, "nothing is due until a stream ends"


def test_a_slots_next_request_is_due_when_its_last_one_ended_and_the_user_has_thought() -> None:
    shard = Shard((phase(held(1), think_ns=2 * S),))
    shard.fire()
    shard.clock.advance(5 * S)
    assert shard.end(0)
    assert shard.wake() == 7 * S
    assert shard.fire() == []
    shard.clock.advance(3 * S)
    assert [shard.since(shot.due_ns) for shot in shard.fire()] == [7 * S], "when it was due, not when it was fired"


@pytest.mark.parametrize(("pause_s", "due_s"), [(1, 2), (30, 30)])
def test_a_pause_after_a_failure_replaces_think_time_where_it_is_longer(pause_s: int, due_s: int) -> None:
    shard = Shard((phase(held(1), think_ns=2 * S),))
    shard.fire()
    shard.end(0, pause_s * S)
    assert shard.wake() == due_s * S


def test_slots_above_the_next_phases_level_end_with_their_stream_and_the_others_live_on() -> None:
    shard = Shard((phase(held(3)), phase(held(2, spread_ns=S))))
    assert len(shard.fire()) == 3
    shard.begin(1)
    assert shard.fire() == [], "the two that stay are busy, and none is missing"
    assert [shard.end(n) for n in (0, 1, 2)] == [True, True, False]
    assert [shot.slot for shot in shard.fire()] == [0, 1]


def test_a_lane_is_done_after_its_requests_and_a_phase_when_its_time_is_up() -> None:
    shard = Shard((phase(held(2, requests=3)), phase(held(1), duration_ns=10 * S)))
    shard.fire()
    assert not shard.schedule.over(shard.clock.now())
    shard.end(0)
    shard.end(1)
    assert len(shard.fire()) == 1, "the third of three"
    assert shard.schedule.over(shard.clock.now())
    shard.begin(1)
    shard.clock.advance(9 * S)
    shard.end(2, 2 * S)
    assert not shard.schedule.over(shard.clock.now())
    assert shard.wake() == 19 * S - 9 * S, "the end of the phase, since what comes due after it does not count"
    shard.clock.advance(2 * S)
    assert shard.fire() == []
    assert shard.schedule.over(shard.clock.now())


def test_arrivals_above_the_cap_are_shed_and_a_freed_place_takes_the_next() -> None:
    load = Trace((0, MS, 2 * MS, 3 * MS), 2, "recorded")
    shard = Shard((phase(Lane(("a",), ("short",), load)),))
    shard.clock.advance(2 * MS)
    assert [shard.since(shot.due_ns) for shot in shard.fire()] == [0, MS]
    assert [(shard.since(shot.due_ns), cap) for shot, cap in shard.shed] == [(2 * MS, 2)]
    assert not shard.end(0), "an arrival has no slot that goes on"
    shard.clock.advance(MS)
    assert [shard.since(shot.due_ns) for shot in shard.fire()] == [3 * MS]
    assert shard.schedule.over(shard.clock.now())


def test_a_paced_targets_requests_are_due_when_the_pace_allows() -> None:
    shard = Shard((phase(held(3)),), rpm=60)
    assert [shard.since(shot.due_ns) for shot in shard.fire()] == [0]
    assert shard.wake() == S
    shard.clock.advance(1_500 * MS)
    assert [shard.since(shot.due_ns) for shot in shard.fire()] == [S]
    assert shard.wake() == 2_500 * MS, "a second after the start, however late that was"


def test_a_lane_that_is_ahead_waits_for_the_slowest_and_goes_on_once_that_is_stopped() -> None:
    fast, slow = held(1, targets=("a",)), held(1, targets=("b",))
    shard = Shard((phase(fast, slow, lockstep=2),), names=("a", "b"))
    assert [shot.target for shot in shard.fire()] == ["a", "b"]
    for n in (0, 2):
        shard.end(n)
        assert [shot.target for shot in shard.fire()] == ["a"]
    shard.end(3)
    assert shard.fire() == [], "two ahead of b"
    shard.schedule.stop("b")
    assert [shot.target for shot in shard.fire()] == ["a"]


def test_a_stopped_targets_turns_are_left_out_and_with_its_last_one_the_phase_is_over() -> None:
    shard = Shard((phase(held(1, targets=("a", "b"))),), names=("a", "b"))
    assert [shot.target for shot in shard.fire()] == ["a"]
    shard.schedule.stop("b")
    shard.end(0)
    assert [shot.target for shot in shard.fire()] == ["a"]
    shard.schedule.stop("a")
    assert shard.schedule.over(shard.clock.now())


def test_no_more_than_some_start_in_one_go_and_the_rest_is_told() -> None:
    shard = Shard((phase(held(STARTS + 3)),))
    assert shard.schedule.fire()
    assert len(shard.started) == STARTS
    assert not shard.schedule.fire()
    assert [shot.slot for shot, _ in shard.started] == list(range(STARTS + 3))


def test_a_request_that_fails_within_its_start_frees_its_slot() -> None:
    shard = Shard((phase(held(1)),))

    def fails_at_once(shot: Shot, _: Lane, owner: Owner) -> None:
        assert isinstance(owner, Slot)
        assert shard.schedule.freed(owner) is not None
        shard.schedule.again(owner, shard.clock.now(), S)
        shard.started.append((shot, owner))

    shard.schedule = Schedule(
        Job(targets=(target("a", None),), prompts={}, phases=shard.phases, samples="-", shard=0, shards=1, seed=1),
        shard.clock, fails_at_once, lambda *_: None,
    )  # fmt: skip
    shard.begin(0)
    for second in range(3):
        assert [shard.since(shot.due_ns) for shot in shard.fire()] == [second * S]
        shard.clock.advance(S)


@given(level=st.integers(1, 9), shards=st.integers(1, 4), requests=st.integers(1, 40))
def test_the_shards_of_a_plan_ask_together_what_one_would_ask_alone(level: int, shards: int, requests: int) -> None:
    plan = (phase(held(level, targets=("a", "b"), requests=requests)),)

    def asked(shard: int, of: int) -> list[tuple[int, str, str]]:
        one = Shard(plan, shard, of, names=("a", "b"))
        ended = 0
        while one.fire():
            while ended < len(one.started):
                one.end(ended)
                ended += 1
        return [(shot.prompt_index, shot.target, shot.prompt) for shot, _ in one.started]

    alone = asked(0, 1)
    assert len(alone) == requests
    assert sorted(one for shard in range(shards) for one in asked(shard, shards)) == sorted(alone)
