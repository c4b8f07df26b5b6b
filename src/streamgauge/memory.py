"""What the probes' readings say of the server's memory: a series for each instance, its growth, what a burst left.

Rules:
- A series is one gauge of one instance of one probe. The heap is judged where any probe gives one, and the RSS is shown
  beside it; else the RSS is judged. Of several instances the worst is judged.
- A reading after a collection that was asked for lies lower than the others: it is left out of growth, and where the
  idle time has some, they say what is left after the burst.
- A restart is told by another process, an uptime that begins anew, or the probe's own count. Where a process comes back
  that had made way, several answer by turns under one name, and where some are told apart by their start alone (their
  names begin with #), nobody knows how many there are that were never met: such series are not judged.
- Failed readings are gaps; nothing is put in their place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

from streamgauge.sample import Reading
from streamgauge.slope import Slope
from streamgauge.trend import (
    MB,
    Answer,
    Cleanup,
    FloatArray,
    Growth,
    IntArray,
    answer_growth,
    answer_unbounded,
    cleanup,
    growth,
    hours_needed,
    hours_until,
    per_request,
)

HEAP, RSS = "heap_used", "rss"
KB = 1e3
SAME_START_NS = 3_000_000_000
"""Starts of a process that lie so near, told by its uptime, are the same."""
BEFORE_NS = 60_000_000_000
"""What was held before the burst is the median of so long before it."""
LEAST_IDLE_NS = 120_000_000_000
"""After less idle time what was not given back may still be: no collector need have run."""
BoolArray = npt.NDArray[np.bool_]
RANK: dict[Answer, int] = {"fail": 0, "inconclusive": 1, "pass": 2}


class MemorySeries(msgspec.Struct, frozen=True, kw_only=True):
    """One gauge of one instance. MB are 10^6 bytes, times are s from the run's start; null is not measured."""

    probe: str
    instance: str
    gauge: str
    judged: bool
    """False: shown beside the judged ones."""
    mixed: bool
    """Whether several processes answered by turns under this name, so that nothing can be told."""
    readings: int
    failed: int
    restarts: int
    judged_from_s: float | None
    """Where the warm-up ends."""
    judged_to_s: float | None
    by: str | None
    """`medians` or `minima` of equal parts of the time."""
    growth_mb_per_h: float | None
    low: float | None
    high: float | None
    p: float | None
    """Mann-Kendall, that it rises."""
    late_growth_mb_per_h: float | None
    """Of the second half alone."""
    shape: str
    """`flat`, `plateau`, `line` or `unclear`."""
    needs_h: float | None
    """How long a run (warm-up included) would decide the growth, where it is open."""
    growth_kb_per_request: float | None
    kb_per_request_low: float | None
    kb_per_request_high: float | None
    limit_mb: float | None
    """The memory limit that the server tells."""
    limit_reached_in_h: float | None
    limit_reached_in_h_least: float | None
    before_mb: float | None
    peak_mb: float | None
    after_mb: float | None
    cleanup: float | None
    """(peak - after) / (peak - before); null where the burst raised nothing."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One of the detailed readings, some minutes apart."""

    t_s: float
    phase: str | None
    probe: str
    instance: str
    collected: bool
    """Whether garbage was collected first."""
    values: dict[str, float]
    """Gauge -> value, as it was read: bytes, counts, seconds."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """The server's memory over a run."""

    gauge: str | None
    """What is judged: `heap_used` or `rss`."""
    series: list[MemorySeries]
    """The worst judged one first."""
    snapshots: list[Snapshot]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Windows:
    """When what went on, ns: (from, to)."""

    start_ns: int
    hold: tuple[int, int]
    burst: tuple[int, int] | None = None
    idle: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """One series with what was found of it. Bytes, ns."""

    probe: str
    instance: str
    gauge: str
    times: IntArray
    values: FloatArray
    failed: int
    restarts_ns: tuple[int, ...]
    mixed: bool
    growth: Growth | None
    requests: Slope | None
    cleanup: Cleanup | None
    limit: float | None

    @property
    def name(self) -> str:
        """Whose memory it is, in words."""
        return f"{self.probe} {self.instance}" if self.instance else self.probe

    def grows(self, limit: float) -> Answer:
        """Whether it grows by less than `limit` bytes an hour."""
        return "inconclusive" if self.mixed or self.growth is None else answer_growth(self.growth, limit)

    def bounded(self, limit: float) -> Answer:
        """Whether there is no unbounded growth."""
        return "inconclusive" if self.mixed or self.growth is None else answer_unbounded(self.growth, limit)


