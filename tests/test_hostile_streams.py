"""Hostile and broken servers through the pure machine: the corpus, the fuzzer, memory and time.

The bulk (10,000 cases a dialect) is the seeded generator of bench.fuzz, which knows the truth of half of its streams;
hypothesis, which shrinks what it finds, has the framing and the event stream in test_http1 and test_sse. Time is
injected: a server that is slow by the second is slow at once.
"""

from __future__ import annotations

import gzip
import resource
import sys
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from itertools import pairwise

import pytest
from bench.fuzz import WILD, facts, follow, left_behind, run
from bench.wild_streams import VOICES
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import Case, all_cases
from streamgauge.dialects import DIALECTS
from streamgauge.http1 import MOST_INFLATED, FramingError, Response
from streamgauge.plan import Shot
from streamgauge.sample import Outcome, Sample
from streamgauge.sse import SseDecoder
from streamgauge.stream import Limits, Stream

CASES, SEED = 10_000, 2_026
SLOW_S = 20.0
"""The slowest of these takes well under a second; a quadratic one would take minutes. The machine may be busy."""
READ = 65_536
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
KB = 1_024
HELD_KB, BRIEFLY_KB = 8 * KB, 96 * KB
"""What one stream may hold between two reads, and while one read is decoded (docs/operations.md)."""


def started(dialect: str = "openai-chat", limits: Limits | None = None) -> Stream:
    stream = Stream(Shot(0, "t", "p", 0, "hold", 1, 0, 0), "0" * 32, DIALECTS[dialect], limits or Limits())
    stream.on_start(0, 0)
    stream.on_sending(0)
    stream.on_sent(0)
    return stream


@pytest.mark.parametrize("dialect", VOICES)
def test_ten_thousand_wild_streams_of_a_dialect_end_as_they_must(dialect: str) -> None:
    tally = run(dialect, SEED, CASES)
    assert tally.wrong == []
    assert tally.cases == CASES
    assert tally.slowest_s < SLOW_S
    wanted = {"ok", "truncated", "dropped", "stream_error", "protocol_error", "empty", "filtered", "length_capped"}
    assert wanted | {"first_token_timeout", "stall_timeout"} <= tally.outcomes.keys()


PIECES = (TEXT, FINISH, b"data: [DONE]\n\n", b": c\n", b"\r\n", b"0\r\n\r\n", *WILD)


@given(
    st.sampled_from(sorted(DIALECTS)), st.sampled_from([b"", HEAD, HEAD[:-2] + b"transfer-encoding: chunked\r\n\r\n"]),
    st.lists(st.sampled_from(PIECES) | st.binary(max_size=6), max_size=12),
    st.lists(st.integers(0, 2_000), max_size=6), st.sampled_from(["close", "reset", "open"]),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_any_bytes_tell_the_same_whole_and_in_pieces_and_raise_nothing(
    dialect: str, head: bytes, pieces: list[bytes], cuts: list[int], close: str
) -> None:
    data = head + b"".join(pieces)
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    whole = follow(dialect, [data] if data else [], close)
    again = follow(dialect, [data[a:b] for a, b in pairwise(places) if a < b], close)
    assert facts(whole) == facts(again)


def test_wild_streams_leave_nothing_behind() -> None:
    run("anthropic", SEED, 50)
    assert left_behind("anthropic", SEED, 400) < 256 * KB


# The corpus.


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.name)
def test_a_hostile_answer_ends_as_its_file_says_however_it_is_cut(case: Case) -> None:
    whole = b"".join(case.reads)
    ways = {"as told": case.reads, "in reads of 64 KB": [whole[i : i + READ] for i in range(0, len(whole), READ)]}
    if len(whole) < 20_000:
        ways["byte by byte"] = [whole[i : i + 1] for i in range(len(whole))]
    for way, reads in ways.items():
        began = time.process_time()
        sample = follow(case.dialect, [read for read in reads if read], case.close)
        assert time.process_time() - began < SLOW_S, way
        _as_told(case, sample, way)


def _as_told(case: Case, sample: Sample, way: str) -> None:
    must = dict(case.must)
    missing, words = must.pop("none", "").split(), must.pop("error_has", "")
    found = {name: getattr(sample, name) for name in must}
    assert found == {**must, "outcome": Outcome(must["outcome"])}, f"{case.what} ({way}): {sample.error}"
    assert words in (sample.error or ""), way
    assert all(getattr(sample, name) is None for name in missing), way
    assert not any(char < " " for char in sample.error or ""), way


def test_each_file_of_the_corpus_says_what_it_is_and_what_must_come_of_it() -> None:
    cases = all_cases()
    assert len(cases) >= 60
    assert {case.dialect for case in cases} == set(DIALECTS)
    for case in cases:
        assert len(case.what) > 10, case.name
        assert case.close in ("close", "reset", "open"), case.name
        assert {"outcome", "text_events"} <= case.must.keys(), case.name


# A reset or a close at each byte.


