"""OpenAI Chat Completions: `data:` lines, role delta, content deltas, finish_reason, usage on request, [DONE].

Reasoning goes out as `reasoning_content`, which OpenAI itself never streams but the compatible servers do (DeepSeek,
vLLM). Delta chunks carry the random `obfuscation` field that OpenAI pads them with.
"""

from __future__ import annotations

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

REASONS = {"stop": "stop", "length": "length", "tool_calls": "tool_calls", "content_filter": "content_filter"}
PADDING = tuple(b"aGk3XbPq9LmZt2Rw"[:n] for n in range(1, 17))
KINDS = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", None),
    429: ("requests", "rate_limit_exceeded"),
}
TEXTS = {
    429: "Rate limit reached for this model on requests per min (RPM). Please try again later.",
    500: "The server had an error while processing your request. Sorry about that!",
    503: "The engine is currently overloaded, please try again later.",
}


def read(path: str, query: str, body: object, wall_s: int) -> Asked:
    """The request of POST /v1/chat/completions."""
    asked = object_body(body)
    model, messages = asked.get("model"), asked.get("messages")
    if not isinstance(model, str) or not model:
        raise Refused(400, "you must provide a model parameter")
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "Missing required parameter: 'messages'.")
    options = asked.get("stream_options")
    limit = whole_number(asked, "max_completion_tokens")
    return Asked(
        model,
        prompt_chars(messages),
        limit if limit is not None else whole_number(asked, "max_tokens"),
        asked.get("stream") is True,
        isinstance(options, dict) and options.get("include_usage") is True,
        wall_s,
    )


def problem(status: int, message: str | None, kind: str | None, request_id: str) -> bytes:
    """An error body."""
    type_, code = KINDS.get(status, ("server_error", None))
    text = message or TEXTS.get(status, TEXTS[500])
    return dump({"error": {"message": text, "type": type_, "param": None, "code": kind or code}})


def problem_fields(request_id: str) -> Fields:
    """Headers beside an error body."""
    return [("x-request-id", request_id), ("openai-version", "2020-10-01")]


