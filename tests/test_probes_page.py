"""The JSON probe against real servers: what it reads, and in which words it says that it cannot."""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from odd_pages import Pages, as_json, serving
from streamgauge.clock import S, SystemClock
from streamgauge.probes.contract import Ask, Asking, OfJson, Place, ProbeError
from streamgauge.probes.lives import SAME_NS, Lives
from streamgauge.probes.page import page
from streamgauge.probes.places import number, read
from streamgauge.probes.watch import Probe
from streamgauge.sample import Reading, encode
from streamgauge.simulator import start
from streamgauge.spec.places import check_places, parse_place
from streamgauge.target import Target, Tls

CLOCK = SystemClock()
CERTS = Path(__file__).parent / "certs"
MEMORY = {"rss": 80_000_000, "heapUsed": 30_000_000, "heapTotal": 50_000_000, "external": 1_000, "arrayBuffers": 10}


def source(port: int, path: str = "/probe", **more: object) -> OfJson:
    headers = more.pop("headers", ())
    way = {"scheme": "http", "host": "127.0.0.1", "tls": Tls(), **more.pop("way", {})}  # type: ignore[dict-item]
    target = Target(name="p", port=port, path=path, dialect="", headers=headers, **way)  # type: ignore[arg-type]
    return OfJson(target=target, **more)  # type: ignore[arg-type]


def places(**paths: str) -> dict[str, Place]:
    return {name: Place(*parse_place(text)) for name, text in paths.items()}


@pytest.fixture(scope="module")
def pages() -> Iterator[Pages]:
    with serving(lambda _: as_json({})) as found:
        yield found


def asking(pages: Pages, told: object, **more: object) -> Ask:
    pages.asked.clear()
    pages.pause_s = 0.0
    pages.answer = lambda _: told if isinstance(told, tuple) else as_json(told)
    return page(source(pages.port, **more), CLOCK)


def why(ask: Ask) -> str:
    with pytest.raises(ProbeError) as failed:
        ask(Asking())
    return str(failed.value)


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(MEMORY, id="process.memoryUsage() as it is"),
        pytest.param({"status": "ok", "memory": MEMORY}, id="in a table of its own"),
        pytest.param({"memoryUsage": {"rss": "80 MB", "heap_used": "30 MB", "heap-total": 5e7, "external": 1000,
                                      "ARRAY_BUFFERS": 10}}, id="other spellings, texts with units"),
    ],
)  # fmt: skip
def test_usual_names_need_no_paths(pages: Pages, told: object) -> None:
    values = asking(pages, told)(Asking()).values
    assert values == {
        "rss": 80e6, "heap_used": 30e6, "heap_total": 50e6, "external": 1_000.0, "array_buffers": 10.0,
    }  # fmt: skip


def test_paths_reach_anything_and_may_multiply(pages: Pages) -> None:
    told = {"jvm": {"heap.used": {"mb": 12.5}}, "pools": [{"size": 3}, {"size": 4}], "up": 1500, "rss": 7, "who": 12}
    ask = asking(
        pages, told, places=places(heap_used="/jvm/heap.used/mb * 1e6", pool="pools[1].size", uptime="up * 0.001",
                                   instance="who")
    )  # fmt: skip
    seen = ask(Asking())
    assert seen.values == {"heap_used": 12.5e6, "pool": 4.0, "rss": 7.0, "restarts": 0.0}
    assert (seen.uptime_s, seen.instance, seen.missing) == (1.5, "12", ())


def test_what_is_asked_for_and_not_there_is_told_with_the_keys_that_are(pages: Pages) -> None:
    told = {"memory": {"rss": 5, "secret": "hunter2"}}
    seen = asking(pages, told, places=places(heap_used="memory.heap", queue="jobs.waiting", x="memory.secret"))(
        Asking()
    )
    assert seen.values == {"rss": 5.0}
    assert seen.missing == (
        "heap_used: memory.heap is not there; memory has: rss, secret",
        "queue: jobs.waiting is not there; there is: memory {...}",
        "x: memory.secret is a text, no number",
    )
    assert why(asking(pages, {"status": "ok", "jobs": [1]})) == "no gauge is in the answer; there is: status, jobs"


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ((401, "text/plain", b"wrong token tok-1234"), "401: it does not accept the token"),
        ((403, "text/plain", b""), "403: it does not accept the token"),
        ((404, "text/plain", b""), "404: nothing is at /probe"),
        ((302, "text/plain", b""), "302: redirected to /login, which is not followed"),
        ((500, "text/plain", b"Traceback: hunter2"), "500: /probe answers with an error"),
        ((200, "text/html", b"<!doctype html>"), "the answer is an html page"),
        ((200, "application/json", b""), "the answer is empty"),
        ((200, "application/json", b'{"rss": '), "the answer is no JSON"),
        ((200, "application/json", b"[" * 100_000 + b"]" * 100_000), "nested too deeply"),
        ((200, "application/json", b'{"rss": NaN}'), "the answer is no JSON"),
        (as_json([1, 2]), "no gauge is in the answer; there is: a list of 2"),
        (as_json({"rss": True, "heap_used": None, "heap_total": "much", "external": 10**400}), "no gauge"),
        ((200, "application/json", b'{"rss": 1, "x": "' + b"x" * 2_000_000 + b'"}'), "over 1 MB"),
    ],
)
def test_each_failure_has_its_words_and_none_of_the_answers(pages: Pages, told: object, words: str) -> None:
    found = why(asking(pages, told))
    assert words in found
    assert "hunter2" not in found
    assert "tok-1234" not in found
    assert "next=secret" not in found


