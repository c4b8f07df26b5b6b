"""Events that need no decoding: what is made of them is what decoding each of them makes."""

from __future__ import annotations

import json
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.alike import alike, pattern_of, pure_alike
from streamgauge.dialects import DIALECTS
from streamgauge.dialects.contract import TEXT
from streamgauge.drain import READ_SIZE, Reads
from streamgauge.sse import whole_event
from test_stream import DONE, HEAD, LAST, MS, STOP, T0, R, T, data, ended, stream

WORDS = (
    "Hi",
    " there",
    "a",
    "\n\n",
    "\u00e9",
    "\u65e5\u672c",
    '"',
    "\\",
    "",
    ",",
    "stop",
    "\x7f",
    "[DONE]",
    "content",
    "{}",
)
FORMS = {
    "openai-chat": b'data: {"id":"c-1","model":"m","choices":[{"index":0,"delta":'
    b'{"content":%s},"finish_reason":null}]}\n\n',
    "openai-chat padded": b'data: {"id":"c-1","model":"m","choices":[{"index":0,"delta":'
    b'{"content":%s},"finish_reason":null}],"usage":null,"obfuscation":"PAD"}\n\n',
    "anthropic padded": b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
    b'{"type":"text_delta","text":%s}PAD}\n\n',
    "anthropic": b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
    b'{"type":"text_delta","text":%s}}\n\n',
    "gemini": b'data: {"candidates":[{"content":{"parts":[{"text":%s}],"role":"model"},"index":0}]}\r\n\r\n',
    "ai-sdk": b'data: {"type":"text-delta","id":"0","delta":%s}\n\n',
}
OTHERS = (R, STOP, DONE, T + T, T[:-2], T[:9], b": keep\n\n", data(b'{"cut": tru'), data({"object": "note"}))


def said(dialect: str, word: str, *, ascii_only: bool = True) -> bytes:
    """One chunk with the dialect's event for a piece of text."""
    pads = (b"", b"x4", b"stop", b"error") if dialect == "openai-chat padded" else (b"", b" ", b"  ", b"       ")
    pad = pads[len(word) % 4]
    text = FORMS[dialect].replace(b"PAD", pad) % json.dumps(word, ensure_ascii=ascii_only).encode()
    return b"%x\r\n%s\r\n" % (len(text), text)


def together(pieces: list[bytes]) -> tuple[bytes, Reads]:
    ends = accumulate(map(len, pieces))
    return b"".join(pieces), tuple((end, 1, 0) for end in ends)


@pytest.mark.parametrize("dialect", FORMS)
@given(st.lists(st.tuples(st.sampled_from(WORDS), st.booleans()), min_size=1, max_size=8), st.data())
@settings(max_examples=50, deadline=None)
def test_a_stream_tells_the_same_read_by_read_and_together(
    dialect: str, words: list[tuple[str, bool]], drawn: st.DataObject
) -> None:
    pieces = [HEAD + said(dialect, "first"), said(dialect, "second"), said(dialect, "third")]
    for word, ascii_only in words:
        pieces.append(said(dialect, word, ascii_only=ascii_only))
        if drawn.draw(st.integers(0, 5)) == 0:
            pieces.append(drawn.draw(st.sampled_from(OTHERS)))
    pieces.append(LAST)
    gaps = drawn.draw(st.lists(st.sampled_from([0, 1, 20, 3_000]), min_size=len(pieces), max_size=len(pieces)))
    stamps = [T0 + MS + at * MS for at in accumulate(gaps)]
    alone, held = stream(dialect.removesuffix(" padded")), stream(dialect.removesuffix(" padded"))
    for piece, stamp in zip(pieces, stamps, strict=True):
        if not alone.done:
            alone.on_read(stamp, T0, piece)
    bounds = sorted({0, len(pieces), *drawn.draw(st.lists(st.integers(1, len(pieces)), max_size=4))})
    for a, b in pairwise(bounds):
        if not held.done:
            whole, reads = together(pieces[a:b])
            held.on_reads(whole, tuple((end, 1, T0) for end, _, _ in reads), stamps[a:b])
    assert held.deadline == alone.deadline
    assert ended(held) == ended(alone)


@pytest.mark.parametrize("dialect", FORMS)
def test_text_events_of_each_dialect_are_alike_and_bring_text(dialect: str) -> None:
    first = said(dialect, "Hi")
    found = pattern_of(first, "Hi")
    assert found is not None
    words = (" there", "a", "stop", "{}", "~", "\n", '"', "\\", "\u00e9", "\u65e5\u672c", "\U0001f642", "b")
    for ascii_only, taken in ((True, 10), (False, 12)):
        whole, reads = together([said(dialect, word, ascii_only=ascii_only) for word in words])
        assert pure_alike(whole, reads, 0, *found) == alike(whole, reads, 0, *found) == taken
        assert pure_alike(whole, reads, 11, *found) == alike(whole, reads, 11, *found) == 1
        assert pure_alike(whole, reads, 12, *found) == alike(whole, reads, 12, *found) == 0


