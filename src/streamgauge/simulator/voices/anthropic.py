"""Anthropic Messages: named events from message_start to message_stop, content in indexed blocks.

Order as the API sends it: message_start, content_block_start, one ping after the first of these, deltas,
content_block_stop, message_delta (stop reason, usage so far), message_stop. A thinking block ends with its signature; a
tool block opens with an empty input_json_delta.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from random import Random

from streamgauge.simulator.voices.api import (
    Api,
    Asked,
    Counts,
    Event,
    Fields,
    Refused,
    Whole,
    dump,
    identifier,
    object_body,
    prompt_chars,
    quoted,
    whole_number,
)  # fmt: skip

REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
KINDS = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 529: "overloaded_error",
}  # fmt: skip
TEXTS = {
    429: "This request would exceed your organization's rate limit. Please try again later.",
    500: "Internal server error",
    529: "Overloaded",
}
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
SIGNATURE = "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds0d1"


def read(path: str, query: str, body: object, wall_s: int) -> Asked:
    """The request of POST /v1/messages."""
    asked = object_body(body)
    model, messages = asked.get("model"), asked.get("messages")
    if not isinstance(model, str) or not model:
        raise Refused(400, "model: Field required")
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "messages: Field required")
    limit = whole_number(asked, "max_tokens")
    if limit is None:
        raise Refused(400, "max_tokens: Field required")
    chars = prompt_chars(messages) + prompt_chars(asked.get("system"))
    return Asked(model, chars, limit, asked.get("stream") is True, True, wall_s)


def problem(status: int, message: str | None, kind: str | None, request_id: str) -> bytes:
    """An error body."""
    text = message or TEXTS.get(status, TEXTS[500])
    error = {"type": kind or KINDS.get(status, "api_error"), "message": text}
    return dump({"type": "error", "error": error, "request_id": request_id})


def problem_fields(request_id: str) -> Fields:
    """Headers beside an error body."""
    return [("request-id", request_id)]


def event(name: str, value: object) -> bytes:
    """One named event."""
    return b"event: " + name.encode() + b"\ndata: " + dump(value) + b"\n\n"


class Anthropic:
    """The memory of one answer: which block is open."""

    def __init__(self, asked: Asked, random: Random, counts: Counts) -> None:
        self._counts = counts
        self._asked = asked
        self._random = random
        self._id = identifier("msg_01", random, 22)
        self._model = asked.model or "claude-3-5-sonnet"
        self._open: str | None = None
        self._index = -1
        self._pinged = False
        self._tools = 0
        self._head = b""

    def headers(self, since_ns: int) -> Fields:
        """Response headers of a stream."""
        reset = _rfc3339(self._asked.wall_s + 1)
        limits = (("requests", 4000, 3999), ("input-tokens", 400_000, 399_000), ("output-tokens", 80_000, 80_000),
                  ("tokens", 480_000, 479_000))  # fmt: skip
        fields = [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache")]
        for name, limit, left in limits:
            fields += [
                (f"anthropic-ratelimit-{name}-limit", str(limit)),
                (f"anthropic-ratelimit-{name}-remaining", str(left)),
                (f"anthropic-ratelimit-{name}-reset", reset),
            ]
        return [
            *fields,
            ("request-id", identifier("req_011C", self._random, 20)),
            ("anthropic-organization-id", "00000000-0000-4000-8000-000000000000"),
        ]

    def start(self) -> list[Event]:
        """message_start: an empty message, input counted, one output token to begin with."""
        message: dict[str, object] = {
            "id": self._id, "type": "message", "role": "assistant", "model": self._model, "content": [],
            "stop_reason": None, "stop_sequence": None, "usage": {**usage(self._counts, 1), "service_tier": "standard"},
        }  # fmt: skip
        return [(event("message_start", {"type": "message_start", "message": message}), "start")]

    def _block(self, kind: str, block: dict[str, object], delta: bytes) -> list[Event]:
        """Open a block unless one of this kind is open; `delta` is the start of its deltas' JSON."""
        if self._open == kind:
            return []
        events = self._close()
        self._open = kind
        self._index += 1
        self._head = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%b' % (
            self._index,
            delta,
        )
        opening = {"type": "content_block_start", "index": self._index, "content_block": block}
        events.append((event("content_block_start", opening), "tool" if "name" in block else "block"))
        if not self._pinged:
            self._pinged = True
            events.append((PING, "ping"))
        return events

    def _close(self) -> list[Event]:
        """Close the open block; thinking is signed first."""
        if self._open is None:
            return []
        events: list[Event] = []
        if self._open == "thinking":
            signature = {"type": "signature_delta", "signature": SIGNATURE}
            delta = {"type": "content_block_delta", "index": self._index, "delta": signature}
            events.append((event("content_block_delta", delta), "block"))
        events.append((event("content_block_stop", {"type": "content_block_stop", "index": self._index}), "block"))
        self._open = None
        return events

    def text(self, text: str) -> list[Event]:
        """A text_delta."""
        events = self._block("text", {"type": "text", "text": ""}, b'{"type":"text_delta","text":')
        return [*events, (self._head + quoted(text) + b"}}\n\n", "text")]

    def reasoning(self, text: str) -> list[Event]:
        """A thinking_delta."""
        block: dict[str, object] = {"type": "thinking", "thinking": "", "signature": ""}
        events = self._block("thinking", block, b'{"type":"thinking_delta","thinking":')
        return [*events, (self._head + quoted(text) + b"}}\n\n", "reasoning")]

    def tool(self, name: str, pieces: list[str], output: str | None) -> list[list[Event]]:
        """A tool_use block of its own; the arguments as input_json_delta."""
        self._tools += 1
        block: dict[str, object] = {
            "type": "tool_use", "id": identifier("toolu_01", self._random, 22), "name": name, "input": {},
        }  # fmt: skip
        opening = self._block(f"tool {self._tools}", block, b'{"type":"input_json_delta","partial_json":')
        empty = (self._head + b'""}}\n\n', "block")
        deltas = [(self._head + quoted(piece) + b"}}\n\n", "tool") for piece in pieces]
        groups = [[*opening, empty, *deltas[:1]], *([delta] for delta in deltas[1:])]
        groups[-1].extend(self._close())
        return groups

    def step(self) -> list[Event]:
        """The open block ends; the next output opens another."""
        return self._close()

    def ping(self) -> list[Event]:
        """A ping event."""
        return [(PING, "ping")]

    def finish(self, reason: str) -> list[Event]:
        """The open block's stop, message_delta, message_stop."""
        if reason == "stop" and self._tools:
            reason = "tool_calls"
        told: dict[str, object] = usage(self._counts, self._counts.output)
        if self._counts.reasoning:
            told["output_tokens_details"] = {"thinking_tokens": self._counts.reasoning}
        delta: dict[str, object] = {"stop_reason": REASONS.get(reason, reason), "stop_sequence": None}
        value: dict[str, object] = {"type": "message_delta", "delta": delta}
        if self._counts.told:
            value["usage"] = told
        return [*self._close(), (event("message_delta", value), "finish"), (STOP, "done")]

    def refuse(self, text: str) -> list[Event]:
        """What was said so far, stop_reason refusal."""
        return [*self.text(text), *self.finish("content_filter")]

    def fail(self, message: str | None, overloaded: bool, said: bool) -> list[Event]:
        """An error event; nothing comes after it."""
        status = 529 if overloaded else 500
        error = {"type": KINDS.get(status, "api_error"), "message": message or TEXTS[status]}
        return [(event("error", {"type": "error", "error": error}), "error")]

    def abort(self, reason: str) -> list[Event]:
        """Nothing on this wire."""
        return []

    def whole(self, answer: Whole) -> bytes:
        """A message object."""
        content: list[dict[str, object]] = []
        if answer.reasoning:
            content.append({"type": "thinking", "thinking": answer.reasoning, "signature": SIGNATURE})
        if answer.text:
            content.append({"type": "text", "text": answer.text})
        for name, args in answer.tools:
            content.append(
                {
                    "type": "tool_use",
                    "id": identifier("toolu_01", self._random, 22),
                    "name": name,
                    "input": _parsed(args),
                }
            )
        reason = "tool_calls" if answer.tools and answer.finish == "stop" else answer.finish
        return dump({
            "id": self._id, "type": "message", "role": "assistant", "model": self._model, "content": content,
            "stop_reason": REASONS.get(reason, reason), "stop_sequence": None,
            "usage": {**usage(self._counts, self._counts.output), "service_tier": "standard"},
        })  # fmt: skip


def _parsed(args: str) -> object:
    """Tool arguments as a value; what is not JSON stays text."""
    try:
        return json.loads(args)
    except ValueError:
        return args


def usage(counts: Counts, output: int) -> dict[str, object]:
    """The usage object; output_tokens holds the thinking."""
    return {
        "input_tokens": counts.input,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": counts.cached,
        "output_tokens": output,
    }


def _rfc3339(wall_s: int) -> str:
    """UTC time as the rate-limit headers give it."""
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def no_key(given: bool) -> tuple[int, str]:
    """401 either way."""
    return 401, "invalid x-api-key" if given else "x-api-key header is required"


ANTHROPIC = Api(
    "anthropic",
    ("/v1/messages",),
    read,
    Anthropic,
    problem,
    problem_fields,
    no_key,
    """curl -N {url}/v1/messages -H 'content-type: application/json' -H 'anthropic-version: 2023-06-01' \\
    -d '{{"model":"claude-3-5-sonnet","max_tokens":64,"stream":true,
    "messages":[{{"role":"user","content":"Hello"}}]}}'""",
    lambda counts: counts.told,
    lead_ms=30.0,
)
