"""The script of one answer: what is said, what goes wrong, and when.

Strategy: a script is a JSON list of steps, `[["wait", 300], ["text", "Hello "], ["finish"]]`. Each step is a small
frozen value; a model's own answer and a fault are made of the same steps, so there is one way to play them all.
`read` turns JSON into steps and tells every mistake with its place. `STEPS` is the whole language in one visible dict.

Rules:
1. Only `wait` moves time. A step is due at the sum of the waits before it, counted from the last byte of the request
   (from admission, where the server has a capacity): a late send does not shift the next one.
2. What a script leaves out is added: the response head and the opening events before the first output (ai-sdk sends
   both at once), and `["finish"]` where it has no ending.
3. Steps after `finish` go on: `["finish"], ["stall"]` leaves the message open, `["finish"], ["drop"]` cuts it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from streamgauge.clock import MS, S
from streamgauge.errors import UsageError

MAX_STEPS = 100_000


@dataclass(frozen=True, slots=True)
class Wait:
    """Let `ns` pass."""

    ns: int


@dataclass(frozen=True, slots=True)
class Stall:
    """Send nothing more; the connection stays open until the client leaves."""


@dataclass(frozen=True, slots=True)
class Headers:
    """Send the response head now. `fields` are added; a None takes a header away."""

    fields: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Start:
    """Send the opening events: role delta, message_start, start."""


@dataclass(frozen=True, slots=True)
class Text:
    """One event of visible text that counts as `tokens` tokens."""

    text: str
    tokens: int = 1


@dataclass(frozen=True, slots=True)
class Reasoning:
    """One event of reasoning that counts as `tokens` tokens."""

    text: str
    tokens: int = 1


@dataclass(frozen=True, slots=True)
class Tokens:
    """`count` text tokens, `gap_ns` apart; without a count they never end."""

    count: int | None
    gap_ns: int


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool call; its arguments (JSON text) come in `pieces` events `gap_ns` apart. `output`: JSON text (ai-sdk)."""

    name: str
    args: str = "{}"
    pieces: int = 1
    gap_ns: int = 0
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A boundary: the block ends (anthropic), the step ends and the next begins (ai-sdk)."""


@dataclass(frozen=True, slots=True)
class Ping:
    """The dialect's own sign of life."""


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment line of the event stream."""

    text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """The token counts that will be told; None keeps what was counted. `told` False: none are told."""

    input: int | None = None
    output: int | None = None
    reasoning: int | None = None
    cached: int | None = None
    told: bool = True


@dataclass(frozen=True, slots=True)
class Finish:
    """The terminal events. `reason`: stop, length, tool_calls, content_filter, or the dialect's own word."""

    reason: str = "stop"


@dataclass(frozen=True, slots=True)
class Refuse:
    """A refusal, told as the dialect tells it, and the terminal events."""

    text: str = "I can't help with that."


@dataclass(frozen=True, slots=True)
class Fail:
    """An error inside the stream; the message then ends as this provider ends it."""

    message: str | None = None
    overloaded: bool = False


@dataclass(frozen=True, slots=True)
class Abort:
    """The app stopped the answer (ai-sdk `abort`; elsewhere the stream just ends)."""

    reason: str = "user stop"


@dataclass(frozen=True, slots=True)
class Status:
    """A whole response with this status instead of a stream; without a body, the provider's error body."""

    code: int
    fields: tuple[tuple[str, str | None], ...] = ()
    body: str | None = None


