"""Causes that begin when the load is already running, and what a whole run makes of them."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import in_namespace
from cli import environment, valid_report
from engine import lane, phase, run, target
from real import require
from servers import CA, CERTS, answer, answer_once, certificate, serving
from streamgauge.control import Report
from streamgauge.plan import Hold
from streamgauge.sample import Outcome
from streamgauge.simulator import start
from streamgauge.target import Tls

TRANSPORTS = ("tcp", "tls")
TRUSTED = Tls(ca=CA)


def secured(transport: str) -> dict[str, object]:
    """The simulator's options for a transport."""
    return {} if transport == "tcp" else {"tls_cert": str(CERTS / "server.pem"), "tls_key": str(CERTS / "server.key")}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_server_killed_amid_its_answers_is_dropped_and_then_refuses(transport: str, tmp_path: Path) -> None:
    with start(**secured(transport)) as sim:
        both_open: list[Report] = []

        def kill(report: Report) -> None:
            both_open.extend([report] * bool(report.last_output_ns and report.open_streams == 2))
            if len(both_open) == 8:  # 0.8 s of 20 ms tokens: by now each has given some
                os.kill(sim.pid, signal.SIGKILL)

        asked = target("t", sim.url, model="sim-t5-i20-n2000", tls=TRUSTED)
        ran = run(tmp_path, [asked], phase("hold", [lane("t", 4, Hold(2))]), heard=kill)
    dropped, refused = ran.of("t")[:2], ran.of("t")[2:]
    assert [s.outcome for s in dropped] == [Outcome.DROPPED] * 2
    assert all(s.text_events > 0 for s in dropped)
    assert [s.outcome for s in refused] == [Outcome.CONNECT_REFUSED] * 2


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_port_closed_between_requests_refuses(transport: str, tmp_path: Path) -> None:
    with serving(answer_once, certificate() if transport == "tls" else None) as server:

        def close(name: str) -> None:
            if name == "after":
                server.stop_listening()

        phases = (phase("before", [lane("t", 2)], settles=True), phase("after", [lane("t", 2)]))
        ran = run(tmp_path, [target("t", server.url, tls=TRUSTED)], *phases, began=close)
    assert [s.outcome for s in ran.of("t")] == [Outcome.OK] * 2 + [Outcome.CONNECT_REFUSED] * 2


def test_a_certificate_changed_between_requests_is_seen_by_new_connections_alone(tmp_path: Path) -> None:
    with serving(answer_once, certificate()) as closing, serving(answer, certificate()) as keeping:

        def change(name: str) -> None:
            if name == "after":
                closing.tls = keeping.tls = certificate("expired")

        targets = [target("new", closing.url, tls=TRUSTED), target("kept", keeping.url, tls=TRUSTED)]
        lanes = [lane("new", 1), lane("kept", 1)]
        ran = run(tmp_path, targets, phase("before", lanes, settles=True), phase("after", lanes), began=change)
    assert [s.outcome for s in ran.of("new")] == [Outcome.OK, Outcome.TLS_ERROR]
    assert [s.outcome for s in ran.of("kept")] == [Outcome.OK, Outcome.OK]


# In a network of one's own.


