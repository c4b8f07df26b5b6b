"""Clock and limits of this machine against what the plan needs. Pure: the readings are arguments."""

from __future__ import annotations

from collections.abc import Mapping

from streamgauge.check.finding import Finding, fail, ok, warn
from streamgauge.reports.document import Calibration
from streamgauge.reports.wording import calibrated

SKEW_S = 5.0
"""A wall clock that is further off than this spoils certificates, tokens and the matching of logs."""


def clock(*, uncertainty_ns: int, kernel_stamps: bool, skew_s: Mapping[str, float], reads: str = "compiled") -> Finding:
    """How well arrivals are timed here, and the wall clock against the servers' `Date` (target -> ours less theirs).

    `reads`: what the part that waits and reads is made of.
    """
    facts = {
        "uncertainty_us": round(uncertainty_ns / 1e3, 2), "kernel_stamps": kernel_stamps, "skew_s": dict(skew_s),
        "reads": reads,
    }  # fmt: skip
    if not kernel_stamps:
        step = "measure from Linux for exact times"
        return warn("clock", "no kernel stamps here: the user clock is used", step, **facts)
    text = f"kernel clock mapped to within {uncertainty_ns / 1e3:.1f} us, read by the {reads} part"
    far = {name: skew for name, skew in skew_s.items() if abs(skew) > SKEW_S}
    if far:
        name, skew = max(far.items(), key=lambda item: abs(item[1]))
        way = "ahead of" if skew > 0 else "behind"
        text += f"; wall clock {abs(skew):,.0f} s {way} the Date of {name}"
        return warn("clock", text, "set this machine's clock (NTP), or the server's: their logs do not match", **facts)
    return ok("clock", text, **facts)


def limits(*, descriptors: int, needed: int, streams: int, workers: int, cores: int, load: float | None) -> Finding:
    """Descriptors a worker may have and needs, and cores. `load`: the last minute's mean of tasks that want a core."""
    facts: dict[str, object] = {
        "descriptors": descriptors, "descriptors_needed": needed, "streams": streams, "workers": workers,
        "cores": cores, "load": load,
    }  # fmt: skip
    text = (
        f"{descriptors:,} descriptors, {workers} worker{'s' if workers > 1 else ''} on {cores} core"
        f"{'s' if cores > 1 else ''}, {streams:,} streams planned"
    )
    if needed > descriptors:
        return fail("limits", text, "raise ulimit -n, or ask for fewer streams", **facts)
    if load is not None and load > cores:
        return warn("limits", f"{text}; load {load:.1f}", "this machine is busy: measure when it is quiet", **facts)
    return ok("limits", text, **facts)


def accuracy(known: Calibration | None, streams: int) -> Finding:
    """What load this machine is known to measure rightly, against the planned `streams`."""
    step = "streamgauge check --calibrate finds out in about a minute"
    if known is None:
        return ok("accuracy", f"this machine is not calibrated; {step}", calibrated=None)
    facts = {"calibrated": known.at, "stale": known.stale, "streams": known.streams, "events_per_s": known.events_per_s}
    if known.stale is not None:
        return warn("accuracy", calibrated(known), step, **facts)
    if streams > (known.streams or 0):
        return warn("accuracy", f"{calibrated(known)}; {streams:,} are planned", step, **facts)
    return ok("accuracy", calibrated(known), **facts)
