"""A chunk that is no chunk: what came before it counts, however the bytes were cut into reads."""

from __future__ import annotations

import gzip

import pytest

from streamgauge.dialects import DIALECTS
from streamgauge.plan import Shot
from streamgauge.sample import Outcome, Sample
from streamgauge.stream import Limits, Stream

MS = 1_000_000
TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
BROKEN = b"zz\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def head(*more: bytes) -> bytes:
    lines = [b"HTTP/1.1 200 OK", b"content-type: text/event-stream", b"transfer-encoding: chunked", *more]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def after(*reads: bytes) -> Sample:
    """The Sample of a stream that got these reads, a millisecond apart, and then nothing until its time was up."""
    stream = Stream(Shot(0, "t", "p", 0, "hold", 1, 0, 0), "0" * 32, DIALECTS["openai-chat"], Limits())
    stream.on_start(0, 0)
    stream.on_sending(0)
    stream.on_sent(0)
    for number, data in enumerate(reads, 1):
        if not stream.done:
            stream.on_read(number * MS, (number - 1) * MS, data)
    if not stream.done:
        assert stream.deadline is not None
        stream.on_timer(stream.deadline)
    return stream.sample()


def twice(*parts: bytes) -> list[Sample]:
    """Every way to get these bytes in two reads."""
    whole = b"".join(parts)
    return [after(whole[:cut], whole[cut:]) for cut in range(1, len(whole))]


def test_text_before_a_broken_chunk_counts_and_the_stream_is_a_protocol_error_however_it_is_cut() -> None:
    for sample in twice(head(), chunk(TEXT), BROKEN):
        assert sample.outcome is Outcome.PROTOCOL_ERROR
        assert sample.text_events == 1
        assert sample.error is not None
        assert "chunk size" in sample.error


def test_a_broken_chunk_after_the_terminal_event_is_like_a_close_there() -> None:
    for sample in twice(head(), chunk(TEXT), chunk(FINISH), BROKEN):
        assert (sample.outcome, sample.text_events, sample.error) == (Outcome.OK, 1, None)
    assert after(head() + chunk(FINISH) + BROKEN).outcome is Outcome.EMPTY


@pytest.mark.parametrize("more", [(), (FINISH,)])
def test_a_compressed_answer_is_read_up_to_the_broken_chunk(more: tuple[bytes, ...]) -> None:
    body = gzip.compress(b"".join([TEXT, *more]))
    for sample in twice(head(b"content-encoding: gzip"), chunk(body), BROKEN):
        assert sample.text_events == 1
        assert sample.outcome is (Outcome.OK if more else Outcome.PROTOCOL_ERROR)
