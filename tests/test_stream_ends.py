"""The stream machine's clocks and ends, and wild input: whatever comes and however it is cut, one Sample."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamgauge.dialects import DIALECTS
from streamgauge.sample import Outcome, Sample, SampleWriter, read_records
from streamgauge.stream import Limits, Stream
from test_stream import (
    COMMENT,
    DONE,
    ERROR,
    FILTER,
    HEAD,
    LAST,
    LENGTH,
    LIMITS,
    MALFORMED,
    MS,
    OVERLOAD,
    PLAIN_502,
    ROLE,
    STOP,
    T0,
    TOOL,
    UNKNOWN,
    USAGE,
    R,
    T,
    data,
    ended,
    event,
    fed,
    ms,
    stream,
)  # fmt: skip

TOTAL = Limits(connect_ns=1_000 * MS, first_output_ns=6_000 * MS, stall_ns=4_000 * MS, total_ns=3_000 * MS)


def rung(made: Stream, after_ms: float = 0) -> Sample:
    """Its Sample after its timer rang when it was due (or later by `after_ms`), as often as it took."""
    while not made.done:
        assert made.deadline is not None
        made.on_timer(made.deadline + round(after_ms * MS))
    return made.sample()


def started(limits: Limits = LIMITS) -> Stream:
    """A stream without connection."""
    made = Stream(stream().shot, "cd" * 16, DIALECTS["openai-chat"], limits)
    made.on_start(T0, 0)
    return made


def connected() -> Stream:
    made = started()
    made.on_connected(T0 + MS)
    return made


def sending() -> Stream:
    made = connected()
    made.on_sending(T0 + 2 * MS)
    return made


def before_it_was_asked(wire: bytes) -> Callable[[], Stream]:
    def make() -> Stream:
        made = fed((3, 2, wire), made=sending())
        made.on_sent(T0 + 5 * MS)
        return made

    return make


def again() -> Stream:
    made = stream()
    made.on_retry(T0 + 9 * MS)
    return made


@pytest.mark.parametrize(
    ("make", "outcome", "end"),
    [
        pytest.param(started, "connect_timeout", 1_000, id="no connection"),
        pytest.param(connected, "connect_timeout", 1_000, id="no TLS"),
        pytest.param(sending, "first_token_timeout", 6_002, id="a request nobody takes"),
        pytest.param(stream, "first_token_timeout", 6_000, id="no answer"),
        pytest.param(lambda: fed((1, 0, HEAD)), "first_token_timeout", 6_000, id="only headers"),
        pytest.param(lambda: fed((1, 0, HEAD + ROLE + COMMENT)), "first_token_timeout", 6_000, id="no output"),
        pytest.param(lambda: fed((1, 0, HEAD + R)), "stall_timeout", 4_001, id="a stall after reasoning"),
        pytest.param(lambda: fed((1, 0, HEAD), (900, 9, T)), "stall_timeout", 4_900, id="a stall after text"),
        pytest.param(
            lambda: fed((1, 0, HEAD + T), (900, 9, ROLE), (950, 9, COMMENT)), "stall_timeout", 4_001,
            id="only output winds the stall clock",
        ),
        pytest.param(lambda: fed((1, 0, HEAD + T + STOP)), "ok", 1, id="a socket kept open"),
        pytest.param(lambda: fed((1, 0, HEAD + T + STOP), (500, 9, DONE)), "ok", 1, id="kept open behind DONE"),
        pytest.param(lambda: fed((1, 0, HEAD + T + ERROR)), "stream_error", 1, id="kept open after an error"),
        pytest.param(lambda: fed((1, 0, PLAIN_502)), "http_error", 1_001, id="an error page that never ends"),
        pytest.param(before_it_was_asked(PLAIN_502), "http_error", 1_003, id="refused before it was sent"),
        pytest.param(before_it_was_asked(HEAD + T), "stall_timeout", 4_003, id="answered before it was sent"),
        pytest.param(again, "connect_timeout", 1_009, id="once more, and no connection"),
        pytest.param(lambda: stream(limits=TOTAL), "total_timeout", 3_000, id="total before first output"),
        pytest.param(
            lambda: fed((1, 0, HEAD + T), (2_900, 9, T), made=stream(limits=TOTAL)), "total_timeout", 3_000,
            id="total while it writes",
        ),
        pytest.param(lambda: started(TOTAL), "connect_timeout", 1_000, id="connect before total"),
        pytest.param(
            lambda: fed((1, 0, HEAD + T), (2_500, 9, STOP), made=stream(limits=TOTAL)), "ok", 2_500,
            id="total while the end is awaited",
        ),
    ],
)  # fmt: skip
def test_the_clock_that_runs_out_first_decides(make: Callable[[], Stream], outcome: str, end: float) -> None:
    sample = rung(make())
    assert (sample.outcome, ms(sample, "end")) == (outcome, end)
    assert sample.kept_open == (end in (1, 2_500))


def test_a_stall_that_never_ended_counts_with_what_was_waited() -> None:
    sample = rung(fed((1, 0, HEAD), (10, 9, T), (3_000, 9, T)), after_ms=500)
    assert (sample.stalls, sample.stalled_ns, sample.longest_gap_ns) == (2, (2_990 + 4_500) * MS, 4_500 * MS)
    short = rung(fed((1, 0, HEAD + T), made=stream(limits=Limits(stall_ns=1_500 * MS))))
    assert (short.outcome, short.stalls, short.longest_gap_ns) == ("stall_timeout", 0, 1_500 * MS)


def test_a_kept_open_end_is_the_terminal_event_with_its_slack() -> None:
    sample = rung(fed((1, 0, HEAD), (10, 4, T + STOP + COMMENT)))
    assert (ms(sample, "end"), sample.end_slack_ns, sample.kept_open) == (10, 6 * MS, True)


def test_no_end_lies_before_the_last_output() -> None:
    sample = rung(fed((1, 0, HEAD), (10, 9, T), (20, 19, STOP), (500, 499, T)))
    assert sample.outcome is Outcome.OK
    assert sample.last_output_ns is not None
    assert sample.end_ns >= sample.last_output_ns


def test_a_retry_forgets_the_first_sending_and_nothing_else() -> None:
    made = again()
    made.on_connected(T0 + 10 * MS)
    made.on_sending(T0 + 11 * MS)
    made.on_sent(T0 + 12 * MS)
    sample = ended(fed((20, 19, HEAD + T + STOP + LAST), made=made))
    assert (sample.outcome, sample.retried) == (Outcome.OK, 1)
    assert [ms(sample, name) for name in ("start", "connect", "sent", "first_token")] == [0, 10, 12, 20]


# Whether a first token was owed.


@pytest.mark.parametrize(
    ("wire", "max_tokens", "owed"),
    [
        (T + STOP, None, True),
        (TOOL + event(finish="tool_calls"), None, False),
        (T + TOOL + STOP, None, True),
        (R + FILTER, None, False),
        (T + FILTER, None, True),
        (R + LENGTH, 32, False),
        (R + LENGTH, None, True),
        (T + LENGTH, 32, True),
        (R + STOP, 32, True),
        (STOP, 32, True),
        (R, 32, True),
        (TOOL, None, True),
        (ERROR, None, True),
    ],
)
def test_a_first_token_is_owed_but_by_good_answers_that_could_have_none(
    wire: bytes, max_tokens: int | None, owed: bool
) -> None:
    sample = ended(fed((1, 0, HEAD + wire + LAST), made=stream(max_tokens=max_tokens)))
    assert sample.owes_text is owed


@pytest.mark.parametrize(
    ("reads", "reset", "words"),
    [
        ([], None, "connection closed before the response"),
        ([HEAD[:9]], "Connection reset by peer", "Connection reset by peer within the headers"),
        ([HEAD], None, "connection closed after 0 text events"),
        ([HEAD, T, T], "Connection reset by peer", "Connection reset by peer after 2 text events"),
    ],
)
def test_a_drop_says_where_it_struck(reads: list[bytes], reset: str | None, words: str) -> None:
    made = fed(*[(at, at, piece) for at, piece in enumerate(reads, 1)])
    made.on_close(T0 + 50 * MS, reset=reset)
    sample = made.sample()
    assert (sample.outcome, sample.error, ms(sample, "end")) == ("dropped", words, 50)


@pytest.mark.parametrize(
    ("reads", "outcome"),
    [([HEAD, T, STOP], "ok"), ([HEAD, T, ERROR], "stream_error"), ([PLAIN_502], "http_error"), ([], "dropped")],
)
def test_a_reset_does_not_undo_what_was_told_before(reads: list[bytes], outcome: str) -> None:
    made = fed(*[(at, at, piece) for at, piece in enumerate(reads, 1)])
    made.on_close(T0 + 50 * MS, reset="Connection reset by peer")
    assert made.sample().outcome == outcome


def test_a_body_until_close_that_is_reset_is_dropped_and_one_that_is_closed_is_whole() -> None:
    wire = HEAD.replace(b"Transfer-Encoding: chunked\r\n", b"") + b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
    for reset, outcome in ((None, "truncated"), ("Connection reset by peer", "dropped")):
        made = fed((1, 0, wire))
        made.on_close(T0 + 9 * MS, reset=reset)
        assert made.sample().outcome == outcome
        assert not made.reusable


@pytest.mark.parametrize(
    ("wire", "again"),
    [
        (HEAD + T + STOP + DONE + LAST, True),
        (HEAD + T + LAST, True),
        (PLAIN_502 + b">", True),
        (HEAD + T + STOP + DONE + LAST + b"x", False),
        (HEAD.replace(b"200 OK\r\n", b"200 OK\r\nConnection: close\r\n") + T + STOP + DONE + LAST, False),
        (HEAD + T + STOP, False),
        (HEAD + T + b"garbage\r\n", False),
    ],
)
def test_a_connection_is_used_again_only_after_a_whole_message_and_nothing_behind_it(wire: bytes, again: bool) -> None:
    made = fed((1, 0, wire))
    made.on_close(T0 + 9 * MS)
    assert made.reusable is again


# Wild input.

BLOCKS = (T, R, TOOL, ROLE, STOP, LENGTH, FILTER, USAGE, DONE, ERROR, OVERLOAD, UNKNOWN, MALFORMED, COMMENT,
          data({"model": "\ud83d", "choices": [{"delta": {"content": "\ud83d"}, "finish_reason": "\ud800"}]}),
          data({"error": {"message": "\udc00 \x00 half"}}), b"5\r\n\xff\xfe\n\r\n\r\n", b"3\r\na\r\r\r\n")  # fmt: skip
ENDS = (LAST, LAST + b"more", b"", b"zz\r\n", b"0\r\nX-Trailer: 1\r\n\r\n", b"5\r\ndata")
FACTS = (
    "outcome", "http_status", "text_events", "reasoning_events", "tool_events", "unknown_events", "malformed_events",
    "input_tokens", "output_tokens", "streamed_tokens", "finish", "model", "answered_by", "retry_after_s",
)  # fmt: skip


def facts(pieces: list[bytes]) -> tuple[dict[str, object], str]:
    """What must not depend on how the bytes were cut."""
    made = fed(*[(1 + i / 1_000, i / 1_000, piece) for i, piece in enumerate(pieces)], made=stream(keep_text=True))
    sample = ended(made)
    order = [sample.start_ns, sample.sent_ns, sample.first_byte_ns, sample.first_output_ns, sample.last_output_ns]
    present = [at for at in [*order, sample.end_ns] if at is not None]
    assert present == sorted(present)
    return {name: getattr(sample, name) for name in FACTS}, made.text


@given(st.lists(st.sampled_from(BLOCKS), max_size=12), st.sampled_from(ENDS), st.lists(st.integers(0, 2_000)))
@settings(max_examples=150, deadline=None)
def test_any_cut_of_the_same_bytes_gives_the_same_facts(blocks: list[bytes], end: bytes, at: list[int]) -> None:
    wire = HEAD + b"".join(blocks) + end
    bounds = [0, *sorted({place for place in at if 0 < place < len(wire)}), len(wire)]
    cut = facts([wire[a:b] for a, b in pairwise(bounds)])
    assert cut == facts([wire]) == facts([wire[i : i + 1] for i in range(len(wire))])


@pytest.mark.parametrize("dialect", list(DIALECTS))
@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([HEAD, PLAIN_502, *BLOCKS, *ENDS])), max_size=8))
@settings(max_examples=60, deadline=None)
@example([b"HTTP/1.1 429 X\r\nRetry-After-Ms: \xb2\r\nContent-Length: 0\r\n\r\n"])
@example([HEAD, data(b'{"type":"error","error":{"message":"\\ud83d","type":"\\ud83d"}}')])
@example([HEAD, data(b'{"error":{"message":"\\ud83d","type":"\\ud83d","code":"\\udfff"}}')])
@example([HEAD, data(b'{"type":"error","errorText":"\\ud83d"}')])
def test_whatever_comes_ends_in_one_sample_that_can_be_kept(
    dialect: str, tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    made = stream(dialect, keep_events=True)
    fed(*[(1 + i, i, piece) for i, piece in enumerate(pieces)], made=made)
    sample = ended(made)
    assert kept(sample, tmp_path_factory.mktemp("kept") / "samples-0-0.sgs") == [sample]
    assert made.deadline is None
    assert msgspec.json.encode(sample)


def kept(sample: Sample, path: Path) -> list[object]:
    writer = SampleWriter(path)
    writer.add(sample)
    writer.close()
    assert struct.unpack_from("<I", path.read_bytes(), len(b"streamgauge samples 1\n"))[0] > 0
    return list(read_records(path))