@pytest.mark.parametrize("close", ["close", "reset"])
@pytest.mark.parametrize("framing", ["chunked", "length", "until close"])
def test_an_answer_broken_off_at_each_byte_tells_what_came_whole(framing: str, close: str) -> None:
    events = [TEXT, TEXT, FINISH, b"data: [DONE]\n\n"]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    if framing == "chunked":
        head += b"transfer-encoding: chunked\r\n\r\n"
        parts = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
        tail = b"0\r\n\r\n"
    else:
        head += b"\r\n" if framing == "until close" else b"content-length: %d\r\n\r\n" % sum(map(len, events))
        parts, tail = events, b""
    # Where each event is whole: its last byte, without the line end that closes its chunk.
    ends, at = [], len(head)
    for part in parts:
        at += len(part)
        ends.append(at - 2 if framing == "chunked" else at)
    wire = head + b"".join(parts) + tail
    for length in range(len(wire) + 1):
        sample = follow("openai-chat", [wire[:length]] if length else [], close)
        texts, ended = sum(end <= length for end in ends[:2]), ends[2] <= length
        cleanly = framing == "until close" and close == "close" and length >= len(head)
        known = sum(end <= length for end in ends)
        broken = "dropped" if not cleanly else "truncated" if known or length == len(head) else "protocol_error"
        assert (sample.outcome, sample.text_events) == ("ok" if ended else broken, texts), length


# Time, injected.


def test_one_byte_a_second_is_a_stall_once_text_came_and_counts_what_came() -> None:
    stream = started()
    stream.on_read(1, 0, HEAD + TEXT)
    at, second = 1, 1_000_000_000
    for byte in TEXT * 3:  # some 240 s
        at += second
        if stream.deadline is not None and at >= stream.deadline:
            stream.on_timer(at)
            break
        stream.on_read(at, at - second, bytes([byte]))
    assert stream.outcome is Outcome.STALL_TIMEOUT
    sample = stream.sample()
    assert sample.text_events == 1
    assert sample.longest_gap_ns == 60 * second


@pytest.mark.parametrize("sent", [b"HTTP/1.1 200 OK\r\nx-slow: " + b"a" * 200, HEAD + b": " + b"a" * 200])
def test_slow_loris_gets_no_more_than_the_time_for_the_first_token(sent: bytes) -> None:
    stream, at, second = started(), 0, 1_000_000_000
    for byte in sent:
        at += second
        if stream.deadline is not None and at >= stream.deadline:
            stream.on_timer(at)
            break
        stream.on_read(at, at - second, bytes([byte]))
    assert stream.outcome is Outcome.FIRST_TOKEN_TIMEOUT
    assert at == 60 * second


def test_an_error_body_of_a_byte_a_second_is_waited_for_a_second_only() -> None:
    stream = started()
    stream.on_read(1, 0, b"HTTP/1.1 500 Oops\r\ncontent-length: 100\r\n\r\nbroken")
    assert stream.deadline == 1_000_000_001
    stream.on_timer(stream.deadline)
    assert (stream.outcome, stream.sample().error) == (Outcome.HTTP_ERROR, "broken")


# Memory.


def _flood(kind: str) -> Iterator[bytes]:
    """Bodies without end, in reads; each is the worst of its kind."""
    number = 0
    while True:
        number += 1
        if kind == "comments":
            yield (b": " + b"x" * 1_021 + b"\n") * 64
        elif kind == "events":
            yield TEXT * 400
        elif kind == "silent events":
            yield b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n' * 500
        elif kind == "new choices":
            one = '{"index":%d,"delta":{"content":"x"}}'
            yield "".join(f'data: {{"choices":[{one % (number * 400 + i)}]}}\n\n' for i in range(400)).encode()
        elif kind == "ids":
            yield b"id: " + b"%d" % number * 6_000 + b"\n\n" + TEXT
        elif kind == "strays":
            yield b'error: {"a":1}\n' * 100 + b"\n" + TEXT
        elif kind == "unknown fields":
            yield b"x%d: y\n\n" % number * 4_000 + TEXT
        else:
            yield b'data: {"choices":[],"model":"' + b"m" * 60_000 + b'"}\n\n'


FLOODS = ("comments", "events", "silent events", "new choices", "ids", "strays", "unknown fields", "models")


@pytest.mark.parametrize("kind", FLOODS)
def test_a_stream_without_end_does_not_grow(kind: str) -> None:
    """1.5 MB of it hold no more than 256 KB did (what is kept to tell whose it is may fill up first)."""
    stream = Stream(
        Shot(0, "t", "p", 0, "hold", 1, 0, 0), "0" * 32, DIALECTS["openai-chat"], Limits(), spill=lambda part: None
    )
    stream.on_start(0, 0)
    stream.on_sent(0)
    stream.on_read(1, 0, HEAD)
    flood = _flood(kind)
    tracemalloc.start()
    try:
        sent, held = 0, []
        for kb in (256, 1_536):
            while sent < kb * KB:
                data = next(flood)
                sent += len(data)
                stream.on_read(sent, sent - 1, data)
                assert not stream.done, stream.sample().error
            del data
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert held[1] - held[0] < 150 * KB
    assert held[1] < HELD_KB * KB


