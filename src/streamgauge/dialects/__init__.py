"""The dialects, by name. Adding one is its file and its line here (docs/dialects.md shows it whole)."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

import msgspec

from streamgauge.dialects.ai_sdk import AiSdk
from streamgauge.dialects.anthropic import Anthropic
from streamgauge.dialects.contract import Dialect
from streamgauge.dialects.gemini import Gemini
from streamgauge.dialects.openai_chat import OpenAIChat
from streamgauge.errors import UsageError

DIALECTS: dict[str, Dialect] = {
    "openai-chat": OpenAIChat(),
    "anthropic": Anthropic(),
    "gemini": Gemini(),
    "ai-sdk": AiSdk(),
}


def with_options(name: str, options: Mapping[str, object]) -> Dialect:
    """The dialect `name` with options of its own. UsageError for an unknown name or option, or a wrong value."""
    if name not in DIALECTS:
        raise UsageError(f"no dialect {name!r}; known: {', '.join(DIALECTS)}{_nearest(name, DIALECTS)}")
    dialect: Any = DIALECTS[name]
    known = {field.name: getattr(dialect, field.name) for field in dataclasses.fields(dialect)}
    for option in options:
        if option not in known:
            allowed = f"known: {', '.join(known)}{_nearest(option, known)}" if known else "it takes none"
            raise UsageError(f"dialect {name} has no option {option!r}; {allowed}")
    try:
        return msgspec.convert({**known, **options}, type(dialect))  # type: ignore[no-any-return]
    except msgspec.ValidationError as error:
        raise UsageError(f"dialect {name}: {str(error).replace('`$.', 'option `')}") from error


def recognise_request(path: str, headers: Mapping[str, str], body: object) -> str | None:
    """Which dialect a request is in, by path, headers (names in any case) and parsed body; None: in no known one."""
    lowered = {key.lower(): value for key, value in headers.items()}
    claims = {name: dialect.claims(path, lowered, body) for name, dialect in DIALECTS.items()}
    surest = max(claims, key=lambda name: claims[name])
    return surest if claims[surest] else None


def recognise_event(event: str, data: bytes) -> str | None:
    """Which dialect one event of an unknown stream is in; None: in no known one, or it tells nothing ([DONE])."""
    return next((name for name, dialect in DIALECTS.items() if dialect.recognises(event, data)), None)


def _nearest(word: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
