"""False alarms and power of the memory criteria: generated series of known growth, judged by the same rules.

A series is an hour with a reading every 5 s. It holds what a server's memory holds without a leak: a warm-up, noise in
which neighbours resemble each other (AR(1)), a collector's sawtooth, caches that fill and stop, gaps. A leak is added
on top. `whole` is all of it drawn at random together; the other rows take one part at a time, some harder than is
usual.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.found import Bound, Found, progress
from streamgauge.trend import MB, FloatArray, Growth, IntArray, answer_growth, answer_unbounded, growth

EVERY_S = 5.0
LIMIT = 100 * MB
FALSE_ALARMS, POWER = 0.05, 0.95
Part = Callable[[np.random.Generator, FloatArray], FloatArray]


@dataclass(frozen=True, slots=True)
class Kind:
    """Series of one kind. `leak`: bytes an hour on top; None of a bound: what it does is only told."""

    name: str
    parts: tuple[Part, ...]
    leak: float = 0.0
    gaps: bool = False
    alarms: float | None = FALSE_ALARMS
    """Most share of series in which growth or `unbounded` may fail."""
    power: float | None = None
    """Least share in which growth must fail."""


def warmup(most: float = 100.0) -> Part:
    """Fills towards a level: up to `most` MB with a time constant of 1 to 8 minutes."""

    def part(rng: np.random.Generator, s: FloatArray) -> FloatArray:
        return -rng.uniform(0, most) * MB * np.exp(-s / rng.uniform(60, 480))

    return part


def noise(sd: tuple[float, float] = (0.5, 10.0), ties_s: tuple[float, float] = (5.0, 180.0)) -> Part:
    """AR(1): standard deviation in MB and the time over which neighbours resemble each other, both drawn evenly in
    their logarithm."""

    def part(rng: np.random.Generator, s: FloatArray) -> FloatArray:
        size, tied = (np.exp(rng.uniform(*np.log(pair))) for pair in (sd, ties_s))
        return size * MB * ar1(rng, len(s), float(np.exp(-EVERY_S / tied)))

    return part


def ar1(rng: np.random.Generator, n: int, phi: float) -> FloatArray:
    """A stationary AR(1) series of variance 1."""
    drawn = rng.standard_normal(n) * np.sqrt(1 - phi**2)
    out = np.empty(n)
    last = rng.standard_normal()
    for i, one in enumerate(drawn):
        out[i] = last = phi * last + one
    return out


def sawtooth(size: tuple[float, float] = (5.0, 40.0), period_s: tuple[float, float] = (20.0, 480.0)) -> Part:
    """A collector: climbs by MB and falls at once, each cycle up to 20 % longer or shorter."""

    def part(rng: np.random.Generator, s: FloatArray) -> FloatArray:
        period = float(np.exp(rng.uniform(*np.log(period_s))))
        lengths = period * rng.uniform(0.8, 1.2, int(s[-1] / period / 0.8) + 3)
        edges = np.cumsum(lengths) - rng.uniform(0, period)
        cycle = np.searchsorted(edges, s, side="right")
        begun = np.where(cycle > 0, edges[np.maximum(cycle - 1, 0)], edges[0] - lengths[0])
        return rng.uniform(*size) * MB * (s - begun) / (edges[cycle] - begun)

    return part


def cache(until_min: tuple[float, float]) -> Part:
    """Fills by 20 to 300 MB at an even pace until a minute within `until_min`, and stops."""

    def part(rng: np.random.Generator, s: FloatArray) -> FloatArray:
        return rng.uniform(20, 300) * MB * np.minimum(s / (60 * rng.uniform(*until_min)), 1.0)

    return part


WHOLE = (warmup(), noise(), sawtooth())
KINDS = (
    Kind("whole: warm-up, noise, sawtooth", WHOLE),
    Kind("whole, a tenth of the readings missing and one gap of 5 min", WHOLE, gaps=True),
    Kind("noise alone", (noise(),)),
    Kind("noise of 0.5 MB, tied over 5 s", (noise((0.5, 0.501), (5.0, 5.01)),)),
    Kind("noise of 12 MB, tied over 5 min", (noise((12.0, 12.01), (300.0, 301.0)),)),
    Kind("warm-up and noise", (warmup(), noise())),
    Kind("sawtooth and noise of up to 2 MB", (noise((0.1, 2.0)), sawtooth())),
    Kind("sawtooth of 80 MB every 5 to 10 min", (noise((0.1, 2.0)), sawtooth((80.0, 80.1), (300.0, 600.0)))),
    Kind("cache full after 3 to 15 min", (noise(), cache((3.0, 15.0)))),
    Kind("cache full after 15 to 30 min", (noise(), cache((15.0, 30.0)))),
    Kind("cache full after 30 to 40 min", (noise(), cache((30.0, 40.0))), alarms=None),
    Kind("whole and a leak of 40 MB/h", WHOLE, leak=40 * MB, alarms=None),
    Kind("whole and a leak of 100 MB/h", WHOLE, leak=100 * MB, alarms=None),
    Kind("whole and a leak of 200 MB/h", WHOLE, leak=200 * MB, alarms=None, power=POWER),
    Kind("whole and a leak of 400 MB/h", WHOLE, leak=400 * MB, alarms=None, power=POWER),
)


def generated(kind: Kind, rng: np.random.Generator, hours: float = 1.0) -> tuple[IntArray, FloatArray]:
    """(times in ns, bytes) of one series."""
    s = np.arange(0.0, hours * 3600 + 1, EVERY_S)
    held = 300 * MB + kind.leak * s / 3600
    for part in kind.parts:
        held = held + part(rng, s)
    keep = np.ones(len(s), dtype=bool)
    if kind.gaps:
        keep = rng.random(len(s)) > 0.1
        gap = rng.uniform(0, s[-1] - 300)
        keep &= (s < gap) | (s > gap + 300)
    return (s[keep] * 1e9).astype(np.int64), held[keep]


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--series", type=int, default=1_000, help="of each kind")
    parser.add_argument("--hours", type=float, default=1.0, help="of each series")
    parser.add_argument("--kinds", nargs="+", type=int, help="only these rows, from 0")
    parser.add_argument("--seed", type=int, default=1, help="of all series")


def measure(asked: argparse.Namespace) -> Found:
    rows, bounds = [], []
    for number, kind in enumerate(KINDS):
        if asked.kinds and number not in asked.kinds:
            continue
        progress(kind.name)
        rng = np.random.default_rng([asked.seed, number])
        found = [growth(*generated(kind, rng, asked.hours)) for _ in range(asked.series)]
        told = judged(kind, [one for one in found if one is not None])
        rows.append(told.row())
        bounds += told.bounds()
    columns = (
        "series", "growth < 100 MB/h: pass", "open", "fail", "not unbounded: pass", "open", "fail", "either fails",
        "lower bound right", "upper bound right", "half width MB/h, median",
    )  # fmt: skip
    notes = (
        f"{asked.series} series of each kind, {asked.hours:g} h, a reading every {EVERY_S:g} s. A bound is right where "
        "the leak that was put in lies on its side; each is stated at 95 %.",
    )
    return Found("Memory: false alarms and power", columns, rows, tuple(bounds), notes)


@dataclass(frozen=True, slots=True)
class Told:
    """How the series of one kind were judged. Shares."""

    kind: Kind
    growth: Counter[str]
    unbounded: Counter[str]
    alarms: float
    low_right: float
    high_right: float
    width: float

    def row(self) -> tuple[str, ...]:
        n = sum(self.growth.values())
        words = ("pass", "inconclusive", "fail")
        shares = [f"{counts[word] / n:.1%}" for counts in (self.growth, self.unbounded) for word in words]
        right = f"{self.low_right:.1%}", f"{self.high_right:.1%}"
        return (self.kind.name, *shares, f"{self.alarms:.1%}", *right, f"{self.width / MB:.1f}")

    def bounds(self) -> list[Bound]:
        out = []
        if self.kind.alarms is not None:
            words = f"{self.kind.name}: {self.alarms:.1%} false alarms, at most {self.kind.alarms:.0%}"
            out.append(Bound(words, self.alarms <= self.kind.alarms))
        if self.kind.power is not None:
            power = self.growth["fail"] / sum(self.growth.values())
            words = f"{self.kind.name}: found in {power:.1%}, at least {self.kind.power:.0%}"
            out.append(Bound(words, power >= self.kind.power))
        return out


def judged(kind: Kind, found: list[Growth]) -> Told:
    """What the rules say of each series, summed up."""
    of_growth = [answer_growth(one, LIMIT) for one in found]
    of_line = [answer_unbounded(one, LIMIT) for one in found]
    slopes = [one.whole for one in found if one.whole is not None]
    return Told(
        kind,
        Counter(of_growth),
        Counter(of_line),
        float(np.mean(["fail" in pair for pair in zip(of_growth, of_line, strict=True)])),
        float(np.mean([one.low <= kind.leak for one in slopes])),
        float(np.mean([one.high >= kind.leak for one in slopes])),
        float(np.median([one.high - one.value for one in slopes])),
    )
