"""Two pictures of the comparison: how wrong p95 is, and how many streams were really open, by level."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.peers.run import Ran

SMALLEST = 1e-3
"""An error nearer to nothing is drawn here: the scale is logarithmic."""


def drawn(folder: Path, found: dict[str, dict[int, Ran]]) -> list[tuple[str, str]]:
    """(file name, what it shows) of the two pictures drawn in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "peers", "svg.fonttype": "none", "font.size": 9}):
        figure, axes = _blank("p95 TTFT: told over true, less one (absolute; below 0.1 % drawn at it)")
        for name, runs in found.items():
            points = [(level, ran.errors[1]) for level, ran in sorted(runs.items())]
            _line(axes, name, [(level, max(abs(error), SMALLEST)) for level, error in points if error is not None])
        axes.set_yscale("log")
        axes.set_yticks([0.001, 0.01, 0.1, 1, 10], ["0.1 %", "1 %", "10 %", "100 %", "1000 %"])
        axes.axhline(1.0, color="0.7", linewidth=0.8)
        _saved(figure, axes, folder / "peers-error.svg")

        figure, axes = _blank("streams really open, of those asked for (mean over the run)")
        for name, runs in found.items():
            _line(
                axes, name, [(level, ran.truth.open_mean / level) for level, ran in sorted(runs.items()) if ran.truth]
            )  # fmt: skip
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
        axes.set_ylim(0, 1.05)
        _saved(figure, axes, folder / "peers-open.svg")
    return [
        ("peers-error.svg", "error of p95 TTFT by level and tool"),
        ("peers-open.svg", "share of streams really open by level and tool"),
    ]


def _blank(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.5, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=9)
    axes.set_xscale("log")
    axes.set_xticks([1, 10, 100, 500, 1000, 2000], ["1", "10", "100", "500", "1,000", "2,000"])
    axes.minorticks_off()
    axes.set_xlabel("C, streams asked for")
    axes.grid(axis="y", color="0.9")
    return figure, axes


def _line(axes: Axes, name: str, points: list[tuple[int, float]]) -> None:
    if points:
        own = name == "streamgauge"
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3.5, linewidth=2.5 if own else 1.2,
                  color="black" if own else None, label=name)  # fmt: skip


def _saved(figure: Figure, axes: Axes, path: Path) -> None:
    axes.minorticks_off()
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, metadata={"Date": None})