class OpenAIChat:
    """The memory of one answer."""

    def __init__(self, asked: Asked, random: Random, counts: Counts) -> None:
        self._counts = counts
        self._asked = asked
        self._random = random
        self._id = identifier("chatcmpl-", random, 29)
        self._model = asked.model or "gpt-4o-mini"
        base = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": asked.wall_s,
            "model": self._model,
            "service_tier": "default",
            "system_fingerprint": "fp_51db84afab",
        }
        self._head = b"data: " + dump(base)[:-1] + b',"choices":[{"index":0,"delta":'
        self._only = b"data: " + dump(base)[:-1] + b',"choices":[],"usage":'
        usage = b',"usage":null' if asked.include_usage else b""
        self._tails = tuple(
            b',"logprobs":null,"finish_reason":null}]' + usage + b',"obfuscation":"' + pad + b'"}\n\n'
            for pad in PADDING
        )
        self._end = usage + b',"obfuscation":"' + PADDING[3] + b'"}\n\n'
        self._deltas = 0
        self._tools = 0
        self._text = self._head + b'{"content":'
        self._reasoning = self._head + b'{"reasoning_content":'

    def headers(self, since_ns: int) -> Fields:
        """Response headers of a stream."""
        return [
            ("content-type", "text/event-stream; charset=utf-8"),
            ("access-control-expose-headers", "X-Request-ID"),
            ("openai-organization", "streamgauge-simulator"),
            ("openai-processing-ms", str(since_ns // 1_000_000)),
            ("openai-version", "2020-10-01"),
            ("x-ratelimit-limit-requests", "10000"),
            ("x-ratelimit-limit-tokens", "200000"),
            ("x-ratelimit-remaining-requests", "9999"),
            ("x-ratelimit-remaining-tokens", str(max(0, 200_000 - self._asked.prompt_chars // 4))),
            ("x-ratelimit-reset-requests", "8.64s"),
            ("x-ratelimit-reset-tokens", "12ms"),
            ("x-request-id", identifier("req_", self._random, 32)),
        ]

    def _delta(self, json: bytes) -> bytes:
        """A chunk with this delta."""
        return self._head + json + self._tail()

    def _tail(self) -> bytes:
        """The end of a delta chunk, its padding never the same twice in a row."""
        self._deltas += 1
        return self._tails[self._deltas * 7 & 15]

    def start(self) -> list[Event]:
        """The role delta, which holds no output."""
        return [(self._delta(b'{"role":"assistant","content":"","refusal":null}'), "start")]

    def text(self, text: str) -> list[Event]:
        """A content delta."""
        return [(self._text + quoted(text) + b"}" + self._tail(), "text")]

    def reasoning(self, text: str) -> list[Event]:
        """A reasoning_content delta."""
        return [(self._reasoning + quoted(text) + b"}" + self._tail(), "reasoning")]

    def tool(self, name: str, pieces: list[str], output: str | None) -> list[list[Event]]:
        """The call's name with empty arguments, then the arguments in pieces."""
        index = self._tools
        self._tools += 1
        call = {
            "index": index,
            "id": identifier("call_", self._random),
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }
        first = (self._delta(dump({"role": "assistant", "content": None, "tool_calls": [call]})), "tool")
        rest = [
            (self._delta(dump({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})), "tool")
            for piece in pieces
        ]
        return [[first, *rest[:1]], *([event] for event in rest[1:])]

    def step(self) -> list[Event]:
        """This API knows no steps."""
        return []

    def ping(self) -> list[Event]:
        """A comment line, as gateways in front of this API send."""
        return [(b": ping\n\n", "ping")]

    def finish(self, reason: str) -> list[Event]:
        """finish_reason, usage where it was asked for, [DONE]."""
        if reason == "stop" and self._tools:
            reason = "tool_calls"
        end = (
            self._head
            + b'{},"logprobs":null,"finish_reason":'
            + quoted(REASONS.get(reason, reason))
            + b"}]"
            + self._end
        )
        events: list[Event] = [(end, "finish")]
        if self._asked.include_usage and self._counts.told:
            events.append((self._only + dump(usage(self._counts)) + b"}\n\n", "usage"))
        return [*events, (b"data: [DONE]\n\n", "done")]

    def refuse(self, text: str) -> list[Event]:
        """A refusal delta, then an ordinary stop."""
        return [(self._delta(b'{"refusal":' + quoted(text) + b"}"), "refusal"), *self.finish("stop")]

    def fail(self, message: str | None, overloaded: bool, said: bool) -> list[Event]:
        """An error object in place of a chunk; nothing comes after it."""
        status = 429 if overloaded else 500
        return [(b"data: " + problem(status, message, None, "") + b"\n\n", "error")]

    def abort(self, reason: str) -> list[Event]:
        """Nothing on this wire."""
        return []

    def whole(self, answer: Whole) -> bytes:
        """A chat.completion object."""
        calls = [
            {"id": identifier("call_", self._random), "type": "function", "function": {"name": name, "arguments": args}}
            for name, args in answer.tools
        ]
        message: dict[str, object] = {
            "role": "assistant",
            "content": answer.text or None,
            "refusal": None,
            "annotations": [],
        }
        if calls:
            message["tool_calls"] = calls
        if answer.reasoning:
            message["reasoning_content"] = answer.reasoning
        reason = "tool_calls" if calls and answer.finish == "stop" else REASONS.get(answer.finish, answer.finish)
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        return dump({
            "id": self._id, "object": "chat.completion", "created": self._asked.wall_s, "model": self._model,
            "choices": [choice], "usage": usage(self._counts), "service_tier": "default",
            "system_fingerprint": "fp_51db84afab",
        })  # fmt: skip


def usage(counts: Counts) -> dict[str, object]:
    """The usage object; completion_tokens holds the reasoning."""
    return {
        "prompt_tokens": counts.input,
        "completion_tokens": counts.output,
        "total_tokens": counts.input + counts.output,
        "prompt_tokens_details": {"cached_tokens": counts.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": counts.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def no_key(given: bool) -> tuple[int, str]:
    """401 either way, in other words."""
    if given:
        return 401, "Incorrect API key provided. You can find your API key in the provider's console."
    return 401, "You didn't provide an API key. Provide it in an Authorization header using Bearer auth."


OPENAI_CHAT = Api(
    "openai-chat",
    ("/v1/chat/completions",),
    read,
    OpenAIChat,
    problem,
    problem_fields,
    no_key,
    """curl -N {url}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model":"gpt-4o-mini","stream":true,"messages":[{{"role":"user","content":"Hello"}}]}}'""",
    lambda counts: counts.asked and counts.told,
)
