"""Errors that a server writes into a stream between its events, without the form of one.

Google's APIs write the JSON of their error line by line, as google-genai expects it (HttpResponse._iter_response_stream
of 3.4.0); llama.cpp wrote a field of its own, `error: {...}` (server_sent_event in its server of 2025).
"""

from __future__ import annotations

import json

import pytest

from streamgauge.dialects import DIALECTS
from streamgauge.plan import Shot
from streamgauge.sample import Outcome, Sample
from streamgauge.stream import Limits, Stream

MS = 1_000_000
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
TEXTS = {
    "gemini": b'data: {"candidates":[{"content":{"parts":[{"text":"Hi"}]}}]}\r\n\r\n',
    "openai-chat": b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n',
    "anthropic": b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"Hi"}}\n\n',
}
BUSY = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
BARE = {
    "lines": json.dumps(BUSY, indent=2),
    "one line": json.dumps(BUSY) + "\n",
    "CRLF": json.dumps(BUSY, indent=2).replace("\n", "\r\n") + "\r\n\r\n",
}


def after(dialect: str, *reads: bytes) -> Sample:
    """The Sample of a stream that got these reads and was then closed."""
    stream = Stream(Shot(0, "t", "p", 0, "hold", 1, 0, 0), "0" * 32, DIALECTS[dialect], Limits())
    stream.on_start(0, 0)
    stream.on_sending(0)
    stream.on_sent(0)
    for number, data in enumerate(reads, 1):
        stream.on_read(number * MS, (number - 1) * MS, data)
    stream.on_close(9 * MS)
    return stream.sample()


@pytest.mark.parametrize("dialect", TEXTS)
@pytest.mark.parametrize("bare", BARE)
def test_a_bare_error_after_text_is_an_error_of_the_stream_however_it_is_cut(dialect: str, bare: str) -> None:
    rest = TEXTS[dialect] + BARE[bare].encode()
    for cut in range(len(rest)):
        sample = after(dialect, HEAD + rest[:cut], rest[cut:])
        assert (sample.outcome, sample.error) == (Outcome.STREAM_ERROR, "The model is overloaded."), cut
        assert sample.text_events == 1


@pytest.mark.parametrize("bare", [*BARE.values(), json.dumps([BUSY], indent=2)])
def test_a_bare_error_before_any_output_says_what_kind_it_is(bare: str) -> None:
    assert after("gemini", HEAD, bare.encode()).outcome is Outcome.RATE_LIMITED
    other = bare.replace("503", "500").replace("UNAVAILABLE", "INTERNAL").replace("overloaded", "gone")
    assert after("gemini", HEAD, other.encode()).outcome is Outcome.STREAM_ERROR


def test_llama_cpps_own_field_is_an_error_whatever_its_shape() -> None:
    line = b'error: {"code":500,"message":"context is full","type":"server_error"}\n\n'
    sample = after("openai-chat", HEAD + TEXTS["openai-chat"] + line)
    assert (sample.outcome, sample.error) == (Outcome.STREAM_ERROR, "context is full")


@pytest.mark.parametrize("bare", ['{"id": "no stream"}', '{\n "cut": {', "[1]", "plain words\n", "{" * 9_000 + "\n}\n"])
def test_what_is_no_error_stays_what_it_was(bare: str) -> None:
    for dialect, text in TEXTS.items():
        assert after(dialect, HEAD, bare.encode()).outcome is Outcome.PROTOCOL_ERROR
        assert after(dialect, HEAD + text + bare.encode()).outcome is Outcome.TRUNCATED
        assert after(dialect, HEAD + bare.encode() + b"\n\n" + text).text_events == 1


@pytest.mark.parametrize("one_read", [True, False])
def test_it_has_its_place_among_the_events(one_read: bool) -> None:
    error, done = b'error: {"code":500,"message":"context is full"}\n\n', b"data: [DONE]\n\n"
    reads = [HEAD + TEXTS["openai-chat"], b"field: x\n\n", error, done]
    sample = after("openai-chat", *([b"".join(reads)] if one_read else reads))
    assert (sample.outcome, sample.error) == (Outcome.STREAM_ERROR, "context is full")


@pytest.mark.parametrize("form", [b"data: %b\n\n", b"%b\n\n"])
def test_after_the_terminal_event_it_is_what_an_event_would_be_there(form: bytes) -> None:
    finish = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    sample = after("openai-chat", HEAD + TEXTS["openai-chat"] + finish + form % json.dumps(BUSY).encode())
    assert sample.outcome is Outcome.STREAM_ERROR
