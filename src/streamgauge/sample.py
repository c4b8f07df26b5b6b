"""The waist: one `Sample` a request, one `Reading` a look of a probe. The left half makes them, the right half reads.

Rules: every Shot that came due yields exactly one Sample, whatever happened. A stamp that was not reached is None.
Nothing here holds a prompt, an answer or a secret. Times are integer ns on CLOCK_MONOTONIC of the generating host.

The file is a header line, then records, each a little-endian u32 length and one msgpack array whose first element is
its tag: `s` a Sample, `g` a part of a Sample's gaps written before it (a long stream spills them), `c` the end of a
connection, `a` what the worker saw of itself; a file of readings has `r`. A torn last record (the generator was killed)
is dropped; anything else that cannot be read is an error.
New fields go to the end with a default: an old file still reads.
"""

from __future__ import annotations

import enum
import os
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from streamgauge.errors import StorageError, UsageError

T = TypeVar("T")

FORMAT = 1
"""History of the format. 1: first."""

HEADER = b"streamgauge samples %d\n"
REPEATS, REPEATED = "repeats", "repeated"
"""The phase in which one prompt is sent again and again beside new ones, and what that prompt is called."""
STALL_NS = 2_000_000_000
SPILL_GAPS = 4_096
"""A stream holds this many gaps (16 KB) before they are written out as a `GapsPart`."""
LONGEST_RECORD = 1 << 20
"""No record comes near it: a longer one is damage, not the torn last one."""
MERGED_NS = 1_000_000
"""An event whose slack is wider than this counts as merged: its own time is our doing, not known well."""


class Outcome(enum.StrEnum):
    """How a request ended. The first cause in time wins."""

    OK = "ok"
    LENGTH_CAPPED = "length_capped"
    FILTERED = "filtered"
    HTTP_ERROR = "http_error"
    RATE_LIMITED = "rate_limited"
    AUTH_ERROR = "auth_error"
    DNS_ERROR = "dns_error"
    CONNECT_REFUSED = "connect_refused"
    UNREACHABLE = "unreachable"
    TLS_ERROR = "tls_error"
    CONNECT_TIMEOUT = "connect_timeout"
    FIRST_TOKEN_TIMEOUT = "first_token_timeout"
    STALL_TIMEOUT = "stall_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    DROPPED = "dropped"
    TRUNCATED = "truncated"
    STREAM_ERROR = "stream_error"
    EMPTY = "empty"
    WRONG_ANSWER = "wrong_answer"
    PROTOCOL_ERROR = "protocol_error"
    SHED = "shed"
    CLIENT_LIMIT = "client_limit"
    CANCELLED = "cancelled"


GOOD = frozenset({Outcome.OK, Outcome.LENGTH_CAPPED, Outcome.FILTERED})
DROPS = frozenset({Outcome.DROPPED, Outcome.TRUNCATED})
NOT_JUDGED = frozenset({Outcome.CANCELLED, Outcome.CLIENT_LIMIT})
"""Ended by the plan or by our own limits: in no population."""
SETUP = frozenset({Outcome.AUTH_ERROR, Outcome.PROTOCOL_ERROR, Outcome.TLS_ERROR})
"""A run in which every request ended alike in one of these (or http_error 4xx) measured the set-up, not the service."""


