"""Connections against real servers: TLS as it should be, the two families, and the ways in which one can end badly.

The client is `StreamClient`, which is the engine without a plan and without preflight.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest

from cli import environment
from engine import target
from servers import (
    ANSWER,
    CA,
    CERTS,
    EVENTS,
    HEAD,
    UNTIL_CLOSE,
    Server,
    Talk,
    answer,
    answer_once,
    black_hole,
    certificate,
    chunk,
    closed_port,
    read_request,
    serving,
    token,
)
from streamgauge.client import Answer, StreamClient
from streamgauge.clock import S
from streamgauge.sample import Outcome
from streamgauge.stream import Limits
from streamgauge.target import Tls

TRUSTED = Tls(ca=CA)
OURS = Tls(ca=CA, cert=str(CERTS / "client.pem"), key=str(CERTS / "client.key"))
PATIENT = Limits(connect_ns=10 * S, first_output_ns=20 * S, stall_ns=20 * S)
LARGE = "x" * 16_000_000
"""More than the buffers between two sockets hold."""

both = pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])


def client(url: str, tls: Tls = TRUSTED) -> StreamClient:
    return StreamClient(url, dialect="openai-chat", tls=tls, limits=PATIENT)


def ask(url: str, tls: Tls = TRUSTED, prompt: str = "hi") -> Answer:
    with client(url, tls) as one:
        return one.ask(prompt)


@pytest.fixture
def serve(request: pytest.FixtureRequest) -> Iterator[Callable[[Talk, bool], Server]]:
    """Starts a server, with TLS or without."""
    made: list[Server] = []

    def start(talk: Talk, secure: bool) -> Server:
        made.append(Server(talk, certificate() if secure else None))
        return made[-1]

    yield start
    for server in made:
        server.close()


# TLS as it should be.


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(("tls13", "name"), [(False, "TLSv1.2"), (True, "TLSv1.3")], ids=["1.2", "1.3"])
def test_tls_is_spoken_with_an_own_ca_and_a_connection_is_kept(tls13: bool, name: str, host: str) -> None:
    with serving(answer, certificate(tls13=tls13), host) as server, client(server.url) as one:
        first, second = one.ask("hi"), one.ask("hi")
    assert (first.outcome, second.outcome) == (Outcome.OK, Outcome.OK)
    assert first.tls is not None
    assert first.tls[0] == name
    assert first.sample.peer == host
    assert first.sample.connect_ns <= first.sample.tls_ns <= first.sample.sent_ns
    assert (second.sample.conn_requests, second.sample.tls_ns, server.accepted) == (1, None, 1)


@pytest.mark.parametrize(("trusted", "outcome"), [("ca.pem", "ok"), ("other_ca.pem", "tls_error")])
def test_where_no_ca_is_given_the_systems_trust_store_decides(trusted: str, outcome: str) -> None:
    """OpenSSL reads the system's store from where SSL_CERT_FILE says, in a process that starts with it."""
    code = (
        "import sys; from streamgauge import StreamClient\n"
        "with StreamClient(sys.argv[1], dialect='openai-chat') as client: print(client.ask('hi').outcome)"
    )
    with serving(answer, certificate()) as server:
        done = subprocess.run(
            [sys.executable, "-c", code, server.url],
            env=environment(SSL_CERT_FILE=str(CERTS / trusted)), capture_output=True, text=True, timeout=300,
            check=True,
        )  # fmt: skip
    assert done.stdout.strip() == outcome


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"], ids=["IPv4", "IPv6"])
def test_plain_http_works_over_both_families(host: str) -> None:
    with serving(answer, host=host) as server:
        told = ask(server.url)
    assert (told.outcome, told.sample.peer, told.text, told.tls) == (Outcome.OK, host, "Hello", None)


