"""Lives of long streams: a bar each from birth to death, and below the ages at which they ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamgauge.reports.wording as say
from streamgauge.reports.charts import habits
from streamgauge.reports.svg import HEX, Frame, picture
from streamgauge.strips import Strip, Strips
from streamgauge.summary import Phase


@dataclass(frozen=True, slots=True)
class End:
    """A way to end: its name, the outcomes that are it, its colour and its mark."""

    name: str
    outcomes: frozenset[str]
    paint: str
    marker: str
    alpha: float = 0.7


WHOLE = End("ended well", frozenset({"ok", "filtered"}), "series-1", "o", 0.5)
PART = End("a part: the model ended it early", frozenset({"length_capped"}), "series-3", ">", 0.5)
BROKEN = End("broken off", frozenset({"dropped", "truncated", "stream_error"}), "fail", "X")
TIMED_OUT = End(
    "timed out",
    frozenset({"first_token_timeout", "stall_timeout", "total_timeout", "connect_timeout"}),
    "series-2",
    "D",
)
OTHERWISE = End("failed otherwise", frozenset(), "series-6", "v")
PLANNED = End("ended by the plan", frozenset({"cancelled", "client_limit"}), "muted", "s", 0.35)
ENDS = (WHOLE, PART, BROKEN, TIMED_OUT, OTHERWISE, PLANNED)
CAPPED = End("ended at the token limit", frozenset({"length_capped"}), "series-3", ">", 0.5)
MOST_NAMED = 4
"""Equal ages that are named in the picture."""
MOST_MARKED = 200
"""Where more than so many ended well, only the others are marked: the bars tell."""


def end_of(one: Strip, wanted_s: float | None) -> End:
    """How a stream's end is drawn. wanted_s: how long each was to live; None where the test wants no length."""
    if one.outcome in ("ok", "filtered", "length_capped"):
        if wanted_s is None:
            return CAPPED if one.outcome == "length_capped" else WHOLE
        return WHOLE if one.to_s - one.from_s >= wanted_s else PART
    return next((end for end in ENDS if one.outcome in end.outcomes), OTHERWISE)


def strips(frame: Frame, lives: Strips, phases: Sequence[Phase], origin_ns: int, wanted_s: float | None = None) -> str:
    """Lanes from top to bottom, those of one target together; the lower part has a row for each outcome."""
    rows = _rows(lives)
    last = max(rows.values(), default=0) + 1
    size = 22 if last <= 14 else 15 if last <= 28 else 10
    ends = {one.outcome: end_of(one, None) for one in (*lives.shown, *lives.deaths)}
    outcomes = sorted(ends, key=lambda name: (_order(ends[name]), name))
    heights = [max(60, size * last), max(50, 34 * len(outcomes))]

    def draw(figure: Any) -> None:
        top, bottom = figure.subplots(2, 1, height_ratios=heights)
        drawn = _bars(top, lives, rows, wanted_s, frame)
        top.set_ylim(last - 0.4, -0.6)
        spans = [span for span in habits.spans_of(phases, origin_ns) if span[2] != "drain"]
        names = habits.shade_phases(top, [top], spans, frame)
        habits.heading(top, "Each bar a stream, from birth to death", names)
        marks = [habits.dot(one.paint, one.marker) for one in drawn]
        habits.legend(top, marks, [one.name for one in drawn], frame, above=names + 10 + habits.LINE)
        _ages(bottom, lives, outcomes, wanted_s, frame)

    return picture(frame, 150 + sum(heights), draw)


def _order(end: End) -> int:
    return (*ENDS, CAPPED).index(end)


def targets_of(lives: Strips) -> list[str]:
    """In the order of their lanes."""
    return list(dict.fromkeys(one.target for one in sorted(lives.shown, key=lambda one: one.lane or 0)))


def _rows(lives: Strips) -> dict[tuple[str, int | None], int]:
    """Where each lane stands, counted from the top; with several targets a row for the name of each."""
    found: dict[tuple[str, int | None], int] = {}
    targets = targets_of(lives)
    at = 0
    for target in targets:
        at += len(targets) > 1
        for lane in sorted({one.lane or 0 for one in lives.shown if one.target == target}):
            found[target, lane] = at
            at += 1
    return found


