"""One of several instances behind one address dies under load: seen by the shipped probe of a real page that they
answer by turns; an instance that is added, or drained, is no crash."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import numpy as np
import pytest

from made import START as MADE
from made import collected, made
from streamgauge.client import target_from_url
from streamgauge.clock import FakeClock, S, SystemClock
from streamgauge.control import Brief, Report
from streamgauge.probes.contract import Asking, OfJson
from streamgauge.probes.page import page
from streamgauge.probes.watch import Probe
from streamgauge.sample import Outcome, Reading, SampleWriter
from streamgauge.suite.crashes import crashes, replacements
from streamgauge.suite.folder import READINGS
from streamgauge.suite.stress import Climber
from test_stress_plan import settings

START = 1_000 * S
EVERY_S = 5


@dataclass
class Fleet:
    """What answers at one address: names with when they began and ended (s), one picked by chance each time."""

    lives: dict[str, tuple[float, float]]
    at_s: float = 0.0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(3))

    def page(self) -> bytes:
        alive = [name for name, (began, ended) in self.lives.items() if began <= self.at_s < ended]
        name = alive[int(self.rng.integers(len(alive)))]
        told = {"instance": name, "pid": 1, "uptime_s": self.at_s - self.lives[name][0], "rss": 50_000_000}
        return json.dumps(told).encode()


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, list[Fleet]]]:
    """The url of the page, and the fleet behind it, which a test puts there."""
    fleets: list[Fleet] = []

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = fleets[-1].page()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: object = "-", size: object = "-") -> None:
            """Nothing is logged."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", fleets
    server.shutdown()
    server.server_close()


def read_by_turns(
    served: tuple[str, list[Fleet]], lives: dict[str, tuple[float, float]], until_s: int
) -> list[Reading]:
    """What the shipped probe reads of such a fleet, every 5 s of a clock of our own."""
    url, fleets = served
    clock = FakeClock(monotonic_ns=START, wall_ns=SystemClock().wall())
    probe = Probe("app", page(OfJson(target=target_from_url(url, dialect="openai-chat")), clock), clock)
    fleets.append(Fleet(lives))
    found = []
    for t in range(0, until_s, EVERY_S):
        fleets[-1].at_s = 1_000.0 + t
        found.append(probe.read(Asking()))
        clock.advance(EVERY_S * S)
    assert all(one.error is None for one in found)
    return found


def lost_at(*at_s: float) -> list[int]:
    return [START + round(s * S) for s in at_s]


LONG = (0.0, 9e9)
STAY = {"web-1": LONG, "web-2": LONG}
KILLED = {**STAY, "web-3": (0.0, 1_100.0), "web-4": (1_108.0, 9e9)}
"""One of three is killed 100 s after the first reading, and its successor begins 8 s later."""


def test_an_instance_that_dies_under_load_and_comes_back_as_another_is_one_crash(
    served: tuple[str, list[Fleet]],
) -> None:
    found = read_by_turns(served, KILLED, 300)
    (sign,) = replacements(found, lost_at(40, 100.2, 100.3, 220), START)

    assert "probe app saw a restart by 1" in sign.words
    assert "web-4 instead of web-3, up for" in sign.words
    assert sign.after_ns < START + 100 * S < sign.by_ns

    died = made(None, n=300, due_ms=99_000.0, outcome=Outcome.DROPPED, end_ms=1_200.0, phase="stress")
    rows = [made(100.0, n=n, due_ms=1_000.0 * n, phase="stress") for n in range(250)]
    at = [msgspec.structs.replace(one, at_ns=one.at_ns - START + MADE) for one in found]
    columns = collected([*rows, died]).columns()
    (crash,) = crashes(columns, columns.select(), at, start_ns=MADE)
    assert crash.at_ns == MADE + round(100.2 * S), "with the stream that it cost"
    assert crash.failed == 1


@pytest.mark.parametrize(
    ("lives", "lost_s"),
    [
        (KILLED, (40, 220)),
        ({**STAY, "web-3": LONG, "web-4": (1_108.0, 9e9), "web-5": (1_140.0, 9e9)}, (100, 110, 150)),
        ({"web-1": (0.0, 1_100.0), "web-2": (0.0, 1_130.0), "new-1": (1_090.0, 9e9), "new-2": (1_120.0, 9e9)}, ()),
        ({**STAY, "web-3": (0.0, 1_100.0)}, (100.2,)),
        ({**STAY, "web-3": (0.0, 1_100.0), "web-4": (900.0, 9e9)}, (100.2,)),
        ({**STAY, "web-3": (0.0, 1_280.0), "web-4": (1_285.0, 9e9)}, (280.0,)),
    ],
    ids=[
        "drained: no stream was lost then", "autoscaling that only adds", "a deployment that drains",
        "scaled in: no other one came", "no other one began", "so late that chance explains it",
    ],
)  # fmt: skip
def test_what_is_no_crash_is_not_told_as_one(
    lives: dict[str, tuple[float, float]], lost_s: tuple[float, ...], served: tuple[str, list[Fleet]]
) -> None:
    assert replacements(read_by_turns(served, lives, 300), lost_at(*lost_s), START) == []


def test_what_happened_while_the_run_had_been_cut_off_is_no_crash(served: tuple[str, list[Fleet]]) -> None:
    found = read_by_turns(served, KILLED, 300)
    assert replacements(found, lost_at(100.2), START, [(START + 95 * S, START + 120 * S)]) == []


def test_a_climb_ends_when_an_instance_dies(served: tuple[str, list[Fleet]], tmp_path: Path) -> None:
    found = read_by_turns(served, KILLED, 300)
    writer = SampleWriter(tmp_path / READINGS)
    for one in found:
        writer.add(one)
    writer.close()
    climb = Climber(settings(tmp_path), ("a",), (), folder=tmp_path)
    report = Report(worker=0, at_ns=START + 300 * S, open_streams=0)
    climb.hear(report)
    assert climb.alarm() is None, "no stream was lost"
    died = Brief("a", "stress", Outcome.DROPPED, 200, None, None, None, None, 0, None, *lost_at(100.2))
    climb.hear(msgspec.structs.replace(report, at_ns=START + 302 * S, ended=[died]))
    assert "web-4 instead of web-3" in (climb.alarm() or "")
