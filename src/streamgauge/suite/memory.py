"""`memory`: does the server's memory grow under steady load, and does it come back after a burst.

Phases: a few streams held for long (growth), many for a short time (the peak is read while they run), then none at all
(what is left). Without a probe there is nothing to judge, so it does not start.
"""

from __future__ import annotations

import numpy as np

from streamgauge.columns import IntArray
from streamgauge.evidence import Answer, Evidence, Requirement, observed
from streamgauge.held import Held, Read, Windows, read
from streamgauge.memory import Memory, section
from streamgauge.plan import Hold, Lane, Phase
from streamgauge.probes.watch import EVERY_S
from streamgauge.sample import GOOD
from streamgauge.shares import share_of
from streamgauge.spans import span
from streamgauge.spec.presets import Settings
from streamgauge.suite.contract import Seen, Told
from streamgauge.suite.ttft import open_lane, warmup
from streamgauge.trend import GRAIN, LEAST_NS, LEAST_READINGS, MB, MOST_WARMUP, Cleanup, hours_needed

S = 1_000_000_000
GROWTH, CLEANUP, UNBOUNDED = "memory_growth_mb_per_h", "memory_cleanup", "memory_unbounded"
ALLOWED_MB_PER_H = 100.0
"""Growth that counts as allowed where no criterion says another."""
SERVED = 0.5
"""Of the hold's requests so many must have been answered, or nobody used the server."""
UNREAD = "readings of the server's memory failed"
SURELY_S = LEAST_NS / (1 - MOST_WARMUP) / S
"""A hold of this length is long enough for growth wherever its warm-up ends."""


def phases(settings: Settings, targets: tuple[str, ...], controls: tuple[str, ...]) -> tuple[Phase, ...]:
    """Warm-up, the hold, the burst, and the time without load. The burst's streams end before that begins."""
    burst = settings.burst
    assert burst is not None
    wanted = None if settings.requests is None else settings.requests * len(targets)
    level = settings.concurrency
    if settings.open_loop is not None:
        lane, level = open_lane(settings, settings.open_loop, targets, wanted), 0
    else:
        lane = Lane(targets, settings.prompts, Hold(level, _spread(level)), wanted)
    duration = None if settings.duration_s is None else round(settings.duration_s * S)
    rush = Lane(targets, settings.prompts, Hold(burst.level, _spread(burst.level)))
    return (
        *warmup(settings, targets),
        Phase("hold", (lane,), level, duration_ns=duration, think_ns=round(settings.think_time_s * S)),
        Phase("burst", (rush,), burst.level, duration_ns=round(burst.seconds * S), settles=True),
        Phase("idle", (), 0, duration_ns=round(burst.idle_s * S)),
    )


def decides(settings: Settings, metric: str, hold_s: float) -> bool:
    """Whether the hold is long enough to judge growth, and the burst for some readings of its peak."""
    if metric in (GROWTH, UNBOUNDED):
        return hold_s >= SURELY_S
    return metric != CLEANUP or settings.burst is None or settings.burst.seconds >= LEAST_READINGS * EVERY_S


def _spread(level: int) -> int:
    """New streams start spread over this time, ns."""
    return round(level / 100 * S)


def see(seen: Seen) -> Told:
    """What the readings say, held against whatever is asked."""
    found = look(seen)
    return Told(
        weigh={
            GROWTH: lambda ask, confidence: growth_evidence(seen, found, ask),
            CLEANUP: lambda ask, confidence: _cleanup_evidence(seen, found, ask),
            UNBOUNDED: lambda ask, confidence: _unbounded_evidence(seen, found, ask),
        },
        sections={"memory": told(seen, found)},
    )


def look(seen: Seen) -> Read:
    """The series of a run, its windows by what happened."""
    at: dict[str, tuple[int, int]] = {}
    pauses: list[tuple[int, int]] = []
    for phase in seen.story.phases:
        before, now = at.get(phase.name), (phase.start_ns, phase.end_ns)
        # A run that was cut off and went on has two: both holds are judged, with a pause between; a burst was run anew.
        if before is not None and phase.name == "hold":
            pauses += [(before[1], now[0])] if now[0] > before[1] else []
            now = (before[0], now[1])
        at[phase.name] = now
    none = (seen.head.start_ns, seen.head.start_ns)
    idle = at.get("idle")
    over = idle if idle is None or seen.story.end_ns is None else (idle[0], max(idle[1], seen.story.end_ns))
    windows = Windows(seen.head.start_ns, at.get("hold", none), at.get("burst"), over, tuple(pauses))
    rows = seen.columns.select(targets=seen.scope.targets, phases=("hold",))
    ended: IntArray = np.sort(seen.columns.end[rows])
    return read(seen.readings, windows, ended, seen.head.confidence)


def told(seen: Seen, found: Read) -> Memory | None:
    """The report's part; None where nothing was read."""
    if not seen.readings:
        return None
    phases = [(phase.name, phase.start_ns, phase.end_ns) for phase in seen.story.phases]
    return section(found, seen.readings, phases, allowed(seen))


