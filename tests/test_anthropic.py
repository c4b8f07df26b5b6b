"""anthropic against the transcripts of platform.claude.com/docs/build-with-claude/streaming."""

from __future__ import annotations

import json

import pytest

from streamgauge.dialects.anthropic import Anthropic
from streamgauge.dialects.contract import (
    END,
    ERROR,
    NOTHING,
    REASONING,
    STEP,
    TEXT,
    TOOL,
    UNKNOWN,
    Ask,
    InBandError,
    Usage,
)
from transcripts import read

MESSAGES = Anthropic()

# "Streaming request with tool use" (deltas left out in the middle)
TOOL_USE = r"""
event: message_start
data: {"type":"message_start","message":{"id":"msg_014p7gG3wDgGV9EUtLvnow3U","type":"message","role":"assistant","model":"claude-opus-4-1-20250805","stop_sequence":null,"usage":{"input_tokens":472,"output_tokens":2},"content":[],"stop_reason":null}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Okay"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":","}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_01T1x1fJ34qAmk2tNTrN7Up6","name":"get_weather","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"location\":"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":" \"San\"}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":89}}

event: message_stop
data: {"type":"message_stop"}
"""  # noqa: E501

# "Streaming request with extended thinking" (deltas left out in the middle)
THINKING = r"""
event: message_start
data: {"type": "message_start", "message": {"id": "msg_01...", "type": "message", "role": "assistant", "content": [], "model": "claude-opus-4-1-20250805", "stop_reason": null, "stop_sequence": null}}

event: content_block_start
data: {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}

event: content_block_delta
data: {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Let me solve this step by step:\n\n1. First break down 27 * 453"}}

event: content_block_delta
data: {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds..."}}

event: content_block_stop
data: {"type": "content_block_stop", "index": 0}

event: content_block_start
data: {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}

event: content_block_delta
data: {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "27 * 453 = 12,231"}}

event: content_block_stop
data: {"type": "content_block_stop", "index": 1}

event: message_delta
data: {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}}

event: message_stop
data: {"type": "message_stop"}
"""  # noqa: E501

# "Streaming request with web search tool use" (shortened)
WEB_SEARCH = r"""
event: message_start
data: {"type":"message_start","message":{"id":"msg_01G...","type":"message","role":"assistant","model":"claude-opus-4-1-20250805","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":2679,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":3}}}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"server_tool_use","id":"srvtoolu_014hJH82Qum7Td6UV8gDXThB","name":"web_search","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"query"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1 }

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"web_search_tool_result","tool_use_id":"srvtoolu_014hJH82Qum7Td6UV8gDXThB","content":[{"type":"web_search_result","title":"Weather in New York City in May 2025 (New York) - detailed Weather Forecast for a month","url":"https://world-weather.info/forecast/usa/new_york/may-2025/","encrypted_content":"Ev0DCioIAxgCIiQ3NmU4ZmI4OC1k...","page_age":null}]}}

event: content_block_stop
data: {"type":"content_block_stop","index":2}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":10682,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":510,"server_tool_use":{"web_search_requests":1}}}

event: message_stop
data: {"type":"message_stop"}
"""  # noqa: E501


def send(reader: object, **fields: object) -> int:
    return reader.read(str(fields.get("type", "message")), json.dumps(fields).encode())  # type: ignore[attr-defined, no-any-return]


def test_text_and_a_tool_call_as_published() -> None:
    got = read(MESSAGES, TOOL_USE)
    assert got.brought == [
        "", "", "", "text", "text", "step", "tool", "", "tool", "tool", "step", "", "end",
    ]  # fmt: skip
    assert got.text == "Okay,"
    assert got.tool == 'get_weather{"location": "San"}'
    assert (got.reader.finish, got.reader.verdict) == ("tool_use", "ok")
    assert got.reader.model == "claude-opus-4-1-20250805"
    assert got.reader.usage == Usage(input=472, output=89)
    assert not got.reader.hidden_reasoning


def test_thinking_as_published() -> None:
    got = read(MESSAGES, THINKING)
    assert got.brought == ["", "", "reasoning", "", "step", "", "text", "step", "", "end"]
    assert got.reasoning.startswith("Let me solve")
    assert got.reader.usage is None
    assert got.reader.hidden_reasoning


def test_a_search_by_the_server_as_published() -> None:
    got = read(MESSAGES, WEB_SEARCH)
    assert got.brought == ["", "tool", "tool", "step", "", "step", "", "end"]
    assert got.reader.usage == Usage(input=10682, output=510, cached=0)