@dataclass(frozen=True, slots=True)
class Truncate:
    """End the HTTP message in good order, without terminal event."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Close the connection (FIN) here and now."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the connection (RST) here and now."""


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes inside the message body, one chunk."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Wire:
    """Bytes on the connection outside all framing."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Merge:
    """The next `count` events leave in one write, when the last of them is due."""

    count: int


@dataclass(frozen=True, slots=True)
class Split:
    """The next event leaves in `count` writes, `gap_ns` apart."""

    count: int
    gap_ns: int


@dataclass(frozen=True, slots=True)
class Lump:
    """From here on, events due within the same `ns` leave together at its end. 0 ends it."""

    ns: int


@dataclass(frozen=True, slots=True)
class Meant:
    """The outcome to note in the log, where the script knows better."""

    outcome: str


@dataclass(frozen=True, slots=True)
class Admit:
    """Wait here for a free place (capacity). Not in scripts: the server puts it in."""


AnyStep = (
    Wait | Stall | Headers | Start | Text | Reasoning | Tokens | Tool | Step | Ping | Comment | Usage | Finish | Refuse
    | Fail | Abort | Status | Truncate | Drop | Reset | Raw | Wire | Merge | Split | Lump | Meant | Admit
)  # fmt: skip
OUTPUTS = (Text, Reasoning, Tool, Refuse)
SILENT = (Wait, Stall, Usage, Merge, Split, Lump, Meant)
ENDINGS = (Finish, Refuse, Fail, Abort, Status, Truncate, Drop, Reset, Stall)

Args = list[object]


def _text(args: Args, i: int, default: str | None = None) -> str:
    """Argument `i` as a string."""
    if i >= len(args) and default is not None:
        return default
    if i >= len(args) or not isinstance(args[i], str):
        raise ValueError(f"argument {i + 1} must be a string")
    return str(args[i])


def _ns(args: Args, i: int) -> int:
    """Argument `i`, milliseconds, as ns; a week is the most."""
    value = args[i] if i < len(args) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"argument {i + 1} must be a number of milliseconds")
    if not 0 <= value <= 7 * 24 * 3600 * 1000:
        raise ValueError(f"argument {i + 1} must be from 0 to 604800000 ms, not {value}")
    return round(value * MS)


def _count(args: Args, i: int, low: int = 1, high: int = 1_000_000) -> int:
    """Argument `i` as a whole number."""
    value = args[i] if i < len(args) else None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"argument {i + 1} must be a whole number from {low} to {high}")
    return value


def _fields(args: Args, i: int) -> tuple[tuple[str, str | None], ...]:
    """Argument `i`, an object of header values, as pairs of lower-case name and value."""
    value = args[i] if i < len(args) else {}
    if not isinstance(value, dict) or not all(v is None or isinstance(v, str) for v in value.values()):
        raise ValueError(f"argument {i + 1} must be an object of header names and string (or null) values")
    if any(c in f"{k}{v}" for k, v in value.items() for c in "\r\n\0"):
        raise ValueError(f"argument {i + 1} has a line break inside a header")
    return tuple((str(k).lower(), v) for k, v in value.items())


def _tool(a: Args) -> Tool:
    """["tool", name, args, {"pieces": k, "ms": gap, "output": any}]; args is an object or JSON text."""
    args = a[1] if len(a) > 1 else {}
    more = a[2] if len(a) > 2 else {}
    if not isinstance(more, dict) or not set(more) <= {"pieces", "ms", "output"}:
        raise ValueError('argument 3 must be an object with any of "pieces", "ms", "output"')
    return Tool(
        _text(a, 0),
        args if isinstance(args, str) else json.dumps(args, ensure_ascii=False),
        _count([more.get("pieces", 1)], 0, 1, 10_000),
        _ns([more.get("ms", 0)], 0),
        json.dumps(more["output"], ensure_ascii=False) if "output" in more else None,
    )


def _usage(a: Args) -> Usage:
    """["usage", {"input": n, "output": n, "reasoning": n, "cached": n}] or ["usage", null]."""
    if a and a[0] is None:
        return Usage(told=False)
    value = a[0] if a else {}
    if not isinstance(value, dict) or not set(value) <= {"input", "output", "reasoning", "cached"}:
        raise ValueError('argument 1 must be null or an object with any of "input", "output", "reasoning", "cached"')
    counts = {
        k: None if k not in value else _count([value[k]], 0, 0, 10**9)
        for k in ("input", "output", "reasoning", "cached")
    }
    return Usage(counts["input"], counts["output"], counts["reasoning"], counts["cached"])


def _optional(args: Args, i: int, default: int) -> int:
    """Argument `i` as a whole number, where there is one."""
    return _count(args, i) if i < len(args) else default


def _gap(args: Args, i: int) -> int:
    """Argument `i`, milliseconds, as ns; 0 where there is none."""
    return _ns(args, i) if i < len(args) else 0


def _tokens(a: Args) -> Tokens:
    """["tokens", n, ms]; n null: without end, at least 1 ms apart."""
    if a[:1] == [None]:
        return Tokens(None, max(MS, _gap(a, 1)))
    return Tokens(_count(a, 0), _gap(a, 1))


def _status(a: Args) -> Status:
    """["status", code, headers, body]."""
    return Status(_count(a, 0, 200, 599), _fields(a, 1), _text(a, 2) if len(a) > 2 else None)


STEPS: dict[str, tuple[Callable[[Args], AnyStep], int, str]] = {
    # name: (reader, most arguments, what it does)
    "wait": (lambda a: Wait(_ns(a, 0)), 1, "let ms pass"),
    "stall": (lambda a: Wait(_ns(a, 0)) if a else Stall(), 1, "pause for ms; without ms, for ever"),
    "headers": (lambda a: Headers(_fields(a, 0)), 1, "send the head now, these headers added (null: taken away)"),
    "start": (lambda a: Start(), 0, "send the opening events now"),
    "text": (lambda a: Text(_text(a, 0), _optional(a, 1, 1)), 2, "one event of text, worth n tokens"),
    "reasoning": (lambda a: Reasoning(_text(a, 0), _optional(a, 1, 1)), 2, "one event of reasoning, worth n tokens"),
    "tokens": (_tokens, 2, "n text tokens, ms apart; n null: without end"),
    "tool": (_tool, 3, 'a tool call: name, arguments, {"pieces": k, "ms": gap, "output": result}'),
    "step": (lambda a: Step(), 0, "a boundary between steps or blocks"),
    "ping": (lambda a: Ping(), 0, "the dialect's sign of life"),
    "comment": (lambda a: Comment(_text(a, 0, "keep-alive")), 1, "a comment line"),
    "usage": (_usage, 1, "the token counts to tell at the end; null: tell none"),
    "finish": (
        lambda a: Finish(_text(a, 0, "stop")),
        1,
        "terminal events: stop, length, tool_calls, content_filter...",
    ),
    "refuse": (lambda a: Refuse(_text(a, 0, Refuse().text)), 1, "a refusal and the terminal events"),
    "error": (lambda a: Fail(_text(a, 0, "") or None), 1, "an error inside the stream"),
    "overload": (lambda a: Fail(_text(a, 0, "") or None, True), 1, "an overload told inside the stream"),
    "abort": (lambda a: Abort(_text(a, 0, "user stop")), 1, "the app gave up (ai-sdk)"),
    "status": (_status, 3, "a whole response: code, headers, body"),
    "truncate": (lambda a: Truncate(), 0, "end the message without terminal event"),
    "drop": (lambda a: Drop(), 0, "close the connection"),
    "reset": (lambda a: Reset(), 0, "reset the connection"),
    "raw": (lambda a: Raw(_text(a, 0).encode()), 1, "this text as it is, inside the body"),
    "wire": (lambda a: Wire(_text(a, 0).encode("latin-1", "replace")), 1, "these bytes (Latin-1) outside all framing"),
    "merge": (lambda a: Merge(_count(a, 0, 1, 10_000)), 1, "the events of the next k steps in one write"),
    "split": (lambda a: Split(_count(a, 0, 1, 10_000), _gap(a, 1)), 2, "the next event over k writes, ms apart"),
    "lump": (
        lambda a: Lump(min(60 * S, _ns(a, 0))),
        1,
        "from here on, one write for each ms, at most 60000; 0 ends it",
    ),
    "meant": (lambda a: Meant(_text(a, 0)), 1, "the outcome to note in the log"),
}


def read(text: str) -> tuple[AnyStep, ...]:
    """The steps of a script given as JSON. UsageError names the first wrong step, its number and what is allowed."""
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise UsageError(f"script is not JSON ({e}); it is a list of steps such as {EXAMPLE}") from None
    if not isinstance(items, list) or len(items) > MAX_STEPS:
        raise UsageError(f"script must be a list of at most {MAX_STEPS} steps such as {EXAMPLE}")
    steps = tuple(_read_step(i, item) for i, item in enumerate(items, 1))
    _check_status(steps)
    return steps


EXAMPLE = '[["wait", 300], ["text", "Hello "], ["finish"]]'


def _check_status(steps: tuple[AnyStep, ...]) -> None:
    """UsageError where a whole response would come after part of another."""
    sent = False
    for number, step in enumerate(steps, 1):
        if sent and isinstance(step, Status):
            raise UsageError(f"script step {number}: 'status' is a whole response; nothing may be sent before it")
        sent = sent or not isinstance(step, SILENT)


def _read_step(number: int, item: object) -> AnyStep:
    """One step out of its JSON list."""
    if not isinstance(item, list) or not item or not isinstance(item[0], str):
        raise UsageError(
            f"script step {number}: {json.dumps(item)[:80]} is no step; a step is a list that begins with its name"
        )
    name, args = item[0], item[1:]
    if name not in STEPS:
        raise UsageError(f"script step {number}: {name!r} is unknown; there are {', '.join(STEPS)}")
    make, most, what = STEPS[name]
    if len(args) > most:
        raise UsageError(f"script step {number}: {name!r} takes at most {most} arguments ({what})")
    try:
        return make(args)
    except ValueError as e:
        raise UsageError(f"script step {number}: {name!r}: {e} ({what})") from None


def spread(steps: Iterable[AnyStep], words: Iterator[str]) -> Iterator[AnyStep]:
    """The same steps with each `Tokens` written out as texts (words from `words`) and waits."""
    for step in steps:
        if not isinstance(step, Tokens):
            yield step
            continue
        made = 0
        while step.count is None or made < step.count:
            if made:
                yield Wait(step.gap_ns)
            yield Text(next(words))
            made += 1
