"""The optimal capacity: the highest level within all criteria, with an interval. Arrays in, frozen results out.

Each criterion is a statistic that only gets worse with load (TTFT p95, error rate). Its values over the levels are made
monotone (isotonic regression), and where they cross the limit the criterion's capacity lies; the least of them is the
service's. Between two levels the point estimate is a straight line on the criterion's scale.

The interval is a calibrated bootstrap (docs/decisions/018, measured by bench/levels.py). Each draw moves every level by
three things: the sampling of its requests, a drift of the whole level (a service is not the same from one minute to the
next, and no number of requests within a level shows it), and what the curve does between two levels, which nobody
looked at: a random monotone curve instead of the straight line. Failures may set in all at once, so what they limit
lies anywhere between the last level within and the first outside.

In open loop a level that is held for seconds may be more than the service carries although nobody waited long yet. A
level at whose end the wait still rose is undecided: in a draw it is as seen, or outside, by even chance.

Rules: +inf is a request that owed a first token and gave none. Scales: log(TTFT / limit), clipped, so that what never
came counts as far above; arcsine of the square root for shares. Units: a level is users or requests a second.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from streamgauge import stats
from streamgauge.slope import slope

FloatArray = npt.NDArray[np.float64]

DRAWS = 999
DRIFT = 0.08
"""Standard deviation of log TTFT from one level to the next that its own requests do not show."""
CAUTION = 1.2
"""Times the drift in a draw. Finer steps are looked for where the noise of those before said so, and a fit that may
jump between any two levels takes the drift of one for the service: without it a slow rise is covered too rarely."""
CLIP = math.log(4)
"""A p95 of a quarter of the limit or of four times the limit is as far from it as matters to where it is crossed."""
NEAR = math.log(2)
"""The same in a draw. Of few requests two lost ones make a p95 that was never reached: the farther it counts, the more
it pulls its neighbours along."""
BRIDGE = 3.0
"""How near a curve between two levels keeps to the straight line: infinity is the line, 0 one jump anywhere."""
FEW = 5.0
"""So much wider, over n, is what n requests of a level could have shown: few do not tell their own spread."""
LOW_SHARE, HIGH_SHARE = 2.2, 0.9
"""Of the draws, times 1 - confidence, that lie outside each bound. Draws that are made to rise lie too low: at 1 and 1,
with 20 to 40 requests a level, the upper bound was too low in 7 of 100 and the lower one too high in 3."""
NARROW = 0.02
TAIL = 0.1
"""Share of the slowest requests that tells how the tail goes on beyond the slowest of them."""
PARTS, LEAST_IN_PART = 16, 3
"""A level is cut into so many parts to see whether the wait rises; with fewer requests in each nothing is told."""
RISEN = 0.1
"""Of the median: a smaller rise over a level is none."""


@dataclass(frozen=True, slots=True)
class Level:
    """What was seen while one level was held.

    `ttft_ms`: one value for each request that owed a first token, in order of due; +inf where none came. `n`, `errors`:
    requests and those that failed. `served` (good answers), `goodput` (of those, within the limits) and `tokens` are
    a second; `in_flight` is the mean of open requests. None is not measured.
    """

    level: float
    ttft_ms: FloatArray
    n: int
    errors: int
    served: float | None = None
    goodput: float | None = None
    tokens: float | None = None
    in_flight: float | None = None
    rising: bool = False
    """Open loop: the wait still rose when the level ended (`rises`), so that being within says nothing of longer."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A criterion: the q-quantile of TTFT below `limit` ms, or the share of errors below `limit` (0..1)."""

    name: str
    of: Literal["ttft", "errors"]
    limit: float
    q: float = 0.95


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where one criterion's fit crosses its limit: None below the lowest level, inf above the highest.

    `fitted`: the isotonic fit at each of `levels`, in ms (inf past the clip) or as a share.
    """

    limit: Limit
    at: float | None
    levels: tuple[float, ...]
    fitted: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Capacity:
    """The highest level within all criteria.

    value: None where not even the lowest level is within; the highest level where all are (`at_least`).
    low, high: one-sided bounds at `confidence` each; low None: may be below the lowest level; high None: not bounded.
    tested: the highest level tried at which the fit of every criterion is within. limited_by: what is crossed first.
    """

    value: float | None
    low: float | None
    high: float | None
    confidence: float
    at_least: bool
    tested: float | None
    limited_by: str | None
    crossings: tuple[Crossing, ...]


def capacity(
    levels: Sequence[Level],
    limits: Sequence[Limit],
    rng: np.random.Generator,
    *,
    whole: bool = True,
    drift: float = DRIFT,
    confidence: float = stats.CONFIDENCE,
    draws: int = DRAWS,
) -> Capacity | None:
    """The capacity that `levels` show under `limits`; None without a level that has requests, or without limits.

    `whole`: levels are users, so that the value is the last whole one within and the bounds are rounded outwards.
    `drift`: see DRIFT; 0 where levels are known to differ by nothing but their load. A level may come several times.
    """
    kept = [one for one in levels if one.n > 0 and len(one.ttft_ms)]
    if not kept or not limits:
        return None
    at = np.array([one.level for one in kept], np.float64)
    weights = np.array([one.n / (1 + one.n * drift**2) for one in kept])
    # One luck and one chance for all limits of a draw: requests that fail are also slow, so what lifts one statistic of
    # a level lifts the other, and what bends one curve bends the other. The least of two that vary by themselves would
    # lie too low, the more so the fewer the requests.
    crossings, drawn, chance = [], np.full(draws, np.inf), rng.random(draws)
    luck = rng.random((draws, len(kept)))
    for limit in limits:
        steps, fitted = isotonic(at, np.array([seen(one, limit) for one in kept])[None, :], weights)
        crossings.append(crossing_of(limit, steps, fitted[0]))
        noisy = np.column_stack([_drawn(one, limit, rng, luck[:, i]) for i, one in enumerate(kept)])
        if limit.of == "ttft":
            noisy = np.clip(noisy + CAUTION * drift * rng.standard_normal(noisy.shape), -NEAR, NEAR)
        drawn = np.minimum(drawn, _crossed(*isotonic(at, noisy, weights), chance, jumps=limit.of == "errors"))
    return _told(crossings, np.sort(drawn), confidence, whole=whole)


def rises(ttft_ms: FloatArray) -> bool:
    """Whether the wait rose over a level and still did at its end; False also where too few requests tell.

    ttft_ms: in order of due, +inf where none came. The medians of 16 equal parts rise as noise that is tied in time
    does not explain (slope.Slope.rises, 95 %), by a tenth at least, and the last quarter lies above the one before it:
    a wait that only settles rises at first as well.
    """
    if len(ttft_ms) < PARTS * LEAST_IN_PART:
        return False
    longest = float(np.max(ttft_ms, where=np.isfinite(ttft_ms), initial=1.0))
    medians = np.array([np.median(part) for part in np.array_split(np.minimum(ttft_ms, 2 * longest), PARTS)])
    found = slope(np.arange(PARTS, dtype=np.float64), medians)
    if found is None or not found.rises or found.value * PARTS < RISEN * np.median(medians):
        return False
    return bool(medians[-PARTS // 4 :].mean() > medians[-PARTS // 2 : -PARTS // 4].mean())


def next_level(levels: Sequence[Level], limits: Sequence[Limit], *, whole: bool = True) -> float | None:
    """The level that halves the bracket in which the first criterion is crossed; None where nothing is crossed, or the
    bracket is as narrow as it is of use: two users, or a fiftieth of the level.
    """
    kept = [one for one in levels if one.n > 0 and len(one.ttft_ms)]
    if not kept or not limits:
        return None
    at, weights = np.array([one.level for one in kept], np.float64), np.array([float(one.n) for one in kept])
    fits = [isotonic(at, np.array([[seen(one, limit) for one in kept]]), weights) for limit in limits]
    steps = fits[0][0]
    first = min(int((fit[0] < 0).sum()) for _, fit in fits)
    if first in (0, len(steps)):
        return None
    low, high = float(steps[first - 1]), float(steps[first])
    middle = float(round((low + high) / 2)) if whole else (low + high) / 2
    return middle if low < middle < high and high - low > NARROW * high else None


def _told(crossings: list[Crossing], drawn: FloatArray, confidence: float, *, whole: bool) -> Capacity:
    """The point from the fits, the interval from the draws. The interval holds the point."""
    lowest, highest = crossings[0].levels[0], crossings[0].levels[-1]
    points = [0.0 if one.at is None else one.at for one in crossings]
    point = min(points)
    below, above = (max(0, round((len(drawn) + 1) * (1 - confidence) * share) - 1) for share in (LOW_SHARE, HIGH_SHARE))
    low, high = min(float(drawn[below]), point), max(float(drawn[-1 - above]), point)
    value = min(point, highest)
    if whole:
        value, low = math.floor(value), low if math.isinf(low) else math.floor(low)
        high = high if math.isinf(high) else math.ceil(high)
    within = [
        level
        for i, level in enumerate(crossings[0].levels)
        if all(one.fitted[i] < one.limit.limit for one in crossings)
    ]
    return Capacity(
        value=None if point < lowest else float(value),
        low=None if low < lowest else float(min(low, highest)),
        high=None if math.isinf(high) else float(max(high, lowest)),
        confidence=confidence,
        at_least=point > highest,
        tested=within[-1] if within else None,
        limited_by=None if point > highest else _first(crossings, points).limit.name,
        crossings=tuple(crossings),
    )


def _first(crossings: Sequence[Crossing], points: Sequence[float]) -> Crossing:
    """The criterion that is crossed first. Requests that fail give no first token: where TTFT is crossed by them alone,
    and the share of errors between the same two levels, it is the errors that limit."""
    first = crossings[points.index(min(points))]
    after = bisect.bisect_left(first.levels, min(points))
    if first.limit.of == "ttft" and after < len(first.levels) and math.isinf(first.fitted[after]):
        for one, point in zip(crossings, points, strict=True):
            if one.limit.of == "errors" and bisect.bisect_left(one.levels, point) == after:
                return one
    return first


def isotonic(at: FloatArray, values: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(levels, fits): each row of `values` made rising over `at` by weighted least squares (Barlow et al. 1972).

    Values of one level are averaged first. Shapes: (k,), (rows, k), (k,) -> (u,), (rows, u).
    """
    from scipy.optimize import isotonic_regression  # half a second to import, and only a stress test waits for it

    levels, where = np.unique(at, return_inverse=True)
    share = np.zeros((len(at), len(levels)))
    share[np.arange(len(at)), where] = weights
    total = share.sum(axis=0)
    averaged = values @ (share / total)
    return levels, np.stack([isotonic_regression(row, weights=total).x for row in averaged])


