"""OpenAI's chat completions, as OpenAI, Azure, vLLM, llama.cpp, LiteLLM, OpenRouter, DeepSeek, Mistral ... speak it.

Wire: `data: {"choices":[{"index":0,"delta":{...},"finish_reason":null}]}`, at the end a chunk with a finish_reason,
with `include_usage` one with empty choices and `usage`, then `data: [DONE]`. The end is the finish_reason (of every
choice that was seen) or [DONE], whichever is first: some servers leave out one of the two.

Rules: a first chunk with only a role, and empty content, are no output. Reasoning comes as `reasoning_content`
(DeepSeek, vLLM) or `reasoning` (OpenRouter, Groq), or among Mistral's content parts; where a server sends one text
under both names it counts once. A refusal is text that people see, and the answer is `filtered`. `max_tokens` is what
every compatible server knows; OpenAI's reasoning models want `max_completion_tokens`: set `max_tokens_key`, or give
that key in `extra`. An unknown finish_reason is the server's own word for an orderly end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import msgspec

from streamgauge.dialects.contract import (
    DONE,
    END,
    ERROR,
    MALFORMED,
    NOTHING,
    REASONING,
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
from streamgauge.dialects.errors import told
from streamgauge.dialects.template import body, fill_path

VERDICTS: dict[str, Verdict] = {
    "length": "length_capped",
    "max_tokens": "length_capped",
    "model_length": "length_capped",  # Mistral: the model's context is full
    "content_filter": "filtered",
    "content-filter": "filtered",
    "safety": "filtered",
    "sensitive": "filtered",
    "abort": "truncated",  # vLLM: taken off the engine
    "repetition": "truncated",  # vLLM: it began to repeat itself
    "cancelled": "truncated",
    "insufficient_system_resource": "truncated",  # DeepSeek
}
"""Every other word is `ok`: stop, tool_calls, function_call, and servers' own words."""

MOST_CHOICES = 1_024
"""Choices beyond are not told apart; OpenAI's `n` is at most 128."""


class _Delta(msgspec.Struct, gc=False):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    tool_calls: Any = None
    refusal: Any = None
    function_call: Any = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    finish_reason: Any = None
    index: Any = 0


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | msgspec.UnsetType | None = msgspec.UNSET
    model: Any = None
    usage: Any = None
    error: Any = None
    x_groq: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode
_decode_any = msgspec.json.Decoder().decode


class ChatReader:
    """The memory of one streamed chat completion."""

    __slots__ = (
        "_ended", "_finished", "_seen", "_verdicts", "error", "finish", "hidden_reasoning", "model", "text", "usage",
        "verdict",
    )  # fmt: skip

    def __init__(self, verdicts: Mapping[str, Verdict]) -> None:
        self._verdicts = verdicts
        self._ended = False
        self._seen: set[int] = set()  # indexes of choices
        self._finished: set[int] = set()
        self.text = ""
        self.usage: Usage | None = None
        self.finish: str | None = None
        self.verdict: Verdict | None = None
        self.error: InBandError | None = None
        self.model: str | None = None
        self.hidden_reasoning = False

    def __repr__(self) -> str:
        return f"<ChatReader finish={self.finish} verdict={self.verdict} usage={self.usage}>"

    def read(self, event: str, data: bytes) -> int:
        """What one server-sent event brought, as bits."""
        if data[:6] == DONE:
            return self._end()
        try:
            chunk = _decode(data)
        except (ValueError, RecursionError):
            loose = loosely(_decode, data)
            if loose is None:
                return MALFORMED
            chunk = loose
        if not self.model and type(chunk.model) is str:
            self.model = chunk.model
        bits = NOTHING
        choices = chunk.choices
        if choices:
            for choice in choices:
                bits |= self._choice(choice)
        elif choices is msgspec.UNSET and chunk.usage is None and chunk.error is None:
            return self._stray(event, data)
        if chunk.usage is not None:
            self._count(table(chunk.usage))
        elif chunk.x_groq is not None:
            self._count(table(table(chunk.x_groq).get("usage")))
        if chunk.error is not None:
            self.error = told(chunk.error)
            bits |= ERROR
        return bits

    def _choice(self, choice: _Choice) -> int:
        bits = NOTHING
        delta = choice.delta
        if delta is not None:
            content = delta.content
            if content:
                if type(content) is str:
                    bits = TEXT
                    self.text = content
                else:
                    bits = self._parts(content)
            if delta.reasoning_content or delta.reasoning or delta.tool_calls or delta.refusal or delta.function_call:
                bits |= self._rare(delta, bits)
        index = choice.index if type(choice.index) is int else 0
        if index not in self._seen and len(self._seen) < MOST_CHOICES:
            self._seen.add(index)
        reason = choice.finish_reason
        if reason and type(reason) is str:
            bits |= self._finish(reason, index)
        return bits

    def _rare(self, delta: _Delta, bits: int) -> int:
        """Output that is not plain content. Text, where there is some, stays what `text` tells."""
        for thought in (delta.reasoning_content, delta.reasoning):
            if thought and type(thought) is str:
                if not bits & TEXT:
                    self.text = thought
                bits |= REASONING
                break
        called = "".join(map(_called, delta.tool_calls)) if isinstance(delta.tool_calls, list) else ""
        called = called or _called({"function": delta.function_call})
        if called:
            if not bits & TEXT:
                self.text = called
            bits |= TOOL
        refusal = delta.refusal
        if refusal and type(refusal) is str:
            self.text = self.text + refusal if bits & TEXT else refusal
            self.verdict = "filtered"
            bits |= TEXT
        return bits

    def _parts(self, content: object) -> int:
        """Mistral's content as a list of parts: text, and thinking whose text stands one level deeper."""
        texts: list[str] = []
        thoughts: list[str] = []
        for part in map(table, content if isinstance(content, list) else ()):
            if isinstance(text := part.get("text"), str):
                texts.append(text)
            thinking = part.get("thinking")
            for item in map(table, thinking if isinstance(thinking, list) else ()):
                if isinstance(text := item.get("text"), str):
                    thoughts.append(text)
        text, thought = "".join(texts), "".join(thoughts)
        self.text = text or thought or self.text
        return (TEXT if text else NOTHING) | (REASONING if thought else NOTHING)

    def _finish(self, reason: str, index: int) -> int:
        self.finish = reason
        if self.verdict is None or self.verdict == "ok":
            self.verdict = self._verdicts.get(reason, "ok")
        if index in self._seen:
            self._finished.add(index)
        if reason == "error":  # OpenRouter and Mistral say a failure so
            self.error = self.error or InBandError("finish_reason is error")
            return ERROR | self._end()
        return self._end() if self._finished >= self._seen else NOTHING

    def _end(self) -> int:
        """END the first time, nothing after it."""
        if self._ended:
            return NOTHING
        self._ended = True
        if self.verdict is None:
            self.verdict = "ok"
        return END

    def _count(self, usage: Mapping[str, object]) -> None:
        """Usage, in the last chunk or (continuous_usage_stats) in each."""
        if usage:
            self.usage = Usage(
                input=count(usage.get("prompt_tokens")),
                output=count(usage.get("completion_tokens")),
                reasoning=count(table(usage.get("completion_tokens_details")).get("reasoning_tokens")),
                cached=first_count(
                    table(usage.get("prompt_tokens_details")).get("cached_tokens"), usage.get("prompt_cache_hit_tokens")
                ),
            )

    def _stray(self, event: str, data: bytes) -> int:
        """An object that is no chunk: an error without its wrapper (older vLLM, `event: error`), or unknown."""
        whole = table(loosely(_decode_any, data))
        if event == "error" or whole.get("object") == "error":
            self.error = told(whole)
            return ERROR
        return UNKNOWN


