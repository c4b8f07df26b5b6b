"""A worker: one process, one event loop, one shard of the plan.

It is told by its parent which phase to begin when, starts what its schedule has due, and answers for each request that
came due with one Sample in its own file. After a failure a slot rests for max(1 s, Retry-After), 60 s at most. It ends
within 1 s of its parent's death (the control socket closes).
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import re
import resource
import signal
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import msgspec

from streamgauge.audit import Audit
from streamgauge.chat import after, begun
from streamgauge.clock import MS, Clock, S, SystemClock
from streamgauge.control import Begin, Brief, Job, Order, Report, Stop, Unpacker, pack
from streamgauge.errors import Exit, StorageError
from streamgauge.loop import Loop
from streamgauge.net import Connection
from streamgauge.plan import Lane, Shot
from streamgauge.prompts import prompt_text
from streamgauge.sample import GOOD, Closer, Closing, Outcome, Sample, SampleWriter
from streamgauge.schedule import Owner, Schedule, Slot
from streamgauge.secrets import Redactor
from streamgauge.stream import Stream
from streamgauge.target import Requests, Target
from streamgauge.tls import proxy_tls, tls_context

FLUSH_NS = 400 * MS
BACKOFF_NS = 1 * S
MOST_BACKOFF_NS = 60 * S
COMPANY, MOST_OVER = 8, 64
"""So many ended streams wait until their Samples are made together; so many may wait where something else is due."""
MEANWHILE_NS = 2 * MS
"""So long at least is decoded what came, where more is due than was started."""
REMEMBERED = 400
"""Longest text whose redacted form is kept."""


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
        self._schedule = Schedule(job, clock, self._shoot, self._shed)
        self._owners: dict[str, Owner] = {}
        """Of the streams that are open, by their id."""
        self._phase = -1
        self._phase_told = True
        self._stopping_at: int | None = None
        self._stop_why = ""
        self._alive = True
        self._news = False
        """A stream ended or the parent spoke."""
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
            behind = self._schedule.fire()
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
            wake = self._schedule.wake(now, min(next_flush, next_report))
            if self._stopping_at is not None:
                wake = min(wake, self._stopping_at)
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
            self._schedule.stop(order.target)
            return
        self._stopping_at = self._now() + order.grace_ns
        self._stop_why = order.why
        self._schedule.clear()

    def _begin(self, order: Begin) -> None:
        phase = order.plan or self._job.phases[order.phase]
        self._phase, self._phase_told = order.phase, False
        self._requests = {
            name: Requests(_within(target, phase.max_tokens), self._dialects[name])
            for name, target in self._targets.items()
        }
        self._schedule.begin(order, phase)

    # Starts.

    def _shoot(self, shot: Shot, lane: Lane, owner: Owner) -> None:
        """Start one request."""
        target = self._targets[shot.target]
        requests = self._requests[shot.target]
        start = self._now()
        late = max(start - shot.due_ns, 0)
        self._late = max(self._late, late)
        self._audit.start()
        chats = owner.chats if isinstance(owner, Slot) and lane.chat_ns is not None and not target.body else None
        stream = self._stream(shot, requests.target, start, keep_text=chats is not None)
        if lane.repeats:
            prompt = prompt_text(self._job.prompts, lane.prompts[0], 0, unique=f"repeated {self._job.seed}")
        else:
            unique = stream.id if target.unique else None
            prompt = prompt_text(self._job.prompts, shot.prompt, shot.prompt_index, unique=unique)
        chat = None
        if chats is not None:
            chat = chats.setdefault(target.name, begun(prompt))
            prompt = chat.prompt
        request = requests.make(prompt, stream.id, f"{self._random.getrandbits(64) or 1:016x}", chat)
        stream.on_start(start, late)
        self._owners[stream.id] = owner
        self._loop.fire(stream, target, request, fresh=lane.fresh)

    def _stream(self, shot: Shot, target: Target, now: int, *, keep_text: bool = False) -> Stream:
        wall_s = self._clock.wall() // S
        trace = f"{wall_s:08x}{self._random.getrandbits(96):024x}"
        return Stream(
            shot, trace, self._dialects[shot.target], target.limits, max_tokens=target.max_tokens,
            expect=self._expect[shot.target], worker=self._job.shard, wall_s=wall_s, spill=self._writer.add,
            keep_text=keep_text,
        )  # fmt: skip

    def _shed(self, shot: Shot, cap: int) -> None:
        """An arrival above the cap: its Sample says so."""
        stream = self._stream(shot, self._requests[shot.target].target, shot.due_ns)
        stream.fail(self._now(), Outcome.SHED, f"{cap} streams were open: the cap")
        self._keep(stream.sample(self._redact))

    # Endings.

    def _on_done(self, stream: Stream) -> None:
        """One request ended: when its slot is due again. Its Sample is made once what is due was sent."""
        self._news = True
        self._over.append(stream)
        owner = self._owners.pop(stream.id)
        lane = self._schedule.freed(owner)
        if lane is None or not isinstance(owner, Slot):
            return
        chat = owner.chats.pop(stream.shot.target, None)
        if chat is not None and lane.chat_ns is not None and (chat := after(chat, stream, lane.chat_ns)) is not None:
            owner.chats[stream.shot.target] = chat
        pause = 0
        if stream.outcome not in GOOD:
            pause = min(max(BACKOFF_NS, round((stream.retry_after_s or 0.0) * S)), MOST_BACKOFF_NS)
        assert stream.end_ns is not None
        # A socket kept open held its slot for longer than the user had to wait.
        self._schedule.again(owner, self._now() if stream.kept_open else stream.end_ns, pause)

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
        if self._schedule.over(now) and not (self._schedule.plan.settles and self._loop.open_streams):
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
        """When any stream of each target last gave output, to a second: the guard waits for ten."""
        known, since = self._last_output, self._now() - S
        if any(known.get(target, 0) < since for target in self._targets):
            for stream in self._loop.streams():
                self._saw_output(stream.shot.target, stream.output.last)
        return known

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