# Scales: 0 is the limit, above 0 is outside


def scaled(values: FloatArray, limit: Limit) -> FloatArray:
    """Values of a criterion's statistic (ms, or shares) on the scale on which it is fitted."""
    if limit.of == "errors":
        return np.asarray(np.arcsin(np.sqrt(values)) - math.asin(math.sqrt(limit.limit)))
    with np.errstate(divide="ignore"):
        return np.clip(np.log(np.maximum(values, 0.0) / limit.limit), -CLIP, CLIP)


def unscaled(fitted: FloatArray, limit: Limit) -> FloatArray:
    """The other way round."""
    if limit.of == "errors":
        return np.asarray(np.sin(np.maximum(0.0, fitted + math.asin(math.sqrt(limit.limit)))) ** 2)
    return np.where(fitted >= CLIP, np.inf, limit.limit * np.exp(fitted))


def seen(level: Level, limit: Limit) -> float:
    """The level's statistic on the limit's scale. A TTFT within it that still rises is taken to lie on the limit."""
    if limit.of == "errors":
        return float(scaled(np.array([level.errors / level.n]), limit)[0])
    value = stats.quantile(np.sort(level.ttft_ms), limit.q)
    found = float(scaled(np.array([value], np.float64), limit)[0])
    return max(found, 0.0) if level.rising else found


