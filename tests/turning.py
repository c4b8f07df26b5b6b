"""A loop that a test turns by hand, and the server's end of each of its connections."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable

from streamgauge.clock import SystemClock
from streamgauge.dialects import DIALECTS
from streamgauge.loop import Loop
from streamgauge.plan import Shot
from streamgauge.sample import Sample
from streamgauge.stream import Limits, Stream
from streamgauge.target import Target

MS = 1_000_000
REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"


class Setting:
    """A loop, a target, and the server's end of every connection to it."""

    def __init__(self, clock: SystemClock | None = None) -> None:
        self.listener = socket.create_server(("", 0))
        self.port = self.listener.getsockname()[1]
        self.ended: list[Stream] = []
        self.loop = Loop(clock or SystemClock(), self.ended.append)
        self.target = Target(
            name="app", scheme="http", host="127.0.0.1", port=self.port, path="/", dialect="openai-chat",
            addresses=(("127.0.0.1", self.port),),
        )  # fmt: skip
        self.peers: list[socket.socket] = []

    def fire(self, request: bytes = REQUEST, limits: Limits | None = None, *, fresh: bool = False) -> Stream:
        now = time.monotonic_ns()
        shot = Shot(len(self.ended), "app", "short", 0, "hold", 1, 0, now)
        stream = Stream(shot, os.urandom(16).hex(), DIALECTS["openai-chat"], limits or Limits(), keep_events=True)
        stream.on_start(now, 0)
        self.loop.fire(stream, self.target, request, fresh=fresh)
        return stream

    def accept(self) -> socket.socket:
        """The server's end of the next connection; its request is on the way."""
        self.until(lambda: select.select([self.listener], [], [], 0)[0])
        peer = self.listener.accept()[0]
        peer.settimeout(5)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peers.append(peer)
        return peer

    def asked(self) -> tuple[Stream, socket.socket]:
        """A stream on a new connection whose request the server has read."""
        stream = self.fire()
        peer = self.accept()
        self.read(peer)
        return stream, peer

    def read(self, peer: socket.socket, size: int = len(REQUEST)) -> bytes:
        """So many bytes of the request, the loop turning meanwhile."""
        data = b""
        while len(data) < size:
            self.until(lambda: select.select([peer], [], [], 0)[0])
            data += peer.recv(1 << 20)
        return data

    def turn(self, ms: float = 5) -> None:
        self.loop.turn(time.monotonic_ns() + round(ms * MS))

    def until(self, true: Callable[[], object], within_s: float = 60) -> None:
        limit = time.monotonic() + within_s
        while not true():
            assert time.monotonic() < limit
            self.turn()

    def done(self, stream: Stream) -> Sample:
        self.until(lambda: stream.done)
        return stream.sample()

    def close(self) -> None:
        self.loop.close()
        for one in (self.listener, *self.peers):
            one.close()


def sent(peer: socket.socket, data: bytes) -> tuple[int, int]:
    """Send; the time just before and just after."""
    before = time.monotonic_ns()
    peer.sendall(data)
    return before, time.monotonic_ns()
