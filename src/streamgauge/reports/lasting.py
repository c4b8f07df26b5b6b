"""Memory and lives as people read them: the rows and lines that the page, the markdown and the terminal share.

Rules: those of `view`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import streamgauge.reports.levels as levels
import streamgauge.reports.wording as say
from streamgauge.lives import Lives
from streamgauge.memory import Memory, MemorySeries, Snapshot
from streamgauge.reports.cells import Cell, Table
from streamgauge.reports.document import Document
from streamgauge.spans import span

GAUGES = {"heap_used": "heap", "rss": "RSS"}
MOST_ROWS = 20
"""Snapshots and lives that a page shows; the JSON has them all."""
T = TypeVar("T")
_BYTES = ("rss", "pss", "uss", "heap_used", "heap_total", "external", "array_buffers", "memory_limit")
_WORDS = {"whole": "in its time", "part": "by the model", "lost": "lost", "cut": "by the plan"}


@dataclass(frozen=True, slots=True)
class Part:
    """A section of the report: sentences, a table, and tables that only some readers need."""

    title: str
    lines: tuple[str, ...]
    tables: tuple[tuple[str, Table], ...]
    """(heading of the first column, table)."""
    folded: tuple[tuple[str, str, Table], ...] = ()
    """(summary, heading of the first column, table)."""
    picture: str = ""
    """The picture that stands in it, where there is one."""


def parts(document: Document) -> list[Part]:
    """The sections that this test has beyond those of every test."""
    found = []
    if document.capacity is not None:
        climbed = ((document.capacity.unit, levels.table(document.capacity)),)
        found.append(Part("Capacity", tuple(levels.words(document.capacity)), climbed, picture="levels"))
    if document.lives is not None:
        lines = tuple(line for line in (lives_line(document.lives), pace_line(document.lives)) if line)
        table = lives_table(document.lives)
        folded = () if table is None else (("Streams one by one, the lost ones first", "stream", table),)
        found.append(Part("Lives of the streams", lines, (), folded, "strips"))
    if document.memory is not None:
        table, snapshots = memory_table(document.memory), snapshot_table(document.memory)
        folded = () if snapshots is None else (("Snapshots", "time", snapshots),)
        whose = () if table is None else (("series", table),)
        found.append(Part("Memory of the server", tuple(memory_lines(document.memory)), whose, folded, "memory"))
    return found


def memory_table(memory: Memory) -> Table | None:
    """A row a series, the judged ones first."""
    if not memory.series:
        return None
    headings = ["growth", "shape", "a request", "before burst", "peak", "after idle", "came back", "limit in"]
    rows = []
    for one in memory.series[:MOST_ROWS]:
        detail = "" if one.judged else "shown beside"
        if one.restarts:
            detail = f"{detail}, {say.count(one.restarts, 'restart')}".lstrip(", ")
        rows.append((series_name(one), detail, _memory_cells(one)))
    return Table(headings, rows)


def series_name(one: MemorySeries) -> str:
    """Whose memory: `heap of app, pod-3`."""
    return say.plain(f"{GAUGES.get(one.gauge, one.gauge)} of {one.probe}{f', {one.instance}' * bool(one.instance)}", 80)


def _memory_cells(one: MemorySeries) -> list[Cell]:
    growth = say.NOTHING if one.growth_mb_per_h is None else f"{say.number(one.growth_mb_per_h)} MB/h"
    bounds = "" if one.low is None else f"{say.number(one.low)} to {say.number(one.high)}"
    each = say.NOTHING if one.growth_kb_per_request is None else f"{say.number(one.growth_kb_per_request)} KB"
    levels = [_mb(level) for level in (one.before_mb, one.peak_mb, one.after_mb)]
    until = say.NOTHING if one.limit_reached_in_h is None else f"{say.number(one.limit_reached_in_h)} h"
    cells = [Cell(growth, None, bounds), Cell(one.shape), Cell(each), *map(Cell, levels)]
    came_back = "all and more" if one.cleanup is not None and one.cleanup > 1 else say.percent(one.cleanup)
    return [*cells, Cell(came_back), Cell(until)]


def _mb(value: float | None) -> str:
    return say.NOTHING if value is None else f"{say.number(value, 0)} MB"


def memory_lines(memory: Memory) -> list[str]:
    """What qualifies the series, a sentence each."""
    lines = [say.plain(note, 300) for note in memory.notes[:MOST_ROWS]]
    if len(memory.series) > MOST_ROWS:
        lines.append(f"{len(memory.series) - MOST_ROWS} more series in the JSON")
    for one in memory.series[:MOST_ROWS]:
        if one.judged and one.judged_from_s is not None and one.growth_mb_per_h is not None:
            span = f"{say.seconds(one.judged_from_s)} to {say.seconds(one.judged_to_s)}"
            how = f"{one.by} of equal parts, {one.readings:,} readings, {one.failed:,} failed"
            lines.append(f"{series_name(one)}: judged from {span} into the run by {how}")
    return lines


def snapshot_table(memory: Memory) -> Table | None:
    """A row a snapshot, gauges in bytes as MB."""
    if not memory.snapshots:
        return None
    shown = thinned(memory.snapshots)
    gauges = list(dict.fromkeys(name for one in shown for name in one.values))[:8]
    headings = [f"{say.plain(name, 24)}{' MB' if name in _BYTES else ''}" for name in gauges]
    return Table(headings, [(say.seconds(one.t_s), _of_snapshot(one), _gauges(one, gauges)) for one in shown])


def _of_snapshot(one: Snapshot) -> str:
    whose = f"{one.probe} {one.instance}".strip()
    return say.plain(", ".join(part for part in (one.phase, whose, "collected" if one.collected else "") if part), 80)


def _gauges(one: Snapshot, names: Iterable[str]) -> list[Cell]:
    values = ((name, one.values.get(name)) for name in names)
    return [Cell(say.number(v if v is None or name not in _BYTES else v / 1e6)) for name, v in values]


def lives_line(lives: Lives) -> str:
    """All streams in one sentence."""
    counted = [
        say.count(lives.whole, "stream") + f" lived for {span(lives.wanted_s)} or more",
        f"{lives.parts:,} ended by the model before",
        f"{lives.lost:,} lost",
        f"{lives.cut:,} ended young by the plan",
    ]
    line = ", ".join([counted[0], *(text for text in counted[1:] if not text.startswith("0 "))])
    if lives.whole:
        line += f"; up to {lives.in_sequence} in sequence, {lives.on_used:,} on a connection used before"
    return line


def pace_line(lives: Lives) -> str | None:
    """The pace in one sentence; None where no stream was long enough."""
    pace = lives.pace
    if pace is None:
        return None
    kept = f"{say.percent(pace.kept)} ({say.percent(pace.low)} to {say.percent(pace.high)})"
    begin, end = say.number(pace.begin_per_s), say.number(pace.end_per_s)
    rates = f"{begin} text reads a second at the beginning, {end} at the end"
    return f"{rates}: {kept} over {say.count(pace.streams, 'stream')}"


def lives_table(lives: Lives) -> Table | None:
    """A row a stream: the lost ones whatever else is left out, in order of birth."""
    if not lives.lives:
        return None
    lost = [one for one in lives.lives if one.kind == "lost"][:MOST_ROWS]
    rest = thinned([one for one in lives.lives if one.kind != "lost"], MOST_ROWS - len(lost))
    rows = []
    for one in sorted([*lost, *rest], key=lambda each: each.born_s):
        verdict = "fail" if one.kind == "lost" else None
        cells = [
            Cell(say.seconds(one.born_s)),
            Cell(say.number(one.age_s, 1) + " s", verdict),
            Cell(_WORDS[one.kind], verdict),
            Cell(say.outcome_name(one.outcome)),
            Cell(f"{say.number(one.silent_s, 1)} s"),
            Cell(f"{one.before:,}"),
        ]
        rows.append((say.plain(one.target, 60), one.id, cells))
    return Table(["born", "age", "ended", "outcome", "silent at the end", "requests before"], rows)


def thinned(items: list[T], most: int = MOST_ROWS) -> list[T]:
    """At most so many of them, evenly, the first and the last included."""
    if len(items) <= most:
        return items
    if most < 2:
        return items[:most]
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]
