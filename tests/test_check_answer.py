"""What `check` says of an answer: who gave it, what went wrong, which secret was missing, how tokens came."""

from __future__ import annotations

import socket
import unicodedata
import zlib
from array import array
from collections.abc import Callable, Iterator
from itertools import pairwise

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from made import MS, made
from servers import STREAM, WORDS, always, read_request, serving
from streamgauge.check import machine
from streamgauge.check.failure import failure_findings, sent_headers
from streamgauge.check.finding import Finding, clean, warn
from streamgauge.check.look import LENGTH, look
from streamgauge.check.pace import compression, pace
from streamgauge.client import Answer, target_from_url
from streamgauge.clock import S, SystemClock
from streamgauge.dialects.contract import TEXT
from streamgauge.sample import GOOD, Outcome
from streamgauge.simulator import Record, Simulator, start
from streamgauge.stream import Limits, Trace
from streamgauge.target import Target
from streamgauge.who import who_answered

CLOCK = SystemClock()
SHORT = {"X-Sim-Script": '[["tokens", 20, 5]]'}
QUICK = Limits(connect_ns=2 * S, first_output_ns=2 * S, stall_ns=2 * S)


def at(url: str, dialect: str = "openai-chat", headers: dict[str, str] | None = None, **more: object) -> Target:
    facts = {"model": "sim-t30-i5-n30", "limits": QUICK, **more}
    return target_from_url(url, dialect=dialect, headers=headers or {}, **facts)


def findings(target: Target, **more: object) -> dict[str, Finding]:
    return {finding.what: finding for finding in look(target, CLOCK, **more).findings}  # type: ignore[arg-type]


def told(port: int, dialect: str = "openai-chat", **more: object) -> dict[str, Finding]:
    return findings(at(f"http://127.0.0.1:{port}/v1/chat", dialect, **more))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with start() as running:
        yield running


def truth(simulator: Simulator, mine: Callable[[Record], bool]) -> list[Record]:
    """The records of a check's two requests."""
    asked = simulator.log()
    while len(found := [record for record in asked if mine(record)]) < 2:
        asked = simulator.log(at_least=len(asked) + 1)
    return found


# Who answered.


@pytest.mark.parametrize(
    ("headers", "body", "by", "way"),
    [
        ({"server": "awselb/2.0"}, b"", "the AWS load balancer itself", ()),
        ({"server": "CloudFront", "x-amz-cf-id": "a"}, b"", "CloudFront itself", ("CloudFront",)),
        ({"server": "cloudflare", "cf-ray": "1", "cf-mitigated": "challenge"}, b"",
         "Cloudflare's bot challenge", ("Cloudflare",)),
        ({"x-amzn-waf-action": "challenge", "server": "awselb/2.0"}, b"", "AWS WAF", ()),
        ({"server": "nginx"}, b"<hr><center>nginx</center>", "nginx itself", ()),
        ({"server": "nginx", "x-powered-by": "Next.js"}, b"", "the app (Next.js)", ()),
        ({"x-envoy-upstream-service-time": "3", "server": "envoy", "x-powered-by": "Express"}, b"",
         "the app (Express)", ("Envoy",)),
        ({"server": "envoy"}, b"no healthy upstream", "Envoy itself", ()),
        ({"via": "1.1 abc.cloudfront.net (CloudFront), 1.1 vegur", "openai-processing-ms": "3"}, b"", "OpenAI",
         ("CloudFront", "Heroku")),
        ({"server": "uvicorn"}, b"", "uvicorn", ()),
        ({}, b"", None, ()),
    ],
)  # fmt: skip
def test_who_answered_is_told_by_marks_in_headers_and_error_pages(
    headers: dict[str, str], body: bytes, by: str | None, way: tuple[str, ...]
) -> None:
    who = who_answered(headers, body)
    assert (who.by, who.way) == (by, way)
    assert (by or "no header tells") in who.words


