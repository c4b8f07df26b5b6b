"""Every outcome has a real cause, and comes back under its name: one Sample for each Shot that came due.

The causes are the simulator's faults, plain sockets, Python's ssl, the system's own limits. The engine is asked without
preflight, which would have refused to start against many of them.
"""

from __future__ import annotations

import os
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from engine import Ran, lane, phase, run, target
from real import require
from servers import (
    CA,
    CERTS,
    EVENTS,
    HEAD,
    UNTIL_CLOSE,
    Talk,
    answer,
    black_hole,
    certificate,
    chunk,
    closed_port,
    read_request,
    reset,
    says,
    serving,
    token,
)
from streamgauge.arrivals import Rate
from streamgauge.clock import S
from streamgauge.plan import Hold
from streamgauge.sample import Outcome
from streamgauge.simulator import Simulator, start
from streamgauge.stream import Limits
from streamgauge.target import Target, Tls

EACH = 2
"""Requests for each cause."""
TRANSPORTS = ("tcp", "tls")


@dataclass
class World:
    """What the causes of one transport are made of."""

    transport: str
    sim: Simulator
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def secure(self) -> bool:
        return self.transport == "tls"

    def own(self, talk: Talk) -> str:
        """The origin of a server of its own."""
        return self.stack.enter_context(serving(talk, certificate() if self.secure else None)).url

    def at(self, host: str, port: int) -> str:
        return f"{'https' if self.secure else 'http'}://{host}:{port}"


Make = Callable[[World, str], Target]
TRUSTED = Tls(ca=CA)


def fault(name: str, **more: object) -> Make:
    """The simulator with one of its faults."""
    return lambda world, case: target(case, world.sim.url, headers={"X-Sim-Fault": name}, tls=TRUSTED, **more)


def script(steps: str, **more: object) -> Make:
    """The simulator with a script."""
    return lambda world, case: target(case, world.sim.url, headers={"X-Sim-Script": steps}, tls=TRUSTED, **more)


def own(talk: Talk, **more: object) -> Make:
    """A server of the test's own."""
    return lambda world, case: target(case, world.own(talk), tls=TRUSTED, **more)


def place(host: str, port: int = 8080, **more: object) -> Make:
    """An address with nobody behind it."""
    return lambda world, case: target(case, world.at(host, port), tls=TRUSTED, **more)


def port_of(opened: Callable[[], object], **more: object) -> Make:
    """A port of this machine that `opened` keeps as it is."""
    return lambda world, case: target(
        case, world.at("127.0.0.1", world.stack.enter_context(opened())), tls=TRUSTED, **more
    )


def handshake(name: str = "server", *, ca: str | None = CA, **server: object) -> Make:
    """A server whose certificate, or whose wish for ours, is not met."""
    return lambda world, case: target(
        case, world.stack.enter_context(serving(answer, certificate(name, **server))).url, tls=Tls(ca=ca)
    )


def bare(talk: Talk, **more: object) -> Make:
    """https at a server that speaks no TLS."""

    def make(world: World, case: str) -> Target:
        port = world.stack.enter_context(serving(talk)).port
        return target(case, f"https://127.0.0.1:{port}", tls=TRUSTED, **more)

    return make


def plain_400(conn: socket.socket) -> None:
    conn.recv(1000)
    conn.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")


def hang(conn: socket.socket) -> None:
    """Accept, and say nothing until the client leaves."""
    while conn.recv(65_536):
        pass


def ignore(conn: socket.socket) -> None:
    """Read nothing until the test is over."""
    threading.Event().wait(30)


def reset_late(conn: socket.socket) -> None:
    read_request(conn)
    conn.sendall(HEAD + chunk(token("Hel")))
    reset(conn)


MANY_HEADERS = b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: %s\r\n" % (n, b"y" * 1000) for n in range(200))
LARGE = {"padding": "x" * 16_000_000}
CONNECT = Limits(connect_ns=S)
FIRST = Limits(first_output_ns=S)
STALL = Limits(stall_ns=S)
TOTAL = Limits(total_ns=S)


@dataclass(frozen=True)
class Case:
    """A cause and the outcome it is known by."""

    outcome: Outcome
    cause: str
    make: Make
    only: str | None = None
    """The one transport on which it can happen."""

    @property
    def name(self) -> str:
        return f"{self.outcome}: {self.cause}"


