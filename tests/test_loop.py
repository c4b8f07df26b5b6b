"""The event loop over real sockets on loopback; the test itself is the server, so it knows what it sent when.

Everything is driven by turns from one thread: between two turns the server does what the test says. Times are bounded
by the clock before and after a true send, never by how fast this machine is.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise

import msgspec
import pytest

from streamgauge.clock import SystemClock
from streamgauge.drain import RunDelay
from streamgauge.sample import Outcome
from streamgauge.stream import Limits, Stream
from test_stream import DONE, HEAD, LAST, MS, PLAIN_502, STOP, R, T
from turning import REQUEST, Setting, sent

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux stamps in the kernel and tells run-queue delay")
CLOCKS_NS = MS // 5
WHOLE = HEAD + T + STOP + DONE + LAST


@pytest.fixture
def on() -> Iterator[Setting]:
    setting = Setting()
    yield setting
    setting.close()


# When bytes came.


@LINUX
def test_a_stamp_is_when_the_kernel_had_the_bytes_and_not_when_they_were_read(on: Setting) -> None:
    stream, peer = on.asked()
    peer.sendall(HEAD)
    on.until(lambda: stream.headers_ns)
    before, after = sent(peer, T)
    time.sleep(0.6)
    on.until(lambda: stream.output.texts)
    assert stream.output.first_text is not None
    assert before - CLOCKS_NS <= stream.output.first_text <= after + 300 * MS, "600 ms later it was read"
    peer.sendall(STOP + DONE + LAST)
    assert on.done(stream).kernel_stamps


@LINUX
def test_slack_holds_the_truth_where_sends_were_read_together(on: Setting) -> None:
    stream, peer = on.asked()
    peer.sendall(HEAD)
    on.until(lambda: stream.headers_ns)
    sends = []
    for _ in range(4):
        sends.append(sent(peer, T))
        time.sleep(0.02)
    on.until(lambda: stream.output.texts == 4)
    assert stream.events is not None
    for trace, (before, after) in zip(stream.events, sends, strict=True):
        assert trace.at_ns >= before - CLOCKS_NS
        assert trace.at_ns - trace.slack_ns <= after + CLOCKS_NS
    assert [trace.slack_ns > 20 * MS for trace in stream.events] == [True, True, True, False]
    assert stream.events[-1].slack_ns == 0
    peer.sendall(STOP + DONE + LAST)
    assert on.done(stream).merged_events == 3


def test_events_read_one_by_one_have_no_slack_and_gaps_as_sent(on: Setting) -> None:
    stream, peer = on.asked()
    peer.sendall(HEAD)
    sends = []
    for n in range(12):
        time.sleep(0.005)
        before = time.monotonic_ns()
        peer.sendall(T)
        on.until(lambda n=n: stream.output.texts == n + 1)
        sends.append((before, time.monotonic_ns()))
    peer.sendall(STOP + DONE + LAST)
    sample = on.done(stream)
    assert stream.events is not None
    assert [trace.slack_ns for trace in stream.events[:12]] == [0] * 12
    for us, (one, other) in zip(array("I", sample.gaps), pairwise(sends), strict=True):
        least, most = other[0] - one[1], other[1] - one[0]  # each came between its sending and its reading
        assert least - CLOCKS_NS <= us * 1_000 <= most + CLOCKS_NS
    assert sample.output_reads == 12


@LINUX
def test_a_look_that_found_nothing_bounds_what_comes_after_it(on: Setting) -> None:
    stream, peer = on.asked()
    peer.sendall(HEAD)
    on.until(lambda: stream.headers_ns)
    time.sleep(0.05)
    looked = time.monotonic_ns()
    on.turn(0)
    peer.sendall(T + T)
    on.until(lambda: stream.output.texts == 2)
    assert stream.events is not None
    first = stream.events[0]
    assert 0 < first.slack_ns <= first.at_ns - looked + CLOCKS_NS, "not from the last read, 50 ms before"


# What waits to be decoded.


@pytest.fixture
def busy(on: Setting) -> Iterator[Setting]:
    """Under load: several sockets are always ready, so reads that end with an event wait."""
    pairs = [socket.socketpair() for _ in range(8)]
    for ours, theirs in pairs:
        theirs.send(b"x")
        on.loop.watch(ours.fileno(), lambda: None)
    limit = time.monotonic() + 0.25
    while time.monotonic() < limit:
        on.turn(1)
    yield on
    for ours, theirs in pairs:
        on.loop.unwatch(ours.fileno())
        ours.close()
        theirs.close()


@LINUX
def test_under_load_events_wait_and_keep_their_stamps(busy: Setting) -> None:
    stream, peer = busy.asked()
    peer.sendall(HEAD)
    busy.until(lambda: stream.headers_ns)
    sends, waited, until = [], 0, time.monotonic() + 20
    while len(sends) < 10 or (not waited and time.monotonic() < until):  # a loop held up is not busy for a while
        sends.append(sent(peer, T))
        for _ in range(20):
            busy.turn(1)
        waited += stream.output.texts < len(sends)
    peer.sendall(STOP + DONE + LAST)
    busy.until(lambda: stream.done)
    assert waited > 0, "not every event was decoded at once"
    assert stream.events is not None
    for trace, (before, after) in zip(stream.events, sends, strict=False):
        assert trace.at_ns >= before - CLOCKS_NS
        assert trace.at_ns - trace.slack_ns <= after + 250 * MS
    assert stream.output.texts == len(sends)


@LINUX
def test_a_deadline_first_decodes_what_waits(busy: Setting) -> None:
    for _ in range(50):  # a machine that holds us up just before a deadline shows nothing: once more
        stream = busy.fire(limits=Limits(stall_ns=400 * MS))
        peer = busy.accept()
        busy.read(peer)
        peer.sendall(HEAD + T)
        busy.until(lambda stream=stream: stream.output.texts)
        in_time = [_before_its_deadline(busy, stream, peer) for _ in range(2)]
        sample = busy.done(stream)
        if all(in_time):
            break
    assert (in_time, sample.outcome, sample.text_events) == ([True, True], Outcome.STALL_TIMEOUT, 3)


def _before_its_deadline(busy: Setting, stream: Stream, peer: socket.socket) -> bool:
    """Send an event that comes before the stream's deadline and would wait until after it; whether we were in time."""
    events, last = stream.output.texts, stream.output.last
    assert last is not None
    busy.until(lambda: stream.done or time.monotonic_ns() >= last + 310 * MS)
    peer.sendall(T)
    if stream.done or time.monotonic_ns() > last + 390 * MS:
        return False
    busy.until(lambda: stream.done or stream.output.texts > events)
    assert not stream.done
    return True