@pytest.mark.parametrize("tls13", [False, True], ids=["1.2", "1.3"])
def test_a_client_certificate_is_shown_where_it_is_wanted(tls13: bool) -> None:
    with serving(answer, certificate(client_ca=CA, tls13=tls13)) as server:
        assert ask(server.url, OURS).outcome == Outcome.OK


@pytest.mark.parametrize("tls13", [False, True], ids=["1.2", "1.3"])
def test_a_client_certificate_of_the_wrong_ca_is_a_tls_error_in_the_servers_words(tls13: bool) -> None:
    with serving(answer, certificate(client_ca=str(CERTS / "other_ca.pem"), tls13=tls13)) as server:
        told = ask(server.url, OURS)
    assert told.outcome == Outcome.TLS_ERROR
    assert "UNKNOWN_CA" in str(told.sample.error)


@pytest.mark.parametrize("name", ["expired", "wrong_name", "self_signed"])
def test_without_verification_any_certificate_does(name: str) -> None:
    with serving(answer, certificate(name)) as server:
        assert ask(server.url, Tls(verify=False)).outcome == Outcome.OK


def test_a_client_certificate_that_is_asked_for_only_after_the_request_is_shown() -> None:
    context = certificate(client_ca=CA, tls13=True)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.post_handshake_auth = True
    shown: list[object] = []

    def talk(conn: socket.socket) -> None:
        assert isinstance(conn, ssl.SSLSocket)
        read_request(conn)
        conn.verify_client_post_handshake()
        conn.sendall(HEAD)  # carries the question
        conn.settimeout(0.05)
        until = time.monotonic() + 10
        while not conn.getpeercert() and time.monotonic() < until:
            with contextlib.suppress(TimeoutError):
                conn.recv(1)  # takes the certificate in; there is no data
        shown.append(conn.getpeercert())
        conn.sendall(chunk(EVENTS) + b"0\r\n\r\n")

    with serving(talk, context) as server:
        assert ask(server.url, OURS).outcome == Outcome.OK
    assert shown[0]


@pytest.mark.parametrize("name", [".x", "a" * 64], ids=["leading dot", "long label"])
def test_a_server_name_that_cannot_be_is_a_tls_error(name: str) -> None:
    with serving(answer, certificate()) as server:
        told = ask(server.url, Tls(ca=CA, server_name=name)).sample
    assert told.outcome == Outcome.TLS_ERROR
    assert name in str(told.error)


def test_server_name_is_the_name_that_is_asked_for_and_checked() -> None:
    asked: list[str | None] = []
    context = certificate("wrong_name")
    context.sni_callback = lambda sock, name, context: asked.append(name)
    with serving(answer, context) as server:
        assert ask(server.url, Tls(ca=CA, server_name="other.example")).outcome == Outcome.OK
        assert ask(server.url).outcome == Outcome.TLS_ERROR
    assert asked == ["other.example", None], "an address is no server name"


# What preflight would have caught.


@both
def test_without_preflight_each_way_not_to_connect_has_its_outcome(secure: bool) -> None:
    scheme = "https" if secure else "http"
    assert ask(f"{scheme}://no-such-host.invalid").outcome == Outcome.DNS_ERROR
    assert ask(f"{scheme}://224.0.0.1").outcome == Outcome.UNREACHABLE
    with closed_port() as port:
        assert ask(f"{scheme}://127.0.0.1:{port}").outcome == Outcome.CONNECT_REFUSED
    short = Limits(connect_ns=S)
    with black_hole() as port, StreamClient(f"{scheme}://127.0.0.1:{port}", dialect="openai-chat", limits=short) as one:
        assert one.ask("hi").outcome == Outcome.CONNECT_TIMEOUT


@pytest.mark.parametrize("name", ["expired", "early", "wrong_name", "self_signed"])
def test_without_preflight_a_bad_certificate_is_a_tls_error_that_says_why(name: str) -> None:
    words = {"expired": "expired", "early": "not yet valid", "wrong_name": "mismatch", "self_signed": "self-signed"}
    with serving(answer, certificate(name)) as server:
        told = ask(server.url)
    assert told.outcome == Outcome.TLS_ERROR
    assert words[name] in str(told.sample.error)


