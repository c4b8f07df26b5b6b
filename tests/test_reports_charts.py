"""The pictures: what stands where, read back from the SVG."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import matplotlib as mpl
import pytest
from msgspec.structs import replace

from documents import failing, passing
from streamgauge.reports import charts
from streamgauge.reports.charts import habits
from streamgauge.reports.svg import NARROW, WIDE, Frame, picture
from streamgauge.series import Ecdf, Slow
from streamgauge.verdict import Judged


def frame(width: int = WIDE) -> Frame:
    return Frame("name", "A title", "A description", width)


def paths(svg: str, colour: str) -> list[list[tuple[float, float]]]:
    """The points of each path whose stroke is var(--colour)."""
    found = []
    for element in ET.fromstring(svg).iter():
        if element.tag == "path" and f"stroke: var(--{colour})" in element.get("style", ""):
            numbers = [float(n) for n in re.findall(r"-?[\d.]+", element.get("d", ""))]
            found.append(list(zip(numbers[::2], numbers[1::2], strict=True)))
    return found


def step(at: float) -> Ecdf:
    """All of 100 requests had their token at exactly `at` ms."""
    points = [(at - 1e-9, 0.0), (at, 1.0)]
    return Ecdf(metric="ttft_ms", target="chat", prompt=None, phase=None, n=100, censored=0, points=points)


def test_a_curve_left_of_its_limit_is_drawn_left_of_it():
    limit = charts.Limit(0.95, 1000, "p95 < 1,000 ms")
    for at, left in ((800, True), (1250, False)):
        svg = charts.ecdf(frame(), [step(at)], [limit])
        edge = next(line[0][0] for line in paths(svg, "fail") if line[0][0] == line[1][0])
        rise = next(line for line in paths(svg, "series-1") if len(line) > 2)
        x = next(a[0] for a, b in pairwise(rise) if abs(a[1] - b[1]) > 100)
        assert (x < edge) is left


def test_the_share_axis_is_linear_and_the_limit_stands_at_its_quantile():
    svg = charts.ecdf(frame(), [step(500)], [charts.Limit(0.95, 1000, "p95")])
    rules = sorted({line[0][1] for line in paths(svg, "rule") if line[0][1] == line[1][1] and line[0][0] != line[1][0]})
    top95, zero = rules[0], rules[-1]
    half = rules[2]
    assert (zero - half) / (zero - top95) == pytest.approx(0.5 / 0.95, abs=0.005)
    corner = next(line for line in paths(svg, "fail") if len(line) == 3)
    assert corner[1][1] == pytest.approx(top95, abs=0.2)


@pytest.mark.parametrize(("low", "high"), [(240, 410), (1, 60_000), (0.5, 1e6), (90, 8_000), (1e-3, 1e9), (950, 1_100)])
def test_an_axis_of_any_width_has_a_few_round_ticks_within_it(low: float, high: float):
    ticks, texts = habits.round_ticks(low, high)
    assert 3 <= len(ticks) <= 6
    assert all(low <= tick <= high for tick in ticks)
    assert [float(text.replace(",", "")) for text in texts] == pytest.approx(ticks)


def judged(**changed: object) -> Judged:
    usual = next(c for c in passing()[0].criteria if c.stat == "p95")
    return replace(usual, **changed)


def position(c: Judged) -> float:
    """Where the value stands, -1 at the left edge, 0 on the limit, 1 at the right edge."""
    svg = charts.against_limit(Frame("mini", "t", "", 168), c)
    assert svg is not None
    uses = [float(element.get("x", "nan")) for element in ET.fromstring(svg).iter() if element.tag == "use"]
    assert len(uses) == 1
    return (uses[0] - 84) / 84


@pytest.mark.parametrize(
    ("value", "share"), [(1000, 0.0), (500, -0.5), (2000, 0.5), (4000, 1.0), (9e9, 1.0), (0, -1.0)]
)
def test_a_value_stands_where_its_share_of_the_limit_says(value: float, share: float):
    assert position(judged(value=value)) == pytest.approx(share / 1.06, abs=0.01)


def test_for_a_lower_limit_more_is_further_from_the_miss():
    assert position(judged(op=">", limit=10, value=40)) < position(judged(op=">", limit=10, value=12)) < 0
    assert position(judged(op=">", limit=10, value=5)) > 0


def test_what_was_never_reached_stands_at_the_far_edge_and_what_is_unknown_nowhere():
    assert position(judged(value=None, why="censored", verdict="fail", low=None, high=None)) > 0.9
    assert charts.against_limit(Frame("mini", "t", "", 168), judged(value=None, why="not_measured")) is None
    assert charts.against_limit(Frame("mini", "t", "", 168), judged(limit=0, op="==")) is None


def slow(**changed: object) -> Slow:
    usual: dict[str, object] = {
        "id": "a" * 32, "target": "chat", "prompt": "short", "phase": "hold", "outcome": "ok", "t_s": 1.0,
        "start_ms": 5.0, "connect_ms": 17.0, "tls_ms": 36.0, "sent_ms": 36.5, "headers_ms": 400.0,
        "first_output_ms": 900.0, "first_token_ms": 900.0, "last_output_ms": 1500.0, "end_ms": 1502.0,
        "longest_gap_ms": 40.0, "request_id": None, "server_timing": None, "conn_requests": 0,
    }  # fmt: skip
    return Slow(**{**usual, **changed})  # type: ignore[arg-type]


def test_the_steps_of_a_request_cover_it_without_gap_or_overlap():
    for request in (slow(), slow(connect_ms=None, tls_ms=None), slow(first_token_ms=None, last_output_ms=None)):
        steps = charts.steps_of(request)
        assert steps[0][0] == 0
        assert steps[-1][1] == request.end_ms
        assert all(a[1] == b[0] for a, b in pairwise(steps))


def test_a_request_that_failed_before_its_token_ends_in_failure_and_a_good_one_never_does():
    gone: dict[str, object] = {"first_output_ms": None, "first_token_ms": None, "last_output_ms": None}
    assert charts.steps_of(slow(outcome="dropped", **gone))[-1][2:] == ("no token, failed", "fail")
    assert charts.steps_of(slow(outcome="filtered", **gone))[-1][3] != "fail"


def test_a_name_is_never_read_as_mathematics_and_never_hidden():
    for name in ("$\\frac{1}{2}$", "_hidden", "{0} %s", "漢字 👩‍💻"):
        svg = charts.ecdf(frame(), [replace(step(500), target=name)], [])
        assert name.split()[0] in "".join(ET.fromstring(svg).itertext())


def test_a_picture_is_an_element_with_a_title_and_text_that_stays_text():
    root = ET.fromstring(charts.ecdf(frame(NARROW), failing()[0].series.ecdf, []))
    assert root.get("role") == "img"
    assert root.get("viewBox", "").split()[2] == str(NARROW)
    assert [child.tag for child in root][:2] == ["title", "desc"]
    assert [child.text for child in root][:2] == ["A title", "A description"]
    assert "claude-sonnet (400)" in [element.text for element in root.iter("text")]
    assert root.find(".//style") is None  # it would reach the page around it


def test_drawing_leaves_matplotlibs_settings_as_they_were():
    before = dict(mpl.rcParams)
    charts.gaps(frame(), failing()[0].series.gaps)
    assert dict(mpl.rcParams) == before


def test_series_without_a_single_value_still_draw():
    document = failing()[0]
    none = [replace(step(500), points=[], censored=100)]
    assert "svg" in charts.ecdf(frame(), none, [])
    assert "svg" in charts.gaps(frame(), [replace(document.series.gaps[0], histogram=[])])
    assert "svg" in charts.waterfall(frame(), [])
    empty = replace(document.series.timeline[0], bins=[])
    assert "svg" in charts.timeline(frame(), [empty], [], 0, [])
    assert picture(frame(), 100, lambda figure: None).startswith("<svg")