@dataclass(frozen=True, slots=True)
class Read:
    """All that the readings say."""

    judged: tuple[Held, ...]
    beside: tuple[Held, ...]
    gauge: str | None
    windows: Windows

    @property
    def long_idle(self) -> bool:
        """Whether a server that gave nothing back had the time to."""
        idle = self.windows.idle
        return idle is not None and idle[1] - idle[0] >= LEAST_IDLE_NS

    def worst(self, limit: float) -> Held | None:
        """The judged series that says the worst of growth."""
        return min(
            self.judged,
            key=lambda one: (RANK[one.grows(limit)], RANK[one.bounded(limit)], -_rate(one)),
            default=None,
        )


def _rate(held: Held) -> float:
    return held.growth.whole.value if held.growth is not None and held.growth.whole is not None else 0.0


def read(readings: Sequence[Reading], windows: Windows, ended_ns: IntArray, confidence: float) -> Read:
    """Every series there is. ended_ns: when each request of the hold ended, ascending."""
    gauges = (HEAP, RSS)
    found: dict[str, list[Held]] = {gauge: [] for gauge in gauges}
    series = _by_instance(readings)
    nameless = {probe for probe, instance in series if instance.startswith("#")}
    for (probe, instance), mine in series.items():
        own_id = probe not in nameless or instance.partition("#")[0] != ""
        failed = sum(1 for one in readings if one.probe == probe and one.error is not None)
        for gauge in gauges:
            having = [one for one in mine if gauge in one.values]
            if having:
                one = _held(probe, instance, gauge, having, failed, windows, ended_ns, confidence)
                found[gauge].append(one if own_id else replace(one, mixed=True, cleanup=None))
    chosen = next((gauge for gauge in gauges if found[gauge]), None)
    if chosen is None:
        return Read((), (), None, windows)
    beside = tuple(one for gauge in gauges if gauge != chosen for one in found[gauge])
    return Read(tuple(found[chosen]), beside, chosen, windows)


def _by_instance(readings: Iterable[Reading]) -> dict[tuple[str, str], list[Reading]]:
    found: dict[tuple[str, str], list[Reading]] = {}
    for one in readings:
        if one.error is None:
            found.setdefault((one.probe, one.instance), []).append(one)
    return found


def _held(
    probe: str, instance: str, gauge: str, readings: list[Reading], failed: int, windows: Windows, ended_ns: IntArray,
    confidence: float,
) -> Held:  # fmt: skip
    restarts, mixed = restarts_of(readings)
    times = np.array([one.at_ns for one in readings], dtype=np.int64)
    values = np.array([one.values[gauge] for one in readings], dtype=np.float64)
    collected = np.array([one.collected for one in readings], dtype=np.bool_)
    plain = ~collected if 2 * int(collected.sum()) <= len(collected) else np.ones_like(collected)
    start, end = windows.hold
    under_load = plain & (times >= start) & (times <= end)
    grown = growth(times[under_load], values[under_load], tuple(r for r in restarts if start < r <= end), confidence)
    counts = np.searchsorted(ended_ns, times[under_load], side="right").astype(np.float64)
    limits = [one.values["memory_limit"] for one in readings if one.values.get("memory_limit", 0) > 0]
    return Held(
        probe=probe, instance=instance, gauge=gauge, times=times, values=values, failed=failed, restarts_ns=restarts,
        mixed=mixed, growth=grown,
        requests=None if grown is None else per_request(grown, times[under_load], counts),
        cleanup=None if mixed else _cleanup(times, values, collected, plain, windows),
        limit=limits[-1] if limits else None,
    )  # fmt: skip


def restarts_of(readings: Sequence[Reading]) -> tuple[tuple[int, ...], bool]:
    """When the process was seen to be a new one (ns), and whether several answer by turns under one name."""
    restarts, gone, mixed = [], set(), False
    for before, now in pairwise(readings):
        if before.pid != now.pid and before.pid is not None and now.pid is not None:
            mixed = mixed or now.pid in gone
            gone.add(before.pid)
            restarts.append(now.at_ns)
        elif _began(before, now) or now.values.get("restarts", 0) > before.values.get("restarts", 0):
            restarts.append(now.at_ns)
    return tuple(restarts), mixed


def _began(before: Reading, now: Reading) -> bool:
    """Whether the uptimes say that the process began anew between two readings."""
    if before.uptime_s is None or now.uptime_s is None:
        return False
    return (now.at_ns - before.at_ns) - round((now.uptime_s - before.uptime_s) * 1e9) > SAME_START_NS


