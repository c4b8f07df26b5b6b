"""How connections are made: the race of addresses (RFC 8305), Unix sockets, TLS sessions taken up again.

Servers are plain sockets, Python's ssl and OpenSSL's own `s_server`.
"""

from __future__ import annotations

import contextlib
import gc
import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest

from cli import environment
from engine import lane, phase, run, target
from in_namespace import NOT_ALLOWED
from proxy_server import proxy
from real import require
from servers import (
    ANSWER,
    CA,
    CERTS,
    EVENTS,
    HEAD,
    UNTIL_CLOSE,
    Talk,
    answer,
    answer_once,
    black_hole,
    certificate,
    chunk,
    closed_port,
    read_request,
    reset,
    serving,
)
from streamgauge.check.look import look
from streamgauge.client import Answer, StreamClient, target_from_url
from streamgauge.clock import S, SystemClock
from streamgauge.dial import ATTEMPT_DELAY_NS
from streamgauge.facts import Taking
from streamgauge.plan import Hold
from streamgauge.sample import Outcome
from streamgauge.spec.address import parse_url, reach
from streamgauge.stream import Limits
from streamgauge.suite.wire import wire_of
from streamgauge.target import Target, Tls
from turning import Setting

PATIENT = Limits(connect_ns=5 * S, first_output_ns=20 * S, stall_ns=20 * S)


def asked(at: Target, times: int = 1) -> list[Answer]:
    with StreamClient.for_target(at) as one:
        return [one.ask("hi") for _ in range(times)]


# The race of addresses.


def at(url: str, *addresses: tuple[str, int], connect_s: int = 5) -> Target:
    made = target("t", url, tls=Tls(ca=CA), limits=Limits(connect_ns=connect_s * S, first_output_ns=20 * S))
    return msgspec.structs.replace(made, addresses=addresses) if addresses else made


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_an_address_that_swallows_packets_costs_a_quarter_of_a_second_and_not_the_connect_time(*, secure: bool) -> None:
    with serving(answer_once, certificate() if secure else None) as server, black_hole() as hole:
        told = asked(at(server.url, ("127.0.0.1", hole), ("127.0.0.1", server.port)), times=2)
    first, second = (one.sample for one in told)
    assert (first.outcome, second.outcome) == (Outcome.OK, Outcome.OK)
    assert first.start_ns is not None
    assert first.connect_ns is not None
    assert ATTEMPT_DELAY_NS <= first.connect_ns - first.start_ns < 4 * S, "the hole was called first"
    assert (first.conn, second.conn) == (1, 2), "the good address has its turn, and is called first"


def test_each_silent_address_adds_a_quarter_of_a_second() -> None:
    with serving(answer_once) as server, black_hole() as one, black_hole() as other:
        told = asked(at(server.url, ("127.0.0.1", one), ("127.0.0.1", other), ("127.0.0.1", server.port)))
    assert told[0].outcome == Outcome.OK
    assert told[0].sample.start_ns is not None
    assert told[0].sample.connect_ns is not None
    assert told[0].sample.connect_ns - told[0].sample.start_ns >= 2 * ATTEMPT_DELAY_NS


def test_where_every_address_is_silent_the_connect_time_is_the_end() -> None:
    with black_hole() as one, black_hole() as other:
        sample = asked(at("http://127.0.0.1:1", ("127.0.0.1", one), ("127.0.0.1", other), connect_s=1))[0].sample
    assert (sample.outcome, sample.error) == (Outcome.CONNECT_TIMEOUT, "no connection after 1 s")


def test_where_one_is_silent_and_one_refuses_the_silent_one_is_waited_for() -> None:
    with black_hole() as hole, closed_port() as closed:
        sample = asked(at("http://127.0.0.1:1", ("127.0.0.1", closed), ("127.0.0.1", hole), connect_s=1))[0].sample
    assert sample.outcome == Outcome.CONNECT_TIMEOUT


def test_where_all_refuse_it_is_refused_at_once() -> None:
    with closed_port() as one, closed_port() as other:
        began = time.monotonic()
        sample = asked(at("http://127.0.0.1:1", ("127.0.0.1", one), ("::1", other), connect_s=5))[0].sample
    assert sample.outcome == Outcome.CONNECT_REFUSED
    assert time.monotonic() - began < 4


