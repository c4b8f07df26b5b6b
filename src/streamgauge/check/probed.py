"""What each probe sees now, or why it sees nothing."""

from __future__ import annotations

from collections.abc import Mapping

from streamgauge.check.finding import Finding, clean, fail, ms, ok, warn
from streamgauge.probes.contract import Asking, ProbeError
from streamgauge.probes.watch import Probe
from streamgauge.sample import MEMORY
from streamgauge.spans import span

_WHAT = "probe"
_QUIET = ("restarts",)


def look_at_probe(probe: Probe) -> Finding:
    """Ask it once, in detail and without having garbage collected."""
    began = probe.clock.now()
    try:
        seen = probe.ask(Asking(snapshot=True))
    except ProbeError as error:
        step = "a run goes on without it and says so; the test memory needs one that reads"
        return clean(fail(_WHAT, str(error), step), probe.redact)
    took = probe.clock.now() - began
    text = f"{seen.who}: {shown(seen.values)}"
    if seen.uptime_s is not None:
        text += f"; up {span(seen.uptime_s)}"
    text += f"; took {took / 1e6:,.0f} ms"
    facts = {
        "values": seen.values, "instance": seen.instance or None, "uptime_s": seen.uptime_s, "pid": seen.pid,
        "took_ms": ms(took), "missing": list(seen.missing),
    }  # fmt: skip
    if seen.missing:
        text += f". Not found: {'; '.join(seen.missing)}"
        return clean(warn(_WHAT, text, "correct its paths", **facts), probe.redact)
    return clean(ok(_WHAT, text, **facts), probe.redact)


def shown(values: Mapping[str, float]) -> str:
    """Gauges for a person: bytes as MB."""
    return ", ".join(
        f"{name} {value / 1e6:,.1f} MB" if name in MEMORY else f"{name} {value:,g}"
        for name, value in values.items()
        if name not in _QUIET
    )
