"""A worker by itself: told what to fire when, it fires that, and answers for each Shot with one Sample on the disk."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec
import psutil
import pytest

from hands import MS, PROMPTS, QUICK, S, job, process, target, working
from streamgauge.arrivals import Rate
from streamgauge.clock import SystemClock
from streamgauge.control import Address, Begin, Stop
from streamgauge.plan import Hold, Lane, Phase, pick
from streamgauge.sample import AuditTick, Outcome, Sample, read_records
from streamgauge.simulator import Simulator, start
from streamgauge.stream import Limits

ALL = tuple(PROMPTS)


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with start(log=False) as running:
        yield running


def hold(level: int, requests: int | None = None, **more: object) -> Phase:
    lane = Lane(("app",), ("short",), Hold(level), requests)
    return msgspec.structs.replace(Phase("hold", (lane,), level), **more)


# The plan, and nothing but the plan.


@pytest.mark.parametrize("shards", [1, 3])
def test_the_shards_together_fire_the_plan_and_nothing_twice(sim: Simulator, tmp_path: Path, shards: int) -> None:
    targets = (target(sim, name="a"), target(sim, name="b"))
    lane = Lane(("a", "b"), ALL, Hold(5), 47)
    phase = Phase("hold", (lane,), 5)
    samples: list[Sample] = []
    with ExitStack() as stack:
        hands = [
            stack.enter_context(working(job(tmp_path, targets, phase, shard=shard, shards=shards)))
            for shard in range(shards)
        ]
        for hand in hands:
            hand.begin()
        for hand in hands:
            hand.hear(hand.phase_done)
            samples += hand.finish()
    assert Counter((s.target, s.prompt) for s in samples) == Counter(pick(lane, k, 5) for k in range(47))
    assert sorted(s.seq for s in samples) == list(range(47))
    assert len({s.id for s in samples}) == 47
    assert {s.slot for s in samples} == set(range(5))
    assert {s.outcome for s in samples} == {Outcome.OK}


def test_a_lane_of_fewer_slots_than_shards_is_done_all_the_same(sim: Simulator, tmp_path: Path) -> None:
    phase = hold(1, 7)
    samples: list[Sample] = []
    with ExitStack() as stack:
        hands = [
            stack.enter_context(working(job(tmp_path, (target(sim),), phase, shard=shard, shards=3)))
            for shard in range(3)
        ]
        for hand in hands:
            hand.begin()
        for hand in hands:
            hand.hear(hand.phase_done)
            samples += hand.finish()
    assert len(samples) == 7
    assert {s.slot for s in samples} == {0}


def test_a_worker_that_waits_for_the_last_answers_of_a_phase_sleeps(sim: Simulator, tmp_path: Path) -> None:
    lane = Lane(("app",), ("short",), Hold(2))
    rate = Lane(("app",), ("short",), Rate(5.0, 50))
    asked = target(sim, '[["text","a"],["wait",1500],["finish"]]')
    phase = Phase("reference", (lane, rate), 2, duration_ns=100 * MS, settles=True)
    with process(job(tmp_path, (asked,), phase)) as (hand, running):
        hand.begin()
        hand.hear(lambda: any(report.open_streams for report in hand.reports))
        used = sum(psutil.Process(running.pid).cpu_times()[:2])
        hand.hear(hand.phase_done)
        used = sum(psutil.Process(running.pid).cpu_times()[:2]) - used
        hand.finish()
    assert used < 0.7, "of about 1.4 s, and a worker that looks at the clock for ever uses all of it"


def test_a_phase_may_ask_for_shorter_answers_never_for_longer_ones(sim: Simulator, tmp_path: Path) -> None:
    asked = msgspec.structs.replace(target(sim), headers=(), model="sim-t1-i1-n9", max_tokens=6)
    phases = (hold(1, 1, max_tokens=3), hold(1, 1, max_tokens=8), hold(1, 1))
    with working(job(tmp_path, (asked,), *phases)) as hand:
        for number in range(3):
            hand.begin(number)
            hand.hear(lambda number=number: hand.phase_done(number) and len(hand.ended) == number + 1)  # type: ignore[misc] # a default holds this turn's number
        samples = hand.finish()
    assert [(s.max_tokens, s.text_events) for s in samples] == [(3, 3), (6, 6), (6, 6)]


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_the_shards_together_keep_the_times_of_the_arrivals(sim: Simulator, tmp_path: Path, arrivals: str) -> None:
    rate = Rate(100.0, 50, arrivals)  # type: ignore[arg-type] # one of its two words
    phase = Phase("hold", (Lane(("app",), ("short",), rate),), 0, duration_ns=300 * MS)
    samples: list[Sample] = []
    at = time.monotonic_ns()
    for shard in range(2):
        with working(job(tmp_path, (target(sim),), phase, shard=shard, shards=2)) as hand:
            at = hand.begin()
            hand.hear(hand.phase_done)
            samples += [msgspec.structs.replace(s, due_ns=s.due_ns - at) for s in hand.finish()]
    planned = list(itertools.takewhile(lambda due: due < 300 * MS, rate.offsets(5)))
    assert sorted(s.due_ns for s in samples) == planned
    assert {s.slot for s in samples} == {-1}


def test_new_slots_come_spread_over_the_time_told(sim: Simulator, tmp_path: Path) -> None:
    lane = Lane(("app",), ("short",), Hold(4, 400 * MS))
    with working(job(tmp_path, (target(sim, '[["wait",20000],["finish"]]'),), Phase("ramp", (lane,), 4))) as hand:
        at = hand.begin()
        hand.hear(lambda: hand.reports and hand.reports[-1].open_streams == 4)
        samples = hand.finish(grace_s=0)
    assert [s.due_ns - at for s in samples] == [0, 100 * MS, 200 * MS, 300 * MS]
    assert {s.outcome for s in samples} == {Outcome.CANCELLED}


def test_slots_live_on_and_a_stream_belongs_to_the_phase_in_which_it_came_due(sim: Simulator, tmp_path: Path) -> None:
    first = msgspec.structs.replace(hold(2), name="ramp", duration_ns=150 * MS)
    asked = target(sim, '[["wait",400],["text","x"],["finish"]]')
    with working(job(tmp_path, (asked,), first, hold(3, 3))) as hand:
        hand.begin(0)
        hand.hear(lambda: hand.phase_done(0))
        hand.begin(1)
        hand.hear(lambda: hand.phase_done(1))
        samples = hand.finish()
    assert [s.phase for s in samples] == ["ramp", "ramp", "hold", "hold", "hold"]
    assert sorted(s.slot for s in samples) == [0, 0, 1, 1, 2]


def test_a_lane_waits_for_the_slower_one_in_lockstep(sim: Simulator, tmp_path: Path) -> None:
    targets = (target(sim, name="fast"), target(sim, '[["wait",250],["text","x"],["finish"]]', name="slow"))
    lanes = tuple(Lane((t.name,), ("short",), Hold(2), 12) for t in targets)
    with working(job(tmp_path, targets, Phase("hold", lanes, 4, lockstep=4))) as hand:
        hand.begin()
        hand.hear(hand.phase_done)
        samples = hand.finish()
    ahead = [0]
    for sample in sorted(samples, key=lambda s: s.start_ns or 0):
        ahead.append(ahead[-1] + (1 if sample.target == "fast" else -1))
    assert len(samples) == 24
    assert 2 <= max(ahead) <= 4
    late = median(s.late_ns for s in samples if s.target == "fast")
    assert late < 100 * MS, "a slot that waits for its turn, which most of these do for 125 ms, is not due"


def test_a_stopped_target_holds_nobody_up(sim: Simulator, tmp_path: Path) -> None:
    refuses = target(sim, '[["status",429,{"retry-after":"60"}]]', name="refuses")
    lanes = tuple(Lane((name,), ("short",), Hold(1), 10) for name in ("app", "refuses"))
    with working(job(tmp_path, (target(sim), refuses), Phase("hold", lanes, 2, lockstep=2))) as hand:
        hand.begin()
        hand.hear(lambda: len(hand.ended) >= 4)
        hand.order(Stop(0, "20 times rate_limited in a row", "refuses"))
        hand.hear(hand.phase_done, within_s=60)
        samples = hand.finish()
    assert Counter(s.target for s in samples) == {"app": 10, "refuses": 1}


def test_open_loop_sheds_above_its_cap_with_a_sample_each(sim: Simulator, tmp_path: Path) -> None:
    lane = Lane(("app",), ("short",), Rate(50.0, 3))
    asked = target(sim, '[["wait",5000],["finish"]]')
    with working(job(tmp_path, (asked,), Phase("hold", (lane,), 0, duration_ns=400 * MS))) as hand:
        hand.begin()
        hand.hear(hand.phase_done)
        samples = hand.finish(grace_s=0)
    assert Counter(s.outcome for s in samples) == {Outcome.CANCELLED: 3, Outcome.SHED: 17}
    shed = [s for s in samples if s.outcome is Outcome.SHED]
    assert all((s.start_ns, s.sent_ns, s.conn) == (None, None, -1) for s in shed)


# When a slot is due again.


@dataclass(frozen=True)
class Fast:
    """A clock on which 100 s pass in one, so that a minute can be waited for."""

    began: int = time.monotonic_ns()

    def now(self) -> int:
        return self.began + 100 * (time.monotonic_ns() - self.began)

    def wall(self) -> int:
        return 1_790_000_000 * S + self.now()

    def sleep_until(self, due: int) -> None:
        raise AssertionError("a worker does not sleep")


@pytest.mark.parametrize(
    ("script", "think_ms", "wait_s"),
    [
        pytest.param(QUICK, 0, 0, id="at once"),
        pytest.param(QUICK, 30_000, 30, id="after think time"),
        pytest.param('[["status",500]]', 0, 1, id="1 s after a failure"),
        pytest.param('[["status",500]]', 30_000, 30, id="think time longer than that"),
        pytest.param('[["status",429,{"retry-after":"20"}]]', 0, 20, id="Retry-After"),
        pytest.param('[["status",429,{"retry-after":"3600"}]]', 0, 60, id="at most a minute"),
        pytest.param('[["text","x"],["drop"]]', 0, 1, id="1 s after a drop"),
    ],
)
def test_a_slot_is_due_again_when_the_rules_say(
    sim: Simulator, tmp_path: Path, script: str, think_ms: int, wait_s: float
) -> None:
    clock = Fast()
    phase = hold(1, 2, think_ns=think_ms * MS)
    patient = Limits(connect_ns=2_000 * S, first_output_ns=2_000 * S, stall_ns=2_000 * S)  # 20 s, on that clock
    with working(job(tmp_path, (target(sim, script, limits=patient),), phase), clock) as hand:
        hand.order(Begin(0, clock.now()))
        hand.hear(lambda: len(hand.ended) == 2)
        first, second = hand.finish()
    assert second.due_ns - first.end_ns == wait_s * S


def test_a_slot_whose_socket_was_kept_open_is_due_when_it_is_free(sim: Simulator, tmp_path: Path) -> None:
    asked = target(sim, '[["text","x"],["finish"],["stall"]]')
    with working(job(tmp_path, (asked,), hold(1, 2))) as hand:
        hand.begin()
        hand.hear(lambda: len(hand.ended) == 2)
        first, second = hand.finish()
    assert first.kept_open
    assert second.due_ns - first.end_ns >= S, "the answer's end was awaited for 1 s, and the user did not wait for it"
    assert second.late_ns < 5 * S


@pytest.mark.parametrize("load", [Hold(2), Rate(40.0, 6)])
def test_requests_that_fail_at_once_take_no_slot_with_them(sim: Simulator, tmp_path: Path, load: Hold | Rate) -> None:
    nowhere = msgspec.structs.replace(target(sim), addresses=())
    phases = [Phase(name, (Lane(("app",), ("short",), load, 6),), 2, duration_ns=ns) for name, ns in
              (("before", 250 * MS), ("after", 20 * S))]  # fmt: skip
    with working(job(tmp_path, (nowhere,), *phases)) as hand:
        hand.begin(0)
        hand.hear(lambda: hand.phase_done(0))
        hand.order(Address("app", ((sim.host, sim.port),)))
        hand.begin(1)
        hand.hear(lambda: hand.phase_done(1), within_s=60)
        samples = hand.finish()
    before = [s.outcome for s in samples if s.phase == "before"]
    assert set(before) == {Outcome.DNS_ERROR}
    assert len(before) >= 2
    assert [s.outcome for s in samples if s.phase == "after"] == [Outcome.OK] * 6


# The end.


class Hasty(SystemClock):
    """A clock that is 1 ms on at every look: who uses it gets nothing done in time."""

    ahead = 0

    def now(self) -> int:  # type: ignore[override] # a plain function in the base
        self.ahead += MS
        return time.monotonic_ns() + self.ahead


def test_a_worker_that_cannot_keep_up_with_its_starts_speaks_all_the_same_and_misses_none(
    sim: Simulator, tmp_path: Path
) -> None:
    clock = Hasty()
    phase = Phase("hold", (Lane(("app",), ("short",), Rate(1_000, 20)),), 0, duration_ns=2 * S)
    with working(job(tmp_path, (target(sim),), phase), clock) as hand:
        began = clock.now()
        hand.order(Begin(0, began))
        hand.hear(hand.phase_done)
        heard = [one for one in hand.reports if one.phase_done is None and one.at_ns > began]
        samples = hand.finish()
    assert max(sample.late_ns for sample in samples) > 200 * MS, "it was behind"
    assert len(heard) >= 10, "ten a second are due, and it took over 2 s"
    assert [sample.due_ns - began for sample in samples] == list(itertools.takewhile(
        lambda due: due < 2 * S, phase.lanes[0].load.offsets(5)
    ))  # fmt: skip


def test_nothing_starts_after_the_phase_and_what_is_open_gets_its_grace(sim: Simulator, tmp_path: Path) -> None:
    asked = target(sim, '[["wait",450],["text","x"],["finish"]]')
    with working(job(tmp_path, (asked,), hold(3, duration_ns=300 * MS))) as hand:
        at = hand.begin()
        hand.hear(hand.phase_done)
        samples = hand.finish()
    assert all(s.due_ns < at + 300 * MS for s in samples)
    assert [s.outcome for s in samples] == [Outcome.OK] * 3


def test_what_is_open_after_the_grace_is_cancelled(sim: Simulator, tmp_path: Path) -> None:
    asked = target(sim, '[["text","x"],["wait",30000],["finish"]]')
    with working(job(tmp_path, (asked,), hold(2))) as hand:
        hand.begin()
        hand.hear(lambda: hand.reports and hand.reports[-1].open_streams == 2)
        began = time.monotonic_ns()
        samples = hand.finish(grace_s=0.3)
    assert [(s.outcome, s.text_events, s.error) for s in samples] == [(Outcome.CANCELLED, 1, "the test is over")] * 2
    assert all(300 * MS <= s.end_ns - began < 5 * S for s in samples)


def test_a_worker_ends_within_1_s_of_its_parents_death_and_keeps_its_samples(sim: Simulator, tmp_path: Path) -> None:
    asked = target(sim, '[["text","x"],["wait",30000],["finish"]]')
    with process(job(tmp_path, (asked,), hold(2))) as (hand, running):
        hand.begin()
        hand.hear(lambda: hand.reports and hand.reports[-1].open_streams == 2)
        left = time.monotonic_ns()
        hand.leave()
        assert running.wait(60) == 0
    samples = hand.samples()
    assert [s.outcome for s in samples] == [Outcome.CANCELLED] * 2
    assert all(s.end_ns - left < 3 * S for s in samples), "1 s, and as much again for a busy machine"


def test_a_worker_whose_file_cannot_be_made_says_so_in_words(sim: Simulator, tmp_path: Path) -> None:
    with process(job(tmp_path / "gone", (target(sim),), hold(1))) as (hand, running):
        hand.hear_all()
        assert running.wait(60) == 0
    (report,) = hand.reports
    assert report.failed is None
    assert str(tmp_path / "gone" / "samples-0-0.sgs") in (report.disk or "")


def test_a_bug_is_told_with_its_traceback_and_without_secrets(sim: Simulator, tmp_path: Path) -> None:
    wrong = msgspec.structs.replace(target(sim), dialect="S3cr3t-dialect")
    what = msgspec.structs.replace(job(tmp_path, (wrong,), hold(1)), secrets=("S3cr3t-dialect",))
    with process(what) as (hand, running):
        hand.hear_all()
        assert running.wait(60) != 0
    (report,) = hand.reports
    assert "KeyError: '[redacted]'" in (report.failed or "")
    assert "S3cr3t" not in (report.failed or "")


# What it costs to run long.


def test_samples_are_on_the_disk_within_1_s_of_their_end(sim: Simulator, tmp_path: Path) -> None:
    looks: list[tuple[int, set[str]]] = []
    with working(job(tmp_path, (target(sim, '[["wait",20],["text","x"],["finish"]]'),), hold(5))) as hand:
        hand.begin()
        hand.hear(lambda: hand.ended)
        while len(looks) < 12 or (len(looks[-9][1]) < 20 and len(looks) < 100):  # what was there then ended 2 s ago
            now = time.monotonic_ns()
            looks.append((now, {s.id for s in hand.samples()}))
            time.sleep(0.25)
        samples = hand.finish()
    late = 1_600 * MS  # 1 s, and a busy machine
    must = [(s.id, ids) for now, ids in looks for s in samples if s.end_ns < now - late]
    assert len(must) > 20
    assert all(one in ids for one, ids in must)


@pytest.mark.slow
def test_a_workers_memory_does_not_grow_with_its_requests(sim: Simulator, tmp_path: Path) -> None:
    with process(job(tmp_path, (target(sim),), hold(8, 3_000))) as (hand, running):
        memory = psutil.Process(running.pid).memory_info
        hand.begin()
        hand.hear(lambda: sum(len(r.ended) for r in hand.reports) >= 1_000, within_s=60)
        warm = memory().rss
        hand.hear(hand.phase_done, within_s=60)
        grown = memory().rss - warm
        hand.finish()
    assert grown < 2 << 20, "2,000 requests that left 1 KB each behind would be seen"
    ticks = [record for record in read_records(hand.path) if isinstance(record, AuditTick)]
    assert sum(tick.starts for tick in ticks) > 2_000, "the ticks of the last 250 ms may be missing"


def test_a_parent_that_says_nothing_and_leaves_ends_a_worker(tmp_path: Path) -> None:
    with working(job(tmp_path, (), hold(1))) as hand:
        hand.leave()
    assert hand.samples() == []