def test_an_error_page_of_the_load_balancer_is_not_the_apps() -> None:
    page = always(
        "503 Service Unavailable", {"Server": "awselb/2.0", "Content-Type": "text/html"}, b"<title>503</title>"
    )
    with serving(page) as own:
        status = told(own.port)["status"]
    assert status.level == "fail"
    assert "503 Service Unavailable, answered by the AWS load balancer itself: 503" in status.text
    assert status.facts["answered_by"] == "the AWS load balancer itself"


# Secrets.


def test_a_redirect_to_a_login_tells_which_header_was_not_sent(simulator: Simulator) -> None:
    headers = {"Cookie": "session=planted-secret", "X-Sim-Fault": "login"}
    found = findings(at(simulator.endpoint("ai-sdk"), "ai-sdk", headers))
    assert "307 Temporary Redirect" in found["status"].text
    assert "redirect to /login" in found["status"].text
    assert found["auth"].text == "sent: cookie yes, x-csrf-token NO"
    assert found["auth"].facts["sent"] == {"cookie": "yes", "x-csrf-token": "no"}
    assert 'x-csrf-token = "${CSRF_TOKEN}"' in (found["auth"].next or "")
    assert "planted-secret" not in repr(found)


@pytest.mark.parametrize(
    ("dialect", "headers", "sent"),
    [
        ("openai-chat", {}, {"authorization": "no"}),
        ("openai-chat", {"Authorization": "Bearer x1234567"}, {"authorization": "yes"}),
        ("openai-chat", {"Authorization": "Bearer "}, {"authorization": "empty"}),
        ("openai-chat", {"api-key": ""}, {"api-key": "empty"}),
        ("openai-chat", {"Cookie": "a=b"}, {"cookie": "yes", "x-csrf-token": "no"}),
        ("anthropic", {"anthropic-version": "2023-06-01"}, {"x-api-key": "no"}),
        ("gemini", {}, {"x-goog-api-key": "no"}),
        ("ai-sdk", {"X-XSRF-Token": "t"}, {"x-xsrf-token": "yes", "cookie": "no"}),
        ("ai-sdk", {"X-Team": "from a variable"}, {"x-team": "yes", "cookie": "no", "x-csrf-token": "no"}),
    ],
)
def test_what_was_sent_is_told_by_names(dialect: str, headers: dict[str, str], sent: dict[str, str]) -> None:
    target = at("http://app.example/x", dialect, headers)
    assert sent_headers(target, {"x-team": ["TEAM"]}) == sent


def test_a_key_in_the_url_is_a_secret_that_was_sent() -> None:
    target = at("http://app.example/x?key=abcdefg&alt=sse", "gemini")
    assert sent_headers(target, {}) == {"key (in the url)": "yes"}


def test_a_refused_secret_is_told_by_its_variable() -> None:
    page = always(
        "401 Unauthorized", {"WWW-Authenticate": 'Bearer realm="x"'}, b'{"error":"token sk-planted-1 expired"}'
    )
    with serving(page) as own:
        target = at(f"http://127.0.0.1:{own.port}/v1", headers={"Authorization": "Bearer sk-planted-1"})
        looked = look(target, CLOCK, references={"authorization": ["APP_TOKEN"]})
    auth = looked.findings[-1]
    assert auth.text == "sent: authorization yes; the server asks for Bearer"
    assert "${APP_TOKEN} is refused: expired" in (auth.next or "")
    assert "sk-planted-1" not in repr(looked)


@pytest.mark.parametrize(
    ("status", "headers", "step"),
    [
        ("302 Found", {"Location": "https://t.cloudflareaccess.com/cdn-cgi/access/login"}, "cf-access-client-secret"),
        ("401 Unauthorized", {"Set-Cookie": "_vercel_sso_nonce=abc; Path=/"}, "x-vercel-protection-bypass"),
        ("403 Forbidden", {"Server": "cloudflare", "cf-mitigated": "challenge"}, "not the app: let this machine"),
    ],
)
def test_a_gate_before_the_app_is_told_with_what_opens_it(status: str, headers: dict[str, str], step: str) -> None:
    with serving(always(status, headers, b"no")) as own:
        assert step in (told(own.port, headers={"Authorization": "Bearer x1234567"})["auth"].next or "")


