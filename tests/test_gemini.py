"""gemini against recorded responses; where each is published stands above it."""

from __future__ import annotations

import json

import pytest

from streamgauge.dialects.contract import (
    END,
    ERROR,
    MALFORMED,
    NOTHING,
    REASONING,
    TEXT,
    TOOL,
    UNKNOWN,
    Ask,
    InBandError,
    Usage,
)
from streamgauge.dialects.gemini import Gemini
from streamgauge.errors import UsageError
from transcripts import read

GEMINI = Gemini()

# A recorded stream of Vertex AI (out.txt of GeneralBots/gb, commit 144c4b0b; it could not be opened again, but its
# fields are those of google-genai 3.4.0)
PLAIN = """
data: {"candidates": [{"content": {"role": "model","parts": [{"text": "Hello!"}]}}],"usageMetadata": {"trafficType": "ON_DEMAND"},"modelVersion": "gemini-3.1-flash-lite-preview","createTime": "2026-03-10T14:54:45.066123Z","responseId": "tTCwacuEBMvnitYP06qsgQY"}

data: {"candidates": [{"content": {"role": "model","parts": [{"text": " How can I help you today"}]}}],"usageMetadata": {"trafficType": "ON_DEMAND"},"modelVersion": "gemini-3.1-flash-lite-preview","createTime": "2026-03-10T14:54:45.066123Z","responseId": "tTCwacuEBMvnitYP06qsgQY"}

data: {"candidates": [{"content": {"role": "model","parts": [{"text": "?"}]}}],"usageMetadata": {"trafficType": "ON_DEMAND"},"modelVersion": "gemini-3.1-flash-lite-preview","createTime": "2026-03-10T14:54:45.066123Z","responseId": "tTCwacuEBMvnitYP06qsgQY"}

data: {"candidates": [{"content": {"role": "model","parts": [{"text": "","thoughtSignature": "AY89a18iOcFus5wr5bW5xN6zZ4aUiCyhgmg6HE2YjtYDV/dwZ5oZlZHeTmiUKv34qq0="}]},"finishReason": "STOP"}],"usageMetadata": {"promptTokenCount": 1,"candidatesTokenCount": 9,"totalTokenCount": 10,"trafficType": "ON_DEMAND","promptTokensDetails": [{"modality": "TEXT","tokenCount": 1}],"candidatesTokensDetails": [{"modality": "TEXT","tokenCount": 9}]},"modelVersion": "gemini-3.1-flash-lite-preview","createTime": "2026-03-10T14:54:45.066123Z","responseId": "tTCwacuEBMvnitYP06qsgQY"}
"""  # noqa: E501


def chunk(*parts: dict[str, object], finish: str | None = None, **rest: object) -> bytes:
    candidate: dict[str, object] = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return json.dumps({"candidates": [candidate], "modelVersion": "gemini-x", **rest}).encode()


def test_a_plain_answer_as_recorded() -> None:
    got = read(GEMINI, PLAIN)
    assert got.brought == ["text", "text", "text", "end"]
    assert got.text == "Hello! How can I help you today?"
    assert (got.reader.finish, got.reader.verdict) == ("STOP", "ok")
    assert got.reader.model == "gemini-3.1-flash-lite-preview"
    assert got.reader.usage == Usage(input=1, output=9)


def test_output_tokens_are_candidates_and_thoughts() -> None:
    # google-genai 3.4.0, GenerateContentResponseUsageMetadata: the total is the sum of prompt, candidates and thoughts
    reader = GEMINI.reader()
    usage = {"promptTokenCount": 34, "candidatesTokenCount": 418, "totalTokenCount": 890, "thoughtsTokenCount": 438}
    assert reader.read("message", chunk({"text": "x"}, finish="STOP", usageMetadata=usage)) == TEXT | END
    assert reader.usage == Usage(input=34, output=856, reasoning=438)
    assert not reader.hidden_reasoning


