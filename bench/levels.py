"""How near the reported capacity is to the true one, over generated level tables of services whose capacity is known.

A service is a curve: what p95 and error rate are at a level, exactly. A table is what a stress test would see: the
default levels, then finer steps around the knee chosen from what was seen, few or a few hundred requests a level, each
off by a drift of its own where the service drifts. Three intervals are compared: a plain bootstrap (resample,
fit, straight line), the calibrated one that ships (streamgauge.capacity), and an inverted test (from the highest level
that is surely within to the lowest that is surely outside).
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from bench.found import Bound, Found, progress
from streamgauge import stats
from streamgauge.capacity import Capacity, FloatArray, Level, Limit, capacity, isotonic, next_level, scaled, seen

TTFT = Limit("ttft_ms.p95 < 1000", "ttft", 1_000.0)
ERRORS = Limit("error_rate < 0.05", "errors", 0.05)
LIMITS = (TTFT, ERRORS)
DEFAULT = (1, 10, 25, 50, 75, 100, 150, 200)
LEAST, MOST = 0.88, 0.95
LEAST_KIND = 0.84
"""Of one kind: what the two tails leave of a jump that lies anywhere between two levels with equal chance."""
Draw = Callable[[float, int, float, np.random.Generator], tuple[FloatArray, int]]
"""(level, n, drift factor, rng) -> TTFT in ms of n requests (+inf: none came), errors."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service of known truth."""

    name: str
    truth: float
    draw: Draw


def lognormal(p95: Callable[[float], float], sigma: float, errors: Callable[[float], float] | None = None) -> Draw:
    """Answers whose p95, where none fails, is `p95(level)`; a share `errors(level)` never gives a token."""

    def draw(level: float, n: int, factor: float, rng: np.random.Generator) -> tuple[FloatArray, int]:
        values = p95(level) * factor * np.exp(sigma * (rng.standard_normal(n) - 1.6448536269514722))
        failed = rng.random(n) < (errors(level) if errors is not None else 0.0)
        values[failed] = np.inf
        return values, int(failed.sum())

    return draw


def crossing(p95: Callable[[float], float], least: float = 0.0, most: float = 1e4) -> float:
    """The level at which a rising curve reaches the limit."""
    for _ in range(60):
        middle = (least + most) / 2
        least, most = (middle, most) if p95(middle) < TTFT.limit else (least, middle)
    return (least + most) / 2


def smooth(rng: np.random.Generator) -> Service:
    """A knee: base (1 + (level / knee)^power)."""
    base, power = rng.uniform(150, 600), rng.uniform(2, 8)
    knee, sigma = math.exp(rng.uniform(math.log(12), math.log(150))), rng.uniform(0.2, 0.6)
    curve = lambda level: base * (1 + (level / knee) ** power)  # noqa: E731  (a curve)
    return Service("knee", crossing(curve), lognormal(curve, sigma))


def rising(rng: np.random.Generator) -> Service:
    """No knee at all: TTFT in proportion to the level."""
    base, knee, sigma = rng.uniform(150, 600), rng.uniform(10, 80), rng.uniform(0.2, 0.6)
    curve = lambda level: base * (1 + level / knee)  # noqa: E731
    return Service("straight", crossing(curve), lognormal(curve, sigma))


def slots(rng: np.random.Generator) -> Service:
    """Closed loop on c slots: nobody waits up to c users, the others wait their turn (Little's law)."""
    c, hold = rng.integers(8, 150), rng.uniform(2_000, 10_000)
    base, sigma = rng.uniform(150, 600), rng.uniform(0.2, 0.4)
    curve = lambda level: base * math.exp(1.645 * sigma) + max(0.0, level / c - 1) * hold  # noqa: E731
    if curve(1) > 900:
        return slots(rng)
    return Service("slots", crossing(curve), lognormal(curve, sigma))


def queue(rng: np.random.Generator) -> Service:
    """Open loop, M/M/c: the wait is 0, or exponential with c mu - lambda (Erlang C). Levels are arrivals a second."""
    c, capacity_at = int(rng.integers(2, 40)), rng.uniform(20, 180)
    base, mu = rng.uniform(100, 400), 0.0
    least, most = capacity_at / c, 40 * capacity_at / c  # the mu at which p95 is the limit at `capacity_at`
    for _ in range(60):
        mu = (least + most) / 2
        over = erlang_p95(capacity_at, mu, c) * 1e3 + base > TTFT.limit
        least, most = (mu, most) if over else (least, mu)

    def draw(level: float, n: int, factor: float, rng: np.random.Generator) -> tuple[FloatArray, int]:
        if level >= c * mu:  # no steady state: the queue grows as long as the level is held
            return 20 * TTFT.limit * rng.uniform(0.5, 1.5, n), 0
        waits = rng.random(n) < erlang_c(level, mu, c)
        wait = rng.exponential(1 / (c * mu - level), n)
        return factor * (base + 1e3 * np.where(waits, wait, 0.0)), 0

    return Service("M/M/c", capacity_at, draw)


