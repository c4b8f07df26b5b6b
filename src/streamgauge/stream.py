"""One request's life as a pure state machine: bytes and their arrival times in, one `Sample` out.

Rules: no I/O, no clock; every time is an argument. The first cause in time wins: an outcome that is set stays. What an
event brought decides, not how bytes were cut. A stream ends with `done`; then `sample()` gives its facts.

Stamps: a read carries the arrival of its last byte. An event that ends exactly there is exact; one before it in the
same read arrived in (look, stamp], and that width is its slack. `look` is a time at which nothing of this read had
come yet. The end of a chunk is taken to come with its event, as servers send it: where one sends it apart and both are
read at once, an exact stamp is late by what lay between.

After the dialect's terminal event the end of the message is awaited for 1 s (usage may follow, the connection can be
used again); a socket still open then is closed, and the terminal event was the end (`kept_open`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from streamgauge.alike import Pattern, alike, pattern_of
from streamgauge.dialects.contract import (
    END,
    ERROR,
    OUTPUT,
    TEXT,
    Dialect,
)
from streamgauge.dialects.errors import bare_error
from streamgauge.drain import READ_SIZE, Reads
from streamgauge.foreign import Event, failure_of, is_foreign, is_whole, not_ours, show, words_of
from streamgauge.http1 import FramingError, Response, answered_by, kept_headers, retry_after_s
from streamgauge.output import Output
from streamgauge.plan import Shot
from streamgauge.redirect import moved_to
from streamgauge.sample import GapsPart, Outcome, Sample
from streamgauge.secrets import cut_short
from streamgauge.sse import SseDecoder, SseOverflow, whole_event
from streamgauge.who import instance_of

ERROR_BODY = 2_048
HEADER = 300
AWAIT_END_NS = 1_000_000_000
PROBE_BYTES = 65_536
"""After so much of a 200 body without one event of the dialect it is no stream of it."""
MOST_SILENT, SILENT_BYTES = 64, 4_096
"""So many events without output, each at most so long, are held until output comes, to tell whose they are."""
KEEP_TEXT = 1 << 20
"""So many characters of an answer are kept where it is to be looked at."""
KEEP_EVENTS, TRACE_BYTES = 8 * KEEP_TEXT, 200
"""So many bytes of events are kept for StreamClient, each counted with what a Trace takes."""
MOST_UNLIKE = 4
"""After so many patterns in vain no more are taken."""
_A_PROXYS = frozenset((403, 407, 502, 503, 504))
"""Statuses with which a proxy refuses what it was asked for in plain http."""


class Limits(msgspec.Struct, frozen=True):
    """Time limits of one request in ns; None is no limit."""

    connect_ns: int = 10_000_000_000
    first_output_ns: int = 60_000_000_000
    stall_ns: int = 60_000_000_000
    total_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """One event as a person may want to see it: when, how sure, what (StreamClient with `keep_events`)."""

    at_ns: int
    slack_ns: int
    event: str
    data: bytes
    bits: int


class Stream:
    """The state of one request. Drive it with `on_*`; it is finished when `done`."""

    __slots__ = (
        "_answer", "_body", "_dialect", "_end_slack", "_error", "_expect", "_first_byte_slack", "_kept", "_like",
        "_limits", "_moved_at", "_outcome", "_plain", "_reader", "_retry_after", "_silent", "_sse", "_stage",
        "_stayed", "_terminal", "_traced", "_unlike", "awaits", "bytes_in", "clock_step", "conn", "conn_requests",
        "connect_ns", "deadline", "done", "end_ns", "events", "first_byte", "first_event", "headers_ns", "id",
        "kept_open", "kernel_stamps", "late_ns", "local_port", "max_tokens", "moved", "output", "peer", "redirects",
        "response", "retried", "sent_ns", "shot", "start_ns", "tls_ns", "tls_resumed", "via", "wall_s", "worker",
    )  # fmt: skip

    def __init__(
        self,
        shot: Shot,
        trace_id: str,
        dialect: Dialect,
        limits: Limits,
        *,
        max_tokens: int | None = None,
        expect: re.Pattern[str] | None = None,
        worker: int = 0,
        wall_s: float = 0.0,
        spill: Callable[[GapsPart], None] | None = None,
        keep_text: bool = False,
        keep_events: bool = False,
    ) -> None:
        self.shot = shot
        self.id = trace_id
        self.worker = worker
        self.wall_s = wall_s
        self.max_tokens = max_tokens
        self._limits = limits
        self._expect = expect
        self._answer: list[str] | None = [] if keep_text or expect is not None else None
        self._kept = self._traced = 0
        self.events: list[Trace] | None = [] if keep_events else None
        self.output = Output(trace_id, spill)
        self._dialect = dialect
        self._reader = dialect.reader()
        self._sse = SseDecoder()
        self.response = Response()
        self._outcome: Outcome | None = None
        self._error: str | None = None
        self._retry_after: float | None = None
        self._body = bytearray()
        self._silent: list[tuple[str, bytes]] = []
        self._plain = False
        self._terminal: int | None = None
        self._stage = Outcome.CONNECT_TIMEOUT
        self.done = False
        self.deadline: int | None = None
        self.start_ns: int | None = None
        self.connect_ns: int | None = None
        self.tls_ns: int | None = None
        self.sent_ns: int | None = None
        self.headers_ns: int | None = None
        self.first_byte: int | None = None
        self.first_event: int | None = None
        self.end_ns: int | None = None
        self._first_byte_slack = 0
        self._end_slack = 0
        self._like: Pattern | None = None
        self._unlike = 0
        self.bytes_in = 0
        self.conn = -1
        self.late_ns = self.conn_requests = self.retried = self.redirects = 0
        self.peer: str | None = None
        self.local_port: int | None = None
        self.via: str | None = None
        """The proxy that the request itself goes to, where it does: an answer may be the proxy's."""
        self.moved: str | None = None
        """Where the answer that just ended sends the request on to: it goes on there, or `on_stay` ends it."""
        self._stayed: str | None = None
        self._moved_at = 0
        self.tls_resumed: bool | None = None
        self.awaits: str | None = None
        """What a connection in the making waits for, where that is neither TCP nor TLS with the target."""
        self.kernel_stamps = True
        self.kept_open = self.clock_step = False

    def __repr__(self) -> str:
        state = self._outcome or ("streaming" if self.output.first else "sent" if self.sent_ns else "starting")
        return f"<Stream {self.id[:8]} {self.shot.target} {state}, {self.output.texts} text events>"

    @property
    def text(self) -> str:
        """The answer's output so far, where it is kept."""
        return "".join(self._answer or ())

    @property
    def body(self) -> bytes:
        """The beginning of a body in which nothing of the dialect was seen, at most 64 KB."""
        return bytes(self._body)

    @property
    def stall_ns(self) -> int:
        """So long may lie between two outputs."""
        return self._limits.stall_ns

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request after this one."""
        response = self.response
        return response.complete and response.keep_alive and not response.trailing

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None before."""
        return self._outcome if self.done else None

    @property
    def retry_after_s(self) -> float | None:
        """Seconds that the server asked to wait."""
        return self._retry_after

    # The request on its way.

    def on_start(self, now: int, late_ns: int) -> None:
        """The worker begins with it."""
        self.start_ns = now
        self.late_ns = late_ns
        self.deadline = self._cap(now + self._limits.connect_ns)

    def on_connected(self, now: int) -> None:
        """The target can be spoken to (new connections only). One made for a redirect's hop changes no stamp."""
        self.awaits = None
        if self.sent_ns is None:
            self.connect_ns = now

    def on_secured(self, now: int, *, resumed: bool = False) -> None:
        """TLS is up (new connections only). `resumed`: by an earlier session."""
        if self.sent_ns is None:
            self.tls_ns = now
            self.tls_resumed = resumed

    def on_sending(self, now: int) -> None:
        """The connection is ready for the request; a server that does not take it is like one that does not answer."""
        self._stage = Outcome.FIRST_TOKEN_TIMEOUT
        if not self.redirects:  # a hop has no time of its own
            self.deadline = self._cap(now + self._limits.first_output_ns)

    def on_sent(self, now: int) -> None:
        """`now` was read just before the send() that took the request's last byte."""
        self.sent_ns = now
        if self.first_byte is None:  # else the answer came before it was asked for, and its own clock runs
            self.deadline = self._cap(now + self._limits.first_output_ns)

    def on_retry(self, now: int) -> None:
        """A reused connection died without one byte of response: the same request goes out on a new one."""
        self.retried += 1
        if not self.redirects:
            self.sent_ns = None
            self._stage = Outcome.CONNECT_TIMEOUT
            self.deadline = self._cap(now + self._limits.connect_ns)
        self.response.release()
        self.response = Response()

    def on_redirect(self) -> None:
        """The request goes out again to where `moved` points; `sent` stays that of the first one."""
        assert self.sent_ns is not None
        self.redirects += 1
        self.moved, self.done, self._plain = None, False, False
        self.headers_ns = self.first_byte = self._retry_after = None
        self._first_byte_slack = 0
        self._body.clear()
        self.response = Response()
        self.deadline = self._cap(self.sent_ns + self._limits.first_output_ns)

    def on_stay(self, why: str) -> None:
        """The redirect is not followed: it is the answer."""
        response = self.response
        self.moved, self._stayed = None, why
        self._end(self._moved_at, failure_of(response.status or 0, response.headers, bytes(self._body)))

    # The response.

    def on_reads(self, data: bytes, reads: Reads, stamps: list[int]) -> None:
        """What `on_read` does for each of several reads that lie one behind the other in `data`, with their stamps.

        Those whose event is like one before it but for its text are not decoded (`alike`).
        """
        begin = done = 0
        while done < len(reads):
            if self._like is not None and self._terminal is None and self.kernel_stamps:
                found = alike(data, reads, done, *self._like)
                if found:
                    self.output.alike(stamps[done : done + found])
                    self.deadline = self._cap(stamps[done + found - 1] + self._limits.stall_ns)
                    self._unlike = 0
                    done += found
                    self.bytes_in += reads[done - 1][0] - begin
                    begin = reads[done - 1][0]
                    continue
            end, _, look = reads[done]
            self.on_read(stamps[done], look, data[begin:end], full=end - begin == READ_SIZE)
            begin, done = end, done + 1
            if self.done:
                self.response.trailing |= done < len(reads)
                return

    def _learn(self, data: bytes, bits: int) -> None:
        """Take the pattern of a read with one event; not again and again where no event is like the one before it."""
        if bits != TEXT or self._answer is not None or self.events is not None or not self.kernel_stamps:
            self._like = None
        elif self._unlike < MOST_UNLIKE:
            self._like = pattern_of(data, self._reader.text) or self._like
            self._unlike += 1

    def on_read(self, stamp: int, look: int, data: bytes, *, full: bool = False) -> None:
        """`data` arrived; its last byte at `stamp`, its first after `look`. `full`: more may have lain behind it."""
        self.bytes_in += len(data)
        response = self.response
        if response.between and self._sse.idle and (event := whole_event(data)) is not None:
            exact = self.kernel_stamps and not full
            bits = self._on_events((event,), stamp, stamp - look if stamp > look else 0, exact)
            self._learn(data, bits)
            return
        self._like = None
        if self.first_byte is None:
            self.first_byte = stamp
            self._first_byte_slack = max(stamp - look, 0)
        broken = None
        try:
            body = response.feed(data)
        except FramingError as error:
            broken = f"{error}; the read begins: {show(bytes(data), within=self.bytes_in > len(data))}"
            body = response.salvage()
        if self.headers_ns is None and response.headers_complete:
            self._on_headers(stamp)
        if body:
            if self._plain:
                self._on_plain(body, stamp)
            else:
                self._on_body(stamp, look, body, full)
        if self.done:
            return
        if broken is not None:
            self._on_broken(stamp, broken)
        elif response.complete:
            self._on_message_end(stamp)

    def _on_broken(self, stamp: int, words: str) -> None:
        """The bytes cannot be read on; what they told before that stands."""
        if self._terminal is not None:
            self._end(stamp, self._ended_well())
        elif self._plain:
            self._on_answer(stamp)
        else:
            self._end(stamp, Outcome.PROTOCOL_ERROR, words)

    def _on_headers(self, stamp: int) -> None:
        """Decide by status and media type whether events are to come."""
        self.headers_ns = stamp
        response = self.response
        assert response.status is not None
        self._plain = is_whole(response.status, response.headers)
        if self._plain:
            self._retry_after = retry_after_s(response.headers, self.wall_s)
            self.deadline = self._cap(stamp + AWAIT_END_NS)

    def _on_plain(self, body: bytes, stamp: int) -> None:
        """A body that is no stream: keep its beginning."""
        room = PROBE_BYTES - len(self._body)
        self._body += body[:room]
        if len(body) >= room:
            self._on_answer(stamp)

    def _on_body(self, stamp: int, look: int, body: bytes, full: bool) -> None:
        """Events of one read: the measured path."""
        sse = self._sse
        try:
            events = sse.feed(body)
        except SseOverflow as error:
            self._on_broken(stamp, str(error))
            return
        if sse.strays:
            events = self._with_strays(events)
        if not events:
            if self.output.known == 0:
                self._probe(body, stamp)
            return
        response = self.response
        # A chunked message that is complete ended with more than this event: its stamp is that of the end.
        # A stamp of our own clock is that of our reading: nothing it tells is exact.
        exact_end = self.kernel_stamps and not (
            sse.tail or full or response.ahead or (response.complete and response.chunked)
        )
        self._on_events(events, stamp, stamp - look if stamp > look else 0, exact_end)
        if self.output.known == 0:
            self._probe(body, stamp)

    def _on_events(self, events: Sequence[Event], stamp: int, width: int, exact_end: bool) -> int:
        """What one read completed: its last event came at `stamp`, the others up to `width` before."""
        read = self._reader.read
        last = len(events) - 1
        seen = 0
        for i, (name, data) in enumerate(events):
            bits = read(name, data)
            slack = 0 if exact_end and i == last else width
            seen |= bits
            if bits & OUTPUT:
                self.output.event(bits, stamp, slack)
                if self._answer is not None and self._kept < KEEP_TEXT:
                    self._kept += len(self._reader.text)
                    self._answer.append(self._reader.text)
            if bits != TEXT:
                self._on_other(bits, stamp, slack)
            if self.output.first is None and len(self._silent) < MOST_SILENT and len(data) <= SILENT_BYTES:
                self._silent.append((name, data))
            if self.events is not None and self._traced < KEEP_EVENTS:
                self._traced += len(data) + TRACE_BYTES
                self.events.append(Trace(stamp, slack, name, data, bits))
        if self.first_event is None:
            self.first_event = stamp
        if seen & OUTPUT:
            self._after_output(stamp)
        return seen

    def _with_strays(self, events: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        """The events, and in their places the errors that were written between them without the form of one."""
        strays, self._sse.strays = self._sse.strays, []
        for place, text in reversed(strays):
            error = bare_error(text)
            if error is not None:
                events.insert(place, error)
        return events

    def _on_unfinished(self, stamp: int) -> None:
        """Nothing more will come: such an error may lack its last line end."""
        error = bare_error(self._sse.unfinished_stray) if self._terminal is None else None
        if error is not None and self._reader.read(*error) & ERROR:
            self._on_other(ERROR, stamp, 0)

    def _after_output(self, stamp: int) -> None:
        """A read with output ends: the stall clock anew."""
        self.output.read_over(stamp)
        if self._silent:
            self._silent.clear()
        if self._terminal is None:
            self.deadline = self._cap(stamp + self._limits.stall_ns)
        elif stamp > self._terminal:  # an answer that writes on was not over
            self._terminal, self._end_slack = stamp, self.output.last_slack
            self.deadline = self._cap(stamp + AWAIT_END_NS)

    def _on_other(self, bits: int, stamp: int, slack: int) -> None:
        """What an event brought besides text."""
        self.output.other(bits)
        if bits & ERROR and self._outcome is None:
            told = self._reader.error
            self._error = told.message if told is not None else "the stream told an error without words"
            overloaded = told is not None and told.overloaded and self.output.first is None
            self._outcome = Outcome.RATE_LIMITED if overloaded else Outcome.STREAM_ERROR
        if bits & (END | ERROR):
            self._terminal = stamp
            self._end_slack = slack
            self.deadline = self._cap(stamp + AWAIT_END_NS)

    def _probe(self, body: bytes, stamp: int) -> None:
        """Keep the beginning of a body in which nothing of the dialect was seen yet; give up after 64 KB.

        Not within an event's data: the first event may be longer, and the decoder has a limit of its own.
        """
        self._body += body[: PROBE_BYTES - len(self._body)]
        if len(self._body) >= PROBE_BYTES and self._sse.comments == 0 and not self._sse.in_data:
            self._end(stamp, Outcome.PROTOCOL_ERROR, self._not_ours())

    # The end.

    def _on_message_end(self, stamp: int) -> None:
        """The HTTP message is whole."""
        if self._plain:
            self._on_answer(stamp)
            return
        self._on_unfinished(stamp)
        if self._terminal is not None or self._outcome is not None:
            self._end(stamp, self._ended_well())
        elif self._foreign() or (self.output.known == 0 and self._body and not self._sse.comments):
            self._end(stamp, Outcome.PROTOCOL_ERROR, self._not_ours())
        else:
            self._end(stamp, Outcome.TRUNCATED, "the message ended without the dialect's terminal event")

    def _on_answer(self, stamp: int) -> None:
        """A whole answer that is no stream: a redirect to follow, or which failure it is."""
        response = self.response
        self.moved = moved_to(response.status or 0, response.headers) if self.sent_ns is not None else None
        if self.moved is not None:
            self._moved_at, self.done, self.deadline = stamp, True, None
            response.release()
            return
        self._end(stamp, failure_of(response.status or 0, response.headers, bytes(self._body)))

    def _ended_well(self) -> Outcome:
        """The outcome of a stream whose terminal event came."""
        if self._outcome is not None:
            return self._outcome
        if self.output.first is None:
            if self._foreign():
                self._error = self._not_ours()
                return Outcome.PROTOCOL_ERROR
            self._error = f"the answer ended without output ({self._reader.finish or 'no reason given'})"
            return Outcome.EMPTY
        outcome = Outcome(self._reader.verdict or "ok")
        if outcome is Outcome.OK and self._expect is not None and not self._expect.search(self.text):
            self._error = f"the answer does not match {self._expect.pattern!r}"
            return Outcome.WRONG_ANSWER
        return outcome

    def on_close(self, now: int, *, reset: str | None = None) -> None:
        """The connection ended; `reset` holds the system's words if it was not an orderly close."""
        if self.done:
            return
        self._on_unfinished(now)
        if self._terminal is not None:
            self._end(now, self._ended_well())
        elif reset is None and self.response.whole_at_close:
            self.response.complete = True
            self._on_message_end(now)
        else:
            where = (
                "before the response" if self.first_byte is None
                else "within the headers" if self.headers_ns is None
                else f"after {self.output.texts} text events" if not self._plain
                else "within the error body"
            )  # fmt: skip
            if self._plain:
                self._on_answer(now)
                return
            self._end(now, Outcome.DROPPED, f"{reset or 'connection closed'} {where}")

    def on_timer(self, now: int) -> None:
        """The deadline passed."""
        self._on_unfinished(now)
        if self._terminal is not None:
            self.kept_open = True
            self._finish(self._terminal, self._end_slack, self._ended_well())
            return
        if self._plain:
            self._on_answer(now)
            return
        limits = self._limits
        if limits.total_ns is not None and self.start_ns is not None and now >= self.start_ns + limits.total_ns:
            self._end(now, Outcome.TOTAL_TIMEOUT, f"not over after {limits.total_ns / 1e9:g} s")
        elif self.output.first is not None:
            assert self.output.last is not None
            self.output.pause(now - self.output.last)  # the one that never ended counts with what was waited for it
            self._end(now, Outcome.STALL_TIMEOUT, f"no output for {limits.stall_ns / 1e9:g} s")
        elif self._stage is Outcome.CONNECT_TIMEOUT:
            missing = self.awaits or ("connection" if self.connect_ns is None else "TLS session")
            self._end(now, Outcome.CONNECT_TIMEOUT, f"no {missing} after {limits.connect_ns / 1e9:g} s")
        else:
            if self._foreign():
                self._end(now, Outcome.PROTOCOL_ERROR, self._not_ours())
                return
            seconds = limits.first_output_ns / 1e9
            self._end(now, Outcome.FIRST_TOKEN_TIMEOUT, f"no output within {seconds:g} s of sending")

    def fail(self, now: int, outcome: Outcome, words: str | None) -> None:
        """End it from outside: no address, refused, TLS, our own limits, cancelled by the plan."""
        if not self.done:
            self._end(now, outcome, words)

    def _end(self, at: int, outcome: Outcome, words: str | None = None) -> None:
        self._finish(at, 0, outcome, words)

    def _finish(self, at: int, slack: int, outcome: Outcome, words: str | None = None) -> None:
        if self._outcome is None:
            self._outcome = outcome
        if self._error is None:
            self._error = words
        self.end_ns = at
        self._end_slack = slack
        self.done = True
        self.deadline = None
        self.response.release()

    def _cap(self, deadline: int) -> int:
        total = self._limits.total_ns
        if total is None or self.start_ns is None:
            return deadline
        return min(deadline, self.start_ns + total)

    def _foreign(self) -> bool:
        return is_foreign(self._dialect, self._silent)

    def _not_ours(self) -> str:
        return not_ours(self._dialect, self._silent, bytes(self._body[:PROBE_BYTES]), self.response.headers)

    def sample(self, redact: Callable[[str], str] = str) -> Sample:
        """The facts. `redact` takes secrets out of every text that came from outside."""
        assert self._outcome is not None, "sample() before the end"
        assert self.end_ns is not None
        reader, shot, headers, told = self._reader, self.shot, self.response.headers, self.output
        error = self._error
        if error is None and self._plain:
            error = words_of(self.response.status or 0, headers, bytes(self._body), redact)
            if self._stayed is not None:
                error = f"{error} ({self._stayed})"
            if self.via is not None and self.response.status in _A_PROXYS:
                error = f"{error} (asked through the proxy {self.via}, which may have said this itself)"
        usage = reader.usage
        output = usage.output if usage else None
        reasoning = usage.reasoning if usage else None
        streamed = output
        if output is not None and reasoning and not told.reasonings:
            streamed = max(output - reasoning, 0)
        elif reader.hidden_reasoning:
            streamed = None
        return Sample(
            id=self.id, seq=shot.seq, target=shot.target, prompt=shot.prompt, phase=shot.phase, level=shot.level,
            slot=shot.slot, worker=self.worker, outcome=self._outcome, http_status=self.response.status,
            due_ns=shot.due_ns, start_ns=self.start_ns, connect_ns=self.connect_ns, tls_ns=self.tls_ns,
            sent_ns=self.sent_ns, first_byte_ns=self.first_byte, headers_ns=self.headers_ns,
            first_event_ns=self.first_event, first_output_ns=told.first, last_output_ns=told.last,
            first_reasoning_ns=told.first_reasoning, first_token_ns=told.first_text, last_token_ns=told.last_text,
            end_ns=self.end_ns, first_byte_slack_ns=self._first_byte_slack, first_output_slack_ns=told.first_slack,
            last_output_slack_ns=told.last_slack, first_reasoning_slack_ns=told.first_reasoning_slack,
            first_token_slack_ns=told.first_text_slack, end_slack_ns=self._end_slack, late_ns=self.late_ns,
            text_events=told.texts, reasoning_events=told.reasonings, tool_events=told.tools,
            unknown_events=told.unknown, malformed_events=told.malformed, merged_events=told.merged,
            output_reads=told.reads, bytes_in=self.bytes_in, gaps=told.gaps.tobytes(), gap_parts=told.gap_parts,
            longest_gap_ns=told.longest_gap, stalls=told.stalls, stalled_ns=told.stalled_ns,
            input_tokens=usage.input if usage else None, output_tokens=output, reasoning_tokens=reasoning,
            cached_tokens=usage.cached if usage else None, streamed_tokens=streamed, max_tokens=self.max_tokens,
            finish=_short(reader.finish, 60, redact), model=_short(reader.model, 120, redact),
            error=_short(error, ERROR_BODY, redact), answered_by=_short(answered_by(headers), 120, redact),
            headers={name: _shown(value, HEADER, redact) for name, value in kept_headers(headers).items()},
            retry_after_s=self._retry_after, peer=self.peer, conn=self.conn, conn_requests=self.conn_requests,
            retried=self.retried, kept_open=self.kept_open, clock_step=self.clock_step,
            kernel_stamps=self.kernel_stamps, local_port=self.local_port, redirects=self.redirects,
            tls_resumed=self.tls_resumed, encoded="content-encoding" in headers,
            instance=_short(instance_of(headers), 60, redact) or self.peer or "",
        )  # fmt: skip


def _short(text: str | None, length: int, redact: Callable[[str], str]) -> str | None:
    return None if text is None else _shown(text, length, redact)


def _shown(text: str, length: int, redact: Callable[[str], str]) -> str:
    """At most `length` characters; secrets go first, or half of one might stay. A server may send any amount."""
    return cut_short(redact(cut_short(text, length + ERROR_BODY)), length)
