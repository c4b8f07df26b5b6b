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

import numpy as np
import numpy.typing as npt

from streamgauge.sample import Reading
from streamgauge.slope import Slope
from streamgauge.trend import (
    HOUR_NS,
    Answer,
    Cleanup,
    FloatArray,
    Growth,
    IntArray,
    answer_growth,
    answer_unbounded,
    cleanup,
    growth,
    per_request,
)

HEAP, RSS = "heap_used", "rss"
SAME_START_NS = 3_000_000_000
"""Starts of a process that lie so near, told by its uptime, are the same."""
BEFORE_NS = 60_000_000_000
"""What was held before the burst is the median of so long before it."""
LATELY_NS = 300_000_000_000
"""How noisy readings are is told by so long before the burst."""
LEAST_IDLE_NS = 120_000_000_000
"""After less idle time what was not given back may still be: no collector need have run."""
BoolArray = npt.NDArray[np.bool_]
RANK: dict[Answer, int] = {"fail": 0, "inconclusive": 1, "pass": 2}


@dataclass(frozen=True, slots=True)
class Windows:
    """When what went on, ns: (from, to)."""

    start_ns: int
    hold: tuple[int, int]
    """From the beginning to the end of the steady load, whatever lay between."""
    burst: tuple[int, int] | None = None
    idle: tuple[int, int] | None = None
    pauses: tuple[tuple[int, int], ...] = ()
    """Of the steady load: where a run was cut off, until it went on with it."""


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
    for since, until in windows.pauses:
        under_load &= ~((times > since) & (times < until))
    began = tuple(r for r in restarts if start < r <= end)
    # Who tells neither process nor uptime may have been another one before a pause.
    same = all(one.pid is not None or one.uptime_s is not None for one in readings)
    began = began if same else tuple(sorted((*began, *(until for _, until in windows.pauses))))
    grown = growth(times[under_load], values[under_load], began, confidence, windows.pauses if same else ())
    counts = np.searchsorted(ended_ns, times[under_load], side="right").astype(np.float64)
    limits = [one.values["memory_limit"] for one in readings if one.values.get("memory_limit", 0) > 0]
    return Held(
        probe=probe, instance=instance, gauge=gauge, times=times, values=values, failed=failed, restarts_ns=restarts,
        mixed=mixed, growth=grown,
        requests=None if grown is None else per_request(grown, times[under_load], counts),
        cleanup=None if mixed else _cleanup(times, values, collected, plain, windows, grown),
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
    times: IntArray, values: FloatArray, collected: BoolArray, plain: BoolArray, windows: Windows, grown: Growth | None
) -> Cleanup | None:
    """Before, during and after the burst; the growth before it, where one was shown."""
    if windows.burst is None or windows.idle is None:
        return None
    begin, over = windows.burst
    idle, end = windows.idle
    asked = collected & (times >= idle)
    rest = times >= max(idle, end - max((end - idle) // 4, 1))
    held = plain & (times >= windows.hold[0]) & (times < begin)
    whole = None if grown is None else grown.whole
    chosen = (
        held & (times >= begin - BEFORE_NS),
        (times >= begin) & (times <= over),
        asked if asked.any() else rest,
        held & (times >= begin - LATELY_NS),
    )
    before, during, after, lately = ((times[one], values[one]) for one in chosen)
    rate = whole.value / HOUR_NS if whole is not None and whole.rises else 0.0
    return cleanup(before, during, after, lately, rate)