def _drawn(level: Level, limit: Limit, rng: np.random.Generator, luck: FloatArray) -> FloatArray:
    """The statistic as other requests at the same level could have shown it, on the limit's scale. luck: the place of
    each draw in its distribution (0..1).

    Errors: Beta(k + 1/2, n - k + 1/2) (Jeffreys). A quantile lies above the i-th of n values where i ~ Binomial(n, q),
    whatever their distribution (the order-statistic interval of stats.rank_bounds, drawn from): between that value and
    the next one, or, above the slowest of all, on an exponential tail of the logarithm (Hill 1975). What still rises is
    far outside in half of the draws.
    """
    if limit.of == "errors":
        return scaled(special.betaincinv(level.errors + 0.5, level.n - level.errors + 0.5, luck), limit)
    worth = stats.effective_n((level.ttft_ms > limit.limit).astype(np.float64))
    n, ordered = len(level.ttft_ms), scaled(np.sort(level.ttft_ms), limit)
    m = max(1, round(worth))
    below = np.searchsorted(special.bdtr(np.arange(m), m, limit.q), luck)
    i = np.ceil(below * n / m).astype(np.int64)
    top = max(2, math.ceil(TAIL * n))
    scale = float(np.mean(ordered[-top:] - ordered[-min(top + 1, n)])) if n >= 2 else CLIP
    padded = np.concatenate((ordered[:1], ordered, ordered[-1:]))
    low, high = padded[i], padded[i + 1]
    between = low + rng.random(len(luck)) * (high - low)
    found = np.where(below == m, ordered[-1] + scale * rng.standard_exponential(len(luck)), between)
    found = seen(level, limit) + (1 + FEW / n) * (found - seen(level, limit))
    return np.where(rng.random(len(luck)) < 0.5, found, CLIP) if level.rising else found