CASES = (
    Case(Outcome.OK, "an answer", fault("slow-headers:50ms")),
    Case(Outcome.OK, "message never ended", fault("keep-open")),
    Case(Outcome.OK, "until the connection closes", own(says(UNTIL_CLOSE + EVENTS))),
    Case(Outcome.LENGTH_CAPPED, "finish reason length", fault("length")),
    Case(Outcome.LENGTH_CAPPED, "max_tokens below the answer", fault("slow-headers:1ms", max_tokens=3)),
    Case(Outcome.FILTERED, "content filter", fault("filter")),
    Case(Outcome.FILTERED, "refusal", fault("refuse")),
    Case(Outcome.HTTP_ERROR, "500", fault("500")),
    Case(Outcome.HTTP_ERROR, "502", fault("502")),
    Case(Outcome.HTTP_ERROR, "404", fault("404")),
    Case(Outcome.HTTP_ERROR, "redirect", script('[["status", 302, {"location": "/v2/elsewhere"}, ""]]')),
    Case(Outcome.RATE_LIMITED, "429", fault("429:retry-after=7")),
    Case(Outcome.RATE_LIMITED, "503 overloaded", fault("503:retry-after=7")),
    Case(Outcome.RATE_LIMITED, "overload told in the stream", fault("overload")),
    Case(Outcome.AUTH_ERROR, "401", fault("401")),
    Case(Outcome.AUTH_ERROR, "403", fault("403")),
    Case(Outcome.AUTH_ERROR, "redirect to a login", fault("login")),
    Case(Outcome.DNS_ERROR, "no such name", place("no-such-host.invalid")),
    Case(Outcome.CONNECT_REFUSED, "closed port", port_of(closed_port)),
    Case(Outcome.UNREACHABLE, "an address that TCP cannot reach", place("224.0.0.1")),
    Case(Outcome.TLS_ERROR, "own CA not trusted", handshake(ca=None), "tls"),
    Case(Outcome.TLS_ERROR, "another CA trusted", handshake(ca=str(CERTS / "other_ca.pem")), "tls"),
    Case(Outcome.TLS_ERROR, "self-signed", handshake("self_signed"), "tls"),
    Case(Outcome.TLS_ERROR, "expired", handshake("expired"), "tls"),
    Case(Outcome.TLS_ERROR, "not valid yet", handshake("early"), "tls"),
    Case(Outcome.TLS_ERROR, "another name", handshake("wrong_name"), "tls"),
    Case(Outcome.TLS_ERROR, "client certificate missing in TLS 1.2", handshake(client_ca=CA, tls13=False), "tls"),
    Case(Outcome.TLS_ERROR, "client certificate missing in TLS 1.3", handshake(client_ca=CA, tls13=True), "tls"),
    Case(Outcome.TLS_ERROR, "no TLS spoken there", bare(plain_400), "tls"),
    Case(Outcome.TLS_ERROR, "closed in the handshake", bare(lambda conn: conn.close()), "tls"),
    Case(Outcome.TLS_ERROR, "reset in the handshake", bare(reset), "tls"),
    Case(Outcome.CONNECT_TIMEOUT, "no answer to a SYN", port_of(black_hole, limits=CONNECT)),
    Case(Outcome.CONNECT_TIMEOUT, "no answer to a TLS hello", bare(hang, limits=CONNECT), "tls"),
    Case(Outcome.FIRST_TOKEN_TIMEOUT, "nothing at all", fault("mute", limits=FIRST)),
    Case(Outcome.FIRST_TOKEN_TIMEOUT, "opening events, no output", fault("silent", limits=FIRST)),
    Case(Outcome.FIRST_TOKEN_TIMEOUT, "a request of 16 MB that is not read", own(ignore, limits=FIRST, extra=LARGE)),
    Case(Outcome.STALL_TIMEOUT, "silence amid the answer", fault("stall", limits=STALL)),
    Case(Outcome.TOTAL_TIMEOUT, "tokens without end", fault("endless:20ms", limits=TOTAL)),
    Case(Outcome.DROPPED, "closed before the head", fault("hangup")),
    Case(Outcome.DROPPED, "reset before the head", own(reset), "tcp"),
    Case(Outcome.DROPPED, "closed within the head", script('[["wire", "HTTP/1.1 200 OK\\r\\ncontent-"], ["drop"]]')),
    Case(Outcome.DROPPED, "reset within the head", script('[["wire", "HTTP/1.1 200 OK\\r\\ncontent-"], ["reset"]]')),
    Case(Outcome.DROPPED, "closed after the head", script('[["headers"], ["drop"]]')),
    Case(Outcome.DROPPED, "closed amid the answer", fault("drop")),
    Case(Outcome.DROPPED, "reset amid the answer", fault("reset")),
    Case(Outcome.DROPPED, "reset amid a body without length", own(reset_late)),
    Case(Outcome.TRUNCATED, "message whole, no terminal event", fault("truncate")),
    Case(Outcome.TRUNCATED, "closed where closing ends the message", own(says(UNTIL_CLOSE + token("Hel")))),
    Case(Outcome.STREAM_ERROR, "error amid the answer", fault("error")),
    Case(Outcome.EMPTY, "terminal events alone", fault("empty")),
    Case(Outcome.WRONG_ANSWER, "content check", fault("wrong", expect="^Answer: ")),
    Case(Outcome.PROTOCOL_ERROR, "a web page", fault("html")),
    Case(Outcome.PROTOCOL_ERROR, "one JSON body", fault("json")),
    Case(Outcome.PROTOCOL_ERROR, "senseless bytes", fault("garbage")),
    Case(Outcome.PROTOCOL_ERROR, "not HTTP", own(says(b"SSH-2.0-OpenSSH_9.2\r\n"))),
    Case(Outcome.PROTOCOL_ERROR, "headers without end", own(says(MANY_HEADERS))),
)


