"""Gemini generateContent: `data:` lines ended by CRLF CRLF, each a whole GenerateContentResponse.

Every chunk repeats usageMetadata (output counted so far), modelVersion and responseId; the last one has an empty text
part and the finishReason. There is no end marker after it. Without `alt=sse` the API answers a JSON array.
"""

from __future__ import annotations

import json
from random import Random
from urllib.parse import parse_qs, unquote

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

REASONS = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}
KINDS = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
TEXTS = {
    429: "Resource has been exhausted (e.g. check quota).",
    500: "An internal error has occurred. Please retry.",
    503: "The model is overloaded. Please try again later.",
}
END = b"\r\n\r\n"


def read(path: str, query: str, body: object, wall_s: int) -> Asked:
    """The request of POST /v1beta/models/{model}:streamGenerateContent (or :generateContent)."""
    model, _, verb = unquote(path).rpartition("/models/")[2].partition(":")
    asked = object_body(body)
    contents = asked.get("contents")
    if not isinstance(contents, list) or not contents:
        raise Refused(400, "* GenerateContentRequest.contents: contents is not specified")
    config = asked.get("generationConfig") or {}
    if not isinstance(config, dict):
        raise Refused(400, "Invalid value at 'generation_config'")
    stream = verb == "streamGenerateContent" and parse_qs(query).get("alt") == ["sse"]
    chars = prompt_chars(contents) + prompt_chars(asked.get("systemInstruction"))
    return Asked(model or None, chars, whole_number(config, "maxOutputTokens"), stream, True, wall_s)


def problem(status: int, message: str | None, kind: str | None, request_id: str) -> bytes:
    """An error body, indented as this API has it."""
    text = message or TEXTS.get(status, TEXTS[500])
    error = {"code": status, "message": text, "status": kind or KINDS.get(status, "INTERNAL")}
    return json.dumps({"error": error}, indent=2).encode() + b"\n"


def problem_fields(request_id: str) -> Fields:
    """Headers beside an error body."""
    return [("vary", "Origin, X-Origin, Referer"), ("x-content-type-options", "nosniff")]


class Gemini:
    """The memory of one answer: the output counted so far."""

    def __init__(self, asked: Asked, random: Random, counts: Counts) -> None:
        self._counts = counts
        self._id = identifier("", random, 22)
        self._model = asked.model or "gemini-2.0-flash"
        self._tail = b',"modelVersion":' + quoted(self._model) + b',"responseId":' + quoted(self._id) + b"}" + END

    def headers(self, since_ns: int) -> Fields:
        """Response headers of a stream."""
        return [
            ("content-type", "text/event-stream"),
            ("content-disposition", "attachment"),
            ("vary", "Origin, X-Origin, Referer"),
            ("server-timing", f"gfet4t7; dur={since_ns // 1_000_000}"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "SAMEORIGIN"),
            ("x-xss-protection", "0"),
        ]

    def start(self) -> list[Event]:
        """This API opens with its first output."""
        return []

    def _chunk(self, part: bytes, kind: str, last: bytes = b"") -> Event:
        """One response chunk with one part."""
        head = b'data: {"candidates":[{"content":{"parts":[' + part + b'],"role":"model"}' + last + b',"index":0}]'
        if not self._counts.told:
            return head + self._tail, kind
        return head + b',"usageMetadata":' + self._usage() + self._tail, kind

    def _usage(self) -> bytes:
        """usageMetadata with the output so far; candidatesTokenCount is without the thoughts."""
        c = self._counts
        said = max(0, c.output - c.reasoning)
        return b"".join((
            b'{"promptTokenCount":%d' % c.input,
            b',"candidatesTokenCount":%d' % said if said else b"",
            b',"totalTokenCount":%d' % (c.input + c.output),
            b',"cachedContentTokenCount":%d' % c.cached if c.cached else b"",
            b',"promptTokensDetails":[{"modality":"TEXT","tokenCount":%d}]' % c.input,
            b',"thoughtsTokenCount":%d' % c.reasoning if c.reasoning else b"",
            b"}",
        ))  # fmt: skip

    def text(self, text: str) -> list[Event]:
        """A text part."""
        return [self._chunk(b'{"text":' + quoted(text) + b"}", "text")]

    def reasoning(self, text: str) -> list[Event]:
        """A thought part."""
        return [self._chunk(b'{"text":' + quoted(text) + b',"thought":true}', "reasoning")]

    def tool(self, name: str, pieces: list[str], output: str | None) -> list[list[Event]]:
        """A functionCall part: this API sends the arguments whole."""
        try:
            args = json.loads("".join(pieces) or "{}")
        except ValueError:
            args = {"text": "".join(pieces)}
        return [[self._chunk(dump({"functionCall": {"name": name, "args": args}}), "tool")]]

    def step(self) -> list[Event]:
        """This API knows no steps."""
        return []

    def ping(self) -> list[Event]:
        """Nothing: this API sends none, and its own SDK takes comment lines for broken JSON."""
        return []

    def finish(self, reason: str) -> list[Event]:
        """The last chunk: an empty text part and the finishReason."""
        last = b',"finishReason":' + quoted(REASONS.get(reason, reason))
        return [self._chunk(b'{"text":""}', "finish", last)]

    def refuse(self, text: str) -> list[Event]:
        """A blocked prompt: promptFeedback and no candidate at all."""
        head = b'data: {"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":'
        return [(head + self._usage() + self._tail, "refusal")]

    def fail(self, message: str | None, overloaded: bool, said: bool) -> list[Event]:
        """The error body, line by line and not as an event: this is how the official SDK expects it in a stream."""
        return [(problem(503 if overloaded else 500, message, None, ""), "error")]

    def abort(self, reason: str) -> list[Event]:
        """Nothing on this wire."""
        return []

    def whole(self, answer: Whole) -> bytes:
        """One GenerateContentResponse."""
        parts: list[dict[str, object]] = []
        if answer.reasoning:
            parts.append({"text": answer.reasoning, "thought": True})
        if answer.text:
            parts.append({"text": answer.text})
        for name, args in answer.tools:
            parts.append({"functionCall": {"name": name, "args": json.loads(args)}})
        candidate = {
            "content": {"parts": parts, "role": "model"},
            "finishReason": REASONS.get(answer.finish, answer.finish),
            "index": 0,
        }
        value = {
            "candidates": [candidate],
            "usageMetadata": json.loads(self._usage()),
            "modelVersion": self._model,
            "responseId": self._id,
        }
        return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def no_key(given: bool) -> tuple[int, str]:
    """A missing key is 403, a wrong one 400, as this API has it."""
    if given:
        return 400, "API key not valid. Please pass a valid API key."
    return 403, "Method doesn't allow unregistered callers. Please use an API key or other form of identity."


GEMINI = Api(
    "gemini",
    ("/v1beta/models/{model}:streamGenerateContent?alt=sse", "/v1/models/{model}:streamGenerateContent?alt=sse"),
    read,
    Gemini,
    problem,
    problem_fields,
    no_key,
    """curl -N '{url}/v1beta/models/gemini-2.0-flash:streamGenerateContent?alt=sse' \\
    -H 'content-type: application/json' -d '{{"contents":[{{"role":"user","parts":[{{"text":"Hello"}}]}}]}}'""",
    lambda counts: counts.told,
)