@LINUX
def test_an_output_that_came_after_the_stall_limit_does_not_hide_the_stall_though_both_may_wait(busy: Setting) -> None:
    for _ in range(50):  # a machine that holds us up for a tenth of a second shows nothing: once more
        stream = busy.fire(limits=Limits(stall_ns=200 * MS))
        peer = busy.accept()
        busy.read(peer)
        _, first = sent(peer, HEAD + T)
        busy.until(lambda stream=stream, first=first: stream.done or time.monotonic_ns() >= first + 350 * MS)
        with contextlib.suppress(BrokenPipeError):
            peer.sendall(T)
        if time.monotonic_ns() < first + 450 * MS:
            break
    sample = busy.done(stream)
    assert (sample.outcome, sample.text_events) == (Outcome.STALL_TIMEOUT, 1)


@LINUX
def test_what_waits_is_decoded_before_a_stream_is_cancelled(busy: Setting) -> None:
    stream, peer = busy.asked()
    peer.sendall(HEAD + T)
    busy.until(lambda: stream.output.texts)
    peer.sendall(T)
    busy.turn(2)
    busy.turn(2)
    busy.loop.cancel("the plan is over")
    sample = stream.sample()
    assert (sample.outcome, sample.text_events) == (Outcome.CANCELLED, 2)


