"""Events that are like one that was decoded, but for their text.

A server writes the events of an answer from one pattern: `{"id": ..., "delta": {"content": "<text>"}, ...}`. Where one
brought text and nothing else, another that has the same bytes before and behind that text brings the same, and need not
be decoded: JSON with another plain string in a string's place is the same but for that string. Plain is ASCII without
quote, backslash and control characters, so that no escape and no broken character can hide in it.

Rules: a pattern is taken only where the text stands in the event exactly once, as it is, and nothing of the event is
escaped. It is dropped as soon as an event brings anything but text: a dialect may then read the same bytes otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from streamgauge.compiled import part
from streamgauge.drain import READ_SIZE, Reads

_PLAIN = re.compile(rb"[ !#-\[\]-\x7f]+").fullmatch
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,6}\r\n").match

Pattern = tuple[bytes, bytes]
"""What stands before and behind the text, from the end of the chunk's size to the end of the chunk."""


def pattern_of(read: bytes, text: str) -> Pattern | None:
    """The pattern of a read that is one chunk with one event (`whole_event`), which brought `text` and nothing else."""
    if b"\\" in read or not text.isascii():
        return None
    quoted = b'"%b"' % text.encode()
    at = read.find(quoted)
    if at < 0 or read.rfind(quoted) != at or not _PLAIN(quoted, 1, len(quoted) - 1):
        return None
    return read[read.index(b"\r\n") + 2 : at + 1], read[at + len(quoted) - 1 :]


def pure_alike(data: bytes, reads: Reads, first: int, head: bytes, tail: bytes) -> int:
    """How many of `reads` (of `data`) from the first on are one chunk each, of the pattern `head`, `tail`."""
    at = reads[first - 1][0] if first else 0
    found = 0
    for end, _, _ in reads[first:]:
        size = _SIZE(data, at, end)
        if size is None or end - at >= READ_SIZE:
            break
        text, behind = size.end() + len(head), end - len(tail)
        whole = int(data[at : size.end() - 2], 16) == end - size.end() - 2
        if not (whole and data.startswith(head, size.end(), end) and data.endswith(tail, at, end)):
            break
        if text >= behind or not _PLAIN(data, text, behind):
            break
        at = end
        found += 1
    return found


alike: Callable[[bytes, Reads, int, bytes, bytes], int] = part.alike if part else pure_alike
