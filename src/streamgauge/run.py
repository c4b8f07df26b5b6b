"""The parent of a run: starts the workers, conducts them from phase to phase, and stops them.

Rules: the run folder is the truth. What happened is appended to `journal.jsonl` as it happens, each worker writes its
own samples file, and every later verb works from the folder alone: a run that was killed can still be reported.

The load stops by itself where `guard` says so; at the first Ctrl-C or SIGTERM (open streams get 5 s; a second one ends
them at once); when a worker dies or falls silent; and when the machine was suspended, which ends the open streams at
once.

A phase ends when its last worker was done with it, not when this process came to hear of it: where it was held up
meanwhile (a stopped process, a busy machine), no load was wanted in between, and the journal says so.
"""

from __future__ import annotations

import contextlib
import selectors
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from streamgauge.clock import MS, Clock, S
from streamgauge.control import Address, Begin, Job, Order, Report, Stop
from streamgauge.fault import NetError
from streamgauge.guard import Guard
from streamgauge.hand import Hand
from streamgauge.journal import Journal
from streamgauge.load import Load, workers_for
from streamgauge.net import addresses_of
from streamgauge.plan import Phase
from streamgauge.sample import Outcome
from streamgauge.spans import span
from streamgauge.target import Target

INTERRUPT_GRACE_NS = 5 * S
RESOLVE_EVERY_S = 60.0
SLEPT_NS = 1 * S
"""A machine that was suspended for longer than this has not measured."""
_LISTEN_S = 0.1
_HELD_UP_NS = 250 * MS
_LEAD_NS = 2 * MS
_OPEN_LEAD_NS = 50 * MS
"""From an order to the beginning of its phase: arrivals are due whether the workers have heard of it or not."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended. `partial`: its plan was not done."""

    stopped_by: str | None
    partial: bool
    signal: int | None = None
    worker_died: str | None = None
    bug: str | None = None
    disk: str | None = None
    requests: int = 0
    """With `tokens` and `usd`: what was used, rounds before this one included."""
    tokens: int = 0
    usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Began:
    """Told to the listener: a phase began."""

    phase: Phase
    at_ns: int


@dataclass(frozen=True, slots=True)
class Stopping:
    """A signal ends the run: no new request starts, open streams get `grace_ns` (0: they end now)."""

    grace_ns: int


Listener = Callable[["Began | Stopping | Report"], None]


class Course(Protocol):
    """Decides on phases while the load runs."""

    def ahead(self, why: str | None) -> tuple[Phase, ...] | None:
        """What follows, asked when the plan is over (None), and when a phase must not go on (why, in words).

        It takes the place of what is left of the plan; () ends it; None lets the stop rule stop the load.
        """

    def alarm(self) -> str | None:
        """Why the phase must not go on, by what others than the workers saw."""


GONE = frozenset({Outcome.CONNECT_REFUSED})
"""Nobody listens any more: where phases are decided on while the load runs, it is not held against this for longer."""


