"""A blocking line to a target's address, through its proxy where it has one: what looks and probes go over.

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
    """A connected socket; `go_through` opens the way behind a proxy, `secure` speaks TLS with the target.

    OSError where nobody answers.
    """

    def __init__(self, target: Target, address: Address, timeout_s: float, clock: Clock) -> None:
        self._target, self._clock = target, clock
        self._deadline = clock.now() + round(timeout_s * S)
        self._layers: list[Layer] = []
        """TLS with the proxy, with the target inside it."""
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
        for layer in reversed(self._layers):
            data = layer.seal(data)
        self._sock.sendall(data)

    def recv(self, size: int) -> bytes:
        """What comes next, b"" at the end."""
        while data := self._sock.recv(size):
            with contextlib.suppress(EOFError):
                for layer in self._layers:
                    data = layer.open(data)
                if data:
                    return data
                continue
            break
        return b""

    def secure(self) -> None:
        """TLS with the target, after `go_through`. OSError or NetError where it does not come about."""
        target = self._target
        self._shake(Layer(tls_context(target.tls), target.tls.server_name or target.host))

    def go_through(self) -> None:
        """Past the proxy, where there is one: its own TLS, CONNECT for an https target. NetError is the proxy's."""
        proxy, target = self._target.proxy, self._target
        if proxy is None:
            return
        try:
            if proxy.secure:
                self._shake(Layer(tls_context(proxy_tls(target.tls)), proxy.host))
        except NetError as error:
            raise NetError(error.outcome, f"the proxy {proxy.shown}: {error.words}") from None
        except OSError as error:
            raise NetError(Outcome.TLS_ERROR, f"the proxy {proxy.shown}: {net_error(error).words}") from None
        if not target.secure:
            return
        reply = Reply(proxy, target.host, target.port)
        try:
            self.sendall(connect_request(proxy, target.host, target.port, AGENT))
            while reply.feed(self.next()) is None:
                pass
        except TimeoutError:
            raise NetError(Outcome.CONNECT_TIMEOUT, f"no {reply.awaited}") from None
        except OSError as error:
            raise reply.lost(error.strerror or str(error)) from None

    def _shake(self, layer: Layer) -> None:
        data = b""
        while True:
            done = layer.shake(data)
            self.sendall(layer.said())
            if done:
                self._layers.append(layer)
                return
            data = self.next()

    def next(self) -> bytes:
        """What comes next before the line's time is up (TimeoutError); ConnectionError at the end."""
        left_s = (self._deadline - self._clock.now()) / S
        if left_s <= 0:
            raise TimeoutError
        self._sock.settimeout(left_s)
        data = self.recv(65_536)
        if not data:
            raise ConnectionError("connection closed")
        return data
