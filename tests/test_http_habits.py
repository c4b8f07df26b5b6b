"""What servers do with HTTP/1.1: keep-alive limits, half-closed sockets, interim answers, chunks, encodings.

Each is shown by a plain socket that says exactly that.
"""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import time
import zlib
from collections.abc import Callable

import pytest

from servers import ANSWER, CA, EVENTS, HEAD, Talk, certificate, chunk, read_request, serving, token
from streamgauge.client import Answer, StreamClient
from streamgauge.clock import S
from streamgauge.sample import Outcome
from streamgauge.stream import Limits
from streamgauge.target import Tls

both = pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
LIMITS = Limits(connect_ns=5 * S, first_output_ns=5 * S, stall_ns=5 * S)


def asked(
    talk: Talk, times: int = 1, *, secure: bool = False, between: Callable[[], object] = lambda: None
) -> tuple[list[Answer], int]:
    """The answers to requests one after another, and how many connections they took."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(talk, certificate() if secure else None))
        one = stack.enter_context(
            StreamClient(f"{server.url}/v1", dialect="openai-chat", tls=Tls(ca=CA), limits=LIMITS)
        )
        told = []
        for n in range(times):
            if n:
                between()
            told.append(one.ask("hi"))
        return told, server.accepted


def says(data: bytes) -> Talk:
    """The same to every request of a connection."""

    def talk(conn: socket.socket) -> None:
        while read_request(conn):
            conn.sendall(data)

    return talk


def headed(headers: str, rest: bytes = chunk(EVENTS) + b"0\r\n\r\n") -> bytes:
    """An answer with further headers."""
    return HEAD.replace(b"\r\n\r\n", b"\r\n" + headers.encode() + b"\r\n\r\n") + rest


def outcomes(told: list[Answer]) -> list[str]:
    return [one.outcome.value for one in told]


# Keep-alive.


@pytest.mark.parametrize(
    ("headers", "connections"),
    [
        ("Keep-Alive: timeout=5", 1),
        ("Keep-Alive: timeout=5, max=100", 1),
        ("Keep-Alive: max=0", 2),
        ("Keep-Alive: timeout=0", 2),
        ("keep-alive: TIMEOUT = 60 , nonsense, max=x, =, timeout", 1),
        (f"Keep-Alive: timeout={'9' * 400}", 1),
        ("Connection: close", 2),
        ("Connection: Keep-Alive, Close", 2),
    ],
)
@both
def test_a_connection_is_used_again_as_long_as_the_server_says(headers: str, connections: int, *, secure: bool) -> None:
    told, accepted = asked(says(headed(headers)), 2, secure=secure)
    assert (outcomes(told), accepted) == (["ok", "ok"], connections)
    assert told[1].sample.retried == 0


def test_a_connection_that_idled_near_the_servers_limit_is_not_used_again() -> None:
    """The server keeps it a little longer, so only the limit that it told can be the reason."""
    told, accepted = asked(says(headed("Keep-Alive: timeout=1")), 3, between=lambda: time.sleep(0.6))
    assert (outcomes(told), accepted) == (["ok"] * 3, 3)
    assert [one.sample.retried for one in told] == [0, 0, 0]


def test_http_1_0_closes_unless_it_says_otherwise() -> None:
    body = b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n" % len(EVENTS)
    assert asked(says(body + b"\r\n" + EVENTS), 2)[1] == 2
    assert asked(says(body + b"connection: keep-alive\r\n\r\n" + EVENTS), 2)[1] == 1


# Closing by halves.


@both
def test_a_server_that_ends_its_half_after_the_answer_is_no_failure(*, secure: bool) -> None:
    ended = threading.Semaphore(0)

    def talk(conn: socket.socket) -> None:
        read_request(conn)
        conn.sendall(ANSWER)
        socket.socket.shutdown(conn, socket.SHUT_WR)
        ended.release()
        with contextlib.suppress(OSError):
            conn.recv(1)  # and waits for ours

    told, accepted = asked(talk, 2, secure=secure, between=lambda: ended.acquire(timeout=20))
    assert (outcomes(told), accepted) == (["ok", "ok"], 2)
    assert told[1].sample.retried == 0, "it was seen to be closed before it was used"


def test_a_server_that_ends_its_half_amid_the_answer_has_dropped_it() -> None:
    def talk(conn: socket.socket) -> None:
        read_request(conn)
        conn.sendall(HEAD + chunk(token("Hel")))
        conn.shutdown(socket.SHUT_WR)
        conn.recv(1)

    told, _ = asked(talk)
    assert (told[0].outcome, told[0].sample.text_events) == (Outcome.DROPPED, 1)


def test_a_server_that_stops_reading_amid_the_request_may_still_answer() -> None:
    def talk(conn: socket.socket) -> None:
        conn.recv(100)
        conn.shutdown(socket.SHUT_RD)
        conn.sendall(ANSWER)
        conn.shutdown(socket.SHUT_WR)

    with serving(talk) as server, StreamClient(server.url, dialect="openai-chat", limits=LIMITS) as one:
        told = one.ask("x" * 100_000)
    assert told.outcome == Outcome.OK


# Interim answers.


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" * 3,
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\ncontent-type: text/html\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nx-request-id: interim\r\n\r\nHTTP/1.1 103 Early Hints\r\nKeep-Alive: max=0\r\n\r\n",
    ],
    ids=["100", "102", "103", "both"],
)
@pytest.mark.parametrize("apart", [False, True], ids=["in one read", "byte by byte"])
def test_interim_answers_are_passed_over_and_lend_no_header(interim: bytes, *, apart: bool) -> None:
    def talk(conn: socket.socket) -> None:
        while read_request(conn):
            for piece in (interim[i : i + 1] for i in range(len(interim))) if apart else (interim,):
                conn.sendall(piece)
            conn.sendall(ANSWER)

    told, accepted = asked(talk, 2)
    assert (outcomes(told), accepted, told[0].sample.http_status) == (["ok", "ok"], 1, 200)
    assert "link" not in told[0].headers
    assert "x-request-id" not in told[0].headers


def test_a_switch_of_protocols_that_nobody_asked_for_is_a_protocol_error() -> None:
    told, _ = asked(says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"))
    assert told[0].outcome == Outcome.PROTOCOL_ERROR
    assert "101" in str(told[0].sample.error)


def test_an_interim_answer_alone_is_no_answer() -> None:
    def talk(conn: socket.socket) -> None:
        read_request(conn)
        conn.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")

    told, _ = asked(talk)
    assert (told[0].outcome, told[0].sample.http_status) == (Outcome.DROPPED, None)


# Chunks.


@pytest.mark.parametrize(
    "body",
    [
        b"%x;ext=1\r\n%b\r\n0\r\n\r\n" % (len(EVENTS), EVENTS),
        b'%X ;a="b;c";d\r\n%b\r\n0;last=yes\r\n\r\n' % (len(EVENTS), EVENTS),
        b"%x   \r\n%b\r\n0 \r\n\r\n" % (len(EVENTS), EVENTS),
        b"000%x\r\n%b\r\n0000\r\n\r\n" % (len(EVENTS), EVENTS),
        chunk(EVENTS) + b"0\r\nServer-Timing: total;dur=5\r\nX-Checksum: abc\r\n\r\n",
        b"".join(chunk(EVENTS[i : i + 1]) for i in range(len(EVENTS))) + b"0\r\n\r\n",
    ],
    ids=["extension", "quoted extension", "padded", "zeros", "trailers", "a byte a chunk"],
)
@both
def test_chunk_extensions_and_trailers_change_nothing(body: bytes, *, secure: bool) -> None:
    told, accepted = asked(says(HEAD + body), 2, secure=secure)
    assert (outcomes(told), [one.text for one in told], accepted) == (["ok", "ok"], ["Hello", "Hello"], 1)
    assert "x-checksum" not in told[0].headers
    assert not told[0].sample.kept_open


def test_trailers_that_belong_into_a_head_do_not_spoil_the_answer() -> None:
    """RFC 9110 6.5.1 forbids them; the connection is not trusted with another request."""
    trailers = b"0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
    told, accepted = asked(says(HEAD + chunk(EVENTS) + trailers), 2)
    assert (outcomes(told), accepted) == (["ok", "ok"], 2)


@pytest.mark.parametrize("body", [b"zz\r\nhello\r\n", b"-5\r\nhello\r\n", b"5\r\nhelloXX0\r\n\r\n"])
def test_chunks_that_are_none_are_a_protocol_error(body: bytes) -> None:
    told, _ = asked(says(HEAD + body))
    assert told[0].outcome == Outcome.PROTOCOL_ERROR


# Encodings that nobody asked for.


def packed(encoding: str) -> bytes:
    pack = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}[encoding]
    return headed(f"Content-Encoding: {encoding}", chunk(pack(EVENTS)) + b"0\r\n\r\n")


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "identity"])
def test_an_encoding_that_nobody_asked_for_is_undone_where_it_can_be(encoding: str) -> None:
    told, _ = asked(says(packed(encoding)))
    assert (told[0].outcome, told[0].text, told[0].sample.headers["content-encoding"]) == (
        Outcome.OK,
        "Hello",
        encoding,
    )


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "compress"])
def test_one_that_cannot_be_undone_is_named_with_the_next_step(encoding: str) -> None:
    told, _ = asked(says(headed(f"Content-Encoding: {encoding}", chunk(b"\x1b\x02\x03") + b"0\r\n\r\n")))
    assert told[0].outcome == Outcome.PROTOCOL_ERROR
    words = str(told[0].sample.error)
    assert f"content-encoding {encoding!r} was not asked for and cannot be undone" in words
    assert "leave text/event-stream out of compression" in words


@pytest.mark.parametrize(
    ("status", "outcome"), [("503 x", "http_error"), ("429 x", "rate_limited"), ("401 x", "auth_error")]
)
def test_an_error_whose_body_cannot_be_read_is_still_that_error(status: str, outcome: str) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Encoding: br\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\n"
    told, _ = asked(says(head.encode() + b"\x00\x01\x02\x03"))
    assert (told[0].outcome, told[0].sample.retry_after_s) == (outcome, 7.0)
    assert "(a body in content-encoding 'br')" in str(told[0].sample.error)