class _Conductor:
    """The state of one run in the parent."""

    def __init__(
        self,
        load: Load,
        folder: Path,
        clock: Clock,
        journal: Journal,
        listener: Listener,
        number: int,
        before: Ending | None,
        course: Course | None = None,
    ) -> None:
        self.load = load
        self.phases = list(load.phases)
        self.course = course
        self.clock = clock
        self.journal = journal
        self.listener = listener
        self.guard = Guard(load.limits, frozenset(t.name for t in load.targets), load.unjudged)
        if before is not None:
            self.guard.requests, self.guard.tokens, self.guard.usd = before.requests, before.tokens, before.usd
        self.phase = -1
        self.asleep = clock.asleep()
        self.stopped: str | None = None
        self.stopped_targets: set[str] = set()
        self.signal: int | None = None
        self.died: str | None = None
        self.bug: str | None = None
        self.disk: str | None = None
        self.last_output: dict[str, int] = {}
        count = load.workers or workers_for(max(load.widest, *(phase.streams for phase in load.phases)))
        self.hands = [
            Hand(
                Job(
                    targets=load.targets, prompts=load.prompts, phases=load.phases, seed=load.seed, shard=shard,
                    shards=count, secrets=load.secrets, samples=str(folder / f"samples-{number}-{shard}.sgs"),
                )
            )
            for shard in range(count)
        ]  # fmt: skip

    def begin_next(self) -> bool:
        """Begin the next phase; False when there is none."""
        over = self.hands_done()
        self.phase += 1
        if self.phase >= len(self.phases):
            self.phases += (self.course.ahead(None) or ()) if self.course is not None else ()
        if self.phase >= len(self.phases):
            return False
        phase = self.phases[self.phase]
        at = self.clock.now() + (_LEAD_NS if phase.rate is None else _OPEN_LEAD_NS)
        if self.phase > 0 and over and at - self.done_at() > _HELD_UP_NS:
            self.journal.add("phase", name="drain", level=0, at_ns=self.done_at())
        rate = {} if phase.rate is None else {"rate": phase.rate}
        self.journal.add("phase", name=phase.name, level=phase.level, at_ns=at, **rate)
        self.listener(Began(phase, at))
        self.order(Begin(self.phase, at, phase))
        return True

    def hands_done(self) -> bool:
        """Whether every worker is done with the phase."""
        return all(hand.done_phase >= self.phase for hand in self.hands)

    def done_at(self) -> int:
        """When the last worker was done with the phase."""
        return max(hand.done_at_ns for hand in self.hands)

    def order(self, message: Order) -> None:
        for hand in self.hands:
            hand.order(message)

    def stop(self, why: str, grace_ns: int) -> None:
        """No new request; what is open gets `grace_ns`."""
        if self.stopped is None and why:
            self.stopped = why
            self.journal.add("stop", why=why, at_ns=self.clock.now())
        self.order(Stop(grace_ns, why or "the plan is done"))

    def hear(self, hand: Hand) -> None:
        """Take in what a worker said."""
        for report in hand.reports():
            for brief in report.ended:
                self.guard.saw(brief)
            for target, at in report.last_output_ns.items():
                self.last_output[target] = max(at, self.last_output.get(target, 0))
            if report.failed is not None:
                self.bug = report.failed
            if report.disk is not None:
                self.disk = report.disk
            self.listener(report)

    def slept(self) -> str | None:
        """That the machine was suspended since the last look: streams died of it, and time went by unseen."""
        before, self.asleep = self.asleep, self.clock.asleep()
        if self.asleep - before <= SLEPT_NS:
            return None
        why = f"this machine slept for {span((self.asleep - before) / S)}"
        self.journal.add("slept", for_ns=self.asleep - before, at_ns=self.clock.now())
        return why

    def check(self) -> str | None:
        """Why the load must stop now, if it must."""
        over = self.guard.over(sum(hand.open_streams for hand in self.hands))
        if over is not None:
            return over
        if self.phases[min(self.phase, len(self.phases) - 1)].name in self.load.unjudged:
            return None
        at_once = GONE if self.course is not None else frozenset()
        words = self.guard.hopeless(self.clock.now(), self.last_output, at_once)
        if self.course is not None and self._gives_up(self.course, words):
            return None
        for target, why in words.items():
            if target not in self.stopped_targets:
                self.stopped_targets.add(target)
                self.journal.add("stop_target", target=target, why=why, at_ns=self.clock.now())
                self.order(Stop(0, why, target))
        judged = {t.name for t in self.load.targets if not t.control}
        if judged <= self.stopped_targets:
            return "; ".join(words.values())
        return None

    def _gives_up(self, course: Course, words: dict[str, str]) -> bool:
        """Whether the phase is taken as failed and the load goes on with another one."""
        judged = {t.name for t in self.load.targets if not t.control}
        why = "; ".join(words.values()) if judged <= set(words) else course.alarm()
        more = None if why is None else course.ahead(why)
        if more is None:
            return False
        self.journal.add("gave_up", phase=self.phases[self.phase].name, level=self.phases[self.phase].level, why=why,
                         at_ns=self.clock.now())  # fmt: skip
        self.guard.forget()
        self.phases[self.phase + 1 :] = more
        return self.begin_next()


