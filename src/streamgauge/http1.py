"""HTTP/1.1 on the wire: a request as bytes, and the framing of one response by httptools. No I/O, no clock.

Rules: `Response` takes bytes as they arrive and gives body bytes, whatever the chunks; it judges nothing. Headers are
capped at 64 KB, and so is what comes between two bytes of body; a body is inflated within bounds (`MOST_INFLATED`). 1xx
responses are skipped. A body that runs until the connection closes is whole when it closes (httptools has no finish()),
which `whole_at_close` tells.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol

import httptools

from streamgauge.secrets import cut_short
from streamgauge.who import TELLING, who_answered

HEADER_CAP = 64 * 1024
MOST_INFLATED = 4 << 20
"""One read may inflate to so many bytes..."""
SPARE, RATIO = 1 << 20, 64
"""... and all of them together to SPARE bytes and RATIO times what came. Streams of tokens stay below 40 times."""
IDLE_MARGIN_S = 0.5
"""So much before a server's own idle limit a connection is not used again: the request must get there in time."""


class FramingError(ValueError):
    """The response is not readable HTTP/1.1."""


class _Decompressor(Protocol):
    def decompress(self, data: bytes, most: int, /) -> bytes:
        """What the next bytes inflate to, or the first `most` bytes of it (the rest is lost); `most` is at least 1."""
        ...


def request_bytes(method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """A whole request. `headers` are complete but for Content-Length; later ones of the same name win."""
    merged: dict[str, tuple[str, str]] = {}
    for name, value in headers:
        merged[name.lower()] = (name, value)
    merged["content-length"] = ("Content-Length", str(len(body)))
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in merged.values()]
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body


class Response:
    """The framing of one response. Feed it reads; it collects status and headers and hands out body bytes.

    `ahead`: the last bytes fed were the head of a chunk that is yet to come, not body. `between`: they were the end of
    a chunk, so that whole chunks may be left out from here (see `whole_event`).
    """

    __slots__ = (
        "_body", "_chunk_over", "_fed", "_idle", "_inflate", "_names", "_packed", "_parser", "_unpacked", "ahead",
        "between", "chunked", "complete", "headers", "headers_complete", "keep_alive", "status", "trailing",
        "until_close",
    )  # fmt: skip

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.headers_complete = False
        self.complete = False
        self.keep_alive = False
        self.chunked = False
        self.until_close = False
        self.trailing = False
        self.ahead = False
        self.between = False
        self._chunk_over = False
        self._fed = 0
        self._idle = 0  # bytes since the last one of body
        self._packed = self._unpacked = 0
        self._body: list[bytes] = []
        self._inflate: _Decompressor | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        # Some servers pad a chunk's size, which a reader must bear (RFC 9112 7.1.1).
        self._parser.set_dangerous_leniencies(lenient_spaces_after_chunk_size=True)

    def __repr__(self) -> str:
        state = "complete" if self.complete else "body" if self.headers_complete else "headers"
        return f"Response({self.status}, {state})"

    def feed(self, data: bytes) -> bytes:
        """Body bytes that `data` completed, content encoding undone.

        FramingError when it is not HTTP/1.1; `salvage` then has the body bytes that came before the fault.
        """
        self.between = False
        if self.complete:
            self.trailing = True
            return b""
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise FramingError("the server switched protocols (101), which was not asked for") from None
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, FramingError):
                raise error.__context__ from None
            if not self.whole_at_close or self.until_close:
                raise FramingError(f"not HTTP/1.1: {error}") from None
            self.trailing = True
        if not self.headers_complete:
            self._fed += len(data)
            if self._fed > HEADER_CAP:
                raise FramingError(f"response headers exceed {HEADER_CAP} bytes")
            return b""
        body = self._body
        if not body:
            self._idle += len(data)
            if self._idle > HEADER_CAP:
                raise FramingError(f"{HEADER_CAP} bytes came without one of body: a trailer or chunk head without end")
            return b""
        self.between = self._chunk_over and data[-2:] == b"\r\n" and self._inflate is None and not self.complete
        self._idle = 0
        whole = body[0] if len(body) == 1 else b"".join(body)
        body.clear()
        return whole if self._inflate is None else self._decode(whole)

    def salvage(self) -> bytes:
        """Body bytes that came in the read that turned out to be broken, before the fault."""
        whole = b"".join(self._body)
        self._body.clear()
        if self._inflate is None:
            return whole
        try:
            return self._decode(whole)
        except FramingError:  # then this was the fault
            return b""

    @property
    def whole_at_close(self) -> bool:
        """Whether a close now ends the message rightly."""
        return self.complete or (self.headers_complete and self.until_close)

    @property
    def idle_s(self) -> float | None:
        """How long the connection may idle, less what a request needs to get there; None where it was not said."""
        limit = _keep_alive(self.headers).get("timeout")
        return None if limit is None else limit - min(IDLE_MARGIN_S, limit / 2)

    def release(self) -> None:
        """Break the reference cycle with the parser: the garbage collector rests under load."""
        self._parser = None

    def _decode(self, data: bytes) -> bytes:
        """Undo the content encoding, within bounds: a small body can inflate without end."""
        assert self._inflate is not None
        self._packed += len(data)
        room = max(min(MOST_INFLATED, SPARE + RATIO * self._packed - self._unpacked), 0)
        try:
            out = self._inflate.decompress(data, room + 1)
        except zlib.error as error:
            raise FramingError(f"content-encoding cannot be undone: {error}") from None
        if len(out) > room:
            raise FramingError(f"{self._packed:,} bytes inflate to over {self._unpacked + room:,}: no token stream")
        self._unpacked += len(out)
        return out

    # What httptools calls, in the order of a message.

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header or trailer; repeated ones are joined as RFC 9110 5.3 says. Trailers are not kept."""
        if self.headers_complete:
            return
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1").strip(" \t")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        """The end of the headers of a final response; an interim one (1xx) is forgotten."""
        assert self._parser is not None
        if self.complete:
            self.trailing = True  # a second response, which nobody asked for
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self.headers.clear()
            self._fed = 0
            return
        self.status = status
        self.headers_complete = True
        headers = self.headers
        self.chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        self.until_close = not self.chunked and "content-length" not in headers and status not in (204, 304)
        spent = _keep_alive(headers).get("max", 1) < 1
        self.keep_alive = bool(self._parser.should_keep_alive()) and not self.until_close and not spent
        encoding = headers.get("content-encoding", "").strip().lower()
        if encoding in ("gzip", "x-gzip"):
            self._inflate = _Gzip()
        elif encoding == "deflate":
            self._inflate = _Deflate()
        elif encoding not in ("", "identity"):
            if status == 200:
                raise FramingError(
                    f"content-encoding {cut_short(encoding, 60)!r} was not asked for and cannot be undone: let the "
                    "server or the proxy before it heed Accept-Encoding, or leave text/event-stream out of compression"
                )
            self._inflate = _Opaque(encoding)  # the status tells what matters

    def on_chunk_header(self) -> None:
        """The head of a chunk, whose body follows."""
        self.ahead = True
        self._chunk_over = False

    def on_chunk_complete(self) -> None:
        """The end of a chunk, its line end included."""
        self._chunk_over = True

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self.ahead = False
        if not self.complete:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """The end of a message; that of an interim response is not ours."""
        if self.headers_complete:
            self.complete = True


class _Gzip:
    """Members one behind the other are one text (RFC 1952 2.2): some servers pack each event by itself."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def decompress(self, data: bytes, most: int) -> bytes:
        """Inflate the next bytes; what follows the last member and is no member is padding, and forgotten."""
        out = bytearray()
        while data and len(out) < most:
            if self._inner.eof:
                if data[:1] != b"\x1f":
                    break
                self._inner = zlib.decompressobj(16 + zlib.MAX_WBITS)
            out += self._inner.decompress(data, most - len(out))
            data = self._inner.unused_data
        return bytes(out)


