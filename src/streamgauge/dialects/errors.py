"""How servers word their errors: inside a stream, and as the body of an HTTP error.

Rules: what is shown to a person is one line of at most 300 characters without control characters, whatever came.
Nothing here raises. Whether an error means "too much load" is read from its code, type and status, and from its words
only where it has none of these, so that an error which merely speaks of rate limits is not one.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata

from streamgauge.dialects.contract import InBandError, table
from streamgauge.secrets import cut_short

LONGEST = 300
LOOK_AT = 16_384
"""So many bytes of an error's body are looked at for its words."""

# 429 and 503 of HTTP, 529 of Anthropic; rate_limit_error, overloaded_error, RESOURCE_EXHAUSTED, UNAVAILABLE,
# insufficient_quota, RateLimitError, ServiceUnavailable, engine_overloaded, too_many_requests ...
_OVERLOAD = re.compile(
    r"\b(?:429|503|529)\b|rate.?limit|overload|exhausted|unavailable|quota|too.?many.?requests|throttl", re.I
)
_WORDS = ("error", "message", "errorText", "Message", "detail", "errors", "msg", "error_description", "title")
# What is not closed reaches to the end: these are linear in whatever comes.
_TITLE = re.compile(r"<title[^>]*+(?:>([^<]*+)|\Z)", re.I)
_TAG = re.compile(r"<(script|style)\b.*?(?:</\1\s*+>|\Z)|<[^>]*+(?:>|\Z)", re.I | re.S)


def told(error: object) -> InBandError:
    """An in-band error out of what stands under `error` (an object or words) in any provider's shape."""
    fields = table(error)
    signs = [
        str(v)
        for v in map(fields.get, ("type", "status", "code"))
        if isinstance(v, (str, int)) and v not in ("", "None")
    ]
    words = line(_message(error) or "") or " ".join(signs) or "an error without words"
    kind = next((s for s in signs if not s.isdigit()), signs[0] if signs else None)
    overloaded = any(map(_OVERLOAD.search, signs)) if signs else _OVERLOAD.search(words) is not None
    return InBandError(words, None if kind is None else cut_short(line(kind), 60), overloaded)


def bare_error(text: bytes) -> tuple[str, bytes] | None:
    """An error that stands between the events of a stream, as (event, data); None where `text` is none.

    Google's APIs write its JSON line by line (as google-genai 3.4.0 expects it), llama.cpp a field `error: {...}`.
    """
    named = text.startswith(b"error:")
    data = text.removeprefix(b"error:").strip()
    if data[:1] not in (b"{", b"["):
        return None
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    first = value[0] if isinstance(value, list) and value else value
    return ("error" if named else "message", data) if named or "error" in table(first) else None


def error_text(body: bytes) -> str | None:
    """The human text of an HTTP error's body: JSON of any provider, an HTML page's title, or plain text.

    One line of at most 300 characters; None where there is none.
    """
    text = body[:LOOK_AT].decode("utf-8", "replace").strip("\ufeff \t\r\n").removeprefix("data:").strip()
    try:
        words = _message(json.loads(text))
        if words is not None:
            return line(words) or None
    except (ValueError, RecursionError):
        pass
    if text[:1] == "<" and (title := _TITLE.search(text)) and title[1]:
        text = html.unescape(title[1])
    elif text[:1] == "<":
        text = html.unescape(_TAG.sub(" ", text))
    return line(text) or None


def line(text: str) -> str:
    """Wild text as one printable line of at most 300 characters."""
    text = cut_short(text, 20 * LONGEST)
    shown = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    return cut_short(" ".join(shown.split()), LONGEST)


def _message(value: object, depth: int = 0) -> str | None:
    """The first words for a person in an error's JSON: error, message, detail ... at whatever depth they stand."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, dict):
        inside = [value[key] for key in _WORDS if key in value]
    elif isinstance(value, list):
        inside = value[:5]
    else:
        return None
    found = (_message(item, depth + 1) for item in inside if depth < 8)
    return next((words for words in found if words), None)