def erlang_c(rate: float, mu: float, c: int) -> float:
    """Probability that an arrival waits (Erlang C), by the stable recursion of Erlang B."""
    load, blocked = rate / mu, 1.0
    for k in range(1, c + 1):
        blocked = load * blocked / (k + load * blocked)
    return blocked / (1 - load / c * (1 - blocked)) if load < c else 1.0


def erlang_p95(rate: float, mu: float, c: int) -> float:
    """p95 of the wait in seconds."""
    waits = erlang_c(rate, mu, c)
    return math.inf if rate >= c * mu else max(0.0, math.log(waits / 0.05)) / (c * mu - rate)


def shedding(rng: np.random.Generator) -> Service:
    """What is over K is refused, so that errors are 1 - K / level; the others are served as ever."""
    k, base, sigma = rng.uniform(12, 170), rng.uniform(100, 500), rng.uniform(0.2, 0.5)
    share = lambda level: max(0.0, 1 - k / level)  # noqa: E731
    return Service("shedding", k / 0.95, lognormal(lambda _: base, sigma, share))


def death(rng: np.random.Generator) -> Service:
    """At so many connections it falls over: errors jump from 0 to most of all."""
    k, base, sigma = rng.uniform(5, 190), rng.uniform(100, 500), rng.uniform(0.2, 0.5)
    after = rng.uniform(0.2, 1.0)
    share = lambda level: after if level > k else 0.0  # noqa: E731
    return Service("death", k, lognormal(lambda level: base * (1 + level / 300), sigma, share))


def lost(rng: np.random.Generator) -> Service:
    """A knee, and past it answers that never begin: p95 is censored (4 % lost below the limit count as well)."""
    inner = smooth(rng)
    at, steep = inner.truth * rng.uniform(0.9, 1.3), rng.uniform(2, 6)
    share = lambda level: min(0.9, 0.05 * (level / at) ** steep)  # noqa: E731
    # p95 of all, lost ones included: the true capacity is found from the mixture by a large sample's exact form.
    sigma, base, power = rng.uniform(0.2, 0.6), rng.uniform(150, 600), rng.uniform(2, 6)
    knee = math.exp(rng.uniform(math.log(12), math.log(150)))
    curve = lambda level: base * (1 + (level / knee) ** power)  # noqa: E731

    def outside(level: float) -> float:
        from scipy.special import ndtr

        within = ndtr((math.log(TTFT.limit / curve(level))) / sigma + 1.6448536269514722)
        return float(1 - (1 - share(level)) * within)

    least, most = 0.0, 1e4
    for _ in range(60):
        middle = (least + most) / 2
        least, most = (middle, most) if outside(middle) < 0.05 else (least, middle)
    return Service("lost tokens", least, lognormal(curve, sigma, share))


def slow(rng: np.random.Generator) -> Service:
    """Too slow for one user."""
    base, sigma = rng.uniform(1_300, 4_000), rng.uniform(0.2, 0.6)
    return Service("too slow", 0.0, lognormal(lambda level: base * (1 + level / 100), sigma))