def test_input_tokens_are_the_sum_with_those_of_the_cache() -> None:
    # platform.claude.com/docs/build-with-claude/prompt-caching: total = read + creation + input
    reader = MESSAGES.reader()
    usage = {"input_tokens": 50, "cache_creation_input_tokens": 248, "cache_read_input_tokens": 100_000}
    send(reader, type="message_start", message={"model": "m", "usage": {**usage, "output_tokens": 1}})
    assert reader.usage == Usage(input=100_298, cached=100_000)
    details = {"output_tokens": 503, "output_tokens_details": {"thinking_tokens": 400}}
    send(reader, type="message_delta", delta={"stop_reason": "end_turn"}, usage=details)
    assert reader.usage == Usage(input=100_298, output=503, reasoning=400, cached=100_000)


def test_the_placeholder_count_of_a_cut_stream_is_no_count() -> None:
    reader = MESSAGES.reader()
    send(reader, type="message_start", message={"usage": {"input_tokens": 4, "output_tokens": 1}})
    assert reader.usage == Usage(input=4)


@pytest.mark.parametrize(
    ("word", "verdict"),
    [("end_turn", "ok"), ("stop_sequence", "ok"), ("tool_use", "ok"), ("pause_turn", "ok"), ("refusal", "filtered"),
     ("max_tokens", "length_capped"), ("model_context_window_exceeded", "length_capped"), ("compaction", "ok")],
)  # fmt: skip
def test_what_a_stop_reason_means(word: str, verdict: str) -> None:
    reader = MESSAGES.reader()
    assert send(reader, type="message_delta", delta={"stop_reason": word}, usage={"output_tokens": 1}) == NOTHING
    assert send(reader, type="message_stop") == END
    assert (reader.finish, reader.verdict) == (word, verdict)


def test_redacted_thinking_is_reasoning_that_cannot_be_read() -> None:
    reader = MESSAGES.reader()
    block = {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix"}
    assert send(reader, type="content_block_start", index=0, content_block=block) == REASONING
    assert reader.text == ""
    assert reader.hidden_reasoning


def test_a_block_may_begin_with_its_text() -> None:
    reader = MESSAGES.reader()
    assert send(reader, type="content_block_start", content_block={"type": "text", "text": "Hi"}) == TEXT
    assert send(reader, type="content_block_start", content_block={"type": "thinking", "thinking": "Hm"}) == REASONING
    assert send(reader, type="content_block_start", content_block={"type": "mcp_tool_use", "name": "x"}) == TOOL
    assert send(reader, type="content_block_stop") == STEP


@pytest.mark.parametrize(
    ("delta", "bits"),
    [({"type": "text_delta", "text": ""}, NOTHING), ({"type": "thinking_delta", "thinking": ""}, NOTHING),
     ({"type": "citations_delta", "citation": {}}, NOTHING), ({"type": "compaction_delta", "content": "x"}, NOTHING),
      ({"type": "future_delta"}, UNKNOWN)],
)  # fmt: skip
def test_a_delta_without_output_brings_none(delta: dict[str, object], bits: int) -> None:
    assert send(MESSAGES.reader(), type="content_block_delta", index=0, delta=delta) == bits


@pytest.mark.parametrize(
    ("kind", "overloaded"),
    [("overloaded_error", True), ("rate_limit_error", True), ("api_error", False), ("invalid_request_error", False)],
)
def test_an_error_inside_the_stream(kind: str, overloaded: bool) -> None:
    # platform.claude.com/docs/build-with-claude/streaming, "Error events"
    reader = MESSAGES.reader()
    assert send(reader, type="error", error={"type": kind, "message": "Overloaded"}) == ERROR
    assert reader.error == InBandError("Overloaded", kind, overloaded)


def test_an_unknown_event_is_tolerated_and_a_gateways_DONE_is_nothing() -> None:
    assert send(MESSAGES.reader(), type="message_annotated", note=1) == UNKNOWN
    assert MESSAGES.reader().read("message", b"[DONE]") == NOTHING


def test_the_events_name_stands_in_for_a_missing_type() -> None:
    assert MESSAGES.reader().read("message_stop", b"{}") == END
    assert MESSAGES.reader().read("ping", b"{}") == NOTHING


def test_the_request_has_a_version_and_a_limit() -> None:
    asked = MESSAGES.request("/v1/messages", Ask("Hi", model="claude", max_tokens=32, system="Be brief"))
    assert dict(asked.headers) == {"content-type": "application/json", "anthropic-version": "2023-06-01"}
    assert json.loads(asked.body) == {
        "model": "claude",
        "max_tokens": 32,
        "messages": [{"role": "user", "content": "Hi"}],
        "system": "Be brief",
        "stream": True,
    }
    assert json.loads(MESSAGES.request("/v1/messages", Ask("Hi")).body)["max_tokens"] == 1024
