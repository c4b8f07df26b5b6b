"""The truth log: what the server really did, written by the server, read by whoever judges a measurement.

Format, version 1: one JSON object a line. A request's line is written at its end and flushed within 1 s. Times are
CLOCK_MONOTONIC in ns, the clock that a client on the same host reads. A send is [due, before, after, bytes, kinds]:
when it was planned, the clock just before and just after the true send(), its size on the wire, and the events that it
made whole, divided by spaces (`text*4`: one event worth four tokens). The end of an event's chunk may come later. A
long answer is written in parts, `{"part": n, "sends": [...]}`, so that the log costs no memory; `read` joins them.

Rules: sends are noted by the engine, in order; this module reads no clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TextIO

VERSION = 1
PART = 512

OUTPUT = ("text", "reasoning", "tool")


@dataclass(frozen=True, slots=True)
class Sent:
    """One true send."""

    due_ns: int
    before_ns: int
    after_ns: int
    size_bytes: int
    kinds: tuple[str, ...]
    """The events it completed: headers, start, text, reasoning, tool, block, ping, comment, usage, finish, done, error,
    refusal, raw, wire, body, end. None: a piece of one, or the end of a chunk whose event was whole before."""
    tokens: int
    """Text tokens in it."""

    @property
    def late_ns(self) -> int:
        """How late the server began this send."""
        return self.before_ns - self.due_ns

    def has(self, *kinds: str) -> bool:
        """Whether it completed an event of one of these kinds."""
        return any(kind in self.kinds for kind in kinds)


@dataclass(frozen=True, slots=True)
class Record:
    """The truth about one request. See docs/simulator.md for each field."""

    request: int
    trace_id: str | None
    dialect: str | None
    model: str | None
    path: str
    stream: bool
    plan: str
    """`model`, `script`, `fault NAME` or `refused`."""
    fault: str | None
    script: str | None
    conn: int
    conn_request: int
    tls: bool
    accepted_ns: int
    request_complete_ns: int
    """When the server had read the last byte of the request."""
    admitted_ns: int | None
    """When it got its place; None where it never did."""
    status: int | None
    outcome: str | None
    """As meant, by the names of the product's outcomes; None where the client left before that was settled."""
    ended: str
    """`complete` (message ended), `closed`, `reset`, `client` (it left), `shutdown`."""
    end_ns: int
    finish: str | None
    usage: dict[str, int] | None
    """input, output, reasoning, cached as told on the wire; None where nothing was told."""
    prompt_chars: int
    max_tokens: int | None
    blocked_ns: int
    """Time in which the client's full buffers held sends back."""
    sends: tuple[Sent, ...]

    def first(self, *kinds: str) -> Sent | None:
        """The first send that completed an event of one of these kinds."""
        return next((send for send in self.sends if send.has(*kinds)), None)

    def all(self, *kinds: str) -> list[Sent]:
        """Every send that completed an event of one of these kinds."""
        return [send for send in self.sends if send.has(*kinds)]

    @property
    def ttft_ns(self) -> int | None:
        """From the request's last byte to the true send of the first text."""
        send = self.first("text")
        return None if send is None else send.before_ns - self.request_complete_ns

    @property
    def text_gaps_ns(self) -> list[int]:
        """Between the true sends of consecutive writes with text."""
        times = [send.before_ns for send in self.all("text")]
        return [b - a for a, b in pairwise(times)]

    @property
    def text_events(self) -> int:
        """Events of visible text."""
        return self.count("text")

    @property
    def text_tokens(self) -> int:
        """Tokens of visible text."""
        return sum(send.tokens for send in self.sends)

    def count(self, kind: str) -> int:
        """Events of this kind."""
        return sum(send.kinds.count(kind) for send in self.sends)

    @property
    def late_ns(self) -> list[int]:
        """The lateness of each send, where the client did not hold it up."""
        return [] if self.blocked_ns else [send.late_ns for send in self.sends]


class TruthLog:
    """Appends to the log file. Without a file nothing is kept."""

    def __init__(self, path: str | None) -> None:
        self._file: TextIO | None = None if path is None else Path(path).open("w", encoding="utf-8")  # noqa: SIM115
        self.on = path is not None

    def part(self, request: int, sends: list[str]) -> None:
        """Write sends of an answer that goes on."""
        self._write({"part": request}, sends)

    def record(self, facts: dict[str, object], sends: list[str]) -> None:
        """Write a request's line."""
        self._write({"v": VERSION, **facts}, sends)

    def _write(self, value: dict[str, object], sends: list[str]) -> None:
        if self._file is not None:
            text = json.dumps(value, separators=(",", ":"))
            self._file.write(f'{text[:-1]},"sends":[{",".join(sends)}]}}\n')

    def flush(self) -> None:
        """Hand what was written to the system."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        if self._file is not None:
            self._file.close()


def send_line(due: int, before: int, after: int, size: int, kinds: str) -> str:
    """One send as it stands in the log. Made at once: thousands of tuples in memory would cost pauses of the garbage
    collector, and their encoding at an answer's end would hold up other streams. `kinds` are plain words."""
    return f'[{due},{before},{after},{size},"{kinds}"]'


def read(path: str | Path) -> list[Record]:
    """Every record of a log in the order of their ends; a torn last line is left out."""
    return list(_records(Path(path)))


def _records(path: Path) -> Iterator[Record]:
    """Line by line, parts put before what follows them."""
    parts: dict[int, list[list[object]]] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                return
            value = json.loads(line)
            if "part" in value:
                parts.setdefault(value["part"], []).extend(value["sends"])
                continue
            if value.pop("v") != VERSION:
                raise ValueError(f"{path}: a truth log of another version; this program reads version {VERSION}")
            sends = [*parts.pop(value["request"], []), *value.pop("sends")]
            yield Record(**value, sends=tuple(_sent(send) for send in sends))


def _sent(line: list[object]) -> Sent:
    """One send, its kinds taken apart."""
    due, before, after, size, kinds = line
    names: list[str] = []
    tokens = 0
    for word in str(kinds).split():
        name, _, worth = word.partition("*")
        names.append(name)
        if name == "text":
            tokens += int(worth or 1)
    assert isinstance(due, int)
    assert isinstance(before, int)
    assert isinstance(after, int)
    assert isinstance(size, int)
    return Sent(due, before, after, size, tuple(names), tokens)
