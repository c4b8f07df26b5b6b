"""Events that are like one that was decoded, but for their text.

A server writes the events of an answer from one pattern: `{"id": ..., "delta": {"content": "<text>"}, ...}`. Where one
brought text and nothing else, another that has the same bytes before and behind that text brings the same, and need not
be decoded: JSON with another string in a string's place is the same but for that string. What may stand there is what
JSON takes for a string: UTF-8 without control characters, and escapes. Surrogates are left to the decoder.

Some providers pad, so that a listener on the wire cannot guess words by their length. What they pad with may differ
too: blanks before an object's last brace (Anthropic), which JSON does not count, and a string under the key
`obfuscation` (OpenAI), at which no reader looks.

Rules: a pattern is taken only where the text stands in the event exactly once and nothing else of the event is escaped.
It is dropped as soon as an event brings anything but text: a dialect may then read the same bytes otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import NamedTuple

from streamgauge.compiled import part
from streamgauge.drain import READ_SIZE, Reads

_STRING = re.compile(
    rb"""(?: [ !#-\[\]-\x7f]+                                       # ASCII: no quote, backslash, control character
           | \\ (?: ["\\/bfnrt] | u (?! [dD][89a-fA-F]) [0-9a-fA-F]{4} )  # an escape, but of no surrogate
           | [\xc2-\xdf] [\x80-\xbf]                               # UTF-8 in its shortest form (RFC 3629, section 4)
           | (?: \xe0 [\xa0-\xbf] | \xed [\x80-\x9f] | [\xe1-\xec\xee\xef] [\x80-\xbf] ) [\x80-\xbf]
           | (?: \xf0 [\x90-\xbf] | \xf4 [\x80-\x8f] | [\xf1-\xf3] [\x80-\xbf] ) [\x80-\xbf]{2}
         )*""",
    re.VERBOSE,
)
_BLANK = re.compile(rb" *")
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
    for ascii_only in (False, True):
        quoted = json.dumps(text, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        at = read.find(quoted)
        if at >= 0:
            break
    else:
        return None
    begin, end = read.index(b"\r\n") + 2, at + len(quoted) - 1
    escaped = b"\\" in read[:at] or b"\\" in read[end:]
    if not text or escaped or read.rfind(quoted) != at or _until(_STRING, quoted, 1, len(quoted)) != len(quoted) - 1:
        return None
    padding = read.find(_PADDED, end)
    if padding >= 0 and read.find(_PADDED, padding + 1) < 0:
        padding += len(_PADDED)
        behind = read.index(b'"', padding)
        return Pattern(read[begin : at + 1], read[end:padding], read[behind:], blanks=False)
    behind = read.rfind(b"}", end)
    if behind < 0:
        return None
    return Pattern(read[begin : at + 1], read[end:behind].rstrip(b" "), read[behind:], blanks=True)


def _until(stretch: re.Pattern[bytes], data: bytes, at: int, end: int) -> int:
    """Where the stretch that begins at `at` ends."""
    found = stretch.match(data, at, end)
    return at if found is None else found.end()


def pure_alike(data: bytes, reads: Reads, first: int, head: bytes, middle: bytes, tail: bytes, blanks: bool) -> int:
    """How many of `reads` (of `data`) from the first on are one chunk each, of that pattern."""
    at = reads[first - 1][0] if first else 0
    found = 0
    for end, _, _ in reads[first:]:
        size = _SIZE(data, at, end)
        if size is None or end - at >= READ_SIZE or int(data[at : size.end() - 2], 16) != end - size.end() - 2:
            break
        text, behind = size.end() + len(head), end - len(tail)
        if not data.startswith(head, size.end(), end):
            break
        quote = _until(_STRING, data, text, end)
        padding = quote + len(middle)
        if not (text < quote and data.startswith(middle, quote, end) and data.startswith(tail, behind, end)):
            break
        if padding > behind or _until(_BLANK if blanks else _STRING, data, padding, behind) != behind:
            break
        at = end
        found += 1
    return found


alike: Callable[[bytes, Reads, int, bytes, bytes, bytes, bool], int] = part.alike if part else pure_alike
