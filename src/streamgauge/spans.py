"""Lengths of time as a sentence says them. Tables and axes, which have less room, have `reports.wording.seconds`."""

from __future__ import annotations


def span(seconds: float) -> str:
    """`0.4 s`, `42 s`, `2.5 min`, `12 min`, `1 h`, `1 h 05 min`, `100 h`, `12 d`: two figures, or as many as matter."""
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    if seconds < 9.95 * 60:
        return f"{seconds / 60:.2g} min"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 600:
        return f"{minutes // 60} h" + (f" {minutes % 60:02d} min" if minutes % 60 else "")
    hours = round(minutes / 60)
    return f"{hours} h" if hours < 240 else f"{round(hours / 24):,} d"
