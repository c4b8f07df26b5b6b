"""Who is asked and how: urls to targets, the request's bytes by another parser, prompts that no cache can know."""

from __future__ import annotations

import http.client
import http.server
import io
import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge import __version__
from streamgauge.client import StreamClient, target_from_url
from streamgauge.errors import UsageError
from streamgauge.prompts import prompt_text
from streamgauge.target import Requests, Target, request_for

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class _Reads(http.server.BaseHTTPRequestHandler):
    """The standard library's parser of requests, over bytes."""

    def __init__(self, data: bytes) -> None:
        self.rfile = io.BytesIO(data)
        self.raw_requestline = self.rfile.readline()
        self.error_code: int | None = None
        assert self.parse_request(), self.error_code

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.error_code = code


def asked(target: Target, prompt: str = "Hi") -> tuple[_Reads, dict[str, Any]]:
    """The request as another parser reads it, and its body as JSON."""
    data = request_for(target, target.speaks(), prompt, TRACE, SPAN)
    read = _Reads(data)
    body = read.rfile.read()
    assert len(body) == int(read.headers["Content-Length"])
    return read, json.loads(body)


def target(url: str = "http://127.0.0.1:8000", **more: Any) -> Target:
    return target_from_url(url, dialect=more.pop("dialect", "openai-chat"), **more)


def test_one_id_names_the_request_everywhere() -> None:
    read, body = asked(target(model="m", max_tokens=32))
    headers = read.headers
    assert (read.command, read.path, read.request_version) == ("POST", "/v1/chat/completions", "HTTP/1.1")
    # https://www.w3.org/TR/trace-context/ 3.2 and the X-Ray developer guide's form of Root.
    assert re.fullmatch(rf"00-{TRACE}-{SPAN}-01", headers["traceparent"])
    assert headers["X-Amzn-Trace-Id"] == f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={SPAN};Sampled=1"
    assert (headers["Host"], headers["User-Agent"]) == ("127.0.0.1:8000", f"streamgauge/{__version__}")
    assert (headers["Accept"], headers["Accept-Encoding"]) == ("text/event-stream", "identity")
    assert (body["model"], body["stream"], body["max_tokens"]) == ("m", True, 32)
    assert body["messages"][-1] == {"role": "user", "content": "Hi"}


def test_the_targets_own_headers_win_whatever_their_case() -> None:
    own = {"user-agent": "mine/1", "ACCEPT-ENCODING": "gzip", "host": "example.com", "Authorization": "Bearer x"}
    read, _ = asked(target(headers=own))
    for name, value in own.items():
        assert read.headers.get_all(name) == [value]


@pytest.mark.parametrize("dialect", ["openai-chat", "anthropic", "gemini", "ai-sdk"])
@pytest.mark.parametrize("prompt", ["x", 'a "quoted"\r\n\\ line', "日本 🙂 \u2028", "half \ud83d", "\x00"])
def test_any_prompt_makes_a_whole_request_in_every_dialect(dialect: str, prompt: str) -> None:
    _, body = asked(target(dialect=dialect, model="m"), prompt)
    assert "\ud83d" in prompt or prompt in list(words(body)), "half a character is no text, but no reason to stop"


def words(value: object) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from words(inner)


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("http://h", "h", "/v1/chat/completions"),
        ("http://h:80/", "h", "/v1/chat/completions"),
        ("https://h:443/x", "h", "/x"),
        ("http://h:443/x", "h:443", "/x"),
        ("https://h:8443/x?a=b&c", "h:8443", "/x?a=b&c"),
        ("http://[::1]:9/x", "[::1]:9", "/x"),
        ("http://h?a=b", "h", "/v1/chat/completions?a=b"),
    ],
)
def test_a_url_is_taken_apart(url: str, authority: str, path: str) -> None:
    found = target(url)
    assert (found.authority, found.path) == (authority, path)
    assert asked(found)[0].path == path


NO_URLS = ["h", "h:80/x", "ftp://h/x", "http://", "http:///x", "http://h:99999/", "http://h:x/", "http://[::1/", ""]


@pytest.mark.parametrize("url", NO_URLS)
def test_a_url_that_is_none_is_refused_with_the_form_that_is_wanted(url: str) -> None:
    with pytest.raises(UsageError, match="http://host:port/path"):
        target(url)


