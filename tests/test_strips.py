"""Lives of long streams: who is shown, where, how it ended; equal ages; and what the picture of it shows."""

from __future__ import annotations

import random
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from made import START, collected
from pictured import stream
from streamgauge.reports import charts
from streamgauge.reports.charts.strips import end_of
from streamgauge.reports.svg import NARROW, WIDE, Frame
from streamgauge.sample import Outcome, Sample
from streamgauge.strips import Strips, equal_ages, strips


def lives_of(samples: list[Sample], *targets: str, all_long: bool = False) -> Strips | None:
    return strips(collected(samples).columns(), targets or ("app",), start_ns=START, all_long=all_long)


def test_streams_of_a_slot_share_a_lane_and_each_is_there_from_birth_to_death():
    found = lives_of([stream(0, 0, 60, slot=3), stream(1, 61, 40, slot=3, outcome=Outcome.DROPPED), stream(2, 0, 99)])

    assert found is not None
    shown = sorted(found.shown, key=lambda one: one.id)
    assert [(one.from_s, one.to_s, one.outcome) for one in shown] == [
        (0, 60, "ok"), (61, 101, "dropped"), (0, 99, "ok"),
    ]  # fmt: skip
    assert shown[0].lane == shown[1].lane != shown[2].lane
    assert (found.n, found.lanes, found.outcomes) == (3, 2, {"ok": 2, "dropped": 1})


def test_short_answers_have_no_strips_unless_the_test_is_about_long_streams():
    short = [stream(n, n, 5) for n in range(9)]

    assert lives_of(short) is None
    assert lives_of(short, all_long=True) is not None
    assert lives_of([]) is None


def test_a_warm_up_and_what_never_started_are_no_streams():
    samples = [stream(0, 0, 60), stream(1, 0, 60, phase="warmup"), stream(2, 0, 60, outcome=Outcome.SHED)]

    found = lives_of(samples, all_long=True)

    assert found is not None
    assert found.n == 1


def test_in_open_loop_no_two_streams_of_a_lane_overlap():
    rng = random.Random(5)
    samples = [stream(n, rng.uniform(0, 600), rng.uniform(30, 120), slot=-1) for n in range(200)]

    found = lives_of(samples)

    assert found is not None
    assert len(found.shown) == 200
    for lane in {one.lane for one in found.shown}:
        own = sorted((one.from_s, one.to_s) for one in found.shown if one.lane == lane)
        assert all(a[1] <= b[0] for a, b in pairwise(own))


def test_of_very_many_the_worst_lanes_are_whole_and_every_death_is_kept():
    samples, n = [], 0
    for slot in range(200):
        for k in range(40):
            dead = (slot % 10 == 0 and k == 5) or (slot == 77 and k in (1, 2, 3))
            samples.append(stream(n, 60 * k, 45, Outcome.DROPPED if dead else Outcome.OK, slot=slot))
            n += 1

    found = lives_of(samples)

    assert found is not None
    assert (found.n, found.lanes, found.outcomes) == (8_000, 200, {"ok": 7_977, "dropped": 23})
    assert len(found.shown) <= 800
    lanes = {one.lane for one in found.shown}
    assert {sum(one.lane == lane for one in found.shown) for lane in lanes} == {40}, "lanes are whole"
    dead = [one for one in (*found.shown, *found.deaths) if one.outcome == "dropped"]
    assert len(dead) == 23
    assert max(sum(one.lane == lane and one.outcome != "ok" for one in found.shown) for lane in lanes) == 3


def test_one_endless_lane_is_thinned_and_keeps_its_deaths():
    samples = [stream(n, 40 * n, 35, Outcome.TRUNCATED if n in (0, 1_500, 2_999) else Outcome.OK) for n in range(3_000)]

    found = lives_of(samples)

    assert found is not None
    assert len(found.shown) <= 800
    assert sum(one.outcome == "truncated" for one in found.shown) == 3


def test_deaths_at_one_age_are_told_and_chance_is_not():
    rng = random.Random(1)

    (found,) = equal_ages("app", [60.01, 60.02, 60.03, 60.04, 12.0])
    assert (found.age_s, found.k, found.n) == (60.03, 4, 5)
    assert equal_ages("app", [10, 20, 30, 40]) == []
    assert equal_ages("app", [rng.uniform(30, 90) for _ in range(150)]) == []
    assert equal_ages("app", [0.2] * 9) == [], "refused at once is no time-out"
    assert [one.age_s for one in equal_ages("app", [30.0] * 5 + [60.0] * 9)] == [60, 30]


def drawn(found: Strips | None, width: int = WIDE, wanted_s: float | None = None) -> str:
    assert found is not None
    return charts.strips(Frame("lives", "A title", "", width), found, [], START, wanted_s)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter("text")]


def test_how_a_stream_ended_is_said_in_words_beside_its_colour_and_mark():
    ends = (Outcome.OK, Outcome.LENGTH_CAPPED, Outcome.DROPPED, Outcome.STALL_TIMEOUT, Outcome.EMPTY, Outcome.CANCELLED)
    svg = drawn(lives_of([stream(n, 0, 60, end, slot=n) for n, end in enumerate(ends)], all_long=True))

    assert {f"{name} (1)" for name in ("ok", "length capped", "dropped", "stall timeout", "empty", "cancelled")} <= set(
        texts(svg)
    )
    assert {"ended well", "broken off", "timed out", "failed otherwise", "ended by the plan"} <= set(texts(svg))
    found = lives_of([stream(0, 0, 60)])
    assert found is not None
    assert len({(end_of(one, None).paint, end_of(one, None).marker) for one in found.shown}) == 1


def test_a_stream_that_the_model_ended_early_is_a_part_where_a_length_was_wanted():
    found = lives_of([stream(0, 0, 60, slot=1), stream(1, 0, 900, slot=2)], all_long=True)

    assert found is not None
    assert "a part: the model ended it early" in texts(drawn(found, wanted_s=900))
    assert "a part: the model ended it early" not in texts(drawn(found))
    assert "wanted: 15m00s" in texts(drawn(found, wanted_s=900))


def test_an_equal_age_is_a_line_at_that_age_and_says_how_many():
    ages = [60.0, 60.01, 60.02, 20.0]
    found = lives_of([stream(n, 31 * n, age, Outcome.DROPPED, slot=n) for n, age in enumerate(ages)])

    svg = drawn(found)

    assert "3 of 4 deaths at 1m00s" in texts(svg)
    lines = [
        [float(n) for n in re.findall(r"-?[\d.]+", element.get("d", ""))]
        for element in ET.fromstring(svg).iter("path")
        if "stroke: var(--fail)" in element.get("style", "") and "dasharray" in element.get("style", "")
    ]
    assert len(lines) == 1
    assert lines[0][0] == lines[0][2], "it is vertical"


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_picture_of_very_many_streams_is_small(width: int):
    rng = random.Random(2)
    ends = [Outcome.OK, Outcome.OK, Outcome.DROPPED]
    samples = [stream(n, 60 * (n // 200), rng.uniform(30, 59), rng.choice(ends), slot=n % 200) for n in range(6_000)]

    assert len(drawn(lives_of(samples), width)) < 250_000
