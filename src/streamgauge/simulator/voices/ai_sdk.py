"""An app's own chat route built with the Vercel AI SDK: UI message stream, version 1.

The route sends its headers and `start` before the model answers; then start-step, text-start, text-delta..., text-end,
finish-step, finish, [DONE]. A failure is status 200 all the same: `error`, and after output even an ordinary finish.
There are no token counts on this wire, unless the app puts them into messageMetadata: a script that states usage does.
"""

from __future__ import annotations

import json
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
)  # fmt: skip

REASONS = {"stop": "stop", "length": "length", "tool_calls": "tool-calls", "content_filter": "content-filter"}
DONE: Event = (b"data: [DONE]\n\n", "done")
TEXTS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    429: "Too many requests",
    500: "Internal server error",
}


def read(path: str, query: str, body: object, wall_s: int) -> Asked:
    """The request of the app's chat route: messages with parts; `model` and `modelId` are customary, not required."""
    asked = object_body(body)
    messages = asked.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "messages must be a list that is not empty")
    model = asked.get("model") or asked.get("modelId")
    return Asked(model if isinstance(model, str) else None, prompt_chars(messages), None, True, False, wall_s)


def problem(status: int, message: str | None, kind: str | None, request_id: str) -> bytes:
    """An error body as such routes write it."""
    return dump({"error": message or TEXTS.get(status, TEXTS[500])})


def problem_fields(request_id: str) -> Fields:
    """Headers beside an error body."""
    return []


def event(value: dict[str, object], kind: str) -> Event:
    """One `data:` line."""
    return b"data: " + dump(value) + b"\n\n", kind


