"""TTFT over time: every request is in the map, whatever the size of the run; and what the picture of it shows."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from made import MS, START, collected, made
from streamgauge.heat import Heat, heat
from streamgauge.reports import charts
from streamgauge.reports.charts.heat import tones
from streamgauge.reports.svg import NARROW, WIDE, Frame
from streamgauge.sample import Outcome, Sample
from streamgauge.summary import Phase


def maps_of(samples: list[Sample], *targets: str) -> list[Heat]:
    return heat(collected(samples).columns(), targets or ("app",), start_ns=START)


def paced(n: int, ttft_ms: float = 300.0, **facts: object) -> list[Sample]:
    """n requests, ten a second."""
    return [made(ttft_ms, n=i, **facts) for i in range(n)]  # type: ignore[arg-type]


def test_each_request_is_counted_where_it_came_due_and_after_how_long_it_had_its_token():
    samples = paced(400)
    samples[200] = made(6_000, n=200)

    (found,) = maps_of(samples)

    assert found.target is None
    assert found.bin_s == 1.0
    assert found.n == [10] * 40
    assert [sum(column) for column in found.counts] == [10] * 40
    usual = next(i for i, edge in enumerate(found.edges_ms) if edge > 300) - 1
    slow = next(i for i, edge in enumerate(found.edges_ms) if edge > 6_000) - 1
    assert [column[usual] for column in found.counts] == [10] * 20 + [9] + [10] * 19
    assert found.counts[20][slow] == 1
    assert (found.p95_ms[19], found.p95_ms[20]) == (300, 6_000)


def test_failures_are_counted_apart_and_one_that_gave_a_token_first_is_in_its_cell_too():
    samples = paced(400)
    samples[0] = made(None, n=0, outcome=Outcome.HTTP_ERROR)
    samples[15] = made(300, n=15, outcome=Outcome.DROPPED)
    samples[25] = made(None, n=25, outcome=Outcome.CANCELLED)

    (found,) = maps_of(samples)

    assert found.failed[:3] == [1, 1, 0]
    assert found.n[:3] == [10, 10, 9]
    assert [sum(column) for column in found.counts[:3]] == [9, 10, 9]
    assert found.p95_ms[0] is None, "1 of 10 gave no token"
    assert found.p95_ms[1] == 300


@settings(max_examples=30, deadline=None)  # each makes over a hundred Samples
@given(
    st.lists(st.floats(1e-6, 1e9), min_size=100, max_size=160),
    st.floats(1.0, 1e8),
)
def test_no_request_is_clipped_away_and_the_map_is_bounded(ttfts: list[float], apart_ms: float):
    samples = [made(ttft, n=i, due_ms=i * apart_ms) for i, ttft in enumerate(ttfts)]

    (found,) = maps_of(samples)

    assert sum(map(sum, found.counts)) == sum(found.n) == len(ttfts)
    assert len(found.counts) <= 96
    assert {len(column) for column in found.counts} == {len(found.edges_ms) - 1}
    assert 1 <= len(found.edges_ms) - 1 <= 27
    assert found.edges_ms == sorted(set(found.edges_ms))


def test_few_requests_have_no_map_and_neither_have_those_without_a_single_token():
    assert maps_of(paced(99)) == []
    assert maps_of([made(None, n=i, outcome=Outcome.HTTP_ERROR) for i in range(200)]) == []


def test_up_to_four_targets_have_a_map_each_on_one_scale_and_more_are_drawn_together():
    for count, names in ((2, ["t0", "t1"]), (4, ["t0", "t1", "t2", "t3"]), (5, [None])):
        samples = [made(100.0 * (1 + i % count), n=i, target=f"t{i % count}") for i in range(400)]
        found = maps_of(samples, *(f"t{k}" for k in range(count)))
        assert [one.target for one in found] == names
        assert len({(one.bin_s, tuple(one.edges_ms), len(one.n)) for one in found}) == 1
        assert sum(map(sum, (one.n for one in found))) == 400


@pytest.mark.parametrize("most", [1, 2, 3, 5, 6, 17, 40, 1_000_000])
def test_tones_cover_every_count_once(most: int):
    found = tones(most)

    assert len(found) <= 5
    assert found[0][0] == 1
    assert found[-1][1] == most
    assert all(a[1] + 1 == b[0] for a, b in pairwise(found))


def boxes(svg: str, paint: str) -> list[float]:
    """Left edges of the boxes of one colour, in px."""
    found = []
    for element in ET.fromstring(svg).iter():
        if (
            element.tag == "path"
            and f"fill: var(--{paint})" in element.get("style", "")
            and "z" in element.get("d", "")
        ):
            found += [float(part.split()[0]) for part in element.get("d", "").split("M") if part.strip()]
    return found


def drawn(found: list[Heat], width: int = WIDE, phases: list[Phase] | None = None) -> str:
    return charts.heat(
        Frame("heat", "A title", "", width), found, phases or [], START, [charts.Limit(0.95, 500, "p95")]
    )


def test_a_failure_is_drawn_in_the_row_on_top_at_its_time_and_without_any_there_is_no_such_row():
    samples = paced(400)
    good = maps_of(samples)
    samples[300] = made(None, n=300, outcome=Outcome.HTTP_ERROR)
    bad = maps_of(samples)

    assert "failed" not in "".join(ET.fromstring(drawn(good)).itertext())
    svg = drawn(bad)
    assert "failed" in [element.text for element in ET.fromstring(svg).iter("text")]
    row = max(boxes(svg, "fail"))  # the other one is the legend's
    cells = boxes(svg, "series-1")
    share = (row - min(cells)) / (WIDE - min(cells))
    assert share == pytest.approx(300 / 400, abs=0.04)


def test_where_a_clock_stepped_back_all_are_counted_and_drawn():
    samples = paced(400)
    samples[50:60] = [made(-3_600_000.0, n=i) for i in range(50, 60)]

    found = maps_of(samples)

    assert found[0].p95_ms[4:7] == [300, -3_600_000, 300]
    assert [sum(column) for column in found[0].counts] == [10] * 40
    assert boxes(drawn(found), "series-1")


def test_phases_are_named_and_their_names_do_not_lie_over_one_another():
    phases = [
        Phase(name=name, level=level, start_ns=START + at * 1_000 * MS, end_ns=START + end * 1_000 * MS)
        for name, level, at, end in (("warmup", 0, 0, 1), ("ramp", 100, 1, 2), ("hold", 100, 2, 40))
    ]
    for width in (WIDE, NARROW):
        texts = [
            (element.text, float(element.get("x", "nan")), float(element.get("y", "nan")))
            for element in ET.fromstring(drawn(maps_of(paced(400)), width, phases)).iter("text")
        ]
        named = [one for one in texts if one[0] in ("warm-up", "ramp 100", "hold 100")]
        assert len(named) == 3
        for i, (text, x, y) in enumerate(named):
            for _, other_x, other_y in named[i + 1 :]:
                assert abs(y - other_y) > 10 or abs(x - other_x) > 6 * len(str(text))


def test_a_map_of_a_huge_run_is_small():
    (found,) = maps_of([made(100.0 + i % 977, n=i, due_ms=float(i)) for i in range(20_000)])

    assert len(drawn([replace(found, target=f"t{k}") for k in range(4)])) < 300_000
    assert math.isclose(sum(found.n), 20_000)