def allowed(seen: Seen) -> float:
    """Growth an hour that is allowed, bytes: by the run's own criterion on it where it has one."""
    limits = [one.limit for one in seen.head.criteria if one.metric == GROWTH and one.op in ("<", "<=")]
    return MB * min(limits, default=ALLOWED_MB_PER_H)


def growth_evidence(seen: Seen, found: Read, ask: Requirement) -> Evidence:
    """Growth of the worst series against a limit in MB/h."""
    limit = ask.limit * MB
    worst = found.worst(limit)
    why = _nothing(seen, found, worst)
    if why is not None or worst is None or worst.growth is None or worst.growth.whole is None:
        return Evidence("inconclusive", why="not_measured", said=why or _unread(seen) or _short(worst, limit))
    grown, whole = worst.growth, worst.growth.whole
    answer = worst.grows(limit)
    if not ask.upper:
        answer = {"pass": "fail", "fail": "pass"}.get(answer, answer)  # type: ignore[assignment]
    sure = f"{100 * seen.head.confidence:g} %"
    minutes = f"{grown.readings:,} readings over {span(grown.judged_ns / 1e9)}"
    minutes += " on both sides of a gap" * (len(set(grown.parts)) > 1)
    way = "grows" if whole.value >= 0 else "shrinks"
    said = f"{_gauge(worst)} {way} by {abs(whole.value) / MB:,.1f} MB/h"
    if worst.grows(limit) == "pass":
        said += f", {sure} sure it is below {whole.high / MB:,.1f} MB/h ({minutes})"
    elif worst.grows(limit) == "fail":
        said += f", {sure} sure it is above {whole.low / MB:,.1f} MB/h ({minutes})"
    else:
        said = f"{said}, between {whole.low / MB:,.1f} and {whole.high / MB:,.1f} MB/h; {_short(worst, limit)}"
    value, low, high = (x / MB for x in (whole.value, whole.low, whole.high))
    return Evidence(answer, value, low, high, n=grown.readings, said=said)


def _short(held: Held | None, limit: float) -> str:
    """That more time is needed, and how much as far as can be told."""
    if held is None or held.growth is None or held.growth.start_ns == held.growth.end_ns:
        n = "no" if held is None or held.growth is None else "only one"
        return f"{n} reading of it during the hold; about 1 h of load would decide (--duration)"
    grown = held.growth
    needed = hours_needed(grown, limit)
    seen = span(grown.loaded_ns / 1e9)
    if needed is None and grown.whole is not None and grown.long_enough:
        return "too close to the limit for a run of two days to tell"
    return f"{seen} of load are too short to decide; about {span(3600 * (needed or 1.0))} would (--duration)"


def _nothing(seen: Seen, found: Read, worst: Held | None) -> str | None:
    """Why nothing can be said of growth whatever was read; None where something can."""
    if not seen.head.settings.get("probes"):
        return "no probe reads the server's memory; docs/probes.md adds one in five minutes"
    if found.gauge is None:
        failed = next((one.error for one in seen.readings if one.error is not None), None)
        return f"no reading of the server's memory{f': {failed}' if failed else ''}"
    mixed = next((one for one in found.judged if one.mixed), None)
    if mixed is not None and (worst is None or worst.grows(allowed(seen)) != "fail"):
        return f"several processes answer as {mixed.name} by turns: have the probe tell an instance id"
    rows = seen.columns.counted("error_rate", seen.columns.select(targets=seen.scope.targets, phases=("hold",)))
    good = int(seen.columns.having(rows, GOOD).sum())
    if not len(rows) or good < SERVED * len(rows):
        return f"{good:,} of {len(rows):,} requests were answered: the server was hardly used"
    return None


def _unread(seen: Seen) -> str | None:
    """That the probes failed half of the time or more: then it is not the time that was too short."""
    failed = [one.error for one in seen.readings if one.error is not None]
    if not failed or 2 * len(failed) < len(seen.readings):
        return None
    return f"{len(failed):,} of {len(seen.readings):,} {UNREAD}, at last so: {failed[-1]}"


def _gauge(held: Held) -> str:
    return f"{'heap' if held.gauge == 'heap_used' else 'RSS'} of {held.name}"


