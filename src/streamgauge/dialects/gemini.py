"""Google's Gemini API, streamGenerateContent with `alt=sse` (Gemini API and Vertex AI).

Wire: unnamed events, each a GenerateContentResponse: candidates[].content.parts[], usageMetadata so far, and in the
last one finishReason. There is no [DONE]. A refused prompt is one event with promptFeedback.blockReason and no
candidates. The end is finishReason or that blockReason; older models put STOP on every chunk, so each one says END
anew.

Rules: `thought: true` marks a part as reasoning, always a summary, so with any the tokens streamed cannot be told
apart. candidatesTokenCount leaves thoughts out: output is the sum of the two. Function calls come whole. Without
`alt=sse` the answer would be one JSON array, so it is added to a streamGenerateContent path that lacks it. STOP alone
is a good end: new words for an end have always been new kinds of failure, so an unknown one is `truncated`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

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
    loosely,
    spoken,
    table,
)
from streamgauge.dialects.errors import told
from streamgauge.dialects.template import body, fill_path

VERDICTS: dict[str, Verdict] = {
    "STOP": "ok",
    "MAX_TOKENS": "length_capped",
    "CONTINUATION": "length_capped",
    "SAFETY": "filtered",
    "RECITATION": "filtered",
    "LANGUAGE": "filtered",
    "BLOCKLIST": "filtered",
    "PROHIBITED_CONTENT": "filtered",
    "SPII": "filtered",
    "IMAGE_SAFETY": "filtered",
    "IMAGE_PROHIBITED_CONTENT": "filtered",
    "IMAGE_RECITATION": "filtered",
    "ESCALATION": "filtered",
    "PUP_LIMITED_DISABLED": "filtered",
    "MODEL_ARMOR": "filtered",
}
"""Every other word is `truncated`: OTHER, MALFORMED_FUNCTION_CALL, UNEXPECTED_TOOL_CALL, MALFORMED_RESPONSE ..."""


_NONE = msgspec.Raw(b"null")


class _Part(msgspec.Struct, gc=False):
    text: str | None = None
    thought: Any = None
    functionCall: msgspec.Raw = _NONE
    executableCode: msgspec.Raw = _NONE
    toolCall: msgspec.Raw = _NONE


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, gc=False):
    content: _Content | None = None
    finishReason: str | None = None


class _Tokens(msgspec.Struct, gc=False):
    promptTokenCount: Any = None
    toolUsePromptTokenCount: Any = None
    candidatesTokenCount: Any = None
    thoughtsTokenCount: Any = None
    cachedContentTokenCount: Any = None


class _Chunk(msgspec.Struct, gc=False):
    candidates: list[_Candidate] | None = None
    promptFeedback: Any = None
    usageMetadata: _Tokens | None = None
    modelVersion: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode
_decode_array = msgspec.json.Decoder(list[_Chunk]).decode
_decode_any = msgspec.json.Decoder().decode


class ContentReader:
    """The memory of one streamed response."""

    __slots__ = (
        "_tokens", "_verdicts", "error", "finish", "hidden_reasoning", "model", "text", "verdict",
    )  # fmt: skip

    def __init__(self, verdicts: Mapping[str, Verdict]) -> None:
        self._verdicts = verdicts
        self._tokens: _Tokens | None = None
        self.text = ""
        self.finish: str | None = None
        self.verdict: Verdict | None = None
        self.error: InBandError | None = None
        self.model: str | None = None
        self.hidden_reasoning = False

    def __repr__(self) -> str:
        return f"<ContentReader finish={self.finish} verdict={self.verdict} usage={self.usage}>"

    @property
    def usage(self) -> Usage | None:
        """The last count the server gave. Most chunks carry one, so it is made up only when asked for."""
        tokens = self._tokens
        if tokens is None:
            return None
        candidates, thoughts = count(tokens.candidatesTokenCount), count(tokens.thoughtsTokenCount)
        output = None if candidates is None and thoughts is None else (candidates or 0) + (thoughts or 0)
        prompt, results = count(tokens.promptTokenCount), count(tokens.toolUsePromptTokenCount)
        given = None if prompt is None else prompt + (results or 0)
        return Usage(given, output, thoughts, count(tokens.cachedContentTokenCount))

    def read(self, event: str, data: bytes) -> int:
        """What one server-sent event brought, as bits."""
        try:
            chunk = _decode(data)
        except (ValueError, RecursionError):
            if data[:6] == DONE:  # gateways add it
                return NOTHING
            loose = loosely(_decode, data)
            if loose is None:
                return self._array(data)
            chunk = loose
        return self._chunk(chunk)

    def _array(self, data: bytes) -> int:
        """An array of responses: how this API streams without `alt=sse`, and words its errors then."""
        chunks = loosely(_decode_array, data)
        bits = NOTHING
        for chunk in chunks or ():
            bits |= self._chunk(chunk)
        return bits if chunks else MALFORMED

    def _chunk(self, chunk: _Chunk) -> int:
        bits = NOTHING
        tokens = chunk.usageMetadata
        if tokens is not None and (tokens.promptTokenCount is not None or tokens.candidatesTokenCount is not None):
            self._tokens = tokens
        if chunk.candidates:
            if self.model is None and isinstance(chunk.modelVersion, str):
                self.model = chunk.modelVersion
            for candidate in chunk.candidates:
                content = candidate.content
                if content is not None and content.parts:
                    for part in content.parts:
                        bits |= self._part(part, bits)
                if candidate.finishReason:
                    bits |= self._finish(candidate.finishReason)
        if chunk.error is not None:
            self.error = told(chunk.error)
            return bits | ERROR
        reason = table(chunk.promptFeedback).get("blockReason") if chunk.promptFeedback is not None else None
        if reason and isinstance(reason, str):
            self.finish = reason
            self.verdict = "filtered"
            return bits | END
        if not bits and chunk.candidates is None and tokens is None and chunk.promptFeedback is None:
            return UNKNOWN
        return bits

    def _part(self, part: _Part, bits: int) -> int:
        """One part; `bits` are those of the parts before it in this event."""
        if part.text:
            if part.thought:
                self.hidden_reasoning = True
                return self._output(part.text, REASONING, bits)
            return self._output(part.text, TEXT, bits)
        for call in (part.functionCall, part.executableCode, part.toolCall):
            if call != _NONE:
                return self._output(bytes(call).decode("utf-8", "replace"), TOOL, bits)
        return NOTHING

    def _output(self, text: str, bit: int, bits: int) -> int:
        """Keep the event's output: like goes to like, and visible text takes the place of all else."""
        if bit == TEXT or not bits & TEXT:
            self.text = self.text + text if bits & bit else text
        return bit

    def _finish(self, reason: str) -> int:
        self.finish = reason
        if self.verdict is None or self.verdict == "ok":
            self.verdict = self._verdicts.get(reason, "truncated")
        return END


