"""HTTP/1.1 as this server speaks it: requests out of bytes, response heads, the framing of a body.

Strategy: `Inbox` is fed what the socket gave and hands out whole requests; it keeps what lies beyond. A `Framing` wraps
each event: chunked (with or without gzip or deflate), or bare up to the end of the connection.

Rules: no I/O, no clock. Written for the simulator alone: the product's own reader of HTTP is judged by it. Sources:
RFC 9112 (messages, chunked), RFC 9110 section 8.4 (content codings).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from http import HTTPStatus

MAX_HEAD = 65_536
TLS_RECORD = b"\x16"
"""The first byte of a TLS handshake (RFC 8446 5.1); no method of HTTP begins so."""
MAX_BODY = 64 * 1024 * 1024
REASONS = {status.value: status.phrase for status in HTTPStatus} | {529: "Overloaded"}


class BadRequest(Exception):
    """What came is no HTTP request; answer with this status and close."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One request. Header names are in lower case; of a repeated header the last one counts."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    http10: bool = False

    @property
    def closes(self) -> bool:
        """Whether the client wants the connection closed after the answer."""
        wish = self.headers.get("connection", "").lower()
        return "close" in wish or (self.http10 and "keep-alive" not in wish)


@dataclass(slots=True)
class Inbox:
    """The bytes of one connection on their way to requests."""

    data: bytearray = field(default_factory=bytearray)
    head: Request | None = None
    length: int | None = None
    """Of the body; None while it comes in chunks."""
    parts: list[bytes] = field(default_factory=list)
    wants_continue: bool = False

    def next(self) -> Request | None:
        """The next whole request, or None until more bytes come. Raises BadRequest."""
        if self.head is None and not self._read_head():
            return None
        assert self.head is not None
        if self.length is None:
            if not self._read_chunks():
                return None
        else:
            if len(self.data) < self.length:
                return None
            self.parts.append(bytes(self.data[: self.length]))
            del self.data[: self.length]
        head, body = self.head, b"".join(self.parts)
        self.head, self.parts = None, []
        return Request(head.method, head.path, head.query, head.headers, body, head.http10)

    def _read_head(self) -> bool:
        """Take the head off the front, if it is whole."""
        while self.data[:2] == b"\r\n":  # RFC 9112 2.2: an empty line before a request is ignored
            del self.data[:2]
        if self.data[:1] == TLS_RECORD:
            raise BadRequest(400, "A TLS hello came to a port that speaks plain HTTP.")
        end = self.data.find(b"\r\n\r\n")
        if end > MAX_HEAD or (end < 0 and len(self.data) > MAX_HEAD):
            raise BadRequest(431, "The request head is longer than 64 KB.")
        if end < 0:
            return False
        lines = self.data[:end].decode("latin-1").split("\r\n")
        del self.data[: end + 4]
        words = lines[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise BadRequest(400, "The first line is no HTTP/1.1 request line.")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise BadRequest(400, "A header line has no name.")
            headers[name.lower()] = value.strip()
        path, _, query = words[1].partition("?")
        self.head = Request(words[0], path, query, headers, b"", words[2] == "HTTP/1.0")
        self.length = _length(headers)
        self.wants_continue = headers.get("expect", "").lower() == "100-continue"
        return True

    def _read_chunks(self) -> bool:
        """Take whole chunks off the front; True at the last one (trailers are dropped)."""
        while True:
            line_end = self.data.find(b"\r\n")
            if line_end < 0:
                return False
            try:
                size = int(bytes(self.data[:line_end]).split(b";")[0].strip(), 16)
            except ValueError:
                raise BadRequest(400, "A chunk of the body has no size.") from None
            if size < 0 or sum(map(len, self.parts)) + size > MAX_BODY:
                raise BadRequest(413, "The body is longer than 64 MB.")
            if size == 0:
                end = self.data.find(b"\r\n\r\n", line_end)
                if end < 0:
                    return False
                del self.data[: end + 4]
                return True
            if len(self.data) < line_end + 2 + size + 2:
                return False
            self.parts.append(bytes(self.data[line_end + 2 : line_end + 2 + size]))
            del self.data[: line_end + 2 + size + 2]


def _length(headers: dict[str, str]) -> int | None:
    """The body's length; None for a chunked one."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return None
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()):
        raise BadRequest(400, "Content-Length is no number.")
    if int(text) > MAX_BODY:
        raise BadRequest(413, "The body is longer than 64 MB.")
    return int(text)


def head(status: int, fields: dict[str, str]) -> bytes:
    """A response head."""
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, '')}", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


class Chunked:
    """Each event is one chunk of its own."""

    fields: tuple[tuple[str, str], ...] = (("transfer-encoding", "chunked"),)
    delimited = True

    def wrap(self, data: bytes) -> bytes:
        """`data` as a chunk."""
        return b"%x\r\n%b\r\n" % (len(data), data)

    def whole(self, event: bytes, end: int) -> int:
        """Where `event` is whole in a write whose last chunk, up to `end`, it is."""
        return end - 2 - _after(event)

    def end(self) -> bytes:
        """The last chunk."""
        return b"0\r\n\r\n"


class Bare:
    """The body as it is; the end of the connection ends it."""

    fields: tuple[tuple[str, str], ...] = (("connection", "close"),)
    delimited = False

    def wrap(self, data: bytes) -> bytes:
        """`data` itself."""
        return data

    def whole(self, event: bytes, end: int) -> int:
        """Where `event`, which ends at `end`, is whole."""
        return end - _after(event)

    def end(self) -> bytes:
        """Nothing: closing says it."""
        return b""


class Compressed:
    """Chunked around gzip or deflate: flushed after each event, or after `every` bytes of events, which merges them."""

    delimited = True

    def __init__(self, coding: str, every: int = 0) -> None:
        self.fields: tuple[tuple[str, str], ...] = (
            ("content-encoding", coding),
            ("vary", "accept-encoding"),
            ("transfer-encoding", "chunked"),
        )
        # "deflate" is the zlib format (RFC 9110 8.4.1.2), whatever some servers send.
        self._zlib = zlib.compressobj(6, zlib.DEFLATED, 31 if coding == "gzip" else 15)
        self._every = every
        self._waiting = 0
        self._out = bytearray()

    def wrap(self, data: bytes) -> bytes:
        """A chunk with what is flushed; nothing while events are kept back."""
        self._out += self._zlib.compress(data)
        self._waiting += len(data)
        if self._waiting < self._every:
            return b""
        self._waiting = 0
        out = bytes(self._out) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
        self._out.clear()
        return b"%x\r\n%b\r\n" % (len(out), out)

    def whole(self, event: bytes, end: int) -> int:
        """The end of its chunk: which byte of a deflate block gives an event away is the reader's matter."""
        return end

    def end(self) -> bytes:
        """What was kept back, and the last chunk."""
        out = bytes(self._out) + self._zlib.flush()
        return b"%x\r\n%b\r\n0\r\n\r\n" % (len(out), out)


def _after(event: bytes) -> int:
    """Bytes of an event behind the one that makes it whole: a CR alone ends the blank line, the LF is awaited by no one
    (WHATWG HTML, 9.2.5)."""
    return 1 if event.endswith(b"\r\n") else 0


Framing = Chunked | Bare | Compressed
BUFFERED_BYTES = 2048


def framing(request: Request, gzip: str | None) -> Framing:
    """The framing for a request: `gzip` is None, "flush" or "buffered", and used where the client accepts a coding."""
    if request.http10:
        return Bare()
    accepted = request.headers.get("accept-encoding", "").lower()
    if gzip is not None:
        for coding in ("gzip", "deflate"):
            if any(_accepts(item, coding) for item in accepted.split(",")):
                return Compressed(coding, BUFFERED_BYTES if gzip == "buffered" else 0)
    return Chunked()


def _accepts(item: str, coding: str) -> bool:
    """Whether one item of Accept-Encoding allows this coding."""
    name, _, weight = item.partition(";")
    return name.strip() == coding and weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
