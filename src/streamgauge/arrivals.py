"""When requests come due in open loop, whatever the service does: by a rate and its course, or as recorded. Pure.

Rules: due times are a function of elapsed time and a seed, nothing else. A rate runs straight between the points of its
course; its integral is how many arrivals are expected. Arrival k is due where the integral passes k (constant), or
where it passes the k-th sum of exponential gaps of mean 1 (poisson: by that change of time a unit Poisson process
becomes one of this rate; Kingman, Poisson Processes, 1993, 2.3).
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Literal

import msgspec

S = 1_000_000_000
Spacing = Literal["constant", "poisson"]
_NEVER = 1e-9
"""A level rate below this (one arrival in 30 years) is none."""


class Rate(msgspec.Struct, frozen=True, tag="rate"):
    """`per_s` arrivals a second to begin with; at most `cap` streams open at once, the rest are shed."""

    per_s: float
    cap: int
    arrivals: Spacing = "constant"
    course: tuple[tuple[int, float], ...] = ()
    """(ns after the start, arrivals a second): straight from one to the next, after the last one level."""

    @property
    def most(self) -> int:
        """Streams open at once, at most."""
        return self.cap

    @property
    def highest(self) -> float:
        """Most arrivals a second."""
        return max(self.per_s, *(per_s for _, per_s in self.course), 0.0)

    @property
    def words(self) -> str:
        """As a person says it: `rising from 1 to 100 requests/s over 60 s`."""
        match self.course:
            case ():
                said = f"{self.per_s:g} requests/s"
            case ((over, end),):
                way = "rising" if end > self.per_s else "falling"
                said = f"{way} from {self.per_s:g} to {end:g} requests/s over {over / S:g} s"
            case ((at, _), (_, peak), (until, _), _):
                held = f"{at / S:g} s for {(until - at) / S:g} s"
                said = f"{self.per_s:g} requests/s with a spike to {peak:g} requests/s after {held}"
            case _:
                said = f"from {self.per_s:g} requests/s, at most {self.highest:g} requests/s"
        return f"{said}, poisson" if self.arrivals == "poisson" else said

    @property
    def total(self) -> float:
        """Arrivals there ever are: without end, unless the rate ends at 0."""
        if not self.course or self.course[-1][1] >= _NEVER:
            return math.inf
        return self.expected(self.course[-1][0])

    def scaled(self, share: float) -> Rate:
        """The same course at `share` of the rate."""
        course = tuple((at, per_s * share) for at, per_s in self.course)
        return msgspec.structs.replace(self, per_s=self.per_s * share, course=course)

    def expected(self, elapsed_ns: int) -> float:
        """Arrivals expected until `elapsed_ns`: the integral of the rate."""
        total = 0.0
        for begin, start, end, stop in self._stretches():
            if elapsed_ns <= begin:
                break
            at = min(elapsed_ns, end)
            now = start if end == math.inf else start + (stop - start) * (at - begin) / (end - begin)
            total += (start + now) / 2 * (at - begin) / S
        return total

    def offsets(self, seed: int) -> Iterator[int]:
        """Due times in ns after the start; without end, unless the rate ends at 0."""
        return self.passes(_sums(seed) if self.arrivals == "poisson" else map(float, count()))

    def passes(self, counts: Iterable[float]) -> Iterator[int]:
        """When (ns after the start) the integral of the rate passes each of `counts`, which ascend."""
        stretches = self._stretches()
        begin, start, end, stop = next(stretches)
        before = 0.0
        for n in counts:
            # A stretch whose arrivals are all made is left behind, and so is one without any.
            while n - before >= (area := _area(begin, start, end, stop)):
                following = next(stretches, None)
                if following is None:
                    return
                before += area
                begin, start, end, stop = following
            yield begin + round(_reach(n - before, start, stop, (end - begin) / S) * S)

    def _stretches(self) -> Iterator[tuple[int, float, float, float]]:
        """(from ns, rate there, until ns, rate there); the last one has no end. Jumps have no stretch."""
        at, per_s = 0, self.per_s
        for until, then in self.course:
            if until > at:
                yield at, per_s, until, then
            at, per_s = until, then
        yield at, per_s, math.inf, per_s


class Trace(msgspec.Struct, frozen=True, tag="trace"):
    """Arrivals as they were recorded: `times` in ns after the first, ascending."""

    times: tuple[int, ...]
    cap: int
    name: str
    """The file's."""

    @property
    def most(self) -> int:
        """Streams open at once, at most."""
        return self.cap

    @property
    def words(self) -> str:
        """As a person says it: `1,234 recorded arrivals over 60 s (arrivals.csv)`."""
        return f"{len(self.times):,} recorded arrivals over {self.times[-1] / S:.4g} s ({self.name})"

    @property
    def total(self) -> float:
        """Arrivals there ever are."""
        return len(self.times)

    def scaled(self, share: float) -> Trace:
        """Of the arrivals, `share` (at most 1), evenly taken."""
        kept = tuple(at for k, at in enumerate(self.times) if math.floor((k + 1) * share) > math.floor(k * share))
        return msgspec.structs.replace(self, times=kept)

    def expected(self, elapsed_ns: int) -> float:
        """Arrivals before `elapsed_ns`."""
        return bisect_left(self.times, elapsed_ns)

    def offsets(self, seed: int) -> Iterator[int]:
        """The times as they are."""
        return iter(self.times)


