"""Warning signs within a run: how often a steady service alarms, and how often a drift is told, over generated runs.

A run has 150, 400 or 2,000 requests. First tokens and pace are log-normal, each request's a little like the one before
(AR(1), 0 to 0.95); errors come by chance and, in half of the runs, in a bout. Any of the three warnings is an alarm.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.signal import lfilter

from bench.found import Bound, Found, progress
from streamgauge.columns import FloatArray
from streamgauge.findings.signs import drift

SIZES, TIES, ERRORS = (150, 400, 2_000), (0.0, 0.5, 0.8, 0.95), (0.001, 0.01, 0.05)
SPREAD = 0.35
FALSE_ALARMS, POWER = 0.05, 0.8
SECONDS = 120.0
RISING = ((0.0, 0.5), (0.5, 0.5), (0.8, 1.0), (0.95, 1.0))
"""(dependence, rise over the run): where requests hang together long, so few of them tell little."""


def options(parser: argparse.ArgumentParser) -> None:
    """How many runs."""
    parser.add_argument("--runs", type=int, default=1_000, help="steady runs")


def measure(asked: argparse.Namespace) -> Found:
    """Both shares."""
    alarms = dict.fromkeys(SIZES, 0)
    many = dict.fromkeys(SIZES, 0)
    for seed in range(asked.runs):
        rng = np.random.default_rng(seed)
        size = int(rng.choice(SIZES))
        many[size] += 1
        alarms[size] += warns(rng, size)
        if seed % 100 == 99:
            progress(f"{seed + 1} of {asked.runs} steady runs")
    told = {
        (tie, by): float(np.mean([rises(np.random.default_rng(seed), 400, tie, by) for seed in range(asked.runs // 5)]))
        for tie, by in RISING
    }
    power, share = told[RISING[0]], sum(alarms.values()) / asked.runs
    rows = [(f"steady, {n:,} requests", f"{many[n]:,}", f"{alarms[n] / max(many[n], 1):.1%}") for n in SIZES]
    rows.append(("all steady ones", f"{asked.runs:,}", f"{share:.1%}"))
    rows += [
        (f"400 requests, dependence {tie:g}, TTFT rises by {by:.0%}", f"{asked.runs // 5:,}", f"{share_told:.1%}")
        for (tie, by), share_told in told.items()
    ]
    bounds = (
        Bound(f"{share:.1%} of the steady runs warn, at most {FALSE_ALARMS:.0%} wanted", share <= FALSE_ALARMS),
        Bound(f"{power:.1%} of the first rising ones are told, at least {POWER:.0%} wanted", power >= POWER),
    )
    return Found("Warning signs within a run", ("runs", "how many", "warning told"), rows, bounds)


def times(rng: np.random.Generator, size: int, tie: float) -> FloatArray:
    """A steady service's times in ms."""
    steps = rng.normal(size=size) * np.sqrt(1 - tie**2)
    steps[0] = rng.normal()
    found: FloatArray = 300 * np.exp(SPREAD * lfilter([1.0], [1.0, -tie], steps))
    return found


def failed(rng: np.random.Generator, size: int) -> FloatArray:
    """Which requests of a steady service fail: 1.0."""
    found = (rng.random(size) < rng.choice(ERRORS)).astype(np.float64)
    if rng.random() < 0.5:
        begin, length = rng.integers(0, size), int(rng.integers(3, max(4, size // 20)))
        bout = found[begin : begin + length]
        bout[:] = np.maximum(bout, rng.random(len(bout)) < 0.5)
    return found


def warns(rng: np.random.Generator, size: int) -> bool:
    """Whether any warning is told of a steady run."""
    at = np.linspace(0, SECONDS, size)
    slower = drift(at, times(rng, size, float(rng.choice(TIES))), shares=False).way == "rising"
    paces = drift(at, times(rng, size, float(rng.choice(TIES))), shares=False).way == "falling"
    return slower or paces or drift(at, failed(rng, size), shares=True).way == "rising"


def rises(rng: np.random.Generator, size: int, tie: float, by: float) -> bool:
    """Whether it is told that first tokens take longer and longer, at the end by so much."""
    at = np.linspace(0, SECONDS, size)
    return drift(at, times(rng, size, tie) * np.linspace(1, 1 + by, size), shares=False).way == "rising"
