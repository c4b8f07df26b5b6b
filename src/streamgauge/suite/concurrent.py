"""`concurrent`: does the service hold many streams at once, and what does that cost each of them."""

from __future__ import annotations

from streamgauge.plan import Hold, Lane, Phase
from streamgauge.spec.presets import Settings
from streamgauge.suite.ttft import open_lane, warmup

S = 1_000_000_000
CONTROL_STREAMS = 4
REFERENCE_TOKENS = 32
"""Answers of the reference are this short: it is there for its first tokens, and 20 of them are wanted soon."""


def phases(settings: Settings, targets: tuple[str, ...], controls: tuple[str, ...]) -> tuple[Phase, ...]:
    """Warm-up, one stream alone for reference, the ramp, the judged hold, and above it the stress level.

    The level is over all targets, which take turns on it, as they do in use. Controls run beside the hold on a few
    streams of their own. Open loop has no level: its hold is the arrivals alone.
    """
    wanted = None if settings.requests is None else settings.requests * len(targets)
    beside = tuple(_control(name, settings, wanted) for name in controls)
    if settings.open_loop is not None:
        main = open_lane(settings, settings.open_loop, targets, wanted)
        return (*warmup(settings, (*targets, *controls)), _hold(settings, (main, *beside), 0))
    level = settings.concurrency
    ramp = round(settings.ramp_s * S)

    def lane(load: Hold, requests: int | None) -> Lane:
        return Lane(targets, settings.prompts, load, requests)

    plan = [*warmup(settings, (*targets, *controls))]
    if settings.reference_requests is not None or settings.reference_s is not None:
        duration = None if settings.reference_s is None else round(settings.reference_s * S)
        requests = None if settings.reference_requests is None else settings.reference_requests
        alone = (lane(Hold(1), requests),)
        plan.append(Phase("reference", alone, 1, duration_ns=duration, settles=True, max_tokens=REFERENCE_TOKENS))
    plan.append(Phase("ramp", (lane(Hold(level, ramp), None),), level, duration_ns=ramp))
    plan.append(_hold(settings, (lane(Hold(level), wanted), *beside), level))
    if settings.stress_level is not None:
        over = settings.stress_level
        spread = round(max(2.0, (over - level) / 100) * S)
        duration = None if settings.stress_s is None else round(settings.stress_s * S)
        requests = settings.stress_requests
        plan.append(Phase("stress", (lane(Hold(over, spread), requests),), over, duration_ns=duration))
    return tuple(plan)


def _hold(settings: Settings, lanes: tuple[Lane, ...], level: int) -> Phase:
    duration = None if settings.duration_s is None else round(settings.duration_s * S)
    return Phase("hold", lanes, level, duration_ns=duration, think_ns=round(settings.think_time_s * S))


def _control(name: str, settings: Settings, wanted: int | None) -> Lane:
    """A control's own few streams: a twentieth of the judged requests, at least 20."""
    return Lane((name,), settings.prompts, Hold(CONTROL_STREAMS), max(20, (wanted or 400) // 20))