WORST = {
    "a line of 1 MB": b"data: " + b"x" * 1_040_000,
    "an event of 1 MB in the shortest lines": b"data:xy\n" * 130_000,
    "lists within lists": b'data: {"choices":[],"usage":[' + b"[]," * 340_000 + b"[]]}\n\n",
    "a JSON object of many keys": b'data: {"usage":{' + b",".join(b'"%d":[]' % n for n in range(90_000)) + b"}}\n\n",
    "line ends": b"\n" * 1_040_000,
    "wide characters": b'data: {"choices":[{"delta":{"content":"' + b"\xf0\x9f\x99\x82" * 255_000 + b'"}}]}\n\n',
}  # fmt: skip


@pytest.mark.parametrize("name", WORST)
def test_one_stream_holds_no_more_memory_than_the_docs_say(name: str) -> None:
    data = WORST[name]
    reads = [data[i : i + READ] for i in range(0, len(data), READ)]
    stream = started()
    stream.on_read(1, 0, HEAD + TEXT)
    tracemalloc.start()
    try:
        for read in reads:
            if not stream.done:
                stream.on_read(2, 1, read)
        held, briefly = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < HELD_KB * KB
    assert briefly < BRIEFLY_KB * KB


def test_what_a_read_inflates_to_takes_no_more_memory_than_the_docs_say() -> None:
    """A quarter of the most that one read may inflate to takes at most a quarter of the memory."""
    stream = started()
    stream.on_read(1, 0, HEAD.replace(b"content-type", b"content-encoding: deflate\r\ncontent-type"))
    lines = b":a\n" * 340_000
    assert MOST_INFLATED / 4.2 < len(lines) < MOST_INFLATED / 4
    packed = zlib.compress(lines, 1)
    tracemalloc.start()
    try:
        stream.on_read(2, 1, packed)
        assert not stream.done, stream.sample().error
        assert tracemalloc.get_traced_memory()[1] < BRIEFLY_KB * KB / 4
    finally:
        tracemalloc.stop()


def test_a_gigabyte_of_comments_leaves_memory_where_it_was() -> None:
    stream = started()
    stream.on_read(1, 0, HEAD)
    block = (b": " + b"x" * 1_021 + b"\n") * 64
    before = _memory_kb()
    for _ in range(16 * KB):
        stream.on_read(2, 1, block)
    assert stream.bytes_in >= 1 << 30
    assert not stream.done
    stream.on_read(3, 2, TEXT + FINISH)
    stream.on_close(4)
    assert (stream.outcome, stream.output.texts) == (Outcome.OK, 1)
    assert _memory_kb() - before < 16 * KB


def _memory_kb() -> int:
    """The most memory that this process had so far."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most // KB if sys.platform == "darwin" else most


# Limits of the parts.


def _fed(response: Response, data: bytes, size: int) -> tuple[int, str]:
    """How many bytes of body came out of reads of this size, and the words of the fault that ended it."""
    came = 0
    for i in range(0, len(data), size):
        try:
            came += len(response.feed(data[i : i + size]))
        except FramingError as error:
            return came, str(error)
    return came, ""


def test_a_small_body_inflates_no_further_than_its_bound() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: deflate\r\n\r\n"
    packer = zlib.compressobj(9)
    bomb = packer.compress(b"\n" * (64 << 20)) + packer.flush()
    tracemalloc.start()
    try:
        response = Response()
        response.feed(head)
        assert "inflate to over" in _fed(response, bomb, READ)[1]
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()


def test_a_slow_bomb_is_stopped_by_all_that_it_inflated_to() -> None:
    packer = zlib.compressobj(9)
    bomb = packer.compress(b": x\n" * (4 << 20)) + packer.flush()
    response = Response()
    response.feed(b"HTTP/1.1 200 OK\r\ncontent-encoding: deflate\r\n\r\n")
    came, words = _fed(response, bomb, 100)
    assert 1 << 20 <= came < 3 << 20
    assert "inflate to over" in words


def test_what_follows_the_last_gzip_member_is_forgotten_and_not_kept() -> None:
    response = Response()
    response.feed(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n")
    assert response.feed(gzip.compress(b"data: x\n\n")) == b"data: x\n\n"
    tracemalloc.start()
    try:
        for _ in range(300):
            assert response.feed(b"\0" * READ) == b""
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_compressed_stream_of_tokens_is_far_below_the_bound() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    response = Response()
    response.feed(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n")
    decoder, events = SseDecoder(), 0
    for _ in range(30_000):  # the most alike that tokens can be: the same one, flushed each time
        events += len(decoder.feed(response.feed(packer.compress(TEXT) + packer.flush(zlib.Z_SYNC_FLUSH))))
    assert events == 30_000


def test_reads_of_every_size_tell_the_same_of_a_long_stream() -> None:
    wire = HEAD + TEXT * 200 + FINISH
    for size in (1, 2, 3, 7, 64, 1_000):
        places = range(0, len(wire) + size, size)
        sample = follow("openai-chat", [wire[a:b] for a, b in pairwise(places)], "close")
        assert (sample.outcome, sample.text_events) == ("ok", 200), size
