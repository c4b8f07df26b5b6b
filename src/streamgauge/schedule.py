"""What is due when, in one shard of the plan. No sockets and no files: it reads the clock and says what to start.

Closed loop: a lane has slots; a slot's next request is due when its last one ended (plus think time, or longer after a
failure). Slots live on from phase to phase; a stream open at a change belongs to the phase in which it came due. Open
loop: arrivals come due whatever happens; above the cap they are shed. A slot whose target has a pace (rpm) waits for
its turn and is due when the pace allows: the plan's rule, not lateness. So does one whose lane is ahead of slower ones.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from streamgauge.chat import Chat
from streamgauge.clock import Clock
from streamgauge.control import Begin, Job
from streamgauge.plan import Hold, Lane, Phase, Shot, pick, share, spacing_ns, whose

STARTS = 32
"""So many requests start in one go."""


@dataclass(slots=True)
class Slot:
    """A place for one stream at a time, in closed loop."""

    lane: int
    number: int
    id: int
    ready_ns: int
    """When its next request is due."""
    busy: bool = False
    chats: dict[str, Chat] = field(default_factory=dict)
    """Target -> its chat that is under way, where the lane has any."""


@dataclass(slots=True)
class LaneState:
    """How far this shard is with a lane of the phase."""

    lane: Lane
    shards: int
    """How many shards have a part in it: a lane of one slot is one shard's alone."""
    shots: int = 0
    requests: int | None = None
    parked: list[Slot] = field(default_factory=list)
    waiting: deque[Slot] = field(default_factory=deque)
    """Slots that are due but for the pace of the target next in turn, and those behind them."""
    turn_ns: int = 0
    """When the last slot of the lane was due: who waited behind it was not due before."""
    open: int = 0
    arrivals: Iterator[int] | None = None
    next_due: int | None = None
    level: int = 0

    @property
    def done(self) -> bool:
        """Whether it starts nothing more."""
        over = self.arrivals is not None and self.next_due is None
        return over or (self.requests is not None and self.shots >= self.requests)


Owner = Slot | LaneState
"""Whose a stream is: a slot's (closed loop) or an open-loop lane's."""
Start = Callable[[Shot, Lane, Owner], None]
Shed = Callable[[Shot, int], None]
"""An arrival came due above the cap, which is told."""