# Several addresses.


@both
def test_a_service_on_one_of_a_names_addresses_is_there(secure: bool, serve: Callable[[Talk, bool], Server]) -> None:
    server = serve(answer_once, secure)
    there = ("127.0.0.1", server.port)
    for gone in (("::1", server.port), ("224.0.0.1", server.port)):
        found = msgspec.structs.replace(target("t", server.url, tls=TRUSTED), addresses=(gone, there))
        with StreamClient.for_target(found) as one:
            told = [one.ask("hi") for _ in range(4)]
        assert {t.outcome for t in told} == {Outcome.OK}
        assert {t.sample.peer for t in told} == {"127.0.0.1"}
    assert server.accepted == 8


def test_all_addresses_are_used_in_turn() -> None:
    with serving(answer_once) as four, socket.socket(socket.AF_INET6) as other:
        other.bind(("::1", four.port))
        other.listen()
        six = threading.Thread(target=_answer_two, args=(other,))
        six.start()
        both_of = msgspec.structs.replace(
            target("t", four.url), addresses=(("127.0.0.1", four.port), ("::1", four.port))
        )
        with StreamClient.for_target(both_of) as one:
            peers = [one.ask("hi").sample.peer for _ in range(4)]
        six.join(5)
    assert peers == ["127.0.0.1", "::1"] * 2


def _answer_two(listener: socket.socket) -> None:
    for _ in range(2):
        conn, _ = listener.accept()
        with conn:
            answer_once(conn)


# A connection that was kept and dies.


def dies_on_second(conn: socket.socket) -> None:
    """Answer one request; when the next one comes, close without a byte."""
    read_request(conn)
    conn.sendall(ANSWER)
    read_request(conn)


@both
def test_a_kept_connection_that_dies_without_a_byte_is_tried_once_more(
    secure: bool, serve: Callable[[Talk, bool], Server]
) -> None:
    server = serve(dies_on_second, secure)
    with client(server.url) as one:
        first, second = one.ask("hi").sample, one.ask("hi").sample
    assert (first.outcome, first.retried) == (Outcome.OK, 0)
    assert (second.outcome, second.retried, second.conn_requests) == (Outcome.OK, 1, 0)
    assert (second.conn, server.accepted) == (1, 2)


@both
def test_it_is_tried_only_once(secure: bool, serve: Callable[[Talk, bool], Server]) -> None:
    server = serve(dies_on_second, secure)
    with client(server.url) as one:
        one.ask("hi")
        server.talk = read_request  # new connections are closed without a byte, too
        told = one.ask("hi").sample
    assert (told.outcome, told.retried, server.accepted) == (Outcome.DROPPED, 1, 2)


@both
def test_where_the_second_try_finds_nobody_that_is_the_outcome(
    secure: bool, serve: Callable[[Talk, bool], Server]
) -> None:
    server = serve(lambda conn: None, secure)

    def last(conn: socket.socket) -> None:
        read_request(conn)
        conn.sendall(ANSWER)
        server.stop_listening()
        read_request(conn)

    server.talk = last
    with client(server.url) as one:
        one.ask("hi")
        told = one.ask("hi").sample
    assert (told.outcome, told.retried) == (Outcome.CONNECT_REFUSED, 1)


@both
def test_a_death_after_the_first_byte_is_not_tried_again(secure: bool, serve: Callable[[Talk, bool], Server]) -> None:
    def talk(conn: socket.socket) -> None:
        read_request(conn)
        conn.sendall(ANSWER)
        read_request(conn)
        conn.sendall(b"H")

    server = serve(talk, secure)
    with client(server.url) as one:
        one.ask("hi")
        told = one.ask("hi").sample
    assert (told.outcome, told.retried, server.accepted) == (Outcome.DROPPED, 0, 1)