@LINUX
def test_an_idle_connection_that_spoke_unasked_while_others_were_busy_carries_no_other_request(busy: Setting) -> None:
    stream, peer = busy.asked()
    peer.sendall(WHOLE)
    busy.done(stream)
    peer.sendall(T)
    busy.turn(2)
    busy.turn(2)
    second = busy.fire()
    other = busy.accept()
    busy.read(other)
    other.sendall(WHOLE)
    sample = busy.done(second)
    assert (sample.outcome, sample.text_events, sample.conn_requests) == (Outcome.OK, 1, 0)


# Connections.


class HeldUp(SystemClock):
    """The machine's clocks for a thread that is once held up for a while, just before it reads the time."""

    def __init__(self) -> None:
        self.calls_until = -1
        self.held_ns = 0

    def now(self) -> int:  # type: ignore[override] # a method where the machine's clock is a plain function
        self.calls_until -= 1
        if self.calls_until == 0:
            self.held_ns += 20 * MS
        return time.monotonic_ns() + self.held_ns

    def wall(self) -> int:  # type: ignore[override] # as above
        return time.time_ns() + self.held_ns


@LINUX
@pytest.mark.parametrize("call", range(1, 8))
def test_a_thread_that_is_held_up_does_not_take_old_bytes_for_new_ones(call: int) -> None:
    clock = HeldUp()
    with closing(Setting(clock)) as on:
        stream, peer = on.asked()
        on.turn(0)
        before = time.monotonic_ns()
        peer.sendall(HEAD + T)
        after = time.monotonic_ns()
        time.sleep(0.005)
        peer.sendall(T)
        clock.calls_until = call
        on.until(lambda: stream.events)
        first = stream.events[0]
        assert first.at_ns - first.slack_ns <= after + CLOCKS_NS
        assert first.at_ns >= before


def test_an_idle_connection_is_used_again_and_two_at_once_are_two(on: Setting) -> None:
    first, peer = on.asked()
    second, other = on.asked()
    samples = []
    for stream, one in ((first, peer), (second, other)):
        one.sendall(WHOLE)
        samples.append(on.done(stream))
    third = on.fire()
    assert on.read(other) == REQUEST, "the one that was used last is the warmest"
    other.sendall(WHOLE)
    samples.append(on.done(third))
    assert [(s.conn, s.conn_requests, s.retried) for s in samples] == [(0, 0, 0), (1, 0, 0), (1, 1, 0)]
    assert [s.connect_ns is None for s in samples] == [False, False, True]
    assert (on.loop.sockets, on.loop.made, on.loop.open_streams) == (2, 2, 0)


