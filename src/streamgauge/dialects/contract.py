"""What every dialect speaks: a request out of an `Ask`, and what each event of the answer brings.

Rules: a dialect does no I/O and reads no clock. A `Reader` is the memory of one response; `read` is called once per
server-sent event, on the measured path, so it returns a plain int of bits (what the event brought) and leaves the rest
in its attributes. Unknown events and fields are tolerated: an event that tells nothing returns UNKNOWN and is counted.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Protocol

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


@dataclass(frozen=True, slots=True)
class Ask:
    """One request in the dialect's own terms.

    `prompt` is final (its unique prefix included). `body` is the user's template with {prompt} {uuid} {chat} slots and
    replaces the dialect's own body. `extra` is merged into the dialect's body.
    """

    prompt: str
    model: str | None = None
    max_tokens: int | None = None
    include_usage: bool = True
    body: str | None = None
    extra: dict[str, object] = field(default_factory=dict)
    system: str | None = None
    chat_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    message_id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What goes on the wire, less the headers that every request has (Host, User-Agent, lengths, trace ids)."""

    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the server counted them. `output` includes reasoning; None where the server did not say."""

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
    """The output of the last event that had TEXT, REASONING or TOOL."""
    usage: Usage | None
    finish: str | None
    """The server's own word for why it ended, as sent (`stop`, `end_turn`, `STOP`, `length`, ...)."""
    verdict: str | None
    """What that word means here: ok, length_capped, filtered or truncated (the stream ended without a real reason)."""
    error: InBandError | None
    model: str | None
    hidden_reasoning: bool
    """True when output tokens in `usage` hold tokens that were never streamed and cannot be told apart."""

    def read(self, event: str, data: bytes) -> int:
        """What one server-sent event (its type, its data) brought, as bits. Never raises on wild input."""
        ...


class Dialect(Protocol):
    """One API's way to ask and to answer."""

    name: str
    default_path: str
    """Added where the url has no path of its own; may hold {model}."""
    has_max_tokens: bool
    content_types: tuple[str, ...]
    """Media types of a streamed answer."""

    def request(self, path: str, ask: Ask) -> HttpRequest:
        """The request for `ask` at `path` (the target's path and query; {model} is filled in here)."""
        ...

    def reader(self, content_type: str | None = None) -> Reader:
        """A fresh memory for one response."""
        ...

    def recognises(self, event: str, data: bytes) -> bool:
        """Whether one event of an unknown stream looks like this dialect (used by `check` and `init --from-curl`)."""
        ...
