"""The picture of bench/silent.py: load against error, a panel a disturbance, the verdict by colour and marker."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import NamedTuple

COLOURS = {"invalid": "#c0392b", "pass": "#2e7d32", "fail": "#1565c0", "inconclusive": "#6d6d6d"}
MARKERS = {"invalid": "X", "pass": "o", "fail": "s", "inconclusive": "D"}
COLUMNS = 4
LEAST, MOST = 0.01, 1_000.0
"""% of a limit: what lies beyond is drawn there (the axis is logarithmic)."""


class Point(NamedTuple):
    """One run. `worst` is its largest error of any quantile, in % of the limit."""

    disturbed_by: str
    streams: int
    worst: float
    verdict: str


def draw(results: Sequence[Point], path: Path) -> None:
    """Write the picture."""
    import matplotlib as mpl

    mpl.use("svg" if path.suffix == ".svg" else "agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(r.disturbed_by for r in results))
    rows = ceil(len(names) / COLUMNS)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "silent", "font.size": 8}):
        figure, grid = plt.subplots(
            rows, COLUMNS, figsize=(9, 1.9 * rows + 0.5), sharex=True, sharey=True, squeeze=False
        )
        for panel in grid.flat[len(names) :]:
            panel.set_visible(False)
        for panel, name in zip(grid.flat, names, strict=False):
            panel.axhline(5, color="#c0392b", linewidth=0.8, linestyle="--")
            for r in results:
                if r.disturbed_by == name:
                    (dot,) = panel.plot(
                        r.streams, min(max(r.worst, LEAST), MOST), MARKERS[r.verdict], color=COLOURS[r.verdict]
                    )
                    dot.set(markersize=6, markeredgewidth=0, clip_on=False)
            panel.set_title(name, fontsize=8)
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.set_ylim(LEAST, MOST)
            ticks = sorted({r.streams for r in results})
            panel.set_xticks(ticks, [_short(n) for n in ticks], minor=False)
            panel.minorticks_off()
            panel.grid(visible=True, color="#e6e6e6", linewidth=0.5)
            panel.set_axisbelow(True)
        shown = [word for word in MARKERS if any(r.verdict == word for r in results)]
        dots = [plt.Line2D([], [], marker=MARKERS[w], color=COLOURS[w], linestyle="", label=w) for w in shown]
        dots.append(plt.Line2D([], [], color="#c0392b", linestyle="--", linewidth=0.8, label="5 % of the limit"))
        figure.legend(handles=dots, loc="upper center", ncols=len(dots), frameon=False)
        figure.supxlabel("streams of 50 tok/s")
        figure.supylabel("largest error of a TTFT quantile, % of its limit")
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.3 / (1.9 * rows + 0.5)))
        figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)


def _short(streams: int) -> str:
    """500, 2k."""
    return f"{streams // 1_000}k" if streams % 1_000 == 0 else f"{streams}"
