"""What a stress test saw, as a section of the report: levels, capacity, degradation, spike, recovery, crashes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from streamgauge import stats
from streamgauge.capacity import Capacity, FloatArray, Level
from streamgauge.degradation import Grace, Step

LATE = 0.05
"""Of the TTFT limit: our own lateness beyond it can change what is told. At the judged level it makes a run INVALID."""
ENOUGH = stats.least_n(0.05)
"""Requests of a level below which no p95 can be shown to be within a limit: 59."""


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """One level as it was held. None is not known; a TTFT that was not reached is null with `censored` in `why`."""

    level: float
    """Users, in open loop requests a second."""
    start_ns: int
    seconds: float
    held: float | None
    """Slots in use for 95 % of the time; None in open loop."""
    in_flight: float | None
    n: int
    errors: int
    error_rate: float | None
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None
    served_per_s: float | None
    """Good answers a second."""
    goodput_per_s: float | None
    """Of them, those within the limits."""
    tokens_per_s: float | None
    phase: str | None
    """linear, queueing, shedding or collapse; crash for the level that ended in one, and any after it; None for a
    spike."""
    gain: float | None = None
    growth: float | None = None
    kept: float | None = None
    within: bool | None = None
    """Whether the fit of every criterion is within here; None for a spike."""
    gave_up: str | None = None
    """Why the load went on before its time."""
    late_p95_ms: float | None = None
    """How late our own starts were; a control of the generator, which makes a run INVALID at the judged level only."""
    rising: bool = False
    """Open loop: TTFT still rose when the level ended, so whether it would have stayed within is not known."""


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """What followed an overload at a low level."""

    after: str
    start_ns: int
    looked_s: float
    seconds: float | None
    """Until TTFT and errors were back for good; None where they were not, or could not be told (`why`)."""
    why: str | None = None
    """`not_back` or `too_few`."""


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """A criterion over the levels: its isotonic fit, and where it crosses its limit."""

    name: str
    metric: str
    limit: float
    levels: list[float]
    fitted: list[float | None]
    """ms or a share; None beyond four times the limit."""
    crosses_at: float | None
    """None: not among the levels."""


class Crash(msgspec.Struct, frozen=True, kw_only=True):
    """Once that the service was gone, or had begun anew."""

    words: str
    last_ns: int
    """When it was surely there for the last time before."""
    at_ns: int
    """The first sign that it was gone."""
    back_ns: int | None
    """The first good answer to a request that was sent since; None where there was none."""
    level: float | None
    """What was held then; None where none was."""
    failed: int
    """Requests that failed from then until it was back."""
    n: int
    """Requests of the whole run."""


class Strain(msgspec.Struct, frozen=True, kw_only=True):
    """The section `capacity` of a report."""

    unit: str
    """`users`, or `requests/s` in open loop."""
    asked: float
    """What was to be within the criteria."""
    value: float | None
    low: float | None
    high: float | None
    confidence: float
    at_least: bool
    """The highest level held was still within."""
    tested: float | None
    limited_by: str | None
    drift: float
    levels: list[Rung]
    spike: Rung | None
    recoveries: list[Recovery]
    crashes: list[Crash]
    fits: list[Fit]
    graceful: bool | None
    errors_manageable: bool
    failures_fast: bool | None
    survivors_served: bool | None
    words: list[str]
    """What was seen, a sentence each."""


def amount(value: float, unit: str) -> str:
    """`62 users`, `12.5 requests/s`."""
    shown = f"{value:,.0f}" if unit == "users" else f"{value:,.3g}"
    return f"{shown} {'user' if unit == 'users' and value == 1 else unit}"


def capacity_words(found: Capacity | None, unit: str) -> str:
    """`62 users [58 to 66], limited by ttft_ms.p95 < 1000`."""
    if found is None:
        return "no level was held long enough to tell"
    if found.value is None:
        below = amount(found.crossings[0].levels[0], unit)
        return f"not even {below} {'is' if below == '1 user' else 'are'} within {found.limited_by}"
    if found.at_least:
        low = "" if found.low is None or found.low >= found.value else f" (surely {amount(found.low, unit)})"
        return f"at least {amount(found.value, unit)}, the highest level held{low}"
    low = "below the lowest level" if found.low is None else amount(found.low, unit).split(" ")[0]
    high = "beyond the highest" if found.high is None else amount(found.high, unit).split(" ")[0]
    return f"{amount(found.value, unit)} [{low} to {high}], limited by {found.limited_by}"


def crash_words(crash: Crash, unit: str) -> str:
    """`at 120 users: nobody listened from 31.2 s on: 40 connections refused in a row; 43 of 1,204 requests failed`."""
    at = "" if crash.level is None else f"at {amount(crash.level, unit)}: "
    back = "and it was not back" if crash.back_ns is None else "until it was back"
    comma = "," if crash.back_ns is None else ""
    return f"{at}{crash.words}; {crash.failed:,} of {crash.n:,} requests failed{comma} {back}"


def phase_words(steps: Sequence[Step], unit: str) -> str:
    """`linear up to 50 users, queueing from 75, shedding from 150`."""
    parts: list[str] = []
    last = None
    for i, step in enumerate(steps):
        if step.phase == last:
            continue
        last = step.phase
        if not i and step.phase == "linear":
            end = next((j for j, one in enumerate(steps) if one.phase != "linear"), len(steps))
            parts.append(f"linear up to {amount(steps[end - 1].level, unit)}")
        elif step.phase == "crash":
            parts.append(f"crash at {amount(step.level, unit)}")
        else:
            parts.append(f"{step.phase} from {amount(step.level, unit)}")
    return ", ".join(parts)


def section(
    rungs: Sequence[Rung],
    found: Capacity | None,
    steps: Sequence[Step],
    grace: Grace,
    *,
    unit: str,
    asked: float,
    spike: Rung | None,
    recoveries: Sequence[Recovery],
    crashes: Sequence[Crash],
    drift: float,
    strictest_ms: float,
    metrics: dict[str, str],
) -> Strain:
    """The section from its parts. `strictest_ms`: the TTFT limit. `metrics`: each limit's name to its metric."""
    by_level = {step.level: step for step in steps}
    within = {} if found is None else _within(found)
    told = [
        msgspec.structs.replace(
            rung, phase=step.phase, gain=step.gain, growth=_finite(step.growth), kept=step.kept,
            within=within.get(rung.level),
        )
        if (step := by_level.get(rung.level)) is not None
        else rung
        for rung in rungs
    ]  # fmt: skip
    words = [f"Capacity: {capacity_words(found, unit)}"]
    if steps:
        words.append(phase_words(steps, unit).capitalize())
    words.append(grace.words())
    words += [f"Crash: {crash_words(one, unit)}" for one in crashes]
    words += late_words(rungs, strictest_ms, unit) + rising_words(rungs, strictest_ms, unit)
    words += few_words(rungs, found, unit)
    return Strain(
        unit=unit, asked=asked,
        value=None if found is None else found.value, low=None if found is None else found.low,
        high=None if found is None else found.high,
        confidence=stats.CONFIDENCE if found is None else found.confidence,
        at_least=found is not None and found.at_least, tested=None if found is None else found.tested,
        limited_by=None if found is None else found.limited_by, drift=drift, levels=told, spike=spike,
        recoveries=list(recoveries), crashes=list(crashes),
        fits=[] if found is None else [
            Fit(
                name=one.limit.name, metric=metrics[one.limit.name], limit=one.limit.limit, levels=list(one.levels),
                fitted=[_finite(value) for value in one.fitted], crosses_at=_finite(one.at),
            )
            for one in found.crossings
        ],
        graceful=grace.graceful, errors_manageable=grace.errors_manageable, failures_fast=grace.failures_fast,
        survivors_served=grace.survivors_served, words=words,
    )  # fmt: skip