@dataclass(frozen=True, slots=True)
class Gemini:
    """streamGenerateContent. Option: `verdicts`, what a finishReason means where the table is wrong."""

    verdicts: dict[str, Verdict] = field(default_factory=dict)

    name: ClassVar[str] = "gemini"
    default_path: ClassVar[str] = "/v1beta/models/{model}:streamGenerateContent?alt=sse"
    has_max_tokens: ClassVar[bool] = True
    content_types: ClassVar[tuple[str, ...]] = ("text/event-stream",)

    def request(self, path: str, ask: Ask) -> HttpRequest:
        """The request for `ask` at `path`. A model named `models/x`, as Google lists them, is x."""
        if ask.model is not None:
            ask = replace(ask, model=ask.model.removeprefix("models/"))
        contents = [
            {"role": "user" if role == "user" else "model", "parts": [{"text": text}]} for role, text in spoken(ask)
        ]
        own: dict[str, object] = {"contents": contents}
        if ask.max_tokens is not None:
            own["generationConfig"] = {"maxOutputTokens": ask.max_tokens}
        if ask.system is not None:
            own["systemInstruction"] = {"parts": [{"text": ask.system}]}
        path = fill_path(path, ask)
        before, _, query = path.partition("?")
        if before.endswith(":streamGenerateContent") and not any(q.startswith("alt=") for q in query.split("&")):
            path = f"{before}?{query}&alt=sse" if query else f"{before}?alt=sse"
        return HttpRequest(path, body(ask, own))

    def reader(self) -> ContentReader:
        """A fresh memory for one response."""
        return ContentReader({**VERDICTS, **self.verdicts} if self.verdicts else VERDICTS)

    def recognises(self, event: str, data: bytes) -> bool:
        """An object with candidates, promptFeedback or usageMetadata."""
        fields = table(loosely(_decode_any, data))
        return isinstance(fields.get("candidates"), list) or "promptFeedback" in fields or "usageMetadata" in fields

    def claims(self, path: str, headers: Mapping[str, str], body: object) -> int:
        """Sure by the method in the path, or by contents that have parts."""
        if path.partition("?")[0].endswith((":streamGenerateContent", ":generateContent")):
            return 3
        contents = table(body).get("contents")
        return 3 if isinstance(contents, list) and any("parts" in table(content) for content in contents) else 0
