"""How connections are made: the race of addresses (RFC 8305), Unix sockets, TLS sessions taken up again.

Servers are plain sockets, Python's ssl and OpenSSL's own `s_server`.
"""

from __future__ import annotations

import contextlib
import re
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
from real import require
from servers import (
    ANSWER,
    CA,
    CERTS,
    EVENTS,
    UNTIL_CLOSE,
    Talk,
    answer,
    answer_once,
    black_hole,
    certificate,
    closed_port,
    read_request,
    serving,
)
from streamgauge.check.look import look
from streamgauge.client import Answer, StreamClient, target_from_url
from streamgauge.clock import S, SystemClock
from streamgauge.dial import ATTEMPT_DELAY_NS
from streamgauge.sample import Outcome
from streamgauge.stream import Limits
from streamgauge.target import Target, Tls
from turning import Setting

PATIENT = Limits(connect_ns=5 * S, first_output_ns=20 * S, stall_ns=20 * S)


def asked(at: Target, times: int = 1) -> list[Answer]:
    with StreamClient.for_target(at) as one:
        return [one.ask("hi") for _ in range(times)]


# The race of addresses.


def at(url: str, *addresses: tuple[str, int], connect_s: int = 5) -> Target:
    made = target("t", url, tls=Tls(ca=CA), limits=Limits(connect_ns=connect_s * S, first_output_ns=20 * S))
    return msgspec.structs.replace(made, addresses=addresses)


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


def test_the_slower_answer_of_two_addresses_is_hung_up_on() -> None:
    with Setting().listener as late, serving(answer_once) as server, black_hole() as hole:
        del late
        told = asked(at(server.url, ("127.0.0.1", hole), ("127.0.0.1", hole), ("127.0.0.1", server.port)))
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
        command = [sys.executable, "-m", "streamgauge", "check", "--url", of(tmp_path / "a.sock"), "--model", "m"]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(HTTP_PROXY="http://x.invalid:1"), capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
    assert [(s.outcome, s.kernel_stamps) for s in ran.samples] == [(Outcome.OK, False)] * 5
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is a Unix socket: nothing to resolve" in done.stdout
    assert re.search(r"warn\s+clock", done.stdout), "no kernel stamps"


@pytest.mark.parametrize("url", ["http+unix://run/app.sock/v1", "http+unix:///run/app.sock", "https+unix://%2Fa/v1"])
def test_another_form_of_a_unix_socket_is_refused_with_the_right_one(url: str) -> None:
    command = [sys.executable, "-m", "streamgauge", "check", "--url", url, "--dialect", "openai-chat"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "http+unix" in done.stderr
    assert "Traceback" not in done.stderr


# TLS sessions.

HELLO = ["openssl", "s_server", "-quiet", "-cert", str(CERTS / "server.pem"), "-key", str(CERTS / "server.key")]


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
    with serving(answer_once, certificate()) as server:
        with StreamClient(server.url, dialect="openai-chat", tls=Tls(ca=CA), limits=PATIENT) as one:
            first = one.ask("hi").sample
            server.tls = certificate()  # another ticket key
            second = one.ask("hi").sample
    assert [(s.outcome, s.tls_resumed) for s in (first, second)] == [(Outcome.OK, False)] * 2


@contextlib.contextmanager
def openssl(*more: str) -> Iterator[int]:
    """OpenSSL's own test server, which answers each request with a page of its own."""
    require(shutil.which("openssl"), "the openssl command")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [*HELLO, "-accept", f"127.0.0.1:{port}", "-www", *more], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("version", ["1_2", "1_3"])
def test_openssl_itself_says_that_the_second_session_is_the_first_taken_up(version: str) -> None:
    """Its page tells `New` or `Reused`; being a page, it is no stream."""
    with openssl(f"-tls{version}") as port:
        url = f"https://localhost:{port}/"
        with StreamClient(url, dialect="openai-chat", tls=Tls(ca=CA), limits=PATIENT, proxy="none") as one:
            told = [one.ask("hi") for _ in range(3)]
    pages = [re.search(r"(New|Reused), TLSv1\.(\d)", one.body.decode("latin-1")) for one in told]
    assert [page and page[1] for page in pages] == ["New", "Reused", "Reused"]
    assert [page and page[2] for page in pages] == [version[2:]] * 3
    assert [one.sample.tls_resumed for one in told] == [False, True, True]
    assert {one.outcome for one in told} == {Outcome.PROTOCOL_ERROR}


def test_a_run_tells_how_many_handshakes_were_resumed(tmp_path: Path) -> None:
    with serving(answer_once, certificate()) as server:
        command = [
            sys.executable, "-m", "streamgauge", "run", "ttft", "--url", f"{server.url}/v1/chat/completions", "--model",
            "m", "--requests", "6", "--concurrency", "1", "--json", "--set", f"targets.target.tls.ca={CA}",
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120, check=False
        )
    found = re.search(r"TLS: (\d+) of (\d+) handshakes took up an earlier session", done.stdout)
    assert found is not None, done.stderr
    assert 0 < int(found[1]) < int(found[2])