def _within(found: Capacity) -> dict[float, bool]:
    """level -> whether the fit of every criterion is within there."""
    return {
        level: all(one.fitted[i] < one.limit.limit for one in found.crossings)
        for i, level in enumerate(found.crossings[0].levels)
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def rung_of(
    level: Level, late_ms: FloatArray, *, start_ns: int, seconds: float, held: float | None, gave_up: str | None
) -> Rung:
    """A level's row, its phase not yet named. late_ms: how late each of its requests was started."""
    ordered = np.sort(level.ttft_ms)

    def quantile(q: float) -> float | None:
        return _finite(stats.quantile(ordered, q)) if stats.resolves(q, len(ordered)) else None

    return Rung(
        level=level.level, start_ns=start_ns, seconds=seconds, held=held, in_flight=level.in_flight, n=level.n,
        errors=level.errors, error_rate=level.errors / level.n if level.n else None, ttft_p50_ms=quantile(0.5),
        ttft_p95_ms=quantile(0.95), served_per_s=level.served, goodput_per_s=level.goodput,
        tokens_per_s=level.tokens, late_p95_ms=stats.quantile(np.sort(late_ms), 0.95), rising=level.rising, phase=None,
        gave_up=gave_up,
    )  # fmt: skip


def late_words(rungs: Sequence[Rung], limit_ms: float, unit: str) -> list[str]:
    """That at some levels our own starts were late by more than a twentieth of the limit: what is told of them is in
    part of us."""
    late = [(one.late_p95_ms, one.level) for one in rungs if (one.late_p95_ms or 0.0) > LATE * limit_ms]
    if not late:
        return []
    worst = max(ms or 0.0 for ms, _ in late)
    where = _where([level for _, level in late], unit)
    return [f"Our own starts were late at {where} (p95 up to {worst:,.0f} ms): what is told there is in part our doing"]


def rising_words(rungs: Sequence[Rung], limit_ms: float, unit: str) -> list[str]:
    """That at some levels nobody waited too long yet, but the wait still rose: they are neither within nor outside."""
    open_ = [one for one in rungs if one.rising and (one.ttft_p95_ms or math.inf) < limit_ms]
    if not open_:
        return []
    where, seconds = _where([one.level for one in open_], unit), max(one.seconds for one in open_)
    return [
        f"At {where} TTFT still rose when the {seconds:,.3g} s of the level were over: whether that is carried for "
        "longer is not known; hold levels longer (--duration) to tell"
    ]


def few_words(rungs: Sequence[Rung], found: Capacity | None, unit: str) -> list[str]:
    """That levels within the interval had fewer requests than can show a p95 (stats.least_n): the bounds lean on what
    services are usually like."""
    if found is None or found.value is None:
        return []
    low, high = found.low or 0.0, found.high or math.inf
    few = [one for one in rungs if low <= one.level <= high and 0 < one.n < ENOUGH]
    if not few:
        return []
    where, least = _where(sorted({one.level for one in few}), unit), min(one.n for one in few)
    return [
        f"At {where} {least} requests are too few to be sure where the limits are crossed: hold levels longer "
        f"(--duration) for {ENOUGH} at each"
    ]


def _where(levels: Sequence[float], unit: str) -> str:
    """`50, 75, 100 users`."""
    *others, last = sorted(levels)
    return "".join(f"{level:,.3g}, " for level in others) + amount(last, unit)


def worst_errors(levels: Sequence[Level], confidence: float) -> tuple[float, float, float] | None:
    """(rate, low, high) of the level whose error rate is highest; None without levels.

    low: the highest lower bound of any level (Clopper-Pearson). high: errors do not fall with load, so what is seen at
    a level and all above it together bounds it from above; the highest such bound.
    """
    ordered = sorted((one for one in levels if one.n), key=lambda one: one.level)
    if not ordered:
        return None
    lows, highs = [], []
    k = n = 0
    for one in reversed(ordered):
        k, n = k + one.errors, n + one.n
        lows.append(stats.rate_bounds(one.errors, one.n, confidence).low or 0.0)
        above = stats.rate_bounds(k, n, confidence).high
        highs.append(1.0 if above is None else above)
    return max(one.errors / one.n for one in ordered), max(lows), max(highs)
