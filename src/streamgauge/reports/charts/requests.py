"""Pictures of requests: when first tokens came, how the run went, the slowest ones, pauses, criteria."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamgauge.reports.wording as say
from streamgauge.reports.charts import habits
from streamgauge.reports.svg import HEX, Frame, picture
from streamgauge.sample import GOOD
from streamgauge.series import Ecdf, Gaps, Slow, Timeline
from streamgauge.summary import Phase
from streamgauge.verdict import Judged

MOST_LINES = 8
"""More targets than this are not drawn in one picture; the table below it has them all."""

_MARKERS = {"pass": "o", "fail": "X", "inconclusive": "D", "invalid": "s"}


@dataclass(frozen=True, slots=True)
class Limit:
    """An upper limit on a quantile of the ECDF: share p of all requests must lie at or below x."""

    p: float
    x: float
    text: str


def limits_of(criteria: Sequence[Judged], metric: str = "ttft_ms") -> list[Limit]:
    """The upper limits that criteria set on quantiles of `metric` over all prompts, each once."""
    found: dict[tuple[float, float], Limit] = {}
    for c in criteria:
        if c.metric == metric and c.prompt is None and c.op.startswith("<") and re.fullmatch(r"p\d+", c.stat or ""):
            p = float("0." + str(c.stat)[1:])
            found[(p, c.limit)] = Limit(p, c.limit, f"{c.stat} {c.op} {say.amount(c.limit, c.unit)}")
    return [found[key] for key in sorted(found)]


def ecdf(frame: Frame, lines: Sequence[Ecdf], limits: Sequence[Limit]) -> str:
    """Share of requests that had a first token by x. A curve that enters a shaded area misses that limit."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        habits.quiet(axes)
        xs = [x for line in lines for x, _ in line.points if x > 0] + [limit.x for limit in limits]
        left, right = (min(xs) * 0.8, max(xs) * 1.35) if xs else (1.0, 10.0)
        habits.log_ms(axes, left, right)
        axes.set_ylim(0, 1.02)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 0.95], ["0 %", "25 %", "50 %", "75 %", "95 %"])
        for i, limit in enumerate(limits):
            axes.fill_between([limit.x, right], 0, limit.p, color=HEX["fail"], alpha=0.09, linewidth=0)
            axes.plot([limit.x, limit.x, right], [0, limit.p, limit.p], color=HEX["fail"], linewidth=1)
            room = math.log(right / limit.x) / math.log(right / left) * (frame.width - 50)
            inside = room > (len(limit.text) * 7.5 if frame.wide else 30)
            axes.annotate(
                limit.text if frame.wide else limit.text.split()[0],
                (limit.x, 0.03 + 0.085 * i),
                (5 if inside else -5, 0),
                textcoords="offset points",
                color=HEX["fail"],
                ha="left" if inside else "right",
            )
        drawn, labels = [], []
        for i, line in enumerate(lines[:MOST_LINES]):
            points = [(x, y) for x, y in line.points if x > 0]
            if not points:
                continue
            x = [points[0][0], *(p[0] for p in points), right]
            y = [0.0, *(p[1] for p in points), points[-1][1]]
            steps = "steps-post" if len(points) < 60 else "default"  # finer steps than the eye sees make dashes ragged
            drawn += axes.plot(x, y, drawstyle=steps, linewidth=2, **habits.stroke(i))
            labels.append(f"{line.target}{f', {line.phase}' if line.phase else ''} ({line.n:,})")
        habits.legend(axes, drawn, labels, frame)

    return picture(frame, 380 if frame.wide else 330, draw)


