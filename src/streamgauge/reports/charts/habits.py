"""Habits that all pictures share: axes without frames, lines told apart by dash too, headings, legends, phases.

Rules: sizes are px (72 to the inch, see `svg`); a text takes about 8 px a letter. Names that would lie over one another
go into further rows, and are left out where three rows do not hold them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import streamgauge.reports.wording as say
from streamgauge.reports.svg import HEX, Frame
from streamgauge.summary import Phase

LETTER, LINE = 8, 16
"""Width of a letter and height of a line of text, px."""
NARROWEST = 7
"""Width of a letter on average over a long text."""
BESIDE = 60
"""What the axis takes of a picture's width, px."""
NAME_ROWS = 3
MANY_PHASES = 12
"""More than this have no room for a name each."""
Box = tuple[float, float, float, float]
"""x from, x to, y from, y to."""


def colour(i: int) -> str:
    """Colour of the i-th line."""
    return HEX[f"series-{i % 6 + 1}"]


def stroke(i: int) -> dict[str, Any]:
    """Colour and dash of the i-th line: two lines never differ by colour alone."""
    return {"color": colour(i), "linestyle": ("-", (0, (5, 1.6)), (0, (1.4, 1.2)), (0, (6, 1.5, 1.4, 1.5)))[i % 4]}


def gap(value: float | None) -> float:
    """A missing value as a line skips it."""
    return float("nan") if value is None else value


def label(text: str, limit: int) -> str:
    """A text from outside, cut to so many letters."""
    return say.plain(text, limit)