Arrivals = Rate | Trace


def ramp(start: float, end: float, over_ns: int, cap: int, arrivals: Spacing = "constant") -> Rate:
    """From `start` to `end` arrivals a second over `over_ns`, then level."""
    return Rate(start, cap, arrivals, ((over_ns, end),))


def spike(base: float, peak: float, at_ns: int, for_ns: int, cap: int, arrivals: Spacing = "constant") -> Rate:
    """`base` arrivals a second, but `peak` from `at_ns` on for `for_ns`."""
    until = at_ns + for_ns
    return Rate(base, cap, arrivals, ((at_ns, base), (at_ns, peak), (until, peak), (until, base)))


def most_within(load: Arrivals, width_ns: int, until_ns: int | None = None) -> float:
    """Arrivals expected in the densest `width_ns` before `until_ns`: streams open at once if each takes so long."""
    if isinstance(load, Trace):
        times, first, most = load.times, 0, 0
        for last in range(len(times) if until_ns is None else bisect_left(times, until_ns)):
            while times[last] - times[first] >= width_ns:
                first += 1
            most = max(most, last + 1 - first)
        return most
    turns = [0, *(at for at, _ in load.course)]
    ends = [*turns, *(at + width_ns for at in turns)]
    if until_ns is not None:
        ends = [min(end, until_ns) for end in (*ends, until_ns)]
    # Between two turns the window's content runs along a parabola; over these courses its top lies at an end.
    return max(load.expected(end) - load.expected(end - width_ns) for end in ends)


def seconds_for(load: Arrivals, n: float) -> float:
    """Seconds until `n` arrivals were due, or all there ever are."""
    if isinstance(load, Trace):
        return load.times[min(math.ceil(n), len(load.times)) - 1] / S if n > 0 else 0.0
    at = next(load.passes([n]), None)
    return (load.course[-1][0] if at is None else at) / S


def _sums(seed: int) -> Iterator[float]:
    """Sums of exponential gaps of mean 1."""
    draw = random.Random(seed)
    at = 0.0
    while True:
        at += draw.expovariate(1.0)
        yield at


def _area(begin: int, start: float, end: float, stop: float) -> float:
    """Arrivals expected in a stretch."""
    if end == math.inf:
        return math.inf if start >= _NEVER else 0.0
    return (start + stop) / 2 * (end - begin) / S


def _reach(n: float, start: float, stop: float, length_s: float) -> float:
    """Seconds into a stretch until its integral is `n`: start u + (stop - start) / length u^2 / 2 = n, solved for u."""
    if n == 0 or start == stop:
        return n / start if n else 0.0
    slope = (stop - start) / length_s
    return 2 * n / (start + math.sqrt(max(start * start + 2 * slope * n, 0.0)))