def against_limit(frame: Frame, c: Judged) -> str | None:
    """One criterion's share of its limit: a point for the value, a bar for its bounds; the shaded half is a miss.

    The axis is logarithmic from a quarter to four times the limit; what lies outside stands at its edge. None where the
    limit is 0 or an exact value, or where nothing is known.
    """
    if c.limit <= 0 or c.op[:1] not in "<>" or (c.value is None and c.why != "censored"):
        return None
    upper, decades = c.op.startswith("<"), math.log10(4)

    def place(value: float | None, missing: float) -> float:
        if value is None:
            return missing
        share = value / c.limit if upper else c.limit / value if value > 0 else math.inf
        return min(max(math.log10(share) if share > 0 else -decades, -decades), decades)

    open_low, open_high = (-decades, decades) if upper else (decades, -decades)
    ends = sorted((place(c.low, open_low), place(c.high, open_high)))

    def draw(figure: Any) -> None:
        edge = 1.06 * decades
        put = habits.bare(figure, (-edge, edge, -1, 1))
        put.box((0, edge, -1, 1), color=HEX["fail"], alpha=0.1)
        put.line((-edge, edge), (0, 0), color=HEX["rule"], linewidth=1)
        put.line((0, 0), (-1, 1), color=HEX["fail"], linewidth=1)
        if c.low is not None or c.high is not None:
            put.line(ends, (0, 0), color=HEX[c.verdict], linewidth=5, alpha=0.4, solid_capstyle="butt")
        put.line(
            [place(c.value, decades)], [0], linestyle="none", marker=_MARKERS[c.verdict], color=HEX[c.verdict],
            markersize=7, markeredgewidth=0,
        )  # fmt: skip

    return picture(frame, 20, draw, margins=False)


def timeline(
    frame: Frame, lines: Sequence[Timeline], phases: Sequence[Phase], origin_ns: int, limits: Sequence[Limit]
) -> str:
    """TTFT of each target, open streams, requests and failures over the run's time. Lines with target None are all."""
    whole = [line for line in lines if line.target is None][:1] or list(lines[:1])
    each = [line for line in lines if line.target is not None] or whole
    each = each if len(each) <= 4 else whole

    def draw(figure: Any) -> None:
        top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[3, 1.4, 1.4])
        for axes in (top, middle, bottom):
            habits.quiet(axes)
        habits.phase_bands(top, (top, middle, bottom), phases, origin_ns, frame.width)
        drawn, labels = [], []
        for i, line in enumerate(each):
            t = [b.t_s + line.bin_s / 2 for b in line.bins]
            p50, p95 = ([habits.gap(getattr(b, key)) for b in line.bins] for key in ("ttft_p50_ms", "ttft_p95_ms"))
            drawn += top.plot(t, p50, linewidth=2, **habits.stroke(i))
            top.plot(t, p95, linestyle="none", marker=".", markersize=5, color=habits.colour(i), alpha=0.6)
            labels.append(line.target or "all targets")
        shown = ""
        highest = max((b.ttft_p95_ms or 0 for line in each for b in line.bins), default=0)
        for limit in limits:
            if limit.p == 0.95 and limit.x < highest * 3:
                top.axhline(limit.x, color=HEX["fail"], linewidth=1)
                shown = f"; red: {limit.text}"
        top.set_ylim(0, 1.12 * top.get_ylim()[1] if highest else 1)  # room for the names of the phases
        if highest:
            habits.thousands(top.yaxis)
        else:
            top.set_yticks([])
            top.text(
                0.5, 0.5, "no first token in the whole run", transform=top.transAxes, ha="center", color=HEX["muted"]
            )
        habits.heading(top, f"TTFT, ms: {'median as line, p95 as dots' if frame.wide else 'line p50, dots p95'}{shown}")
        for line in whole:
            edges = [b.t_s for b in line.bins] + [line.bins[-1].t_s + line.bin_s] if line.bins else []
            if not edges:
                continue
            middle.stairs(
                [b.open_mean for b in line.bins], edges, fill=True, color=HEX["muted"], alpha=0.45, linewidth=0
            )
            bottom.stairs([b.n for b in line.bins], edges, fill=True, color=HEX["muted"], alpha=0.3, linewidth=0)
            bottom.stairs([b.errors for b in line.bins], edges, fill=True, color=HEX["fail"], linewidth=0)
        for axes, heading in ((middle, "Open streams"), (bottom, "Requests; failed ones in red")):
            axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))
            axes.locator_params(axis="y", nbins=3, integer=True)
            habits.heading(axes, heading)
        if whole and whole[0].bins:
            bottom.set_xlim(0, whole[0].bins[-1].t_s + whole[0].bin_s)
        habits.seconds(bottom, frame)
        if len(labels) > 1:
            habits.legend(top, drawn, labels, frame, above=34)

    return picture(frame, 520 if frame.wide else 500, draw)


