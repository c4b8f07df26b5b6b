"""The server's memory over time: what is kept of very many readings, and what the picture of it shows."""

from __future__ import annotations

import math
import random
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made import MS, START
from streamgauge.courses import Course, courses, thinned
from streamgauge.reports import charts
from streamgauge.reports.svg import NARROW, WIDE, Frame
from streamgauge.sample import Reading
from streamgauge.summary import Phase

MB = 1_000_000


def reading(at_s: float, heap: float | None = 100.0, **facts: object) -> Reading:
    values = {"rss": 200.0 * MB} | ({} if heap is None else {"heap_used": heap * MB})
    usual: dict[str, object] = {
        "probe": "app",
        "at_ns": START + round(at_s * 1_000) * MS,
        "took_ns": MS,
        "values": values,
    }
    return Reading(**{**usual, **facts})  # type: ignore[arg-type]


def each_5_s(n: int = 100, **facts: object) -> list[Reading]:
    return [reading(5.0 * i, **facts) for i in range(n)]  # type: ignore[arg-type]


def test_each_instance_has_a_course_and_the_one_that_rose_most_stands_first():
    found = courses(
        [
            *(reading(5.0 * i, instance="calm") for i in range(100)),
            *(reading(5.0 * i, 100.0 + i, instance="leaky") for i in range(100)),
        ],
        start_ns=START,
    )

    assert [one.instance for one in found] == ["leaky", "calm"]
    assert found[1].gauges["heap_used"] == [(5.0 * i, 100.0) for i in range(100)]
    assert found[1].gauges["rss"][0] == (0.0, 200.0)


def test_failed_readings_and_other_gauges_make_no_course():
    none = [reading(5.0 * i, values={"connections": 5.0}) for i in range(9)]
    failed = [reading(5.0 * i, values={}, error="refused") for i in range(9)]

    assert courses([*none, *failed], start_ns=START) == []
    assert courses(each_5_s(4), start_ns=START) == [], "four readings are no course"


def test_gaps_restarts_snapshots_and_the_limit_are_told():
    readings = [
        reading(
            5.0 * i,
            pid=7 if i < 60 else 8,
            snapshot=i % 20 == 0,
            values={"rss": 200.0 * MB, "memory_limit": 512.0 * MB},
        )
        for i in range(100)
        if not 30 <= i < 40
    ]

    (found,) = courses(readings, start_ns=START)

    assert found.gaps_s == [(145.0, 200.0)]
    assert found.restarts_s == [300.0]
    assert [at for at, _ in found.snapshots] == [0.0, 100.0, 200.0, 300.0, 400.0]
    assert found.limit_mb == 512.0
    assert "heap_used" not in found.gauges


def test_a_reading_after_a_collection_is_a_snapshot_and_no_dip_in_the_line():
    readings = [reading(5.0 * i, 60.0 if i % 20 == 7 else 100.0, collected=i % 20 == 7, snapshot=i % 20 == 7)
                for i in range(100)]  # fmt: skip

    (found,) = courses(readings, start_ns=START)

    assert {value for _, value in found.gauges["heap_used"]} == {100.0}
    assert [value for _, value in found.snapshots] == [60.0] * 5


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=400), st.integers(8, 60))
def test_thinning_keeps_the_ends_and_the_extremes(values: list[float], most: int):
    at = np.cumsum(np.random.default_rng(len(values)).uniform(0.1, 9, len(values)))
    found = thinned(at, np.array(values), most)

    assert len(found) <= most
    assert found == sorted(found, key=lambda point: point[0])
    kept = [value for _, value in found]
    assert (kept[0], kept[-1]) == (round(values[0], 3), round(values[-1], 3))
    assert (min(kept), max(kept)) == (round(min(values), 3), round(max(values), 3))


def test_a_day_of_very_many_instances_is_bounded():
    readings = [reading(60.0 * i, 100.0 + k, instance=f"pod-{k}") for i in range(1_440) for k in range(50)]

    found = courses(sorted(readings, key=lambda one: one.at_ns), start_ns=START)

    assert len(found) == 40
    assert max(len(line) for one in found for line in one.gauges.values()) <= 60