def _bars(
    axes: Any, lives: Strips, rows: dict[tuple[str, int | None], int], wanted_s: float | None, frame: Frame
) -> list[End]:
    """Draws the upper part; gives the ends that occur."""
    habits.quiet(axes, grid="x")
    right = max((one.to_s for one in lives.shown), default=1.0) or 1.0
    left = min(0.0, *(one.from_s for one in lives.shown)) if lives.shown else 0.0
    axes.set_xlim(left, left + (right - left) * 1.03)
    between = (right - left) / frame.width  # one px, so that a stream and the next one in its lane are told apart
    by_end: dict[End, list[Strip]] = {}
    for one in lives.shown:
        by_end.setdefault(end_of(one, wanted_s), []).append(one)
    for end, own in sorted(by_end.items(), key=lambda item: _order(item[0])):
        at = [rows[one.target, one.lane] for one in own]
        boxes = [
            (one.from_s, max(one.to_s - between, one.from_s + between), y - 0.36, y + 0.36)
            for one, y in zip(own, at, strict=True)
        ]
        habits.rectangles(axes, boxes, end.paint, end.alpha)
        if end in (WHOLE, CAPPED) and len(own) > MOST_MARKED:
            continue
        axes.plot(
            [one.to_s for one in own], at, end.marker, color=HEX[end.paint], markersize=7, markeredgewidth=0.8,
            markeredgecolor=HEX["paper"], clip_on=False,
        )  # fmt: skip
    targets = targets_of(lives)
    for target in targets if len(targets) > 1 else ():
        first = min(row for (name, _), row in rows.items() if name == target)
        axes.text(left, first - 1, habits.label(target, 60 if frame.wide else 36), va="center", color=HEX["ink"])
    few = len(rows) <= 28
    shown = [(row, lane or 0) for (_, lane), row in rows.items()]
    shown = [(row, lane) for row, lane in shown if few or lane % 5 == 4 or lane == 0]
    axes.set_yticks([row for row, _ in shown], [f"{lane + 1}" for _, lane in shown])
    habits.seconds(axes, frame)
    return sorted(by_end, key=_order)


def _ages(axes: Any, lives: Strips, outcomes: Sequence[str], wanted_s: float | None, frame: Frame) -> None:
    """Age at the end, a row an outcome; a faint line where several died at one age, and where all were to get to."""
    habits.quiet(axes, grid="x")
    every = (*lives.shown, *lives.deaths)
    oldest = max((one.to_s - one.from_s for one in every), default=1.0) or 1.0
    axes.set_xlim(0, max(oldest, wanted_s or 0.0) * 1.03)
    axes.set_ylim(len(outcomes) - 0.4, -0.75)
    axes.set_yticks([])
    for y, outcome in enumerate(outcomes):
        for end in (*ENDS, CAPPED):
            own = [one for one in every if one.outcome == outcome and end_of(one, wanted_s) is end]
            if own:
                axes.plot(
                    [one.to_s - one.from_s for one in own], [y + 0.12] * len(own), end.marker, color=HEX[end.paint],
                    markersize=6, markeredgewidth=0, alpha=0.7, clip_on=False,
                )  # fmt: skip
        count = lives.outcomes.get(outcome, 0)
        axes.text(
            0, y - 0.34, f"{habits.label(say.outcome_name(outcome), 30)} ({count:,})", va="center", color=HEX["ink"],
            bbox={"facecolor": HEX["paper"], "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    named = []
    several = len(targets_of(lives)) > 1
    for age in sorted(lives.ages, key=lambda one: -one.k)[:MOST_NAMED]:
        axes.axvline(age.age_s, color=HEX["fail"], linewidth=1, alpha=0.7, linestyle=(0, (4, 2)))
        who = f"{habits.label(age.target, 16)}: " if several else ""
        named.append((age.age_s, f"{who}{age.k:,} of {age.n:,} deaths at {say.seconds(age.age_s)}", "fail"))
    if wanted_s is not None:
        axes.axvline(wanted_s, color=HEX["muted"], linewidth=1, alpha=0.7, linestyle=(0, (1.5, 2.5)))
        named.append((wanted_s, f"wanted: {say.seconds(wanted_s)}", "muted"))
    names = habits.names_above(axes, named, frame, 6)
    habits.heading(axes, "Age at the end, by how it ended", names)
    habits.seconds(axes, frame)
