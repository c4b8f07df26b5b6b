"""How a request's body comes about: the user's template with its slots filled, or the dialect's own object with extras.

Rules: slots are replaced as text in one pass, so that braces of the JSON around them and braces inside a prompt are
safe. A value is escaped as JSON text, so a slot stands inside quotes; {max_tokens} is a number and stands without.
{chat} and {model} are the same throughout a request, each {uuid} is a fresh one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from urllib.parse import quote

import msgspec

from streamgauge.dialects.contract import Ask, fresh_id
from streamgauge.errors import UsageError
from streamgauge.secrets import cut_short

SLOTS = ("prompt", "uuid", "chat", "model", "max_tokens")
_SLOT = re.compile(r"\{(" + "|".join(SLOTS) + r")\}")


def fill(template: str, ask: Ask, escape: Callable[[str], str], fresh: Callable[[], str] = fresh_id) -> str:
    """`template` with its slots filled. A slot without a value raises UsageError; {max_tokens} without one is null."""

    def value(match: re.Match[str]) -> str:
        slot = match[1]
        if slot == "max_tokens":
            return "null" if ask.max_tokens is None else str(ask.max_tokens)
        if slot == "uuid":
            return fresh()
        text = {"prompt": ask.prompt, "chat": ask.chat_id, "model": ask.model}[slot]
        if text is None:
            raise UsageError(
                f"{{{slot}}} in {cut_short(template, 80)!r} has no value: name a {slot} for this target "
                f"(--{slot}, or `{slot}` in the spec), or take the slot out"
            )
        return escape(text)

    return _SLOT.sub(value, template)


def json_text(text: str) -> str:
    """`text` as it stands between the quotes of a JSON string."""
    return encode(text).decode()[1:-1]


def fill_path(path: str, ask: Ask) -> str:
    """A target's path and query with its slots filled and percent-encoded."""
    return fill(path, ask, lambda text: quote(text, safe="-._~:@")) if "{" in path else path


def body(ask: Ask, own: Mapping[str, object]) -> bytes:
    """The bytes to send: the user's template if there is one, else the dialect's `own` object with `ask.extra` merged.

    Objects are merged key by key, at every depth; anything else in `extra` replaces what the dialect had.
    """
    if ask.body is not None:
        return fill(ask.body, ask, json_text).encode("utf-8", "replace")
    return encode(merged(own, ask.extra) if ask.extra else own)


def merged(own: Mapping[str, object], extra: Mapping[str, object]) -> dict[str, object]:
    """`own` with `extra` laid over it."""
    result = dict(own)
    for key, value in extra.items():
        mine = result.get(key)
        both = isinstance(mine, dict) and isinstance(value, dict)
        result[key] = merged(mine, value) if both else value  # type: ignore[arg-type]
    return result


def encode(value: object) -> bytes:
    """`value` as JSON in UTF-8. Lone surrogates (from undecodable bytes of a command line) become question marks."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    except TypeError as error:
        raise UsageError(f"the request body cannot be written as JSON: {error}; look at `extra`") from error
