"""What the simulator says of its memory follows the formula of its script, to the byte."""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.request
from typing import Any

import pytest

from sim_client import ask
from streamgauge.clock import S
from streamgauge.errors import UsageError
from streamgauge.simulator import start
from streamgauge.simulator.memory import MB, Memory, Script, parse

HOUR = 3_600 * S
T0 = 5_000 * S


def memory(script: str, seed: int = 1) -> Memory:
    return Memory(parse(script), seed, T0, real=lambda: 42)


def test_a_leak_an_hour_and_one_a_request_grow_for_ever() -> None:
    it = memory("base=100,leak=400,request=0.5")
    for _ in range(10):
        it.came()
        it.ended()
    assert it.used(T0) == 105 * MB
    assert it.used(T0 + HOUR // 4) == pytest.approx(205 * MB)
    assert it.used(T0 + 10 * HOUR) == pytest.approx(4_105 * MB)


def test_a_saw_grows_and_falls_by_its_period_and_when_it_is_collected() -> None:
    it = memory("base=100,saw=30:20")
    assert [round(it.used(T0 + s * S) / MB) for s in (0, 10, 19, 20, 30)] == [100, 115, 128, 100, 115]
    told = json.loads(it.page(T0 + 10 * S, 0, collect=True))
    assert (told["rss"], told["collected"]) == (100 * MB, True)
    assert it.used(T0 + 12 * S) == pytest.approx(103 * MB)


def test_a_cache_fills_and_stops() -> None:
    it = memory("base=50,cache=80:4")
    seen = []
    for _ in range(6):
        seen.append(it.used(T0) / MB)
        it.came()
        it.ended()
    assert seen == [50, 70, 90, 110, 130, 130]


def test_what_a_burst_took_is_given_back_or_kept() -> None:
    gives, keeps = memory("base=50,open=2"), memory("base=50,keep=2")
    for it in (gives, keeps):
        for _ in range(20):
            it.came()
        assert it.used(T0) == 90 * MB
        for _ in range(20):
            it.ended()
    assert gives.used(T0) == 50 * MB
    assert keeps.used(T0) == 90 * MB, "the most that were ever open"


def test_noise_is_the_same_at_the_same_time_and_has_the_size_asked_for() -> None:
    it = memory("base=500,noise=5")
    values = [it.used(T0 + k * S) / MB - 500 for k in range(400)]
    assert values == [memory("base=500,noise=5").used(T0 + k * S) / MB - 500 for k in range(400)]
    assert values != [memory("base=500,noise=5", seed=2).used(T0 + k * S) / MB - 500 for k in range(400)]
    assert abs(sum(values) / 400) < 1
    assert 4 < math.sqrt(sum(v * v for v in values) / 400) < 6


def test_at_its_limit_it_begins_again_as_another_process() -> None:
    it = memory("base=100,leak=3600,limit=110")
    assert not it.over(T0 + 9 * S)
    assert it.over(T0 + 10 * S)
    before = json.loads(it.page(T0 + 9 * S, 0, collect=False))
    it.restart(T0 + 10 * S)
    after = json.loads(it.page(T0 + 11 * S, 0, collect=False))
    assert (before["uptime_s"], after["uptime_s"]) == (9, 1)
    assert before["pid"] != after["pid"]
    assert (before["memory_limit"], after["rss"]) == (110 * MB, 101 * MB)


def test_of_several_instances_only_the_last_one_leaks() -> None:
    it = memory("base=100,leak=100,instances=3")
    told = [json.loads(it.page(T0 + HOUR, 0, collect=False)) for _ in range(3)]
    assert [one["rss"] for one in told] == [100 * MB, 100 * MB, 200 * MB]
    assert [one["instance"] for one in told] == ["sim/1", "sim/2", "sim/3"]
    assert len({one["pid"] for one in told}) == 3
    nameless = json.loads(memory("ids=0").page(T0, 0, collect=False))
    assert "instance" not in nameless
    assert "pid" not in nameless


@pytest.mark.parametrize("text", ["", "leak", "leak=x", "leeak=1", "leak=-1", "leak=1:2", "saw=1:0", "instances=0"])
def test_a_script_that_cannot_be_says_what_can(text: str) -> None:
    with pytest.raises(UsageError, match="memory"):
        parse(text)
    with pytest.raises(UsageError, match="limit is not above"):
        parse("base=100,limit=90")
    assert parse("base=1.5") == Script(base=1.5)


def page(url: str, query: str = "") -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/probe{query}", timeout=10) as answer:
        told: dict[str, Any] = json.load(answer)
    return told


def test_a_running_simulator_tells_its_script_and_what_it_really_takes() -> None:
    with start(memory="base=100,request=2,saw=50:1000") as sim:
        before = page(sim.url)
        ask(sim, "openai-chat", model="sim-t0-i0-n2")
        after = page(sim.url, "?collect=1")
        assert (before["requests"], after["requests"], after["open"]) == (0, 1, 0)
        assert after["rss"] == 102 * MB
        assert after["connections"] >= 1
        assert 5 * MB < before["real"]["rss"] < 500 * MB
        assert [record.plan for record in sim.log(at_least=3)] == ["page", "model", "page"]
    with start(log=False) as sim:
        told = page(sim.url)
        assert told["rss"] == told["real"]["rss"]
        assert "heap_used" not in told


def test_a_key_guards_the_page_too() -> None:
    with start(log=False, require_key="k-123456") as sim:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            page(sim.url)
        wanted = urllib.request.Request(f"{sim.url}/probe", headers={"authorization": "Bearer k-123456"})
        with urllib.request.urlopen(wanted, timeout=10) as answer:
            assert answer.status == 200


def test_at_its_limit_every_connection_is_reset() -> None:
    with start(memory="base=100,leak=18000,limit=110") as sim:  # after two seconds
        assert ask(sim, model="sim-t0-i100-n100").broken
        assert page(sim.url)["uptime_s"] < 2
        assert sim.log(at_least=1)[0].ended == "reset"
