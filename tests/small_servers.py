"""Small real servers for one test: each connection gets what `answer` does with its socket. TLS by tests/certs."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CERTS = Path(__file__).parent / "certs"
Answer = Callable[[socket.socket], None]


@contextmanager
def serving(answer: Answer, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[int]:
    """Serve until the block ends; the port. A client that breaks off is no error."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        threads: list[threading.Thread] = []

        def one(sock: socket.socket) -> None:
            with sock, contextlib.suppress(OSError):
                sock.settimeout(10)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if tls is None:
                    answer(sock)
                else:
                    with tls.wrap_socket(sock, server_side=True) as inner:
                        answer(inner)

        def accept() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                threads.append(threading.Thread(target=one, args=(sock,)))
                threads[-1].start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join(10)
            for thread in threads:
                thread.join(10)


def certified(
    name: str = "server", *, wants_client: bool = False, newest: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """A server's TLS by one of tests/certs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTS / f"{name}.pem", CERTS / f"{name}.key")
    if wants_client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(CERTS / "ca.pem")
    if newest is not None:
        context.maximum_version = newest
    return context


def request_head(sock: socket.socket) -> str:
    """One whole request's head in lower case; its body is read too."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65_536)
        if not piece:
            raise OSError("closed within the request")
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    text = head.decode("latin-1").lower()
    length = next((int(line.split(":")[1]) for line in text.split("\r\n") if line.startswith("content-length:")), 0)
    while len(body) < length:
        body += sock.recv(65_536)
    return text


def saying(status: str, headers: dict[str, str], body: bytes = b"") -> Answer:
    """Each request of a connection gets this response."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items())]
    whole = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body

    def answer(sock: socket.socket) -> None:
        while True:
            request_head(sock)
            sock.sendall(whole)

    return answer


EVENTS = tuple(
    [b'data: {"choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'] * 8
    + [b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n', b"data: [DONE]\n\n"]
)
"""A stream of openai-chat: eight text events, no usage."""
STREAM = saying("200 OK", {"Content-Type": "text/event-stream"}, b"".join(EVENTS))
