"""The server's memory over time: what was read of each instance, the phases, and the growth that was judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import streamgauge.reports.wording as say
from streamgauge.courses import Course
from streamgauge.reports.charts import habits
from streamgauge.reports.svg import HEX, Frame, picture
from streamgauge.summary import Phase

MOST_PANELS = 4
"""More instances than this are not drawn."""
NAMES = {"heap_used": "heap", "rss": "RSS"}
NEAR = 1.6
"""A limit of so many times the highest reading is drawn; one further up only said."""
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Growing:
    """The growth that was found in one gauge of one instance, MB/h with its bounds, and where: s from the run's start.

    From `begin_s` to `from_s` lies the warm-up that was cut. `minima`: the line goes along what is left after a
    collection, not through the middle of the readings.
    """

    probe: str
    instance: str
    gauge: str
    begin_s: float
    from_s: float
    to_s: float
    mb_per_h: float
    low: float | None
    high: float | None
    minima: bool = False


def memory(
    frame: Frame, shown: Sequence[Course], found: Sequence[Growing], phases: Sequence[Phase], origin_ns: int
) -> str:
    """A panel for each instance, on one scale of time."""
    right = max((line[-1][0] for one in shown for line in one.gauges.values() if line), default=1.0)
    right = max([right, *(one.gaps_s[-1][1] for one in shown if one.gaps_s)])

    def draw(figure: Any) -> None:
        panels = list(figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0])
        panels[0].set_xlim(0, right * 1.01)
        drawn: dict[str, Any] = {}
        for axes, one in zip(panels, shown, strict=True):
            drawn |= _panel(axes, one, [line for line in found if _of(line, one)])
        names = habits.shade_phases(panels[0], panels, habits.spans_of(phases, origin_ns), frame)
        above = names + 10 + habits.LINE
        for axes, one in zip(panels, shown, strict=True):
            text = _heading(one, [line for line in found if _of(line, one)], frame)
            more = habits.heading(axes, text, names if axes is panels[0] else 0, frame)
            above += more if axes is panels[0] else 0
        habits.seconds(panels[-1], frame)
        habits.legend(panels[0], list(drawn.values()), list(drawn), frame, above=above)

    each = (280 if frame.wide else 240) if len(shown) == 1 else 190
    return picture(frame, 120 + each * len(shown), draw)


def _of(line: Growing, one: Course) -> bool:
    return (line.probe, line.instance) == (one.probe, one.instance)


def name_of(one: Course) -> str:
    """Whose memory it is, in words."""
    return f"{one.probe} {one.instance}" if one.instance else one.probe


def _gauge(name: str) -> str:
    return NAMES.get(name) or habits.label(name, 20)


def _heading(one: Course, found: Sequence[Growing], frame: Frame) -> str:
    parts = [f"{habits.label(name_of(one), 30 if frame.wide else 18)}, MB"]
    for line in found[:1]:
        parts.append(f"{_gauge(line.gauge)} grows by {say.number(line.mb_per_h)} MB/h")
        if frame.wide:
            parts[-1] += f" ({say.interval(line.low, line.high, 'MB/h')})"
    if one.limit_mb is not None and not _limit_shown(one):
        parts.append(f"limit {say.number(one.limit_mb)} MB")
    return ": ".join(parts[:2]) + "".join(f"; {part}" for part in parts[2:])


def _highest(one: Course) -> float:
    return max(value for line in one.gauges.values() for _, value in line)


def _limit_shown(one: Course) -> bool:
    return one.limit_mb is not None and one.limit_mb <= NEAR * _highest(one)


def _panel(axes: Any, one: Course, found: Sequence[Growing]) -> dict[str, Any]:
    """Draws one instance; gives what the legend has to name."""
    habits.quiet(axes)
    drawn: dict[str, Any] = {}
    for i, (gauge, points) in enumerate(one.gauges.items()):
        times, values = _broken(points, one)
        drawn[_gauge(gauge)] = axes.plot(times, values, linewidth=1.2, **habits.stroke(i))[0]
    for line in found:
        drawn |= _line(axes, one.gauges.get(line.gauge, []), line)
    if one.snapshots:
        drawn["snapshot"] = axes.plot(
            [t for t, _ in one.snapshots], [value for _, value in one.snapshots], linestyle="none", marker="v",
            color=HEX["ink"], markersize=7, markeredgewidth=0.8, markeredgecolor=HEX["paper"], clip_on=False,
        )[0]  # fmt: skip
    for low, high in one.gaps_s:
        drawn["no reading"] = axes.axvspan(low, high, color=HEX["inconclusive"], alpha=0.22, linewidth=0, zorder=0.5)
    for at in one.restarts_s:
        drawn["restart"] = axes.axvline(at, color=HEX["fail"], linewidth=1.5, linestyle=(0, (4, 2)))
    if _limit_shown(one):
        drawn["memory limit"] = axes.axhline(one.limit_mb, color=HEX["fail"], linewidth=1)
    low, high = axes.get_ylim()
    if one.limit_mb is not None and _limit_shown(one):
        high = max(high, one.limit_mb + (one.limit_mb - low) / 30)
    if high - low < 1:  # MB: less is no picture of anything
        low, high = (low + high) / 2 - 0.5, (low + high) / 2 + 0.5
    axes.set_ylim(low, high)
    axes.locator_params(axis="y", nbins=6)
    axes.yaxis.set_major_formatter(lambda value, _: say.number(value))
    return drawn


def _broken(points: Sequence[Point], one: Course) -> tuple[list[float], list[float]]:
    """The line, broken where readings are missing or another process answers."""
    breaks = sorted([*(low for low, _ in one.gaps_s), *(at - 1e-3 for at in one.restarts_s)])
    times: list[float] = []
    values: list[float] = []
    next_break = 0
    for t, value in points:
        while next_break < len(breaks) and breaks[next_break] < t:
            if times and times[-1] <= breaks[next_break]:
                times.append(t)
                values.append(float("nan"))
            next_break += 1
        times.append(t)
        values.append(value)
    return times, values


def _line(axes: Any, points: Sequence[Point], line: Growing) -> dict[str, Any]:
    """The fitted line, its bounds as a fan about its middle, and the warm-up that was cut."""
    middle = (line.from_s + line.to_s) / 2
    rests = sorted(v - line.mb_per_h * (t - middle) / 3600 for t, v in points if line.from_s <= t <= line.to_s)
    if not rests:
        return {}
    level = rests[len(rests) // 10] if line.minima else median(rests)
    ends = (line.from_s, line.to_s)

    def at(rate: float) -> list[float]:
        return [level + rate * (t - middle) / 3600 for t in ends]

    drawn: dict[str, Any] = {}
    if line.low is not None and line.high is not None:
        low, high = at(line.low), at(line.high)
        axes.fill(
            [ends[0], middle, ends[1], ends[1], middle, ends[0]],
            [low[0], level, low[1], high[1], level, high[0]],
            color=HEX["ink"], alpha=0.22, linewidth=0,
        )  # fmt: skip
    drawn["growth with its bounds"] = axes.plot(ends, at(line.mb_per_h), color=HEX["ink"], linewidth=1.6)[0]
    if line.from_s > line.begin_s:
        drawn["cut as warm-up"] = axes.axvspan(
            line.begin_s, line.from_s, ymin=0, ymax=0.035, color=HEX["muted"], alpha=0.8, linewidth=0
        )
    return drawn