def conduct(
    load: Load,
    folder: Path,
    clock: Clock,
    journal: Journal,
    listener: Listener,
    *,
    number: int = 0,
    before: Ending | None = None,
    course: Course | None = None,
    resolve_every_s: float = RESOLVE_EVERY_S,
) -> Ending:
    """Run the plan to its end, heeding Ctrl-C and SIGTERM. Whatever happens, what was measured stays in `folder`.

    `number` counts the rounds of one run: a doubled run has two, each with its own sample files, and what the one
    `before` used counts towards the hard stops. `course` decides on further phases; the plan's widest phase must be
    as wide as any of them.
    """
    conductor = _Conductor(load, folder, clock, journal, listener, number, before, course)
    selector = selectors.DefaultSelector()
    for hand in conductor.hands:
        selector.register(hand.line, selectors.EVENT_READ, hand)
    try:
        with _signals() as caught, _resolving(load.targets, conductor.order, resolve_every_s):
            _drive(conductor, selector, caught)
    finally:
        statuses = [(hand.shard, hand.farewell()) for hand in conductor.hands]
        selector.close()
    for shard, status in statuses:
        if status < 0 and conductor.died is None:
            conductor.died = f"worker {shard} was ended by {signal.Signals(-status).name}"
    now = clock.now()
    partial = conductor.stopped is not None or bool(conductor.stopped_targets) or conductor.died is not None
    ending = Ending(
        conductor.stopped, partial or conductor.bug is not None or conductor.disk is not None, conductor.signal,
        conductor.died, conductor.bug, conductor.disk,
        requests=conductor.guard.requests, tokens=conductor.guard.tokens, usd=conductor.guard.usd,
    )  # fmt: skip
    journal.add("end", at_ns=now, stopped_by=ending.stopped_by, partial=ending.partial, signal=ending.signal,
                worker_died=ending.worker_died, stopped_targets=sorted(conductor.stopped_targets))  # fmt: skip
    return ending


def _drive(conductor: _Conductor, selector: selectors.BaseSelector, caught: list[int]) -> None:
    """From the first phase, once every worker is up, until every one has drained or is gone."""
    while not caught and not all(hand.ready or hand.gone for hand in conductor.hands):
        _listen(conductor, selector)
    conductor.begin_next()
    ending, heeded = False, 0
    while not all(hand.drained or hand.gone for hand in conductor.hands):
        _listen(conductor, selector)
        while heeded < len(caught):
            conductor.signal = conductor.signal or caught[heeded]
            grace = INTERRUPT_GRACE_NS if heeded == 0 else 0
            conductor.listener(Stopping(grace))
            conductor.stop("interrupted" if caught[heeded] == signal.SIGINT else "terminated", grace)
            ending, heeded = True, heeded + 1
        slept = conductor.slept()
        if ending:
            continue
        why = slept or ("our disk failed" if conductor.disk else conductor.died or conductor.check())
        if why is not None:
            conductor.stop(why, 0 if slept or conductor.died else conductor.load.grace_ns)
            ending = True
        elif conductor.hands_done() and not conductor.begin_next():
            conductor.journal.add("phase", name="drain", level=0, at_ns=conductor.done_at())
            conductor.stop("", conductor.load.grace_ns)
            ending = True


def _listen(conductor: _Conductor, selector: selectors.BaseSelector) -> None:
    """Take in what the workers say within 100 ms, and notice those that are gone."""
    began = conductor.clock.now()
    for key, _ in selector.select(_LISTEN_S):
        hand: Hand = key.data
        conductor.hear(hand)
        if hand.gone:
            selector.unregister(hand.line)
            if not hand.drained and conductor.died is None:
                conductor.died = f"worker {hand.shard} ended before its work was done"
    # A pause of this process itself (SIGSTOP of all, a suspended machine) is nobody's silence.
    awake_s = min((conductor.clock.now() - began) / S, 2 * _LISTEN_S)
    for hand in conductor.hands:
        if not (hand.gone or hand.drained) and hand.hangs(awake_s):
            conductor.died = conductor.died or (
                f"worker {hand.shard} said nothing for {hand.silent_s:.0f} s (stopped, or out of processor time) and "
                "was ended"
            )
            selector.unregister(hand.line)
            hand.end()


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM while the block runs (main thread only; elsewhere nothing is collected)."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    numbers: tuple[Literal[signal.Signals.SIGINT, signal.Signals.SIGTERM], ...] = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda got, _: caught.append(got)) for number in numbers}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _resolving(targets: tuple[Target, ...], order: Callable[[Order], None], every_s: float) -> Iterator[None]:
    """Resolves every target's name (or its proxy's) again, off the measured path; the workers hear of changes."""
    over = threading.Event()

    def look() -> None:
        known = {target.name: target.addresses for target in targets}
        while not over.wait(every_s):
            for target in targets:
                try:
                    found = addresses_of(target)
                except NetError:
                    continue  # the old addresses stay in use: a resolver's hiccup is not the service's
                if found != known[target.name]:
                    known[target.name] = found
                    order(Address(target.name, found))

    thread = threading.Thread(target=look, daemon=True, name="resolver")
    thread.start()
    try:
        yield
    finally:
        over.set()
