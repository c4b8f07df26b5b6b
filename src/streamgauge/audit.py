"""What a worker sees of itself and its machine: processor time, turns, descriptors, clock steps, tick by tick.

The ticks stand in the samples file, so that what they tell survives whatever ends the run.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from streamgauge.clock import MS, Clock
from streamgauge.loop import Loop
from streamgauge.sample import AuditTick, Sample

TICK_NS = 250 * MS


class Audit:
    """What the worker sees of itself, tick by tick."""

    def __init__(self, worker: int, clock: Clock) -> None:
        self._worker = worker
        self._since = clock.now()
        self._cpu = time.process_time_ns()
        self._machine = Machine()
        self._starts = self._tokens = self._bytes = 0
        self._steps = 0
        self.text_events = 0
        self.cpu: float | None = None

    def start(self) -> None:
        """A request was started."""
        self._starts += 1

    def ended(self, sample: Sample) -> None:
        """A request ended."""
        self._tokens += sample.text_events
        self.text_events += sample.text_events

    def tick(self, now: int, loop: Loop, *, last: bool = False) -> AuditTick | None:
        """What happened since the last tick; None if that was just now. The `last` one may be a fifth as long."""
        passed = now - self._since
        steps = loop.steps[self._steps :]
        if passed < (TICK_NS // 5 if last else TICK_NS) and not (last and steps and passed):
            return None
        used = time.process_time_ns()
        self.cpu = (used - self._cpu) / passed
        tick = AuditTick(
            worker=self._worker, at_ns=now, cpu=self.cpu, longest_turn_ns=loop.longest_turn_ns,
            open_streams=loop.open_streams, open_sockets=loop.sockets, text_events=self._tokens,
            bytes_in=loop.bytes_in - self._bytes, starts=self._starts, steps=steps, machine=self._machine.busy(),
        )  # fmt: skip
        self._since, self._cpu, self._bytes = now, used, loop.bytes_in
        self._steps = len(loop.steps)
        self._starts = self._tokens = 0
        loop.longest_turn_ns = 0
        return tick


class Machine:
    """How busy the whole machine is, as Linux tells it in /proc/stat (in a container: its host's)."""

    def __init__(self) -> None:
        self._path = Path("/proc/stat")
        self._used, self._all = self._read()

    def busy(self) -> float | None:
        """Share of all processors' time since the last call that anyone used; None where that is not told."""
        used, total = self._read()
        before, self._used, self._all = (self._used, self._all), used, total
        return (used - before[0]) / (total - before[1]) if total > before[1] else None

    def _read(self) -> tuple[int, int]:
        """(used, all) clock ticks since the machine began; time taken by other guests of its host counts as used."""
        try:
            if sys.platform != "linux":
                return 0, 0
            with self._path.open("rb") as file:
                times = [int(field) for field in file.readline().split()[1:9]]
        except (OSError, ValueError):
            return 0, 0
        idle = sum(times[3:5])
        return sum(times) - idle, sum(times)