def test_one_asking_ends_within_its_time_however_slowly_the_answer_comes(pages: Pages) -> None:
    ask = asking(pages, as_json({"rss": 1, "x": "x" * 700_000}), timeout_s=0.5)
    pages.pause_s = 0.2  # of 11 pieces
    began = time.monotonic()
    assert why(ask) == "no answer within 0.5 s"
    assert time.monotonic() - began < 5


def test_nobody_there_and_nobody_who_speaks_http(pages: Pages) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert why(page(source(port, timeout_s=0.3), CLOCK)) == "no answer within 0.3 s"
    assert "Connection refused" in why(page(source(port), CLOCK))
    assert "does not resolve" in why(page(source(port, way={"host": "no-such-host.invalid"}), CLOCK))


def test_headers_a_body_and_the_query_go_as_the_spec_says(pages: Pages) -> None:
    asking(
        pages, MEMORY, path="/probe?deep=1", method="POST", body='{"a":1}', collect="?collect=1",
        headers=(("authorization", "Bearer tok-1234"),),
    )(Asking(collect=True))  # fmt: skip
    ((method, path, headers, body),) = pages.asked
    assert (method, path, body) == ("POST", "/probe?deep=1&collect=1", b'{"a":1}')
    assert headers["authorization"] == "Bearer tok-1234"
    assert headers["content-type"] == "application/json"


def test_garbage_is_collected_only_when_asked_for_and_told_only_when_done(pages: Pages) -> None:
    ask = asking(pages, {**MEMORY, "collected": True}, collect="?collect=1")
    assert not ask(Asking()).collected
    assert ask(Asking(collect=True)).collected
    assert [path for _, path, _, _ in pages.asked] == ["/probe", "/probe?collect=1"]
    assert not asking(pages, {**MEMORY, "collected": False}, collect="?collect=1")(Asking(collect=True)).collected
    assert not asking(pages, MEMORY, collect="?collect=1")(Asking(collect=True)).collected, "it may not know the word"
    ask = asking(pages, MEMORY, collect="/gc")
    assert ask(Asking(collect=True)).collected
    assert [path for _, path, _, _ in pages.asked] == ["/gc", "/probe"]


def test_a_cached_answer_is_no_reading(pages: Pages) -> None:
    ask = asking(pages, {**MEMORY, "instance": "a", "time_ms": 1_760_000_000_000})
    assert ask(Asking()).values["rss"] == 80e6
    assert ask(Asking()).values["rss"] == 80e6, "so soon after, its clock may not have moved"
    time.sleep(2.1)
    assert "a cache stands between" in why(ask)
    pages.answer = lambda _: as_json({**MEMORY, "instance": "a", "time_ms": 1_760_000_005_000})
    assert ask(Asking()).values["rss"] == 80e6


def test_tls_is_checked_as_a_targets_is(tmp_path: Path) -> None:
    pem = {"tls_cert": str(CERTS / "server.pem"), "tls_key": str(CERTS / "server.key")}
    with start(log=False, memory="base=50", **pem) as sim:
        way = {"scheme": "https", "host": "localhost"}
        good = page(source(sim.port, way={**way, "tls": Tls(ca=str(CERTS / "ca.pem"))}), CLOCK)
        assert good(Asking()).values["rss"] == 50e6
        assert "certificate not accepted" in why(page(source(sim.port, way=way), CLOCK))
    assert ssl.OPENSSL_VERSION


def test_the_simulators_page_is_read_without_any_setting() -> None:
    with start(log=False, memory="base=100,limit=512", require_key="tok-1234") as sim:
        assert why(page(source(sim.port), CLOCK)).startswith("401")
        seen = page(source(sim.port, headers=(("authorization", "Bearer tok-1234"),)), CLOCK)(Asking())
    assert seen.values["rss"] == 100e6
    assert seen.values["memory_limit"] == 512e6
    assert seen.values["heap_used"] == 50e6
    assert (seen.instance, seen.pid) == ("sim", sim.pid)
    assert 0 <= (seen.uptime_s or -1) < 60


def test_several_instances_are_a_series_each_with_ids_and_without() -> None:
    with start(log=False, memory="instances=3") as sim:
        ask = page(source(sim.port), CLOCK)
        assert [ask(Asking()).instance for _ in range(6)] == ["sim/1", "sim/2", "sim/3"] * 2
    with start(log=False, memory="instances=2,ids=0") as sim:
        ask = page(source(sim.port), CLOCK)
        seen = [ask(Asking()) for _ in range(6)]
    assert [one.instance for one in seen] == ["", "#2"] * 3, "told apart by when they began"
    assert all(one.values["restarts"] == 0 for one in seen)