def _called(call: object) -> str:
    """The name and arguments that one entry of tool_calls brings; custom tools have an input instead."""
    fields = table(call)
    inner = table(fields.get("function")) or table(fields.get("custom"))
    return "".join(v for v in map(inner.get, ("name", "arguments", "input")) if isinstance(v, str))


@dataclass(frozen=True, slots=True)
class OpenAIChat:
    """Chat completions. Options: `max_tokens_key`; `verdicts`, what a finish_reason means where the table is wrong."""

    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    name: ClassVar[str] = "openai-chat"
    default_path: ClassVar[str] = "/v1/chat/completions"
    has_max_tokens: ClassVar[bool] = True
    content_types: ClassVar[tuple[str, ...]] = ("text/event-stream",)

    def request(self, path: str, ask: Ask) -> HttpRequest:
        """The request for `ask` at `path`."""
        messages: list[dict[str, str]] = [{"role": role, "content": text} for role, text in spoken(ask)]
        if ask.system is not None:
            messages.insert(0, {"role": "system", "content": ask.system})
        own: dict[str, object] = {"messages": messages, "stream": True}
        if ask.model is not None:
            own["model"] = ask.model
        if ask.max_tokens is not None and not {"max_tokens", "max_completion_tokens"} & ask.extra.keys():
            own[self.max_tokens_key] = ask.max_tokens
        if ask.include_usage:
            own["stream_options"] = {"include_usage": True}
        return HttpRequest(fill_path(path, ask), body(ask, own))

    def reader(self) -> ChatReader:
        """A fresh memory for one response."""
        return ChatReader({**VERDICTS, **self.verdicts} if self.verdicts else VERDICTS)

    def recognises(self, event: str, data: bytes) -> bool:
        """An object with choices that have a delta (or with none yet, or no more), or named a chat.completion.chunk."""
        chunk = table(loosely(_decode_any, data))
        choices = chunk.get("choices")
        return chunk.get("object") == "chat.completion.chunk" or (
            isinstance(choices, list) and (not choices or any("delta" in table(choice) for choice in choices))
        )

    def claims(self, path: str, headers: Mapping[str, str], body: object) -> int:
        """Sure by /chat/completions; by shape where messages have content, more so with model or stream beside them."""
        if path.partition("?")[0].rstrip("/").endswith("/chat/completions"):
            return 3
        fields = table(body)
        messages = fields.get("messages")
        if not isinstance(messages, list) or not any("content" in table(message) for message in messages):
            return 0
        return 2 if "model" in fields or "stream" in fields else 1
