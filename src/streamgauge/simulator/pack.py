"""Packs events into writes: the response head, chunks, and the unusual ways in which bytes can travel.

Strategy: what is due together leaves in one write, each event a chunk of its own. `merge` gathers the next steps into
one write, `split` cuts an event over several, `lump` holds events to the end of a window, a compressor may keep events
back. Whatever happens, the order stays and the kinds say which events a write made whole.

Rules: no I/O, no clock. `at` is ns since the request; a write never leaves before the one ahead of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from streamgauge.simulator.voices.api import Event
from streamgauge.simulator.wire import Framing

# What the engine does after a write.
GO, END, CLOSE, RESET, HANG, ADMIT = range(6)
Send = tuple[int, bytes, str, int]
"""(offset_ns, bytes, kinds divided by spaces, what comes after)"""


class Packer:
    """The writes of one response."""

    def __init__(self, framing: Framing) -> None:
        self.framing = framing
        self.head = b""
        """Still to be sent; it goes with the next write."""
        self.merge = 0
        """Steps still to be gathered into one write."""
        self.split: tuple[int, int] | None = None
        """(pieces, gap_ns) for the next event."""
        self.lump_ns = 0
        self._gathered: list[Event] = []
        self._due = 0
        self._kept = ""
        self._floor = 0

    def emit(self, at: int, events: list[Event]) -> list[Send]:
        """The writes of one step's events."""
        if not events:
            return []
        if self.merge:
            self._gathered += events
            self._due = at
            self.merge -= 1
            return [] if self.merge else self.release(at)
        if self.split is not None:
            (count, gap_ns), self.split = self.split, None
            ahead = [*self.release(at), *self.write(at, events[:-1])]
            return [*ahead, *self._cut(at, events[-1], count, gap_ns)]
        if self.lump_ns:
            sends = self.release(at) if self._gathered and at > self._due else []
            if not self._gathered:
                self._due = (at // self.lump_ns + 1) * self.lump_ns
            self._gathered += events
            return sends
        return self.write(at, events)

    def write(self, at: int, events: list[Event]) -> list[Send]:
        """One write with these events, behind the head if that is still to go."""
        if not events:
            return []
        if len(events) == 1 and not self.head and not self._kept:
            data, kinds = self.framing.wrap(events[0][0]), events[0][1]
        else:
            data = b"".join([self.framing.wrap(event) for event, _ in events])
            kinds = " ".join(kind for kind in (self._kept, *[kind for _, kind in events]) if kind)
            self._kept = ""
        if not data:  # a compressor keeps it back; the head does not wait for that
            self._kept = kinds
            return self.flush_head(at)
        if self.head:
            data, kinds, self.head = self.head + data, f"headers {kinds}", b""
        return self.bare(at, data, kinds)

    def bare(self, at: int, data: bytes, kinds: str, then: int = GO) -> list[Send]:
        """A write of these bytes as they are."""
        if at > self._floor:
            self._floor = at
        return [(self._floor, data, kinds, then)]

    def flush_head(self, at: int) -> list[Send]:
        """The head alone, if it is still to go."""
        if not self.head:
            return []
        data, self.head = self.head, b""
        return self.bare(at, data, "headers")

    def release(self, at: int) -> list[Send]:
        """What a merge or a lump holds: at its own time, or now."""
        gathered, self._gathered, self.merge = self._gathered, [], 0
        return self.write(self._due if self.lump_ns else at, gathered)

    def end(self, at: int) -> Iterator[Send]:
        """The end of the message."""
        sends = [*self.release(at), *self.flush_head(at)]
        yield from sends
        kinds = f"{self._kept} end".strip()
        yield from self.bare(at, self.framing.end(), kinds, END)

    def _cut(self, at: int, event: Event, count: int, gap_ns: int) -> list[Send]:
        """One event over several writes. Each kind is on the piece that made it whole: the piece after that may hold
        nothing but the end of the chunk."""
        head = len(self.head)
        sends: list[Send] = []
        for offset, data, kinds, then in self.write(at, [event]):
            whole = self.framing.whole(event[0], len(data))
            ends = [(head if kind == "headers" else whole, kind) for kind in kinds.split()]
            size = max(1, -(-len(data) // count))
            for start in range(0, len(data), size):
                here = " ".join(kind for end, kind in ends if start < end <= start + size)
                sends += self.bare(offset + start // size * gap_ns, data[start : start + size], here, then)
        return sends


def joined(sends: list[Send]) -> list[Send]:
    """Writes that are due at the same moment as one; what comes after is the last one's."""
    if len(sends) < 2 or any(send[0] != sends[0][0] for send in sends):
        return sends
    kinds = " ".join(kind for _, _, kind, _ in sends if kind)
    return [(sends[0][0], b"".join(data for _, data, _, _ in sends), kinds, sends[-1][3])]