# Ends that are easily mistaken.


def refuses_early(ending: bytes) -> Talk:
    """Answer 413 after the first bytes of a request."""

    def talk(conn: socket.socket) -> None:
        conn.recv(1000)
        conn.sendall(b"HTTP/1.1 413 Content Too Large\r\n" + ending + b"content-length: 7\r\n\r\ntoo big")
        if not ending:
            threading.Event().wait(0.5)  # and the connection stays, with most of the request unread

    return talk


@both
def test_an_answer_before_the_request_is_out_is_that_answer_though_the_server_resets(
    secure: bool, serve: Callable[[Talk, bool], Server]
) -> None:
    told = ask(serve(refuses_early(b"connection: close\r\n"), secure).url, prompt=LARGE).sample
    assert (told.outcome, told.http_status, told.error) == (Outcome.HTTP_ERROR, 413, "too big")
    assert told.sent_ns is None


@both
def test_a_connection_with_a_request_half_out_carries_no_other(
    secure: bool, serve: Callable[[Talk, bool], Server]
) -> None:
    server = serve(refuses_early(b""), secure)
    with client(server.url) as one:
        first = one.ask(LARGE).sample
        server.talk = answer
        second = one.ask("hi").sample
    assert (first.outcome, first.http_status) == (Outcome.HTTP_ERROR, 413)
    assert (second.outcome, second.conn_requests, server.accepted) == (Outcome.OK, 0, 2)


def closes_tls_alone(data: bytes) -> Talk:
    """Send `data` and TLS's close_notify, and wait for the client's own: the socket stays open."""

    def talk(conn: socket.socket) -> None:
        assert isinstance(conn, ssl.SSLSocket)
        read_request(conn)
        conn.sendall(data)
        conn.unwrap()

    return talk


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (UNTIL_CLOSE + EVENTS, Outcome.OK),
        (UNTIL_CLOSE + token("Hel"), Outcome.TRUNCATED),
        (HEAD + chunk(token("Hel")), Outcome.DROPPED),
        (b"", Outcome.DROPPED),
    ],
    ids=["whole", "no terminal event", "amid the message", "no answer"],
)
def test_the_end_of_tls_is_the_end_of_the_connection(data: bytes, outcome: Outcome) -> None:
    with serving(closes_tls_alone(data), certificate()) as server:
        told = ask(server.url).sample
    assert (told.outcome, told.kept_open) == (outcome, False)


@pytest.mark.parametrize(
    ("data", "outcome"), [(ANSWER, Outcome.OK), (HEAD + chunk(token("Hel")), Outcome.DROPPED)], ids=["whole", "amid"]
)
def test_what_came_before_bytes_that_are_no_tls_counts(data: bytes, outcome: Outcome) -> None:
    def talk(conn: socket.socket) -> None:
        read_request(conn)
        conn.sendall(data)
        os.write(conn.fileno(), b"\x17\x03\x03\x00\x05hello")  # past TLS: a record nobody enciphered
        threading.Event().wait(0.2)

    with serving(talk, certificate()) as server, client(server.url) as one:
        first = one.ask("hi").sample
        server.talk = answer
        second = one.ask("hi").sample
    assert first.outcome == outcome
    assert first.text_events == (2 if outcome == Outcome.OK else 1)
    assert (second.outcome, second.conn_requests, server.accepted) == (Outcome.OK, 0, 2)


@both
def test_a_stream_that_is_kept_open_ended_with_its_terminal_event(
    secure: bool, serve: Callable[[Talk, bool], Server]
) -> None:
    def talk(conn: socket.socket) -> None:
        read_request(conn)
        conn.sendall(HEAD + chunk(EVENTS))
        read_request(conn)  # until the client leaves

    told = ask(serve(talk, secure).url).sample
    assert (told.outcome, told.kept_open) == (Outcome.OK, True)
    assert told.end_ns == told.last_output_ns
