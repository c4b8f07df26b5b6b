"""The picture of a stress test: levels against what users got, the capacity and its interval, named phases."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from msgspec.structs import replace

from pictured import DEGRADES, rung, strain
from streamgauge.reports import charts
from streamgauge.reports.svg import NARROW, WIDE, Frame
from streamgauge.strain import Strain


def drawn(found: Strain, width: int = WIDE) -> str:
    return charts.levels(Frame("levels", "A title", "", width), found)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter("text")]


def paths(svg: str, paint: str, of: str = "stroke") -> list[list[tuple[float, float]]]:
    found = []
    for element in ET.fromstring(svg).iter("path"):
        if f"{of}: var(--{paint})" in element.get("style", ""):
            numbers = [float(n) for n in re.findall(r"-?[\d.]+", element.get("d", ""))]
            found.append(list(zip(numbers[::2], numbers[1::2], strict=True)))
    return found


def ticks(svg: str) -> dict[float, float]:
    """Level -> x of its label on the axis below."""
    lowest = max(float(e.get("y", "0")) for e in ET.fromstring(svg).iter("text") if (e.text or "").isdigit())
    return {
        float(e.text or ""): float(e.get("x", "nan"))
        for e in ET.fromstring(svg).iter("text")
        if (e.text or "").isdigit() and abs(float(e.get("y", "0")) - lowest) < 1
    }


def test_the_capacity_stands_at_its_level_within_its_interval_in_all_three_panels():
    svg = drawn(strain())

    at = ticks(svg)
    px = (at[200] - at[0]) / 200
    knees = [line for line in paths(svg, "series-1") if len(line) == 2 and line[0][0] == line[1][0]]
    assert len(knees) == 3
    assert all((line[0][0] - at[0]) / px == pytest.approx(66, abs=1) for line in knees)
    bands = {tuple(sorted({round((x - at[0]) / px) for x, _ in path})) for path in paths(svg, "series-1", "fill")}
    assert (58, 73) in bands


def test_phases_of_degradation_are_named_in_order():
    for width in (WIDE, NARROW):
        names = [text for text in texts(drawn(strain(), width)) if text in DEGRADES]
        assert names == ["linear", "queueing", "shedding", "collapse"]


def test_a_p95_that_was_not_reached_is_an_arrow_and_not_a_number():
    assert "p95 not reached" in texts(drawn(strain()))
    reached = [replace(one, ttft_p95_ms=one.ttft_p95_ms or 9_000.0) for one in strain().levels]
    assert "p95 not reached" not in texts(drawn(strain(levels=reached)))


def test_the_limits_are_drawn_where_the_criteria_set_them():
    svg = drawn(strain())

    dashed = [line for line in paths(svg, "fail") if len(line) == 2 and line[0][1] == line[1][1]]
    assert len(dashed) == 2, "of TTFT and of errors"


def test_an_open_interval_reaches_the_edge_and_without_a_capacity_there_is_no_knee():
    svg = drawn(strain(value=200.0, low=150.0, high=None, at_least=True))
    at = ticks(svg)
    px = (at[200] - at[0]) / 200
    assert any(max(x for x, _ in path) >= at[200] + 3 * px for path in paths(svg, "series-1", "fill"))

    none = drawn(strain(value=None, low=None, high=None, fits=[]))
    assert [line for line in paths(none, "series-1") if len(line) == 2] == []


def test_a_spike_is_marked_and_the_scale_holds_it():
    spike = replace(rung(5), ttft_p95_ms=60_000.0, phase=None, within=None)

    svg = drawn(strain(spike=spike))

    assert "spike" in texts(svg)
    assert "10,000" in texts(svg)


def test_one_level_alone_and_levels_without_numbers_still_draw():
    bare = replace(rung(0), ttft_p95_ms=None, error_rate=None, served_per_s=None, goodput_per_s=None, n=0, phase=None)

    for levels in ([rung(3)], [bare], [bare, bare]):
        assert "svg" in drawn(strain(levels=levels, fits=[], value=None, low=None, high=None), NARROW)


def test_open_loop_names_its_unit():
    assert "requests/s" in texts(drawn(strain(unit="requests/s")))
