"""A worker: one process, one event loop, one shard of the plan.

It is told by its parent which phase to begin when, fires that phase's Shots on time, and answers for each that came due
with one Sample in its own file. It ends within 1 s of its parent's death (the control socket closes).

Closed loop: a lane has slots; a slot's next request is due when its last one ended (plus think time; after a failure
max(1 s, Retry-After), at most 60 s). Slots live on from phase to phase; a stream open at a change belongs to the phase
in which it came due. Open loop: arrivals come due whatever happens; above the cap they are shed, with their Sample.
A slot whose target has a pace (rpm) waits for its turn and is due when the pace allows: the plan's rule, not lateness.
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import os
import random
import re
import resource
import signal
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import msgspec

from streamgauge.audit import Audit
from streamgauge.chat import Chat, after, begun
from streamgauge.clock import MS, Clock, S, SystemClock
from streamgauge.control import Begin, Brief, Job, Order, Report, Stop, Unpacker, pack
from streamgauge.errors import Exit, StorageError
from streamgauge.loop import Loop
from streamgauge.net import Connection
from streamgauge.plan import Hold, Lane, Shot, pick, share, spacing_ns, whose
from streamgauge.prompts import prompt_text
from streamgauge.sample import GOOD, Closer, Closing, Outcome, Sample, SampleWriter
from streamgauge.secrets import Redactor
from streamgauge.stream import Stream
from streamgauge.target import Requests, Target
from streamgauge.tls import proxy_tls, tls_context

FLUSH_NS = 400 * MS
BACKOFF_NS = 1 * S
MOST_BACKOFF_NS = 60 * S
COMPANY, MOST_OVER = 8, 64
"""So many ended streams wait until their Samples are made together; so many may wait where something else is due."""
STARTS, MEANWHILE_NS = 32, 2 * MS
"""So many requests start in one go; where more are due, what came is decoded for so long before they do."""
REMEMBERED = 400
"""Longest text whose redacted form is kept."""


@dataclass(slots=True)
class _Slot:
    lane: int
    number: int
    id: int
    ready_ns: int
    """When its next request is due."""
    busy: bool = False
    queued: bool = False
    chats: dict[str, Chat] = field(default_factory=dict)
    """Target -> its chat that is under way, where the lane has any."""


@dataclass(slots=True)
class _LaneState:
    lane: Lane
    shards: int
    """How many shards have a part in it: a lane of one slot is one shard's alone."""
    shots: int = 0
    requests: int | None = None
    parked: list[_Slot] = field(default_factory=list)
    waiting: deque[_Slot] = field(default_factory=deque)
    """Slots that are due but for the pace of the target next in turn, and those behind them."""
    turn_ns: int = 0
    """When the last slot of the lane was due: who waited behind it was not due before."""
    open: int = 0
    arrivals: Iterator[int] | None = None
    next_due: int | None = None
    level: int = 0

    @property
    def done(self) -> bool:
        over = self.arrivals is not None and self.next_due is None
        return over or (self.requests is not None and self.shots >= self.requests)


