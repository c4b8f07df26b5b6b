"""Streams with known truth for the fuzzer, as bytes on the wire: every dialect, every legal way to write it.

It shares no code with the product: events are written here by hand, framed by zlib and string formatting, and the truth
of a cut stream is counted from where each event was put. A stream is made from a random number generator alone.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Kind = str
"""text, reasoning, tool, quiet (known, without output), unknown, malformed, end, error, nothing (not even known)."""

WORDS = ["Hi", " there", "\n", "é", "日本", '"q"', "\\", "🙂", "{}", "data: x", "\u2028", "[DONE]", "\r\n", ":", "\x7f"]


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its type (None: no event line), its data, and what it is."""

    kind: Kind
    data: str
    name: str | None = None
    outcome: str | None = None
    """What the answer is, if this ends it."""
    tokens: int | None = None
    """Output tokens that it tells."""


def _json(rng: random.Random, value: dict[str, Any]) -> str:
    """`value` in one of the ways in which JSON may be written, over several lines perhaps."""
    if rng.random() < 0.1:
        value = {"zz": 0, **value}
    text = json.dumps(
        value, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, None, None, 1]),
        separators=rng.choice([None, (",", ":")]),
    )  # fmt: skip
    if rng.random() < 0.05:  # a key twice: the last one counts
        text = '{"zz":[1,{}],"zz":"twice",' + text[1:]
    return text


def _openai(rng: random.Random) -> list[Event]:
    def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return _json(rng, {"object": "chat.completion.chunk", "model": "m", "choices": [choice], **more})

    found = [Event("quiet", chunk({"role": "assistant", "content": ""}))]
    for _ in range(rng.randrange(9)):
        kind = rng.choice(["text", "text", "text", "reasoning", "tool", "quiet"])
        word = rng.choice(WORDS)
        delta: dict[str, Any] = {
            "text": {"content": word},
            "reasoning": {rng.choice(["reasoning", "reasoning_content"]): word},
            "tool": {"tool_calls": [{"index": 0, "function": {"arguments": word}}]},
            "quiet": rng.choice([{}, {"content": None}, {"content": ""}]),
        }[kind]
        found.append(Event(kind, chunk(delta)))
    reason, outcome = rng.choice([("stop", "ok"), ("length", "length_capped"), ("content_filter", "filtered")])
    found.append(Event("end", chunk({}, reason), outcome=outcome))
    if rng.random() < 0.6:
        n = rng.randrange(500)
        usage = {"prompt_tokens": 3, "completion_tokens": n}
        found.append(Event("quiet", _json(rng, {"choices": [], "usage": usage}), tokens=n))
    if rng.random() < 0.8:
        found.append(Event("quiet", "[DONE]"))
    return found


def _anthropic(rng: random.Random) -> list[Event]:
    def event(kind: Kind, name: str, outcome: str | None = None, tokens: int | None = None, **fields: Any) -> Event:
        told = name if rng.random() < 0.8 else None
        return Event(kind, _json(rng, {"type": name, **fields}), told, outcome, tokens)

    found = [event("quiet", "message_start", message={"model": "m", "usage": {"input_tokens": 3, "output_tokens": 1}})]
    for index in range(rng.randrange(3)):
        kind = rng.choice(["text", "text", "reasoning", "tool"])
        block, delta, key = {
            "text": ({"type": "text", "text": ""}, "text_delta", "text"),
            "reasoning": ({"type": "thinking", "thinking": ""}, "thinking_delta", "thinking"),
            "tool": ({"type": "tool_use", "name": "w"}, "input_json_delta", "partial_json"),
        }[kind]
        found.append(
            event("tool" if kind == "tool" else "quiet", "content_block_start", index=index, content_block=block)
        )
        for _ in range(rng.randrange(5)):
            if rng.random() < 0.1:
                found.append(event("quiet", "ping"))
            piece = {"type": delta, key: rng.choice(WORDS)}
            found.append(event(kind, "content_block_delta", index=index, delta=piece))
        found.append(event("quiet", "content_block_stop", index=index))
    reason, outcome = rng.choice([("end_turn", "ok"), ("max_tokens", "length_capped"), ("refusal", "filtered")])
    n = rng.randrange(500)
    found.append(event("quiet", "message_delta", None, n, delta={"stop_reason": reason}, usage={"output_tokens": n}))
    found.append(event("end", "message_stop", outcome))
    return found