# Where it is crossed


def crossing_of(limit: Limit, levels: FloatArray, fitted: FloatArray) -> Crossing:
    """The point: a straight line between the last level within and the first outside."""
    shown = tuple(float(x) for x in unscaled(fitted, limit))
    # A limit is strict (`< 1000`), so what lies on it is outside.
    first = int(np.searchsorted(fitted, 0.0, "left"))
    if first == 0:
        at = None
    elif first == len(levels):
        at = math.inf
    else:
        share = -fitted[first - 1] / (fitted[first] - fitted[first - 1])
        at = float(levels[first - 1] + share * (levels[first] - levels[first - 1]))
    return Crossing(limit, at, tuple(float(x) for x in levels), shown)


def _crossed(levels: FloatArray, fits: FloatArray, chance: FloatArray, *, jumps: bool) -> FloatArray:
    """For each row of `fits` where a random monotone curve through it crosses 0; 0 below the levels, inf above.

    jumps: the curve may do so all at once, anywhere between two levels with equal chance. So does a quantile whose
    upper level lies far outside: that was lost requests, or as good as that.
    """
    first = (fits < 0).sum(axis=1)
    inside = (first > 0) & (first < len(levels))
    row, after = np.flatnonzero(inside), first[inside]
    low, high = fits[row, after - 1], fits[row, after]
    bends = np.zeros(len(row), bool) if jumps else high < NEAR
    share = 1 - chance[row]
    share[bends] = between((-low / (high - low))[bends], chance[row][bends])
    out = np.where(first == 0, 0.0, np.inf)
    out[row] = levels[after - 1] + share * (levels[after] - levels[after - 1])
    return out


def between(height: FloatArray, chance: FloatArray, keeps: float | None = None) -> FloatArray:
    """Where a random rising curve from (0, 0) to (1, 1) passes each `height` (0..1); `chance` (0..1) draws it.

    The curve is a Dirichlet process around the straight line (Ferguson 1973): its height at w is
    Beta(keeps w, keeps (1 - w)), so it has not passed `height` by w with probability P(Beta < height). Solved for
    `chance` by halving.
    """
    keeps = BRIDGE if keeps is None else keeps
    low, high = np.zeros(len(height)), np.ones(len(height))
    for _ in range(20):
        w = (low + high) / 2
        beyond = special.betainc(keeps * w, keeps * (1 - w), height) > chance
        low, high = np.where(beyond, w, low), np.where(beyond, high, w)
    return (low + high) / 2