def quiet(axes: Any, grid: str = "both") -> None:
    """No frame but the lower edge, a faint grid."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(HEX["rule"])
    axes.set_axisbelow(True)
    axes.grid(True, axis=grid, color=HEX["rule"], linewidth=1)
    axes.tick_params(length=0, colors=HEX["muted"], labelcolor=HEX["muted"], pad=6)
    axes.patch.set_visible(False)


def heading(axes: Any, text: str, above: float = 0, frame: Frame | None = None) -> float:
    """What an axes shows, above its left end, so many px higher; in a frame on as many lines as it needs.

    Gives the px that further lines take.
    """
    lines = [text] if frame is None else textwrap.wrap(text, (frame.width - BESIDE) // NARROWEST) or [""]
    axes.annotate(
        "\n".join(lines),
        (0, 1),
        (0, 6 + above),
        xycoords="axes fraction",
        textcoords="offset points",
        color=HEX["ink"],
        ha="left",
        va="bottom",
    )
    return LINE * (len(lines) - 1)


def legend(axes: Any, handles: list[Any], labels: list[str], frame: Frame, above: float = 8) -> None:
    """A legend over the axes, as many entries a row as fit; `above` px over it."""
    if not handles:
        return
    texts = [label(text, 40 if frame.wide else 34) for text in labels]
    texts = ["\u200b" + text if text.startswith("_") else text for text in texts]  # matplotlib hides names of "_"
    from matplotlib.transforms import ScaledTranslation

    up = ScaledTranslation(0, above / 72, axes.get_figure().dpi_scale_trans)
    per_row = min(len(texts), max(1, frame.width // (max(len(text) for text in texts) * 8 + 50)))
    axes.legend(
        handles,
        texts,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        bbox_transform=axes.transAxes + up,
        ncols=per_row,
        frameon=False,
        borderaxespad=0,
        handlelength=1.8,
        handletextpad=0.6,
        columnspacing=1.6,
        borderpad=0,
        labelcolor=HEX["ink"],
        labelspacing=0.35,
    )


def log_ms(axes: Any, left: float, right: float) -> None:
    """A logarithmic axis of ms from left to right with round ticks."""
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.set_xticks(*round_ticks(left, right))
    axes.minorticks_off()
    axes.set_xlabel("ms", color=HEX["muted"])


STEPS = ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), tuple(i / 10 for i in range(10, 100)))
"""Of a factor of ten, ever finer."""
FEWEST, MOST = 3, 6


def round_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Round places on a logarithmic axis, from three to six of them where there are so many, and their texts."""
    for steps in STEPS:
        ticks = [m * 10.0**e for e in range(-6, 13) for m in steps if low <= m * 10.0**e <= high]
        if len(ticks) >= FEWEST:
            break
    ticks = ticks[:: -(-len(ticks) // MOST) or 1]
    return ticks, [f"{tick:,.0f}" if tick >= 10 or tick == int(tick) else f"{tick:.3g}" for tick in ticks]


def thousands(axis: Any) -> None:
    """Ticks as 1,000."""
    axis.set_major_formatter(lambda value, _: f"{value:,.0f}")


STEPS_S = (1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600,
           7200, 14400, 21600, 43200, 86400)  # fmt: skip


def seconds(axes: Any, frame: Frame) -> None:
    """Ticks in x as round lengths of time, none of them cut by the right edge. The limits in x must be set."""
    left, right = axes.get_xlim()
    most = 9 if frame.wide else 5
    step = next((step for step in STEPS_S if (right - left) / step <= most), (right - left) / most)
    last = right - (right - left) * 3 * LETTER / frame.width
    ticks = [i * step for i in range(int(left // step), int(last / step) + 1) if i * step >= left]
    axes.set_xticks(ticks, [_time(tick, step) for tick in ticks])


def _time(value: float, step: float) -> str:
    """`0`, `30 s`, `5 min`, `2 h`, `2h30m`."""
    if not value:
        return "0"
    if step < 60:
        return say.seconds(value) if step >= 1 or value >= 60 else f"{value:g} s"
    hours, minutes = divmod(round(value / 60), 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours}h{minutes:02d}m" if minutes else f"{hours} h"


def no_ticks() -> Any:
    """A locator of none."""
    from matplotlib.ticker import NullLocator

    return NullLocator()


def phase_bands(top: Any, panels: Sequence[Any], phases: Sequence[Phase], origin_ns: int, width: int) -> None:
    """A hairline where each phase begins, its name above where it has room."""
    if not phases:
        return
    spans = [((p.start_ns - origin_ns) / 1e9, (p.end_ns - origin_ns) / 1e9, p) for p in phases]
    total = max(max(end for _, end, _ in spans), 1e-9)
    for low, high, phase in spans:
        for axes in panels:
            axes.axvline(low, color=HEX["muted"], linewidth=1, alpha=0.6, linestyle=(0, (1.5, 2.5)))
        text = label(f"{phase.name} {phase.level}" if phase.level else phase.name, 20)
        if (high - low) / total * (width - 60) > len(text) * 8:
            top.annotate(
                text,
                (low, 1),
                (4, -4),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                color=HEX["muted"],
                ha="left",
                va="top",
            )


def spans_of(phases: Sequence[Phase], origin_ns: int) -> list[tuple[float, float, str]]:
    """(from, to, name) of each phase in s from the origin; neighbours of one name and level are one.

    Of many phases (a climb) the way to a level is part of it, and levels of one kind in a row are told by number.
    """
    many = len(phases) > MANY_PHASES
    found: list[tuple[float, float, str]] = []
    named = ""
    begins: int | None = None
    for i, phase in enumerate(phases):
        begins = phase.start_ns if begins is None else begins
        if many and phase.name == "ramp" and i + 1 < len(phases) and _held(phases[i + 1]) == _held(phase):
            continue
        name = "warm-up" if phase.name == "warmup" else phase.name
        parts = [part for part in (name, _held(phase)) if part]
        text = label(" ".join(parts[1:] if many and name == named and len(parts) > 1 else parts), 20)
        low, high = (begins - origin_ns) / 1e9, (phase.end_ns - origin_ns) / 1e9
        named, begins = name, None
        if found and found[-1][2] == text:
            found[-1] = (found[-1][0], high, text)
        else:
            found.append((low, high, text))
    return found


def _held(phase: Phase) -> str:
    """How much is held in a phase: users, in open loop requests a second; "" where nothing is."""
    return str(phase.level or "") if phase.rate is None else f"{phase.rate:.3g}/s"


def shade_phases(top: Any, panels: Sequence[Any], spans: Sequence[tuple[float, float, str]], frame: Frame) -> float:
    """Every other phase shaded in all panels (those that take less of them), each named above the top one.

    Gives the px that the names take. The panels' limits in x must be set.
    """
    takes = [sum(high - low for low, high, _ in spans[which::2]) for which in (0, 1)]
    for i, (low, high, _) in enumerate(spans):
        for axes in panels:
            if len(spans) > 1 and i % 2 == (takes[1] <= takes[0]):
                axes.axvspan(low, high, color=HEX["muted"], alpha=0.1, linewidth=0, zorder=0)
            axes.axvline(low, color=HEX["muted"], linewidth=1, alpha=0.6, linestyle=(0, (1.5, 2.5)))
    return names_above(top, [(low, text, "muted") for low, _, text in spans], frame, 6)


def names_above(axes: Any, names: Iterable[tuple[float, str, str]], frame: Frame, above: float) -> float:
    """Texts over the axes, as (x, text, colour); each begins at its x where it has room. Gives the px they take."""
    left, right = axes.get_xlim()
    width = frame.width - BESIDE
    ends = [float("-inf")] * NAME_ROWS
    used = 0
    for x, name, paint in sorted(names):
        text = label(name, width // LETTER)
        long = len(text) * LETTER
        at = min((x - left) / (right - left) * width, width - long)
        row = next((row for row in range(NAME_ROWS) if ends[row] + LETTER <= at), None)
        if row is None or not left <= x <= right:
            continue
        ends[row], used = at + long, max(used, row + 1)
        axes.annotate(
            text,
            (left + at / width * (right - left), 1),
            (0, above + row * LINE),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            color=HEX[paint],
            ha="left",
            va="bottom",
        )
    return used * LINE


def rectangles(axes: Any, boxes: Sequence[Box], paint: str, alpha: float) -> Any:
    """Many boxes of one colour as one path: few bytes, and no seams between neighbours. The limits must be set."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    corners = [xy for a, b, c, d in boxes for xy in ((a, c), (b, c), (b, d), (a, d), (a, c))]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(boxes)
    # Not add_patch: the axes would look for the extremes of each box, which takes longer than to draw them.
    return axes.add_artist(PathPatch(Path(corners, codes), color=HEX[paint], alpha=alpha, linewidth=0))


@dataclass(frozen=True, slots=True)
class Bare:
    """A whole figure to draw on without axes, which take several times longer than the few lines of a small picture."""

    figure: Any
    place: Any
    """From the picture's units to the figure's."""

    def line(self, x: Sequence[float], y: Sequence[float], **how: Any) -> None:
        """A line, or its markers alone."""
        from matplotlib.lines import Line2D

        self.figure.add_artist(Line2D(x, y, transform=self.place, **how))

    def box(self, box: Box, **how: Any) -> None:
        """An area without an edge."""
        from matplotlib.patches import Rectangle

        a, b, c, d = box
        self.figure.add_artist(Rectangle((a, c), b - a, d - c, transform=self.place, linewidth=0, **how))


def bare(figure: Any, box: Box) -> Bare:
    """The figure to draw on, `box` being what it shows in the picture's own units."""
    from matplotlib.transforms import Bbox, BboxTransformFrom

    a, b, c, d = box
    return Bare(figure, BboxTransformFrom(Bbox.from_extents(a, c, b, d)) + figure.transFigure)


def swatch(paint: str, alpha: float) -> Any:
    """A legend's handle for an area of that colour."""
    from matplotlib.patches import Patch

    return Patch(facecolor=HEX[paint], alpha=alpha, linewidth=0)


def dot(paint: str, marker: str) -> Any:
    """A legend's handle for a marker."""
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="none", marker=marker, color=HEX[paint], markersize=6, markeredgewidth=0)
