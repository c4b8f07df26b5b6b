"""A plain client for the tests of the simulator: http.client for the framing, a split for the events.

It shares nothing with the product or with the simulator.
"""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from streamgauge.simulator import Simulator

BODIES: dict[str, dict[str, Any]] = {
    "openai-chat": {
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "hi"}],
    },
    "anthropic": {"stream": True, "max_tokens": 1000, "messages": [{"role": "user", "content": "hi"}]},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
    "ai-sdk": {"messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "hi"}]}]},
}
DIALECTS = tuple(BODIES)


@dataclass
class Answer:
    """What came back. `broken`: the HTTP message was not whole."""

    status: int
    headers: dict[str, str]
    body: bytes
    broken: bool = False
    events: list[tuple[str | None, Any]] = field(default_factory=list)


def path(dialect: str, model: str) -> str:
    return {
        "openai-chat": "/v1/chat/completions",
        "anthropic": "/v1/messages",
        "gemini": f"/v1beta/models/{model}:streamGenerateContent?alt=sse",
        "ai-sdk": "/api/chat",
    }[dialect]


def ask(
    sim: Simulator,
    dialect: str = "openai-chat",
    model: str = "sim-t5-i1-n5",
    *,
    script: object = None,
    fault: str | None = None,
    headers: dict[str, str] | None = None,
    body: dict[str, Any] | None = None,
    timeout: float = 20,
    connection: http.client.HTTPConnection | None = None,
) -> Answer:
    """One request, read to its end."""
    sent = {"content-type": "application/json", **(headers or {})}
    if script is not None:
        sent["x-sim-script"] = json.dumps(script)
    if fault is not None:
        sent["x-sim-fault"] = fault
    asked = {"model": model, **BODIES[dialect], **(body or {})}
    conn = connection or http.client.HTTPConnection(sim.host, sim.port, timeout=timeout)
    try:
        conn.request("POST", path(dialect, model), json.dumps(asked), sent)
        response = conn.getresponse()
        try:
            data, broken = response.read(), False
        except http.client.IncompleteRead as e:
            data, broken = e.partial, True
        except ConnectionResetError:
            data, broken = b"", True
    finally:
        if connection is None:
            conn.close()
    fields = {k.lower(): v for k, v in response.getheaders()}
    answer = Answer(response.status, fields, data, broken)
    if fields.get("content-type", "").startswith("text/event-stream") and "content-encoding" not in fields:
        answer.events = events(data)
    return answer


@contextlib.contextmanager
def under_way(sim: Simulator, model: str, **headers: str) -> Iterator[http.client.HTTPResponse]:
    """An answer of openai-chat whose first bytes have come; we leave at the end of the block."""
    conn = http.client.HTTPConnection(sim.host, sim.port, timeout=20)
    try:
        conn.request("POST", path("openai-chat", model), json.dumps({"model": model, **BODIES["openai-chat"]}), headers)
        response = conn.getresponse()
        assert response.read1(100)
        yield response
    finally:
        conn.close()


def events(data: bytes) -> list[tuple[str | None, Any]]:
    """(event name, data) of each event; data as JSON where it is; comments as (":", text)."""
    found: list[tuple[str | None, Any]] = []
    for block in data.decode("utf-8", "replace").replace("\r\n", "\n").split("\n\n"):
        name: str | None = None
        for line in block.split("\n"):
            if line.startswith(": "):
                found.append((":", line[2:]))
            elif line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                try:
                    found.append((name, json.loads(line[6:])))
                except ValueError:
                    found.append((name, line[6:]))
    return found


def text_of(dialect: str, answer: Answer) -> str:
    """All visible text of an answer."""
    return "".join(_text(dialect, data) for _, data in answer.events if isinstance(data, dict))


def _text(dialect: str, data: dict[str, Any]) -> str:
    if dialect == "openai-chat":
        choices = data.get("choices") or [{"delta": {}}]
        return choices[0]["delta"].get("content") or ""
    if dialect == "anthropic":
        return data["delta"]["text"] if data.get("delta", {}).get("type") == "text_delta" else ""
    if dialect == "gemini":
        parts = data.get("candidates", [{}])[0].get("content", {}).get("parts", [])
        return "".join(p["text"] for p in parts if "text" in p and not p.get("thought"))
    return data["delta"] if data.get("type") == "text-delta" else ""