class Sample(msgspec.Struct, frozen=True, array_like=True, tag="s", gc=False, kw_only=True, omit_defaults=False):
    """The facts of one request.

    `*_slack_ns` beside an arrival stamp: the true arrival lies in (stamp - slack, stamp]; 0 is exact.
    """

    id: str
    """Trace id, 32 hex digits, as sent in traceparent."""
    seq: int
    """Its place among the run's Shots of this worker's shard, from 0."""
    target: str
    prompt: str
    phase: str
    level: int
    """Streams wanted (closed loop) or 0 (open loop)."""
    slot: int
    """Which of the plan's slots it used; unique over the run's workers. -1 in open loop."""
    worker: int
    outcome: Outcome
    http_status: int | None = None

    due_ns: int
    start_ns: int | None = None
    connect_ns: int | None = None
    tls_ns: int | None = None
    sent_ns: int | None = None
    first_byte_ns: int | None = None
    headers_ns: int | None = None
    first_event_ns: int | None = None
    first_output_ns: int | None = None
    last_output_ns: int | None = None
    first_reasoning_ns: int | None = None
    first_token_ns: int | None = None
    last_token_ns: int | None = None
    end_ns: int

    first_byte_slack_ns: int = 0
    first_output_slack_ns: int = 0
    last_output_slack_ns: int = 0
    first_reasoning_slack_ns: int = 0
    first_token_slack_ns: int = 0
    end_slack_ns: int = 0
    late_ns: int = 0
    """How late the request went out through us, at most: start - max(due, when a slot and the plan's rules allowed it),
    and on a new connection the time from a step of its set-up until we noticed."""

    text_events: int = 0
    reasoning_events: int = 0
    tool_events: int = 0
    unknown_events: int = 0
    malformed_events: int = 0
    merged_events: int = 0
    """Text events whose slack exceeds 1 ms."""
    output_reads: int = 0
    """Reads that brought output."""
    bytes_in: int = 0
    gaps: bytes = b""
    """Inter-token gaps as little-endian u32 of us, in order, the last part of them (see GapsPart)."""
    gap_parts: int = 0
    """How many GapsPart records hold the earlier gaps."""
    longest_gap_ns: int | None = None
    """Longest time between consecutive reads with output of any kind; None with fewer than two."""
    stalls: int = 0
    """How many of those exceed 2 s."""
    stalled_ns: int = 0
    """Their sum."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    streamed_tokens: int | None = None
    """output_tokens less those known never to have been streamed; None where they cannot be told apart."""
    max_tokens: int | None = None
    """What the request asked for at most."""

    finish: str | None = None
    model: str | None = None
    error: str | None = None
    """What went wrong in the server's or the system's words, redacted, at most 2 KB."""
    answered_by: str | None = None
    """Who answered, as the headers tell (server, via, CDN)."""
    headers: dict[str, str] = {}
    """Response headers kept by an allow-list: request id, Server-Timing, rate limits, CDN."""
    retry_after_s: float | None = None
    peer: str | None = None
    conn: int = -1
    """Which connection of this worker carried it; -1 when none was made."""
    conn_requests: int = 0
    """How many requests that connection had carried before."""
    retried: int = 0
    kept_open: bool = False
    clock_step: bool = False
    kernel_stamps: bool = True
    local_port: int | None = None
    redirects: int = 0
    """How many redirects were followed; their time lies between `sent` and `first_byte`."""
    tls_resumed: bool | None = None
    """Whether the TLS handshake took up an earlier session; None where there was no handshake."""
    encoded: bool = False
    """Whether the answer had a content encoding."""
    instance: str = ""
    """Which of several servers answered: as an allow-listed header tells, else the address that it was sent to."""

    @property
    def good(self) -> bool:
        """Whether it counts as a success."""
        return self.outcome in GOOD

    @property
    def judged(self) -> bool:
        """Whether it belongs to any population."""
        return self.outcome not in NOT_JUDGED

    @property
    def owes_text(self) -> bool:
        """Whether a first visible token was owed.

        A good answer of tool calls only, a filtered one, or one cut by our own max_tokens while it was still reasoning
        owes none. Everything else does, failures included.
        """
        if self.first_token_ns is not None or not self.good:
            return True
        if self.outcome is Outcome.FILTERED or self.tool_events:
            return False
        return not (self.outcome is Outcome.LENGTH_CAPPED and self.max_tokens is not None and self.reasoning_events > 0)


class GapsPart(msgspec.Struct, frozen=True, array_like=True, tag="g", gc=False):
    """Earlier gaps of the Sample with this id, `part` counting from 0."""

    id: str
    part: int
    gaps: bytes


Closer = Literal["server", "reset", "asked", "us"]
"""Who ended a connection: the server in order, or by a reset (ours to notice, perhaps of somebody on the way); we,
because the server's answer asked for it; or we by ourselves (a stream given up, the end of the run)."""


