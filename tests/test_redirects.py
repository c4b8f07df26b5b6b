"""Redirects: followed within one origin with method and body, at most five, counted, their time the user's."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable

import pytest

from proxy_server import proxy
from servers import ANSWER, CA, always, certificate, read_request, serving
from streamgauge.check.look import look
from streamgauge.client import StreamClient, target_from_url
from streamgauge.clock import SystemClock
from streamgauge.facts import Taking
from streamgauge.redirect import Elsewhere, redirected
from streamgauge.sample import Outcome, Sample
from streamgauge.suite.wire import wire_of
from streamgauge.target import Tls

Answers = Callable[[bytes], bytes | None]
"""What is said to a request's head; None: a whole stream."""


def asked(answers: Answers, *, secure: bool = False, times: int = 1) -> tuple[list[Sample], list[str]]:
    """The Samples, and each request's first line and number of its connection."""
    lines: list[str] = []
    conns: list[socket.socket] = []

    def talk(conn: socket.socket) -> None:
        conns.append(conn)
        while head := read_request(conn):
            lines.append(f"{len(conns)}: {head.split(bytes([13]))[0].decode()}")
            said = answers(head)
            if said is None:
                conn.sendall(ANSWER)
            else:
                conn.sendall(said)
                if b"connection: close" in said.lower():
                    return

    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(talk, certificate() if secure else None))
        one = stack.enter_context(StreamClient(f"{server.url}/v1", dialect="openai-chat", tls=Tls(ca=CA)))
        return [one.ask("hi").sample for _ in range(times)], lines


