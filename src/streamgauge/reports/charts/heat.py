"""TTFT over time as tones: time bins by TTFT bins, failures as a row of their own on top, p95 as a line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from streamgauge.heat import Heat
from streamgauge.reports.charts import habits
from streamgauge.reports.charts.requests import Limit
from streamgauge.reports.svg import HEX, Frame, picture
from streamgauge.summary import Phase

TONES = 5
FAINTEST = 0.16
"""Opacity of the least count."""


def tones(most: int) -> list[tuple[int, int]]:
    """Up to five ranges of counts from 1 to `most`, each several times the one before: (from, to)."""
    lows = [1]
    for k in range(1, TONES):
        low = k + 1 if most <= TONES else int(most ** (k / TONES)) + 1
        if lows[-1] < low <= most:
            lows.append(low)
    return [(low, high) for low, high in zip(lows, [*(low - 1 for low in lows[1:]), most], strict=True)]


def opacity(tone: int, of: int) -> float:
    """Of a tone, 0 the faintest of so many."""
    return FAINTEST + (1 - FAINTEST) * (tone / (of - 1) if of > 1 else 0.6)


def heat(frame: Frame, maps: Sequence[Heat], phases: Sequence[Phase], origin_ns: int, limits: Sequence[Limit]) -> str:
    """A panel for each map, all with one scale of tones and of time."""
    ranges = tones(max((count for one in maps for column in one.counts for count in column), default=1))
    failing = any(count for one in maps for count in one.failed)
    limit = next((one for one in limits if one.p == 0.95), None)

    def draw(figure: Any) -> None:
        panels = list(figure.subplots(len(maps), 1, sharex=True, squeeze=False)[:, 0])
        panels[0].set_xlim(0, max(len(one.n) * one.bin_s for one in maps))
        for axes, one in zip(panels, maps, strict=True):
            _panel(axes, one, ranges, failing=failing, limit=limit)
        names = habits.shade_phases(panels[0], panels, habits.spans_of(phases, origin_ns), frame)
        more = 0.0
        for axes, one in zip(panels, maps, strict=True):
            text = _heading(one, limit if _shows(one, limit) else None, frame)
            lines = habits.heading(axes, text, names if axes is panels[0] else 0, frame)
            more = lines if axes is panels[0] else more
        habits.seconds(panels[-1], frame)
        habits.legend(panels[0], *_legend(ranges, failing=failing), frame, above=names + more + 10 + habits.LINE)

    each = (250 if frame.wide else 220) if len(maps) == 1 else 180
    return picture(frame, 110 + each * len(maps), draw)


def _heading(one: Heat, limit: Limit | None, frame: Frame) -> str:
    name = f"{habits.label(one.target, 40 if frame.wide else 24)}: " if one.target else ""
    return f"{name}TTFT, ms; line: p95{f'; red: {limit.text}' if limit and frame.wide else ''}"


def _shows(one: Heat, limit: Limit | None) -> bool:
    return limit is not None and one.edges_ms[0] <= limit.x <= one.edges_ms[-1]


def _legend(ranges: Sequence[tuple[int, int]], *, failing: bool) -> tuple[list[Any], list[str]]:
    handles = [habits.swatch("series-1", opacity(i, len(ranges))) for i in range(len(ranges))]
    labels = [f"{low:,}" if low == high else f"{low:,} to {high:,}" for low, high in ranges]
    labels[0] += " request" if ranges[0][1] == 1 else " requests"
    if failing:
        handles.append(habits.swatch("fail", 0.8))
        labels.append("failed")
    return handles, labels


def _panel(axes: Any, one: Heat, ranges: Sequence[tuple[int, int]], *, failing: bool, limit: Limit | None) -> None:
    habits.quiet(axes)
    edges = [math.log10(edge) for edge in one.edges_ms]
    low, top = edges[0], edges[-1]
    row = (top - low) / (len(edges) - 1)
    ceiling = top + 2.4 * row if failing else top
    axes.set_ylim(low, ceiling)
    _cells(axes, one, edges, ranges)
    ticks, texts = habits.round_ticks(10**low, 10**top)
    places = [math.log10(tick) for tick in ticks]
    if failing:
        bottom = top + 0.8 * row
        for i, boxes in _toned(one.failed, ranges, one.bin_s, bottom, ceiling):
            habits.rectangles(axes, boxes, "fail", opacity(i, len(ranges)))
        clear = [(place, text) for place, text in zip(places, texts, strict=True) if place < top - 0.5 * row]
        places, texts = [p for p, _ in clear] + [(bottom + ceiling) / 2], [t for _, t in clear] + ["failed"]
    axes.set_yticks(places, texts)
    if _shows(one, limit) and limit is not None:
        axes.axhline(math.log10(limit.x), color=HEX["fail"], linewidth=1)
    middles = [(i + 0.5) * one.bin_s for i in range(len(one.n))]
    # A clock that stepped back can put a first token before its request: such a run is invalid, and is drawn.
    line = [habits.gap(None if p95 is None else min(math.log10(max(p95, 10**low)), top)) for p95 in one.p95_ms]
    axes.plot(middles, line, color=HEX["paper"], linewidth=3.5, solid_capstyle="round")
    axes.plot(middles, line, color=HEX["ink"], linewidth=1.5, marker=".", markersize=4, markeredgewidth=0)
    never = [x for x, n, p95 in zip(middles, one.n, one.p95_ms, strict=True) if n and p95 is None]
    if never:
        axes.plot(never, [top] * len(never), linestyle="none", marker="^", color=HEX["ink"], markersize=5,
                  markeredgewidth=0, clip_on=False)  # fmt: skip


def _cells(axes: Any, one: Heat, edges: Sequence[float], ranges: Sequence[tuple[int, int]]) -> None:
    """The tones, one path each; neighbours in time of one tone are one box."""
    found: dict[int, list[habits.Box]] = {}
    for row in range(len(edges) - 1):
        counts = [column[row] for column in one.counts]
        for i, boxes in _toned(counts, ranges, one.bin_s, edges[row], edges[row + 1]):
            found.setdefault(i, []).extend(boxes)
    for i, boxes in sorted(found.items()):
        habits.rectangles(axes, boxes, "series-1", opacity(i, len(ranges)))


def _toned(
    counts: Sequence[int], ranges: Sequence[tuple[int, int]], width: float, low: float, high: float
) -> Iterable[tuple[int, list[habits.Box]]]:
    """The boxes of one row by tone."""
    found: dict[int, list[habits.Box]] = {}
    lows = [first for first, _ in ranges]
    at = 0
    for tone, run in groupby(sum(count >= first for first in lows) - 1 for count in counts):
        length = len(list(run))
        if tone >= 0:
            found.setdefault(tone, []).append((at * width, (at + length) * width, low, high))
        at += length
    return found.items()