# The lives of instances.


def test_a_restart_is_one_by_uptime_with_or_without_a_pid() -> None:
    lives = Lives()
    assert lives.told("a", 1, 100.0, 1_000 * S) == ("a", 0)
    assert lives.told("a", 1, 105.2, 1_005 * S) == ("a", 0)
    assert lives.told("a", 2, 1.0, 1_010 * S) == ("a", 1)
    assert lives.told("a", 2, 6.0, 1_015 * S) == ("a", 1)
    assert lives.told("b", None, 9_999.0, 1_015 * S) == ("b", 0), "another instance is no restart"
    assert lives.told("b", None, 2.0, 1_020 * S) == ("b", 1)
    assert lives.told("c", 7, None, 1_020 * S) == ("c", 0)
    assert lives.told("c", 8, None, 1_025 * S) == ("c#2", 0), "without an uptime it may have been there all the time"
    assert lives.told("c", 7, None, 1_030 * S) == ("c", 0)


def test_several_processes_under_one_id_are_told_apart_and_their_restarts_too() -> None:
    lives = Lives()
    first = [
        lives.told("", pid, up, at * S) for pid, up, at in ((1, 500.0, 1_000), (2, 900.0, 1_005), (1, 510.0, 1_010))
    ]
    assert first == [("", 0), ("#2", 0), ("", 0)]
    assert lives.told("", 3, 1.0, 1_015 * S) == ("#2", 1), "the one that was silent for longest made way"


@settings(max_examples=60, deadline=None)
@given(
    starts=st.lists(st.integers(0, 10_000), min_size=1, max_size=5, unique=True).filter(
        lambda all_: min((abs(a - b) for a in all_ for b in all_ if a != b), default=99) > 2 * SAME_NS // S
    ),
    order=st.lists(st.integers(0, 4), min_size=1, max_size=40),
)
def test_processes_that_all_live_on_never_restart(starts: list[int], order: list[int]) -> None:
    """However a balancer deals the answers, and with uptimes in whole seconds."""
    lives, names = Lives(), {}
    for turn, which in enumerate(order):
        began = starts[which % len(starts)]
        at = 20_000 + 5 * turn
        name, restarts = lives.told("x", None, float(at - began), at * S)
        assert restarts == 0
        assert names.setdefault(began, name) == name
    assert len(set(names.values())) == len(names)


# Places.


@pytest.mark.parametrize(
    ("text", "keys", "times"),
    [
        ("rss", ("rss",), 1.0),
        ("memory.heapUsed", ("memory", "heapUsed"), 1.0),
        ("a[0].b * 1048576", ("a", "0", "b"), 1048576.0),
        ("/a~1b/c.d", ("a/b", "c.d"), 1.0),
    ],
)
def test_places_are_keys_with_dots_or_pointers(text: str, keys: tuple[str, ...], times: float) -> None:
    assert parse_place(text) == (keys, times)


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ({"rss": "a..b"}, "is no place in JSON"),
        ({"rss": "mem * MB"}, "stands the number it is multiplied by"),
        ({"rss": "mem * 0"}, "stands the number it is multiplied by"),
        ({"heapUsed": "x"}, "is no name of a gauge"),
        ({"heapused": "x"}, 'did you mean "heap_used"?'),
        ({"connection": "x"}, 'did you mean "connections"?'),
    ],
)
def test_a_wrong_path_says_what_is_right(paths: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        check_places(paths)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (5, 5.0), (5.5, 5.5), ("5", 5.0), ("45.2 MB", 45.2e6), ("1 GiB", 2.0**30), ("12kb", 12_000.0), ("300 B", 300.0),
        (True, None), (None, None), ("much", None), ("1e9e9", None), ("9" * 50, None), ([5], None),
    ],
)  # fmt: skip
def test_numbers_may_be_texts_with_units(value: object, found: float | None) -> None:
    assert number(value) == found


WILD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["rss", "memory", "heapUsed", "uptime", "pid", "instance", "x", "0"]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None)
@given(answer=WILD, keys=st.lists(st.sampled_from(["rss", "memory", "x", "0", "7", ""]), min_size=1, max_size=3))
def test_whatever_the_answer_is_what_comes_out_is_finite_and_named(answer: object, keys: list[str]) -> None:
    found, missing = read(answer, {"own": Place(tuple(keys), 2.0)})
    assert ("own" in found) != bool(missing)
    assert all(isinstance(value, float | str | bool) for value in found.values())
    assert all(value == value and abs(value) < float("inf") for value in found.values() if isinstance(value, float))
    json.dumps(found, allow_nan=False)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=st.dictionaries(st.sampled_from(["rss", "memory", "pid", "uptime_s", "instance", "time_ms"]), WILD))
def test_whatever_the_answer_is_it_makes_a_reading_that_can_be_kept(pages: Pages, answer: dict[str, object]) -> None:
    probe = Probe("p", asking(pages, (200, "application/json", json.dumps(answer).encode())), CLOCK)
    reading = probe.read(Asking())
    assert msgspec.msgpack.decode(encode(reading)[4:], type=Reading) == reading
    assert (reading.error is None) == bool(reading.values)
