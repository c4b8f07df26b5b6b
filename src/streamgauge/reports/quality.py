"""How well we measured: what the generator saw of itself."""

from __future__ import annotations

import streamgauge.reports.wording as say
from streamgauge.reports.document import Document

_READ_BY: dict[bool | None, str] = {True: ", read by the compiled part", False: ", read by plain Python", None: ""}


def quality_line(document: Document) -> str:
    """How well we measured, in one line."""
    m = document.measurement
    clock = {"kernel": "kernel clock", "user": "user clock", "mixed": "kernel and user clock"}.get(m.stamps, m.stamps)
    slack, late = m.slack_ms.get("p95"), m.late_ms.get("p95")
    parts = []
    if slack is not None:
        parts.append(f"first tokens timed to within {say.milliseconds(max(slack, 0.1))}")
    if late is not None:
        parts.append("no late sends" if late < 1 and not m.missed_starts else f"sends late by {say.milliseconds(late)}")
    if m.missed_starts:
        parts.append(f"{say.count(m.missed_starts, 'start')} missed")
    line = ", ".join([*parts, say.plain(clock, 40)])
    return line[0].upper() + line[1:]


def calibration_line(document: Document) -> str | None:
    """What this machine can measure at all, in one line; None where it was never calibrated."""
    found = document.measurement.calibration
    return None if found is None else say.plain(say.calibrated(found), 400)


def quality_rows(document: Document) -> list[tuple[str, str]]:
    """What the generator saw of itself, as (label, value)."""
    m = document.measurement

    def spread(values: dict[str, float | None]) -> str:
        return ", ".join(f"{key} {say.milliseconds(value)}" for key, value in values.items())

    rows = [
        ("Clock of the stamps", f"{m.stamps}{_READ_BY[m.compiled]}"),
        ("First token known to within", spread(m.slack_ms)),
        ("Starts late through us", spread(m.late_ms)),
        ("Starts missed through us", f"{m.missed_starts:,} of {m.starts:,}"),
        ("Text events merged by us", f"{m.merged_events:,} of {m.text_events:,}"),
        (
            "Workers",
            f"{m.workers:,}, CPU {say.percent(m.worker_cpu_mean)} mean, {say.percent(m.worker_cpu_max)} at most",
        ),
        ("Processors of this machine in use", say.percent(m.machine_cpu_mean)),
        ("Longest turn of a worker", say.milliseconds(m.longest_turn_ms)),
        ("Clock steps", f"{m.clock_steps:,}, {say.count(m.flagged_by_clock, 'request')} flagged"),
        ("Requests lost to limits of this machine", f"{m.client_limits:,}"),
        ("Descriptors", f"{say.number(m.descriptors_used)} of {say.number(m.descriptors_limit)}"),
    ]
    if m.arrivals is not None:
        rows.append(("Arrivals", m.arrivals))
    for key, wanted in m.planned.items():
        if wanted is None:
            continue
        rows.append(
            (
                f"{key.replace('_', ' ')}: achieved of planned",
                f"{say.number(m.achieved.get(key))} of {say.number(wanted)}",
            )
        )
    return [(say.plain(a, 80), say.plain(b, 200)) for a, b in rows]
