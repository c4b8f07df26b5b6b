"""The only reader of clocks.

Rules: inside, every time is an integer of nanoseconds on CLOCK_MONOTONIC; wall time is read once per run. Whatever
needs time takes a `Clock`, so a test passes a `FakeClock` and no test waits.

Kernel stamps are CLOCK_REALTIME. `RealtimeMap` carries them over to the monotonic clock: the tightest of 50 bracketed
readings at the start, again every 100 ms. A jump of the offset by more than 100 us is a step of the wall clock, which
spoils the stamps taken across it. What came before a step keeps the stamp it got then, however late it is read: mapped
by the clock of after it, it would lie as far in the past or the future as the step was long, and an answer under way
would look as if it had stalled for an hour.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

US = 1_000
MS = 1_000_000
S = 1_000_000_000

STEP_NS = 100 * US  # a larger change of offset between two looks is a clock step, not drift
REMAP_EVERY_NS = 100 * MS
EARLY_NS = 50 * MS  # so much earlier than it can have come may a stamp seem to lie before it is not believed


class Clock(Protocol):
    """What the product needs of time."""

    def now(self) -> int:
        """Monotonic time in ns."""
        ...

    def wall(self) -> int:
        """Wall time (CLOCK_REALTIME) in ns since the epoch."""
        ...

    def sleep_until(self, due: int) -> None:
        """Return at or after monotonic `due` (ns)."""
        ...

    def asleep(self) -> int:
        """How long (ns) the machine was suspended since some moment; always 0 where the system does not tell."""
        ...


class SystemClock:
    """The machine's clocks."""

    # Linux: the monotonic clock stands still while the machine is suspended, this one does not. macOS: likewise.
    _through_sleep = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC if sys.platform == "darwin" else None)

    now = staticmethod(time.monotonic_ns)
    wall = staticmethod(time.time_ns)

    def sleep_until(self, due: int) -> None:
        """Return at or after monotonic `due` (ns)."""
        while (left := due - time.monotonic_ns()) > 0:
            time.sleep(left / S)

    def asleep(self) -> int:
        """How long (ns) the machine was suspended since it was started; 0 where the system does not tell."""
        return 0 if self._through_sleep is None else time.clock_gettime_ns(self._through_sleep) - time.monotonic_ns()

    def __repr__(self) -> str:
        return "SystemClock()"


def boot_id() -> str | None:
    """Which start of this machine it is: monotonic times of two starts have nothing in common. None where not told."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip() or None
    except OSError:
        return None


@dataclass
class FakeClock:
    """A clock that moves only when told (`advance`) or slept on; `step_wall` moves wall time alone."""

    monotonic_ns: int = 1_000 * S
    wall_ns: int = 1_760_000_000 * S
    sleeps: list[int] = field(default_factory=list)
    asleep_ns: int = 0

    def now(self) -> int:
        """Monotonic time in ns."""
        return self.monotonic_ns

    def wall(self) -> int:
        """Wall time in ns."""
        return self.wall_ns

    def advance(self, ns: int) -> None:
        """Let `ns` pass on both clocks."""
        self.monotonic_ns += ns
        self.wall_ns += ns

    def step_wall(self, ns: int) -> None:
        """Set the wall clock by `ns`, as an operator or NTP would."""
        self.wall_ns += ns

    def asleep(self) -> int:
        """How long (ns) the machine was suspended."""
        return self.asleep_ns

    def suspend(self, ns: int) -> None:
        """Close the lid for so long: the monotonic clock stands still, wall time goes on."""
        self.asleep_ns += ns
        self.wall_ns += ns

    def sleep_until(self, due: int) -> None:
        """Jump to `due` and note the sleep."""
        if due > self.monotonic_ns:
            self.sleeps.append(due - self.monotonic_ns)
            self.advance(due - self.monotonic_ns)


def offset(clock: Clock, tries: int = 50) -> tuple[int, int]:
    """(monotonic - wall in ns, its uncertainty in ns) by the tightest of `tries` bracketed readings.

    Wall time is read between two monotonic readings; the offset is taken at their middle and is wrong by at most half
    the bracket (Cristian 1989, with a round trip of two clock reads).
    """
    best_width = None
    best = 0
    for _ in range(tries):
        a = clock.now()
        w = clock.wall()
        b = clock.now()
        if best_width is None or b - a < best_width:
            best_width, best = b - a, (a + b) // 2 - w
    assert best_width is not None
    return best, (best_width + 1) // 2


class RealtimeMap:
    """Maps CLOCK_REALTIME stamps to the monotonic clock and notices steps of the wall clock.

    `refresh(now)` is called at least every 100 ms. `steps` holds (from_ns, to_ns, jump_ns) in monotonic time: a stamp
    taken between the two looks around a jump cannot be trusted.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.offset, self.uncertainty = offset(clock)
        self._earlier = self.offset
        """Before the last step."""
        self._looked = clock.now()
        self.next_look = self._looked + REMAP_EVERY_NS
        self.steps: list[tuple[int, int, int]] = []

    def __repr__(self) -> str:
        return f"RealtimeMap(offset={self.offset}, uncertainty={self.uncertainty}, steps={len(self.steps)})"

    def refresh(self, tries: int = 5) -> bool:
        """Look at the offset again; True if the wall clock stepped since the last look."""
        before = self._looked
        value, width = offset(self._clock, tries)
        now = self._clock.now()
        self._looked = now
        self.next_look = now + REMAP_EVERY_NS
        jump = value - self.offset
        stepped = abs(jump) > STEP_NS + width + self.uncertainty
        if stepped:
            self.steps.append((before, now, jump))
            self._earlier = self.offset
        self.offset, self.uncertainty = value, width
        return stepped

    def at(self, wall: int, after: int, before: int) -> int:
        """The monotonic time (ns) of a stamp that must lie between these, by the clock as it is or as it was.

        Where neither can be, nothing is known of it but its bounds: it is `before`.
        """
        for known in (self.offset, self._earlier):
            if after - EARLY_NS <= wall + known <= before:
                return wall + known
        return before
