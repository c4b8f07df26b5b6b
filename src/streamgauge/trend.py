"""Does one instance's memory grow? A series of (time, bytes) to growth per hour, plateau or line. Pure.

Rules, fixed before any data is seen:
- A restart begins a new series. Growth is judged on the longest stretch between restarts; what was left out is told.
- The warm-up is the larger of 20 % of the stretch and what MSER-5 says of it, at most half. MSER-5 looks at what
  departs from the line through the stretch's own second half: a steady leak is no warm-up, a curve that bends is.
- What is left goes into up to 24 bins of equal time, each its median. Where a collector's sawtooth dominates, each its
  minimum: what is left after a collection is what is held, and every bin is long enough to hold one.
- Growth is the Theil-Sen slope of the bins with a one-sided 95 % bound on each side (see `slope`).
- A line needs more than a rise: the second half alone must be shown to rise too, and both by at least 10 MB/h. What
  rose and then slowed is a plateau.
- Where the load was broken off and taken up again (a run that went on), each part has its own warm-up and its own
  level, and all have one slope: nothing is assumed of what happened in between.
- Less than 20 minutes after the warm-up decide nothing: what is slower than the run cannot be told from growth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from streamgauge.slope import CONFIDENCE, LEAST_POINTS, Slope, slope

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Series = tuple[IntArray, FloatArray]
"""Times and values, in order."""
Shape = Literal["flat", "plateau", "line", "unclear"]
Answer = Literal["pass", "fail", "inconclusive"]

MB = 1e6
HOUR_NS = 3_600_000_000_000
LEAST_WARMUP, MOST_WARMUP = 0.2, 0.5
BATCH = 5
"""Readings averaged before MSER looks at them: MSER-5 (White, Cobb & Spratt 2000)."""
MOST_BINS, LEAST_BINS = 24, 12
LEAST_READINGS = 3
"""A bin of fewer readings is left out."""
SAWTOOTH = 2.0
"""The largest falls are so many times the largest rises where a collector is at work."""
GRAIN = 1 * MB
"""Memory is taken and given back in lumps of about this size (allocator arenas, a collector's pages)."""
MATTERS = 10 * MB
"""Growth an hour below which no line is called unbounded."""
NORMAL_95 = 1.645
"""One-sided 95 % quantile of the normal distribution."""
LEAST_NS = HOUR_NS // 3
LONGEST_H = 48.0
"""Lengths above this are not advised."""


@dataclass(frozen=True, slots=True)
class Growth:
    """What one instance's series says. Bytes, bytes an hour, ns of the readings' clock."""

    start_ns: int
    warm_ns: int
    """Where the warm-up ends: what is judged runs from here to `end_ns`."""
    end_ns: int
    restarts: int
    """Restarts seen in the whole series, the stretches outside the longest one not judged."""
    readings: int
    """In the judged part."""
    by: Literal["medians", "minima"]
    bins: tuple[tuple[int, float], ...]
    """Middle and value of each."""
    whole: Slope | None
    """Over the judged part; None of too few bins."""
    late: Slope | None
    """Over its second half alone."""
    loaded_ns: int
    """Length of the stretch, warm-up included, without what lay between its parts."""
    judged_ns: int
    """Length of what is judged."""
    parts: tuple[int, ...]
    """To which part of the load each bin belongs; one where it was not broken off."""

    @property
    def long_enough(self) -> bool:
        """Whether a verdict may rest on it."""
        return self.whole is not None and self.late is not None and self.judged_ns >= LEAST_NS

    def shape(self, limit: float) -> Shape:
        """Whether it is a line, a plateau, flat, or cannot be told. limit: growth an hour that is still allowed."""
        if not self.long_enough:
            return "unclear"
        assert self.whole is not None
        assert self.late is not None
        rising = self.whole.rises and self.whole.value >= MATTERS
        if rising and self.late.rises and self.late.value >= MATTERS:
            return "line"
        if rising and self.late.high < self.whole.value:
            return "plateau"
        return "flat" if not rising and self.late.high < limit else "unclear"


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of the load: its readings after its own warm-up."""

    start: int
    warm: int
    end: int
    at: IntArray
    held: FloatArray

    @property
    def judged(self) -> int:
        return self.end - self.warm

    def since(self, warm: int) -> _Part:
        """What is left of it from a time on."""
        late = self.at >= warm
        return _Part(self.start, warm, self.end, self.at[late], self.held[late])


def growth(
    times_ns: IntArray,
    values: FloatArray,
    restarts_ns: tuple[int, ...] = (),
    confidence: float = CONFIDENCE,
    pauses: tuple[tuple[int, int], ...] = (),
) -> Growth | None:
    """Growth of a series in order of time; None of an empty one. restarts_ns: when the process was seen to be new.
    pauses: (from, to) of no load between two parts of it."""
    if not len(times_ns):
        return None
    first, last = _longest(times_ns, restarts_ns)
    parts = _parts(times_ns[first:last], values[first:last], pauses)
    most = max(parts, key=lambda part: part.judged)
    falls = collections_seen(most.held)
    total = sum(part.judged for part in parts)
    falls = None if falls is None else falls * total // max(most.judged, 1)
    bins = MOST_BINS if falls is None else min(MOST_BINS, falls // 2)
    by: Literal["medians", "minima"] = "medians" if falls is None or bins < LEAST_BINS else "minima"
    bins = MOST_BINS if by == "medians" else bins
    whole, points, which = _over(parts, bins, by, confidence)
    late, _, _ = _over(_second_half(parts), max(LEAST_BINS, bins // 2), by, confidence)
    return Growth(
        start_ns=parts[0].start, warm_ns=parts[0].warm, end_ns=parts[-1].end, restarts=len(restarts_ns),
        readings=sum(len(part.at) for part in parts), by=by, bins=points, whole=whole, late=late,
        loaded_ns=sum(part.end - part.start for part in parts), judged_ns=total, parts=which,
    )  # fmt: skip


def _parts(at: IntArray, held: FloatArray, pauses: tuple[tuple[int, int], ...]) -> list[_Part]:
    """The parts between pauses, each after its warm-up. One too short for bins is left out, unless all are."""
    edges = [0, *(int(i) for i in np.searchsorted(at, [until for _, until in pauses])), len(at)]
    parts = []
    for a, b in pairwise(edges):
        if b > a:
            start, end = int(at[a]), int(at[b - 1])
            warm = start + round(warmup_share(at[a:b], held[a:b]) * (end - start))
            parts.append(_Part(start, start, end, at[a:b], held[a:b]).since(warm))
    long = [part for part in parts if len(part.at) >= LEAST_READINGS * LEAST_POINTS]
    return long or [max(parts, key=lambda part: part.judged)]


def _second_half(parts: list[_Part]) -> list[_Part]:
    """What is judged, less the first half of its time."""
    left, late = sum(part.judged for part in parts) // 2, []
    for part in parts:
        if part.judged > left or part is parts[-1]:
            late.append(part.since(part.warm + left))
        left = max(0, left - part.judged)
    return late


def _longest(times_ns: IntArray, restarts_ns: tuple[int, ...]) -> tuple[int, int]:
    """First and last index (exclusive) of the longest stretch between restarts, by time."""
    edges = [0, *(int(i) for i in np.searchsorted(times_ns, np.unique(restarts_ns))), len(times_ns)]
    stretches = [(a, b) for a, b in pairwise(edges) if b > a]
    return max(stretches, key=lambda one: times_ns[one[1] - 1] - times_ns[one[0]])


def warmup_share(times_ns: IntArray, values: FloatArray) -> float:
    """The share of a stretch that is warm-up: the larger of 20 % and MSER-5's, at most half."""
    batches = len(values) // BATCH
    if batches < 2 * LEAST_POINTS:
        return LEAST_WARMUP
    at = (times_ns[: batches * BATCH] - times_ns[0]).reshape(batches, BATCH).mean(axis=1)
    means = values[: batches * BATCH].reshape(batches, BATCH).mean(axis=1)
    half = batches // 2
    steep, level = np.polyfit(at[half:], means[half:], 1)
    departs = means - (steep * at + level)
    left = np.arange(batches, 0, -1)
    sums, squares = np.cumsum(departs[::-1])[::-1], np.cumsum(departs[::-1] ** 2)[::-1]
    statistic = (squares - sums**2 / left) / left**2
    cut = int(np.argmin(statistic[: half + 1]))
    share = float(at[cut] / (times_ns[-1] - times_ns[0])) if cut else 0.0
    return min(MOST_WARMUP, max(LEAST_WARMUP, share))


def collections_seen(values: FloatArray) -> int | None:
    """How many falls of a sawtooth there are; None where none dominates.

    A collector climbs slowly and falls at once, so its largest falls outdo the largest rises; noise knows no direction.
    """
    steps = np.diff(values)
    if len(steps) < 2 * LEAST_POINTS:
        return None
    few = max(3, len(steps) // 100)
    ordered = np.sort(steps)
    rises, falls = float(ordered[-few:].sum()), -float(ordered[:few].sum())
    if falls <= max(SAWTOOTH * rises, 0.0):
        return None
    return int((steps < -falls / few / 2).sum())


def _over(
    parts: list[_Part], bins: int, by: Literal["medians", "minima"], confidence: float
) -> tuple[Slope | None, tuple[tuple[int, float], ...], tuple[int, ...]]:
    """The slope an hour over `bins` equal parts of the time; the middles and values of these; whose each one is."""
    total = sum(part.judged for part in parts)
    points: list[tuple[int, float]] = []
    which: list[int] = []
    places: list[int] = []
    if sum(len(part.at) for part in parts) < LEAST_READINGS * LEAST_POINTS or total <= 0:
        return None, (), ()
    take = np.median if by == "medians" else np.min
    for number, part in enumerate(parts):
        mine = min(max(1, round(bins * part.judged / total)), len(part.at) // LEAST_READINGS)
        if not mine or part.judged <= 0:
            continue
        place = np.minimum((part.at - part.warm) * mine // part.judged, mine - 1)
        kept = [k for k in range(mine) if (place == k).sum() >= LEAST_READINGS]
        points += [(int(np.mean(part.at[place == k])), float(take(part.held[place == k]))) for k in kept]
        places += kept
        which += [number] * len(kept)
    if len(points) < LEAST_POINTS:
        return None, tuple(points), tuple(which)
    hours = np.array([(t - parts[0].warm) / HOUR_NS for t, _ in points])
    found = slope(
        hours, np.array([level for _, level in points]), places=np.array(places, dtype=np.int64),
        parts=np.array(which, dtype=np.int64), grain=GRAIN, confidence=confidence,
    )  # fmt: skip
    return found, tuple(points), tuple(which)


# What is asked of it


def answer_growth(found: Growth, limit: float) -> Answer:
    """Whether growth stays below `limit` bytes an hour: decided only where the bound lies on one side of it."""
    if not found.long_enough or found.whole is None:
        return "inconclusive"
    if found.whole.low > limit:
        return "fail"
    return "pass" if found.whole.high < limit else "inconclusive"


def answer_unbounded(found: Growth, limit: float) -> Answer:
    """Whether there is no unbounded growth. limit: growth an hour that is still allowed."""
    shape = found.shape(limit)
    return "fail" if shape == "line" else "inconclusive" if shape == "unclear" else "pass"


def hours_needed(found: Growth, limit: float) -> float | None:
    """How long a run (warm-up included) would decide whether growth is below `limit`, were value and noise to stay.

    The error of a slope falls with the power 1.5 of the time it is seen over. Wanted is a bound half as far from the
    value as the limit is, so that a run of that length decides in about 95 of 100. None: over two days, or too little
    was seen to tell.
    """
    if found.whole is None:
        return None
    gap = abs(limit - found.whole.value)
    seen_h = found.judged_ns / HOUR_NS
    wanted = seen_h * (2 * (found.whole.high - found.whole.value) / gap) ** (2 / 3) if gap else math.inf
    whole = max(wanted, LEAST_NS / HOUR_NS) / (1 - LEAST_WARMUP)
    return whole if whole <= LONGEST_H else None


def per_request(found: Growth, times_ns: IntArray, ended: FloatArray) -> Slope | None:
    """Growth in bytes per ended request; None where none ended. ended: how many had ended at each of `times_ns`."""
    at = np.array([t for t, _ in found.bins], dtype=np.float64)
    levels = np.array([level for _, level in found.bins])
    if len(at) < LEAST_POINTS or not len(times_ns):
        return None
    count = np.interp(at, times_ns.astype(np.float64), ended)
    return slope(count, levels, parts=np.array(found.parts, dtype=np.int64), grain=GRAIN)


@dataclass(frozen=True, slots=True)
class Cleanup:
    """What a burst raised and what came back. Bytes."""

    before: float
    peak: float
    after: float
    noise: float
    """How far readings before the burst lay from the line through them, as a standard deviation."""
    readings: int
    """During the burst."""
    grown: float = 0.0
    """What of the peak the growth under the load before explains, had there been no burst. Taken off the peak."""
    grown_after: float = 0.0
    """What of the level after it would be that growth, did it go on without load."""

    @property
    def hidden(self) -> float:
        """A rise up to this cannot be told from noise: 6 times the noise, at least one grain."""
        return max(6 * self.noise, GRAIN)

    @property
    def raised(self) -> bool:
        """Whether the burst itself raised anything."""
        return self.peak - self.grown - self.before > self.hidden

    @property
    def flat(self) -> bool:
        """Whether readings during and after the burst show the level before it, each as it was read.

        That is an answer: no more is held than before that would matter, so whatever rose unseen came back. Few
        readings, or such noise that more could have stayed, show nothing.
        """
        told = self.readings >= LEAST_READINGS and self.stayed <= MATTERS
        return told and max(self.peak, self.after) - self.before <= self.hidden

    @property
    def stayed(self) -> float:
        """What is held more after the burst than before is surely (95 %) no more than this.

        Both levels are medians of readings that may all resemble each other, so each is taken to be as uncertain as
        one of them. With a burst an hour, less than MATTERS is growth that would not be called unbounded either.
        """
        return max(self.after - self.before, 0.0) + NORMAL_95 * math.sqrt(2) * self.noise

    @property
    def efficiency(self) -> float | None:
        """(peak - after) / (peak - before), the growth taken off the peak; None where the burst raised nothing."""
        return self._came_back(self.after)

    @property
    def at_most(self) -> float | None:
        """The same, were the growth to have gone on without load: then a part of what is held after it is not the
        burst's. As `efficiency` where there is no growth."""
        return self._came_back(self.after - self.grown_after)

    def _came_back(self, after: float) -> float | None:
        peak = self.peak - self.grown
        return (peak - after) / (peak - self.before) if self.raised else None


def cleanup(before: Series, during: Series, after: Series, lately: Series, bytes_per_ns: float = 0.0) -> Cleanup | None:
    """From readings just before the burst, of all of the burst, and of the end of the idle time after it; None where
    any is missing. lately: readings of some minutes before the burst, which tell how far they lie from each other.
    bytes_per_ns: growth that was shown before the burst."""
    if not (len(before[0]) and len(during[0]) and len(after[0])):
        return None
    middle, top = float(before[0].mean()), int(during[1].argmax())
    return Cleanup(
        before=float(np.median(before[1])), peak=float(during[1][top]), after=float(np.median(after[1])),
        noise=_noise(*lately), readings=len(during[0]),
        grown=bytes_per_ns * (float(during[0][top]) - middle),
        grown_after=bytes_per_ns * (float(after[0].mean()) - middle),
    )  # fmt: skip


def _noise(at: IntArray, held: FloatArray) -> float:
    """How far readings lie from the line through them: 1.4826 times the median distance, a standard deviation."""
    if len(at) < LEAST_READINGS or at[0] == at[-1]:
        return 0.0
    from scipy.stats import theilslopes  # half a second to import: only who judges memory waits for it

    line = theilslopes(held, (at - at[0]) / HOUR_NS)
    rest = held - line.slope * (at - at[0]) / HOUR_NS
    return 1.4826 * float(np.median(np.abs(rest - np.median(rest))))


def hours_until(level: float, most: float, rise: Slope) -> tuple[float, float] | None:
    """(expected, earliest) hours until `level` has grown to `most`; None where no rise is shown."""
    if not rise.rises or most <= level:
        return None
    return (most - level) / rise.value, (most - level) / rise.high
