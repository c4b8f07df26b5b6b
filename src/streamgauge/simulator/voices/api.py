"""What every simulated API has: how it reads a request, how it says things, how it says no.

Rules: no I/O, no clock: wall time comes in with the request. A `Voice` is the memory of one answer; each method returns
the events that this act puts on the wire, as (bytes, kind) pairs. Kinds are words for the log: start, text, reasoning,
tool, block (structure only), ping, comment, usage, finish, done, error, refusal. Text that is said twenty times a
second is put together from bytes prepared once an answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

Event = tuple[bytes, str]
Fields = list[tuple[str, str]]


class Refused(Exception):
    """The request is not one this API takes: status, text, and the API's own words for the kind of error."""

    def __init__(self, status: int, message: str, kind: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, whatever the API. `wall_s`: when it came, for `created` fields."""

    model: str | None
    prompt_chars: int = 0
    max_tokens: int | None = None
    stream: bool = True
    include_usage: bool = True
    wall_s: int = 0


@dataclass(slots=True)
class Counts:
    """Tokens said so far (`output` holds the reasoning); `told`: whether usage is told at all."""

    input: int = 0
    output: int = 0
    reasoning: int = 0
    cached: int = 0
    told: bool = True
    asked: bool = True
    """The request wants usage told."""
    stated: bool = False
    """True when a script fixed the numbers (ai-sdk tells usage only then)."""


@dataclass(slots=True)
class Whole:
    """A complete answer, for requests that want no stream."""

    text: str = ""
    reasoning: str = ""
    tools: list[tuple[str, str]] = field(default_factory=list)
    finish: str = "stop"


class Voice(Protocol):
    """One answer in one API's words."""

    def headers(self, since_ns: int) -> Fields:
        """Response headers of a stream whose head leaves `since_ns` after the request."""
        ...

    def start(self) -> list[Event]:
        """The opening events."""
        ...

    def text(self, text: str) -> list[Event]:
        """One event of visible text, with the structure it needs before it."""
        ...

    def reasoning(self, text: str) -> list[Event]:
        """One event of reasoning."""
        ...

    def tool(self, name: str, pieces: list[str], output: str | None) -> list[list[Event]]:
        """One tool call: groups of events, one for each write."""
        ...

    def step(self) -> list[Event]:
        """A boundary."""
        ...

    def ping(self) -> list[Event]:
        """A sign of life."""
        ...

    def finish(self, reason: str) -> list[Event]:
        """The terminal events."""
        ...

    def refuse(self, text: str) -> list[Event]:
        """A refusal and the terminal events."""
        ...

    def fail(self, message: str | None, overloaded: bool, said: bool) -> list[Event]:
        """An error in the stream and what this API still sends after it. `said`: output came before."""
        ...

    def abort(self, reason: str) -> list[Event]:
        """The app gave up."""
        ...

    def whole(self, answer: Whole) -> bytes:
        """The JSON body of an answer without stream."""
        ...


@dataclass(frozen=True, slots=True)
class Api:
    """One API. `paths`: for people; `early`: head and start leave before the model answers; `lead_ms`: how long before
    the first output the opening events leave."""

    name: str
    paths: tuple[str, ...]
    read: Callable[[str, str, object, int], Asked]
    """(path, query, JSON body, wall seconds) -> what is asked; raises Refused."""
    voice: Callable[[Asked, Random, Counts], Voice]
    problem: Callable[[int, str | None, str | None, str], bytes]
    """(status, message, kind, request id) -> the JSON error body."""
    problem_fields: Callable[[str], Fields]
    """Headers beside an error body, from the request id."""
    no_key: Callable[[bool], tuple[int, str]]
    """(a key was given) -> status and text for a wrong or missing key."""
    curl: str
    tells_usage: Callable[[Counts], bool]
    """Whether the terminal events hold token counts."""
    early: bool = False
    lead_ms: float = 0.0


_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def dump(value: object) -> bytes:
    """Compact JSON, as the providers send it; what is no Unicode (half a surrogate pair) goes as an escape."""
    try:
        return _compact(value).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def quoted(text: str) -> bytes:
    """A JSON string."""
    return dump(text)


def identifier(prefix: str, random: Random, digits: int = 24) -> str:
    """A made-up id in the provider's form."""
    return prefix + f"{random.getrandbits(digits * 4):0{digits}x}"


def prompt_chars(value: object) -> int:
    """The characters of every `text`, `content` and plain string in the messages of a request."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(prompt_chars(v) for v in value)
    if isinstance(value, dict):
        return sum(prompt_chars(v) for k, v in value.items() if k in ("text", "content", "parts"))
    return 0


def whole_number(body: dict[str, object], key: str) -> int | None:
    """A token limit, None where there is none; Refused where it is no whole number from 1."""
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise Refused(
            400, f"Invalid value for '{key}': expected a whole number of at least 1, got {json.dumps(value)[:40]}."
        )
    return value


def object_body(body: object) -> dict[str, object]:
    """The request as a JSON object, or Refused."""
    if not isinstance(body, dict):
        raise Refused(400, "The request body must be a JSON object.")
    return body
