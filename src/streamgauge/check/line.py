"""A blocking line to a target's address, through its proxy where it has one: what `knock` speaks TLS over.

The measured runs go the same way (`dial`); nothing here is measured under load, so it may wait.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Self

from streamgauge.clock import Clock, S
from streamgauge.fault import NetError, net_error
from streamgauge.sample import Outcome
from streamgauge.target import AGENT, Address, Target
from streamgauge.tls import Layer, proxy_tls, tls_context
from streamgauge.tunnel import Reply, connect_request


class Line:
    """A connected socket; `go_through` opens the way behind a proxy. OSError where nobody answers."""

    def __init__(self, target: Target, address: Address, timeout_s: float, clock: Clock) -> None:
        self._target, self._clock = target, clock
        self._deadline = clock.now() + round(timeout_s * S)
        self._outer: Layer | None = None
        if address[0].startswith("/"):
            self._sock = socket.socket(socket.AF_UNIX)
            self._sock.settimeout(timeout_s)
            try:
                self._sock.connect(address[0])
            except OSError:
                self._sock.close()
                raise
        else:
            self._sock = socket.create_connection(address, timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def settimeout(self, seconds: float) -> None:
        """The longest that a call may wait."""
        self._sock.settimeout(seconds)

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        self._sock.sendall(data if self._outer is None else self._outer.seal(data))

    def recv(self, size: int) -> bytes:
        """What comes next, b"" at the end."""
        while True:
            data = self._sock.recv(size)
            if self._outer is None or not data:
                return data
            with contextlib.suppress(EOFError):
                if plain := self._outer.open(data):
                    return plain
                continue
            return b""

    def go_through(self) -> None:
        """Past the proxy, where there is one: its own TLS, CONNECT for an https target. NetError is the proxy's."""
        proxy, target = self._target.proxy, self._target
        if proxy is None:
            return
        try:
            if proxy.secure:
                layer = Layer(tls_context(proxy_tls(target.tls)), proxy.host)
                self._shake(layer)
                self._outer = layer
        except NetError as error:
            raise NetError(error.outcome, f"the proxy {proxy.shown}: {error.words}") from None
        except OSError as error:
            raise NetError(Outcome.TLS_ERROR, f"the proxy {proxy.shown}: {net_error(error).words}") from None
        if not target.secure:
            return
        reply = Reply(proxy, target.host, target.port)
        try:
            self.sendall(connect_request(proxy, target.host, target.port, AGENT))
            while reply.feed(self._next()) is None:
                pass
        except TimeoutError:
            raise NetError(Outcome.CONNECT_TIMEOUT, f"no {reply.awaited}") from None
        except OSError as error:
            raise reply.lost(error.strerror or str(error)) from None

    def _shake(self, layer: Layer) -> None:
        data = b""
        while True:
            done = layer.shake(data)
            self._sock.sendall(layer.said())
            if done:
                return
            data = self._next()

    def _next(self) -> bytes:
        """What comes next before the time is up; ConnectionError at the end."""
        self._sock.settimeout(max((self._deadline - self._clock.now()) / S, 0.01))
        data = self.recv(65_536)
        if not data:
            raise ConnectionError("connection closed")
        return data