class Worker:
    """Fires one shard of the plan. `serve` runs until the parent says stop or is gone."""

    def __init__(self, job: Job, control: socket.socket, unpack: Unpacker, clock: Clock) -> None:
        self._job = job
        self._control = control
        self._clock = clock
        self._now = clock.now
        self._targets = {target.name: target for target in job.targets}
        self._dialects = {target.name: target.speaks() for target in job.targets}
        self._requests: dict[str, Requests] = {}
        """Target -> its requests, as this phase asks for them."""
        self._expect = {t.name: re.compile(t.expect) if t.expect else None for t in job.targets}
        for target in job.targets:
            if target.secure:
                tls_context(target.tls)  # reads files: not under load, nor with the last descriptor
            if target.proxy is not None and target.proxy.secure:
                tls_context(proxy_tls(target.tls))
        self._redact = _remembering(Redactor(job.secrets).text)
        self._writer = SampleWriter(Path(job.samples))
        self._loop = Loop(clock, self._on_done, self._on_closed)
        self._loop.watch(control.fileno(), self._on_control)
        self._unpack = unpack
        self._slots: dict[tuple[int, int], _Slot] = {}
        self._by_stream: dict[str, _Slot | _LaneState] = {}
        self._due: list[tuple[int, int, _Slot]] = []
        self._lanes: list[_LaneState] = []
        self._phase = -1
        self._plan = job.phases[0]
        self._phase_end: int | None = None
        self._phase_told = True
        self._stopped_targets: set[str] = set()
        self._spacing = {t.name: spacing_ns(t.rpm, job.shards) for t in job.targets if t.rpm is not None}
        self._free: dict[str, int] = {}
        self._stopping_at: int | None = None
        self._stop_why = ""
        self._alive = True
        self._news = False
        """A stream ended or the parent spoke."""
        self._seq = 0
        self._next_slot = 0
        self._over: deque[Stream] = deque()
        self._ended: list[Brief] = []
        self._out = bytearray()
        self._random = random.Random(os.urandom(16))
        self._last_output: dict[str, int] = {}
        self._late = 0
        self._audit = Audit(job.shard, clock)

    def on_continued(self, *_: object) -> None:
        """A signal handler: this process was stopped and goes on."""
        self._loop.on_continued()

    # The main loop.

    def serve(self) -> None:
        """Run until told to stop and drained, or until the parent is gone."""
        next_flush = next_report = self._now()
        self._obey(b"")
        while self._alive:
            # What is due goes first: a slot's next request must not wait for the bookkeeping of its last one.
            now = self._now()
            behind = self._fire_due()
            if now >= next_report:
                self._keep_over()
                self._tell()
                next_report = now + 100 * MS
            if now >= next_flush:
                self._write(now)
                next_flush = now + FLUSH_NS
            if not behind:  # each that came due is started first, however late
                self._end_phase(now)
            if self._stopping_at is not None and (now >= self._stopping_at or self._loop.open_streams == 0):
                break
            wake = self._wake(now, min(next_flush, next_report))
            if len(self._over) >= COMPANY:
                self._keep_over(wake)
            self._work(wake, MEANWHILE_NS if behind else 0)
        self._loop.cancel(self._stop_why or "the parent process is gone")
        self._keep_over()
        self._write(self._now(), last=True)
        self._loop.close()
        self._writer.close()
        if self._alive:
            self._tell(drained=True)
            self._control.setblocking(True)
            self._push_control()

    def _work(self, wake_ns: int, least_ns: int) -> None:
        """Drive the streams until `wake_ns`, or until one ended or the parent spoke: nothing else makes work here."""
        self._news = False
        self._loop.turn(wake_ns, least_ns)
        while not self._news and self._now() < wake_ns:
            self._loop.turn(wake_ns)

    def _wake(self, now: int, latest: int) -> int:
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
        for limit in (self._phase_end, self._stopping_at):
            if limit is not None and now < limit < wake:
                wake = limit
        return wake

    # What the parent says.

    def _on_control(self) -> None:
        self._news = True
        try:
            data = self._control.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._alive = False
            return
        self._obey(data)

    def _obey(self, data: bytes) -> None:
        """Do what the orders say that `data` completed."""
        for body in self._unpack.feed(data):
            order = msgspec.msgpack.decode(body, type=Order)
            if isinstance(order, Begin):
                self._begin(order)
            elif isinstance(order, Stop):
                self._on_stop(order)
            else:
                target = msgspec.structs.replace(self._targets[order.target], addresses=order.addresses)
                self._targets[order.target] = target
                self._loop.readdress(target)

    def _on_stop(self, order: Stop) -> None:
        if order.target is not None:
            self._stopped_targets.add(order.target)
            self._release_parked()
            return
        self._stopping_at = self._now() + order.grace_ns
        self._stop_why = order.why
        self._due.clear()
        self._lanes.clear()

    def _begin(self, order: Begin) -> None:
        """A phase begins: its lanes' shares for this shard, and the slots it wants."""
        phase = self._plan = order.plan or self._job.phases[order.phase]
        shard, shards = self._job.shard, self._job.shards
        self._phase, self._phase_told = order.phase, False
        self._phase_end = None if phase.duration_ns is None else order.at_ns + phase.duration_ns
        self._requests = {
            name: Requests(_within(target, phase.max_tokens), self._dialects[name])
            for name, target in self._targets.items()
        }
        self._lanes = []
        self._due = []
        for index, lane in enumerate(phase.lanes):
            state = _LaneState(lane, min(lane.load.most, shards))
            state.requests = None if lane.requests is None else share(lane.requests, shard, state.shards)
            self._lanes.append(state)
            if shard >= state.shards:
                state.requests = 0
            elif not isinstance(lane.load, Hold):
                state.level = share(lane.load.cap, shard, shards)
                at = max(order.at_ns, *(self._free.get(target, 0) for target in lane.targets))
                state.arrivals = _shard_of(lane.load.offsets(self._job.seed + index), shard, state.shards, at)
                state.next_due = next(state.arrivals, None)
            else:
                self._want_slots(index, state, order.at_ns)

    def _want_slots(self, index: int, state: _LaneState, at_ns: int) -> None:
        """Closed loop: the slots that stay, and when each new one is wanted."""
        shard, shards = self._job.shard, self._job.shards
        load = state.lane.load
        assert isinstance(load, Hold)
        level = state.level = share(load.level, shard, shards)
        have = sum(1 for (lane, number) in self._slots if lane == index and number < level)
        for number in range(level):
            slot = self._slots.get((index, number))
            if slot is None:
                # Slot j of this shard is slot j * shards + shard of the whole level.
                rise = load.rises(number * shards + shard, have * shards)
                slot = _Slot(index, number, self._next_slot * shards + shard, at_ns + rise)
                self._next_slot += 1
                self._slots[index, number] = slot
            slot.queued = False
            if not slot.busy:
                self._queue(slot, max(slot.ready_ns, at_ns))

    def _queue(self, slot: _Slot, due_ns: int) -> None:
        slot.ready_ns = due_ns
        slot.queued = True
        heapq.heappush(self._due, (due_ns, slot.id, slot))

    # Firing.

    def _fire_due(self) -> bool:
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
        due = self._due
        if due and due[0][0] <= now and not self._past(due[0][0]):
            _, _, slot = heapq.heappop(due)
            slot.queued = False
            self._fire_slot(slot)
            return True
        for state in self._lanes:
            next_due = state.next_due
            if next_due is not None and next_due <= now and not state.done and not self._past(next_due):
                self._fire_arrival(state)
                return True
        return False

    def _past(self, due_ns: int) -> bool:
        """Whether a request due then would come due after the phase."""
        return self._phase_end is not None and due_ns >= self._phase_end

    def _fire_slot(self, slot: _Slot) -> None:
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
        slot.busy = True  # before it starts: a request that fails at once frees it within the call
        if not self._shoot(state, slot.id, slot.ready_ns, slot):
            slot.busy = False
        self._release_parked()

    def _free_at(self, state: _LaneState) -> int:
        """When the pace of the lane's next target in turn allows a start; 0 where it has none."""
        for k in range(state.shots, state.shots + len(state.lane.targets) if self._spacing else 0):
            target = whose(state.lane, state.lane.first + k * state.shards + self._job.shard)
            if target not in self._stopped_targets:
                return self._free.get(target, 0)
        return 0

    def _ahead(self, state: _LaneState) -> bool:
        """Whether the lane must wait for slower ones (lockstep)."""
        step = self._plan.lockstep
        if step is None:
            return False
        others = [s.shots for s in self._lanes if s is not state and not s.done and not self._all_stopped(s)]
        return bool(others) and state.shots - min(others) >= max(step // self._job.shards, 1)

    def _release_parked(self) -> None:
        """Slots that waited for slower lanes may go on: due now, by the plan's own rule."""
        for state in self._lanes:
            if state.parked and not self._ahead(state):
                now = self._now()
                parked, state.parked = state.parked, []
                for slot in parked:
                    self._queue(slot, max(now, slot.ready_ns))

    def _all_stopped(self, state: _LaneState) -> bool:
        return all(target in self._stopped_targets for target in state.lane.targets)

    def _fire_arrival(self, state: _LaneState) -> None:
        assert state.arrivals is not None
        assert state.next_due is not None
        due = state.next_due
        if state.open >= state.level:
            self._shed(state, due)
        else:
            state.open += 1
            if not self._shoot(state, -1, due, state):
                state.open -= 1
        state.next_due = next(state.arrivals, None)

    def _next_shot(self, state: _LaneState, slot_id: int, due_ns: int) -> Shot | None:
        """The lane's next request, or None when every target of it was stopped."""
        phase = self._plan
        shard, shards = self._job.shard, self._job.shards
        for _ in state.lane.targets:
            if state.done:
                return None
            k = state.lane.first + state.shots * state.shards + shard
            target, prompt = pick(state.lane, k, self._job.seed)
            state.shots += 1
            if target not in self._stopped_targets:
                seq = self._seq * shards + shard
                self._seq += 1
                return Shot(seq, target, prompt, k, phase.name, phase.level, slot_id, due_ns)
        state.requests = state.shots if self._all_stopped(state) else state.requests
        return None

    def _shoot(self, state: _LaneState, slot_id: int, due_ns: int, owner: _Slot | _LaneState) -> bool:
        """Start one request; False when there was none to start."""
        shot = self._next_shot(state, slot_id, due_ns)
        if shot is None:
            return False
        target = self._targets[shot.target]
        requests = self._requests[shot.target]
        start = self._now()
        if target.rpm is not None:
            self._free[target.name] = start + self._spacing[target.name]
        late = max(start - due_ns, 0)
        self._late = max(self._late, late)
        self._audit.start()
        chats = owner.chats if isinstance(owner, _Slot) and state.lane.chat_ns is not None and not target.body else None
        stream = self._stream(shot, requests.target, start, keep_text=chats is not None)
        if state.lane.repeats:
            prompt = prompt_text(self._job.prompts, state.lane.prompts[0], 0, unique=f"repeated {self._job.seed}")
        else:
            unique = stream.id if target.unique else None
            prompt = prompt_text(self._job.prompts, shot.prompt, shot.prompt_index, unique=unique)
        chat = None
        if chats is not None:
            chat = chats.setdefault(target.name, begun(prompt))
            prompt = chat.prompt
        request = requests.make(prompt, stream.id, f"{self._random.getrandbits(64) or 1:016x}", chat)
        stream.on_start(start, late)
        self._by_stream[stream.id] = owner
        self._loop.fire(stream, target, request, fresh=state.lane.fresh)
        return True

    def _stream(self, shot: Shot, target: Target, now: int, *, keep_text: bool = False) -> Stream:
        wall_s = self._clock.wall() // S
        trace = f"{wall_s:08x}{self._random.getrandbits(96):024x}"
        return Stream(
            shot, trace, self._dialects[shot.target], target.limits, max_tokens=target.max_tokens,
            expect=self._expect[shot.target], worker=self._job.shard, wall_s=wall_s, spill=self._writer.add,
            keep_text=keep_text,
        )  # fmt: skip

    def _shed(self, state: _LaneState, due_ns: int) -> None:
        """An arrival above the cap: its Sample says so."""
        shot = self._next_shot(state, -1, due_ns)
        if shot is not None:
            stream = self._stream(shot, self._requests[shot.target].target, due_ns)
            stream.fail(self._now(), Outcome.SHED, f"{state.level} streams were open: the cap")
            self._keep(stream.sample(self._redact))

    # Endings.

    def _on_done(self, stream: Stream) -> None:
        """One request ended: when its slot is due again. Its Sample is made once what is due was sent."""
        self._news = True
        self._over.append(stream)
        owner = self._by_stream.pop(stream.id)
        if isinstance(owner, _LaneState):
            owner.open -= 1
            return
        owner.busy = False
        state = self._lanes[owner.lane] if owner.lane < len(self._lanes) else None
        if state is None or owner.number >= state.level or not isinstance(state.lane.load, Hold):
            self._slots.pop((owner.lane, owner.number), None)
            return
        chat, chat_ns = owner.chats.pop(stream.shot.target, None), state.lane.chat_ns
        if chat is not None and chat_ns is not None and (chat := after(chat, stream, chat_ns)) is not None:
            owner.chats[stream.shot.target] = chat
        wait = self._plan.think_ns
        if stream.outcome not in GOOD:
            asked = round((stream.retry_after_s or 0.0) * S)
            wait = max(wait, min(max(BACKOFF_NS, asked), MOST_BACKOFF_NS))
        assert stream.end_ns is not None
        # A socket kept open held its slot for longer than the user had to wait.
        self._queue(owner, (self._now() if stream.kept_open else stream.end_ns) + wait)

    def _on_closed(self, conn: Connection, by: Closer, idle_ns: int | None) -> None:
        """A connection ended."""
        self._writer.add(
            Closing(
                worker=self._job.shard, conn=conn.id, target=conn.target.name, peer=conn.address[0],
                opened_ns=conn.opened_ns, idle_ns=idle_ns, closed_ns=self._now(), carried=conn.carried, by=by,
            )
        )  # fmt: skip

    def _keep_over(self, until: int | None = None) -> None:
        """The Samples of the streams that are over: of one at least, of the others until something is due at `until`,
        unless very many wait.
        """
        over = self._over
        while over:
            sample = over.popleft().sample(self._redact)
            self._keep(sample)
            self._audit.ended(sample)
            self._saw_output(sample.target, sample.last_output_ns)
            if until is not None and len(over) < MOST_OVER and self._now() >= until:
                return

    def _keep(self, sample: Sample) -> None:
        self._writer.add(sample)
        first, sent = sample.first_token_ns, sample.sent_ns
        self._ended.append(
            Brief(
                sample.target, sample.phase, sample.outcome, sample.http_status,
                None if first is None else first - sample.due_ns,
                None if first is None or sent is None else first - sent,
                sample.output_tokens, sample.input_tokens, sample.text_events,
                sample.error[:300] if sample.error and not sample.good else None, sample.end_ns, sample.due_ns,
            )
        )  # fmt: skip

    def _end_phase(self, now: int) -> None:
        """Tell the parent once when nothing more of the phase can come due here."""
        if self._phase_told or self._phase < 0:
            return
        timed_out = self._phase_end is not None and now >= self._phase_end
        if timed_out or (self._lanes and all(s.done or self._all_stopped(s) for s in self._lanes)):
            if self._plan.settles and self._loop.open_streams:
                return
            self._keep_over()
            self._phase_told = True
            self._tell(phase_done=self._phase)

    # Words to the parent, and records to the disk.

    def _tell(self, *, phase_done: int | None = None, drained: bool = False) -> None:
        if phase_done is None and not drained and self._out:
            return  # the parent is slow: it gets the next one
        report = Report(
            worker=self._job.shard, at_ns=self._now(), open_streams=self._loop.open_streams, ended=self._ended,
            phase_done=phase_done, drained=drained, last_output_ns=self._latest_output(), late_ns=self._late,
            cpu=self._audit.cpu, text_events=self._audit.text_events,
        )  # fmt: skip
        self._ended, self._late = [], 0
        self._out += pack(report)
        self._push_control()

    def _saw_output(self, target: str, at_ns: int | None) -> None:
        if at_ns is not None and at_ns > self._last_output.get(target, 0):
            self._last_output[target] = at_ns

    def _latest_output(self) -> dict[str, int]:
        """When any stream of each target last gave output."""
        for stream in self._loop.streams():
            self._saw_output(stream.shot.target, stream.output.last)
        return self._last_output

    def _push_control(self) -> None:
        try:
            while self._out:
                del self._out[: self._control.send(self._out)]
        except BlockingIOError:
            return
        except OSError:
            self._alive = False

    def _write(self, now: int, *, last: bool = False) -> None:
        tick = self._audit.tick(now, self._loop, last=last)
        if tick is not None:
            self._writer.add(tick)
        self._writer.flush()


def _remembering(redact: Callable[[str], str]) -> Callable[[str], str]:
    """`redact`, which remembers what short texts became: most come again and again. What a server sends is bounded."""
    known = lru_cache(maxsize=2_048)(redact)
    return lambda text: known(text) if len(text) <= REMEMBERED else redact(text)


def _shard_of(offsets: Iterator[int], shard: int, shards: int, at_ns: int) -> Iterator[int]:
    """Every n-th arrival, as absolute times."""
    for k, offset in enumerate(offsets):
        if k % shards == shard:
            yield at_ns + offset


def _within(target: Target, most_tokens: int | None) -> Target:
    """The target with its answers no longer than a phase allows."""
    if most_tokens is None or target.max_tokens is None or target.max_tokens <= most_tokens:
        return target
    return msgspec.structs.replace(target, max_tokens=most_tokens)


def raise_descriptor_limit() -> int:
    """Raise RLIMIT_NOFILE to its hard limit; the limit now in force."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def wake_on_time() -> None:
    """Ask Linux to end this thread's sleeps when they are over; by default it may be 50 us later, to save power."""
    with contextlib.suppress(OSError):
        Path("/proc/self/timerslack_ns").write_text("1")


def main(fd: int) -> None:
    """Serve as a worker on the inherited control socket `fd`. Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=fd)
    secrets: tuple[str, ...] = ()
    try:
        unpack = Unpacker()
        first = next(unpack.feed(b""), None)
        while first is None:
            data = control.recv(1 << 20)
            if not data:
                return
            first = next(unpack.feed(data), None)
        job = msgspec.msgpack.decode(first, type=Job)
        secrets = job.secrets
        raise_descriptor_limit()
        wake_on_time()
        control.setblocking(False)
        worker = Worker(job, control, unpack, SystemClock())
        signal.signal(signal.SIGCONT, worker.on_continued)
        gc.collect()
        gc.freeze()
        gc.disable()
        worker.serve()
    except StorageError as error:
        _last_words(control, disk=str(error))
    except BaseException:
        # Told once, by the parent and without secrets: not by the interpreter on the way out.
        _last_words(control, failed=Redactor(secrets).text(traceback.format_exc()))
        sys.exit(Exit.INTERNAL)


def _last_words(control: socket.socket, *, failed: str | None = None, disk: str | None = None) -> None:
    """Tell the parent why this worker ends; it may be gone."""
    control.setblocking(True)
    try:
        control.sendall(pack(Report(worker=-1, at_ns=SystemClock().now(), open_streams=0, failed=failed, disk=disk)))
    except OSError:
        return


if __name__ == "__main__":
    main(int(sys.argv[1]))