def _unbounded_evidence(seen: Seen, found: Read, ask: Requirement) -> Evidence:
    """1 where it is a line, 0 where it is flat or a plateau."""
    limit = allowed(seen)
    worst = min(found.judged, key=lambda one: ("fail", "inconclusive", "pass").index(one.bounded(limit)), default=None)
    why = _nothing(seen, found, worst)
    if why is not None or worst is None or worst.growth is None or not worst.growth.long_enough:
        return Evidence("inconclusive", why="not_measured", said=why or _unread(seen) or _short(worst, limit))
    grown = worst.growth
    assert grown.whole is not None
    assert grown.late is not None
    shape = grown.shape(limit)
    rates = f"{grown.whole.value / MB:,.1f} MB/h, its second half {grown.late.value / MB:,.1f} MB/h"
    if shape == "unclear":
        said = f"{_gauge(worst)} could be a line or a plateau ({rates}); {_short(worst, limit)}"
        return Evidence("inconclusive", n=grown.readings, why="too_few", said=said)
    words = {"line": "rises on a line", "plateau": "rose and slowed", "flat": "is flat"}[shape]
    plain = observed(ask, 1.0 if shape == "line" else 0.0, grown.readings)
    return Evidence(plain.answer, plain.value, n=plain.n, said=f"{_gauge(worst)} {words} ({rates})")


def _cleanup_evidence(seen: Seen, found: Read, ask: Requirement) -> Evidence:
    """The least that any series gave back of what the burst raised."""
    cleaned = [(one, one.cleanup) for one in found.judged if one.cleanup is not None]
    why = _nothing(seen, found, None)
    if why is None and not cleaned:
        why = _unread(seen) or "no reading before, during and after the burst"
    if why is None and not _burst_served(seen):
        why = "the burst was not answered"
    if why is not None:
        return Evidence("inconclusive", why="not_measured", said=why)
    raised = [(one, c) for one, c in cleaned if c.efficiency is not None]
    unseen = [(one, c) for one, c in cleaned if c.efficiency is None and not c.flat]
    if unseen and not any(_returned(c, ask) == "fail" for _, c in raised):
        return _hidden(*max(unseen, key=lambda each: each[1].peak - each[1].before))
    if not raised:
        held, c = max(cleaned, key=lambda each: each[1].peak - each[1].before)
        # No more is held than before: whatever rose between two readings came back.
        told = observed(ask, 1.0, len(held.times))
        sure = f"95 % sure that less than {max(c.stayed, GRAIN) / MB:,.1f} MB stayed"
        said = f"{_gauge(held)} was no higher after the burst than before, {sure} ({_levels(held, c)})"
        return Evidence(told.answer, n=told.n, said=said)
    held, c = min(raised, key=lambda each: each[1].efficiency or 0.0)
    efficiency, answer, n = c.efficiency or 0.0, _returned(c, ask), len(held.times)
    raised_by_it = "what the burst raised"
    share = share_of(efficiency, raised_by_it) if efficiency > 0 else f"nothing of {raised_by_it}"
    said = f"{_gauge(held)} gave back {share} ({_levels(held, c)})"
    if answer == "fail" and not found.long_idle:
        said += "; so short an idle time says little, a collector may run later (idle of 2 min or more decides)"
        answer = "inconclusive"
    elif answer == "inconclusive":
        said += f", or up to {share_of(c.at_most or 0.0)} if it grew on while idle: mend the growth, then run again"
    return Evidence(answer, efficiency, n=n, said=said)


def _returned(c: Cleanup, ask: Requirement) -> Answer:
    """The answer where it is the same whether or not growth went on without load."""
    told = {ask.met_by(share) for share in (c.efficiency, c.at_most) if share is not None}
    return "inconclusive" if len(told) != 1 else "pass" if told.pop() else "fail"


def _hidden(held: Held, c: Cleanup) -> Evidence:
    """Nothing rose that could be told from noise or growth, and that nothing rose is not shown either."""
    if c.readings < LEAST_READINGS:
        lacks, remedy = f"{c.readings} readings during the burst show too little", "burst_duration of 20 s or more"
    elif c.peak - c.before > c.hidden:
        lacks, remedy = "what rose during the burst is no more than growth alone would add", "a larger burst"
    elif c.after - c.before > c.hidden:
        lacks, remedy = "the burst raised nothing that was seen, and yet more is held after it", "a larger burst"
    else:
        lacks = f"readings lie so far apart that a rise of {c.hidden / MB:,.0f} MB could hide in them"
        lacks += f" and {c.stayed / MB:,.0f} MB of it stay"
        remedy = "a larger burst"
    said = f"{_gauge(held)}: {lacks}; {remedy} decides (docs/spec.md): {_levels(held, c)}"
    return Evidence("inconclusive", why="not_measured", said=said)


def _levels(held: Held, c: Cleanup) -> str:
    peak = f"{c.peak / MB:,.0f} at most"
    if c.grown and held.growth is not None and held.growth.whole is not None:
        rate = held.growth.whole.value / MB
        peak += f", less {c.grown / MB:,.1f} MB that the growth of {rate:,.0f} MB/h alone explains"
    return f"{c.before / MB:,.0f} MB before, {peak}, {c.after / MB:,.0f} after"


def _burst_served(seen: Seen) -> bool:
    """Whether most of the burst's requests were answered."""
    rows = seen.columns.select(targets=seen.scope.targets, phases=("burst",))
    good = int(seen.columns.having(rows, GOOD).sum())
    return len(rows) > 0 and good >= SERVED * len(rows)
