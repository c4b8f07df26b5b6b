"""The AI SDK's UI message stream, as useChat reads it (npm `ai` 5 to 7; header x-vercel-ai-ui-message-stream: v1).

Wire: unnamed events, each an object with a `type`; `data: [DONE]` behind the last. `start` is sent before the model
answers, and every failure has status 200: a model that throws gives `error` without `finish`, an aborted one `abort`,
and one whose provider was cut gives `finish` with the reason `other` (5: `unknown`; 7: `interrupted` where the
provider's package noticed). So the end is `finish`, not [DONE], and these three reasons are `truncated`; `verdicts` can
say otherwise.

Rules: output is text-delta, reasoning-delta and the input of tool calls (what tools give back is none). An input that
came in deltas is not counted again when it is told whole. Parts of one's own (data-*) are known and no output. No
tokens are told unless the app puts them into messageMetadata: `usage_paths` are tried there in turn, each leading to
an object in the shape of LanguageModelUsage (outputTokens a number, or {total, text, reasoning} as providers of
version 6 have it). Where reasoning was streamed it may be a summary of what is billed: then what was streamed cannot
be told apart.
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
    first_count,
    loosely,
    spoken,
    table,
)
from streamgauge.dialects.errors import line, told
from streamgauge.dialects.template import body, fill_path

VERDICTS: dict[str, Verdict] = {
    "length": "length_capped",
    "content-filter": "filtered",
    "other": "truncated",
    "unknown": "truncated",
    "interrupted": "truncated",
}
"""Every other word is `ok`: stop, tool-calls, none at all, and words of backends in other languages."""

_QUIET = {
    "start", "text-start", "text-end", "reasoning-start", "reasoning-end", "message-metadata", "tool-approval-request",
    "tool-approval-response", "tool-output-available", "tool-output-error", "tool-output-denied", "source-url",
    "source-document", "file", "reasoning-file", "custom", "steering-message",
}  # fmt: skip
_STEPS = {"start-step", "finish-step", "reset-step"}
_SPOKEN = {
    "text-delta", "reasoning-delta", "tool-input-start", "tool-input-delta", "tool-input-available", "tool-input-error",
    "finish", "abort",
}  # fmt: skip


MOST_CALLS, _ID = 1_024, 200
"""So many tool calls of one answer are told apart, by so many characters of their ids."""


class _Part(msgspec.Struct, gc=False):
    type: str
    delta: str | None = None
    toolCallId: Any = None
    toolName: Any = None
    inputTextDelta: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"null")
    errorText: Any = None
    reason: Any = None
    finishReason: Any = None
    messageMetadata: Any = None


_decode = msgspec.json.Decoder(_Part).decode
_decode_any = msgspec.json.Decoder().decode


class UiMessageReader:
    """The memory of one UI message stream."""

    __slots__ = (
        "_paths", "_streamed", "_verdicts", "error", "finish", "hidden_reasoning", "model", "text", "usage", "verdict",
    )  # fmt: skip

    def __init__(self, verdicts: Mapping[str, Verdict], usage_paths: tuple[str, ...]) -> None:
        self._verdicts = verdicts
        self._paths = usage_paths
        self._streamed: set[str] = set()  # tool calls whose input came in deltas
        self.text = ""
        self.usage: Usage | None = None
        self.finish: str | None = None
        self.verdict: Verdict | None = None
        self.error: InBandError | None = None
        self.model: str | None = None
        self.hidden_reasoning = False

    def __repr__(self) -> str:
        return f"<UiMessageReader finish={self.finish} verdict={self.verdict} usage={self.usage}>"

    def read(self, event: str, data: bytes) -> int:
        """What one server-sent event brought, as bits."""
        try:
            part = _decode(data)
        except (ValueError, RecursionError):
            if data[:6] == DONE:
                return NOTHING
            loose = loosely(_decode, data)
            if loose is None:
                return MALFORMED
            part = loose
        kind = part.type
        if kind == "text-delta":
            if part.delta:
                self.text = part.delta
                return TEXT
            return NOTHING
        if kind == "reasoning-delta":
            if part.delta:
                self.text = part.delta
                self.hidden_reasoning = True
                return REASONING
            return NOTHING
        return self._other(kind, part)

    def _other(self, kind: str, part: _Part) -> int:
        """Everything but text and reasoning."""
        if part.messageMetadata is not None:
            self._metadata(table(part.messageMetadata))
        if kind in _QUIET or kind.startswith("data-"):
            return NOTHING
        if kind in _STEPS:
            return STEP
        if kind.startswith("tool-input-"):
            return self._tool(kind, part)
        if kind == "finish":
            return self._finish(part.finishReason)
        if kind == "error":
            text = part.errorText
            self.error = told(text if isinstance(text, str) else None)
            return ERROR
        if kind == "abort":
            reason = part.reason
            self.error = InBandError(line(f"aborted: {reason}" if isinstance(reason, str) else "aborted"), "abort")
            return ERROR
        return UNKNOWN

    def _tool(self, kind: str, part: _Part) -> int:
        """The making of a tool call: its name, its input in deltas, or its input whole."""
        call = part.toolCallId if isinstance(part.toolCallId, str) else ""
        if kind == "tool-input-start":
            return self._called(part.toolName)
        if kind == "tool-input-delta":
            if len(self._streamed) < MOST_CALLS:
                self._streamed.add(call[:_ID])
            return self._called(part.inputTextDelta)
        if kind in ("tool-input-available", "tool-input-error"):
            known = call[:_ID] in self._streamed
            return NOTHING if known else self._called(bytes(part.input).decode("utf-8", "replace"))
        return UNKNOWN

    def _called(self, text: object) -> int:
        if text and isinstance(text, str):
            self.text = text
            return TOOL
        return NOTHING

    def _finish(self, reason: object) -> int:
        if isinstance(reason, str):
            self.finish = reason
            self.verdict = self._verdicts.get(reason, "ok")
            if reason == "error":
                self.verdict = "truncated"
                self.error = self.error or InBandError("finish reason is error")
                return ERROR | END
        else:
            self.verdict = "ok"
        return END

    def _metadata(self, metadata: Mapping[str, object]) -> None:
        """The app's own facts about the message: usage by the configured paths, and the model by its usual names."""
        for path in self._paths:
            at: object = metadata
            for key in path.split(".") if path else ():
                at = table(at).get(key)
            usage = _usage(table(at))
            if usage is not None:
                self.usage = usage
                break
        for name in ("model", "modelId"):
            if isinstance(metadata.get(name), str):
                self.model = str(metadata[name])