STEPS = (
    ("start_ms", "waits for a slot", "muted"),
    ("connect_ms", "connects", "series-4"),
    ("tls_ms", "TLS", "series-4"),
    ("sent_ms", "sends", "series-4"),
    ("headers_ms", "waits for headers", "series-3"),
    ("first_output_ms", "waits for output", "series-2"),
    ("first_token_ms", "output, no text yet", "series-2"),
    ("last_output_ms", "streams", "series-1"),
    ("end_ms", "ends", "series-1"),
)
"""The waterfall's steps: the stamp that ends each, what happens until then, its colour."""

_KINDS = {"series-4": "connects, sends", "series-2": "waits for text", "series-1": "streams"}
"""What a colour stands for in the legend, where several steps share it."""


def steps_of(slow: Slow) -> list[tuple[float, float, str, str]]:
    """One request as (from_ms, to_ms, what, colour); a step whose stamp is missing belongs to the next one's."""
    found, at = [], 0.0
    for stamp, what, colour in STEPS:
        until = getattr(slow, stamp)
        if until is None or until <= at:
            continue
        if stamp == "end_ms" and slow.first_token_ms is None and slow.outcome not in GOOD:
            what, colour = "no token, failed", "fail"
        found.append((at, until, what, colour))
        at = until
    return found


def waterfall(frame: Frame, rows: Sequence[Slow]) -> str:
    """The slowest requests, each a bar from the moment it was due; what ends far later is cut off at the right."""
    waits = [r.first_token_ms for r in rows if r.first_token_ms] or [r.end_ms for r in rows]
    right = min(max((r.end_ms for r in rows), default=1.0), max(waits, default=1.0) * 1.4) or 1.0

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        habits.quiet(axes, grid="x")
        seen: dict[str, Any] = {}
        for y, row in enumerate(rows):
            for low, high, what, colour in steps_of(row):
                if low >= right:
                    continue
                patch = axes.barh(
                    y, min(high, right) - low, left=low, height=0.4, color=HEX[colour], linewidth=0, alpha=0.8
                )
                seen.setdefault(_KINDS.get(colour, what), patch)
            if row.first_token_ms is None:
                what = f"no token, {say.outcome_name(row.outcome)} after {say.seconds(row.end_ms / 1000)}"
            else:
                what = say.milliseconds(row.first_token_ms)
                what += "" if row.outcome in GOOD else f", then {say.outcome_name(row.outcome)}"
            text = f"{y + 1}  {row.target}{f', {row.prompt}' if frame.wide else ''}: {what}"
            axes.text(0, y - 0.4, habits.label(text, 90 if frame.wide else 46), va="center", color=HEX["ink"])
        axes.set_ylim(len(rows) - 0.6, -0.8)
        axes.set_yticks([])
        axes.set_xlim(0, right)
        axes.locator_params(axis="x", nbins=8 if frame.wide else 4)
        habits.thousands(axes.xaxis)
        axes.set_xlabel("ms since the request was due", color=HEX["muted"])
        habits.legend(axes, list(seen.values()), list(seen), frame)

    return picture(frame, 90 + 40 * max(len(rows), 1), draw)


def gaps(frame: Frame, lines: Sequence[Gaps]) -> str:
    """How long the pauses between tokens are: how many of each length, both axes logarithmic."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        habits.quiet(axes)
        bins = [row for line in lines[:MOST_LINES] for row in line.histogram if row[2] and row[0] > 0]
        left, right = (min(b[0] for b in bins), max(b[1] for b in bins)) if bins else (1.0, 10.0)
        right = max(right, left * 10) * 1.1
        drawn, labels = [], []
        for i, line in enumerate(lines[:MOST_LINES]):
            rows = [row for row in line.histogram if row[0] > 0 and row[1] > row[0]]
            if not rows:
                continue
            edges = [row[0] for row in rows] + [rows[-1][1]]
            drawn.append(axes.stairs([row[2] for row in rows], edges, baseline=0.5, linewidth=2, **habits.stroke(i)))
            labels.append(line.target)
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.5)
        habits.log_ms(axes, left, right)
        habits.thousands(axes.yaxis)
        axes.yaxis.set_minor_locator(habits.no_ticks())
        if right > 2000:
            axes.axvline(2000, color=HEX["fail"], linewidth=1)
            axes.annotate(
                "stall: over 2 s", (2000, 0.62), (-5, 0), textcoords="offset points", color=HEX["fail"], ha="right"
            )
        habits.legend(axes, drawn, labels, frame)

    return picture(frame, 320 if frame.wide else 300, draw)
