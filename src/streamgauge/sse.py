"""Server-sent events out of bytes, as they come: the WHATWG event-stream rules without I/O and without a clock.

Strategy: almost every read of a token stream is one whole block, `data: {...}` with or without an `event:` line before
it and a blank line behind it, met with nothing held back; that case is decided by a few looks at the bytes. Everything
else goes line by line.

Rules (html.spec.whatwg.org, 9.2.5 and 9.2.6): one leading BOM is dropped; a line ends with LF, CR or CRLF, also where
a CRLF is cut by two reads; a line that begins with a colon is a comment; one space behind a field's colon is dropped;
data lines are joined by LF; an unknown field is ignored, and so is an id with a NULL in it; a blank line ends an
event, which is told only if it had a data line; what is unfinished at the end of the stream is no event (`incomplete`
tells). The data of an event stays bytes: whether it is UTF-8, and JSON, is for its reader to say.
"""

from __future__ import annotations

from collections.abc import Callable

from streamgauge.compiled import part

LIMIT_BYTES = 1 << 20
"""One line, or the lines of one event, may be this long."""

STRAY_BYTES = 4_096
_FIELDS = (b"data", b"event", b"id", b"retry")
_BOM = b"\xef\xbb\xbf"


class SseOverflow(ValueError):
    """A line or an event longer than the limit: no token stream, or a hostile one. The decoder is spent after it."""