class Schedule:
    """The shard's part of the phase that is under way."""

    def __init__(self, job: Job, clock: Clock, start: Start, shed: Shed) -> None:
        self.plan: Phase = job.phases[0]
        self._seed, self._shard, self._shards = job.seed, job.shard, job.shards
        self._now = clock.now
        self._start = start
        self._shed = shed
        self._lanes: list[LaneState] = []
        self._slots: dict[tuple[int, int], Slot] = {}
        self._due: list[tuple[int, int, Slot]] = []
        self._ends_ns: int | None = None
        self._stopped: set[str] = set()
        self._spacing = {t.name: spacing_ns(t.rpm, job.shards) for t in job.targets if t.rpm is not None}
        self._free: dict[str, int] = {}
        """Target with a pace -> when it may be asked again."""
        self._seq = 0
        self._next_slot = 0

    # What the parent decides.

    def begin(self, order: Begin, plan: Phase) -> None:
        """A phase begins: its lanes' shares for this shard, and the slots it wants."""
        self.plan = plan
        self._ends_ns = None if plan.duration_ns is None else order.at_ns + plan.duration_ns
        self.clear()
        for index, lane in enumerate(plan.lanes):
            state = LaneState(lane, min(lane.load.most, self._shards))
            state.requests = None if lane.requests is None else share(lane.requests, self._shard, state.shards)
            self._lanes.append(state)
            if self._shard >= state.shards:
                state.requests = 0
            elif not isinstance(lane.load, Hold):
                state.level = share(lane.load.cap, self._shard, self._shards)
                at = max(order.at_ns, *(self._free.get(target, 0) for target in lane.targets))
                state.arrivals = _shard_of(lane.load.offsets(self._seed + index), self._shard, state.shards, at)
                state.next_due = next(state.arrivals, None)
            else:
                self._want_slots(index, state, lane.load, order.at_ns)

    def _want_slots(self, index: int, state: LaneState, load: Hold, at_ns: int) -> None:
        """Closed loop: the slots that stay, and when each new one is wanted."""
        shard, shards = self._shard, self._shards
        level = state.level = share(load.level, shard, shards)
        have = sum(1 for (lane, number) in self._slots if lane == index and number < level)
        for number in range(level):
            slot = self._slots.get((index, number))
            if slot is None:
                # Slot j of this shard is slot j * shards + shard of the whole level.
                rise = load.rises(number * shards + shard, have * shards)
                slot = Slot(index, number, self._next_slot * shards + shard, at_ns + rise)
                self._next_slot += 1
                self._slots[index, number] = slot
            if not slot.busy:
                self._queue(slot, max(slot.ready_ns, at_ns))

    def stop(self, target: str) -> None:
        """This target is asked no more."""
        self._stopped.add(target)
        self._release_parked()

    def clear(self) -> None:
        """Nothing is due."""
        self._due = []
        self._lanes = []

    # What is due.

    def fire(self) -> bool:
        """Start what is due; whether more than some is. A worker that is behind must read and speak all the same."""
        return all(self._fire_next(self._now()) for _ in range(STARTS))

    def _fire_next(self, now: int) -> bool:
        """Start the next request that is due; False where none is."""
        for state in self._lanes:
            if state.waiting and (free := self._free_at(state)) <= now and not self._past(free):
                slot = state.waiting.popleft()
                slot.ready_ns = max(slot.ready_ns, state.turn_ns)
                self._fire_slot(slot)
                return True
        if self._due and self._due[0][0] <= now and not self._past(self._due[0][0]):
            self._fire_slot(heapq.heappop(self._due)[2])
            return True
        for state in self._lanes:
            next_due = state.next_due
            if next_due is not None and next_due <= now and not state.done and not self._past(next_due):
                self._fire_arrival(state)
                return True
        return False

    def wake(self, now: int, latest: int) -> int:
        """When there is something to do. What comes due after the phase is not: it would be looked at for ever."""
        wake = latest
        if self._due and self._due[0][0] < wake and not self._past(self._due[0][0]):
            wake = self._due[0][0]
        for state in self._lanes:
            next_due = state.next_due
            if next_due is not None and not state.done and next_due < wake and not self._past(next_due):
                wake = next_due
            if state.waiting and (free := self._free_at(state)) < wake and not self._past(free):
                wake = free
        return self._ends_ns if self._ends_ns is not None and now < self._ends_ns < wake else wake

    def over(self, now: int) -> bool:
        """Whether nothing more of the phase can come due here."""
        if self._ends_ns is not None and now >= self._ends_ns:
            return True
        return bool(self._lanes) and all(state.done or self._all_stopped(state) for state in self._lanes)

    # What ended.

    def freed(self, owner: Owner) -> Lane | None:
        """A stream of `owner` ended. The lane of a slot that goes on, for which `again` says when; else None."""
        if isinstance(owner, LaneState):
            owner.open -= 1
            return None
        owner.busy = False
        state = self._lanes[owner.lane] if owner.lane < len(self._lanes) else None
        if state is None or owner.number >= state.level or not isinstance(state.lane.load, Hold):
            self._slots.pop((owner.lane, owner.number), None)
            return None
        return state.lane

    def again(self, slot: Slot, free_ns: int, pause_ns: int = 0) -> None:
        """Its next request is due the plan's think time after `free_ns`, or `pause_ns` if that is longer."""
        self._queue(slot, free_ns + max(self.plan.think_ns, pause_ns))

    def _queue(self, slot: Slot, due_ns: int) -> None:
        slot.ready_ns = due_ns
        heapq.heappush(self._due, (due_ns, slot.id, slot))

    # One start.

    def _past(self, due_ns: int) -> bool:
        """Whether a request due then would come due after the phase."""
        return self._ends_ns is not None and due_ns >= self._ends_ns

    def _fire_slot(self, slot: Slot) -> None:
        if slot.lane >= len(self._lanes):
            return
        state = self._lanes[slot.lane]
        if state.done or slot.number >= state.level:
            return
        if self._ahead(state):
            state.parked.append(slot)
            return
        free = self._free_at(state)
        if free > self._now() or self._past(free):
            state.waiting.append(slot)
            return
        state.turn_ns = slot.ready_ns = max(slot.ready_ns, free)
        shot = self._next_shot(state, slot.id, slot.ready_ns)
        if shot is not None:
            slot.busy = True  # before it starts: a request that fails at once frees it within the call
            self._go(shot, state.lane, slot)
        self._release_parked()

    def _fire_arrival(self, state: LaneState) -> None:
        assert state.arrivals is not None
        assert state.next_due is not None
        shot = self._next_shot(state, -1, state.next_due)
        if shot is None:
            pass
        elif state.open >= state.level:
            self._shed(shot, state.level)
        else:
            state.open += 1
            self._go(shot, state.lane, state)
        state.next_due = next(state.arrivals, None)

    def _go(self, shot: Shot, lane: Lane, owner: Owner) -> None:
        spacing = self._spacing.get(shot.target)
        if spacing is not None:
            self._free[shot.target] = self._now() + spacing
        self._start(shot, lane, owner)

    def _next_shot(self, state: LaneState, slot_id: int, due_ns: int) -> Shot | None:
        """The lane's next request, or None when every target of it was stopped."""
        for _ in state.lane.targets:
            if state.done:
                return None
            k = state.lane.first + state.shots * state.shards + self._shard
            target, prompt = pick(state.lane, k, self._seed)
            state.shots += 1
            if target not in self._stopped:
                seq = self._seq * self._shards + self._shard
                self._seq += 1
                return Shot(seq, target, prompt, k, self.plan.name, self.plan.level, slot_id, due_ns)
        state.requests = state.shots if self._all_stopped(state) else state.requests
        return None

    # Who must wait.

    def _free_at(self, state: LaneState) -> int:
        """When the pace of the lane's next target in turn allows a start; 0 where it has none."""
        for k in range(state.shots, state.shots + len(state.lane.targets) if self._spacing else 0):
            target = whose(state.lane, state.lane.first + k * state.shards + self._shard)
            if target not in self._stopped:
                return self._free.get(target, 0)
        return 0

    def _ahead(self, state: LaneState) -> bool:
        """Whether the lane must wait for slower ones (lockstep)."""
        step = self.plan.lockstep
        if step is None:
            return False
        others = [s.shots for s in self._lanes if s is not state and not s.done and not self._all_stopped(s)]
        return bool(others) and state.shots - min(others) >= max(step // self._shards, 1)

    def _release_parked(self) -> None:
        """Slots that waited for slower lanes may go on: due now, by the plan's own rule."""
        for state in self._lanes:
            if state.parked and not self._ahead(state):
                now = self._now()
                parked, state.parked = state.parked, []
                for slot in parked:
                    self._queue(slot, max(now, slot.ready_ns))

    def _all_stopped(self, state: LaneState) -> bool:
        return all(target in self._stopped for target in state.lane.targets)


def _shard_of(offsets: Iterator[int], shard: int, shards: int, at_ns: int) -> Iterator[int]:
    """Every n-th arrival, as absolute times."""
    for k, offset in enumerate(offsets):
        if k % shards == shard:
            yield at_ns + offset