PHASES = [
    Phase(name=name, level=level, start_ns=START + at * 1_000 * MS, end_ns=START + end * 1_000 * MS)
    for name, level, at, end in (
        ("warmup", 0, 0, 5),
        ("hold", 10, 5, 400),
        ("burst", 50, 400, 440),
        ("idle", 0, 440, 500),
    )
]


def drawn(shown: list[Course], width: int = WIDE, found: list[charts.Growing] | None = None) -> str:
    return charts.memory(Frame("memory", "A title", "", width), shown, found or [], PHASES, START)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter("text")]


def lines(svg: str, paint: str) -> list[list[tuple[float, float]]]:
    """Paths with a stroke of that colour, as points."""
    found = []
    for element in ET.fromstring(svg).iter("path"):
        if f"stroke: var(--{paint})" in element.get("style", ""):
            numbers = [float(n) for n in re.findall(r"-?[\d.]+", element.get("d", ""))]
            found.append(list(zip(numbers[::2], numbers[1::2], strict=True)))
    return found


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_every_phase_is_named_and_what_is_drawn_is_in_the_legend(width: int):
    readings = [reading(5.0 * i, snapshot=i % 20 == 0, pid=7 if i < 60 else 8) for i in range(100) if not 30 <= i < 40]
    svg = drawn(courses(readings, start_ns=START), width)

    assert {"warm-up", "hold 10", "burst 50", "idle"} <= set(texts(svg))
    assert {"heap", "RSS", "snapshot", "no reading", "restart"} <= set(texts(svg))


def test_a_line_is_broken_where_readings_are_missing():
    def moves(readings: list[Reading]) -> int:
        svg = drawn(courses(readings, start_ns=START))
        line = max((e.get("d", "") for e in ET.fromstring(svg).iter("path")
                    if "stroke: var(--series-1)" in e.get("style", "")), key=len)  # fmt: skip
        return line.count("M")

    whole = [reading(5.0 * i, 100.0 + i % 7) for i in range(100)]
    assert moves(whole) == 1
    assert moves([one for i, one in enumerate(whole) if not 30 <= i < 40]) == 2


def test_the_fitted_line_lies_on_the_readings_and_rises_as_it_was_told():
    rng = random.Random(4)
    readings = [reading(5.0 * i, 100.0 + 600.0 * 5 * i / 3600 + rng.gauss(0, 0.3), values={"heap_used": MB * (
        100.0 + 600.0 * 5 * i / 3600 + rng.gauss(0, 0.3))}) for i in range(80)]  # fmt: skip
    growing = charts.Growing("app", "", "heap_used", 0.0, 80.0, 395.0, 600.0, 560.0, 640.0)
    svg = drawn(courses(readings, start_ns=START), found=[growing])

    course = max(lines(svg, "series-1"), key=len)
    fitted = max((line for line in lines(svg, "ink") if len(line) == 2), key=lambda line: abs(line[1][0] - line[0][0]))
    for x, y in fitted:
        near = min(course, key=lambda point: abs(point[0] - x))
        assert math.isclose(near[1], y, abs_tol=12), "within 12 px of 280"
    assert any("600 MB/h" in text for text in texts(svg))
    assert "cut as warm-up" in texts(svg)


def test_a_limit_far_above_is_said_and_not_drawn_and_a_near_one_is_drawn():
    def shown(limit: float) -> list[str]:
        values = {"rss": 200.0 * MB, "memory_limit": limit * MB}
        return texts(drawn(courses(each_5_s(values=values), start_ns=START)))

    assert any("limit 4,096 MB" in text for text in shown(4_096))
    assert "memory limit" not in shown(4_096)
    assert "memory limit" in shown(256)


def test_a_name_of_an_instance_is_never_read_as_mathematics():
    svg = drawn(courses(each_5_s(instance="$\\frac{1}{2}$"), start_ns=START))

    assert any("$\\frac{1}{2}$" in text for text in texts(svg))