def _gemini(rng: random.Random) -> list[Event]:
    def chunk(parts: list[dict[str, Any]], **more: Any) -> str:
        candidate = {"content": {"role": "model", "parts": parts}, **more}
        return _json(rng, {"candidates": [candidate], "modelVersion": "m"})

    found = [Event("quiet", chunk([]))]
    for _ in range(rng.randrange(9)):
        kind = rng.choice(["text", "text", "reasoning", "tool", "quiet"])
        word = rng.choice(WORDS)
        part: dict[str, Any] = {
            "text": {"text": word},
            "reasoning": {"text": word, "thought": True},
            "tool": {"functionCall": {"name": "w", "args": {"a": word}}},
            "quiet": {"text": ""},
        }[kind]
        found.append(Event(kind, chunk([part])))
    reason, outcome = rng.choice([("STOP", "ok"), ("MAX_TOKENS", "length_capped"), ("SAFETY", "filtered")])
    end: dict[str, Any] = {"candidates": [{"finishReason": reason}]}
    n = rng.randrange(500) if rng.random() < 0.7 else None
    if n is not None:
        end["usageMetadata"] = {"promptTokenCount": 3, "candidatesTokenCount": n}
    found.append(Event("end", _json(rng, end), outcome=outcome, tokens=n))
    return found


def _ai_sdk(rng: random.Random) -> list[Event]:
    def part(kind: Kind, name: str, outcome: str | None = None, **fields: Any) -> Event:
        return Event(kind, _json(rng, {"type": name, **fields}), outcome=outcome)

    found = [part("quiet", "start", messageId="1"), part("quiet", "start-step")]
    for index in range(rng.randrange(4)):
        kind = rng.choice(["text", "text", "reasoning", "tool"])
        one = f"id-{index}"
        if kind == "tool":
            found.append(part("tool", "tool-input-start", toolCallId=one, toolName="w"))
            for _ in range(rng.randrange(1, 4)):
                found.append(part("tool", "tool-input-delta", toolCallId=one, inputTextDelta=rng.choice(WORDS)))
            found.append(part("quiet", "tool-input-available", toolCallId=one, toolName="w", input={"a": 1}))
            continue
        found.append(part("quiet", f"{kind}-start", id=one))
        for _ in range(rng.randrange(6)):
            found.append(part(kind, f"{kind}-delta", id=one, delta=rng.choice(WORDS)))
        found.append(part("quiet", f"{kind}-end", id=one))
    found.append(part("quiet", "finish-step"))
    reason, outcome = rng.choice([("stop", "ok"), ("length", "length_capped"), ("content-filter", "filtered")])
    found.append(part("end", "finish", outcome, finishReason=reason))
    if rng.random() < 0.8:
        found.append(Event("quiet", "[DONE]"))
    return found


VOICES: dict[str, Callable[[random.Random], list[Event]]] = {
    "openai-chat": _openai, "anthropic": _anthropic, "gemini": _gemini, "ai-sdk": _ai_sdk,
}  # fmt: skip
UNKNOWN = {
    "openai-chat": '{"object":"chat.completion.note","x":1}',
    "anthropic": '{"type":"future_event"}',
    "gemini": '{"futureField":1}',
    "ai-sdk": '{"type":"future-part"}',
}
ERRORS = {
    "openai-chat": '{"error":{"message":"boom","type":"server_error"}}',
    "anthropic": '{"type":"error","error":{"type":"api_error","message":"boom"}}',
    "gemini": '{"error":{"code":500,"message":"boom","status":"INTERNAL"}}',
    "ai-sdk": '{"type":"error","errorText":"boom"}',
}


@dataclass(slots=True)
class Told:
    """What bytes that came in whole tell: counts, and how the stream ended."""

    text: int = 0
    reasoning: int = 0
    tool: int = 0
    unknown: int = 0
    malformed: int = 0
    tokens: int | None = None
    end: str | None = None
    failed: bool = False

    def add(self, event: Event) -> None:
        if event.kind in ("text", "reasoning", "tool", "unknown", "malformed"):
            setattr(self, event.kind, getattr(self, event.kind) + 1)
        self.end = self.end or event.outcome
        self.failed = self.failed or event.kind == "error"
        self.tokens = self.tokens if event.tokens is None else event.tokens

    @property
    def output(self) -> int:
        return self.text + self.reasoning + self.tool


@dataclass(slots=True)
class Body:
    """Events as an event stream, and behind which byte each one is told."""

    data: bytearray = field(default_factory=bytearray)
    events: list[tuple[int, Event]] = field(default_factory=list)
    comments: list[int] = field(default_factory=list)
    """Behind which byte each comment is whole."""

    def told(self, length: int) -> Told:
        found = Told()
        for at, event in self.events:
            if at <= length:
                found.add(event)
        return found