def test_usage_of_an_early_chunk_says_nothing_of_output() -> None:
    reader = GEMINI.reader()
    reader.read("message", chunk({"text": "x"}, usageMetadata={"promptTokenCount": 8, "totalTokenCount": 8}))
    assert reader.usage == Usage(input=8)
    reader.read("message", chunk({"text": "x"}, usageMetadata={"promptTokenCount": 8, "thoughtsTokenCount": 30}))
    assert reader.usage == Usage(input=8, output=30, reasoning=30)
    cached = {"promptTokenCount": 8, "candidatesTokenCount": -1, "cachedContentTokenCount": 4}
    reader.read("message", chunk({"text": "x"}, usageMetadata=cached))
    assert reader.usage == Usage(input=8, cached=4)
    reader.read("message", chunk({"text": "x"}, usageMetadata={"candidatesTokenCount": 9}))
    assert reader.usage == Usage(output=9)


def test_what_tools_gave_back_is_input_too() -> None:
    # google-genai 3.4.0, GenerateContentResponseUsageMetadata: total = prompt + candidates + tool_use_prompt + thoughts
    reader = GEMINI.reader()
    usage = {"promptTokenCount": 8, "toolUsePromptTokenCount": 40, "candidatesTokenCount": 5, "totalTokenCount": 53}
    reader.read("message", chunk({"text": "x"}, usageMetadata=usage))
    assert reader.usage == Usage(input=48, output=5)


def test_an_array_of_responses_is_read_as_they_are() -> None:
    reader = GEMINI.reader()
    one, two = chunk({"text": "a"}), chunk({"text": "b"}, finish="STOP")
    assert reader.read("message", b"[" + one + b",\n" + two + b"]") == TEXT | END
    assert reader.verdict == "ok"
    reader = GEMINI.reader()
    assert reader.read("message", b'[{"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}}]') == ERROR
    assert reader.error == InBandError("busy", "UNAVAILABLE", True)
    assert [GEMINI.reader().read("message", data) for data in (b"[]", b"[1]", b"[{}, 2]")] == [MALFORMED] * 3


def test_a_thought_is_reasoning() -> None:
    # ai.google.dev/gemini-api/docs/thinking: parts with thought set hold the thought summary
    reader = GEMINI.reader()
    assert reader.read("message", chunk({"text": "**Plan**", "thought": True})) == REASONING
    assert (reader.text, reader.hidden_reasoning) == ("**Plan**", True)
    both = chunk({"text": "think", "thought": True}, {"text": "a"}, {"text": "b"}, {"text": "more", "thought": True})
    assert reader.read("message", both) == TEXT | REASONING
    assert reader.text == "ab"
    assert reader.read("message", chunk({"text": "c", "thought": True}, {"text": "d", "thought": True})) == REASONING
    assert reader.text == "cd"


def test_a_function_call_is_a_tool_call() -> None:
    reader = GEMINI.reader()
    call = {"functionCall": {"name": "get_weather", "args": {"city": "Oslo"}}, "thoughtSignature": "CvcQ"}
    assert reader.read("message", chunk(call, finish="STOP")) == TOOL | END
    assert json.loads(reader.text) == call["functionCall"]
    assert reader.verdict == "ok"
    assert GEMINI.reader().read("message", chunk({"toolCall": {"toolType": "GOOGLE_SEARCH", "id": "1"}})) == TOOL
    assert GEMINI.reader().read("message", chunk({"executableCode": {"language": "PYTHON", "code": "1"}})) == TOOL
    assert GEMINI.reader().read("message", chunk({"codeExecutionResult": {"output": "1"}})) == NOTHING


@pytest.mark.parametrize(
    ("word", "verdict"),
    [("STOP", "ok"), ("MAX_TOKENS", "length_capped"), ("SAFETY", "filtered"), ("RECITATION", "filtered"),
     ("PROHIBITED_CONTENT", "filtered"), ("BLOCKLIST", "filtered"), ("SPII", "filtered"), ("LANGUAGE", "filtered"),
     ("OTHER", "truncated"), ("MALFORMED_FUNCTION_CALL", "truncated"), ("A_NEW_WORD", "truncated")],
)  # fmt: skip
def test_what_a_finish_reason_means(word: str, verdict: str) -> None:
    reader = GEMINI.reader()
    assert reader.read("message", json.dumps({"candidates": [{"finishReason": word, "index": 0}]}).encode()) == END
    assert (reader.finish, reader.verdict) == (word, verdict)