@pytest.mark.parametrize("url", ["http://h/a b", "http://h/é", "http://h/x?q=a b"])
def test_a_url_that_would_break_the_request_line_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="percent-encoded"):
        target(url)


@pytest.mark.parametrize("headers", [{"X": "a\r\nInjected: 1"}, {"X\n": "a"}, {"": "a"}, {"X Y": "a"}, {"X:": "a"}])
def test_a_header_that_would_break_the_request_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="wants a name without spaces and a value without control characters"):
        target(headers=headers)
    with StreamClient("http://h/x", dialect="ai-sdk") as client, pytest.raises(UsageError, match="wants a name"):
        client.ask("x", headers=headers)


def test_secrets_of_a_target_are_in_no_repr_of_a_client() -> None:
    with StreamClient("http://h/x?key=S3cr3t-value", dialect="gemini", headers={"x-api-key": "S3cr3t-value"}) as client:
        assert "S3cr3t" not in repr(client)


def test_a_target_survives_the_line_to_a_worker() -> None:
    whole = target(model="m", headers={"a": "b"}, extra={"x": [1, {"y": None}]}, expect="^A", addresses=(("::1", 9),))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(whole), type=Target) == whole


# Prompts.

TEXTS = {"short": ("One?", "Two?", "Three?"), "long": ("Long " * 50,)}


def test_the_texts_of_a_set_come_in_turn() -> None:
    assert [prompt_text(TEXTS, "short", k, unique=None) for k in range(5)] == ["One?", "Two?", "Three?", "One?", "Two?"]
    assert prompt_text(TEXTS, "long", 7, unique=None) == TEXTS["long"][0]


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_mark_comes_first_and_is_another_for_each_request(one: str, other: str) -> None:
    first, second = (prompt_text(TEXTS, "short", 0, unique=unique) for unique in (one, other))
    assert re.fullmatch(r"\[[0-9a-f]{12}\]\nOne\?", first)
    assert (first == second) == (one == other), "nothing in common from the start on, but for the bracket"
    assert one not in first or len(one) < 6, "the trace id itself stays here"


ASKED: dict[str, tuple[Target, str]] = {
    "openai": (target(model="m", max_tokens=32), "framed"),
    "openai with extra": (target(model="m", extra={"seed": 1, "note": "50 % %(trace)s"}, system='"%d"'), "framed"),
    "anthropic": (target(dialect="anthropic", model="c", max_tokens=9), "framed"),
    "gemini": (target(dialect="gemini", model="g", max_tokens=9), "framed"),
    "own ids in headers": (target(model="m", headers=(("traceparent", "none"), ("X-Percent", "100%s"))), "framed"),
    "a body of one's own": (target(body='{"q":"{prompt}","n":{max_tokens}}', max_tokens=3), "framed"),
    "a body that names the prompt twice": (target(body='{"q":"{prompt}","again":"{prompt}"}'), "each anew"),
    "a fresh id in each": (target(body='{"q":"{prompt}","id":"{uuid}"}'), "each anew"),
    "ai-sdk": (target(dialect="ai-sdk"), "each anew"),
    "the prompt in the path": (target(url="http://127.0.0.1:8000/ask?q={prompt}", body="{prompt}"), "each anew"),
}
IDS = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.mark.parametrize("name", ASKED)
@given(st.text(max_size=60), st.uuids(), st.integers(1, 2**64 - 1))
def test_a_request_made_of_what_is_the_same_is_the_request(name: str, prompt: str, trace: uuid.UUID, span: int) -> None:
    one, how = ASKED[name]
    requests = Requests(one, one.speaks())
    assert how in repr(requests)
    ids = (trace.hex, f"{span:016x}")
    made, whole = requests.make(prompt, *ids), request_for(one, one.speaks(), prompt, *ids)
    assert IDS.sub(b"", made) == IDS.sub(b"", whole)


def test_half_a_surrogate_pair_in_a_prompt_is_the_same_question_mark_in_both() -> None:
    one = target(model="m")
    made = Requests(one, one.speaks()).make("a\udcffb", TRACE, SPAN)
    whole = request_for(one, one.speaks(), "a\udcffb", TRACE, SPAN)
    bodies = [json.loads(data.partition(b"\r\n\r\n")[2]) for data in (made, whole)]
    assert bodies[0] == bodies[1]
