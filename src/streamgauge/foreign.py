"""An answer that is no stream of the target's dialect: which failure it is, and in which words. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from streamgauge.dialects import recognise_event
from streamgauge.dialects.contract import DONE, Dialect
from streamgauge.dialects.errors import LOOK_AT, error_text
from streamgauge.redirect import advice, is_login
from streamgauge.sample import Outcome
from streamgauge.secrets import CUT, cut_short

Event = tuple[str, bytes]
"""(type, data)."""

SHOWN = 200
"""So many characters of a body are shown where it has no words for a person."""
_WHOLE = frozenset(("text/html", "application/json", "application/problem+json"))
_OVERLOADED = re.compile(rb"overloaded|RESOURCE_EXHAUSTED|rate.?limit", re.IGNORECASE)


def is_whole(status: int, headers: Mapping[str, str]) -> bool:
    """Whether status and media type say that no events are to come."""
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    return status != 200 or media in _WHOLE


def failure_of(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """What a whole answer means where a stream was asked for. `body` may be its beginning."""
    if status in (429, 529) or (status == 503 and _OVERLOADED.search(body)):
        return Outcome.RATE_LIMITED
    if status in (401, 403, 407) or (300 <= status < 400 and is_login(headers.get("location", ""))):
        return Outcome.AUTH_ERROR
    return Outcome.PROTOCOL_ERROR if status == 200 else Outcome.HTTP_ERROR


def words_of(status: int, headers: Mapping[str, str], body: bytes, redact: Callable[[str], str] = str) -> str:
    """The server's words in such an answer, and what to do about a redirect.

    Secrets go before the words are picked out of the body: without its tags a page may hold half of one.
    """
    body = redact(body[:LOOK_AT].decode("utf-8", "replace")).encode("utf-8", "replace")
    words = error_text(body) or show(body) or "no body"
    if status == 200:
        words = f"200 with {_media(headers)} where a stream was asked for: {words}"
    location = headers.get("location", "")
    if not location:
        return words
    said = advice(status, location) if 300 <= status < 400 else ""
    return f"redirect to {cut_short(location, SHOWN)}: {words}" + (f" ({said})" if said else "")


def is_foreign(dialect: Dialect, events: Sequence[Event]) -> bool:
    """Whether events came and none of them is of this dialect.

    What a reader lets pass is no proof: every dialect knows [DONE], and a usage or an error looks alike in several.
    """
    told = [(name, data) for name, data in events if data[:6] != DONE]
    return bool(told) and not any(dialect.recognises(name, data) for name, data in told)


def not_ours(dialect: Dialect, events: Sequence[Event], body: bytes, headers: Mapping[str, str]) -> str:
    """What came instead of this dialect, and in which one it is, where that is known."""
    spoken = next(filter(None, (recognise_event(name, data) for name, data in events)), None)
    named = f"it speaks {spoken}, not {dialect.name}" if spoken else "no event of this dialect"
    begins = body or b"\n".join(data for _, data in events)
    return f"{named}; it begins: {show(begins)} (200 with {_media(headers)})"


def show(data: bytes, *, within: bool = False) -> str:
    """The beginning of wild bytes as one printable line. `within`: more came before them."""
    text = cut_short(data[: 4 * SHOWN + 4].decode("utf-8", "replace"), SHOWN)
    return (CUT if within else "") + "".join(c if c.isprintable() else " " for c in text).strip()


def _media(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "no media type")
