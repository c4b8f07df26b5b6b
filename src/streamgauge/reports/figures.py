"""The pictures of a page: which there are, in both widths, what each says in words, and its numbers as a table.

Rules: a picture is there only where it has something to show. Nothing is computed that the document does not say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import streamgauge.reports.charts as charts
import streamgauge.reports.wording as say
from streamgauge.courses import Course
from streamgauge.heat import Heat
from streamgauge.memory import MemorySeries
from streamgauge.reports import aside, svg
from streamgauge.reports.document import Document
from streamgauge.reports.svg import NARROW, WIDE, Frame
from streamgauge.series import Ecdf, Gaps
from streamgauge.strain import Strain
from streamgauge.strips import Strips

_TABLE_POINTS = 20
"""Points of each curve that its data table shows."""
_MOST_ROWS = 400
"""Rows of a picture's data table."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture in both widths, what it shows in words, and its numbers as a table."""

    draw: Callable[[int], str]
    """Its SVG in so many px."""
    caption: str
    headings: Sequence[str] = ()
    numbers: Sequence[Sequence[str]] = ()
    wide: str = ""
    narrow: str = ""

    @property
    def rows(self) -> Sequence[Sequence[str]]:
        """What the table shows of its numbers."""
        return self.numbers[:_MOST_ROWS]

    @property
    def more(self) -> int:
        """Rows that the table leaves out."""
        return len(self.numbers) - len(self.rows)


def figures(document: Document) -> dict[str, Figure]:
    """Each picture that has something to show, drawn."""
    found = _planned(document)
    if not found:
        return {}
    svg.load()
    narrow, wide = aside.both(partial(_all, found, NARROW), partial(_all, found, WIDE))
    return {name: replace(one, wide=wide[name], narrow=narrow[name]) for name, one in found.items()}


def _all(found: Mapping[str, Figure], width: int) -> dict[str, str]:
    return {name: one.draw(width) for name, one in found.items()}


def _planned(document: Document) -> dict[str, Figure]:
    """Each picture that has something to show, not yet drawn."""
    series, limits = document.series, charts.limits_of(document.criteria)
    found = {}
    curves = [line for line in series.ecdf if line.metric == "ttft_ms" and line.prompt is None]
    if any(line.points for line in curves):
        found["ecdf"] = _ecdf(curves, limits)
    if any(line.bins for line in series.timeline):
        found["timeline"] = _timeline(document, limits)
    if series.slowest:
        title = "The slowest requests, step by step"
        text = (
            "Each bar begins when the request was due; one that reaches the right edge goes on beyond it. The table "
            "below has the same steps in figures."
        )
        draw = _picture("slowest", title, text, lambda frame: charts.waterfall(frame, series.slowest))
        found["slowest"] = Figure(draw, text)
    if any(line.histogram for line in series.gaps):
        found["gaps"] = _gaps(series.gaps)
    if series.heat:
        found["heat"] = _heat(document, limits)
    if series.strips is not None:
        found["strips"] = _strips(document, series.strips)
    if series.courses:
        found["memory"] = _memory(document)
    if document.capacity is not None and len(document.capacity.levels) > 1:
        found["levels"] = _levels(document.capacity)
    return found


def _picture(name: str, title: str, text: str, draw: Callable[[Frame], str]) -> Callable[[int], str]:
    """One picture, to be drawn in any width."""
    return lambda width: draw(Frame(name, title, text, width))


def _more(items: Sequence[object]) -> str:
    most = charts.MOST_LINES
    return f" The first {most} of {len(items)} are drawn." if len(items) > most else ""


