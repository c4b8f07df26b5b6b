"""A small HTTP proxy for the tests: CONNECT and plain http, Basic credentials, a log, and refusals of every kind.

It shares nothing with the product. What it does with a request is `Proxy.answer`'s to say; by default it serves it.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from servers import Server

Refusal = Callable[[socket.socket], None]


class Proxy:
    """Serves CONNECT and absolute-form requests; each request's head is kept in `heads`."""

    def __init__(self, tls: ssl.SSLContext | None = None, credentials: str | None = None) -> None:
        self.heads: list[bytes] = []
        self.credentials = credentials
        self.refusal: Refusal | None = None
        """What is done instead of serving."""
        self.server = Server(self._serve, tls)

    @property
    def port(self) -> int:
        return int(self.server.port)

    @property
    def url(self) -> str:
        """Its url, without credentials."""
        return str(self.server.url)

    def with_(self, userinfo: str) -> str:
        """Its url with user and password, as they stand there."""
        scheme, _, rest = self.url.partition("://")
        return f"{scheme}://{userinfo}@{rest}"

    def _serve(self, client: socket.socket) -> None:
        while head := _head(client):
            self.heads.append(head)
            if self.refusal is not None:
                self.refusal(client)
                return
            if not self._lets(head):
                client.sendall(
                    b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="p"\r\n'
                    b"Content-Length: 6\r\n\r\nno way"
                )
                return
            method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            if method == "CONNECT":
                host, _, port = target.rpartition(":")
                try:
                    upstream = socket.create_connection((host.strip("[]"), int(port)))
                except OSError:
                    client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                    return
                client.sendall(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 fake\r\n\r\n")
                _pump_both(client, upstream)
                return
            if not self._forward(client, head, target):
                return

    def _lets(self, head: bytes) -> bool:
        if self.credentials is None:
            return True
        wanted = base64.b64encode(self.credentials.encode())
        return b"proxy-authorization: basic " + wanted.lower() in head.lower() and wanted in head

    def _forward(self, client: socket.socket, head: bytes, target: str) -> bool:
        """One plain request; whether the client's connection may carry another."""
        parts = urlsplit(target)
        rest = target.partition("://")[2].partition("/")[2]
        first, _, fields = head.partition(b"\r\n")
        kept = [line for line in fields.split(b"\r\n") if line and not line.lower().startswith(b"proxy-")]
        line = first.replace(target.encode(), b"/" + rest.encode())
        length = next((int(f.split(b":")[1]) for f in kept if f.lower().startswith(b"content-length:")), 0)
        body = _exactly(client, length)
        try:
            upstream = socket.create_connection((parts.hostname, parts.port or 80))
        except OSError:
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 7\r\n\r\nno luck")
            return True
        with upstream:
            upstream.sendall(b"\r\n".join([line, *kept, b"Connection: close", b"", b""]) + body)
            upstream.shutdown(socket.SHUT_WR)
            _pump(upstream, client)
        return False

    def close(self) -> None:
        self.server.close()


def _head(sock: socket.socket) -> bytes:
    """A request's head, read byte by byte: what follows it is not ours."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        more = sock.recv(1)
        if not more:
            return b""
        data += more
    return data


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += sock.recv(size - len(data))
    return data


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _pump_both(one: socket.socket, other: socket.socket) -> None:
    back = threading.Thread(target=_pump, args=(other, one), daemon=True)
    back.start()
    _pump(one, other)
    back.join(5)
    other.close()


@contextlib.contextmanager
def proxy(tls: ssl.SSLContext | None = None, credentials: str | None = None) -> Iterator[Proxy]:
    """A proxy for as long as the block runs."""
    made = Proxy(tls, credentials)
    try:
        yield made
    finally:
        made.close()
