"""Level against what users got: TTFT p95, errors and good answers on one axis of levels, with knee and phases."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import streamgauge.reports.wording as say
from streamgauge import stats
from streamgauge.reports.charts import habits
from streamgauge.reports.svg import HEX, Frame, picture
from streamgauge.strain import Fit, Rung, Strain

PAINTS = {"linear": "pass", "queueing": "inconclusive", "shedding": "series-2", "collapse": "fail"}
"""Of the phases of degradation."""


def levels(frame: Frame, strain: Strain) -> str:
    """Three panels that share the levels: TTFT p95, failed requests, good answers a second."""
    rungs = sorted(strain.levels, key=lambda one: one.level)

    def draw(figure: Any) -> None:
        panels = figure.subplots(3, 1, sharex=True, height_ratios=[3, 1.7, 2.4])
        top, middle, bottom = panels
        for axes in panels:
            habits.quiet(axes)
        most = max(one.level for one in rungs)
        top.set_xlim(0, most * 1.04)
        knee = _knee(panels, strain, most)
        names = _phases(top, panels, rungs, frame)
        spike = () if strain.spike is None else (strain.spike.ttft_p95_ms,)
        drawn = _times(top, rungs, [one for one in strain.fits if one.name.startswith("ttft_ms.p95")], spike)
        drawn |= _errors(middle, rungs, [one for one in strain.fits if one.metric == "error_rate"])
        drawn |= knee
        rates, labels = _pace(bottom, rungs)
        drawn |= _spike(panels, strain.spike)
        habits.heading(top, "TTFT p95, ms", names)
        habits.heading(middle, "Failed requests")
        habits.heading(bottom, f"A second: {labels}")
        drawn |= rates
        bottom.set_xlabel(habits.label(strain.unit, 20), color=HEX["muted"])
        habits.legend(top, list(drawn.values()), list(drawn), frame, above=names + 10 + habits.LINE)

    return picture(frame, 620 if frame.wide else 640, draw)


def _phases(top: Any, panels: Sequence[Any], rungs: Sequence[Rung], frame: Frame) -> float:
    """Each phase of degradation shaded from half-way between levels, and named above."""
    spans = []
    at = 0
    for phase, run in groupby(one.phase for one in rungs):
        length = len(list(run))
        first, last = rungs[at], rungs[at + length - 1]
        low = 0.0 if not at else (rungs[at - 1].level + first.level) / 2
        high = top.get_xlim()[1] if at + length == len(rungs) else (last.level + rungs[at + length].level) / 2
        at += length
        if phase is None:
            continue
        spans.append((low, habits.label(phase, 20), PAINTS.get(phase, "muted")))
        for axes in panels:
            axes.axvspan(low, high, color=HEX[PAINTS.get(phase, "muted")], alpha=0.07, linewidth=0, zorder=0)
            if low:
                axes.axvline(low, color=HEX["muted"], linewidth=1, alpha=0.6, linestyle=(0, (1.5, 2.5)))
    return habits.names_above(top, spans, frame, 6)


def _knee(panels: Sequence[Any], strain: Strain, most: float) -> dict[str, Any]:
    """The capacity as a line through all panels, its interval as a band; an open end goes to the edge."""
    drawn: dict[str, Any] = {}
    low = 0.0 if strain.low is None else strain.low
    high = most * 1.04 if strain.high is None else strain.high
    for axes in panels:
        if strain.value is not None or strain.high is not None:
            drawn["its 90 % interval"] = axes.axvspan(
                low, high, color=HEX["series-1"], alpha=0.18, linewidth=0, zorder=0.5
            )
        if strain.value is not None:
            drawn["capacity"] = axes.axvline(strain.value, color=HEX["series-1"], linewidth=2)
    return drawn


def _times(axes: Any, rungs: Sequence[Rung], fits: Sequence[Fit], besides: Sequence[float | None]) -> dict[str, Any]:
    """p95 of each level; where it was not reached an arrow at the upper edge. `besides` must have room as well."""
    drawn: dict[str, Any] = {}
    known = [(one.level, one.ttft_p95_ms) for one in rungs if one.ttft_p95_ms is not None]
    # A handful of requests at the lowest level has no p95 at all, which is not one that was not reached.
    never = [one.level for one in rungs if stats.resolves(0.95, one.n) and one.ttft_p95_ms is None]
    values = [value for value in (*(value for _, value in known), *besides, *(fit.limit for fit in fits)) if value]
    low, high = (min(values) * 0.7, max(values) * 1.5) if values else (1.0, 10.0)
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.set_yticks(*habits.round_ticks(low, high))
    axes.yaxis.set_minor_locator(habits.no_ticks())
    if known:
        drawn["measured"] = axes.plot(*zip(*known, strict=True), "o", color=HEX["ink"], markersize=6, clip_on=False)[0]
    if never:
        drawn["p95 not reached"] = axes.plot(
            never, [high * 0.93] * len(never), "^", color=HEX["fail"], markersize=7, clip_on=False
        )[0]
    return drawn | _fits(axes, fits, high)


def _fits(axes: Any, fits: Sequence[Fit], top: float) -> dict[str, Any]:
    """Rising fits and the limits they are held against; a fit beyond what is known leaves at the upper edge."""
    drawn: dict[str, Any] = {}
    for fit in fits:
        fitted = [top if value is None else value for value in fit.fitted]
        drawn["fit"] = axes.plot(fit.levels, fitted, color=HEX["ink"], linewidth=1.5)[0]
        drawn["limit"] = axes.axhline(fit.limit, color=HEX["fail"], linewidth=1, linestyle=(0, (5, 2)))
    return drawn


def _errors(axes: Any, rungs: Sequence[Rung], fits: Sequence[Fit]) -> dict[str, Any]:
    known = [(one.level, one.error_rate) for one in rungs if one.error_rate is not None]
    most = max([0.01, *(rate for _, rate in known), *(1.2 * fit.limit for fit in fits)])
    axes.set_ylim(0, min(1.0, most) * 1.08)
    axes.locator_params(axis="y", nbins=4)
    axes.yaxis.set_major_formatter(lambda value, _: say.percent(value))
    drawn = _fits(axes, fits, axes.get_ylim()[1])
    if known:
        drawn["measured"] = axes.plot(*zip(*known, strict=True), "o", color=HEX["ink"], markersize=6, clip_on=False)[0]
    return drawn


def _spike(panels: Sequence[Any], spike: Rung | None) -> dict[str, Any]:
    """What the same level gave when all came at once."""
    drawn: dict[str, Any] = {}
    values = () if spike is None else (spike.ttft_p95_ms, spike.error_rate, spike.served_per_s)
    for axes, value in zip(panels, values, strict=False):
        if spike is not None and value is not None:
            low, high = axes.get_ylim()
            axes.set_ylim(low, max(high, value * 1.1))
            drawn["spike"] = axes.plot(
                [spike.level], [value], "D", color=HEX["series-6"], markersize=7, markeredgewidth=0, clip_on=False
            )[0]
    return drawn


def _pace(axes: Any, rungs: Sequence[Rung]) -> tuple[dict[str, Any], str]:
    """Good answers a second, and those of them within the limits."""
    drawn: dict[str, Any] = {}
    named = []
    for i, (name, field) in enumerate((("good answers", "served_per_s"), ("goodput", "goodput_per_s"))):
        known = [(one.level, getattr(one, field)) for one in rungs if getattr(one, field) is not None]
        if known:
            marker = "os"[i]
            drawn[name] = axes.plot(*zip(*known, strict=True), marker=marker, markersize=5, linewidth=2, clip_on=False,
                                    **habits.stroke(2 * i + 1))[0]  # fmt: skip
            named.append(name)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.05 if named else 1)
    axes.locator_params(axis="y", nbins=5)
    axes.yaxis.set_major_formatter(lambda value, _: say.number(value))
    return drawn, ", ".join(named) or "nothing known"