def _ecdf(curves: Sequence[Ecdf], limits: Sequence[charts.Limit]) -> Figure:
    title = "Share of requests that had their first token within a given time"
    asked = ", ".join(limit.text for limit in limits)
    text = f"A curve that enters a shaded area misses that limit ({asked})." if limits else ""
    if any(line.censored for line in curves):
        text += " A curve that ends below 100 % is of a target whose other requests never gave a token."
    text = (text + _more(curves)).strip()
    rows = []
    for line in curves:
        step = max(1, -(-len(line.points) // _TABLE_POINTS))
        label = f"{line.target}, {line.phase}" if line.phase else line.target
        rows += [[label, say.milliseconds(x), say.percent(y)] for x, y in line.points[step - 1 :: step]]
    draw = _picture("ttft", title, text, lambda frame: charts.ecdf(frame, curves, limits))
    return Figure(draw, text, ["Target", "First token within", "Share of requests"], rows)


def _timeline(document: Document, limits: Sequence[charts.Limit]) -> Figure:
    run, lines = document.run, document.series.timeline
    title = "TTFT, open streams and failures over the run"
    text = f"Each point stands for {say.seconds(lines[0].bin_s)} of the run; dotted lines mark where a phase begins."
    draw = _picture(
        "timeline", title, text, lambda frame: charts.timeline(frame, lines, run.phases, run.start_ns, limits)
    )
    whole = next((line for line in lines if line.target is None), lines[0])
    rows = [
        [
            say.seconds(b.t_s),
            f"{b.n:,}",
            f"{b.errors:,}",
            say.milliseconds(b.ttft_p50_ms),
            say.milliseconds(b.ttft_p95_ms),
            say.number(b.open_mean, 1),
            say.number(b.tokens_per_s, 0),
        ]
        for b in whole.bins
    ]
    return Figure(draw, text, ["From", "Requests", "Failed", "TTFT p50", "TTFT p95", "Open streams", "tok/s"], rows)


def _gaps(lines: Sequence[Gaps]) -> Figure:
    title = "Pauses between tokens: how many of each length"
    text = "Both axes are logarithmic, so that rare long pauses can be seen." + _more(lines)
    rows = [
        [line.target, f"{say.number(low)} to {say.number(high)} ms", f"{count:,}"]
        for line in lines
        for low, high, count in line.histogram
        if count
    ]
    draw = _picture("gaps", title, text, lambda frame: charts.gaps(frame, lines))
    return Figure(draw, text, ["Target", "Length of the pause", "How many"], rows)


def _heat(document: Document, limits: Sequence[charts.Limit]) -> Figure:
    run, maps = document.run, document.series.heat
    title = "TTFT over the run: how many requests had their first token after how long"
    text = f"Each column stands for {say.seconds(maps[0].bin_s)}; the stronger the tone, the more requests."
    if any(any(one.failed) for one in maps):
        text += " The top row has those that failed."
    if any(n and p95 is None for one in maps for n, p95 in zip(one.n, one.p95_ms, strict=True)):
        text += " ▲: p95 not reached, for want of first tokens."
    draw = _picture("heat", title, text, lambda frame: charts.heat(frame, maps, run.phases, run.start_ns, limits))
    several = len(maps) > 1
    rows = [
        [*([say.plain(one.target or "all", 60)] if several else []), say.seconds(i * one.bin_s), f"{n:,}",
         f"{one.failed[i]:,}", _p95(one, i), _usual(one, i)]
        for one in maps
        for i, n in enumerate(one.n)
        if n
    ]  # fmt: skip
    headings = [*(["Target"] if several else []), "From", "Requests", "Failed", "TTFT p95", "Most often"]
    return Figure(draw, text, headings, rows)


def _p95(one: Heat, i: int) -> str:
    return "not reached" if one.p95_ms[i] is None else say.milliseconds(one.p95_ms[i])


def _usual(one: Heat, i: int) -> str:
    """The TTFT bin that holds the most requests."""
    counts = one.counts[i]
    if not any(counts):
        return say.NOTHING
    row = counts.index(max(counts))
    return f"{say.number(one.edges_ms[row])} to {say.number(one.edges_ms[row + 1])} ms"


def _strips(document: Document, lives: Strips) -> Figure:
    run = document.run
    title = "Lives of the streams: when each began, when and how it ended"
    wanted_s = None if document.lives is None else document.lives.wanted_s
    lanes = len({one.lane for one in lives.shown})
    text = ""
    if lanes < lives.lanes:
        text = f"{lanes} of {lives.lanes:,} lanes are drawn: the worst, and an even sample of the others. "
    if lives.n > len(lives.shown) and lanes == lives.lanes:
        text = f"{len(lives.shown):,} of {lives.n:,} streams are drawn: the dead, and an even sample of the others. "
    if lives.ages:
        text += "Dashed red: an age at which several streams died. "
    text += "Deaths at one moment stand above one another in the upper part, deaths at one age in the lower."
    ordered = sorted((*lives.shown, *lives.deaths), key=lambda one: (one.lane is None, one.lane, one.from_s))
    rows = [
        [say.NOTHING if one.lane is None else f"{one.lane + 1}", say.plain(one.target, 60), say.seconds(one.from_s),
         say.seconds(one.to_s), say.seconds(one.to_s - one.from_s), say.outcome_name(one.outcome),
         say.plain(one.id, 40)]
        for one in ordered
    ]  # fmt: skip
    draw = _picture("lives", title, text, lambda frame: charts.strips(frame, lives, run.phases, run.start_ns, wanted_s))
    return Figure(draw, text, ["Lane", "Target", "From", "To", "Age", "Ended", "Trace"], rows)


def _memory(document: Document) -> Figure:
    run, every = document.run, document.series.courses
    found = _growing(document)
    judged = {(line.probe, line.instance): i for i, line in reversed(list(enumerate(found)))}
    ordered = sorted(every, key=lambda one: judged.get((one.probe, one.instance), len(judged)))  # the worst first
    shown = ordered[: charts.MOST_PANELS]
    text = ""
    if len(every) > len(shown):
        text = f"The {len(shown)} of {len(every)} instances that grew most are drawn. "
    if found:
        text += (
            "Thin: the growth that was judged, its bounds as a fan about its middle; the bar below: the warm-up "
            "that was cut. "
        )
    if any(one.readings > len(line) for one in shown for line in one.gauges.values()):
        text += "Each stretch keeps its highest and its lowest reading, however many there were."
    rows = [row for one in shown for row in _readings(one)]
    draw = _picture("memory", "The server's memory over the run", text,
                    lambda frame: charts.memory(frame, shown, found, run.phases, run.start_ns))  # fmt: skip
    return Figure(draw, text.strip(), ["Instance", "At", "Heap, MB", "RSS, MB", "Remark"], rows)


def _growing(document: Document) -> list[charts.Growing]:
    """The growth that the section `memory` tells, as lines; the worst one first."""
    lines = [] if document.memory is None else document.memory.series
    phases = [(p.start_ns - document.run.start_ns) / 1e9 for p in document.run.phases]
    restarts = {(one.probe, one.instance): one.restarts_s for one in document.series.courses}

    def begin(one: MemorySeries, judged_from_s: float) -> float:
        known = [*phases, *restarts.get((one.probe, one.instance), ())]
        return max((at for at in known if at <= judged_from_s), default=0.0)

    return [
        charts.Growing(
            probe=one.probe, instance=one.instance, gauge=one.gauge, mb_per_h=one.growth_mb_per_h, low=one.low,
            high=one.high, from_s=one.judged_from_s, to_s=one.judged_to_s, minima=one.by == "minima",
            begin_s=begin(one, one.judged_from_s),
        )
        for one in lines
        if one.judged and not one.mixed
        and one.growth_mb_per_h is not None and one.judged_from_s is not None and one.judged_to_s is not None
    ]  # fmt: skip


def _readings(one: Course) -> list[list[str]]:
    """Some readings of an instance, its gaps and its restarts, in order of time."""
    name = say.plain(charts.name_of(one), 60)
    rows: list[tuple[float, list[str]]] = []
    first, points = next(iter(one.gauges.items()))
    beside = one.gauges.get("rss", []) if first != "rss" else []
    for at, value in points[:: max(1, -(-len(points) // _TABLE_POINTS))]:
        near = min(beside, key=lambda point: abs(point[0] - at), default=None)
        heap, rss = (None, value) if first == "rss" else (value, None if near is None else near[1])
        rows.append((at, [name, say.seconds(at), say.number(heap), say.number(rss), ""]))
    for low, high in one.gaps_s[:_TABLE_POINTS]:
        rows.append((low, [name, say.seconds(low), "", "", f"no reading until {say.seconds(high)}"]))
    for at in one.restarts_s[:_TABLE_POINTS]:
        rows.append((at, [name, say.seconds(at), "", "", "another process: a restart"]))
    return [row for _, row in sorted(rows, key=lambda item: item[0])]


def _levels(strain: Strain) -> Figure:
    """The levels' table stands in the section itself, so the picture has none of its own."""
    title = "What users got at each level: TTFT p95, failed requests, good answers a second"
    text = "Red: the limits. "
    if strain.at_least:
        text += "The capacity lies beyond the highest level held. "
    text += (
        "The fit is the measured curve made to rise with load; where the first one crosses its limit lies the capacity."
    )
    if strain.spike is not None:
        text += " ◆: the same number at once."
    return Figure(_picture("levels", title, text, lambda frame: charts.levels(frame, strain)), text)