class _Deflate:
    """`deflate` is zlib by RFC 9110 and raw by habit of some servers: the first bytes decide."""

    def __init__(self) -> None:
        self._inner: zlib._Decompress | None = None

    def decompress(self, data: bytes, most: int) -> bytes:
        """Inflate the next bytes; what follows the end is forgotten."""
        if self._inner is None:
            zlib_header = len(data) >= 1 and data[0] & 0x0F == 8 and data[0] >> 4 <= 7
            self._inner = zlib.decompressobj(zlib.MAX_WBITS if zlib_header else -zlib.MAX_WBITS)
        return b"" if self._inner.eof else self._inner.decompress(data, most)


class _Opaque:
    """An encoding that is not known: its bytes are replaced by the name of it, once."""

    def __init__(self, encoding: str) -> None:
        self._words = f"(a body in content-encoding {cut_short(encoding, 60)!r})".encode("latin-1", "replace")

    def decompress(self, data: bytes, most: int) -> bytes:
        """The words for the first bytes, nothing for more."""
        words, self._words = self._words, b""
        return words[:most]


def _keep_alive(headers: dict[str, str]) -> dict[str, int]:
    """`timeout` (s) and `max` (further requests) of a Keep-Alive header, as far as they are whole numbers."""
    if "keep-alive" not in headers:
        return {}
    pairs = (part.partition("=") for part in headers["keep-alive"].lower().split(","))
    return {name.strip(): int(value) for name, _, value in pairs if value.strip().isdecimal() and len(value) < 10}


def answered_by(headers: dict[str, str]) -> str | None:
    """Who answered, as far as headers tell, in one short line."""
    return _chain(tuple((name, value) for name, value in headers.items() if name in TELLING))


@lru_cache(maxsize=64)
def _chain(headers: tuple[tuple[str, str], ...]) -> str | None:
    """The answers of a run have few such sets of headers."""
    return who_answered(dict(headers)).chain


_KEPT = frozenset(
    (
        "x-request-id", "request-id", "x-amzn-requestid", "x-amzn-trace-id", "apim-request-id", "server-timing",
        "retry-after", "retry-after-ms", "openai-processing-ms", "x-envoy-upstream-service-time", "cf-ray",
        "cf-cache-status", "x-cache", "x-amz-cf-pop", "x-amz-cf-id", "age", "via", "server",
        "x-vercel-id", "x-served-by", "x-litellm-response-duration-ms", "x-litellm-call-id", "content-type",
        "content-encoding", "location",
    )
)  # fmt: skip
_KEPT_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-", "ratelimit")


def kept_headers(headers: dict[str, str]) -> dict[str, str]:
    """The response headers a Sample keeps, by an allow-list."""
    return {name: value for name, value in headers.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}


def retry_after_s(headers: dict[str, str], wall_s: float) -> float | None:
    """Seconds the server asks to wait: retry-after-ms, or Retry-After as seconds or an HTTP date (RFC 9110 10.2.3).

    At most a day; None where it asks nothing that can be read.
    """
    found = _number(headers.get("retry-after-ms", ""))
    if found is not None:
        found /= 1e3
    else:
        value = headers.get("retry-after", "")
        found = _number(value)
        if found is None and (at := _date(value)) is not None:
            found = at - wall_s
    return None if found is None else min(max(found, 0.0), 86_400.0)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return None if value != value else value


def _date(text: str) -> float | None:
    """An HTTP date as seconds since the epoch; one that names no zone is UTC."""
    from datetime import UTC
    from email.utils import parsedate_to_datetime

    try:
        at = parsedate_to_datetime(text)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