def body(rng: random.Random, dialect: str) -> Body:
    """A stream of `dialect` in any form that the WHATWG rules allow."""
    events = VOICES[dialect](rng)
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        events.insert(rng.randrange(1, len(events) + 1), Event("unknown", UNKNOWN[dialect]))
    if rng.random() < 0.1:
        events.insert(rng.randrange(1, len(events) + 1), Event("malformed", '{"cut": tru'))
    if rng.random() < 0.1:
        events.insert(rng.randrange(1, len(events) + 1), Event("error", ERRORS[dialect]))
    made = Body()
    if rng.random() < 0.1:
        made.data += b"\xef\xbb\xbf"
    ends = rng.choice([["\n"], ["\n"], ["\r\n"], ["\r"], ["\n", "\r\n"]])
    plain = rng.random() < 0.4
    for event in events:
        write(rng, made, event, ends, plain=plain)
    return made


def write(rng: random.Random, made: Body, event: Event, ends: list[str], *, plain: bool) -> None:
    """One more event for `made`; its line ends are some of `ends`, and unless `plain` there is noise about it."""

    def line(text: str) -> None:
        made.data.extend(text.encode("utf-8"))
        end = rng.choice(ends)
        made.data.extend(end[:1].encode())
        if text[:1] == ":":
            made.comments.append(len(made.data))
        where.append(len(made.data))
        made.data.extend(end[1:].encode())

    def noise() -> None:
        if not plain and rng.random() < 0.15:
            line(rng.choice([": keep-alive", ":", "foo: bar", "id: 7", "id: \0", "retry: 10", "retry: x", "DATA: y"]))

    where: list[int] = []
    if not plain and rng.random() < 0.1:
        line("")
    noise()
    fields = ["data:" + rng.choice([" ", " ", " ", ""]) + row for row in event.data.split("\n")]
    if event.name is not None:
        fields.insert(rng.choice([0, 0, len(fields)]), f"event: {event.name}")
    for text in fields:
        line(text)
        noise()
    line("")
    made.events.append((where[-1], event))


@dataclass(slots=True)
class Wire:
    """A response on the wire. `runs`: where pieces of the body stand in it, and how long each is."""

    data: bytes
    framing: str
    body: Body
    runs: list[tuple[int, int]]
    packed: int | None = None
    """zlib's wbits, where the body is compressed."""

    def inside(self, length: int) -> int:
        """How many bytes of the body's text its first `length` bytes hold."""
        raw = b"".join(self.data[at : min(at + size, length)] for at, size in self.runs if at < length)
        if self.packed is None:
            return len(raw)
        text = 0
        while raw:
            member = zlib.decompressobj(self.packed)
            text += len(member.decompress(raw))
            raw = member.unused_data
        return text


_PACKED = {"gzip": 31, "deflate": 15, "members": 31}


def wire(rng: random.Random, made: Body) -> Wire:
    """`made` as a response in any legal framing."""
    framing = rng.choice(["length", "length", "chunked", "chunked", "close", "close", *_PACKED])
    head = rng.choice(["", "", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"])
    head += f"HTTP/1.1 200 {rng.choice(['OK', '', 'Fine'])}\r\n"
    kind = rng.choice(["text/event-stream", "text/event-stream; charset=utf-8", "Text/Event-Stream", "text/plain"])
    head += f"{rng.choice(['Content-Type', 'content-type'])}: {kind}\r\n"
    pieces = _pieces(rng, bytes(made.data))
    chunked = framing not in ("length", "close")
    if framing == "length":
        head += f"Content-Length: {len(made.data)}\r\n"
    else:
        head += "Transfer-Encoding: chunked\r\n" if chunked else "Connection: close\r\n"
    packed = _PACKED.get(framing)
    if packed is not None:
        head += f"Content-Encoding: {'deflate' if framing == 'deflate' else 'gzip'}\r\n"
        pieces = _flushed(pieces, packed) if framing != "members" else [_packed(piece) for piece in pieces]
    data = bytearray(f"{head}\r\n".encode())
    runs: list[tuple[int, int]] = []
    for piece in pieces:
        if chunked:
            size = rng.choice(["{:x}", "{:X}", "{:04x}"]).format(len(piece)) + rng.choice(["", "", ";a=b", ';a="q"'])
            data += f"{size}\r\n".encode()
        runs.append((len(data), len(piece)))
        data += piece + (b"\r\n" if chunked else b"")
    if chunked:
        data += b"0\r\n" + rng.choice([b"", b"", b"X-Sum: 1\r\n"]) + b"\r\n"
    return Wire(bytes(data), framing, made, runs, packed)


def _flushed(pieces: list[bytes], wbits: int) -> list[bytes]:
    """What a server sends that flushes behind each piece."""
    packer = zlib.compressobj(wbits=wbits)
    sent = [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
    return [piece for piece in [*sent, packer.flush()] if piece]


def _packed(piece: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(piece) + packer.flush()


def _pieces(rng: random.Random, text: bytes) -> list[bytes]:
    """`text` cut anywhere."""
    most = rng.choice([20, 200, 1_000, 4_000])
    found, at = [], 0
    while at < len(text):
        size = rng.randrange(1, most)
        found.append(text[at : at + size])
        at += size
    return found
