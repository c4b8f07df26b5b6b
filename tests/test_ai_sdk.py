"""ai-sdk against what the npm package `ai` sends, and the examples of ai-sdk.dev/docs/ai-sdk-ui/stream-protocol."""

from __future__ import annotations

import json
import uuid

import pytest

from streamgauge.dialects.ai_sdk import AiSdk
from streamgauge.dialects.contract import (
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
    InBandError,
    Usage,
)
from transcripts import read

SDK = AiSdk()

# A stream of `ai` 6.0.326 (createUIMessageStreamResponse, a model that calls a tool and then speaks), keep-alives on
TOOL_CALL = r"""
: stream-open

data: {"type":"start","messageMetadata":{"createdAt":1}}

data: {"type":"start-step"}

data: {"type":"tool-input-start","toolCallId":"call_1","toolName":"weather"}

data: {"type":"tool-input-delta","toolCallId":"call_1","inputTextDelta":"{\"city\":"}

data: {"type":"tool-input-delta","toolCallId":"call_1","inputTextDelta":"\"Oslo\"}"}

data: {"type":"tool-input-available","toolCallId":"call_1","toolName":"weather","input":{"city":"Oslo"}}

data: {"type":"tool-output-available","toolCallId":"call_1","output":{"city":"Oslo","t":4}}

data: {"type":"finish-step"}

data: {"type":"start-step"}

data: {"type":"text-start","id":"t1"}

data: {"type":"text-delta","id":"t1","delta":"tok0 "}

data: {"type":"text-delta","id":"t1","delta":"tok1"}

data: {"type":"text-end","id":"t1"}

data: {"type":"finish-step"}

data: {"type":"finish","finishReason":"stop"}

data: [DONE]
"""

# As the same package sends them when the model throws, is aborted, or its provider was cut
THROWN = """
data: {"type":"start"}

data: {"type":"error","errorText":"An error occurred."}

data: [DONE]
"""
ABORTED = """
data: {"type":"start"}

data: {"type":"start-step"}

data: {"type":"text-start","id":"t1"}

data: {"type":"abort","reason":"user stop"}

data: [DONE]
"""
CUT = """
data: {"type":"text-delta","id":"t1","delta":"half"}

data: {"type":"finish","finishReason":"other"}

data: [DONE]
"""


def send(reader: object, **fields: object) -> int:
    return reader.read("message", json.dumps(fields).encode())  # type: ignore[attr-defined, no-any-return]


def test_a_tool_call_and_text_as_the_package_sends_them() -> None:
    got = read(SDK, TOOL_CALL)
    assert got.brought == [
        "", "step", "tool", "tool", "tool", "", "", "step", "step", "", "text", "text", "", "step", "end", "",
    ]  # fmt: skip
    assert got.text == "tok0 tok1"
    assert got.tool == 'weather{"city":"Oslo"}'
    assert (got.reader.finish, got.reader.verdict, got.reader.usage) == ("stop", "ok", None)


def test_a_model_that_throws_is_an_error_without_an_end() -> None:
    got = read(SDK, THROWN)
    assert got.brought == ["", "error", ""]
    assert got.reader.error == InBandError("An error occurred.")


def test_an_abort_is_an_error() -> None:
    got = read(SDK, ABORTED)
    assert got.brought == ["", "step", "", "error", ""]
    assert got.reader.error == InBandError("aborted: user stop", "abort")


def test_a_provider_that_was_cut_makes_a_truncated_answer_unless_the_spec_says_otherwise() -> None:
    got = read(SDK, CUT)
    assert got.brought == ["text", "end", ""]
    assert (got.reader.finish, got.reader.verdict) == ("other", "truncated")
    assert read(AiSdk(verdicts={"other": "ok"}), CUT).reader.verdict == "ok"


@pytest.mark.parametrize(
    ("word", "verdict"),
    [("stop", "ok"), ("tool-calls", "ok"), (None, "ok"), ("length", "length_capped"), ("content-filter", "filtered"),
     ("other", "truncated"), ("unknown", "truncated"), ("interrupted", "truncated"), ("end_turn", "ok")],
)  # fmt: skip
def test_what_a_finish_reason_means(word: str | None, verdict: str) -> None:
    reader = SDK.reader()
    assert send(reader, type="finish", **({"finishReason": word} if word else {})) == END
    assert (reader.finish, reader.verdict) == (word, verdict)


def test_a_finish_for_an_error_is_an_error_in_the_words_of_the_error_before_it() -> None:
    reader = SDK.reader()
    assert send(reader, type="finish", finishReason="error") == ERROR | END
    assert reader.error is not None
    reader = SDK.reader()
    send(reader, type="error", errorText="Rate limit exceeded, retry in 20 s")
    assert send(reader, type="finish", finishReason="error") == ERROR | END
    assert reader.error == InBandError("Rate limit exceeded, retry in 20 s", None, True)