def _cleanup(
    times: IntArray, values: FloatArray, collected: BoolArray, plain: BoolArray, windows: Windows
) -> Cleanup | None:
    """Before, during and after the burst."""
    if windows.burst is None or windows.idle is None:
        return None
    begin, over = windows.burst
    idle, end = windows.idle
    asked = values[collected & (times >= idle)]
    rest = values[times >= max(idle, end - max((end - idle) // 4, 1))]
    return cleanup(
        values[plain & (times >= max(begin - BEFORE_NS, windows.hold[0])) & (times < begin)],
        values[(times >= begin) & (times <= over)],
        asked if len(asked) else rest,
    )


# As the report has it


def section(read: Read, readings: Sequence[Reading], phases: Sequence[tuple[str, int, int]], limit: float) -> Memory:
    """The report's part. phases: (name, from, to) in ns. limit: growth an hour in bytes that is still allowed."""
    start = read.windows.start_ns
    worst = read.worst(limit)
    series = sorted(read.judged, key=lambda one: one is not worst)
    snapshots = [
        Snapshot(
            t_s=round((one.at_ns - start) / 1e9, 3), probe=one.probe, instance=one.instance, collected=one.collected,
            phase=next((name for name, a, b in phases if a <= one.at_ns < b), None), values=dict(one.values),
        )
        for one in readings
        if one.snapshot and one.error is None
    ]  # fmt: skip
    told = [_told(one, start, limit, judged=True) for one in series]
    beside = [_told(one, start, limit, judged=False) for one in read.beside]
    return Memory(gauge=read.gauge, series=[*told, *beside], snapshots=snapshots, notes=_notes(read, readings))


def _told(held: Held, start: int, limit: float, *, judged: bool) -> MemorySeries:
    grown = None if held.mixed else held.growth
    whole = None if grown is None else grown.whole
    late = None if grown is None else grown.late
    until = None if whole is None or held.limit is None else hours_until(float(held.values[-1]), held.limit, whole)
    open_ = grown is not None and held.grows(limit) == "inconclusive"
    rate, each, cleaned = _three(whole), _three(held.requests), held.cleanup
    levels = (None, None, None) if cleaned is None else (cleaned.before, cleaned.peak, cleaned.after)
    return MemorySeries(
        probe=held.probe, instance=held.instance, gauge=held.gauge, judged=judged, mixed=held.mixed,
        readings=len(held.times), failed=held.failed, restarts=len(held.restarts_ns),
        judged_from_s=None if grown is None else round((grown.warm_ns - start) / 1e9, 1),
        judged_to_s=None if grown is None else round((grown.end_ns - start) / 1e9, 1),
        by=None if grown is None else grown.by,
        growth_mb_per_h=_scaled(rate[0], MB), low=_scaled(rate[1], MB), high=_scaled(rate[2], MB),
        p=None if whole is None else round(whole.p, 4),
        late_growth_mb_per_h=_scaled(None if late is None else late.value, MB),
        shape="unclear" if grown is None else grown.shape(limit),
        needs_h=hours_needed(grown, limit) if open_ and grown is not None else None,
        growth_kb_per_request=_scaled(each[0], KB), kb_per_request_low=_scaled(each[1], KB),
        kb_per_request_high=_scaled(each[2], KB),
        limit_mb=_scaled(held.limit, MB), limit_reached_in_h=None if until is None else round(until[0], 2),
        limit_reached_in_h_least=None if until is None else round(until[1], 2),
        before_mb=_scaled(levels[0], MB), peak_mb=_scaled(levels[1], MB), after_mb=_scaled(levels[2], MB),
        cleanup=None if cleaned is None or cleaned.efficiency is None else round(cleaned.efficiency, 4),
    )  # fmt: skip


def _three(slope: Slope | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if slope is None else (slope.value, slope.low, slope.high)


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else round(value / unit, 3)


def _notes(read: Read, readings: Sequence[Reading]) -> list[str]:
    """What a reader must know of the series."""
    notes = []
    if read.gauge == RSS:
        notes.append("no probe gives a heap, so the resident memory (RSS) is judged: it holds more than what is in use")
    if read.gauge is None and any(one.error is None for one in readings):
        seen = sorted({name for one in readings for name in one.values})
        notes.append(f"no probe gives {HEAP} or {RSS}; there is: {', '.join(seen) or 'nothing'}")
    for one in read.judged:
        if one.mixed:
            notes.append(f"{one.name}: several processes answer by turns and do not tell which: give each an instance")
        elif one.restarts_ns:
            times = ", ".join(f"{(at - read.windows.start_ns) / 1e9:.0f} s" for at in one.restarts_ns[:5])
            notes.append(f"{one.name}: {len(one.restarts_ns)} restarts (at {times}); the longest life is judged")
    return notes