class SseDecoder:
    """The state of one event stream.

    `tail`: bytes fed behind the end of the last event (a line end counts as one byte). 0 means that the last event
    ended exactly where the fed bytes end, so a stamp of the last byte is the event's own. `incomplete`: an event or a
    line was begun and not ended, which at the end of the stream means that it was cut. `idle`: nothing is held back and
    no event is begun. `comments` counts comment lines (keep-alives). `retry_ms` and `last_event_id` are the last ones
    told. `strays`: blocks of lines whose field
    this format does not know, each with how many events of its feed came before it; whoever looks at them empties it.
    """

    __slots__ = (
        "_data", "_held", "_id", "_limit", "_size", "_skip_lf", "_start", "_stray", "_type", "comments", "idle",
        "last_event_id", "retry_ms", "strays", "tail",
    )  # fmt: skip

    def __init__(self, limit: int = LIMIT_BYTES) -> None:
        self._limit = limit
        self._held = bytearray()  # an unfinished line
        self._data: list[bytes] = []  # the data lines of the event being read
        self._type = ""
        self._id = ""
        self._size = 0  # bytes of the event's finished lines
        self._skip_lf = False  # the last byte fed was a CR that ended a line: an LF next belongs to it
        self._start = True  # a BOM may still come
        self.idle = False  # nothing is held and no event is begun: the fast path may be tried
        self.tail = 0
        self.comments = 0
        self.retry_ms: int | None = None
        self.last_event_id = ""
        self._stray = bytearray()  # lines of the block being read whose field is unknown
        self.strays: list[tuple[int, bytes]] = []

    def __repr__(self) -> str:
        return f"SseDecoder(tail={self.tail}, incomplete={self.incomplete}, comments={self.comments})"

    @property
    def incomplete(self) -> bool:
        """Whether a line or an event was begun and not ended."""
        return bool(self._held or self._size)

    @property
    def in_data(self) -> bool:
        """Whether an event that has data was begun and not ended."""
        return bool(self._data) or self._held.startswith(b"data:")

    @property
    def unfinished_stray(self) -> bytes:
        """The lines of unknown fields since the last blank line, and the beginning of a line that is not ended."""
        return bytes(self._stray + self._held[:STRAY_BYTES])

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The events that `data` completed, as (type, data), in order. Raises SseOverflow past the limit."""
        if (self.idle or (self._start and not self._held)) and len(data) <= self._limit:
            block = data[:-4] + b"\n\n" if data[-4:] == b"\r\n\r\n" else data  # Gemini ends its lines with CRLF
            name, at = "message", 0
            if block[:6] == b"data: ":
                at = 6
            elif block[:7] == b"event: ":
                cut = block.find(b"\n")
                if block[cut + 1 : cut + 7] == b"data: ":
                    at = cut + 7
                    name = block[7:cut].decode("utf-8", "replace") or name
            if at and block.find(b"\n", at) == len(block) - 2 and block[-1] == 10 and b"\r" not in block:
                self._start = False
                self.idle = True
                self.tail = 0
                return [(name, block[at:-2])]
        return self._feed(data)

    def _feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The whole of the rules, line by line."""
        if self._start:
            self._held += data
            if len(self._held) < 3 and _BOM.startswith(self._held):
                self.tail += len(data)
                return []
            data = bytes(self._held).removeprefix(_BOM)
            self._held.clear()
            self._start = False
            self.tail = 0
        if self._skip_lf and data:
            self._skip_lf = False
            data = data.removeprefix(b"\n")
        if b"\r" in data:
            self._skip_lf = data[-1] == 13
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = data.split(b"\n")
        rest = lines.pop()
        events: list[tuple[str, bytes]] = []
        if lines:
            if self._held:
                lines[0] = bytes(self._held) + lines[0]
                self._held.clear()
            last = self._lines(lines, events)
            if last >= 0:
                self.tail = sum(map(len, lines[last + 1 :])) + len(lines) - last - 1 + len(rest)
            else:
                self.tail += len(data)
        else:
            self.tail += len(data)
        if rest:
            self._held += rest
            if len(self._held) + (0 if self._held[0] == 58 else self._size) > self._limit:
                self._overflow()
        self.idle = not (self._held or self._size or self._skip_lf)
        return events

    def _lines(self, lines: list[bytes], events: list[tuple[str, bytes]]) -> int:
        """Take finished lines; events go to `events`. Returns which line ended the last event, or -1."""
        last = -1
        limit = self._limit
        for i, line in enumerate(lines):
            if line:
                if line[0] == 58:  # a colon
                    if len(line) > limit:
                        self._overflow()
                    self.comments += 1
                    continue
                self._size += len(line) + 1
                if self._size >= limit:  # with its blank line it would be longer
                    self._overflow()
                if line[:6] == b"data: ":
                    self._data.append(line[6:])
                else:
                    self._field(line)
                continue
            self._size = 0
            self.last_event_id = self._id
            if self._stray:
                self.strays.append((len(events), bytes(self._stray)))
                self._stray.clear()
            if self._data:
                block = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                events.append((self._type or "message", block))
                self._data.clear()
                last = i
            self._type = ""
        return last

    def _field(self, line: bytes) -> None:
        """One line that is neither blank nor a comment."""
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._type = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) <= 18:
            self.retry_ms = int(value)
        elif name not in _FIELDS and len(self._stray) + len(line) < STRAY_BYTES:
            self._stray += line + b"\n"

    def _overflow(self) -> None:
        raise SseOverflow(f"an event or line of the stream is longer than {self._limit:,} bytes")


def pure_whole_event(data: bytes) -> tuple[str, bytes] | None:
    """The event (type, data) where `data` is one whole chunk with one whole event of the commonest forms, else None.

    Almost every read of a token stream is that. Between two chunks, with nothing of an event held back, such a read
    changes neither framing nor decoder, and need not pass through them.
    """
    cut = data.find(b"\r\n")
    at, name = cut + 2, "message"
    if data[at : at + 7] == b"event: ":
        line = data.find(b"\n", at)
        name, at = data[at + 7 : line].decode("latin-1"), line + 1
        if not name.isascii() or not name.isprintable() or not name:
            return None
    size = data[:cut]
    if data[at : at + 6] != b"data: " or not 0 < cut <= 6 or not size.isalnum():
        return None
    at += 6
    end = data.find(b"\n", at)
    crlf = data[end - 1 : end] == b"\r" and end > at
    if data[end:] != (b"\n\r\n\r\n" if crlf else b"\n\n\r\n"):
        return None
    event = data[at : end - crlf]
    try:
        whole = int(size, 16) == len(data) - cut - 4
    except ValueError:
        return None
    return (name, event) if whole and b"\r" not in event else None


whole_event: Callable[[bytes], tuple[str, bytes] | None] = part.whole_event if part else pure_whole_event
