"""The stream machine by tables: reads with their times go in, the facts that follow by the rules come out."""

from __future__ import annotations

import gzip
import json
import re
from array import array
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from streamgauge.dialects import DIALECTS
from streamgauge.dialects.contract import TEXT
from streamgauge.output import Output
from streamgauge.plan import Shot
from streamgauge.sample import GapsPart, Outcome, Sample
from streamgauge.stream import Limits, Stream

MS = 1_000_000
S = 1_000 * MS
T0 = 5_000_000 * MS
ID = "ab" * 16
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TO_CLOSE = HEAD.replace(b"Transfer-Encoding: chunked\r\n", b"")
LIMITS = Limits(connect_ns=1_000 * MS, first_output_ns=6_000 * MS, stall_ns=4_000 * MS)


def event(**delta: object) -> bytes:
    """One event of openai-chat in its own chunk."""
    finish = delta.pop("finish", None)
    return data({"model": "m-1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def data(value: object) -> bytes:
    text = b"data: %s\n\n" % (value if isinstance(value, bytes) else json.dumps(value).encode())
    return b"%x\r\n%s\r\n" % (len(text), text)


T = event(content="Hi")
R = event(reasoning_content="hm")
TOOL = event(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": "{"}}])
ROLE = event(role="assistant", content="")
STOP = event(finish="stop")
LENGTH = event(finish="length")
FILTER = event(finish="content_filter")
USAGE = data({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 7}})
DONE = data(b"[DONE]")
ERROR = data({"error": {"message": "broke", "type": "server_error"}})
OVERLOAD = data({"error": {"message": "busy", "type": "overloaded_error"}})
UNKNOWN = data({"object": "note"})
MALFORMED = data(b'{"cut": tru')
COMMENT = b"d\r\n: keep-alive\n\r\n"
LAST = b"0\r\n\r\n"


def stream(dialect: str = "openai-chat", limits: Limits = LIMITS, **more: Any) -> Stream:
    """A stream whose request went out at T0 on a new connection."""
    made = Stream(Shot(3, "app", "short", 0, "hold", 4, 2, T0 - MS), ID, DIALECTS[dialect], limits, **more)
    made.on_start(T0, 0)
    made.on_connected(T0)
    made.on_sending(T0)
    made.on_sent(T0)
    return made


def fed(*reads: tuple[float, float, bytes], made: Stream | None = None) -> Stream:
    """A stream after these reads (arrival, look in ms after T0; bytes), as the loop would feed them."""
    made = made or stream()
    for stamp, look, piece in reads:
        if not made.done:
            made.on_read(T0 + round(stamp * MS), T0 + round(look * MS), piece)
    return made


def ended(made: Stream, at_ms: float = 60_000) -> Sample:
    """Its Sample; closed at `at_ms` where it had not ended."""
    made.on_close(T0 + round(at_ms * MS))
    assert made.done
    return made.sample()


def ms(sample: Sample, name: str) -> float | None:
    """A stamp in ms after T0."""
    ns = getattr(sample, f"{name}_ns")
    return None if ns is None else (ns - T0) / MS


def gaps(sample: Sample) -> list[float]:
    return [us / 1_000 for us in array("I", sample.gaps)]


# How sure a stamp is.


@pytest.mark.parametrize(
    ("reads", "first", "slack", "last_slack", "merged"),
    [
        pytest.param([(10, 4, T)], 10, 0, 0, 0, id="an event that ends its read is exact"),
        pytest.param([(10, 4, T + T)], 10, 6, 0, 1, id="an earlier event came between look and stamp"),
        pytest.param([(10, 9.5, T + T)], 10, 0.5, 0, 0, id="a slack below 1 ms is no merging of ours"),
        pytest.param([(10, 4, T + T + T)], 10, 6, 0, 2, id="each early event of a read is merged"),
        pytest.param([(10, 4, T + T[:9])], 10, 6, 6, 1, id="the beginning of a next event makes it early"),
        pytest.param([(10, 4, T + T[:4])], 10, 6, 6, 1, id="so does the head of the next chunk"),
        pytest.param([(10, 4, T[:9]), (12, 11, T[9:])], 12, 0, 0, 0, id="a cut event came with its last part"),
        pytest.param([(10, 4, T[:-2]), (12, 11, T[-2:])], 10, 0, 0, 0, id="the end of its chunk is not the event's"),
        pytest.param([(10, 4, COMMENT + T)], 10, 0, 0, 0, id="a comment before it changes nothing"),
        pytest.param([(10, 4, T + COMMENT)], 10, 6, 6, 1, id="a comment behind it makes it early"),
        pytest.param([(10, 4, T + STOP + DONE + LAST)], 10, 6, 6, 1, id="the end of the message makes it early"),
        pytest.param([(10, 12, T + T)], 10, 0, 0, 0, id="a look behind the stamp is no slack"),
    ],
)
def test_slack_says_how_sure_an_arrival_is(
    reads: list[tuple[float, float, bytes]], first: float, slack: float, last_slack: float, merged: int
) -> None:
    sample = ended(fed((1, 0, HEAD), *reads))
    assert ms(sample, "first_token") == first
    assert sample.first_token_slack_ns == sample.first_output_slack_ns == slack * MS
    assert sample.last_output_slack_ns == last_slack * MS
    assert sample.merged_events == merged


def test_a_full_read_may_have_had_more_behind_it() -> None:
    made = fed((1, 0, HEAD))
    made.on_read(T0 + 10 * MS, T0 + 4 * MS, T, full=True)
    assert ended(made).first_token_slack_ns == 6 * MS


def test_a_stamp_of_our_own_clock_is_never_exact_either_where_an_event_is_all_of_a_read() -> None:
    made = stream(keep_events=True)
    made.kernel_stamps = False
    fed((8, 2, HEAD + T), (10, 4, T), made=made)
    assert made.events is not None
    assert [event.slack_ns for event in made.events] == [6 * MS, 6 * MS]


def test_a_stamp_of_our_own_clock_is_never_exact() -> None:
    """It says when we read: where the kernel does not stamp, the last event of a read came since the last look too."""
    made = stream()
    made.kernel_stamps = False
    assert ended(fed((1, 0, HEAD), (10, 4, T), made=made)).first_token_slack_ns == 6 * MS


def test_first_byte_headers_and_events_have_their_own_times() -> None:
    sample = ended(
        fed((1, 0, HEAD[:20]), (2, 1, HEAD[20:]), (3, 2, ROLE), (4, 3, R), (5, 4, T), (6, 5, TOOL), (7, 6, STOP))
    )
    names = ("first_byte", "headers", "first_event", "first_output", "first_reasoning", "first_token", "last_output")
    assert [ms(sample, name) for name in names] == [1, 2, 3, 4, 4, 5, 6]
    assert (sample.first_byte_slack_ns, sample.first_reasoning_slack_ns) == (MS, 0)
    assert (sample.text_events, sample.reasoning_events, sample.tool_events, sample.output_reads) == (1, 1, 1, 3)
    assert sample.bytes_in == len(HEAD + ROLE + R + T + TOOL + STOP)


# Gaps and stalls.


@pytest.mark.parametrize(
    ("reads", "found", "longest", "stalls"),
    [
        ([(10, T)], [], None, 0),
        ([(10, T), (15, T), (35, T)], [5, 20], 20, 0),
        ([(10, T + T), (15, T + T)], [5], 5, 0),
        ([(10, T), (10, T), (15, T)], [5], 5, 0),
        ([(10, T), (12, R), (15, T), (18, T)], [3], 3, 0),
        ([(10, T), (12, TOOL), (15, T)], [], 3, 0),
        ([(10, T + R), (15, T)], [], 5, 0),
        ([(10, R + T), (15, T)], [5], 5, 0),
        ([(10, T), (12, ROLE), (13, UNKNOWN), (14, COMMENT), (15, T)], [5], 5, 0),
        ([(10, R), (2_011, R)], [], 2_001, 1),
        ([(10, T), (2_010, T)], [2_000], 2_000, 0),
        ([(10, T), (1_500, ROLE), (2_600, T), (5_600, T)], [2_590, 3_000], 3_000, 2),
        ([(10, T), (10.002, T), (10.0046, T)], [0.002, 0.003], 0.0026, 0),
    ],
)
def test_gaps_lie_between_consecutive_reads_with_text_and_stalls_between_any_output(
    reads: list[tuple[float, bytes]], found: list[float], longest: float | None, stalls: int
) -> None:
    sample = ended(fed((1, 0, HEAD), *[(at, at - 0.1, piece) for at, piece in reads]), reads[-1][0])
    assert gaps(sample) == found
    assert sample.longest_gap_ns == (None if longest is None else longest * MS)
    times = sorted({at for at, piece in reads if piece not in (ROLE, UNKNOWN, COMMENT)})
    assert sample.stalls == stalls
    assert sample.stalled_ns == sum(round((b - a) * MS) for a, b in pairwise(times) if b - a > 2_000)


def test_a_step_boundary_breaks_the_gap() -> None:
    def say(kind: str, **more: object) -> bytes:
        return data({"type": kind, **more})

    text = say("text-delta", id="1", delta="a")
    reads = [text, text, say("finish-step"), say("start-step"), text, text]
    head = (0, 0, HEAD.replace(b"\r\n\r\n", b"\r\nx-vercel-ai-ui-message-stream: v1\r\n\r\n"))
    sample = ended(fed(head, *[(at, at, piece) for at, piece in enumerate(reads, 1)], made=stream("ai-sdk")))
    assert gaps(sample) == [1, 1]
    assert sample.text_events == 4


@pytest.mark.parametrize("events", [4_096, 4_097, 4_098, 9_000])
def test_gaps_past_16_kb_are_handed_on_in_order_and_none_is_lost(events: int) -> None:
    parts: list[GapsPart] = []
    made = fed((0, 0, HEAD), made=stream(spill=parts.append))
    at = 0
    for number in range(events):
        at += 1 + number % 7
        fed((at, at, T), made=made)
    sample = ended(made, at)
    assert [(part.id, part.part) for part in parts] == [(ID, number) for number in range(sample.gap_parts)]
    assert all(len(part.gaps) <= 16_384 for part in parts)
    assert len(sample.gaps) < 16_384
    whole = array("I", b"".join(part.gaps for part in parts) + sample.gaps)
    assert list(whole) == [1_000 * (1 + number % 7) for number in range(1, events)]


# How it ends: the first cause in time wins.

PLAIN_502 = b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 16\r\n\r\n<title>x</title"
BROTLI_502 = b"HTTP/1.1 502 Bad\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\n\x0b\x00"


@pytest.mark.parametrize(
    ("wire", "outcome"),
    [
        pytest.param(HEAD + T + STOP + DONE + LAST, "ok", id="whole"),
        pytest.param(HEAD + T + DONE + LAST, "ok", id="only the last word"),
        pytest.param(HEAD + T + STOP, "ok", id="closed after the terminal event"),
        pytest.param(HEAD + T + LENGTH + LAST, "length_capped", id="the token limit"),
        pytest.param(HEAD + T + FILTER + LAST, "filtered", id="the content filter"),
        pytest.param(HEAD + T + LAST, "truncated", id="a whole message without terminal event"),
        pytest.param(HEAD + LAST, "truncated", id="nothing at all"),
        pytest.param(HEAD + COMMENT + LAST, "truncated", id="only comments"),
        pytest.param(HEAD + T, "dropped", id="closed within the message"),
        pytest.param(HEAD, "dropped", id="closed behind the headers"),
        pytest.param(HEAD[:30], "dropped", id="closed within the headers"),
        pytest.param(b"", "dropped", id="closed before a byte"),
        pytest.param(TO_CLOSE + b"data: x", "protocol_error", id="until close, and not of this dialect"),
        pytest.param(HEAD + STOP + DONE + LAST, "empty", id="an end without output"),
        pytest.param(HEAD + ROLE + DONE + LAST, "empty", id="a role is no output"),
        pytest.param(HEAD + ERROR + LAST, "stream_error", id="an error in the stream"),
        pytest.param(HEAD + T + ERROR + STOP + DONE + LAST, "stream_error", id="an error, then an end"),
        pytest.param(HEAD + OVERLOAD + LAST, "rate_limited", id="overload before any output"),
        pytest.param(HEAD + T + OVERLOAD + LAST, "stream_error", id="overload within the answer"),
        pytest.param(HEAD + T + ERROR + b"garbage\r\n", "stream_error", id="an error, then garbage"),
        pytest.param(HEAD + T + STOP + b"garbage\r\n", "ok", id="an end, then garbage"),
        pytest.param(HEAD + T + b"garbage\r\n", "protocol_error", id="garbage within the answer"),
        pytest.param(HEAD + UNKNOWN + MALFORMED + LAST, "protocol_error", id="no event of this dialect"),
        pytest.param(HEAD + UNKNOWN + T + STOP + LAST, "ok", id="an unknown event before"),
        pytest.param(PLAIN_502 + b">", "http_error", id="an error page"),
        pytest.param(PLAIN_502, "http_error", id="an error page cut short"),
        pytest.param(BROTLI_502, "http_error", id="an error page nobody can unpack"),
        pytest.param(BROTLI_502.replace(b"502", b"429"), "rate_limited", id="429 nobody can unpack"),
        pytest.param(b"HTTP/1.1 503 X\r\nContent-Length: 10\r\n\r\noverloaded", "rate_limited", id="503 overloaded"),
        pytest.param(b"HTTP/1.1 401 X\r\nContent-Length: 0\r\n\r\n", "auth_error", id="401"),
        pytest.param(b"HTTP/1.1 302 X\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", "auth_error", id="a login"),
        pytest.param(b"HTTP/1.1 302 X\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "http_error", id="moved"),
        pytest.param(b"HTTP/1.1 204 X\r\n\r\n", "http_error", id="204"),
        pytest.param(HEAD.replace(b"text/event-stream", b"application/json") + LAST, "protocol_error", id="JSON"),
        pytest.param(b"220 mail.example ESMTP\r\n", "protocol_error", id="no HTTP"),
    ],
)
@pytest.mark.parametrize("cut", [1, 7, 100_000])
def test_the_bytes_decide_the_outcome_and_not_how_they_were_cut(wire: bytes, outcome: str, cut: int) -> None:
    reads = [(1 + i / 1_000, i / 1_000, wire[i : i + cut]) for i in range(0, len(wire), cut)]
    sample = ended(fed(*reads))
    assert sample.outcome == outcome
    assert (sample.error is not None) == (outcome not in ("ok", "length_capped", "filtered"))


def test_a_first_event_longer_than_64_kb_is_an_event() -> None:
    wire = event(content="long " * 40_000) + STOP + LAST
    sample = ended(fed((1, 0, HEAD), *[(2 + i / 1e6, 1, wire[i : i + 65_536]) for i in range(0, len(wire), 65_536)]))
    assert (sample.outcome, sample.text_events) == (Outcome.OK, 1)


def test_64_kb_without_an_event_of_the_dialect_are_enough() -> None:
    made = fed((1, 0, TO_CLOSE), *[(2 + i, 1 + i, b'{"response": "Ollama"}\n' * 100) for i in range(40)])
    assert made.done
    sample = made.sample()
    assert sample.outcome is Outcome.PROTOCOL_ERROR
    assert 'no event of this dialect; it begins: {"response": "Ollama"}' in (sample.error or "")


def test_an_answer_that_does_not_match_is_wrong() -> None:
    wire = T + STOP + LAST
    assert ended(fed((1, 0, HEAD + wire), made=stream(expect=re.compile("Oslo")))).outcome is Outcome.WRONG_ANSWER
    assert ended(fed((1, 0, HEAD + wire), made=stream(expect=re.compile("^Hi$")))).outcome is Outcome.OK
    assert ended(fed((1, 0, HEAD + LENGTH), made=stream(expect=re.compile("x")))).outcome is Outcome.EMPTY


def test_what_ended_it_first_stays() -> None:
    made = fed((1, 0, HEAD + T))
    made.fail(T0 + 5 * MS, Outcome.CANCELLED, "by the plan")
    made.fail(T0 + 6 * MS, Outcome.UNREACHABLE, "later")
    made.on_close(T0 + 7 * MS, reset="later still")
    sample = made.sample()
    assert (sample.outcome, sample.error, ms(sample, "end")) == ("cancelled", "by the plan", 5)


def test_usage_behind_the_terminal_event_is_awaited_and_the_end_is_the_messages() -> None:
    sample = ended(fed((1, 0, HEAD), (5, 4, T), (6, 5, STOP), (20, 19, USAGE), (30, 29, DONE + LAST)))
    assert (sample.input_tokens, sample.output_tokens, sample.streamed_tokens) == (9, 7, 7)
    assert (ms(sample, "end"), sample.kept_open, sample.finish, sample.model) == (30, False, "stop", "m-1")


def test_gzip_is_read_as_it_comes() -> None:
    body = gzip.compress(b"data: " + json.dumps({"choices": [{"delta": {"content": "x"}}]}).encode() + b"\n\n")
    head = TO_CLOSE.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
    sample = ended(fed((1, 0, head), (9, 8, body)))
    assert (sample.outcome, ms(sample, "first_token"), sample.first_token_slack_ns) == ("truncated", 9, 0)


def test_secrets_go_before_a_text_is_cut() -> None:
    secret = "S3cr3t-value"
    head = HEAD.replace(b"\r\n\r\n", b"\r\nX-Request-Id: %s\r\nServer: %s\r\n\r\n" % (
        b"r" * 295 + secret.encode(), b"s" * 115 + secret.encode()))  # fmt: skip
    model = data({"model": "m" * 115 + secret, "choices": []})
    made = fed((1, 0, head + model + event(finish="f" * 55 + secret) + LAST))
    sample = made.sample(lambda text: text.replace(secret, "***"))
    told = msgspec.json.encode(sample)
    assert b"S3cr" not in told
    assert b"***" in told


@pytest.mark.parametrize("together", [True, False])
def test_a_pause_of_hours_is_told_whole_and_its_gap_as_the_longest_that_can_be_written(together: bool) -> None:
    output, stamps = Output("0" * 32, None), [S + 20 * MS, 7_201 * S, 7_201 * S + 1_499]
    output.event(TEXT, S, 0)
    output.read_over(S)
    for some in [stamps] if together else [[stamp] for stamp in stamps]:
        output.alike(some)
    assert list(output.gaps) == [20_000, 0xFFFF_FFFF, 1]
    assert (output.longest_gap, output.stalls, output.stalled_ns) == (7_200 * S - 20 * MS, 1, 7_200 * S - 20 * MS)
