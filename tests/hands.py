"""A worker at a test's hand: in a thread or as its own process, told what to do over its control socket."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from streamgauge.client import target_from_url
from streamgauge.clock import Clock, SystemClock
from streamgauge.control import Begin, Brief, Job, Order, Report, Stop, Unpacker, pack
from streamgauge.plan import Phase
from streamgauge.sample import Sample, read_records
from streamgauge.simulator import Simulator
from streamgauge.target import Target
from streamgauge.worker import Worker

MS = 1_000_000
S = 1_000 * MS
QUICK = '[["text","Hi"],["finish","stop"]]'
PROMPTS: dict[str, tuple[str, ...]] = {name: (f"A {name} one.",) for name in ("short", "medium", "long")}


def target(sim: Simulator, script: str = QUICK, *, name: str = "app", **more: object) -> Target:
    """The simulator as a target that answers by `script`."""
    found = target_from_url(sim.endpoint("openai-chat"), dialect="openai-chat", name=name, model="m")
    headers = (("X-Sim-Script", script),)
    return msgspec.structs.replace(found, addresses=((sim.host, sim.port),), headers=headers, **more)


class Hand:
    """The parent's end of a worker's line."""

    def __init__(self, job: Job, line: socket.socket) -> None:
        self.job = job
        self._line = line
        self._unpack = Unpacker()
        self.reports: list[Report] = []
        self.closed = False

    @property
    def path(self) -> Path:
        return Path(self.job.samples)

    @property
    def ended(self) -> list[Brief]:
        return [brief for report in self.reports for brief in report.ended]

    def order(self, *orders: Order) -> None:
        for one in orders:
            self._line.sendall(pack(one))

    def begin(self, phase: int = 0) -> int:
        """Begin a phase at once; when that is."""
        at = time.monotonic_ns()
        self.order(Begin(phase, at))
        return at

    def hear(self, until: Callable[[], object], within_s: float = 60) -> None:
        """Take in reports until something holds; an AssertionError when it does not come."""
        limit = time.monotonic() + within_s
        while not until():
            assert time.monotonic() < limit, f"not within {within_s} s; heard {self.reports[-1:]}"
            assert not self.closed, "the worker is gone"
            self._listen(0.05)

    def _listen(self, wait_s: float) -> None:
        if not select.select([self._line], [], [], wait_s)[0]:
            return
        try:
            data = self._line.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        self.closed = not data
        self.reports += [msgspec.msgpack.decode(body, type=Report) for body in self._unpack.feed(data)]

    def hear_all(self, within_s: float = 60) -> None:
        """Take in reports until the worker closed its line."""
        limit = time.monotonic() + within_s
        while not self.closed:
            assert time.monotonic() < limit, "the worker did not end"
            self._listen(0.05)

    def phase_done(self, phase: int = 0) -> bool:
        return any(report.phase_done == phase for report in self.reports)

    def finish(self, grace_s: float = 10) -> list[Sample]:
        """No new request; the Samples when all is over, in the order in which they came due."""
        self.order(Stop(round(grace_s * S), "the test is over"))
        self.hear(lambda: self.reports and self.reports[-1].drained)
        return self.samples()

    def samples(self) -> list[Sample]:
        found = [record for record in read_records(self.path) if isinstance(record, Sample)]
        return sorted(found, key=lambda sample: (sample.due_ns, sample.seq))

    def leave(self) -> None:
        """Close the line, as a parent that dies."""
        self._line.close()


def job(
    folder: Path, targets: tuple[Target, ...], *phases: Phase, shard: int = 0, shards: int = 1, seed: int = 5
) -> Job:
    return Job(
        targets=targets, prompts=PROMPTS, phases=phases, seed=seed, shard=shard, shards=shards,
        samples=str(folder / f"samples-0-{shard}.sgs"),
    )  # fmt: skip


@contextmanager
def working(what: Job, clock: Clock | None = None) -> Iterator[Hand]:
    """A worker in a thread of this process; it ends with the block."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    failed: list[BaseException] = []

    def serve() -> None:
        try:
            Worker(what, theirs, Unpacker(), clock or SystemClock()).serve()
        except BaseException as error:  # told to the test below
            failed.append(error)
        theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    hand = Hand(what, ours)
    try:
        yield hand
    finally:
        hand.leave()
        thread.join(20)
    assert not failed, failed
    assert not thread.is_alive()


@contextmanager
def process(what: Job) -> Iterator[tuple[Hand, subprocess.Popen[bytes]]]:
    """A worker as a run starts it."""
    ours, theirs = socket.socketpair()
    running = subprocess.Popen(
        [sys.executable, "-m", "streamgauge.worker", str(theirs.fileno())],
        pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    theirs.close()
    ours.sendall(pack(what))
    hand = Hand(what, ours)
    try:
        yield hand, running
    finally:
        hand.leave()
        try:
            running.wait(60)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            raise
