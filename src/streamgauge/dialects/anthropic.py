"""Anthropic's Messages API.

Wire: named events whose data repeats the name as `type`: message_start, then per block content_block_start, deltas
and content_block_stop, then message_delta (stop_reason, cumulative usage) and message_stop, with pings anywhere and
`error` in place of the rest. The end is message_stop.

Rules: `type` in the data decides; the event's name only where the data has none. The end of a block is a boundary:
the gap across it is no gap between tokens. The name of a tool call is its first output. Redacted thinking is
reasoning that came, though in secret. Thinking is billed in full but streamed as a summary (or not at all), so with
any thinking block the tokens streamed cannot be told apart, except by `thinking_tokens` where no thinking was
streamed. Input tokens are the sum of fresh, cache-written and cache-read ones, as OpenAI and Gemini count them.
output_tokens of message_start is a placeholder and is not believed. An unknown stop_reason is the server's own word
for an orderly end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec

from streamgauge.dialects.contract import (
    DONE,
    END,
    ERROR,
    MALFORMED,
    NOTHING,
    REASONING,
    STEP,
    TEXT,
    TOOL,
    UNKNOWN,
    Ask,
    HttpRequest,
    InBandError,
    Usage,
    Verdict,
    count,
    loosely,
    spoken,
    table,
)
from streamgauge.dialects.errors import told
from streamgauge.dialects.template import body, fill_path

VERDICTS: dict[str, Verdict] = {
    "max_tokens": "length_capped",
    "model_context_window_exceeded": "length_capped",
    "refusal": "filtered",
}
"""Every other word is `ok`: end_turn, stop_sequence, tool_use, pause_turn, compaction."""

_TOKENS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_EVENTS = {
    "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
    "message_stop",
}  # fmt: skip
_SILENT = {"signature_delta", "citations_delta", "compaction_delta"}
_NAMED_CALLS = {"tool_use", "server_tool_use", "mcp_tool_use"}


class _Delta(msgspec.Struct, gc=False):
    type: Any = None
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: Any = None


class _Event(msgspec.Struct, gc=False):
    type: Any = None
    delta: _Delta | None = None
    content_block: Any = None
    message: Any = None
    usage: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_Event).decode
_decode_any = msgspec.json.Decoder().decode


class MessageReader:
    """The memory of one streamed message."""

    __slots__ = (
        "_tokens", "_verdicts", "error", "finish", "hidden_reasoning", "model", "text", "usage", "verdict",
    )  # fmt: skip

    def __init__(self, verdicts: Mapping[str, Verdict]) -> None:
        self._verdicts = verdicts
        self._tokens: dict[str, object] = {}  # the last count told of each kind
        self.text = ""
        self.usage: Usage | None = None
        self.finish: str | None = None
        self.verdict: Verdict | None = None
        self.error: InBandError | None = None
        self.model: str | None = None
        self.hidden_reasoning = False

    def __repr__(self) -> str:
        return f"<MessageReader finish={self.finish} verdict={self.verdict} usage={self.usage}>"

    def read(self, event: str, data: bytes) -> int:
        """What one server-sent event brought, as bits."""
        try:
            told_event = _decode(data)
        except (ValueError, RecursionError):
            if data[:6] == DONE:  # gateways add it
                return NOTHING
            loose = loosely(_decode, data)
            if loose is None:
                return MALFORMED
            told_event = loose
        delta = told_event.delta
        if told_event.type == "content_block_delta" and delta is not None:
            if delta.type == "text_delta":
                if delta.text:
                    self.text = delta.text
                    return TEXT
                return NOTHING
            return self._delta(delta)
        return self._other(told_event, event)

    def _delta(self, delta: _Delta) -> int:
        """A piece of a block that is no text."""
        kind = delta.type
        if kind == "thinking_delta":
            return self._output(delta.thinking, REASONING)
        if kind == "input_json_delta":
            return self._output(delta.partial_json, TOOL)
        return NOTHING if isinstance(kind, str) and kind in _SILENT else UNKNOWN

    def _output(self, text: object, bit: int) -> int:
        if text and isinstance(text, str):
            self.text = text
            return bit
        return NOTHING

    def _other(self, told_event: _Event, event: str) -> int:
        """Everything but deltas."""
        kind = told_event.type or event
        if kind == "content_block_start":
            return self._block(table(told_event.content_block))
        if kind == "content_block_stop":
            return STEP
        if kind == "message_delta":
            reason = told_event.delta.stop_reason if told_event.delta else None
            if reason and isinstance(reason, str):
                self.finish = reason
                self.verdict = self._verdicts.get(reason, "ok")
            usage = table(told_event.usage)
            self._count(usage, usage.get("output_tokens"))
            return NOTHING
        if kind == "message_stop":
            self.verdict = self.verdict or "ok"
            return END
        if kind == "message_start":
            message = table(told_event.message)
            model = message.get("model")
            self.model = model if isinstance(model, str) else None
            self._count(table(message.get("usage")), None)
            return NOTHING
        if kind == "error" or told_event.error is not None:
            self.error = told(told_event.error)
            return ERROR
        return NOTHING if kind == "ping" else UNKNOWN

    def _block(self, block: Mapping[str, object]) -> int:
        kind = block.get("type")
        if kind == "text":
            return self._output(block.get("text"), TEXT)
        if kind == "thinking":
            self.hidden_reasoning = True
            return self._output(block.get("thinking"), REASONING)
        if kind == "redacted_thinking":
            self.hidden_reasoning = True
            self.text = ""
            return REASONING if block.get("data") else NOTHING
        if not isinstance(kind, str):
            return UNKNOWN
        return self._output(block.get("name"), TOOL) if kind in _NAMED_CALLS else NOTHING

    def _count(self, usage: Mapping[str, object], output: object) -> None:
        """Counts are cumulative, and an event may leave out those that did not change."""
        tokens = self._tokens
        for name in (*_TOKENS, "output_tokens_details"):
            if usage.get(name) is not None:
                tokens[name] = usage[name]
        if output is not None:
            tokens["output_tokens"] = output
        if tokens:
            known = [n for n in (count(tokens.get(name)) for name in _TOKENS) if n is not None]
            self.usage = Usage(
                input=sum(known) if count(tokens.get("input_tokens")) is not None else None,
                output=count(tokens.get("output_tokens")),
                reasoning=count(table(tokens.get("output_tokens_details")).get("thinking_tokens")),
                cached=count(tokens.get("cache_read_input_tokens")),
            )


@dataclass(frozen=True, slots=True)
class Anthropic:
    """Messages.

    Options: `version` (the anthropic-version header); `default_max_tokens`, sent where the request has no limit,
    because the API wants one; `verdicts`, what a stop_reason means where the table is wrong.
    """

    version: str = "2023-06-01"
    default_max_tokens: int = 1024
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    name: ClassVar[str] = "anthropic"
    default_path: ClassVar[str] = "/v1/messages"
    has_max_tokens: ClassVar[bool] = True
    content_types: ClassVar[tuple[str, ...]] = ("text/event-stream",)

    def request(self, path: str, ask: Ask) -> HttpRequest:
        """The request for `ask` at `path`."""
        own: dict[str, object] = {
            "max_tokens": self.default_max_tokens if ask.max_tokens is None else ask.max_tokens,
            "messages": [{"role": role, "content": text} for role, text in spoken(ask)],
            "stream": True,
        }
        if ask.model is not None:
            own["model"] = ask.model
        if ask.system is not None:
            own["system"] = ask.system
        headers = (("content-type", "application/json"), ("anthropic-version", self.version))
        return HttpRequest(fill_path(path, ask), body(ask, own), headers)

    def reader(self) -> MessageReader:
        """A fresh memory for one response."""
        return MessageReader({**VERDICTS, **self.verdicts} if self.verdicts else VERDICTS)

    def recognises(self, event: str, data: bytes) -> bool:
        """One of the six types of events, a ping, or an error that wraps an object."""
        fields = table(loosely(_decode_any, data))
        kind = fields.get("type")
        return isinstance(kind, str) and (
            kind in _EVENTS
            or (kind == "ping" and event == "ping")
            or (kind == "error" and isinstance(fields.get("error"), dict))
        )

    def claims(self, path: str, headers: Mapping[str, str], body: object) -> int:
        """Sure by the anthropic-version header or the path."""
        sure = "anthropic-version" in headers or path.partition("?")[0].rstrip("/").endswith("/v1/messages")
        return 3 if sure else 0
