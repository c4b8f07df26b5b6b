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

What one level shows is uncertain, and load does not heal: a level is taken to be as degraded as the ones below it, and
a single one that looks worse than all above it is taken for noise, unless its numbers surely say otherwise (99 %, one
side): then the phases fall again, as the service did.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from streamgauge import stats
from streamgauge.capacity import DRIFT, Level

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Phase = Literal["linear", "queueing", "shedding", "collapse", "crash"]
ORDER: tuple[Phase, ...] = ("linear", "queueing", "shedding", "collapse")
"""From the mildest on."""

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
SURE, SIGMAS = 0.99, 2.33
"""One-sided confidence from which a level's numbers outweigh its neighbours, and the same in standard deviations."""


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

    crashed: it was gone, or began anew, at some level. errors_manageable: no level had a share of errors at or above
    the limit. failures_fast: 95 % of the failures were told within `fast_ms`. survivors_served: the pace never fell.
    recovery_s: the longest time until all was as before; inf: it did not within what was looked at.
    """

    errors_manageable: bool
    failures_fast: bool | None
    survivors_served: bool | None
    recovery_s: float | None
    graceful: bool | None
    crashed: bool = False

    def words(self) -> str:
        """One sentence for people."""
        parts = ["it crashed"] if self.crashed else []
        parts += ["errors stayed within the limit" if self.errors_manageable else "errors went past the limit"]
        if self.failures_fast is not None:
            parts.append("failures were told at once" if self.failures_fast else "failures made their users wait")
        if self.survivors_served is not None:
            kept = "those served were served as fast as ever"
            parts.append(kept if self.survivors_served else "fewer were served the more asked")
        if self.recovery_s is not None:
            never = "it had not recovered when the run ended"
            soon = "at once" if self.recovery_s < 0.05 else f"in {self.recovery_s:.1f} s"
            parts.append(never if np.isinf(self.recovery_s) else f"it recovered {soon}")
        verdict = {True: "Graceful", False: "Not graceful", None: "Graceful or not cannot be told"}[self.graceful]
        return f"{verdict}: {', '.join(parts)}"


def steps(levels: Sequence[Level], error_limit: float, *, crashed: Collection[float] = ()) -> tuple[Step, ...]:
    """The phase of each level, from the lowest up. Levels without requests are left out.

    crashed: those that ended in a crash or came after one. Their phase is `crash`, and no other is named by them.
    """
    ordered = sorted((one for one in levels if one.n > 0), key=lambda one: one.level)
    alive = [one for one in ordered if one.level not in crashed]
    usual = next((i for i, one in enumerate(alive) if one.n >= LEAST), 0)
    looks = [_look(alive, i, usual, error_limit) for i in range(len(alive))]
    least = [_settled([look.leans[k] for look in looks], [look.sure[k] for look in looks]) for k in range(3)]
    named = {
        one.level: Step(one.level, _worst([row[i] for row in least]), look.gain, look.growth, look.kept, look.rate)
        for i, (one, look) in enumerate(zip(alive, looks, strict=True))
    }
    return tuple(
        named.get(one.level) or Step(one.level, "crash", None, None, None, one.errors / one.n) for one in ordered
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """What one level shows by itself. `leans`, `sure`: whether it is at least queueing, shedding, in collapse; how it
    looks, and None where that is not sure."""

    gain: float | None
    growth: float | None
    kept: float | None
    rate: float
    leans: tuple[bool, bool, bool]
    sure: tuple[bool | None, bool | None, bool | None]


def _look(levels: Sequence[Level], i: int, usual: int, error_limit: float) -> _Look:
    """One level beside those below it; `usual`: the first with enough requests to tell what is usual."""
    one, first = levels[i], levels[usual]
    before = [lower for lower in levels[usual:i] if lower.level <= APART * one.level]
    best = max((lower for lower in levels[:i] if lower.served), key=lambda lower: lower.served or 0.0, default=None)
    fallen, kept = _fallen(one, best)
    idle, gain = _idle(first, before[-1] if before else None, one)
    slower, growth = _slower(first, one) if i >= usual else (UNKNOWN, None)
    rate = stats.rate_bounds(one.errors, one.n, SURE)
    failing = _Sign(one.errors / one.n >= error_limit, _held(rate.low, rate.high, error_limit))
    shedding = failing.or_(fallen)
    queueing = slower.or_(idle).or_(shedding) if i > usual else shedding
    signs = (queueing, shedding, fallen)
    return _Look(
        gain, growth, kept, one.errors / one.n,
        (signs[0].leans, signs[1].leans, signs[2].leans), (signs[0].sure, signs[1].sure, signs[2].sure),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Sign:
    """Whether something looks so, and whether that is sure; None where it is not."""

    leans: bool
    sure: bool | None

    def or_(self, other: _Sign) -> _Sign:
        """Whether one of two is so: surely where one surely is, surely not where both surely are not."""
        known = {self.sure, other.sure}
        return _Sign(self.leans or other.leans, True if True in known else None if None in known else False)


UNKNOWN = _Sign(leans=False, sure=None)


def _held(low: float | None, high: float | None, limit: float) -> bool | None:
    """Whether a value within these bounds is at or above a limit."""
    if low is not None and low >= limit:
        return True
    return False if high is not None and high < limit else None


def _fallen(one: Level, best: Level | None) -> tuple[_Sign, float | None]:
    """Whether the pace fell below 80 % of the best one, and what was kept of it."""
    if one.served is None or best is None or not best.served:
        rate = stats.rate_bounds(one.errors, one.n, SURE)
        return _Sign(one.errors / one.n >= HALF, _held(rate.low, rate.high, HALF)), None
    kept = one.served / best.served
    wide = math.exp(SIGMAS * math.hypot(_spread(one), _spread(best)))
    held = _held(kept / wide, kept * wide, FALLEN)
    return _Sign(kept < FALLEN, None if held is None else not held), kept


def _slower(first: Level, one: Level) -> tuple[_Sign, float | None]:
    """Whether the median TTFT has grown by half, and by how much."""
    base, median = _median(first), _median(one)
    if not base or median is None:
        return UNKNOWN, None
    was, now = (stats.quantile_bounds(np.sort(level.ttft_ms), 0.5, SURE) for level in (first, one))
    drift = math.exp(SIGMAS * math.sqrt(2) * DRIFT)
    least = max(GROWN * base, base + GROWN_MS)
    low = None if now.low is None or not was.high else now.low / max(GROWN * was.high, was.high + GROWN_MS) / drift
    high = None if now.high is None or not was.low else now.high / max(GROWN * was.low, was.low + GROWN_MS) * drift
    return _Sign(median >= least, _held(low, high, 1.0)), median / base


def _idle(first: Level, before: Level | None, one: Level) -> tuple[_Sign, float | None]:
    """Whether a further user adds less than half of what the first ones did, and what it adds."""
    if before is None or first.served is None or before.served is None or one.served is None:
        return UNKNOWN, None
    if not first.served or not first.level:
        return UNKNOWN, None
    each, more = first.served / first.level, one.level - before.level
    gain = (one.served - before.served) / more / each
    wide = math.hypot(one.served * _spread(one), before.served * _spread(before)) / more / each
    wide = SIGMAS * math.hypot(wide, gain * _spread(first))
    held = _held(gain - wide, gain + wide, HALF)
    return _Sign(gain < HALF, None if held is None else not held), gain


def _spread(level: Level) -> float:
    """Standard deviation of the logarithm of a level's pace: as if its answers came by chance (Poisson; in a closed
    loop they come more evenly), and the drift of a whole level."""
    return math.sqrt(1 / max(level.n - level.errors, 1) + DRIFT**2)


def _settled(leans: Sequence[bool], sure: Sequence[bool | None]) -> list[bool]:
    """What each level is taken for: what is sure, and between two that are sure the change that contradicts the fewest
    looks, the highest such. Below the lowest level all is well; a change back needs a level that surely is."""
    out: list[bool] = []
    start = 0
    for end in [*(i for i, one in enumerate(sure) if one is not None), len(sure)]:
        left = out[-1] if out else False
        right = sure[end] if end < len(sure) else None
        part = leans[start:end]
        if right is left or (right is None and left):
            out += [left] * len(part)
        else:  # up to `at` as on the left, from there on not
            cost = [
                sum(lean is not left for lean in part[:at]) + sum(lean is left for lean in part[at:])
                for at in range(len(part) + 1)
            ]
            at = max(i for i, one in enumerate(cost) if one == min(cost))
            out += [left] * at + [not left] * (len(part) - at)
        if right is not None:
            out.append(right)
        start = end + 1
    return out


def _worst(at_least: Sequence[bool]) -> Phase:
    """The phase of a level that is at least queueing, shedding, in collapse."""
    return ORDER[max((k + 1 for k, one in enumerate(at_least) if one), default=0)]


def _median(level: Level) -> float | None:
    """Median TTFT in ms; inf where half of them never came."""
    return stats.quantile(np.sort(level.ttft_ms), 0.5)


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
    """Whether the service degraded gracefully: it did not crash, recovered within 30 s, the pace of those served never
    fell, and errors stayed within the limit or were told at once.

    failure_ms: how long each failed request took from due to its end.
    """
    manageable = all(step.error_rate < error_limit for step in found)
    fast = bool(np.mean(failure_ms <= fast_ms) >= RECOVERED) if len(failure_ms) else None
    kept = [step.kept for step in found if step.kept is not None]
    served = min(kept) >= FALLEN if kept else None
    known = [one for one in recoveries_s if one is not None]
    recovery = max(known) if known else None
    crashed = any(step.phase == "crash" for step in found)
    facts = (
        not crashed,
        None if recovery is None else recovery <= SOON_S,
        served,
        manageable or fast,
    )
    graceful = False if False in facts else None if None in facts else True
    return Grace(manageable, fast, served, recovery, graceful, crashed)