TRIALS = [(transport, case) for transport in TRANSPORTS for case in CASES if case.only in (None, transport)]
NAMES = [f"{transport} {case.name}" for transport, case in TRIALS]


@dataclass(frozen=True)
class Tried:
    """All causes on both transports, in one run: requests that fail do not disturb the others."""

    worlds: dict[str, World]
    targets: dict[str, Target]
    ran: Ran


@pytest.fixture(scope="module")
def worlds() -> Iterator[dict[str, World]]:
    secure = {"tls_cert": str(CERTS / "server.pem"), "tls_key": str(CERTS / "server.key")}
    with start() as plain, start(**secure) as tls, ExitStack() as stack:
        yield {"tcp": World("tcp", plain, stack), "tls": World("tls", tls, stack)}


@pytest.fixture(scope="module")
def tried(worlds: dict[str, World], tmp_path_factory: pytest.TempPathFactory) -> Tried:
    targets = {name: case.make(worlds[transport], name) for name, (transport, case) in zip(NAMES, TRIALS, strict=True)}
    hold = phase("hold", [lane(name, EACH) for name in targets])
    return Tried(worlds, targets, run(tmp_path_factory.mktemp("tried"), targets.values(), hold))


@pytest.mark.parametrize(("name", "case"), [(n, c) for n, (_, c) in zip(NAMES, TRIALS, strict=True)], ids=NAMES)
def test_a_cause_comes_back_under_its_name(tried: Tried, name: str, case: Case) -> None:
    samples = tried.ran.of(name)
    assert [s.outcome for s in samples] == [case.outcome] * EACH, [s.error for s in samples]
    assert all(s.good or s.error for s in samples), "a failure has words"


def test_each_shot_is_one_sample(tried: Tried) -> None:
    samples = tried.ran.samples
    assert sorted(s.seq for s in samples) == list(range(EACH * len(TRIALS)))
    assert len({s.id for s in samples}) == len(samples)
    assert not tried.ran.ending.partial


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_server_knows_each_request_and_meant_what_came_back(tried: Tried, transport: str) -> None:
    sim = tried.worlds[transport].sim
    asked = {s.id: s for s in tried.ran.samples if tried.targets[s.target].port == sim.port}
    truth = {record.trace_id: record for record in sim.log(at_least=len(asked))}
    assert set(truth) == set(asked)
    for record in truth.values():
        sample = asked[record.trace_id]
        assert record.outcome in (None, sample.outcome), sample.target
        assert sample.http_status in (None, record.status), "a time-out of ours may come before the head"


def test_a_server_that_says_when_to_come_again_is_heard(tried: Tried) -> None:
    waits = {name: [s.retry_after_s for s in tried.ran.of(name)] for name in NAMES if "rate_limited: " in name}
    told = {name: found for name, found in waits.items() if "stream" not in name}
    assert len(told) == 4
    assert all(found == [7.0] * EACH for found in told.values()), told


# Outcomes that the plan or this machine makes: each a run of its own.


def of_plan(worlds: dict[str, World], make: Make) -> dict[str, Target]:
    """The same target on both transports."""
    return {transport: make(world, transport) for transport, world in worlds.items()}


