"""The server's memory as the report has it: numbers of `held`, in MB and seconds, and what qualifies them in words."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from streamgauge.held import HEAP, RSS, Held, Read
from streamgauge.sample import Reading
from streamgauge.slope import Slope
from streamgauge.trend import MB, hours_needed, hours_until

KB = 1e3


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
    grown_mb: float | None
    """What of the peak the growth before the burst alone explains; 0 where no growth was shown."""
    after_mb: float | None
    cleanup: float | None
    """(peak - grown - after) / (peak - grown - before); null where the burst raised nothing."""


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
    levels = (None,) * 4 if cleaned is None else (cleaned.before, cleaned.peak, cleaned.grown, cleaned.after)
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
        before_mb=_scaled(levels[0], MB), peak_mb=_scaled(levels[1], MB), grown_mb=_scaled(levels[2], MB),
        after_mb=_scaled(levels[3], MB),
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
    for since, until in read.windows.pauses:
        start, parts = read.windows.start_ns, [set(one.growth.parts) for one in read.judged if one.growth is not None]
        together = all(len(one) > 1 for one in parts)
        how = (
            "both sides are judged together, each with its own warm-up and level"
            if together
            else ("what is not surely one process, or too short on one side, is judged on the longer side alone")
        )
        notes.append(f"no load from {(since - start) / 1e9:.0f} s to {(until - start) / 1e9:.0f} s: {how}")
    return notes