@pytest.mark.parametrize(
    ("read", "text"),
    [
        pytest.param(said("openai-chat", "m"), "m", id="the text stands there twice"),
        pytest.param(said("openai-chat", "\U0001f642"), "\U0001f642", id="it is two surrogates"),
        pytest.param(data(b'{"a":"\\n","b":"Hi"}'), "Hi", id="something else is escaped"),
        pytest.param(said("openai-chat", "ab"), "a", id="it is another"),
        pytest.param(said("openai-chat", ","), ",", id="what parts two strings looks like it"),
        pytest.param(data(b'{"a":["x",",","y"]}'), ",", id="the same, one over the other"),
    ],
)
def test_no_pattern_is_taken_where_the_text_is_not_told_for_sure(read: bytes, text: str) -> None:
    assert pattern_of(read, text) is None


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("place", [b"{", b'"delta":{', b'"parts":[{'])
def test_no_reader_looks_at_what_openai_pads_with(dialect: str, place: bytes) -> None:
    plain = whole_event(said(dialect, "Hi"))
    assert plain is not None
    name, event = plain
    for pad in (b"", b"stop", b"error", b"a" * 30):
        padded = event.replace(place, place + b'"obfuscation":"' + pad + b'",', 1)
        reader = DIALECTS[dialect].reader()
        assert (reader.read(name, padded), reader.text, reader.finish, reader.error) == (TEXT, "Hi", None, None)


@pytest.mark.parametrize("form", ["openai-chat", "openai-chat padded", "anthropic padded"])
@given(
    st.lists(
        st.one_of(
            st.builds(lambda word: said("openai-chat", word, ascii_only=False), st.text(max_size=4)),
            st.sampled_from([T, STOP, said("openai-chat", "x" * READ_SIZE), b"", b"3"]),
            st.builds(lambda word, cut: said("openai-chat", word)[cut:], st.text(max_size=4), st.integers(0, 3)),
            st.builds(lambda word: said("openai-chat padded", word), st.sampled_from(WORDS)),
            st.builds(lambda word: said("anthropic padded", word), st.sampled_from(WORDS)),
            st.binary(max_size=20),
        ),
        max_size=6,
    ),
)
@settings(max_examples=60, deadline=None)
def test_both_find_the_same_and_what_they_find_is_one_event_with_text(form: str, pieces: list[bytes]) -> None:
    found = pattern_of(said(form, "Hi"), "Hi")
    assert found is not None
    whole, reads = together(pieces)
    for first in range(len(pieces)):
        count = alike(whole, reads, first, *found)
        assert count == pure_alike(whole, reads, first, *found)
        for piece in pieces[first : first + count]:
            event = whole_event(piece)
            assert event is not None
            assert DIALECTS[form.removesuffix(" padded")].reader().read(*event) == TEXT


PIECES = st.one_of(
    st.binary(max_size=3),
    st.text(max_size=3).map(lambda text: text.encode("utf-8", "replace")),
    st.text(max_size=3).map(lambda text: json.dumps(text)[1:-1].encode()),
    st.sampled_from(
        [
            b"\\u00",
            b"\\ud83d",
            b"\\uDE42",
            b"\\u000a",
            b"\\x41",
            b"\\",
            b"\\u4f6",
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"\xc0\x80",
            b"\x00",
        ]
    ),
)


def read_as_json(inner: bytes) -> str | None:
    """What a strict reader of JSON makes of these bytes between quotes."""
    try:
        text = json.loads((b'"' + inner + b'"').decode())
    except ValueError:
        return None
    return text if isinstance(text, str) else None


@given(st.lists(PIECES, max_size=4).map(b"".join))
@settings(max_examples=400, deadline=None)
def test_what_is_taken_for_text_is_what_json_takes_for_a_string_less_surrogates(inner: bytes) -> None:
    found = pattern_of(said("openai-chat", "Hi"), "Hi")
    assert found is not None
    event = FORMS["openai-chat"].replace(b"%s", b'"' + inner + b'"')
    read = b"%x\r\n%s\r\n" % (len(event), event)
    text = read_as_json(inner)
    surrogates = (
        text is not None and any(0xD800 <= ord(c) < 0xE000 or ord(c) > 0xFFFF for c in text) and b"\\u" in inner
    )
    count = alike(read, ((len(read), 1, 0),), 0, *found)
    assert count == pure_alike(read, ((len(read), 1, 0),), 0, *found)
    if not surrogates:
        assert count == bool(text)
    else:
        assert count <= bool(text)
