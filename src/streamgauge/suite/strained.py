"""What a stress run showed, from its folder: levels, capacity, degradation, crashes and recovery."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from streamgauge import capacity as cap
from streamgauge.capacity import Capacity, Level
from streamgauge.columns import IntArray, population
from streamgauge.degradation import SOON_S, grace, recovery_s, steps
from streamgauge.evidence import Weigh
from streamgauge.metrics import METRICS
from streamgauge.sample import GOOD, Outcome
from streamgauge.slices import over_time
from streamgauge.strain import (
    Crash,
    Recovery,
    Rung,
    rung_of,
    section,
)
from streamgauge.suite.contract import Seen, Told
from streamgauge.suite.crashes import crashes as crashes_of
from streamgauge.suite.folder import GAP
from streamgauge.suite.stress import LEVELS, limits_of
from streamgauge.suite.weighing import weigh_capacity, weigh_crashes, weigh_errors, weigh_recovery
from streamgauge.summary import Phase

BACK, BACK_MS = 1.5, 20.0
"""TTFT is back within so many times the lowest level's p95, or so many ms above it."""
USUAL_ERRORS = 0.05
USUAL_FAST_MS = 1_000.0
ENOUGH = 10


@dataclass(frozen=True, slots=True)
class Stretch:
    """A phase with what it came to."""

    phase: Phase
    level: Level
    rung: Rung


def see(seen: Seen) -> Told:
    """The section `capacity`, and how the criteria of kind `run` are met."""
    limits = limits_of(seen.head.criteria)
    crashes = _crashes(seen)
    gone_ns = min((one.at_ns for one in crashes), default=None)
    held = [_stretch(seen, phase, crashed=bool(crashes)) for phase in seen.story.phases if _is_level(seen, phase)]
    spikes = [_stretch(seen, phase, crashed=bool(crashes)) for phase in seen.story.phases if phase.name == "spike"]
    levels = [one.level for one in held]
    crashed = {one.level.level for one in held if gone_ns is not None and one.phase.end_ns > gone_ns}
    fit = [_lost(one) if one.level in crashed else one for one in levels]
    open_loop = any(one.phase.rate is not None for one in held)

    def fitted(confidence: float) -> Capacity | None:
        rng = np.random.default_rng(seen.head.seed)
        return cap.capacity(fit, limits, rng, whole=not open_loop, confidence=confidence)

    found = fitted(seen.head.confidence)
    error_limit = min((one.limit for one in limits if one.of == "errors"), default=USUAL_ERRORS)
    fast_ms = max((one.limit for one in limits if one.of == "ttft"), default=USUAL_FAST_MS)
    recoveries = _recoveries(seen, levels)
    named = steps(_merged(levels), error_limit, crashed=crashed)
    lost = [one.looked_s >= SOON_S for one in recoveries if one.why == "not_back"]
    told = grace(
        named,
        _failure_ms(seen),
        # Where one was not back within a look too short to say so, the longest is not known.
        [one.seconds for one in recoveries] if not lost else [math.inf] if any(lost) else [],
        error_limit=error_limit,
        fast_ms=fast_ms,
    )
    unit = "requests/s" if open_loop else "users"
    asked = _asked(seen.head.settings)
    part = section(
        [one.rung for one in held], found, named, told, unit=unit, asked=asked,
        spike=spikes[0].rung if spikes else None, recoveries=recoveries, crashes=crashes, drift=cap.DRIFT,
        strictest_ms=min((one.limit for one in limits if one.of == "ttft"), default=USUAL_FAST_MS),
        metrics={one.name: "ttft_ms" if one.of == "ttft" else "error_rate" for one in limits},
    )  # fmt: skip
    weigh: dict[str, Weigh] = {
        "capacity": lambda ask, confidence: weigh_capacity(fitted(confidence), ask, unit),
        "level_error_rate": lambda ask, confidence: weigh_errors(levels, ask, confidence, unit),
        "crashes": lambda ask, _: weigh_crashes(crashes, ask, sum(one.n for one in levels), unit),
        "recovery_s": lambda ask, _: weigh_recovery(recoveries, ask),
    }
    return Told(weigh=weigh, sections={"capacity": part})


def _asked(settings: Mapping[str, object]) -> float:
    climb = settings.get("climb")
    assert isinstance(climb, dict)
    return float(climb["asked"])


# Levels


def _is_level(seen: Seen, phase: Phase) -> bool:
    """Whether a level was held here, or would have been: one that was given up on its way there has failed."""
    return phase.name in LEVELS or (phase.name == "ramp" and _gave_up(seen, phase) is not None)


def _gave_up(seen: Seen, phase: Phase) -> str | None:
    return next((one.why for one in seen.story.gave_up if phase.start_ns < one.at_ns <= phase.end_ns), None)