# What else can be wrong.


@pytest.mark.parametrize(
    ("status", "headers", "body", "what", "step"),
    [
        ("404 Not Found", {}, b"", "404 Not Found", "check the path"),
        ("404 Not Found", {}, b'{"error":{"message":"The model `m` does not exist"}}', "does not exist", "check model"),
        ("405 Method Not Allowed", {}, b"", "405", "takes no POST"),
        ("422 Unprocessable Content", {}, b'{"detail":"messages: field required"}', "field required", "set body"),
        ("308 Permanent Redirect", {"Location": "https://app.example/v1/?key=s3cret"}, b"", "redirect to",
         "ask for https://app.example/v1/ itself"),
        ("500 Internal Server Error", {}, b"boom \x1b[31m", "boom", "its log says more"),
        ("200 OK", {"Content-Type": "text/html"}, b"<title>Sign in</title>", "a web page", "check the path"),
        ("200 OK", {"Content-Type": "application/json"}, b'{"choices":[]}', "one whole JSON answer", "stream: true"),
        ("200 OK", {"Content-Type": "application/x-ndjson"}, b'{"a":1}\n{"a":2}\n', "JSON lines", "Ollama"),
        ("200 OK", {"Content-Type": "text/plain"}, b'0:"Hel"\n0:"lo"\n', "AI SDK 4", "toUIMessageStreamResponse"),
    ],
)  # fmt: skip
def test_each_kind_of_wrong_answer_has_its_own_next_step(
    status: str, headers: dict[str, str], body: bytes, what: str, step: str
) -> None:
    with serving(always(status, headers, body)) as own:
        looked = look(at(f"http://127.0.0.1:{own.port}/v1"), CLOCK)
    wrong = looked.findings[-1]
    assert not looked.usable
    assert what in wrong.text
    assert step in (wrong.next or "")
    assert "\x1b" not in repr(looked.findings[-1].text)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("429", Outcome.RATE_LIMITED), ("truncate", Outcome.TRUNCATED), ("empty", Outcome.EMPTY),
        ("drop", Outcome.DROPPED), ("hangup", Outcome.DROPPED), ("error", Outcome.STREAM_ERROR),
        ("overload", Outcome.RATE_LIMITED), ("garbage", Outcome.PROTOCOL_ERROR),
        ("silent", Outcome.FIRST_TOKEN_TIMEOUT),
    ],
)  # fmt: skip
def test_a_bad_end_is_a_failure_with_a_next_step(simulator: Simulator, fault: str, outcome: Outcome) -> None:
    looked = look(at(simulator.endpoint("openai-chat"), headers={"X-Sim-Fault": fault}), CLOCK)
    assert not looked.usable
    assert looked.findings[-1].facts["outcome"] == outcome
    assert looked.findings[-1].next


@pytest.mark.parametrize("spoken", ["openai-chat", "anthropic", "ai-sdk"])
def test_another_dialect_is_named(simulator: Simulator, spoken: str) -> None:
    asked = "gemini" if spoken != "ai-sdk" else "openai-chat"
    body = '{"messages":[{"role":"user","content":"{prompt}"}],"stream":true,"max_tokens":9,"model":"sim-t1-i1-n3"}'
    if spoken == "ai-sdk":
        body = '{"id":"{chat}","messages":[{"id":"{uuid}","role":"user","parts":[{"type":"text","text":"{prompt}"}]}]}'
    found = findings(at(simulator.endpoint(spoken), asked, SHORT, body=body))
    assert found["dialect"].level == "fail"
    assert (found["dialect"].facts["spoken"], found["dialect"].facts["asked"]) == (spoken, asked)
    assert f'dialect = "{spoken}"' in (found["dialect"].next or "")