class Closing(msgspec.Struct, frozen=True, array_like=True, tag="c", gc=False, kw_only=True):
    """A connection that was made, and its end."""

    worker: int
    conn: int
    """Its number, as Samples of this worker have it."""
    target: str
    peer: str
    opened_ns: int
    """When the target could be spoken to."""
    idle_ns: int | None
    """Since when no request was on it; None where one was."""
    closed_ns: int
    carried: int
    """Requests sent on it."""
    by: Closer


class AuditTick(msgspec.Struct, frozen=True, array_like=True, tag="a", gc=False, kw_only=True):
    """What a worker saw of itself since its last tick (about every 250 ms)."""

    worker: int
    at_ns: int
    cpu: float
    """Share of one core its thread used."""
    longest_turn_ns: int
    """Longest time from one wake-up to the next look."""
    open_streams: int
    open_sockets: int
    text_events: int
    bytes_in: int
    starts: int
    steps: list[tuple[int, int, int]]
    """Clock steps (from_ns, to_ns, jump_ns)."""
    machine: float | None = None
    """Share of all the machine's processor time that anyone used; None where the system does not tell."""


MEMORY = ("rss", "pss", "uss", "heap_used", "heap_total", "external", "array_buffers", "memory_limit")
"""Gauges in bytes."""
GAUGES = (*MEMORY, "connections", "descriptors", "threads", "restarts", "cpu_s")
"""The names of gauges that mean the same with every probe. Any other name is the spec's own."""
FACTS = ("uptime", "instance", "pid", "time", "collected")
"""What else a server may tell: seconds since its start; who answers; when; whether garbage was collected."""


class Reading(msgspec.Struct, frozen=True, array_like=True, tag="r", gc=False, kw_only=True):
    """What a probe saw of the server at one time. A failed look is one too: it has `error` and no values."""

    probe: str
    """Its name in the spec."""
    instance: str = ""
    """Which of several servers answered, as it told itself; "" where it did not."""
    at_ns: int
    """The middle of the asking, between `took_ns / 2` before and after."""
    took_ns: int
    values: dict[str, float] = {}
    """Gauge -> value, see GAUGES; others are the spec's own. What is unknown is left out."""
    uptime_s: float | None = None
    pid: int | None = None
    collected: bool = False
    """The server was asked to collect its garbage first."""
    snapshot: bool = False
    """One of the detailed ones, some minutes apart."""
    error: str | None = None
    """Why there are no values, redacted."""


Record = Sample | GapsPart | AuditTick | Closing

_encoder = msgspec.msgpack.Encoder()
_readings: msgspec.msgpack.Decoder[Reading] = msgspec.msgpack.Decoder(Reading)
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)
_length = struct.Struct("<I")


def encode(record: Record | Reading) -> bytes:
    """One record as it stands in the file: its length, then msgpack."""
    body = _encoder.encode(record)
    return _length.pack(len(body)) + body