@pytest.fixture(scope="module")
def elsewhere() -> dict[str, in_namespace.Told]:
    """What tests/in_namespace.py saw."""
    command = [sys.executable, in_namespace.__file__]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    require(done.returncode != in_namespace.NOT_ALLOWED, f"a network namespace ({done.stderr.strip()})")
    assert done.returncode == 0, done.stderr
    told: dict[str, in_namespace.Told] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("show", "expected"),
    [
        (in_namespace.black_hole, ["before ok"] * 2 + ["after connect_timeout"] * 2),
        (in_namespace.no_route, ["before ok"] * 2 + ["after unreachable"] * 2),
        (in_namespace.no_ipv6_here, ["hold unreachable"] * 2),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_only_a_network_of_its_own_can_show(
    elsewhere: dict[str, in_namespace.Told], show: Callable[..., object], expected: list[str], transport: str
) -> None:
    assert [" ".join(pair) for pair in elsewhere[show.__name__][transport]] == expected


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_ports_used_up_are_our_own_limit(elsewhere: dict[str, in_namespace.Told], transport: str) -> None:
    outcomes = [outcome for _, outcome in elsewhere["ports_used_up"][transport]]
    served = outcomes.count(Outcome.FIRST_TOKEN_TIMEOUT)
    assert 1 <= served <= 4, "there are four ports, and the kernel may not find the last ones"
    assert outcomes == [Outcome.FIRST_TOKEN_TIMEOUT] * served + [Outcome.CLIENT_LIMIT] * (7 - served)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_engine_never_talks_to_itself(elsewhere: dict[str, in_namespace.Told], transport: str) -> None:
    (only,) = elsewhere["nobody_but_oneself"][transport]
    assert only[1] == Outcome.CONNECT_REFUSED


# Whole runs, as a user starts them.


class Run:
    """`streamgauge run` in a process of its own."""

    def __init__(self, cwd: Path, *flags: str) -> None:
        self.cwd = cwd
        self._said: tuple[str, str] | None = None
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamgauge", "run", "ttft", "-q", "--json", *flags],
            cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def has_measured(self) -> None:
        """Wait until some dozens of Samples are on the disk."""
        until = time.monotonic() + 120  # a slow machine may take that long to start
        while sum(p.stat().st_size for p in self.cwd.glob(".streamgauge/runs/*/samples-*.sgs")) < 20_000:
            assert time.monotonic() < until
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.05)

    def has_begun(self) -> None:
        """Wait until preflight is over: what goes wrong from here on is found by requests."""
        until = time.monotonic() + 120
        while not any(self.cwd.glob(".streamgauge/runs/*")):
            assert time.monotonic() < until
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.002)

    def ended(self) -> tuple[int, dict[str, Any]]:
        """The exit code and the report."""
        if self._said is None:
            self._said = self.process.communicate(timeout=300)
        out, err = self._said
        assert out, err
        return self.process.returncode, valid_report(out)

    def end(self) -> None:
        """See that nothing of it is left."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def rows(self) -> list[dict[str, str]]:
        """The CSV."""
        (path,) = self.cwd.glob("tests/performance/reports/*.csv")
        with path.open(encoding="utf-8") as file:
            return list(csv.DictReader(file))


SPEC = """
[targets.app]
url = "{url}/v1/chat/completions"
dialect = "openai-chat"
model = "sim-t5-i1-n5"
tls = {{ verify = false }}
"""
MANY = ("--requests", "60", "--concurrency", "20")
"""Enough for 20 equal failures at once."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """All at once: what they show does not depend on the time they take."""

    def begin(name: str, *flags: str, spec: str | None = None) -> Run:
        cwd = tmp_path_factory.mktemp(name)
        if spec is not None:
            (cwd / "streamgauge.toml").write_text(spec, "utf-8")
        return Run(cwd, *flags)

    with ExitStack() as stack:
        sim = stack.enter_context(start(log=False))
        dies = stack.enter_context(start(log=False))
        wants = stack.enter_context(serving(answer, certificate("wrong_name")))
        page = ("--url", f"{sim.url}/v1/chat/completions", "--model", "m", "-H", "X-Sim-Fault: html")
        short = ("--url", f"{dies.url}/v1/chat/completions", "--model", "sim-t20-i5-n20", "--requests", "2000")
        found = {
            "killed": begin("killed", *short, "--concurrency", "10"),
            "web page": begin("page", *page, *MANY),
            "client certificate": begin("certificate", *MANY, spec=SPEC.format(url=wants.url)),
        }
        for one in found.values():
            stack.callback(one.end)
        found["client certificate"].has_begun()
        wants.tls = certificate("wrong_name", client_ca=CA, tls13=True)
        found["killed"].has_measured()
        os.kill(dies.pid, signal.SIGKILL)
        yield found


@pytest.mark.parametrize(
    ("name", "outcome", "words"),
    [
        ("web page", "protocol_error", "text/html"),
        ("client certificate", "tls_error", "CERTIFICATE_REQUIRED"),
    ],
)
def test_when_no_request_ever_succeeded_and_all_ended_alike_it_is_the_set_up(
    runs: dict[str, Run], name: str, outcome: str, words: str
) -> None:
    code, report = runs[name].ended()
    assert (code, report["verdict"], report["severity"], report["partial"]) == (4, "invalid", None, True)
    assert set(report["outcomes"]) == {outcome}
    assert "set-up" in report["headline"]
    assert words in json.dumps(report)
    assert report["next_step"]


def test_every_report_says_that_a_certificate_was_not_verified(runs: dict[str, Run]) -> None:
    run = runs["client certificate"]
    _, report = run.ended()
    said = "app: the server's certificate was not verified (tls.verify = false)"
    assert said in report["measurement"]["notes"]
    for form in ("md", "html"):
        (path,) = run.cwd.glob(f"tests/performance/reports/*.{form}")
        assert "certificate was not verified" in path.read_text("utf-8")


def test_a_server_killed_under_a_run_fails_it_and_every_request_is_in_the_report(runs: dict[str, Run]) -> None:
    code, report = runs["killed"].ended()
    outcomes = report["outcomes"]
    assert (code, report["verdict"], report["partial"]) == (1, "fail", True)
    assert outcomes["ok"] > 10
    assert outcomes["connect_refused"] >= 20
    assert set(outcomes) <= {"ok", "connect_refused", "dropped"}
    assert outcomes.get("dropped", 0) <= 10, "those that were open"
    assert "connect_refused" in report["run"]["stopped_by"]
    rows = runs["killed"].rows()
    assert len({row["id"] for row in rows}) == len(rows) == sum(outcomes.values()) + 2, "2 for warm-up"
