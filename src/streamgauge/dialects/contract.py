"""What every dialect speaks: a request out of an `Ask`, and what each event of the answer brings.

Rules: a dialect does no I/O and reads no clock. A `Reader` is the memory of one response; `read` is called once per
server-sent event, on the measured path, so it returns a plain int of bits (what the event brought) and leaves the rest
in its attributes. Unknown events and fields are tolerated: an event that tells nothing returns UNKNOWN and is counted.
The dialects' own files import this one, `template` (how a body is filled) and `errors` (how a server words its
errors), and never one another.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

# What one event brought. Several bits may be set at once.
NOTHING = 0  # a known event without output (role-only delta, ping, start, usage)
TEXT = 1  # non-empty visible text
REASONING = 2  # non-empty reasoning (thinking) output
TOOL = 4  # non-empty tool call output (its name or arguments)
STEP = 8  # a boundary between steps or content blocks: the gap across it is not an inter-token gap
END = 16  # the dialect's terminal event
ERROR = 32  # an in-band error; `Reader.error` says which
UNKNOWN = 64  # an event this dialect does not know
MALFORMED = 128  # not readable as this dialect at all (no JSON, wrong shape)

OUTPUT = TEXT | REASONING | TOOL

DONE = b"[DONE]"
"""What some servers send for the end; an event without JSON that every dialect knows."""

Verdict = Literal["ok", "length_capped", "filtered", "truncated"]
"""What a server's word for the end means; `truncated`: it ended without a real reason."""

MOST_TOKENS = 2**31
"""A larger count is no count."""

T = TypeVar("T")


def fresh_id() -> str:
    """A new id for a chat or a message: a UUID (version 4) in its usual form, which routes often insist on."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


@dataclass(frozen=True, slots=True)
class Ask:
    """One request in the dialect's own terms.

    `prompt` is final (its unique prefix included). `body` is the user's template, whose slots {prompt} {uuid} {chat}
    {model} {max_tokens} are filled by `template.fill`; it replaces the dialect's own body. `extra` is merged into the
    dialect's own body.
    """

    prompt: str
    model: str | None = None
    max_tokens: int | None = None
    include_usage: bool = True
    body: str | None = None
    extra: dict[str, object] = field(default_factory=dict)
    system: str | None = None
    before: tuple[tuple[str, str], ...] = ()
    """Earlier turns of the chat: (what was asked, what was answered)."""
    chat_id: str = field(default_factory=fresh_id)
    message_id: str = field(default_factory=fresh_id)


def spoken(ask: Ask) -> list[tuple[Literal["user", "assistant"], str]]:
    """(role, text) of each message of the chat, the one that is asked now last. Its turns alternate."""
    said: list[tuple[Literal["user", "assistant"], str]] = []
    for asked, answered in ask.before:
        said += [("user", asked), ("assistant", answered)]
    return [*said, ("user", ask.prompt)]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What goes on the wire, less the headers that every request has (Host, User-Agent, lengths, trace ids)."""

    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the server counted them; None where it did not say.

    `input` includes `cached` (read from a cache), `output` includes `reasoning`, whatever the provider's own sums are.
    """

    input: int | None = None
    output: int | None = None
    reasoning: int | None = None
    cached: int | None = None


@dataclass(frozen=True, slots=True)
class InBandError:
    """An error told inside the stream. `overloaded`: the server says it is rate limiting or overloaded."""

    message: str
    kind: str | None = None
    overloaded: bool = False


class Reader(Protocol):
    """The memory of one response."""

    text: str
    """The output of the last event that had some: its visible text if it had TEXT, else its reasoning or tool call."""
    finish: str | None
    """The server's own word for why it ended, as sent (`stop`, `end_turn`, `STOP`, `length`, ...)."""
    verdict: Verdict | None
    """What that word means here; a refusal is `filtered` whatever the word was. None before the end."""
    error: InBandError | None
    model: str | None
    hidden_reasoning: bool
    """True when output tokens in `usage` hold tokens that were never streamed and cannot be told apart.

    Reasoning that came as a summary or in secret counts in full. Where no reasoning was streamed at all and
    `usage.reasoning` is known, they can be told apart whatever this says.
    """

    @property
    def usage(self) -> Usage | None:
        """The last count the server gave; None before it gave one."""
        ...

    def read(self, event: str, data: bytes) -> int:
        """What one server-sent event (its type, its data) brought, as bits. Never raises on wild input."""
        ...


class Dialect(Protocol):
    """One API's way to ask and to answer: a frozen dataclass whose fields are its options."""

    @property
    def name(self) -> str:
        """As in the dict DIALECTS, the spec and `--dialect`."""
        ...

    @property
    def default_path(self) -> str:
        """Added where the url has no path of its own; may hold {model}."""
        ...

    @property
    def has_max_tokens(self) -> bool:
        """Whether a request can limit the tokens of its answer."""
        ...

    @property
    def content_types(self) -> tuple[str, ...]:
        """Media types of a streamed answer."""
        ...

    def request(self, path: str, ask: Ask) -> HttpRequest:
        """The request for `ask` at `path` (the target's path and query; {model} is filled in here).

        UsageError where a slot of path or template has no value.
        """
        ...

    def reader(self) -> Reader:
        """A fresh memory for one response."""
        ...

    def recognises(self, event: str, data: bytes) -> bool:
        """Whether one event of an unknown stream is one of this dialect (used by `check` and `init --from-curl`)."""
        ...

    def claims(self, path: str, headers: Mapping[str, str], body: object) -> int:
        """How surely a request is one of this dialect: 3 by a sign of its own, 2 or 1 by its shape, 0 not.

        `headers` have lower-case names; `body` is the parsed JSON, None where there is none.
        """
        ...


# Reading wild values: what a server sends is never trusted to have the documented type.


def count(value: object) -> int | None:
    """A number of tokens, or None for what cannot be one (negative, 2**31 and over, a fraction, a bool, no number)."""
    if type(value) is int and 0 <= value < MOST_TOKENS:
        return value
    return None


def first_count(*values: object) -> int | None:
    """The first of them that is a count: servers tell one number under several names."""
    return next((n for n in map(count, values) if n is not None), None)


def table(value: object) -> dict[str, object]:
    """A JSON object as it is; anything else as an empty one."""
    return value if isinstance(value, dict) else {}


def loosely(decode: Callable[[bytes], T], data: bytes) -> T | None:
    """What a browser's JSON.parse would make of `data` after the fast decoder refused it; None if it refuses too.

    Servers do cut characters in two: bytes that are not UTF-8 and lone surrogates are replaced. Numbers that no
    64 bits hold become null. Deep nesting, NaN and anything else that is no JSON, or of another shape, is None.
    """
    try:
        text = data.decode("utf-8", "replace")
        value = json.loads(text, parse_constant=_refuse, parse_int=_whole, parse_float=_finite)
        return decode(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def _refuse(word: str) -> object:
    raise ValueError(f"{word} is no JSON")


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) < 19 else None


def _finite(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) else None
