"""Events that are like one that was decoded, but for their text.

A server writes the events of an answer from one pattern: `{"id": ..., "delta": {"content": "<text>"}, ...}`. Where one
brought text and nothing else, another that has the same bytes before and behind that text brings the same, and need not
be decoded: JSON with another plain string in a string's place is the same but for that string. Plain is ASCII without
quote, backslash and control characters, so that no escape and no broken character can hide in it.

Some providers pad, so that a listener on the wire cannot guess words by their length. What they pad with may differ
too: blanks before an object's last brace (Anthropic), which JSON does not count, and a plain string under the key
`obfuscation` (OpenAI), at which no reader looks.

Rules: a pattern is taken only where the text stands in the event exactly once, as it is, and nothing of the event is
escaped. It is dropped as soon as an event brings anything but text: a dialect may then read the same bytes otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from streamgauge.compiled import part
from streamgauge.drain import READ_SIZE, Reads

_PLAIN = re.compile(rb"[ !#-\[\]-\x7f]*").fullmatch
_BLANK = re.compile(rb" *").fullmatch
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,6}\r\n").match
_PADDED = b'"obfuscation":"'


class Pattern(NamedTuple):
    """What stands before and behind the text, from the end of the chunk's size to the end of the chunk.

    `middle` begins with the text's last quote; padding lies between it and `tail`: blanks, or the rest of a string.
    """

    head: bytes
    middle: bytes
    tail: bytes
    blanks: bool


def pattern_of(read: bytes, text: str) -> Pattern | None:
    """The pattern of a read that is one chunk with one event (`whole_event`), which brought `text` and nothing else."""
    if b"\\" in read or not text.isascii():
        return None
    quoted = b'"%b"' % text.encode()
    at = read.find(quoted)
    if at < 0 or read.rfind(quoted) != at or not text or not _PLAIN(quoted, 1, len(quoted) - 1):
        return None
    begin, end = read.index(b"\r\n") + 2, at + len(quoted) - 1
    padding = read.find(_PADDED, end)
    if padding >= 0 and read.find(_PADDED, padding + 1) < 0:
        padding += len(_PADDED)
        behind = read.index(b'"', padding)
        return Pattern(read[begin : at + 1], read[end:padding], read[behind:], blanks=False)
    behind = read.rfind(b"}", end)
    if behind < 0:
        return None
    return Pattern(read[begin : at + 1], read[end:behind].rstrip(b" "), read[behind:], blanks=True)


def pure_alike(data: bytes, reads: Reads, first: int, head: bytes, middle: bytes, tail: bytes, blanks: bool) -> int:
    """How many of `reads` (of `data`) from the first on are one chunk each, of that pattern."""
    at = reads[first - 1][0] if first else 0
    found = 0
    for end, _, _ in reads[first:]:
        size = _SIZE(data, at, end)
        if size is None or end - at >= READ_SIZE or int(data[at : size.end() - 2], 16) != end - size.end() - 2:
            break
        text = size.end() + len(head)
        quote, behind = data.find(b'"', text, end), end - len(tail)
        padding = quote + len(middle)
        if not (data.startswith(head, size.end(), end) and text < quote and _PLAIN(data, text, quote)):
            break
        if not (data.startswith(middle, quote, end) and padding <= behind and data.startswith(tail, behind, end)):
            break
        if not (_BLANK if blanks else _PLAIN)(data, padding, behind):
            break
        at = end
        found += 1
    return found


alike: Callable[[bytes, Reads, int, bytes, bytes, bytes, bool], int] = part.alike if part else pure_alike