FAMILIES = {"knee": smooth, "straight": rising, "slots": slots, "M/M/c": queue, "shedding": shedding, "death": death,
            "lost tokens": lost, "too slow": slow}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of table: requests a level (from, to), drift, and whether finer steps follow the coarse ones."""

    name: str
    n: tuple[int, int] = (60, 300)
    drift: float = 0.0
    finer: int = 4
    truth: tuple[float, float] = (6.0, 190.0)
    families: tuple[str, ...] = tuple(FAMILIES)[:-1]


CASES = (
    Case("as shipped, no drift"),
    Case("as shipped, drift 8 %", drift=0.08),
    Case("coarse levels alone, drift 8 %", drift=0.08, finer=0),
    Case("20 to 40 requests a level", n=(20, 40), drift=0.08),
    Case("all levels pass", truth=(210.0, 2_000.0), families=("knee", "straight")),
    Case("none passes", truth=(-1.0, 1.0), families=("too slow",)),
)


CROSSED = 4
"""So many of them have a crossing among their levels, and count for the pooled coverage."""


def table(service: Service, case: Case, rng: np.random.Generator) -> list[Level]:
    """The default levels, then steps that halve the bracket in which the first criterion is crossed."""
    n = int(rng.integers(case.n[0], case.n[1] + 1))

    def look(level: float) -> Level:
        ttft, errors = service.draw(level, n, math.exp(case.drift * rng.standard_normal()), rng)
        return Level(level, ttft, n, errors)

    levels = [look(level) for level in DEFAULT]
    for _ in range(case.finer):
        after = next_level(levels, LIMITS, whole=service.name != "M/M/c")
        if after is None:
            break
        levels.append(look(after))
    return levels


Interval = tuple[float, float, float]
"""(point, low, high) with 0 and inf where there is no bound."""


def calibrated(levels: list[Level], rng: np.random.Generator, draws: int) -> Interval:
    found = capacity(levels, LIMITS, rng, draws=draws, whole=False)
    assert found is not None
    return told(found)


def told(found: Capacity) -> Interval:
    point = math.inf if found.at_least else found.value or 0.0
    return point, found.low or 0.0, math.inf if found.high is None else found.high


def plain(levels: list[Level], rng: np.random.Generator, draws: int) -> Interval:
    """Resample each level's requests, fit, straight line; percentiles. The p95 of a resample is x[ceil(n U)], with
    U ~ Beta(k, n - k + 1): its exact distribution, without resampling (Hutson & Ernst 2000)."""
    at, weights = np.array([one.level for one in levels]), np.array([float(one.n) for one in levels])
    drawn, points = np.full(draws, np.inf), []
    for limit in LIMITS:
        columns = []
        for one in levels:
            if limit.of == "errors":
                columns.append(scaled(rng.binomial(one.n, one.errors / one.n, draws) / one.n, limit))
            else:
                k = stats.rank(limit.q, one.n)
                place = np.ceil(one.n * rng.beta(k, one.n - k + 1, draws)).astype(int) - 1
                columns.append(scaled(np.sort(one.ttft_ms)[place], limit))
        drawn = np.minimum(drawn, straight(*isotonic(at, np.column_stack(columns), weights)))
        points += list(straight(*isotonic(at, np.array([[seen(one, limit) for one in levels]]), weights)))
    drawn.sort()
    place = round((draws + 1) * 0.05) - 1
    return min(points), min(float(drawn[place]), float(at.max())), float(drawn[-1 - place])


def straight(levels: FloatArray, fits: FloatArray) -> FloatArray:
    """Where each row crosses 0 on a straight line; 0 below the levels, inf above."""
    padded = np.column_stack((np.full(len(fits), -1e-9), fits, np.full(len(fits), 1e9)))
    at = np.concatenate(([0.0], levels, [np.inf]))
    first = (padded < 0).sum(axis=1)
    rows = np.arange(len(fits))
    low, high = padded[rows, first - 1], padded[rows, first]
    between = at[first - 1] + low / (low - high) * (np.where(first > len(levels), 0.0, at[first]) - at[first - 1])
    return np.where(first > len(levels), np.inf, np.where(first == 1, 0.0, between))


def inverted(levels: list[Level], rng: np.random.Generator, draws: int) -> Interval:
    """A level at or below c that is surely outside rejects c, as does one at or above c that is surely within.

    Exact binomial bounds of the share of slow requests and of errors, each at 95 %; no draw, no curve.
    """
    low, high = 0.0, math.inf
    for one in sorted(levels, key=lambda one: one.level):
        slow = stats.rate_bounds(int((one.ttft_ms >= TTFT.limit).sum()), one.n)
        failed = stats.rate_bounds(one.errors, one.n)
        assert slow.low is not None
        assert slow.high is not None
        assert failed.low is not None
        assert failed.high is not None
        if max(slow.high, failed.high) < 0.05:
            low = max(low, one.level)
        if max(slow.low, failed.low) > 0.05:
            high = min(high, one.level)
    if low > high:
        low, high = high, low
    return (low + min(high, 200.0)) / 2, low, high


SHIPPED = "calibrated bootstrap"
METHODS = {"plain bootstrap": plain, SHIPPED: calibrated, "inverted test": inverted}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tables", type=int, default=1_000, help="of each case with a crossing")
    parser.add_argument("--draws", type=int, default=199, help="of a bootstrap")
    parser.add_argument(
        "--methods", nargs="+", choices=list(METHODS), default=list(METHODS), help="of making an interval"
    )
    parser.add_argument("--seed", type=int, default=1, help="of all tables")


def one(case: Case, methods: tuple[str, ...], draws: int, seed: int) -> tuple[str, float, dict[str, Interval]]:
    """One table: the family, its truth, and what each method says."""
    rng = np.random.default_rng(seed)
    name = case.families[seed % len(case.families)]
    tries = (FAMILIES[name](rng) for _ in range(10_000))
    service = next(tried for tried in tries if case.truth[0] < tried.truth < case.truth[1])
    levels = table(service, case, rng)
    told = {method: METHODS[method](levels, rng, draws) for method in methods}
    if name != "M/M/c":  # users come whole: every method's bounds are rounded outwards, as the shipped one does
        told = {m: (at, np.floor(low), np.ceil(high)) for m, (at, low, high) in told.items()}
    return name, service.truth, told


def measure(asked: argparse.Namespace) -> Found:
    rows, bounds = [], []
    pooled: dict[str, list[tuple[float, Interval]]] = {method: [] for method in asked.methods}
    worst: dict[str, tuple[float, str]] = {}
    parts: dict[tuple[str, str], list[tuple[float, Interval]]] = {}
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as processes:
        for number, case in enumerate(CASES):
            progress(case.name)
            count = asked.tables if number < CROSSED else max(1, asked.tables // 5)
            seeds = [asked.seed * 1_000_000 + number * 100_000 + i for i in range(count)]
            told = list(processes.map(partial(one, case, tuple(asked.methods), asked.draws), seeds, chunksize=20))
            for method in asked.methods:
                for family in (None, *(case.families if method == SHIPPED and number < CROSSED else ())):
                    cell = [(truth, said[method]) for name, truth, said in told if family in (None, name)]
                    rows.append((case.name if family is None else f"- {family}", method, *row(cell)))
                    if family is not None:
                        parts[case.name, family] = cell
                    elif number < CROSSED:
                        pooled[method] += cell
                        worst[method] = min(worst.get(method, (1.0, "")), (covered(cell), case.name))
    for method, cells in pooled.items():
        rows.append(("all with a crossing", method, *row(cells)))
    if SHIPPED in pooled:
        share = covered(pooled[SHIPPED])
        words = f"calibrated: {share:.1%} of {len(pooled[SHIPPED])} tables covered, 88 to 95 % wanted"
        bounds.append(Bound(words, LEAST <= share <= MOST))
        share, name = worst[SHIPPED]
        bounds.append(Bound(f"the worst case: {share:.1%} ({name}), 88 % wanted at least", share >= LEAST))
        bounds.append(weakest(parts))
    columns = ("tables", "method", "n", "covers", "too low", "too high", "bias % (median)", "width % (median)")
    notes = ("Bias and width are of the true capacity; too low: the whole interval lies below it.",)
    return Found("Capacity: 90 % intervals against known truth", columns, rows, tuple(bounds), notes)


def weakest(parts: dict[tuple[str, str], list[tuple[float, Interval]]]) -> Bound:
    """The kind of service covered least in any case: so few tables of it are drawn that chance may take two standard
    errors."""
    (case, family), cells = min(parts.items(), key=lambda one: covered(one[1]))
    share, least = covered(cells), LEAST_KIND - 2 * math.sqrt(LEAST_KIND * (1 - LEAST_KIND) / len(cells))
    words = f"the worst kind of a case: {share:.1%} of {len(cells)} ({family}, {case}), {least:.0%} wanted at least"
    return Bound(f"{words} (84 % less two standard errors)", share >= least)


def covered(cells: list[tuple[float, Interval]]) -> float:
    return float(np.mean([low <= truth <= high for truth, (_, low, high) in cells]))


def row(cells: list[tuple[float, Interval]]) -> tuple[str, ...]:
    below = np.mean([high < truth for truth, (_, _, high) in cells])
    above = np.mean([low > truth for truth, (_, low, _) in cells])
    bias = [point / truth - 1 for truth, (point, _, _) in cells if truth and 0 < point < math.inf]
    width = [(high - low) / truth for truth, (_, low, high) in cells if truth]
    shown = f"{np.median(width):.0%}" if width and np.isfinite(np.median(width)) else "open"
    return (str(len(cells)), f"{covered(cells):.1%}", f"{below:.1%}", f"{above:.1%}",
            f"{np.median(bias):+.1%}" if bias else "-", shown)  # fmt: skip