class SampleWriter:
    """Appends records to one shard's file. Buffered: `flush` at least once a second.

    A full disk or a folder that vanished raises StorageError naming the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._buffer = bytearray()
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"cannot create {path}: {error.strerror}; choose another place or free it") from error
        self._buffer += HEADER % FORMAT
        self.flush()

    def __repr__(self) -> str:
        return f"SampleWriter({str(self.path)!r}, buffered={len(self._buffer)})"

    def add(self, record: Record | Reading) -> None:
        """Take one record; it is on its way to the disk at the next flush."""
        self._buffer += encode(record)

    def flush(self) -> None:
        """Write what is buffered."""
        buffer = self._buffer
        try:
            while buffer:
                done = os.write(self._fd, buffer)
                del buffer[:done]
        except OSError as error:
            raise StorageError(
                f"cannot write {self.path}: {error.strerror}; what was written stays: free space, then "
                "`streamgauge report`"
            ) from error

    def close(self) -> None:
        """Flush and close; safe to call twice."""
        if self._fd >= 0:
            try:
                self.flush()
            finally:
                os.close(self._fd)
                self._fd = -1


@dataclass(frozen=True, slots=True)
class Block:
    """Some thousand records as they stand in their file: record i is data[begins[i]:ends[i]]."""

    path: Path
    offset: int
    """Where in the file the block begins."""
    data: bytes
    begins: list[int]
    ends: list[int]

    def __len__(self) -> int:
        return len(self.begins)

    def record(self, i: int) -> Record:
        """One of them, decoded. UsageError where it is damaged."""
        return self._decoded(i, _decoder)

    def readings(self) -> Iterator[Reading]:
        """All of them, where the file is one of readings. UsageError where it is damaged."""
        return (self._decoded(i, _readings) for i in range(len(self)))

    def _decoded(self, i: int, decoder: msgspec.msgpack.Decoder[T]) -> T:
        begin = self.begins[i]
        try:
            return decoder.decode(memoryview(self.data)[begin : self.ends[i]])
        except (msgspec.MsgspecError, ValueError) as error:
            raise UsageError(f"{self.path} is damaged near byte {self.offset + begin}: {error}") from error

    def records(self) -> Iterator[Record]:
        """All of them, decoded in turn."""
        return map(self.record, range(len(self)))


def read_records(path: Path) -> Iterator[Record]:
    """The records of one shard's file in the order they were written; see read_blocks."""
    for block in read_blocks(path):
        yield from block.records()


def read_blocks(path: Path) -> Iterator[Block]:
    """The records of one shard's file in the order they were written, not yet decoded.

    A torn last record ends the iteration: the generator was killed while it wrote. A file that is no sample file,
    or one of a newer format, raises UsageError.
    """
    with path.open("rb") as file:
        first = file.readline(64)
        if first == b"" or not b"streamgauge samples ".startswith(first[:20]) or len(first) < 20:
            if b"streamgauge samples ".startswith(first):
                return  # killed before the header was whole
            raise UsageError(f"{path} is no streamgauge samples file")
        try:
            version = int(first[20:])
        except ValueError:
            if not first.endswith(b"\n"):
                return
            raise UsageError(f"{path} is no streamgauge samples file") from None
        if version > FORMAT:
            raise UsageError(f"{path} has format {version}; this streamgauge reads up to {FORMAT}: use a newer one")
        rest = b""
        while chunk := file.read(1 << 20):
            data = rest + chunk
            block = _split(path, file.tell() - len(data), data)
            yield block
            rest = data[block.ends[-1] if block.ends else 0 :]
            if len(rest) >= 4 and (size := _length.unpack_from(rest)[0]) > LONGEST_RECORD:
                where = file.tell() - len(rest) + 4
                raise UsageError(f"{path} is damaged near byte {where}: a record of {size:,} bytes")


def _split(path: Path, offset: int, data: bytes) -> Block:
    """The records of `data`, less a last one that is not whole."""
    ends: list[int] = []
    at, last, length, found = 0, len(data) - 4, _length.unpack_from, ends.append
    while at <= last:
        at += 4 + length(data, at)[0]
        found(at)
    if at > len(data):
        del ends[-1]
    begins = [4, *(end + 4 for end in ends[:-1])] if ends else []
    return Block(path, offset, data, begins, ends)


def gaps_us(gaps: bytes) -> array[int]:
    """A Sample's or part's gaps as an array of us."""
    values = array("I")
    values.frombytes(gaps)
    return values