def to(location: str, status: str = "307 Temporary Redirect", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nLocation: {location}\r\n{more}Content-Length: 0\r\n\r\n".encode()


def once(location: str, status: str = "307 Temporary Redirect", more: str = "") -> Answers:
    """Send the first path on; answer every other one."""
    return lambda head: to(location, status, more) if head.startswith(b"POST /v1 ") else None


@pytest.mark.parametrize("status", ["307 Temporary Redirect", "308 Permanent Redirect"])
@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_a_redirect_within_the_origin_is_followed_with_method_and_body(status: str, *, secure: bool) -> None:
    told, lines = asked(once("/v2/chat?a=b#part", status), secure=secure)
    assert lines == ["1: POST /v1 HTTP/1.1", "1: POST /v2/chat?a=b HTTP/1.1"], "on the same connection"
    assert (told[0].outcome, told[0].redirects, told[0].http_status) == (Outcome.OK, 1, 200)


def test_a_hop_is_part_of_ttft_and_sent_is_the_first_requests() -> None:
    def answers(head: bytes) -> bytes | None:
        if head.startswith(b"POST /v1 "):
            time.sleep(0.15)
            return to("/v2")
        return None

    sample = asked(answers)[0][0]
    assert sample.sent_ns is not None
    assert sample.first_token_ns is not None
    assert sample.first_byte_ns is not None
    assert sample.first_token_ns - sample.sent_ns >= 150_000_000
    assert sample.first_byte_ns - sample.sent_ns >= 150_000_000, "the first byte is the last answer's"
    assert sample.connect_ns is not None
    assert sample.connect_ns < sample.sent_ns


def test_where_the_redirect_closes_the_connection_the_hop_takes_a_new_one_and_changes_no_stamp() -> None:
    told, lines = asked(once("/v2", more="Connection: close\r\n"), secure=True)
    sample = told[0]
    assert lines == ["1: POST /v1 HTTP/1.1", "2: POST /v2 HTTP/1.1"]
    assert (sample.outcome, sample.conn, sample.tls_resumed) == (Outcome.OK, 1, False)
    assert sample.connect_ns is not None
    assert sample.tls_ns is not None
    assert sample.sent_ns is not None
    assert sample.connect_ns <= sample.tls_ns <= sample.sent_ns


@pytest.mark.parametrize("form", ["../x/v2", "//127.0.0.1:{port}/x/v2", "HTTP://127.0.0.1:{port}/x/v2"])
def test_a_relative_address_is_taken_from_the_requests_own(form: str) -> None:
    seen: list[str] = []

    def talk(conn: socket.socket) -> None:
        while head := read_request(conn):
            seen.append(head.split(b" ")[1].decode())
            location = form.format(port=conn.getsockname()[1])
            conn.sendall(to(location) if len(seen) == 1 else ANSWER)

    with serving(talk) as server, StreamClient(f"{server.url}/a/v1", dialect="openai-chat") as one:
        assert one.ask("hi").outcome == Outcome.OK
    assert seen == ["/a/v1", "/x/v2"]


def test_five_are_followed_and_the_sixth_is_the_answer() -> None:
    told, lines = asked(lambda head: to("/v1"))
    assert (told[0].outcome, told[0].redirects, len(lines)) == (Outcome.HTTP_ERROR, 5, 6)
    assert "5 redirects in a row were followed; look for a loop" in str(told[0].error)
    assert told[0].http_status == 307


@pytest.mark.parametrize(
    "location",
    ["https://other.example/v2", "http://127.0.0.1:1/v2", "https://127.0.0.1/v2", "//other.example/v2",
     "http://me@127.0.0.1/v2", "ftp://127.0.0.1/v2", "http://[::1/v2", "http://127.0.0.1:99999/"],
)  # fmt: skip
def test_another_origin_is_not_asked_and_is_named_with_the_next_step(location: str) -> None:
    told, lines = asked(once(location))
    assert (told[0].outcome, told[0].redirects, len(lines)) == (Outcome.HTTP_ERROR, 0, 1)
    assert f"redirect to {location.replace('me@', '[redacted]@')}" in str(told[0].error)
    assert "not followed" in str(told[0].error)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other"])
def test_a_post_that_would_become_a_get_is_no_chat(status: str) -> None:
    told, lines = asked(once("/v2", status))
    assert (told[0].outcome, len(lines)) == (Outcome.HTTP_ERROR, 1)
    assert f"{status[:3]} turns a POST into a GET, which is no chat" in str(told[0].error)


@pytest.mark.parametrize("location", ["/login", "https://sso.example/authorize", "/api/auth/signin?next=/v1"])
def test_a_login_is_an_auth_error_wherever_it_lies(location: str) -> None:
    told, lines = asked(once(location))
    assert (told[0].outcome, told[0].redirects, len(lines)) == (Outcome.AUTH_ERROR, 0, 1)


def test_the_body_of_a_redirect_that_never_ends_is_not_waited_for_long() -> None:
    def answers(head: bytes) -> bytes | None:
        return to("/v2").replace(b"Length: 0", b"Length: 99") if head.startswith(b"POST /v1 ") else None

    told, lines = asked(answers)
    assert (told[0].outcome, told[0].redirects, lines[-1]) == (Outcome.OK, 1, "2: POST /v2 HTTP/1.1")


def test_a_kept_connection_that_dies_under_a_hop_is_tried_once_more() -> None:
    count = {"hops": 0}

    def answers(head: bytes) -> bytes | None:
        if head.startswith(b"POST /v1 "):
            return to("/v2")
        count["hops"] += 1
        return b"" if count["hops"] == 1 else None

    def talk(conn: socket.socket) -> None:
        while head := read_request(conn):
            said = answers(head)
            if said == b"":
                return  # dies without a byte
            conn.sendall(ANSWER if said is None else said)

    with serving(talk) as server, StreamClient(f"{server.url}/v1", dialect="openai-chat") as one:
        sample = one.ask("hi").sample
    assert (sample.outcome, sample.redirects, sample.retried) == (Outcome.OK, 1, 1)
    assert sample.sent_ns is not None


def test_a_redirect_through_a_proxy_asks_the_proxy_for_the_new_address() -> None:
    with contextlib.ExitStack() as stack:
        through, server = stack.enter_context(proxy()), stack.enter_context(serving(_redirecting))
        one = stack.enter_context(StreamClient(f"{server.url}/v1", dialect="openai-chat", proxy=through.url))
        sample = one.ask("hi").sample
    assert (sample.outcome, sample.redirects) == (Outcome.OK, 1)
    assert [head.split(b" ")[1].decode() for head in through.heads] == [f"{server.url}/v1", f"{server.url}/v2"]


def _redirecting(conn: socket.socket) -> None:
    while head := read_request(conn):
        conn.sendall(to("/v2") if head.startswith(b"POST /v1 ") else ANSWER)


def test_a_run_tells_how_often_it_was_redirected() -> None:
    taking = Taking()
    taking.add(asked(once("/v2"), times=2)[0])
    assert (
        wire_of(taking.facts()).notes()[-1].startswith("2 requests were redirected within their origin, 2 times in all")
    )


def test_check_says_what_to_do_about_a_redirect_that_is_not_followed() -> None:
    away = always("307 Temporary Redirect", {"Location": "https://other.example/v2?key=sk-planted"})
    with serving(away) as server:
        found = look(target_from_url(f"{server.url}/v1", dialect="openai-chat", model="m"), SystemClock()).findings
    status = next(one for one in found if one.what == "status")
    assert status.level == "fail"
    assert "ask for https://other.example/v2 itself" in (status.next or "")


def test_the_request_that_follows_differs_in_its_first_line_alone() -> None:
    request = b"POST /v1 HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"
    moved = redirected(request, "http://h", "/a b/\u00e9?q=\u00e9", 4)
    assert moved == request.replace(b"/v1", b"/a%20b/%C3%A9?q=%C3%A9")
    with pytest.raises(Elsewhere, match="look for a loop"):
        redirected(request, "http://h", "/v2", 5)