def _usage(usage: Mapping[str, object]) -> Usage | None:
    """Usage in the shapes of LanguageModelUsage 5 and 6 and of their providers; None where no count is in it."""
    spent, given = usage.get("outputTokens"), usage.get("inputTokens")
    inside, before = table(spent), table(given)  # {total, text, reasoning} and {total, noCache, cacheRead, cacheWrite}
    found = Usage(
        input=count(before.get("total") if before else given),
        output=count(inside.get("total") if inside else spent),
        reasoning=first_count(
            inside.get("reasoning"), table(usage.get("outputTokenDetails")).get("reasoningTokens"),
            usage.get("reasoningTokens"),
        ),
        cached=first_count(
            before.get("cacheRead"), table(usage.get("inputTokenDetails")).get("cacheReadTokens"),
            usage.get("cachedInputTokens"),
        ),
    )  # fmt: skip
    return found if found != Usage() else None


@dataclass(frozen=True, slots=True)
class AiSdk:
    """A chat route of the AI SDK.

    Options: `usage_paths`, where in messageMetadata the usage stands (keys joined by dots; "" is the metadata itself);
    `verdicts`, what a finishReason means where the table is wrong.
    """

    usage_paths: tuple[str, ...] = ("totalUsage", "usage", "")
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    name: ClassVar[str] = "ai-sdk"
    default_path: ClassVar[str] = "/api/chat"
    has_max_tokens: ClassVar[bool] = False
    content_types: ClassVar[tuple[str, ...]] = ("text/event-stream",)

    def request(self, path: str, ask: Ask) -> HttpRequest:
        """The request for `ask` at `path`, as DefaultChatTransport sends a first message."""
        said = spoken(ask)
        messages = [
            {
                "id": ask.message_id if left == 0 else f"{ask.message_id}-{left}",
                "role": role,
                "parts": [{"type": "text", "text": text}],
            }
            for left, (role, text) in zip(range(len(said) - 1, -1, -1), said, strict=True)
        ]
        if ask.system is not None:
            parts = [{"type": "text", "text": ask.system}]
            messages.insert(0, {"id": f"{ask.message_id}-system", "role": "system", "parts": parts})
        own: dict[str, object] = {"id": ask.chat_id, "messages": messages, "trigger": "submit-message"}
        return HttpRequest(fill_path(path, ask), body(ask, own))

    def reader(self) -> UiMessageReader:
        """A fresh memory for one response."""
        verdicts = {**VERDICTS, **self.verdicts} if self.verdicts else VERDICTS
        return UiMessageReader(verdicts, self.usage_paths)

    def recognises(self, event: str, data: bytes) -> bool:
        """An object with one of the known types, or an error with errorText."""
        fields = table(loosely(_decode_any, data))
        kind = fields.get("type")
        if not isinstance(kind, str):
            return False
        known = kind in _QUIET or kind in _STEPS or kind in _SPOKEN or kind.startswith("data-")
        return known or (kind == "error" and "errorText" in fields)

    def claims(self, path: str, headers: Mapping[str, str], body: object) -> int:
        """Sure by messages that have parts; by shape where they have content and neither model nor stream stands by."""
        fields = table(body)
        messages = fields.get("messages")
        rows = [table(message) for message in messages] if isinstance(messages, list) else []
        if any("parts" in row for row in rows):
            return 3
        legacy = any("content" in row for row in rows) and "model" not in fields and "stream" not in fields
        return 2 if legacy and ("id" in fields or "/api/" in path) else 0
