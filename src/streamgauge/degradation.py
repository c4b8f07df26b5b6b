"""How a service degrades as load rises: a phase for each level, whether it was graceful, and how soon it recovered.

Definitions, from numbers alone; the first that holds names the level:

- collapse: good answers a second fell below 80 % of the most at any lower level (where they were not counted: half of
  the requests failed). More load gives less to everybody.
- shedding: the share of errors is at or above its limit, while the others are served at the pace of before.
- queueing: a further user adds less than half of what the first ones added to the good answers a second, or the median
  TTFT is at least 1.5 times that of the first ones (and 20 ms above it). Nobody is refused, everybody waits.
- linear: none of these. Twice the users get twice the answers, in the same time.

The first ones are the lowest level that had ten requests: one or two say nothing of what is usual.

Served is good answers a second, whatever they took: with answers that met the limits, plain queueing would already look
like collapse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from streamgauge.capacity import Level

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Phase = Literal["linear", "queueing", "shedding", "collapse"]

FALLEN = 0.8
"""Of the best pace: below it, it fell."""
HALF = 0.5
GROWN = 1.5
"""Times the first ones' median TTFT."""
GROWN_MS = 20.0
"""And so much above it: 3 ms after 1 ms is no queue."""
APART = 0.8
"""A gain is counted from the highest level at least a fifth lower: over a step of one user it would be noise."""
RECOVERED = 0.95
"""So much of what came due since is as before."""
LEAST = 10
"""Fewer requests than this show no recovery, and not what is usual at a low level."""
SOON_S = 30.0


@dataclass(frozen=True, slots=True)
class Step:
    """One level's phase.

    `gain`: what a further user added, over what the first ones did; None where no level is lower by a fifth.
    `growth`: median TTFT over that of the first ones; None where either is not known. `kept`: good answers a second
    over the most at any lower level; None at the first.
    """

    level: float
    phase: Phase
    gain: float | None
    growth: float | None
    kept: float | None
    error_rate: float


@dataclass(frozen=True, slots=True)
class Grace:
    """Facts of a degradation; None is not known.

    errors_manageable: no level had a share of errors at or above the limit. failures_fast: 95 % of the failures were
    told within `fast_ms`. survivors_served: the pace never fell. recovery_s: the longest time until all was as before;
    inf: it did not within what was looked at.
    """

    errors_manageable: bool
    failures_fast: bool | None
    survivors_served: bool | None
    recovery_s: float | None
    graceful: bool | None

    def words(self) -> str:
        """One sentence for people."""
        parts = ["errors stayed within the limit" if self.errors_manageable else "errors went past the limit"]
        if self.failures_fast is not None:
            parts.append("failures were told at once" if self.failures_fast else "failures made their users wait")
        if self.survivors_served is not None:
            kept = "those served were served as fast as ever"
            parts.append(kept if self.survivors_served else "fewer were served the more asked")
        if self.recovery_s is not None:
            never = "it had not recovered when the run ended"
            parts.append(never if np.isinf(self.recovery_s) else f"it recovered in {self.recovery_s:.1f} s")
        verdict = {True: "Graceful", False: "Not graceful", None: "Graceful or not cannot be told"}[self.graceful]
        return f"{verdict}: {', '.join(parts)}"


def steps(levels: Sequence[Level], error_limit: float) -> tuple[Step, ...]:
    """The phase of each level, from the lowest up. Levels without requests are left out."""
    ordered = sorted((one for one in levels if one.n > 0), key=lambda one: one.level)
    out: list[Step] = []
    best: float | None = None
    usual = next((i for i, one in enumerate(ordered) if one.n >= LEAST), 0)
    base = _median(ordered[usual]) if ordered else None
    for i, one in enumerate(ordered):
        before = [lower for lower in ordered[usual:i] if lower.level <= APART * one.level]
        gain = _gain(ordered[usual], before[-1], one) if before else None
        median = _median(one)
        growth = None if not base or median is None or i < usual else median / base
        kept = None if one.served is None or not best else one.served / best
        slower = growth is not None and growth >= GROWN and median is not None and median - (base or 0.0) >= GROWN_MS
        rate = one.errors / one.n
        phase: Phase = "linear"
        if rate >= HALF if kept is None else kept < FALLEN:
            phase = "collapse"
        elif rate >= error_limit:
            phase = "shedding"
        elif (gain is not None and gain < HALF) or slower:
            phase = "queueing"
        out.append(Step(one.level, phase, gain, growth, kept, rate))
        if one.served is not None:
            best = one.served if best is None else max(best, one.served)
    return tuple(out)


def _gain(first: Level, before: Level, one: Level) -> float | None:
    """What a further user adds to the good answers a second, over what each of the first ones gives."""
    if first.served is None or before.served is None or one.served is None or not first.served:
        return None
    if not first.level:
        return None
    return (one.served - before.served) / (one.level - before.level) / (first.served / first.level)


def _median(level: Level) -> float | None:
    """Median TTFT in ms; inf where half of them never came."""
    return float(np.sort(level.ttft_ms)[(len(level.ttft_ms) - 1) // 2]) if len(level.ttft_ms) else None


def recovery_s(due_s: FloatArray, good: BoolArray, ttft_ms: FloatArray, back_ms: float) -> float | None:
    """Seconds after the overload from which on all is as before: inf: never; None: too few requests to tell.

    due_s: since the overload ended, ascending; requests that came due before it did are not among them. A request is as
    before where it is good and its first token came within `back_ms`. Recovered: the first such request since which
    95 % were so, and at least 10.
    """
    if len(due_s) < LEAST:
        return None
    well = good & (ttft_ms <= back_ms)
    since = np.cumsum(well[::-1])[::-1] / np.arange(len(well), 0, -1)
    first = np.flatnonzero(well & (since >= RECOVERED) & (np.arange(len(well), 0, -1) >= LEAST))
    if not len(first):
        return float("inf")
    return float(due_s[first[0]]) if first[0] else 0.0


def grace(
    found: Sequence[Step],
    failure_ms: FloatArray,
    recoveries_s: Sequence[float | None],
    *,
    error_limit: float,
    fast_ms: float,
) -> Grace:
    """Whether the service degraded gracefully: it recovered within 30 s, the pace of those served never fell, and
    errors stayed within the limit or were told at once.

    failure_ms: how long each failed request took from due to its end.
    """
    manageable = all(step.error_rate < error_limit for step in found)
    fast = bool(np.mean(failure_ms <= fast_ms) >= RECOVERED) if len(failure_ms) else None
    kept = [step.kept for step in found if step.kept is not None]
    served = min(kept) >= FALLEN if kept else None
    known = [one for one in recoveries_s if one is not None]
    recovery = max(known) if known else None
    facts = (
        None if recovery is None else recovery <= SOON_S,
        served,
        manageable or fast,
    )
    graceful = False if False in facts else None if None in facts else True
    return Grace(manageable, fast, served, recovery, graceful)
