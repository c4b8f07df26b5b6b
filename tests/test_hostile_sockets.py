"""Hostile servers over real sockets: a reset at each byte, a slow one, and bad streams beside good ones."""

from __future__ import annotations

import gzip
import itertools
import socket
import threading
import time
from pathlib import Path

from engine import lane, phase, run, target
from servers import EVENTS, HEAD, UNTIL_CLOSE, Talk, chunk, read_request, reset, says, serving, token
from streamgauge.client import StreamClient
from streamgauge.plan import Hold
from streamgauge.sample import Outcome
from streamgauge.stream import Limits

MS = 1_000_000
TOKENS = 25
MB = 1 << 20


def test_a_reset_at_each_byte_of_a_short_answer_is_told_by_what_came_before() -> None:
    """The n-th connection gets n bytes and a reset."""
    events = [token("Hel"), token("lo"), token("", "stop")]
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (sum(map(len, events)) + 1)
    wire = head + b"".join(events)
    ends = [len(head) + length for length in itertools.accumulate(map(len, events))]
    lengths = itertools.count()

    def talk(conn: socket.socket) -> None:
        read_request(conn)
        conn.sendall(wire[: next(lengths)])
        reset(conn)

    with serving(talk) as server, StreamClient(server.url, dialect="openai-chat", model="m") as client:
        for length in range(len(wire) + 1):
            sample = client.ask("x").sample
            texts, ended = sum(end <= length for end in ends[:2]), ends[2] <= length
            assert (sample.outcome, sample.text_events) == ("ok" if ended else "dropped", texts), length
            assert sample.bytes_in == length


def _drip(data: bytes) -> Talk:
    """A byte each 20 ms, until the client has enough."""

    def talk(conn: socket.socket) -> None:
        read_request(conn)
        for byte in data:
            conn.sendall(bytes([byte]))
            time.sleep(0.02)

    return talk


def test_a_server_that_sends_a_byte_at_a_time_is_left_when_its_time_is_up() -> None:
    limits = Limits(first_output_ns=400 * MS, stall_ns=400 * MS)
    endless_headers = _drip(b"HTTP/1.1 200 OK\r\nx-slow: " + b"a" * 2_000)
    endless_comment = _drip(b"HTTP/1.1 200 OK\r\n\r\n: " + b"a" * 2_000)
    for talk in (endless_headers, endless_comment):
        with serving(talk) as server, StreamClient(
            server.url, dialect="openai-chat", model="m", limits=limits
        ) as client:  # fmt: skip
            began = time.monotonic()
            sample = client.ask("x").sample
            assert sample.outcome is Outcome.FIRST_TOKEN_TIMEOUT
            assert time.monotonic() - began < 10


def _flood(head: bytes, block: bytes, most: int) -> Talk:
    """`block` again and again, `most` bytes of it, as fast as it is taken."""

    def talk(conn: socket.socket) -> None:
        while read_request(conn):
            conn.sendall(head)
            for _ in range(most // len(block)):
                conn.sendall(block)
            conn.shutdown(socket.SHUT_WR)

    return talk


def _good(conn: socket.socket) -> None:
    """Answers of 25 tokens, 10 ms apart."""
    while read_request(conn):
        conn.sendall(HEAD)
        for n in range(TOKENS):
            conn.sendall(chunk(token(f"w{n} ")))
            time.sleep(0.01)
        conn.sendall(chunk(token("", "stop")) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


BOMB = gzip.compress(b": x\n" * (4 * MB))
ZIPPED = UNTIL_CLOSE.replace(b"connection", b"content-encoding: gzip\r\nconnection")
PAGE = b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n"
BAD: dict[str, tuple[Talk, set[str]]] = {
    "garbage": (says(bytes(range(128, 256)) * 50), {"protocol_error"}),
    "headers": (_flood(b"HTTP/1.1 200 OK\r\n", b"x: " + b"y" * 1_000 + b"\r\n", MB), {"protocol_error"}),
    "line": (_flood(UNTIL_CLOSE + b"data: ", b"x" * 65_536, 2 * MB), {"protocol_error"}),
    "comments": (_flood(UNTIL_CLOSE, b": " + b"x" * 61 + b"\n", 2 * MB), {"truncated"}),
    "bomb": (says(ZIPPED + BOMB), {"protocol_error"}),
    "deep": (says(UNTIL_CLOSE + b"data: " + b"[" * 200_000 + b"\n\n" + EVENTS), {"ok"}),
    "tags": (says(PAGE + b"<title<script" * 5_000), {"http_error"}),
    "shapes": (says(UNTIL_CLOSE + b'data: {"error":"' + b"eyJ-" * 200_000 + b'"}\n\n'), {"stream_error"}),
    "chunk": (says(HEAD + b"-1\r\nx\r\n"), {"protocol_error"}),
    "silence": (lambda conn: threading.Event().wait(2), {"dropped", "cancelled"}),
}


def test_bad_streams_never_harm_good_ones_beside_them(tmp_path: Path) -> None:
    """One worker has them all: every good stream is whole, to the token, and every bad one ends by its own cause."""
    with serving(_good) as good:
        servers = {name: serving(talk) for name, (talk, _) in BAD.items()}
        bad = {name: server.__enter__() for name, server in servers.items()}
        try:
            targets = [target("good", good.url), *(target(name, server.url) for name, server in bad.items())]
            lanes = [lane("good", 60, Hold(20)), *(lane(name, 4, Hold(2)) for name in bad)]
            ran = run(tmp_path, targets, phase("hold", lanes, settles=True))
        finally:
            for server in servers.values():
                server.__exit__(None, None, None)
    assert ran.ending.bug is None
    assert ran.ending.worker_died is None
    assert {sample.worker for sample in ran.samples} == {0}
    found = ran.of("good")
    assert [(s.outcome, s.text_events) for s in found] == [(Outcome.OK, TOKENS)] * 60
    for name, (_, outcomes) in BAD.items():
        samples = ran.of(name)
        assert len(samples) == 4, name
        assert {str(s.outcome) for s in samples} <= outcomes, (name, [s.error for s in samples])