# A good answer.


def test_a_good_answer_is_told_as_the_server_gave_it(simulator: Simulator) -> None:
    looked = look(at(simulator.endpoint("openai-chat"), model="sim-t30-i5-n31"), CLOCK)
    plain, _ = truth(simulator, lambda record: record.model == "sim-t30-i5-n31")
    found = {finding.what: finding for finding in looked.findings}
    assert list(found) == ["resolve", "connect", "status", "ttft", "events", "usage", "finish", "pace", "gzip", "reuse"]
    assert looked.usable
    assert plain.ttft_ns is not None
    assert -0.2 < found["ttft"].facts["ttft_service_ms"] - plain.ttft_ns / MS < 500
    assert found["usage"].facts["output_tokens"] == plain.text_tokens == found["events"].facts["text_events"]
    assert found["finish"].facts["finish"] == plain.finish
    assert plain.max_tokens == LENGTH
    assert looked.length is None, "a capped answer tells nothing of its length"
    assert looked.skew_s == pytest.approx(0, abs=2)


@pytest.mark.parametrize(("fault", "what", "words"), [
    ("no-usage", "usage", "not on the wire"), ("keep-open", "finish", "leaves the message open"),
])  # fmt: skip
def test_what_spoils_numbers_is_a_warning(simulator: Simulator, fault: str, what: str, words: str) -> None:
    looked = look(at(simulator.endpoint("openai-chat"), headers={"X-Sim-Fault": fault}), CLOCK)
    found = {finding.what: finding for finding in looked.findings}
    assert looked.usable
    assert found[what].level == "warn"
    assert words in found[what].text


def test_the_length_of_an_answer_without_a_cap_is_what_the_server_sent(simulator: Simulator) -> None:
    prompt = "one of the run's own prompts"
    looked = look(at(simulator.endpoint("ai-sdk"), "ai-sdk", SHORT), CLOCK, prompt=prompt)
    plain, _ = truth(simulator, lambda record: record.prompt_chars == len(prompt))
    assert looked.length is not None
    assert looked.length[0] == plain.text_tokens == 20


def test_an_answer_that_is_longer_than_we_wait_is_usable(simulator: Simulator) -> None:
    target = at(simulator.endpoint("openai-chat"), headers={"X-Sim-Fault": "endless:20ms"})
    looked = look(msgspec.structs.replace(target, limits=Limits(total_ns=S)), CLOCK)
    found = {finding.what: finding for finding in looked.findings}
    assert looked.usable
    assert (found["finish"].level, found["finish"].facts["outcome"]) == ("warn", "total_timeout")


# Pace and compression.


def script(simulator: Simulator, *steps: str) -> Finding:
    return findings(at(simulator.endpoint("openai-chat"), headers={"X-Sim-Script": f"[{','.join(steps)}]"}))["pace"]


def test_an_answer_in_one_piece_is_buffered(simulator: Simulator) -> None:
    found = script(simulator, '["merge", 12]', '["tokens", 12, 0]')
    assert found.level == "warn"
    assert "came in one read" in found.text
    assert "buffered" in found.text
    assert "proxy_buffering off" in (found.next or "")


def test_lumps_are_told_with_size_and_distance(simulator: Simulator) -> None:
    found = script(simulator, '["lump", 250]', '["tokens", 60, 20]')
    assert found.level == "warn"
    assert "lumps of" in found.text
    assert 200 <= found.facts["median_gap_ms"] <= 350
    assert "option http-no-delay" in (found.next or "")


def came(*reads: tuple[int, int], sent_ms: float = 0, **headers: str) -> Answer:
    """An answer whose text came in reads (ms, events)."""
    events = [Trace(at_ms * MS, 0, "", b"", TEXT) for at_ms, n in reads for _ in range(n)]
    first, last = reads[0][0] * MS, reads[-1][0] * MS
    gaps = array("I", [1_000 * (b - a) for (a, _), (b, _) in pairwise(reads)]).tobytes()
    sample = msgspec.structs.replace(
        made(), sent_ns=round(sent_ms * MS), first_token_ns=first, first_output_ns=first, last_output_ns=last, gaps=gaps
    )
    return Answer(sample, "", events, headers, None, b"")