def test_a_request_that_the_plan_ends_while_it_connects_leaves_nothing_open() -> None:
    with contextlib.closing(Setting()) as on, black_hole() as hole:
        on.target = msgspec.structs.replace(on.target, addresses=(("127.0.0.1", hole), ("127.0.0.1", hole)))
        stream = on.fire()
        on.turn(300)
        assert (on.loop.sockets, list(on.loop.streams())) == (1, [stream])
        on.loop.cancel("the plan is done")
        assert (stream.outcome, on.loop.open_streams, on.loop.sockets) == (Outcome.CANCELLED, 0, 0)
        assert on.ended == [stream]


# Names, again and again.


def test_a_name_that_moves_during_a_run_is_asked_at_its_new_address(tmp_path: Path) -> None:
    """`localhost` is 127.0.0.1; the run begins with another address, where nobody listens."""
    with serving(answer) as server:
        moved = msgspec.structs.replace(
            target("app", f"http://localhost:{server.port}"), addresses=(("127.0.0.3", server.port),)
        )
        plan = phase("hold", [lane("app", 3, Hold(1))], settles=True)
        ran = run(tmp_path, [moved], plan, resolve_every_s=0.3)
    last = ran.of("app")[-1]
    assert (last.outcome, last.peer) == (Outcome.OK, "127.0.0.1")


def test_a_name_that_stops_resolving_during_a_run_changes_nothing(tmp_path: Path) -> None:
    with serving(answer_once) as server:
        gone = msgspec.structs.replace(
            target("app", f"http://gone.invalid:{server.port}"), addresses=(("127.0.0.1", server.port),)
        )
        plan = phase("hold", [lane("app", 40, Hold(1))], settles=True)
        ran = run(tmp_path, [gone], plan, resolve_every_s=0.001)
    assert [s.outcome.value for s in ran.of("app")] == ["ok"] * 40