def test_what_comes_due_above_the_cap_is_shed(worlds: dict[str, World], tmp_path: Path) -> None:
    targets = of_plan(worlds, fault("mute", limits=FIRST))
    lanes = [lane(name, 6, Rate(per_s=100, cap=1)) for name in targets]
    ran = run(tmp_path, targets.values(), phase("hold", lanes))
    for name in targets:
        first, *others = ran.of(name)
        assert first.outcome == Outcome.FIRST_TOKEN_TIMEOUT, "it holds the only place"
        assert [s.outcome for s in others] == [Outcome.SHED] * 5
        assert {s.start_ns for s in others} == {None}


def test_what_is_open_when_the_plan_ends_is_cancelled(worlds: dict[str, World], tmp_path: Path) -> None:
    targets = of_plan(worlds, fault("stall"))
    ran = run(tmp_path, targets.values(), phase("hold", [lane(name, EACH) for name in targets]), grace_s=0.5)
    for name in targets:
        assert [s.outcome for s in ran.of(name)] == [Outcome.CANCELLED] * EACH
    assert not ran.ending.partial


def test_descriptors_used_up_are_our_own_limit(worlds: dict[str, World], tmp_path: Path) -> None:
    require(hasattr(resource, "prlimit"), "setting another process's limits")
    targets = of_plan(worlds, fault("close"))

    lanes = [lane(name, EACH) for name in targets]
    ran = run(tmp_path, targets.values(), phase("warmup", lanes, settles=True), phase("hold", lanes), began=leaving(0))
    for name in targets:
        assert [s.outcome for s in ran.of(name, "warmup")] == [Outcome.OK] * EACH
        assert [s.outcome for s in ran.of(name, "hold")] == [Outcome.CLIENT_LIMIT] * EACH
        assert {s.error for s in ran.of(name, "hold")} == {"Too many open files"}


def test_the_last_descriptor_is_enough_for_a_first_tls_connection(worlds: dict[str, World], tmp_path: Path) -> None:
    require(hasattr(resource, "prlimit"), "setting another process's limits")
    targets = of_plan(worlds, fault("close"))
    phases = phase("warmup", [lane("tcp", 1)], settles=True), phase("hold", [lane("tls", EACH)])
    ran = run(tmp_path, targets.values(), *phases, began=leaving(1))
    assert [s.outcome for s in ran.of("tls")] == [Outcome.OK, Outcome.CLIENT_LIMIT]


def leaving(free: int) -> Callable[[str], None]:
    """As `hold` begins, the workers, which run by then, may open only so many descriptors more."""

    def began(name: str) -> None:
        for worker in workers() if name == "hold" else ():
            used = {int(fd.name) for fd in Path(f"/proc/{worker}/fd").iterdir()}
            most = sorted(set(range(len(used) + free + 1)) - used)[free]
            resource.prlimit(worker, resource.RLIMIT_NOFILE, (most, most))

    return began


def workers() -> list[int]:
    """The process ids of this process's workers."""
    children = psutil.Process(os.getpid()).children()
    return [child.pid for child in children if "streamgauge.worker" in child.cmdline()]


BY_PLAN = {
    Outcome.SHED: test_what_comes_due_above_the_cap_is_shed,
    Outcome.CANCELLED: test_what_is_open_when_the_plan_ends_is_cancelled,
    Outcome.CLIENT_LIMIT: test_descriptors_used_up_are_our_own_limit,
}
"""Outcomes with a test of their own, which tries both transports."""
NOT_ON_TCP = {Outcome.TLS_ERROR: "no TLS is spoken there"}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_outcome_has_a_cause(transport: str) -> None:
    tried = {case.outcome for case in CASES if case.only in (None, transport)} | set(BY_PLAN)
    missing = set(Outcome) - tried
    assert missing == (set(NOT_ON_TCP) if transport == "tcp" else set())


# A request may end in the very call that starts it: its place must be free again.


def test_requests_that_fail_at_once_take_no_place_for_good(tmp_path: Path) -> None:
    closed, opened = (target(name, "http://no-such-host.invalid") for name in ("closed", "opened"))
    ran = run(
        tmp_path,
        (closed, opened),
        phase("warmup", [lane("closed", 1)]),
        phase("hold", [lane("closed", 2, Hold(1)), lane("opened", 8, Rate(per_s=100, cap=2))]),
    )
    assert [s.outcome for s in ran.of("closed")] == [Outcome.DNS_ERROR] * 3
    assert [s.outcome for s in ran.of("opened")] == [Outcome.DNS_ERROR] * 8, "none was shed: none was open"
