"""The event-stream decoder against the WHATWG rules (html.spec.whatwg.org, 9.2.5, 9.2.6), each by name.

Every rule is tried three ways: fed whole, byte by byte, and with bytes of a next event behind it. Wild input is
compared with `reference`, which follows the standard's text character by character and shares nothing with the decoder.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamgauge.sse import LIMIT_BYTES, SseDecoder, SseOverflow

Events = list[tuple[str, bytes]]


def feed_in_pieces(decoder: SseDecoder, data: bytes, cuts: list[int]) -> Events:
    edges = [0, *sorted({c for c in cuts if 0 < c < len(data)}), len(data)]
    return [event for a, b in pairwise(edges) for event in decoder.feed(data[a:b])]


def reference(data: bytes) -> tuple[Events, int, int | None, str, bool]:
    """(events, comments, retry, last event id, whether something is unfinished), by the letter of the standard."""
    if data[:3] == b"\xef\xbb\xbf":
        data = data[3:]
    lines: list[bytes] = []
    line = bytearray()
    at = 0
    while at < len(data):
        if data[at] in (10, 13):
            lines.append(bytes(line))
            line.clear()
            if data[at] == 13 and data[at + 1 : at + 2] == b"\n":
                at += 1
        else:
            line.append(data[at])
        at += 1
    events: Events = []
    comments, retry, last_id, buffer_id = 0, None, "", ""
    buffer, kind, begun = b"", "", False
    for text in lines:
        if text == b"":
            last_id, begun = buffer_id, False
            if buffer != b"":
                events.append((kind or "message", buffer[:-1]))
            buffer, kind = b"", ""
            continue
        if text[:1] == b":":
            comments += 1
            continue
        begun = True
        name, value = text, b""
        if b":" in text:
            where = text.index(b":")
            name, value = text[:where], text[where + 1 :]
            if value[:1] == b" ":
                value = value[1:]
        if name == b"event":
            kind = value.decode("utf-8", "replace")
        elif name == b"data":
            buffer += value + b"\n"
        elif name == b"id" and 0 not in value:
            buffer_id = value.decode("utf-8", "replace")
        elif name == b"retry" and value and all(48 <= c <= 57 for c in value):
            retry = int(value)
    return events, comments, retry, last_id, begun or bool(line)


def message(data: bytes) -> tuple[str, bytes]:
    return ("message", data)


RULES: list[tuple[str, bytes, Events]] = [
    # 9.2.5: the format of the stream.
    ("an empty stream has no events", b"", []),
    ("a stream of a byte order mark alone has no events", b"\xef\xbb\xbf", []),
    ("lines may end with LF", b"data: x\ndata: y\n\n", [message(b"x\ny")]),
    ("a comment may be empty and may hold anything", b":\n::\n:data: no\n:\xff\x00\n\ndata: x\n\n", [message(b"x")]),
    ("any character but a colon may stand in a name", b"da ta: n\n\xff: n\n\x00: n\ndata: x\n\n", [message(b"x")]),
    # 9.2.6: how it is read.
    ("only the first colon divides name and value", b"data: a: b:c\n\n", [message(b"a: b:c")]),
    ("a line without a colon is a name with an empty value", b"event: a\nevent\ndata\n\n", [message(b"")]),
    ("names are compared literally, without case folding", b"Data: n\ndATA: n\nEvent: n\ndata: x\n\n", [message(b"x")]),
    ("a space before the name makes another name", b" data: n\n\tdata: n\ndata: x\n\n", [message(b"x")]),
    ("only U+0020 behind the colon is dropped, no tab", b"data:\tx\ndata:\xc2\xa0y\n\n", [message(b"\tx\n\xc2\xa0y")]),
    ("white space at the end of a value stays", b"data: x \nevent: a \n\n", [("a ", b"x ")]),
    ("an empty data buffer dispatches nothing", b"id: 1\nevent: a\n\n", []),
    ("a data buffer of one line end is an event without data", b"data\n\n", [message(b"")]),
    ("one LF is taken from the end of the data buffer, not more", b"data: x\ndata\ndata\n\n", [message(b"x\n\n")]),
    ("buffers are empty after an event", b"event: a\ndata: x\n\ndata: y\n\n", [("a", b"x"), message(b"y")]),
    ("fields may stand in any order", b"id: 1\ndata: x\nretry: 5\nevent: a\ndata: y\n\n", [("a", b"x\ny")]),
    ("the end of the file discards what is pending", b"data: x\n\nevent: a\ndata: y\n:c\n", [message(b"x")]),
    ("a block of one data line is a message", b"data: {}\n\n", [message(b"{}")]),
    ("a leading byte order mark is dropped", b"\xef\xbb\xbfdata: x\n\n", [message(b"x")]),
    ("only one byte order mark is dropped", b"\xef\xbb\xbf\xef\xbb\xbfdata: x\n\n", []),
    ("a byte order mark later is part of a field's name", b"data: x\n\n\xef\xbb\xbfdata: y\n\n", [message(b"x")]),
    ("lines may end with CR", b"data: x\rdata: y\r\r", [message(b"x\ny")]),
    ("lines may end with CRLF", b"data: x\r\ndata: y\r\n\r\n", [message(b"x\ny")]),
    ("line ends may be mixed", b"data: x\rdata: y\r\n\n", [message(b"x\ny")]),
    ("a CR before a CRLF is a line end of its own", b"data: x\r\r\ndata: y\n\n", [message(b"x"), message(b"y")]),
    ("a line with a colon first is a comment", b": keep-alive\n\ndata: x\n:y\n\n", [message(b"x")]),
    ("data lines are joined by LF", b"data: YHOO\ndata: +2\ndata: 10\n\n", [message(b"YHOO\n+2\n10")]),
    ("data without a colon is an empty line", b"data\n\ndata\ndata\n\ndata:", [message(b""), message(b"\n")]),
    ("one space behind the colon is dropped", b"data:test\n\ndata:  test\n\n", [message(b"test"), message(b" test")]),
    ("the event field names the type", b"event: ping\ndata: {}\n\ndata: x\n\n", [("ping", b"{}"), message(b"x")]),
    ("the last event field of a block wins", b"event: a\nevent: b\ndata: x\n\n", [("b", b"x")]),
    ("an empty event field is a message", b"event: a\nevent: \ndata: x\n\nevent: \ndata: y\n\n",
     [message(b"x"), message(b"y")]),
    ("an event without data is not told and its type does not last", b"event: ping\n\ndata: x\n\n", [message(b"x")]),
    ("an unknown field is ignored", b"foo: 1\nbar\ndata: x\nDATA: y\n data: z\n\n", [message(b"x")]),
    ("more blank lines tell nothing", b"\n\ndata: x\n\n\n\n", [message(b"x")]),
    ("an event without its blank line is discarded", b"data: x\n\ndata: y\n", [message(b"x")]),
    ("an unfinished line is discarded", b"data: x\n\ndata: y", [message(b"x")]),
    ("a space alone is no blank line", b"data: x\n \ndata: y\n\n", [message(b"x\ny")]),
    ("data keeps bytes that are not UTF-8", b"data: \xff\xfe\x00\n\n", [message(b"\xff\xfe\x00")]),
    ("an event before its data line, in CRLF", b"event: a\r\ndata: x\r\n\r\n", [("a", b"x")]),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "data", "expected"), RULES, ids=[rule for rule, _, _ in RULES])
def test_the_rule_holds_whole_bytewise_and_with_a_next_event_behind(rule: str, data: bytes, expected: Events) -> None:
    assert SseDecoder().feed(data) == expected
    assert feed_in_pieces(SseDecoder(), data, list(range(len(data)))) == expected
    warm = SseDecoder()
    warm.feed(b"data: 0\n\n")
    if not data.startswith(b"\xef\xbb\xbf"):
        assert warm.feed(data) == expected
        ended = data if data.endswith((b"\n\n", b"\r\r", b"\r\n\r\n")) else data + b"\n\n"
        assert SseDecoder().feed(ended + b"data: next\n\ndata: cut")[: len(expected)] == expected


def test_a_crlf_cut_in_two_is_one_line_end() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: x\r") == []
    assert decoder.feed(b"\ndata: y\r\n\r") == [("message", b"x\ny")]
    assert decoder.tail == 0
    assert decoder.feed(b"\n") == []
    assert (decoder.tail, decoder.incomplete) == (0, False)
    assert decoder.feed(b"data: z\n\n") == [("message", b"z")]


def test_an_event_is_told_at_its_CR_and_does_not_wait_for_the_LF() -> None:
    assert SseDecoder().feed(b"data: x\r\n\r") == [("message", b"x")]


def test_ids_last_and_one_with_a_NULL_is_ignored() -> None:
    decoder = SseDecoder()
    decoder.feed(b"id: 1\ndata: x\n\n")
    assert decoder.last_event_id == "1"
    decoder.feed(b"id: 2\0\ndata: y\n\n")
    assert decoder.last_event_id == "1"
    decoder.feed(b"id: 3\n")
    assert decoder.last_event_id == "1"
    decoder.feed(b"\n")
    assert decoder.last_event_id == "3"
    decoder.feed(b"id\ndata\n\n")
    assert decoder.last_event_id == ""


def test_retry_takes_digits_only() -> None:
    decoder = SseDecoder()
    decoder.feed(b"retry: 2500\n\n")
    assert decoder.retry_ms == 2500
    decoder.feed(b"retry: 1e3\nretry:\nretry: -1\nretry: \xd9\xa3\n\n")
    assert decoder.retry_ms == 2500


def test_the_last_event_id_is_set_at_the_blank_line_also_without_data_and_lasts() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"id: 7\n\n") == []
    assert decoder.last_event_id == "7"
    decoder.feed(b"data: x\n\ndata: y\n\n")
    assert decoder.last_event_id == "7"
    decoder.feed(b"id: \xe2\x98\x83 x\ndata: z\n\n")
    assert decoder.last_event_id == "\u2603 x"


def test_retry_is_read_in_base_ten() -> None:
    decoder = SseDecoder()
    decoder.feed(b"retry: 0012\n\n")
    assert decoder.retry_ms == 12
    decoder.feed(b"retry: 0x10\nretry: 1_000\nretry:  5\nretry: 5 \n\n")
    assert decoder.retry_ms == 12


def test_bytes_are_decoded_as_utf_8_with_what_is_none_replaced() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"event: a\xffb\nid: \xfe\ndata: x\n\n") == [("a\ufffdb", b"x")]
    assert decoder.last_event_id == "\ufffd"


def test_a_code_point_cut_by_two_reads_is_whole() -> None:
    decoder = SseDecoder()
    assert decoder.feed("event: \u2603".encode()[:-1]) == []
    assert decoder.feed("\u2603\ndata: \U0001f642".encode()[2:-2]) == []
    assert decoder.feed("\U0001f642\n\n".encode()[2:]) == [("\u2603", "\U0001f642".encode())]


def test_comments_are_counted_and_are_no_events() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b": stream-open\n\n:\n: keep-alive\n\n") == []
    assert decoder.comments == 3
    assert not decoder.incomplete


def test_tail_is_zero_only_where_the_last_event_ends_with_the_bytes() -> None:
    decoder = SseDecoder()
    decoder.feed(b"data: a\n\n")
    assert decoder.tail == 0
    decoder.feed(b"data: a\n\ndata: b")
    assert decoder.tail == len(b"data: b")
    decoder.feed(b"c\n")
    assert decoder.tail == len(b"data: bc\n")
    decoder.feed(b"\n")
    assert decoder.tail == 0
    decoder.feed(b"data: d\n\n: comment\n\n")
    assert decoder.tail == len(b": comment\n\n")
    assert not decoder.incomplete
    decoder.feed(b"event: x\ndata: e\n\n")
    assert decoder.tail == 0


def test_what_was_cut_at_the_end_is_told_as_incomplete() -> None:
    for cut in (b"d", b"data: x", b"data: x\n", b"event: x\n", b"data: 1\n\n:half a comment"):
        decoder = SseDecoder()
        decoder.feed(cut)
        assert decoder.incomplete, cut
    assert not SseDecoder().incomplete


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"data: x\ny", []), (b"data: x\n\n", [("message", b"x")]), (b"event: \ndata: y\n\n", [("message", b"y")]),
     (b"event: a\ndata: y\n\n", [("a", b"y")]), (b"event: a\ndata: y\n:", []),
     (b"event: a\n\ndata: y\n\n", [message(b"y")]),
     (b"data: \n\n", [("message", b"")]), (b"data: x\rdata: y\n\n", [message(b"x\ny")]), (b"data: x", []),
     (b"event: data: \n\n", []), (b"event: \xff\ndata: \xff\n\n", [("\ufffd", b"\xff")])],
)  # fmt: skip
def test_a_block_met_with_nothing_held_is_read_like_any_other(data: bytes, expected: Events) -> None:
    decoder = SseDecoder()
    decoder.feed(b"data: 0\n\n")
    assert decoder.feed(data) == expected
    assert decoder.feed(b"\n\n") == feed_in_pieces(SseDecoder(), data + b"\n\n", [len(data)])[len(expected) :]


def test_nothing_fed_is_nothing() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"") == []
    decoder.feed(b"data: x\n\n")
    assert decoder.feed(b"") == []
    assert decoder.tail == 0


LINES = [
    b"data: x", b"data:", b"data", b"data:  {}", b"event: a", b"event:", b"event: ", b"id: 7", b"id", b"id: \0",
    b"retry: 5", b":c", b":", b"foo: bar", b" ", b"", b"\xef\xbb\xbf", b"\xff", b"data: y\n\ndata: z",
]  # fmt: skip
ENDS = [b"\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n", b"\r\r\n", b""]
pieces = st.tuples(st.sampled_from(LINES) | st.binary(max_size=3), st.sampled_from(ENDS)).map(b"".join)
streams = st.lists(pieces, max_size=30).map(b"".join)


@settings(max_examples=400, deadline=None)
@given(streams, st.lists(st.integers(0, 200), max_size=12))
@example(b"data: x\r\n\r\n\r\ndata: y\n\n", [9, 10])
@example(b"\xef\xbb\xbfdata: x\n\n", [1, 2])
def test_any_bytes_cut_anywhere_give_what_the_standard_says(data: bytes, cuts: list[int]) -> None:
    decoder = SseDecoder()
    events = feed_in_pieces(decoder, data, cuts)
    told = (events, decoder.comments, decoder.retry_ms, decoder.last_event_id)
    expected = reference(data)
    assert told == expected[:4]
    if len(data) > 2:  # a lone piece of a byte order mark is held until it is known for one
        assert decoder.incomplete == expected[4]


@settings(max_examples=200, deadline=None)
@given(streams, st.lists(st.integers(0, 200), max_size=6))
def test_tail_does_not_depend_on_how_the_bytes_were_cut(data: bytes, cuts: list[int]) -> None:
    whole, cut = SseDecoder(), SseDecoder()
    data = data.replace(b"\r", b"")
    whole.feed(data)
    feed_in_pieces(cut, data, cuts)
    assert whole.tail == cut.tail


def test_a_line_without_end_overflows_and_memory_stays_bounded() -> None:
    decoder = SseDecoder()
    for _ in range(15):
        decoder.feed(b"x" * 65_536)
    decoder.feed(b"x" * 65_535)
    with pytest.raises(SseOverflow, match="1,048,576"):
        feed_in_pieces(decoder, b"xxxx", [1, 2, 3])
    assert SseOverflow.__mro__[1] is ValueError


@pytest.mark.parametrize(("size", "fits"), [(64, True), (65, False)])
def test_the_limit_is_the_same_however_the_event_is_cut(size: int, fits: bool) -> None:
    event = b"data: " + b"x" * (size - 8) + b"\n\n"
    assert len(event) == size
    for warm in (b"", b"data: 0\n\n"):
        for cuts in ([], [5], list(range(size))):
            decoder = SseDecoder(limit=64)
            decoder.feed(warm)
            if fits:
                assert len(feed_in_pieces(decoder, event, cuts)) == 1
            else:
                with pytest.raises(SseOverflow):
                    feed_in_pieces(decoder, event, cuts)


def test_an_event_of_many_lines_overflows_and_many_comments_do_not() -> None:
    decoder = SseDecoder(limit=64)
    for _ in range(1_000):
        decoder.feed(b": keep-alive\n")
    assert decoder.comments == 1_000
    with pytest.raises(SseOverflow):
        feed_in_pieces(decoder, b"data: x\n" * 9, list(range(0, 72, 8)))
    with pytest.raises(SseOverflow):
        SseDecoder(limit=64).feed(b":" + b"x" * 64)
    decoder = SseDecoder(limit=64)
    decoder.feed(b"data: " + b"x" * 50 + b"\n")
    decoder.feed(b": a comment within it")
    assert decoder.feed(b" is none of it\n\n") == [("message", b"x" * 50)]


def test_the_default_limit_takes_an_event_of_a_megabyte() -> None:
    data = b"x" * (LIMIT_BYTES - 8)
    assert SseDecoder().feed(b"data: " + data + b"\n\n") == [("message", data)]


def test_repr_shows_the_state() -> None:
    decoder = SseDecoder()
    decoder.feed(b": c\n\ndata: x")
    assert repr(decoder) == "SseDecoder(tail=12, incomplete=True, comments=1)"