@pytest.mark.real
def test_in_a_network_that_loses_packets_the_other_family_answers() -> None:
    """In a network namespace: an IPv6 address whose packets go nowhere and IPv4 that works, and the other way round."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "families_in_namespace.py")], capture_output=True, text=True,
        timeout=300, check=False, env=environment(PYTHONPATH=str(Path(__file__).parent)),
    )  # fmt: skip
    require(done.returncode != NOT_ALLOWED, f"a network of one's own ({done.stderr.strip()})")
    assert done.returncode == 0, done.stderr
    for told in json.loads(done.stdout).values():
        for outcome, peer, connect_ms in told["both"]:
            assert (outcome, peer) == ("ok", told["good"])
            assert connect_ms < 4_000
        assert max(ms for _, _, ms in told["both"]) >= 250, "a silent address is called in its turn"
        assert min(ms for _, _, ms in told["both"]) < 240, "and the good one in its own"
        assert {outcome for outcome, _, _ in told["alone"]} == {"connect_timeout"}


# The garbage collector rests under load.


@pytest.mark.parametrize("talk", [answer_once, reset, answer], ids=["one each", "reset", "kept"])
@pytest.mark.parametrize("shown", [None, "server", "expired"], ids=["tcp", "tls", "bad certificate"])
def test_a_connection_that_was_made_or_not_leaves_nothing_to_the_garbage_collector(
    talk: Talk, shown: str | None
) -> None:
    with serving(talk, certificate(shown) if shown else None) as server:
        assert _left_by(at(server.url)) == []


def test_neither_does_one_that_a_proxy_refused_or_nobody_took() -> None:
    with proxy() as through:
        through.refusal = lambda conn: conn.sendall(b"HTTP/1.1 503 x\r\n\r\n")
        assert _left_by(target("t", "https://127.0.0.1:1", proxy=through.url)) == []
        through.refusal = reset
        assert _left_by(target("t", "https://127.0.0.1:1", proxy=through.url)) == []
    assert _left_by(target("t", "http://224.0.0.1:80")) == []
    with closed_port() as one, closed_port() as other:
        assert _left_by(at("http://127.0.0.1:1", ("127.0.0.1", one), ("127.0.0.1", other))) == []
    with black_hole() as hole:
        short = Limits(connect_ns=S // 20)
        assert _left_by(target("t", f"http://127.0.0.1:{hole}", limits=short)) == []


def _left_by(asked_of: Target) -> list[str]:
    """Our objects in reference cycles after a few requests."""
    with StreamClient.for_target(asked_of) as one:
        one.ask("hi")
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                one.ask("hi")
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            return [type(left).__name__ for left in gc.garbage if type(left).__module__.startswith("streamgauge")]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()


# Unix sockets.


@contextlib.contextmanager
def unix_server(path: Path, talk: Talk, backlog: int = 16) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(backlog)

        def serve(conn: socket.socket) -> None:
            with conn, contextlib.suppress(OSError):
                talk(conn)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def of(path: Path) -> str:
    return f"http+unix://{quote(str(path), safe='')}/v1/chat/completions"


def test_a_unix_socket_is_asked_as_localhost_and_its_stamps_are_the_user_clocks(tmp_path: Path) -> None:
    heads: list[bytes] = []

    def talk(conn: socket.socket) -> None:
        while head := read_request(conn):
            heads.append(head)
            conn.sendall(ANSWER)

    with (
        unix_server(tmp_path / "app.sock", talk),
        StreamClient(of(tmp_path / "app.sock"), dialect="openai-chat") as one,
    ):
        first, second = one.ask("hi"), one.ask("hi")
    assert (first.text, second.text) == ("Hello", "Hello")
    assert heads[0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n")
    sample = second.sample
    assert (sample.conn_requests, sample.peer, sample.local_port) == (1, str(tmp_path / "app.sock"), None)
    assert not sample.kernel_stamps, "the kernel stamps no bytes of a Unix socket"


def test_a_unix_socket_whose_backlog_is_full_is_called_again_until_there_is_room(tmp_path: Path) -> None:
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as crowd:
        listener.bind(path)
        listener.listen(0)
        crowd.connect(path)

        def later() -> None:
            time.sleep(0.1)
            listener.accept()[0].close()
            conn, _ = listener.accept()
            with conn:
                answer_once(conn)

        room = threading.Thread(target=later)
        room.start()
        with StreamClient(of(Path(path)), dialect="openai-chat", limits=PATIENT) as one:
            sample = one.ask("hi").sample
        room.join(5)
    assert sample.outcome == Outcome.OK


@pytest.mark.parametrize("there", [False, True], ids=["no file", "no listener"])
def test_a_unix_socket_where_nobody_listens_is_told_by_its_path(tmp_path: Path, *, there: bool) -> None:
    path = tmp_path / "app.sock"
    if there:
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(str(path))
    made = target_from_url(of(path), dialect="openai-chat")
    sample = asked(made)[0].sample
    assert sample.outcome == (Outcome.CONNECT_REFUSED if there else Outcome.UNREACHABLE)
    assert str(path) in str(sample.error)
    *_, last = look(made, SystemClock()).findings
    assert (last.what, last.level) == ("connect", "fail")
    assert "the path of its socket" in (last.next or "")


def test_a_run_over_a_unix_socket_says_whose_stamps_it_has(tmp_path: Path) -> None:
    with unix_server(tmp_path / "a.sock", answer):
        ran = run(tmp_path, [target("app", of(tmp_path / "a.sock"))], phase("hold", [lane("app", 5)], settles=True))
        command = [
            sys.executable,
            "-m",
            "streamgauge",
            "check",
            "--url",
            of(tmp_path / "a.sock"),
            "--model",
            "m",
            "--json",
        ]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(HTTP_PROXY="http://x.invalid:1"), capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
    assert [(s.outcome, s.kernel_stamps) for s in ran.samples] == [(Outcome.OK, False)] * 5
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    found = {one["what"]: one for one in (*told["targets"]["target"]["findings"], *told["machine"])}
    assert found["resolve"]["text"].endswith("is a Unix socket: nothing to resolve")
    assert (found["clock"]["level"], found["clock"]["facts"]["kernel_stamps"]) == ("warn", False)


@pytest.mark.parametrize(
    "url",
    [
        "http+unix://run/app.sock/v1",
        "http+unix:///run/app.sock",
        "https+unix://%2Fa/v1",
        f"http+unix://%2F{'a' * 107}/",
    ],
)
def test_another_form_of_a_unix_socket_is_refused_with_the_right_one(url: str) -> None:
    with pytest.raises(ValueError, match=r"http\+unix") as caught:
        parse_url(url)
    assert "\n" not in str(caught.value)


def test_a_unix_socket_in_the_place_of_an_environment_has_targets_below_it() -> None:
    base = parse_url("http+unix://%2Frun%2FApp.sock/base")
    assert (base.scheme, base.host, base.socket, base.path) == ("http", "localhost", "/run/App.sock", "/base")
    assert (base.origin, reach(base.host)) == ("http+unix://%2Frun%2FApp.sock", "loopback")


# TLS sessions.


@pytest.mark.parametrize("tls13", [False, True], ids=["1.2", "1.3"])
@pytest.mark.parametrize("resume", [True, False], ids=["on", "off"])
def test_a_new_connection_takes_up_the_session_of_an_earlier_one(*, tls13: bool, resume: bool) -> None:
    context = certificate(tls13=tls13)
    reused: list[bool | None] = []

    def talk(conn: socket.socket) -> None:
        assert isinstance(conn, ssl.SSLSocket)
        reused.append(conn.session_reused)
        read_request(conn)
        conn.sendall(UNTIL_CLOSE + EVENTS)

    with serving(talk, context) as server:
        made = target("t", server.url, tls=Tls(ca=CA, resume=resume), limits=PATIENT)
        told = [one.sample for one in asked(made, 4)]
    assert {one.outcome for one in told} == {Outcome.OK}
    assert [one.tls_resumed for one in told] == [False, resume, resume, resume]
    assert reused == [one.tls_resumed for one in told], "the server says the same"


def test_a_session_is_that_of_its_address_alone() -> None:
    def talk(conn: socket.socket) -> None:
        read_request(conn)
        conn.sendall(UNTIL_CLOSE + EVENTS)

    with serving(talk, certificate()) as one, serving(talk, certificate()) as other:
        made = msgspec.structs.replace(
            target("t", one.url, tls=Tls(ca=CA), limits=PATIENT),
            addresses=(("127.0.0.1", one.port), ("127.0.0.1", other.port)),
        )
        told = [sample.sample for sample in asked(made, 4)]
    assert [(s.outcome, s.tls_resumed) for s in told] == [
        (Outcome.OK, False), (Outcome.OK, False), (Outcome.OK, True), (Outcome.OK, True),
    ]  # fmt: skip


def test_a_session_that_the_server_forgot_is_a_full_handshake_and_no_failure() -> None:
    with serving(answer_once, certificate()) as server, StreamClient.for_target(at(server.url)) as one:
        first = one.ask("hi").sample
        server.tls = certificate()  # another ticket key
        second = one.ask("hi").sample
    assert [(s.outcome, s.tls_resumed) for s in (first, second)] == [(Outcome.OK, False)] * 2


class OpenSsl:
    """OpenSSL's own test server. It tells each session on its output; what is typed goes to the client."""

    ANSWER = HEAD.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n") + chunk(EVENTS) + b"0\r\n\r\n"

    def __init__(self, *more: str) -> None:
        require(shutil.which("openssl"), "the openssl command")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen(
            ["openssl", "s_server", "-cert", str(CERTS / "server.pem"), "-key", str(CERTS / "server.key"),
             "-accept", f"127.0.0.1:{self.port}", *more],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.told = b""
        line = b""
        while line != b"ACCEPT\n":
            line = self.process.stdout.readline()
            assert line, "it ended"
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        """Answer every request; what it says of sessions is kept."""
        assert self.process.stdout is not None
        assert self.process.stdin is not None
        while data := self.process.stdout.read1(65_536):  # type: ignore[attr-defined] # a buffered reader
            self.told += data
            if b"POST " in data:
                with contextlib.suppress(OSError):
                    self.process.stdin.write(self.ANSWER)
                    self.process.stdin.flush()

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.reader.join(10)
        self.process.communicate()


@pytest.mark.parametrize("version", ["1_2", "1_3"])
def test_openssl_itself_says_that_the_second_session_is_the_first_taken_up(version: str) -> None:
    with contextlib.closing(OpenSsl(f"-tls{version}")) as server:
        url = f"https://localhost:{server.port}/"
        with StreamClient(url, dialect="openai-chat", tls=Tls(ca=CA), limits=PATIENT) as one:
            told = [one.ask("hi").sample for _ in range(3)]
    assert [(s.outcome, s.tls_resumed) for s in told] == [
        (Outcome.OK, False), (Outcome.OK, True), (Outcome.OK, True),
    ]  # fmt: skip
    assert server.told.count(b"Reused session-id") == 2
    assert server.told.count(b"CIPHER is") == 3


def test_a_run_tells_how_many_handshakes_were_resumed(tmp_path: Path) -> None:
    with serving(answer_once, certificate()) as server:
        one = target("app", server.url, tls=Tls(ca=CA), limits=PATIENT)
        ran = run(tmp_path, [one], phase("hold", [lane("app", 6, Hold(1))], settles=True))
    taking = Taking()
    taking.add(ran.samples)
    assert wire_of(taking.facts()).notes() == [
        "TLS: 5 of 6 handshakes took up an earlier session (tls.resume = false makes each a full one)"
    ]
