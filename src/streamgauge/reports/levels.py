"""The section `capacity` for people: its sentences, and its levels as a table."""

from __future__ import annotations

import streamgauge.reports.wording as say
from streamgauge.reports.cells import Cell, Table
from streamgauge.strain import Recovery, Rung, Strain

HEADINGS = ["held", "n", "errors", "TTFT p50", "p95", "served/s", "within limits/s", "tok/s", "phase"]


def words(found: Strain) -> list[str]:
    """What was seen, a sentence each, without its full stop."""
    return [say.plain(one, 300) for one in (*found.words, *(recovered(one) for one in found.recoveries))]


def recovered(one: Recovery) -> str:
    """`After the spike it were back in 1.2 s`"""
    if one.why == "not_back":
        return f"{say.seconds(one.looked_s)} after {one.after} it was not back"
    if one.seconds is None:
        return f"After {one.after} too few requests came due to tell whether it was back"
    return f"After {one.after} TTFT and errors were back in {one.seconds:.1f} s"


def table(found: Strain) -> Table:
    """The levels from the lowest up, then the spike."""
    rows = [_row(one, found) for one in sorted(found.levels, key=lambda one: (one.level, one.start_ns))]
    if found.spike is not None:
        name, detail, cells = _row(found.spike, found)
        rows.append((f"spike to {name}", detail, cells))
    return Table(HEADINGS, rows)


def _row(one: Rung, of: Strain) -> tuple[str, str, list[Cell]]:
    detail = "given up" if one.gave_up else "asked" if one.level == of.asked else ""
    verdict = None if one.within is None else "pass" if one.within else "fail"
    return (
        say.number(one.level),
        detail,
        [
            Cell(say.number(one.held) if one.held is not None else say.NOTHING),
            Cell(f"{one.n:,}"),
            Cell(say.percent(one.error_rate)),
            Cell(say.milliseconds(one.ttft_p50_ms) if one.ttft_p50_ms is not None else _never(one)),
            Cell(say.milliseconds(one.ttft_p95_ms) if one.ttft_p95_ms is not None else _never(one), verdict),
            Cell(say.number(one.served_per_s)),
            Cell(say.number(one.goodput_per_s)),
            Cell(say.number(one.tokens_per_s, 0)),
            Cell(one.phase or say.NOTHING, None),
        ],
    )


def _never(one: Rung) -> str:
    return "not reached" if one.n and one.errors else say.NOTHING
