"""The server's memory over time, as the probes read it: a course for each instance, thinned out so that extremes stay.

Rules: a picture's data, bounded however long the run; what grows and by how much is for `trend` to say. Failed readings
are gaps and nothing is put in their place. Readings after a collection that was asked for lie lower than the others:
they are snapshots, and no part of the line unless most are such.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from streamgauge.bins import FloatArray
from streamgauge.held import restarts_of
from streamgauge.sample import Reading
from streamgauge.trend import MB

GAUGES = ("heap_used", "rss")
LEAST_READINGS = 5
"""Fewer are no course."""
MOST_COURSES = 40
MOST_POINTS = 4_800
"""Of all courses together; one has from 60 to 600 a gauge."""
GAP = 3.0
"""So many times the usual time between two readings is a gap."""


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """One instance's memory. MB are 10^6 bytes, times are s from the run's start."""

    probe: str
    instance: str
    readings: int
    gauges: dict[str, list[tuple[float, float]]]
    """`heap_used`, `rss`: (s, MB) in order of time; of many readings each stretch keeps its extremes."""
    snapshots: list[tuple[float, float]]
    """(s, MB) of the detailed readings, by the first gauge."""
    gaps_s: list[tuple[float, float]]
    """From and to, where readings are missing."""
    restarts_s: list[float]
    """When another process was seen to answer; none are told where several do by turns."""
    limit_mb: float | None
    """The memory limit that the server tells."""


def courses(readings: Sequence[Reading], *, start_ns: int) -> list[Course]:
    """One for each instance that gave memory, those that rose most first. Readings in order of time."""
    found: dict[tuple[str, str], list[Reading]] = {}
    for one in readings:
        if one.error is None and any(gauge in one.values for gauge in GAUGES):
            found.setdefault((one.probe, one.instance), []).append(one)
    enough = [item for item in found.items() if len(item[1]) >= LEAST_READINGS]
    kept = sorted(enough, key=lambda item: -_rise(item[1]))[:MOST_COURSES]
    lines = max(1, sum(sum(gauge in own[0].values for gauge in GAUGES) for _, own in kept))
    most = min(600, max(60, MOST_POINTS // lines))
    return [_course(probe, instance, own, start_ns, most) for (probe, instance), own in kept]


def _rise(readings: Sequence[Reading]) -> float:
    """How much higher the last tenth is than the first one, bytes."""
    gauge = next(gauge for gauge in GAUGES if any(gauge in one.values for one in readings))
    values = np.array([one.values[gauge] for one in readings if gauge in one.values])
    tenth = max(1, len(values) // 10)
    return float(np.median(values[-tenth:]) - np.median(values[:tenth]))


def _course(probe: str, instance: str, readings: list[Reading], start_ns: int, most: int) -> Course:
    gauges: dict[str, list[tuple[float, float]]] = {}
    plain = [one for one in readings if not one.collected]
    line = plain if 2 * len(plain) >= len(readings) else readings
    for gauge in GAUGES:
        having = [one for one in line if gauge in one.values]
        if having:
            at = (np.array([one.at_ns for one in having], dtype=np.int64) - start_ns) / 1e9
            gauges[gauge] = thinned(at, np.array([one.values[gauge] for one in having]) / MB, most)
    first = next(iter(gauges))
    restarts, mixed = restarts_of(readings)
    limits = [one.values["memory_limit"] for one in readings if one.values.get("memory_limit", 0) > 0]
    return Course(
        probe=probe,
        instance=instance,
        readings=len(readings),
        gauges=gauges,
        snapshots=[
            (round((one.at_ns - start_ns) / 1e9, 1), round(one.values[first] / MB, 3))
            for one in readings
            if one.snapshot and first in one.values
        ][:most],
        gaps_s=_gaps((np.array([one.at_ns for one in readings], dtype=np.int64) - start_ns) / 1e9),
        restarts_s=[] if mixed else [round((at - start_ns) / 1e9, 1) for at in restarts[:most]],
        limit_mb=round(limits[-1] / MB, 3) if limits else None,
    )


def thinned(at: FloatArray, values: FloatArray, most: int) -> list[tuple[float, float]]:
    """At most `most` of the points: of each of equal stretches of time its first, last, lowest and highest."""
    keep = np.arange(len(at))
    if len(at) > most:
        parts = max(1, most // 4)
        where = np.minimum(((at - at[0]) / max(at[-1] - at[0], 1e-9) * parts).astype(np.int64), parts - 1)
        chosen = set()
        for part in np.unique(where).tolist():
            own = np.flatnonzero(where == part)
            chosen |= {own[0], own[-1], own[np.argmin(values[own])], own[np.argmax(values[own])]}
        keep = np.array(sorted(chosen))
    return [(round(float(at[i]), 1), round(float(values[i]), 3)) for i in keep]


def _gaps(at_s: FloatArray) -> list[tuple[float, float]]:
    """Where the next reading came much later than usual; the longest ones, in order of time."""
    apart = np.diff(at_s)
    if not len(apart):
        return []
    wide = np.flatnonzero(apart > GAP * max(float(np.median(apart)), 1e-9))
    wide = np.sort(wide[np.argsort(-apart[wide], kind="stable")][:100])
    return [(round(float(at_s[i]), 1), round(float(at_s[i + 1]), 1)) for i in wide]