@pytest.mark.parametrize("turns", [0, 3])
@pytest.mark.parametrize("last_words", [b"", b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", b"x"])
def test_an_idle_connection_that_was_closed_or_spoke_unasked_carries_no_other_request(
    on: Setting, last_words: bytes, turns: int
) -> None:
    first, peer = on.asked()
    peer.sendall(WHOLE)
    on.done(first)
    peer.sendall(last_words)
    if not last_words:
        peer.close()
    for _ in range(turns):
        on.turn()
    second = on.fire()
    fresh = on.accept()
    assert on.read(fresh) == REQUEST
    fresh.sendall(WHOLE)
    sample = on.done(second)
    assert (sample.outcome, sample.conn, sample.retried) == (Outcome.OK, 1, 0)
    assert on.loop.sockets == 1


def test_a_fresh_stream_has_a_connection_of_its_own_that_is_closed_after_it(on: Setting) -> None:
    first, kept = on.asked()
    kept.sendall(WHOLE)
    on.done(first)
    alone = on.fire(fresh=True)
    own = on.accept()
    on.read(own)
    own.sendall(WHOLE)
    assert on.done(alone).conn_requests == 0
    assert own.recv(1) == b"", "closed, though it could have gone on"
    again = on.fire()
    on.read(kept)
    kept.sendall(WHOLE)
    assert on.done(again).conn_requests == 1, "the kept one is still there for the others"


def test_a_reused_connection_that_dies_without_a_byte_is_replaced_once(on: Setting) -> None:
    first, peer = on.asked()
    peer.sendall(WHOLE)
    on.done(first)
    second = on.fire()
    on.read(peer)
    peer.close()
    fresh = on.accept()
    assert on.read(fresh) == REQUEST
    fresh.close()
    sample = on.done(second)
    assert (sample.outcome, sample.retried, sample.conn) == (Outcome.DROPPED, 1, 1)
    assert (on.loop.sockets, on.loop.open_streams, len(on.ended)) == (0, 0, 2)


def test_a_reused_connection_that_dies_within_the_answer_is_a_drop(on: Setting) -> None:
    first, peer = on.asked()
    peer.sendall(WHOLE)
    on.done(first)
    second = on.fire()
    on.read(peer)
    peer.sendall(HEAD[:20])
    peer.close()
    sample = on.done(second)
    assert (sample.outcome, sample.retried) == (Outcome.DROPPED, 0)


def test_a_large_request_is_sent_when_its_last_byte_goes(on: Setting) -> None:
    body = b"x" * (16 << 20)
    request = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    stream = on.fire(request)
    peer = on.accept()
    for _ in range(10):
        on.turn()
    assert stream.sent_ns is None, "nobody took it yet"
    began = time.monotonic_ns()
    assert len(on.read(peer, len(request))) == len(request)
    taken = time.monotonic_ns()
    peer.sendall(WHOLE)
    sample = on.done(stream)
    assert sample.outcome is Outcome.OK
    assert sample.sent_ns is not None
    assert began < sample.sent_ns <= taken


def test_a_request_refused_before_it_was_taken_leaves_no_connection_and_no_busy_loop(on: Setting) -> None:
    stream = on.fire(b"POST / HTTP/1.1\r\nContent-Length: 16777216\r\n\r\n" + b"x" * (16 << 20))
    peer = on.accept()
    on.turn()
    peer.sendall(PLAIN_502 + b">")
    sample = on.done(stream)
    assert (sample.outcome, sample.sent_ns) == (Outcome.HTTP_ERROR, None)
    assert on.loop.sockets == 0
    began = time.monotonic_ns()
    on.turn(50)
    assert time.monotonic_ns() - began > 40 * MS


def test_addresses_are_used_in_turn_and_old_ones_are_let_go(on: Setting) -> None:
    on.target = msgspec.structs.replace(on.target, addresses=(("127.0.0.1", on.port), ("127.0.0.2", on.port)))
    pairs = [on.asked() for _ in range(4)]
    assert [stream.peer for stream, _ in pairs] == ["127.0.0.1", "127.0.0.2"] * 2
    for stream, peer in pairs:
        peer.sendall(WHOLE)
        on.done(stream)
    on.target = msgspec.structs.replace(on.target, addresses=(("127.0.0.2", on.port),))
    on.loop.readdress(on.target)
    assert on.loop.sockets == 2
    assert on.fire().peer == "127.0.0.2"


@pytest.mark.parametrize(
    ("addresses", "outcome"),
    [((), "dns_error"), ((("127.0.0.1", 1),), "connect_refused"), ((("255.255.255.255", 9),), "unreachable")],
)
def test_a_request_without_connection_ends_by_its_cause(
    on: Setting, addresses: tuple[tuple[str, int], ...], outcome: str
) -> None:
    on.target = msgspec.structs.replace(on.target, addresses=addresses)
    sample = on.done(on.fire())
    assert (sample.outcome, sample.sent_ns, sample.first_byte_ns) == (outcome, None, None)
    assert sample.error
    assert (on.loop.open_streams, on.loop.sockets) == (0, 0)


def test_cancel_ends_every_open_stream_and_closes_it(on: Setting) -> None:
    pairs = [on.asked() for _ in range(3)]
    pairs[0][1].sendall(HEAD + T)
    on.until(lambda: pairs[0][0].output.texts)
    on.loop.cancel("the plan is done")
    assert [(s.sample().outcome, s.sample().text_events) for s in on.ended] == [("cancelled", n) for n in (1, 0, 0)]
    assert (on.loop.open_streams, on.loop.sockets) == (0, 0)
    assert pairs[0][1].recv(1) == b""


# Time.


def test_due_times_are_kept_with_us_resolution_and_never_early(on: Setting) -> None:
    late: list[int] = []
    while len(late) < 60 or (min(late) >= 0.6 * MS and len(late) < 2_000):
        due = time.monotonic_ns() + 2_050_000  # a wait in whole ms would take 0.95 ms more
        on.loop.turn(due)
        late.append(time.monotonic_ns() - due)
    assert 0 <= min(late) < 0.6 * MS, "the best of many: a busy machine wakes anyone late"


def test_a_deadline_rings_once_it_has_passed_and_output_puts_it_off(on: Setting) -> None:
    limits = Limits(stall_ns=700 * MS)
    silent = on.fire(limits=Limits(first_output_ns=60 * MS))
    on.accept()
    stream = on.fire(limits=limits)
    peer = on.accept()
    peer.sendall(HEAD)
    for n in range(5):
        peer.sendall(R if n % 2 else T)
        on.until(lambda n=n: stream.output.reads == n + 1 or stream.done)
        on.turn(190)
    sample = on.done(stream)
    assert sample.outcome is Outcome.STALL_TIMEOUT
    assert sample.output_reads == 5
    assert sample.last_output_ns is not None
    assert sample.end_ns - sample.last_output_ns >= 700 * MS
    first = on.done(silent)
    assert first.outcome is Outcome.FIRST_TOKEN_TIMEOUT
    assert first.end_ns - (first.sent_ns or 0) >= 60 * MS
    assert [s is silent for s in on.ended] == [True, False]


def two_that_spoke(on: Setting) -> tuple[tuple[Stream, Stream], int, int]:
    """Two streams for each of which a text lies there; since when, and until when, the texts were sent."""
    (one, first), (other, second) = on.asked(), on.asked()
    for stream, peer in ((one, first), (other, second)):
        peer.sendall(HEAD)
        on.until(lambda stream=stream: stream.headers_ns)
    before, _ = sent(first, T)
    _, after = sent(second, T)
    time.sleep(0.05)
    return (one, other), before, after


def test_what_is_due_goes_before_the_decoding_of_what_came(on: Setting) -> None:
    streams, before, after = two_that_spoke(on)
    decoded = []
    for _ in range(3):
        on.loop.turn(0)  # something is due
        decoded.append(sum(stream.output.texts for stream in streams))
        time.sleep(0.05)
    assert decoded == [0, 1, 2], "first what is due, then one more each time"
    if sys.platform == "linux":
        texts = [stream.output.first_text or 0 for stream in streams]
        assert all(before - CLOCKS_NS <= text <= after + 50 * MS for text in texts), "what waited kept its stamp"


def test_who_is_behind_decodes_for_a_while_all_the_same(on: Setting) -> None:
    streams, _, _ = two_that_spoke(on)
    on.loop.turn(0, least_ns=10_000 * MS)
    assert [stream.output.texts for stream in streams] == [1, 1]


class Ahead(SystemClock):
    """The machine's clocks, but for time that a test lets pass."""

    ahead = 0

    def now(self) -> int:  # type: ignore[override] # a plain function in the base
        return time.monotonic_ns() + self.ahead


def test_no_deadline_has_passed_for_what_came_in_time_and_was_not_looked_for() -> None:
    clock = Ahead()
    on = Setting(clock)
    streams, _, _ = two_that_spoke(on)
    silent, peer = on.asked()
    on.until(lambda: sum(stream.output.texts for stream in streams) == 2)
    on.peers[0].sendall(T)
    time.sleep(0.05)
    on.loop.turn(0)  # takes that, and something is due
    peer.sendall(HEAD + T)
    clock.ahead = 61_000 * MS  # first_output_ns is 60 s; we were held up
    on.loop.turn(0)  # decodes that: nobody has looked for what came meanwhile
    held_up = silent.done
    on.until(lambda: silent.output.texts or silent.done)
    on.close()
    assert not held_up
    assert silent.output.texts == 1


def test_what_was_read_is_decoded_before_a_stream_is_cancelled(on: Setting) -> None:
    streams, _, _ = two_that_spoke(on)
    on.loop.turn(0)
    assert [stream.output.texts for stream in streams] == [0, 0]
    on.loop.cancel("the test is over")
    assert [(stream.output.texts, stream.sample().outcome) for stream in streams] == [(1, Outcome.CANCELLED)] * 2


def test_timers_of_closed_connections_are_cleared_away(on: Setting) -> None:
    on.target = msgspec.structs.replace(on.target, addresses=(("127.0.0.1", on.port),))
    for n in range(1_200):
        stream, peer = on.asked()
        peer.close()
        on.done(stream)
        on.peers.clear()
        assert on.loop.timers <= min(2 * n + 2, 1_004)
    assert on.loop.sockets == 0


class Stepping(SystemClock):
    """The machine's clocks, but for a step of wall time that a test makes."""

    step = 0

    def wall(self) -> int:  # type: ignore[override] # a plain function in the base
        return time.time_ns() + self.step


def test_a_step_of_the_wall_clock_flags_the_streams_in_flight() -> None:
    clock = Stepping()
    on = Setting(clock)
    before, peer = on.asked()
    peer.sendall(WHOLE)
    on.done(before)
    during = on.fire()
    on.read(peer)
    clock.step = 30_000 * MS
    on.until(lambda: on.loop.steps)
    peer.sendall(WHOLE)
    flagged = on.done(during)
    after = on.fire()
    on.read(peer)
    peer.sendall(WHOLE)
    unflagged = on.done(after)
    on.close()
    assert [before.clock_step, flagged.clock_step, unflagged.clock_step] == [False, True, False]
    ((begin, end, jump),) = on.loop.steps
    assert begin < end
    assert jump == pytest.approx(-30_000 * MS, abs=250 * MS)


@pytest.fixture
def stepping() -> Iterator[tuple[Setting, Stepping]]:
    clock = Stepping()
    setting = Setting(clock)
    yield setting, clock
    setting.close()


@LINUX
@pytest.mark.parametrize("step_ms", [3_600_000, -3_600_000])
def test_bytes_that_came_before_a_step_keep_their_time_and_no_deadline_takes_them_for_old(
    stepping: tuple[Setting, Stepping], step_ms: int
) -> None:
    on, clock = stepping
    stream, peer = on.asked()
    peer.sendall(HEAD)
    on.until(lambda: stream.headers_ns)
    before, after = sent(peer, T)  # stamped by the old clock, read once the new one is known
    clock.step = step_ms * MS
    time.sleep(0.15)
    on.until(lambda: stream.output.texts)
    assert on.loop.steps
    assert not stream.done, "an answer that came just now has not stalled for an hour"
    assert stream.output.first_text is not None
    assert before - CLOCKS_NS <= stream.output.first_text <= after + 50 * MS
    peer.sendall(T + STOP + DONE + LAST)
    sample = on.done(stream)
    assert sample.outcome is Outcome.OK
    assert sample.clock_step


# What else wakes it.


def test_a_watched_descriptor_is_heard_while_streams_run(on: Setting) -> None:
    ours, theirs = socket.socketpair()
    heard: list[bytes] = []
    on.loop.watch(ours.fileno(), lambda: heard.append(ours.recv(9)))
    stream, peer = on.asked()
    theirs.sendall(b"stop")
    peer.sendall(WHOLE)
    on.done(stream)
    on.until(lambda: heard)
    assert heard == [b"stop"]
    began = time.monotonic_ns()
    on.turn(30)
    assert time.monotonic_ns() - began > 20 * MS
    ours.close()
    theirs.close()


@LINUX
def test_the_run_queue_delay_of_this_thread_only_grows() -> None:
    delay = RunDelay()
    first = delay.read()
    time.sleep(0.01)
    assert first is not None
    since = delay.since_last()
    assert since is not None
    assert since >= 0
    assert (delay.read() or 0) >= first
    delay.close()