def _stretch(seen: Seen, phase: Phase, *, crashed: bool) -> Stretch:
    """What one phase came to. A level that was given up ends where that was.

    crashed: whether the service was gone at some time of the run: what it took with it after the phase's end it had
    carried until then.
    """
    columns = seen.columns
    rows = _rows(seen, phase)
    if crashed:
        rows = rows[columns.having(rows, GOOD) | (columns.end[rows] < phase.end_ns)]
    within = columns.counted("error_rate", rows)
    waited = population(columns, METRICS["ttft_ms"], rows)
    alongside = columns.select(targets=seen.scope.targets)
    pace = over_time(columns, alongside, [(phase.start_ns, phase.end_ns)], seen.scope.limits)
    waits = waited.values[np.argsort(columns.due[waited.rows], kind="stable")]
    level = Level(
        level=float(phase.level) if phase.rate is None else phase.rate, ttft_ms=waits,
        n=len(within), errors=int((~columns.having(within, GOOD)).sum()), served=pace["requests_per_s"],
        goodput=pace["goodput"], tokens=pace["tokens_per_s"], in_flight=pace["open_streams_mean"],
        rising=phase.rate is not None and cap.rises(waits),
    )  # fmt: skip
    seconds = (phase.end_ns - phase.start_ns) / 1e9
    held = pace["concurrency_held"] if phase.rate is None else None
    gave_up = _gave_up(seen, phase)
    late_ms = columns.late_ms[rows[~columns.having(rows, [Outcome.SHED])]]
    rung = rung_of(
        level, late_ms.astype(np.float64), start_ns=phase.start_ns, seconds=seconds, held=held, gave_up=gave_up
    )
    return Stretch(phase, level, rung)


def _rows(seen: Seen, phase: Phase) -> IntArray:
    """Requests to judged targets that came due in this phase."""
    columns = seen.columns
    rows = columns.select(targets=seen.scope.targets, phases=(phase.name,))
    due = columns.due[rows]
    return rows[(due >= phase.start_ns) & (due < phase.end_ns)]


def _merged(levels: Sequence[Level]) -> list[Level]:
    """A level that was held twice counts once: the longer of the two."""
    best: dict[float, Level] = {}
    for one in levels:
        if one.level not in best or one.n > best[one.level].n:
            best[one.level] = one
    return list(best.values())


# Crashes and recovery


def _crashes(seen: Seen) -> list[Crash]:
    """Each time the service was gone or began anew."""
    gaps = [(one.start_ns, one.end_ns) for one in seen.story.phases if one.name == GAP]
    return crashes_of(
        seen.columns, seen.columns.select(targets=seen.scope.targets), seen.readings, start_ns=seen.head.start_ns,
        gaps=gaps, level_at=lambda at_ns: _level_at(seen, at_ns),
    )  # fmt: skip


def _level_at(seen: Seen, at_ns: int) -> float | None:
    """What was held, or on its way to be, at a time; None beside the levels."""
    of = next((one for one in seen.story.phases if one.start_ns <= at_ns < one.end_ns), None)
    if of is None or of.name not in ("ramp", "spike", *LEVELS):
        return None
    return float(of.level) if of.rate is None else of.rate


def _lost(level: Level) -> Level:
    """A level at which the service died is not one that it carries, however few requests that cost."""
    return replace(level, ttft_ms=np.full(max(len(level.ttft_ms), 1), np.inf), errors=level.n)


def _recoveries(seen: Seen, levels: Sequence[Level]) -> list[Recovery]:
    """Each recovery phase: what it followed, and how long it took."""
    back_ms = _back_ms(levels)
    out = []
    after = "the climb"
    columns = seen.columns
    for i, phase in enumerate(seen.story.phases):
        if phase.name == "spike":
            after = "the spike"
        elif any(one.at_ns == phase.start_ns or _just_before(one.at_ns, phase) for one in seen.story.gave_up):
            after = "a level that was given up"
        if phase.name != "recovery":
            continue
        end_ns = _until(seen.story.phases, i)
        rows = columns.counted("error_rate", _rows(seen, replace_end(phase, end_ns)))
        rows = rows[np.argsort(columns.due[rows], kind="stable")]
        ttft = columns.values["ttft_ms"][rows]
        waited = np.where(np.isnan(ttft), np.inf, ttft)
        due_s = (columns.due[rows] - phase.start_ns) / 1e9
        seconds = None if back_ms is None else recovery_s(due_s, columns.having(rows, GOOD), waited, back_ms)
        why = "too_few" if seconds is None else "not_back" if math.isinf(seconds) else None
        out.append(
            Recovery(
                after=after, start_ns=phase.start_ns, looked_s=(end_ns - phase.start_ns) / 1e9,
                seconds=None if why else seconds, why=why,
            )
        )  # fmt: skip
    return out


def _just_before(at_ns: int, phase: Phase) -> bool:
    return 0 <= phase.start_ns - at_ns < 1_000_000_000 and phase.name == "recovery"


def _until(phases: Sequence[Phase], i: int) -> int:
    """The end of a recovery: `settle`, at the same level, belongs to it."""
    following = phases[i + 1] if i + 1 < len(phases) else None
    return following.end_ns if following is not None and following.name == "settle" else phases[i].end_ns


def replace_end(phase: Phase, end_ns: int) -> Phase:
    """The same phase with another end."""
    return Phase(name=phase.name, level=phase.level, start_ns=phase.start_ns, end_ns=end_ns, rate=phase.rate)


def _back_ms(levels: Sequence[Level]) -> float | None:
    """Until when a first token counts as before: by the p95 of the lowest levels, of at least 10 requests."""
    values: list[float] = []
    for one in sorted(levels, key=lambda one: one.level):
        values += [value for value in one.ttft_ms.tolist() if math.isfinite(value)]
        if len(values) >= ENOUGH:
            p95 = sorted(values)[math.ceil(0.95 * len(values)) - 1]
            return max(BACK * p95, p95 + BACK_MS)
    return None


def _failure_ms(seen: Seen) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """How long each request that failed in a level or a spike took to say so."""
    columns = seen.columns
    rows = columns.counted("error_rate", columns.select(targets=seen.scope.targets, phases=(*LEVELS, "spike")))
    rows = rows[~columns.having(rows, GOOD)]
    took: np.ndarray[tuple[int], np.dtype[np.float64]] = (columns.end[rows] - columns.due[rows]) / 1e6
    return took