def test_a_blocked_prompt_is_filtered_and_ends_at_once() -> None:
    # google-genai 3.4.0, GenerateContentResponsePromptFeedback
    reader = GEMINI.reader()
    data = b'{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":7}}'
    assert reader.read("message", data) == END
    assert (reader.finish, reader.verdict, reader.usage) == ("PROHIBITED_CONTENT", "filtered", Usage(input=7))
    assert GEMINI.reader().read("message", chunk({"text": "a"}, promptFeedback={"safetyRatings": []})) == TEXT


def test_a_model_that_says_STOP_on_each_chunk_ends_with_its_last() -> None:
    reader = GEMINI.reader()
    assert [reader.read("message", chunk({"text": t}, finish="STOP")) for t in "ab"] == [TEXT | END, TEXT | END]


@pytest.mark.parametrize(
    ("code", "status", "overloaded"),
    [
        (429, "RESOURCE_EXHAUSTED", True),
        (503, "UNAVAILABLE", True),
        (500, "INTERNAL", False),
        (400, "INVALID_ARGUMENT", False),
    ],
)
def test_an_error_inside_the_stream(code: int, status: str, overloaded: bool) -> None:
    # google-genai 3.4.0, errors.APIError: code, status and message
    reader = GEMINI.reader()
    data = json.dumps({"error": {"code": code, "message": "The model is overloaded.", "status": status}}).encode()
    assert reader.read("message", data) == ERROR
    assert reader.error == InBandError("The model is overloaded.", status, overloaded)


@pytest.mark.parametrize(
    ("data", "bits"),
    [(b'{"usageMetadata":{"promptTokenCount":1}}', NOTHING), (b'{"hello":1}', UNKNOWN), (b"[DONE]", NOTHING),
     (b'{"candidates":[]}', NOTHING), (b'{"candidates":[{"content":{"role":"model"}}]}', NOTHING),
     (b'{"candidates":[{"content":{"parts":[{"text":1}]}}]}', MALFORMED), (b'{"candidates":[{}]}', NOTHING)],
)  # fmt: skip
def test_events_without_output(data: bytes, bits: int) -> None:
    assert GEMINI.reader().read("message", data) == bits


def test_the_request() -> None:
    ask = Ask("Hi", model="gemini-3-flash", max_tokens=32, system="Be brief", extra={"generationConfig": {"topK": 1}})
    asked = GEMINI.request(GEMINI.default_path, ask)
    assert asked.path == "/v1beta/models/gemini-3-flash:streamGenerateContent?alt=sse"
    assert json.loads(asked.body) == {
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "generationConfig": {"maxOutputTokens": 32, "topK": 1},
        "systemInstruction": {"parts": [{"text": "Be brief"}]},
    }


@pytest.mark.parametrize(
    ("path", "sent"),
    [("/v1/models/g:streamGenerateContent", "/v1/models/g:streamGenerateContent?alt=sse"),
     ("/v1/models/g:streamGenerateContent?key=x", "/v1/models/g:streamGenerateContent?key=x&alt=sse"),
     ("/v1/models/g:streamGenerateContent?alt=json", "/v1/models/g:streamGenerateContent?alt=json"),
     ("/my/route", "/my/route"), ("/v1beta/models/{model}:x", "/v1beta/models/g-2:x")],
)  # fmt: skip
def test_a_path_of_ones_own_still_asks_for_events(path: str, sent: str) -> None:
    assert GEMINI.request(path, Ask("Hi", model="models/g-2")).path == sent


def test_a_path_that_needs_a_model_says_so() -> None:
    with pytest.raises(UsageError, match=r"\{model\} in '/v1beta.*--model"):
        GEMINI.request(GEMINI.default_path, Ask("Hi"))
