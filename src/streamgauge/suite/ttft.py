"""`ttft`: how long until the first token. A few requests at a time to each target, everything interleaved."""

from __future__ import annotations

from streamgauge.arrivals import Arrivals, Trace
from streamgauge.plan import Hold, Lane, Phase
from streamgauge.sample import REPEATS
from streamgauge.spec.presets import Settings

S = 1_000_000_000


def phases(settings: Settings, targets: tuple[str, ...], controls: tuple[str, ...]) -> tuple[Phase, ...]:
    """Warm-up of every target, where asked for one prompt again and again beside new ones, then the judged phase.

    Closed loop: a lane of `concurrency` slots for each target and each control, kept in step. Open loop: the targets
    share one stream of arrivals, the controls another one in proportion.
    """
    duration = None if settings.duration_s is None else round(settings.duration_s * S)
    arms = (*targets, *controls)
    load = settings.open_loop
    if load is not None:
        lanes = [_arriving(settings, load, names, len(targets)) for names in (targets, controls) if names]
    else:
        hold = Hold(settings.concurrency)
        lanes = [Lane((name,), settings.prompts, hold, settings.requests) for name in arms]
    judged = Phase(
        "hold",
        tuple(lanes),
        0 if load is not None else settings.concurrency,
        duration_ns=duration,
        lockstep=None if load is not None else 2 * settings.concurrency,
        think_ns=round(settings.think_time_s * S),
    )
    return (*warmup(settings, arms), *repeats(settings, targets), judged)


def repeats(settings: Settings, targets: tuple[str, ...]) -> tuple[Phase, ...]:
    """To each target one prompt again and again, and as many new ones of the same set, one of each at a time.

    Of the last set of prompts, the longest as shipped: what is long gains most by a cache.
    """
    if settings.repeats == 0:
        return ()
    longest, n = settings.prompts[-1:], settings.repeats
    lanes = tuple(Lane((name,), longest, Hold(1), n, repeats=again) for name in targets for again in (True, False))
    return (Phase(REPEATS, lanes, 2, lockstep=2, settles=True),)


def _arriving(settings: Settings, load: Arrivals, names: tuple[str, ...], targets: int) -> Lane:
    """The lane of `names`, at their share of arrivals that are meant for `targets`."""
    requests = None if settings.requests is None else settings.requests * len(names)
    return open_lane(settings, load.scaled(len(names) / targets), names, requests)


def open_lane(settings: Settings, load: Arrivals, names: tuple[str, ...], requests: int | None) -> Lane:
    """An open-loop lane over `names`. A trace ends with its last arrival, also where more requests were asked for."""
    if isinstance(load, Trace):
        there = len(load.times) if settings.duration_s is None else int(load.expected(round(settings.duration_s * S)))
        requests = there if requests is None else min(requests, there)
    return Lane(names, settings.prompts, load, requests)


def warmup(settings: Settings, arms: tuple[str, ...]) -> tuple[Phase, ...]:
    """A few requests to each, one at a time, never judged: cold starts, connections, caches of names."""
    if settings.warmup_requests == 0:
        return ()
    lanes = tuple(Lane((name,), settings.prompts, Hold(1), settings.warmup_requests) for name in arms)
    return (Phase("warmup", lanes, 1, settles=True),)