@pytest.mark.parametrize(
    ("fields", "bits"),
    [({"type": "text-delta", "id": "t", "delta": ""}, NOTHING), ({"type": "reasoning-delta", "delta": "x"}, REASONING),
     ({"type": "data-weather", "data": {"location": "SF"}}, NOTHING), ({"type": "start", "messageId": "m"}, NOTHING),
     ({"type": "source-url", "sourceId": "s", "url": "u"}, NOTHING), ({"type": "file", "url": "u"}, NOTHING),
     ({"type": "message-metadata", "messageMetadata": {}}, NOTHING), ({"type": "steering-message"}, NOTHING),
     ({"type": "tool-approval-request", "approvalId": "a", "toolCallId": "c"}, NOTHING),
     ({"type": "reset-step"}, STEP), ({"type": "hologram"}, UNKNOWN), ({"type": "tool-input-future"}, UNKNOWN),
     ({"type": "tool-output-error", "toolCallId": "c", "errorText": "no"}, NOTHING), ({"delta": "x"}, MALFORMED),
     ({"type": 7}, MALFORMED), ({"type": "text-delta", "delta": 7}, MALFORMED)],
)  # fmt: skip
def test_what_each_other_event_brings(fields: dict[str, object], bits: int) -> None:
    assert send(SDK.reader(), **fields) == bits


def test_an_input_told_only_whole_is_tool_output_once() -> None:
    reader = SDK.reader()
    assert send(reader, type="tool-input-available", toolCallId="a", toolName="f", input={"x": 1}) == TOOL
    assert reader.text == '{"x": 1}'
    send(reader, type="tool-input-delta", toolCallId="b", inputTextDelta="{")
    assert send(reader, type="tool-input-available", toolCallId="b", toolName="f", input={}) == NOTHING
    assert send(reader, type="tool-input-error", toolCallId="c", toolName="f", input="{bad", errorText="e") == TOOL


USAGES = [
    # LanguageModelUsage of ai 5 and 6 (packages/ai/src/types/usage.ts)
    ({"usage": {"inputTokens": 5, "outputTokens": 9, "totalTokens": 14, "reasoningTokens": 3, "cachedInputTokens": 2}},
     Usage(5, 9, 3, 2)),
    ({"usage": {"inputTokens": 5, "outputTokens": 9, "inputTokenDetails": {"cacheReadTokens": 2, "noCacheTokens": 3},
                "outputTokenDetails": {"textTokens": 6, "reasoningTokens": 3}}}, Usage(5, 9, 3, 2)),
    # the provider's own shape (LanguageModelV3Usage), as a finish part of a model has it
    ({"usage": {"inputTokens": {"total": 5, "noCache": 3, "cacheRead": 2, "cacheWrite": 0},
                "outputTokens": {"total": 9, "text": 6, "reasoning": 3}}}, Usage(5, 9, 3, 2)),
    ({"totalUsage": {"outputTokens": 30}, "usage": {"outputTokens": 9}}, Usage(output=30)),
    ({"outputTokens": 9}, Usage(output=9)),
    ({"totalTokens": 14}, None), ({"usage": None}, None), ({"usage": {"outputTokens": -1}}, None), ([], None),
]  # fmt: skip


@pytest.mark.parametrize(("metadata", "usage"), USAGES)
def test_usage_is_read_from_the_metadata_where_the_app_puts_it(metadata: object, usage: Usage | None) -> None:
    reader = SDK.reader()
    send(reader, type="start", messageMetadata={"createdAt": 1})
    assert send(reader, type="finish", finishReason="stop", messageMetadata=metadata) == END
    assert reader.usage == usage


def test_usage_can_stand_anywhere() -> None:
    reader = AiSdk(usage_paths=("stats.tokens",)).reader()
    send(reader, type="message-metadata", messageMetadata={"stats": {"tokens": {"outputTokens": 4}}, "model": "m-1"})
    assert (reader.usage, reader.model) == (Usage(output=4), "m-1")


def test_the_request_is_what_DefaultChatTransport_sends() -> None:
    # ai 6.0.326, src/ui/http-chat-transport.ts: {...body, id, messages, trigger, messageId: undefined}
    ask = Ask("Hi", max_tokens=32, model="m", extra={"modelId": "claude"})
    asked = SDK.request("/api/chat", ask)
    assert asked.headers == (("content-type", "application/json"),)
    assert json.loads(asked.body) == {
        "id": ask.chat_id,
        "messages": [{"id": ask.message_id, "role": "user", "parts": [{"type": "text", "text": "Hi"}]}],
        "trigger": "submit-message",
        "modelId": "claude",
    }
    assert not SDK.has_max_tokens


def test_each_request_is_a_chat_of_its_own_with_uuids_as_routes_check_them() -> None:
    bodies = [json.loads(SDK.request("/api/chat", Ask("Hi")).body) for _ in range(2)]
    ids = [body["id"] for body in bodies] + [body["messages"][0]["id"] for body in bodies]
    assert len(set(ids)) == 4
    assert all(str(uuid.UUID(i)) == i for i in ids)


def test_a_system_prompt_is_a_message_before_the_users() -> None:
    messages = json.loads(SDK.request("/api/chat", Ask("Hi", system="Be brief")).body)["messages"]
    assert [m["role"] for m in messages] == ["system", "user"]
    assert messages[0]["id"] != messages[1]["id"]


def test_reasoning_may_be_a_summary_so_what_was_streamed_is_not_known() -> None:
    reader = SDK.reader()
    assert send(reader, type="reasoning-delta", id="r", delta="") == NOTHING
    assert not reader.hidden_reasoning
    assert send(reader, type="reasoning-delta", id="r", delta="Hm") == REASONING
    assert (reader.text, reader.hidden_reasoning) == ("Hm", True)


def test_text_after_text_is_told_event_by_event() -> None:
    reader = SDK.reader()
    assert [send(reader, type="text-delta", id="t", delta=d) for d in ("a", "b")] == [TEXT, TEXT]
    assert reader.text == "b"
