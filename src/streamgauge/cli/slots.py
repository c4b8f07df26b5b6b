"""A JSON body read as a chat request: where its prompt is, which ids are new each time, and the body with slots put in.

Rules: pure. A place is the path to a value (`("messages", 0, "content")`). The prompt is the last user message's text;
where there are no messages, a field that is named like a prompt, at the top before deeper down.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from streamgauge.errors import UsageError

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
Where: TypeAlias = tuple[str | int, ...]

UUID = re.compile(r"^[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$")
_ID = re.compile(r"^[A-Za-z0-9_-]{6,64}$")
_CHAT_KEYS = {"id", "chatid", "conversationid", "threadid", "sessionid", "chatsessionid"}
_NEW_KEYS = {"messageid", "requestid", "idempotencykey", "clientmessageid", "usermessageid", "traceid", "runid"}
MODEL_KEYS = {"model", "modelid", "selectedchatmodel", "selectedmodel"}
MAX_KEYS = {"maxtokens", "maxcompletiontokens", "maxoutputtokens"}
_TEXT_KEYS = (
    "prompt",
    "query",
    "question",
    "input",
    "message",
    "text",
    "content",
    "usermessage",
    "userinput",
    "inputs",
    "q",
)
SLOT = re.compile(r"\{(?=(?:prompt|uuid|chat|model|max_tokens)\})|\$(?=\{[A-Za-z_][A-Za-z0-9_]*\})")


def prompt_place(body: Json, words: str | None) -> tuple[Where, str, str]:
    """(place, whole text, the part of it that is the prompt)."""
    if words:
        hits = [(at, text) for at, text in texts(body) if words in text]
        if not hits:
            raise UsageError(f"--prompt: {words[:60]!r} is nowhere in the request's body; give the words you typed")
        at, text = hits[-1]
        return at, text, words
    found = _find_prompt(body, (), 3)
    if found is None:
        raise UsageError(
            "--from-curl: no prompt found in the body; add --prompt 'the words you typed' so that it can be"
        )
    return (*found, found[1])


def _find_prompt(value: Json, at: Where, depth: int) -> tuple[Where, str] | None:
    """The last user message's text, else a field that is named like a prompt, else the same one level down."""
    if not isinstance(value, dict):
        return None
    for key in ("messages", "contents", "input", "message"):
        found = _message_text(value.get(key), (*at, key))
        if found:
            return found
    for key, one in value.items():
        if folded(key) in _TEXT_KEYS and isinstance(one, str) and one.strip():
            return (*at, key), one
    if depth:
        for key, one in value.items():
            found = _find_prompt(one, (*at, key), depth - 1)
            if found:
                return found
    return None


def _message_text(value: Json, at: Where) -> tuple[Where, str] | None:
    """The text of one message, or of the last user message in a list of them."""
    if isinstance(value, list):
        users = [
            n for n, one in enumerate(value) if isinstance(one, dict) and one.get("role", "user") in ("user", "human")
        ]
        for number in reversed(users):
            found = _message_text(value[number], (*at, number))
            if found:
                return found
        return None
    if not isinstance(value, dict):
        return None
    for key in ("parts", "content", "text"):
        inner = value.get(key)
        if isinstance(inner, str) and inner.strip():
            return (*at, key), inner
        if isinstance(inner, list):
            for number in range(len(inner) - 1, -1, -1):
                one = inner[number]
                if isinstance(one, str) and one.strip():
                    return (*at, key, number), one
                text = one.get("text") if isinstance(one, dict) else None
                if isinstance(text, str) and text.strip():
                    return (*at, key, number, "text"), text
    return None


def same_text(body: Json, at: Where, text: str) -> list[Where]:
    """Where else the prompt stands, as some routes send it twice (`content` beside `parts`); not in other messages."""
    first = next((number for number, part in enumerate(at) if isinstance(part, int)), None)
    others, own = (at[:first], at[: first + 1]) if first is not None else (at, at)
    return [
        where
        for where, one in texts(body)
        if one == text and where != at and isinstance(where[-1], str) and folded(where[-1]) in _TEXT_KEYS
        and (where[: len(others)] != others or where[: len(own)] == own)
    ]  # fmt: skip


def is_chat_id(at: Where, text: str) -> bool:
    """An id at the top (or one object down) that is named like a conversation's."""
    key = at[-1]
    if not isinstance(key, str) or len(at) > 2 or any(isinstance(part, int) for part in at) or not _ID.match(text):
        return False
    if not any(char.isdigit() for char in text) and len(text) < 16:
        return False  # a word such as "default": no id that must be new
    return len(at) == 1 if folded(key) == "id" else folded(key) in _CHAT_KEYS


def is_new_id(at: Where, text: str, prompt_at: Where) -> bool:
    """An id of the message that holds the prompt, or one that is named like a request's."""
    key = at[-1]
    if not isinstance(key, str) or not _ID.match(text):
        return False
    beside_prompt = len(at) > 1 and at[:-1] == prompt_at[: len(at) - 1]
    return folded(key) in _NEW_KEYS or (beside_prompt and folded(key) in ("id", "uuid"))


def texts(value: Json, at: Where = ()) -> Iterable[tuple[Where, str]]:
    """Every text in a JSON value with its place."""
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from texts(one, (*at, key))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from texts(one, (*at, number))


def numbers(value: Json, at: Where = ()) -> Iterable[tuple[Where, int]]:
    """Every whole number that is a field, with its place; lists are not looked into."""
    if isinstance(value, dict):
        for key, one in value.items():
            if isinstance(one, int) and not isinstance(one, bool):
                yield (*at, key), one
            else:
                yield from numbers(one, (*at, key))


def _replaced(value: Json, at: Where, places: Mapping[Where, str]) -> Json:
    """`value` with the texts of `places`; a slot or a reference that stood in the request itself is disarmed."""
    if at in places:
        return places[at]
    if isinstance(value, dict):
        return {disarmed(key): _replaced(one, (*at, key), places) for key, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, (*at, number), places) for number, one in enumerate(value)]
    return disarmed(value) if isinstance(value, str) else value


def disarmed(text: str) -> str:
    """A text that holds what looks like a slot or a reference, marked so that its first sign is written as \\uXXXX."""
    return SLOT.sub(lambda match: "\0" + match[0], text)


def folded(key: str) -> str:
    """A key without case and signs: chat_id, chatId and chat-id are one."""
    return re.sub(r"[^a-z0-9]", "", key.lower())


def written(at: Where) -> str:
    """messages[0].parts[0].text"""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).lstrip(".")


def template(body: Json, places: Mapping[Where, str]) -> str:
    """The body as compact JSON text with the slots of `places`; what looked like a slot before is disarmed."""
    text = json.dumps(_replaced(body, (), places), ensure_ascii=False, separators=(",", ":"))
    text = text.replace('"{max_tokens}"', "{max_tokens}")  # the only slot that is no text
    return text.replace(r"\u0000{", r"\u007b").replace(r"\u0000$", r"\u0024")