@pytest.mark.parametrize(
    ("reads", "level", "words"),
    [
        ([(2_000, 20), (2_001, 20), (2_002, 20)], "warn", "came within 2.0 ms, 2,000 ms after sending"),
        ([(10, 4), (11, 4), (12, 4)], "ok", "too soon over to tell"),  # a quick server, not a slow buffer
        ([(100 + 20 * k, 1) for k in range(30)], "ok", "not buffered: 30 text events in 30 reads"),
        ([(100 + 20 * k, 2) for k in range(30)], "ok", "not buffered"),
        ([(100, 3)], "ok", "too few to tell"),
    ],
)
def test_pace_is_judged_by_reads(reads: list[tuple[int, int]], level: str, words: str) -> None:
    found = pace(came(*reads))
    assert (found.level, words in found.text) == (level, True), found


@pytest.mark.parametrize(
    ("plain", "offered", "level", "words"),
    [
        ([(50, 1), (60, 1), (70, 1), (80, 1)], [(50, 1), (60, 1), (70, 1), (80, 1)], "ok", "flushed token by token"),
        (
            [(50, 1), (60, 1), (70, 1), (80, 1)],
            [(80, 4)],
            "warn",
            "1 reads instead of 4, the first after 80 ms instead",
        ),
        ([(50, 1), (60, 1)], [(900, 1), (910, 1)], "warn", "first text after 900 ms instead of 50 ms"),
        ([(50, 4), (60, 4)], [(50, 5), (60, 5)], "ok", "flushed"),  # the model said more, not the compression
    ],
)
def test_compression_is_judged_by_events_a_read_and_by_the_first_one(
    plain: list[tuple[int, int]], offered: list[tuple[int, int]], level: str, words: str
) -> None:
    found = compression(came(*plain), came(*offered, **{"content-encoding": "gzip"}))
    assert (found.level, words in found.text) == (level, True), found


@pytest.mark.parametrize(("way", "level", "words"), [
    ("flush", "ok", "compressed (gzip), flushed token by token"), ("buffered", "warn", "tokens come merged"),
])  # fmt: skip
def test_gzip_of_a_real_server_is_decoded_as_it_comes(way: str, level: str, words: str) -> None:
    with start(gzip=way) as simulator:
        found = findings(at(simulator.endpoint("openai-chat")))
    assert (found["gzip"].level, words in found["gzip"].text) == (level, True), found["gzip"]
    assert found["pace"].level == "ok"


@pytest.mark.parametrize("raw", [False, True], ids=["zlib", "raw"])
def test_deflate_is_decoded_as_it_comes(raw: bool) -> None:
    def answer(sock: socket.socket) -> None:
        while asked := read_request(sock).lower():
            deflate = b"accept-encoding: gzip, deflate" in asked
            encoding = "Content-Encoding: deflate\r\n" if deflate else ""
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{encoding}Transfer-Encoding: chunked\r\n\r\n"
            sock.sendall(head.encode())
            packer = zlib.compressobj(wbits=-zlib.MAX_WBITS if raw else zlib.MAX_WBITS)
            for event in WORDS:
                data = packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH) if deflate else event
                sock.sendall(b"%x\r\n%s\r\n" % (len(data), data))
                CLOCK.sleep_until(CLOCK.now() + 10 * MS)
            sock.sendall(b"0\r\n\r\n")

    with serving(answer) as own:
        found = told(own.port)
    assert found["gzip"].facts["content_encoding"] == "deflate"
    assert found["gzip"].facts["outcome"] == "ok"
    assert found["gzip"].level == "ok", found["gzip"]


