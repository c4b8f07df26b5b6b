"""Faults of streams and of load, planted in real proxies and servers, told by whole runs: verdict, words, finding."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from behind import program, proxy
from streamgauge.simulator import start
from streamgauge.spec.settings import Overrides
from test_stress import Run, criterion, part, strained
from whole import Whole

STALLS = {"X-Sim-Fault": "stall:4s:at=10"}
SLOWS = {"X-Sim-Script": json.dumps([["wait", 50], ["tokens", 200, 20], ["tokens", 42, 60]])}
"""4 s of 50 tokens/s, then 2.5 s of 17: a stream that slows down after ten of its 15 minutes, scaled."""
JITTERY, STEADY, LONG = "sim-t20-i20-n20-j900", "sim-t20-i20-n325", "sim-t20-i20-n350-j300"
LIVES = """
[targets.chat]
url = "{url}"
dialect = "openai-chat"
model = "{model}"
headers = {headers}

[tests.endurance]
stream = 6
duration = 8
concurrency = 4
"""
LEVELS = "levels = [1, 40, 80, 120]"


def spec_of(url: str, model: str, headers: dict[str, str]) -> str:
    """`endurance` of four slots for eight seconds."""
    written = ", ".join(f"{name} = '{value}'" for name, value in headers.items())
    return LIVES.format(url=url, model=model, headers=f"{{ {written} }}")


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Whole]]:
    """All of them at once: they mostly wait."""
    with ExitStack() as stack:
        plain = stack.enter_context(start(log=False))
        begun: dict[str, Whole] = {}

        def begin(name: str, url: str, model: str, headers: dict[str, str]) -> None:
            folder = tmp_path_factory.mktemp("lives")
            begun[name] = Whole("endurance", folder, spec_of(url, model, headers), steady=True)

        direct = plain.endpoint("openai-chat")
        begin("clean", direct, STEADY, {})
        begin("slows", direct, STEADY, SLOWS)
        for name, setting, model, headers in (
            ("nginx", "idle", JITTERY, STALLS),
            ("haproxy", "idle", JITTERY, STALLS),
            ("envoy", "total", LONG, {}),
        ):
            if program(name):
                front = stack.enter_context(proxy(name, plain.port, tmp_path_factory.mktemp(name)))
                begin(name, front.url(setting), model, headers)
        yield begun
        for one in begun.values():
            one.wait()


def findings(report: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["words"] for one in report["findings"]}


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nginx", "an idle time-out of 2 s: proxy_read_timeout"),
        ("haproxy", "an idle time-out of 2 s"),
        ("envoy", "a total time-out of 2 s: the route's timeout"),
    ],
)
def test_long_streams_that_a_real_proxy_ends_fail_and_the_time_out_is_named(
    lives: dict[str, Whole], name: str, words: str
) -> None:
    if name not in lives:
        pytest.skip(f"{name} is not here")
    report = lives[name].ended()
    complete = criterion(report, "streams_complete")

    assert (report["verdict"], complete["verdict"]) == ("fail", "fail")
    assert report["lives"]["lost"] >= 3
    assert report["lives"]["whole"] == 0
    assert "streams were lost, at " in complete["sentence"]
    assert words in findings(report)["cut_at_equal_ages"]
    states = {one["line"]: one["state"] for one in report["checklist"]}
    by_silence = "Check load balancer timeout settings", "Verify Lambda/ECS timeout configs"
    assert states[by_silence[name == "envoy"]] == "found"


def test_long_streams_that_slow_down_fail_and_steady_ones_have_no_finding(lives: dict[str, Whole]) -> None:
    slow, clean = lives["slows"].ended(), lives["clean"].ended()
    pace = criterion(slow, "pace_kept")

    assert (slow["verdict"], pace["verdict"]) == ("fail", "fail")
    assert pace["high"] < 0.8
    assert pace["value"] == pytest.approx(1 / 3, abs=0.12)
    assert slow["lives"]["lost"] == 0
    assert set(findings(slow)) == {"slows_within"}
    assert clean["lives"]["lost"] == 0
    assert clean["lives"]["whole"] >= 4
    assert criterion(clean, "pace_kept")["verdict"] == "pass"
    assert findings(clean) == {}


@pytest.fixture(scope="module")
def climbs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """A server that dies of its 101st connection, and one with 20 places and a queue of 64."""
    with ExitStack() as stack:
        model = "sim-t200-i10-n10"
        queue = stack.enter_context(start(log=False, model=model, capacity=20, queue=64))
        urls = {"dies": stack.enter_context(strained("dies", 100)), "queue": f"{queue.url}/v1/chat/completions"}
        begun = {
            name: Run(tmp_path_factory.mktemp(name), url, LEVELS, Overrides(), once=name == "dies")
            for name, url in urls.items()
        }
        yield begun
        for run in begun.values():
            run.wait()


def test_death_at_100_connections_is_a_crash_that_ends_the_climb(climbs: dict[str, Run]) -> None:
    report = climbs["dies"].ended()
    found = part(report)

    assert report["verdict"] == "fail"
    assert 100 <= found["value"] <= 120, "what the crash took with it at 120 is no failure of the level before"
    assert found["levels"][-2]["error_rate"] == 0
    assert "nobody listened" in found["crashes"][0]["words"]
    assert [one["level"] for one in found["levels"]] == [1, 40, 80, 100, 120], "nothing was tried after the crash"
    assert found["levels"][-1]["phase"] == "crash"
    assert "it crashed at 120 users: nobody listened" in findings(report)["crashed"]
    assert not {"connections_refused", "sheds", "collapses", "lost_together"} & set(findings(report)), "told once"
    assert report["severity"] == "P0"


def test_a_queue_of_64_is_told_by_what_it_takes_at_once(climbs: dict[str, Run]) -> None:
    report = climbs["queue"].ended()
    found = part(report)

    phases = {one["level"]: one["phase"] for one in found["levels"]}
    assert phases[120] == "shedding"
    assert phases[80] == "queueing", "80 have a place or wait"
    assert found["crashes"] == []
    told = next(one for one in report["findings"] if one["name"] == "limit_at_once")
    assert told["evidence"]["values"]["most_at_once"] == pytest.approx(84, abs=4)
    assert {"sheds", "limit_at_once"} <= set(findings(report))
