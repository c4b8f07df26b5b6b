"""The framing of one response, held against http.client, which shares no line with it, however the bytes are cut."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import io
import zlib
from collections.abc import Callable, Iterable
from email.utils import formatdate
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamgauge.http1 import (
    HEADER_CAP,
    FramingError,
    Response,
    answered_by,
    kept_headers,
    request_bytes,
    retry_after_s,
)

OK = b"HTTP/1.1 200 OK\r\n"


def chunked(*pieces: bytes, trailers: bytes = b"", extension: bytes = b"") -> bytes:
    """A chunked body, by RFC 9112 7.1."""
    chunks = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces)
    return chunks + b"0%s\r\n" % extension + trailers + b"\r\n"


MESSAGES = {
    "content-length": OK + b"Content-Length: 5\r\n\r\nhello",
    "no body": OK + b"Content-Length: 0\r\n\r\n",
    "chunked": OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"he", b"llo"),
    "chunk extensions": OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"he", b"llo", extension=b';a="b"'),
    "trailers": OK + b"Transfer-Encoding: Chunked\r\n\r\n" + chunked(b"hello", trailers=b"X-Sum: 1\r\nX-2: 2\r\n"),
    "until close": OK + b"Content-Type: text/event-stream\r\n\r\nhello",
    "204": b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
    "304": b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
    "100 before": b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi",
    "103 with headers": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi",
    "two interim ones": b"HTTP/1.1 102 Wait\r\n\r\n" * 2 + OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"hi"),
    "1.0": b"HTTP/1.0 200 OK\r\n\r\nhello",
    "1.0 keep-alive": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
    "close": OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi",
    "error": b"HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nslow",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi",
}


def cuts(data: bytes) -> dict[str, list[bytes]]:
    """The same bytes whole, byte by byte, and in threes."""
    return {
        "whole": [data],
        "byte by byte": [data[i : i + 1] for i in range(len(data))],
        "threes": [data[i : i + 3] for i in range(0, len(data), 3)],
    }


def read(pieces: Iterable[bytes]) -> tuple[Response, bytes]:
    """A response after these reads, and its body."""
    response = Response()
    return response, b"".join([response.feed(piece) for piece in pieces])


class _Wire:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def truth(data: bytes) -> tuple[http.client.HTTPResponse, bytes]:
    """What the standard library makes of it; it skips only 100, so other interim responses are cut off first."""
    while data[9:12] in (b"102", b"103"):
        data = data.partition(b"\r\n\r\n")[2]
    found = http.client.HTTPResponse(_Wire(data))  # type: ignore[arg-type] # it wants no more of a socket than this
    found.begin()
    return found, found.read()


@pytest.mark.parametrize("how", ["whole", "byte by byte", "threes"])
@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_what_the_standard_library_reads_however_it_is_cut(name: str, how: str) -> None:
    expected, body = truth(MESSAGES[name])
    response, found = read(cuts(MESSAGES[name])[how])

    assert (response.status, found) == (expected.status, body)
    assert response.headers == {key.lower(): value for key, value in expected.getheaders()}
    assert response.whole_at_close
    assert response.complete == (name not in ("until close", "1.0"))
    assert response.keep_alive == (not expected.will_close)
    assert not response.trailing


@given(
    st.lists(st.binary(min_size=1, max_size=30), max_size=6),
    st.lists(st.integers(0, 400), max_size=8),
    st.sampled_from(["chunked", "length", "close"]),
)
@settings(max_examples=80, deadline=None)
def test_any_body_comes_through_any_cut(pieces: list[bytes], at: list[int], framing: str) -> None:
    body = b"".join(pieces)
    head, wire = {
        "chunked": (b"Transfer-Encoding: chunked\r\n", chunked(*pieces)),
        "length": (b"Content-Length: %d\r\n" % len(body), body),
        "close": (b"", body),
    }[framing]
    data = OK + head + b"\r\n" + wire
    bounds = [0, *sorted(place for place in at if place < len(data)), len(data)]

    response, found = read(data[a:b] for a, b in pairwise(bounds) if a < b)

    assert found == body == truth(data)[1]
    assert response.whole_at_close


@pytest.mark.parametrize("how", ["whole", "byte by byte"])
@pytest.mark.parametrize("behind", [b"x", b"\r\n\r\nmore", OK + b"Content-Length: 3\r\nX-Second: 1\r\n\r\nbad"])
@pytest.mark.parametrize("name", ["content-length", "chunked", "204", "error"])
def test_bytes_behind_the_message_are_told_and_change_nothing(name: str, behind: bytes, how: str) -> None:
    alone, body = read([MESSAGES[name]])
    response, found = read(cuts(MESSAGES[name] + behind)[how])

    assert found == body
    assert response.complete
    assert response.trailing
    assert (response.status, response.headers) == (alone.status, alone.headers)


@pytest.mark.parametrize(
    ("head", "stays"),
    [
        (OK + b"Content-Length: 0\r\n\r\n", True),
        (OK + b"Content-Length: 0\r\nConnection: Keep-Alive\r\n\r\n", True),
        (OK + b"Content-Length: 0\r\nConnection: close\r\n\r\n", False),
        (OK + b"Content-Length: 0\r\nConnection: x, Close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", True),
        (OK + b"\r\n", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
    ],
)
def test_a_connection_is_kept_by_the_rules_of_rfc_9112(head: bytes, stays: bool) -> None:
    assert read([head])[0].keep_alive is stays


def test_repeated_headers_are_joined_and_names_are_lower_case() -> None:
    head = OK + b"Via: a\r\nX-Long:   spaced  \r\nVIA: b\r\nX-Latin: \xe9\r\nContent-Length: 0\r\n\r\n"
    assert read(cuts(head)["byte by byte"])[0].headers == {
        "via": "a, b", "x-long": "spaced", "x-latin": "é", "content-length": "0",
    }  # fmt: skip


@pytest.mark.parametrize("how", ["whole", "byte by byte"])
def test_a_headers_end_within_the_cap_and_not_behind_it(how: str) -> None:
    room = HEADER_CAP - len(OK) - len("X: \r\n\r\n")
    fits = OK + b"X: " + b"a" * room + b"\r\n\r\n"
    assert len(fits) == HEADER_CAP
    assert read(cuts(fits)[how])[0].headers_complete
    with pytest.raises(FramingError, match="exceed 65536 bytes"):
        read(cuts(OK + b"X: " + b"a" * HEADER_CAP)[how])


def test_a_long_body_in_the_read_that_ends_the_headers_is_no_long_header() -> None:
    body = b"b" * 2 * HEADER_CAP
    assert read([OK + b"Content-Length: %d\r\n\r\n" % len(body) + body])[1] == body


# What is no HTTP/1.1.


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x16\x03\x01\x02\x00",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        OK + b"no colon\r\n\r\n",
        OK + b"Content-Length: five\r\n\r\n",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        OK + b"Content-Encoding: br\r\nContent-Length: 1\r\n\r\n!",
        OK + b"Content-Encoding: gzip, br\r\nContent-Length: 1\r\n\r\n!",
    ],
)
@pytest.mark.parametrize("how", ["whole", "byte by byte"])
def test_what_is_no_http_1_1_is_a_framing_error(data: bytes, how: str) -> None:
    with pytest.raises(FramingError):
        read(cuts(data)[how])


def test_the_body_before_a_fault_is_not_lost() -> None:
    response = Response()
    with pytest.raises(FramingError):
        response.feed(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n")
    assert response.salvage() == b"hello"


@given(st.lists(st.binary(max_size=80), max_size=5), st.sampled_from([b"", OK, *MESSAGES.values()]))
@settings(max_examples=300, deadline=None)
@example([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx"], b"")
def test_no_bytes_raise_anything_but_a_framing_error(garbage: list[bytes], before: bytes) -> None:
    response = Response()
    with contextlib.suppress(FramingError):
        for piece in (before, *garbage):
            response.feed(piece)
    assert isinstance(response.salvage(), bytes)


@given(st.integers(0, 300), st.binary(min_size=1, max_size=4), st.sampled_from(list(MESSAGES.values())))
@settings(max_examples=300, deadline=None)
def test_a_damaged_message_raises_nothing_but_a_framing_error(at: int, damage: bytes, message: bytes) -> None:
    data = message[:at] + damage + message[at + len(damage) :]
    for pieces in cuts(data).values():
        response = Response()
        try:
            for piece in pieces:
                response.feed(piece)
        except FramingError:
            continue
        assert response.status is None or 0 <= response.status <= 999


# Content encodings.


def raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def flushed(parts: Iterable[bytes], wbits: int) -> list[bytes]:
    """What a server sends that flushes behind each part."""
    packer = zlib.compressobj(wbits=wbits)
    sent = [packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH) for part in parts]
    return [*sent[:-1], sent[-1] + packer.flush()]


PACKERS: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "gzip": (b"gzip", gzip.compress),
    "x-gzip": (b"X-GZip", gzip.compress),
    "gzip in members": (b"gzip", lambda data: gzip.compress(data[:7]) + gzip.compress(data[7:])),
    "gzip with padding": (b"gzip", lambda data: gzip.compress(data) + b"\0" * 8),
    "deflate": (b"deflate", zlib.compress),
    "raw deflate": (b"deflate", raw),
    "stored raw deflate": (b"deflate", lambda data: b"\x01%c\0%c\xff" % (len(data), 255 - len(data)) + data),
    "identity": (b"identity", bytes),
}


@pytest.mark.parametrize("how", ["whole", "byte by byte", "threes"])
@pytest.mark.parametrize("name", PACKERS)
def test_a_content_encoding_is_undone(name: str, how: str) -> None:
    word, pack = PACKERS[name]
    body = b"data: one\n\ndata: two\n\n"
    packed = pack(body)
    data = OK + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (word, len(packed)) + packed
    response, found = read(cuts(data)[how])
    assert found == body
    assert response.complete


@pytest.mark.parametrize(("word", "wbits"), [(b"gzip", 31), (b"deflate", 15), (b"deflate", -15)])
def test_each_flushed_event_is_out_with_the_read_that_brought_it(word: bytes, wbits: int) -> None:
    parts = [b"data: %d\n\n" % n for n in range(20)]
    response = Response()
    response.feed(OK + b"Transfer-Encoding: chunked\r\nContent-Encoding: " + word + b"\r\n\r\n")
    for part, packed in zip(parts, flushed(parts, wbits), strict=True):
        assert response.feed(b"%x\r\n%s\r\n" % (len(packed), packed)) == part


def test_what_cannot_be_unpacked_is_a_framing_error() -> None:
    with pytest.raises(FramingError, match="content-encoding cannot be undone"):
        read([OK + b"Content-Encoding: gzip\r\n\r\nno gzip at all"])


# What headers tell.

NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "1e9"}, 86_400.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "7, 7"}, None),
        ({"retry-after": formatdate(NOW + 30, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(NOW + 30)}, 30.0),
        ({"retry-after": formatdate(NOW - 30, usegmt=True)}, 0.0),
        ({"retry-after": "Wed, 99 Nov 2026 12:00:00 GMT"}, None),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "²", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "9" * 5_000}, 86_400.0),
        ({"retry-after-ms": "9" * 400}, 86_400.0),
        ({"retry-after-ms": "999999999"}, 86_400.0),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW) == pytest.approx(seconds)


@given(st.text(st.characters(max_codepoint=255), max_size=40), st.text(st.characters(max_codepoint=255), max_size=20))
@settings(max_examples=300)
@example("Mon, 01 Jan 0001 00:00:00 +9999", "")
@example("Mon, 01 Jan 99999 00:00:00 GMT", "")
def test_any_retry_after_gives_seconds_within_a_day_or_none(value: str, ms: str) -> None:
    found = retry_after_s({"retry-after": value, "retry-after-ms": ms}, NOW)
    assert found is None or 0 <= found <= 86_400


@pytest.mark.parametrize(
    ("headers", "who"),
    [
        ({}, None),
        ({"server": "nginx/1.27"}, "nginx/1.27"),
        ({"x-powered-by": "Next.js"}, "the app (Next.js)"),
        ({"cf-ray": "1", "server": "cloudflare"}, "Cloudflare > cloudflare"),
        ({"x-amz-cf-id": "1", "via": "1.1 abc (CloudFront)", "server": "uvicorn"}, "CloudFront > uvicorn"),
        ({"via": "1.1 squid", "server": "gunicorn"}, "Squid > gunicorn"),
        ({"via": "1.1 edge-7", "server": "gunicorn"}, "1.1 edge-7 > gunicorn"),
        ({"cf-ray": "1", "server": "cloudflare", "openai-processing-ms": "9"}, "Cloudflare > OpenAI"),
    ],
)
def test_who_answered_is_told_by_the_headers(headers: dict[str, str], who: str | None) -> None:
    assert answered_by(headers) == who


def test_only_headers_of_the_allow_list_are_kept() -> None:
    headers = {"x-request-id": "r", "set-cookie": "s", "x-ratelimit-limit": "1", "authorization": "a", "x-own": "o"}
    assert kept_headers(headers) == {"x-request-id": "r", "x-ratelimit-limit": "1"}


# The request.


def test_a_request_is_one_message_with_its_length_and_the_last_of_each_header() -> None:
    data = request_bytes("POST", "/v1?a=b", [("Host", "h"), ("X-A", "1"), ("x-a", "2"), ("content-length", "9")], b"{}")
    assert data == b"POST /v1?a=b HTTP/1.1\r\nHost: h\r\nx-a: 2\r\nContent-Length: 2\r\n\r\n{}"


def test_what_latin_1_cannot_say_does_not_stop_a_request() -> None:
    assert b"X-Name: caf\xe9 ?\r\n" in request_bytes("GET", "/", [("X-Name", "café 語")], b"")
