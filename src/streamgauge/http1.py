"""HTTP/1.1 on the wire: a request as bytes, and the framing of one response by httptools. No I/O, no clock.

Rules: `Response` takes bytes as they arrive and gives body bytes, whatever the chunks; it judges nothing. Headers are
capped at 64 KB. 1xx responses are skipped. A body that runs until the connection closes is whole when it closes
(httptools has no finish()), which `whole_at_close` tells.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol

import httptools

from streamgauge.who import TELLING, who_answered

HEADER_CAP = 64 * 1024


class FramingError(ValueError):
    """The response is not readable HTTP/1.1."""


class _Decompressor(Protocol):
    def decompress(self, data: bytes, /) -> bytes: ...


LENGTH = "\0length"


def request_bytes(method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """A whole request. `headers` are complete but for Content-Length; later ones of the same name win."""
    head = request_head(method, path, tuple(headers))
    return head.replace(LENGTH, str(len(body))).encode("latin-1", "replace") + body


@lru_cache(maxsize=256)
def request_head(method: str, path: str, headers: tuple[tuple[str, str], ...]) -> str:
    """The head of a request with LENGTH in place of the body's length: most requests of a run differ little."""
    merged: dict[str, tuple[str, str]] = {}
    for name, value in headers:
        merged[name.lower()] = (name, value)
    merged["content-length"] = ("Content-Length", LENGTH)
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in merged.values()]
    return "\r\n".join(lines) + "\r\n\r\n"


class Response:
    """The framing of one response. Feed it reads; it collects status and headers and hands out body bytes.

    `ahead`: the last bytes fed were the head of a chunk that is yet to come, not body. `between`: they were the end of
    a chunk, so that whole chunks may be left out from here (see `whole_event`).
    """

    __slots__ = (
        "_body", "_chunk_over", "_fed", "_inflate", "_names", "_parser", "ahead", "between", "chunked", "complete",
        "headers", "headers_complete", "keep_alive", "status", "trailing", "until_close",
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
        self._body: list[bytes] = []
        self._inflate: _Decompressor | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

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
            return b""
        self.between = self._chunk_over and data[-2:] == b"\r\n" and self._inflate is None and not self.complete
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
            return self._inflate.decompress(whole)
        except zlib.error:  # then this was the fault
            return b""

    @property
    def whole_at_close(self) -> bool:
        """Whether a close now ends the message rightly."""
        return self.complete or (self.headers_complete and self.until_close)

    def release(self) -> None:
        """Break the reference cycle with the parser: the garbage collector rests under load."""
        self._parser = None

    def _decode(self, data: bytes) -> bytes:
        assert self._inflate is not None
        try:
            return self._inflate.decompress(data)
        except zlib.error as error:
            raise FramingError(f"content-encoding cannot be undone: {error}") from None

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
        self.keep_alive = bool(self._parser.should_keep_alive()) and not self.until_close
        encoding = headers.get("content-encoding", "").strip().lower()
        if encoding in ("gzip", "x-gzip"):
            self._inflate = _Gzip()
        elif encoding == "deflate":
            self._inflate = _Deflate()
        elif encoding not in ("", "identity"):
            raise FramingError(f"content-encoding {encoding!r} was not asked for and is not known")

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

    def decompress(self, data: bytes) -> bytes:
        """Inflate the next bytes; what follows the last member and is no member is padding."""
        out = self._inner.decompress(data)
        while self._inner.eof and self._inner.unused_data[:1] == b"\x1f":
            rest = self._inner.unused_data
            self._inner = zlib.decompressobj(16 + zlib.MAX_WBITS)
            out += self._inner.decompress(rest)
        return out


class _Deflate:
    """`deflate` is zlib by RFC 9110 and raw by habit of some servers: the first bytes decide."""

    def __init__(self) -> None:
        self._inner: _Decompressor | None = None

    def decompress(self, data: bytes) -> bytes:
        """Inflate the next bytes."""
        if self._inner is None:
            zlib_header = len(data) >= 1 and data[0] & 0x0F == 8 and data[0] >> 4 <= 7
            self._inner = zlib.decompressobj(zlib.MAX_WBITS if zlib_header else -zlib.MAX_WBITS)
        return self._inner.decompress(data)


def answered_by(headers: dict[str, str]) -> str | None:
    """Who answered, as far as headers tell, in one short line."""
    return _chain(tuple((name, value) for name, value in headers.items() if name in TELLING))


@lru_cache(maxsize=1024)
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