class AiSdk:
    """The memory of one answer: which part is open, whether a step is."""

    def __init__(self, asked: Asked, random: Random, counts: Counts) -> None:
        self._counts = counts
        self._random = random
        self._open: tuple[str, str] | None = None
        self._in_step = False
        self._parts = 0
        self._tools = 0
        self._head = b""

    def headers(self, since_ns: int) -> Fields:
        """Response headers of a stream."""
        return [
            ("content-type", "text/event-stream"),
            ("cache-control", "no-cache"),
            ("x-vercel-ai-ui-message-stream", "v1"),
            ("x-accel-buffering", "no"),
        ]

    def start(self) -> list[Event]:
        """The app's `start`, before the model has said anything."""
        return [event({"type": "start", "messageId": identifier("msg-", self._random, 16)}, "start")]

    def _part(self, kind: str) -> list[Event]:
        """Open a text or reasoning part unless one is open."""
        if self._open is not None and self._open[0] == kind:
            return []
        events = [*self._close(), *self._step_open()]
        self._parts += 1
        self._open = (kind, f"{kind}-{self._parts}")
        self._head = b'data: {"type":"%b-delta","id":"%b","delta":' % (kind.encode(), self._open[1].encode())
        return [*events, event({"type": f"{kind}-start", "id": self._open[1]}, "block")]

    def _step_open(self) -> list[Event]:
        """start-step, once a step."""
        if self._in_step:
            return []
        self._in_step = True
        return [event({"type": "start-step"}, "block")]

    def _close(self) -> list[Event]:
        """The end of the open part."""
        if self._open is None:
            return []
        kind, name = self._open
        self._open = None
        return [event({"type": f"{kind}-end", "id": name}, "block")]

    def text(self, text: str) -> list[Event]:
        """A text-delta."""
        return [*self._part("text"), (self._head + quoted(text) + b"}\n\n", "text")]

    def reasoning(self, text: str) -> list[Event]:
        """A reasoning-delta."""
        return [*self._part("reasoning"), (self._head + quoted(text) + b"}\n\n", "reasoning")]

    def tool(self, name: str, pieces: list[str], output: str | None) -> list[list[Event]]:
        """tool-input-start, the arguments in deltas, the input whole, and its result where the app runs the tool."""
        self._tools += 1
        call = identifier("call_", self._random, 16)
        opening = [*self._close(), *self._step_open()]
        opening.append(event({"type": "tool-input-start", "toolCallId": call, "toolName": name}, "tool"))
        deltas = [
            event({"type": "tool-input-delta", "toolCallId": call, "inputTextDelta": piece}, "tool") for piece in pieces
        ]
        groups = [[*opening, *deltas[:1]], *([delta] for delta in deltas[1:])]
        try:
            value = json.loads("".join(pieces) or "{}")
        except ValueError:
            value = "".join(pieces)
        whole = {"type": "tool-input-available", "toolCallId": call, "toolName": name, "input": value}
        groups[-1].append(event(whole, "block" if deltas else "tool"))  # after its deltas it says nothing new
        if output is not None:
            groups[-1].append(
                event({"type": "tool-output-available", "toolCallId": call, "output": json.loads(output)}, "block")
            )
        return groups

    def step(self) -> list[Event]:
        """The step ends and the next begins."""
        return [*self._step_close(), *self._step_open()]

    def _step_close(self) -> list[Event]:
        """The open part's end and finish-step."""
        events = self._close()
        if self._in_step:
            self._in_step = False
            events.append(event({"type": "finish-step"}, "block"))
        return events

    def ping(self) -> list[Event]:
        """The keep-alive comment that the SDK sends when told to."""
        return [(b": keep-alive\n\n", "ping")]

    def finish(self, reason: str) -> list[Event]:
        """finish-step, finish, [DONE]."""
        if reason == "stop" and self._tools:
            reason = "tool_calls" if not self._parts else "stop"
        value: dict[str, object] = {"type": "finish", "finishReason": REASONS.get(reason, reason)}
        if self._counts.stated and self._counts.told:
            value["messageMetadata"] = {"usage": usage(self._counts)}
        return [*self._step_open(), *self._step_close(), event(value, "finish"), DONE]

    def refuse(self, text: str) -> list[Event]:
        """What was said, and a content-filter finish."""
        return [*self.text(text), *self.finish("content_filter")]

    def fail(self, message: str | None, overloaded: bool, said: bool) -> list[Event]:
        """`error`; after output the SDK closes what is open and even finishes with `stop`."""
        error = event(
            {"type": "error", "errorText": message or ("Overloaded" if overloaded else "An error occurred.")}, "error"
        )
        if not said:
            return [error, DONE]
        return [error, *self._step_close(), event({"type": "finish", "finishReason": "stop"}, "finish"), DONE]

    def abort(self, reason: str) -> list[Event]:
        """`abort` and [DONE]; no part ends, nothing finishes."""
        return [event({"type": "abort", "reason": reason}, "error"), DONE]

    def whole(self, answer: Whole) -> bytes:
        """Such routes have no form without stream; a plain message serves for the `json` fault."""
        return dump(
            {"role": "assistant", "content": answer.text, "finishReason": REASONS.get(answer.finish, answer.finish)}
        )


def usage(counts: Counts) -> dict[str, object]:
    """Usage as the SDK names it."""
    return {
        "inputTokens": counts.input,
        "outputTokens": counts.output,
        "totalTokens": counts.input + counts.output,
        "reasoningTokens": counts.reasoning,
        "cachedInputTokens": counts.cached,
    }


def no_key(given: bool) -> tuple[int, str]:
    """The app's middleware sends whoever is not logged in to the login page."""
    return 307, "/login"


AI_SDK = Api(
    "ai-sdk",
    ("/api/chat",),
    read,
    AiSdk,
    problem,
    problem_fields,
    no_key,
    """curl -N {url}/api/chat -H 'content-type: application/json' \\
    -d '{{"messages":[{{"id":"m1","role":"user","parts":[{{"type":"text","text":"Hello"}}]}}]}}'""",
    lambda counts: counts.told and counts.stated,
    early=True,
)