def test_a_server_that_fails_only_where_compression_is_offered_is_told() -> None:
    def answer(sock: socket.socket) -> None:
        if b"accept-encoding: identity" in read_request(sock).lower():
            body = b"".join(WORDS)
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n"
            sock.sendall(head.encode() + body)
        else:
            sock.sendall(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")

    with serving(answer) as own:
        gzip = told(own.port)["gzip"]
    assert (gzip.level, gzip.facts["outcome"]) == ("warn", "http_error")


# This machine, and the lines themselves.


def test_the_machines_clock_and_limits_are_judged() -> None:
    good = machine.clock(uncertainty_ns=120, kernel_stamps=True, skew_s={"app": 0.4})
    assert (good.level, good.text) == ("ok", "kernel clock mapped to within 0.1 us, read by the compiled part")
    off = machine.clock(uncertainty_ns=120, kernel_stamps=True, skew_s={"app": -312.0, "other": 6.0})
    assert (off.level, "312 s behind the Date of app" in off.text) == ("warn", True)
    assert machine.clock(uncertainty_ns=9, kernel_stamps=False, skew_s={}).level == "warn"
    room = {"needed": 164, "workers": 1, "cores": 2, "load": 0.3}
    assert machine.limits(descriptors=1_024, streams=100, **room).level == "ok"  # type: ignore[arg-type]
    tight = machine.limits(descriptors=128, streams=100, **room)  # type: ignore[arg-type]
    assert (tight.level, "ulimit -n" in (tight.next or "")) == ("fail", True)
    busy = machine.limits(descriptors=1_024, streams=100, needed=164, workers=1, cores=2, load=5.2)
    assert (busy.level, "load 5.2" in busy.text) == ("warn", True)


def test_no_secret_and_no_control_character_is_left_in_a_finding() -> None:
    wild = warn("a", "sk-1 \x1b[2J\r\n", "do sk-1", deep={"sk-1": ["sk-1", 3, None, "\x07"]})
    assert clean(wild, lambda text: text.replace("sk-1", "***")) == warn(
        "a", "*** \ufffd[2J", "do ***", deep={"***": ["***", 3, None, "\ufffd"]}
    )


def test_how_long_a_rate_limit_wants_us_to_wait_is_told(simulator: Simulator) -> None:
    status = findings(at(simulator.endpoint("openai-chat"), headers={"X-Sim-Fault": "429"}))["status"]
    assert "429 Too Many Requests" in status.text
    assert ", Retry-After 1 s: " in status.text
    assert status.facts["retry_after_s"] == 1.0


NAMES = st.sampled_from(
    ["server", "via", "location", "www-authenticate", "set-cookie", "x-powered-by", "content-type", "cf-ray", "date"]
)


@given(
    headers=st.dictionaries(NAMES, st.text(max_size=40)), body=st.binary(max_size=60), words=st.text(max_size=60),
    outcome=st.sampled_from(sorted(set(Outcome) - GOOD)), status=st.sampled_from([None, 200, 302, 400, 401, 404, 799]),
)  # fmt: skip
@example({"location": "http://[broken"}, b"", "x", Outcome.HTTP_ERROR, 302)
def test_whatever_a_server_says_there_is_one_printable_failure(
    headers: dict[str, str], body: bytes, words: str, outcome: Outcome, status: int | None
) -> None:
    sample = msgspec.structs.replace(made(outcome=outcome), http_status=status, error=words)
    answer = Answer(sample, "", [], headers, None, body)
    who = who_answered(headers, body)
    found = list(failure_findings(at("http://a.example/x"), answer, who, references={}, expects_tls=False))
    assert found[-1].level == "fail"
    shown = [clean(finding, str) for finding in found]
    told = "".join(finding.text + (finding.next or "") for finding in shown)
    assert not {unicodedata.category(char) for char in told} & {"Cc", "Cs", "Zl", "Zp"}
    assert "\u202e" not in told


def test_a_stream_without_a_server_header_names_nobody() -> None:
    with serving(STREAM) as own:
        assert told(own.port)["status"].text == "200 OK, no header tells who answered"
