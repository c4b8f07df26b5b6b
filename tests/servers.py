"""Small real servers for the tests: plain sockets, TLS by Python's ssl, one thread a connection.

They share nothing with the product or with the simulator. What a server says is a function of its socket (`Talk`), so
a test reads as the conversation it is about.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

CERTS = Path(__file__).parent / "certs"
CA = str(CERTS / "ca.pem")

Talk = Callable[[socket.socket], None]


def certificate(name: str = "server", *, client_ca: str | None = None, tls13: bool | None = None) -> ssl.SSLContext:
    """A server's TLS with one of tests/certs. `client_ca`: a client certificate of this CA is demanded.

    `tls13`: only TLS 1.3, or only 1.2; None leaves it to the client.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTS / f"{name}.pem", CERTS / f"{name}.key")
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    if tls13 is not None:
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3 if tls13 else ssl.TLSVersion.TLSv1_2
    return context


class Server:
    """Listens, and has `talk` answer each connection. `tls` and `talk` may be changed while it runs."""

    def __init__(self, talk: Talk, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.talk = talk
        self.tls = tls
        self.accepted = 0
        self._open: set[socket.socket] = set()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((host, 0))
        self._listener.listen(256)
        self.host, self.port = self._listener.getsockname()[:2]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Its origin."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'http' if self.tls is None else 'https'}://{host}:{self.port}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                conn, _ = self._listener.accept()
                self.accepted += 1
                conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open.add(conn)
                threading.Thread(target=self._serve, args=(conn, self.tls), daemon=True).start()

    def _serve(self, conn: socket.socket, tls: ssl.SSLContext | None) -> None:
        raw = conn
        with contextlib.suppress(OSError):  # the client is free to leave, and TLS to fail
            if tls is not None:
                conn = tls.wrap_socket(conn, server_side=True)
                self._open.add(conn)
            self.talk(conn)
        self._open -= {raw, conn}
        conn.close()

    def stop_listening(self) -> None:
        """From here on the port is closed; what is connected goes on."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def close(self) -> None:
        """Stop listening and end every connection."""
        self.stop_listening()
        for conn in list(self._open):
            with contextlib.suppress(OSError):
                conn.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def serving(talk: Talk, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[Server]:
    """A Server for as long as the block runs."""
    server = Server(talk, tls, host)
    try:
        yield server
    finally:
        server.close()


def read_request(conn: socket.socket) -> bytes:
    """One whole request, its head; b"" when the client has closed."""
    return read_whole(conn)[0]


def read_whole(conn: socket.socket) -> tuple[bytes, bytes]:
    """One whole request, its head and body; b"" for both when the client has closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = conn.recv(65_536)
        if not more:
            return b"", b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while (left := int(fields.get(b"content-length", b"0")) - len(body)) > 0:
        more = conn.recv(min(left, 65_536))
        if not more:
            break
        body += more
    return head, body


def chunk(data: bytes) -> bytes:
    """`data` as one HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def token(text: str, finish: str | None = None) -> bytes:
    """One event of openai-chat."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


EVENTS = token("Hel") + token("lo", "stop") + b"data: [DONE]\n\n"
"""A whole answer of two tokens."""
ANSWER = HEAD + chunk(EVENTS) + b"0\r\n\r\n"


def answer(conn: socket.socket) -> None:
    """Answer every request of the connection well."""
    while read_request(conn):
        conn.sendall(ANSWER)


def answer_once(conn: socket.socket) -> None:
    """Answer one request well and say that the connection ends."""
    read_request(conn)
    conn.sendall(UNTIL_CLOSE + EVENTS)


def says(data: bytes) -> Talk:
    """Read a request, send `data`, close."""

    def talk(conn: socket.socket) -> None:
        read_request(conn)
        conn.sendall(data)

    return talk


def always(status: str, headers: dict[str, str], body: bytes = b"") -> Talk:
    """Each request of the connection gets this response."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items())]
    whole = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body

    def talk(conn: socket.socket) -> None:
        while read_request(conn):
            conn.sendall(whole)

    return talk


WORDS = (*[token("word ")] * 8, token("", "stop"), b"data: [DONE]\n\n")
"""The events of an answer of eight words, without usage."""
STREAM = always("200 OK", {"Content-Type": "text/event-stream"}, b"".join(WORDS))


def reset(conn: socket.socket) -> None:
    """Close so that the peer sees a reset."""
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port of 127.0.0.1 where nothing listens, and which nobody else gets meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port of 127.0.0.1 that answers no SYN: it listens, never accepts, and its backlog is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port
