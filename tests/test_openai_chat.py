"""openai-chat against transcripts that providers publish and what official SDKs read; each names its source."""

from __future__ import annotations

import json

import pytest

from streamgauge.dialects.contract import END, ERROR, NOTHING, REASONING, TEXT, TOOL, UNKNOWN, Ask, InBandError, Usage
from streamgauge.dialects.openai_chat import OpenAIChat
from transcripts import read

CHAT = OpenAIChat()


def chunk(delta: dict[str, object] | None = None, finish: object = None, index: int = 0, **rest: object) -> bytes:
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish}
    return json.dumps({"object": "chat.completion.chunk", "choices": [choice], **rest}).encode()


# platform.openai.com/docs/api-reference/chat-streaming (the chat completion chunk object)
PLAIN = """
data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}

data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"content":"Hello"},"logprobs":null,"finish_reason":null}]}

data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}

data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","system_fingerprint":"fp_44709d6fcb","choices":[],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":5,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":7,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}

data: [DONE]
"""  # noqa: E501

# learn.microsoft.com/azure/ai-services/openai/concepts/content-filter (asynchronous filter, blocked by filters)
AZURE = """
data: {"id":"","object":"","created":0,"model":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}],"choices":[],"usage":null}

data: {"id":"chatcmpl-8JCbt5d4luUIhYCI7YH4dQK7hnHx2","object":"chat.completion.chunk","created":1699587397,"model":"gpt-35-turbo","choices":[{"index":0,"finish_reason":null,"delta":{"role":"assistant"}}],"usage":null}

data: {"id":"chatcmpl-8JCbt5d4luUIhYCI7YH4dQK7hnHx2","object":"chat.completion.chunk","created":1699587397,"model":"gpt-35-turbo","choices":[{"index":0,"finish_reason":null,"delta":{"content":"Hey"}}],"usage":null}

data: {"id":"","object":"","created":0,"model":"","choices":[{"index":0,"finish_reason":null,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}},"content_filter_offsets":{"check_offset":65,"start_offset":65,"end_offset":1056}}],"usage":null}

data: {"id":"","object":"","created":0,"model":"","choices":[{"index":0,"finish_reason":"content_filter","content_filter_results":{"protected_material_text":{"detected":true,"filtered":true}},"content_filter_offsets":{"check_offset":65,"start_offset":65,"end_offset":1056}}],"usage":null}

data: [DONE]
"""  # noqa: E501

# platform.openai.com/docs/guides/function-calling (streaming)
TOOLS = """
data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_DdmO9pD3xa9XTPNJ32zg2hcA","function":{"arguments":"","name":"get_weather"},"type":"function"}]},"finish_reason":null}]}

data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":null,"function":{"arguments":"{\\"","name":null},"type":null}]},"finish_reason":null}]}

data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":null,"function":{"arguments":"location\\":1}","name":null},"type":null}]},"finish_reason":null}]}

data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}
"""  # noqa: E501


def test_a_plain_answer_as_published() -> None:
    got = read(CHAT, PLAIN)
    assert got.brought == ["", "text", "end", "", ""]
    assert got.text == "Hello"
    assert (got.reader.finish, got.reader.verdict, got.reader.model) == ("stop", "ok", "gpt-4o-mini")
    assert got.reader.usage == Usage(input=19, output=10, reasoning=7, cached=5)


def test_azures_filter_results_are_no_output_and_a_filtered_answer_is_filtered() -> None:
    got = read(CHAT, AZURE)
    assert got.brought == ["", "", "text", "", "end", ""]
    assert (got.reader.finish, got.reader.verdict, got.reader.model) == ("content_filter", "filtered", "gpt-35-turbo")
    assert got.reader.usage is None


def test_tool_calls_are_output_by_name_and_arguments() -> None:
    got = read(CHAT, TOOLS)
    assert got.brought == ["tool", "tool", "tool", "end"]
    assert got.tool == 'get_weather{"location":1}'
    assert (got.reader.finish, got.reader.verdict) == ("tool_calls", "ok")


@pytest.mark.parametrize(
    "delta",
    [{"role": "assistant"}, {"role": "assistant", "content": ""}, {"content": None}, {}, {"tool_calls": []},
     {"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "", "arguments": ""}}]}, {"reasoning": ""},
     {"content": []}, {"function_call": None}, {"refusal": ""}],
)  # fmt: skip
def test_a_delta_without_output_is_no_first_token(delta: dict[str, object]) -> None:
    assert CHAT.reader().read("message", chunk(delta)) == NOTHING


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_has_two_names(field: str) -> None:
    # @ai-sdk/openai-compatible 2.0.92 reads delta.reasoning_content ?? delta.reasoning; vLLM's page "Reasoning Outputs"
    reader = CHAT.reader()
    assert reader.read("message", chunk({"content": None, field: "Hmm"})) == REASONING
    assert reader.text == "Hmm"


def test_one_thought_under_both_names_is_one_output() -> None:
    reader = CHAT.reader()
    assert reader.read("message", chunk({"content": "", "reasoning": "a", "reasoning_content": "a"})) == REASONING
    assert reader.text == "a"


def test_text_and_reasoning_in_one_event_are_both_and_text_is_what_is_shown() -> None:
    reader = CHAT.reader()
    assert reader.read("message", chunk({"content": "x", "reasoning_content": "y"})) == TEXT | REASONING
    assert reader.text == "x"


def test_a_refusal_is_text_that_people_see_and_the_answer_is_filtered() -> None:
    reader = CHAT.reader()
    assert reader.read("message", chunk({"refusal": "I'm sorry"})) == TEXT
    assert reader.text == "I'm sorry"
    assert reader.read("message", chunk({}, "stop")) == END
    assert (reader.finish, reader.verdict) == ("stop", "filtered")


def test_the_older_function_call_is_a_tool_call() -> None:
    reader = CHAT.reader()
    assert reader.read("message", chunk({"function_call": {"name": "f", "arguments": "{}"}})) == TOOL
    assert reader.text == "f{}"
    assert reader.read("message", chunk({}, "function_call")) == END
    assert reader.verdict == "ok"


def test_a_custom_tools_input_is_output() -> None:
    call = {"index": 0, "type": "custom", "custom": {"name": "sql", "input": "SELECT"}}
    assert CHAT.reader().read("message", chunk({"tool_calls": [call]})) == TOOL


def test_content_may_be_a_list_of_parts() -> None:
    # @ai-sdk/mistral 3.0.69, mistralContentSchema: parts of type thinking and text
    reader = CHAT.reader()
    thinking = {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Let me"}]}]}
    assert reader.read("message", chunk(thinking)) == REASONING
    assert reader.text == "Let me"
    assert reader.read("message", chunk({"content": [{"type": "text", "text": "4"}]})) == TEXT
    assert reader.text == "4"


@pytest.mark.parametrize(
    ("word", "verdict"),
    [("stop", "ok"), ("tool_calls", "ok"), ("function_call", "ok"), ("length", "length_capped"), ("eos", "ok"),
     ("abort", "truncated"), ("repetition", "truncated"), ("content_filter", "filtered"),
     ("model_length", "length_capped"), ("insufficient_system_resource", "truncated")],
)  # fmt: skip
def test_what_a_finish_reason_means(word: str, verdict: str) -> None:
    reader = CHAT.reader()
    assert reader.read("message", chunk({}, word)) == END
    assert (reader.finish, reader.verdict) == (word, verdict)


def test_a_finish_reason_may_come_with_the_last_text() -> None:
    assert CHAT.reader().read("message", chunk({"content": "."}, "stop")) == TEXT | END


def test_DONE_alone_ends_it_and_nothing_ends_it_twice() -> None:
    reader = CHAT.reader()
    assert reader.read("message", b"[DONE]") == END
    assert (reader.verdict, reader.finish) == ("ok", None)
    reader = CHAT.reader()
    assert [reader.read("message", d) for d in (chunk({}, "stop"), chunk({}, "stop"), b"[DONE]")] == [
        END,
        NOTHING,
        NOTHING,
    ]


def test_of_several_choices_the_last_one_ends_it() -> None:
    reader = CHAT.reader()
    assert reader.read("message", chunk({"content": "a"}, index=0)) == TEXT
    assert reader.read("message", chunk({"content": "b"}, index=1)) == TEXT
    assert reader.read("message", chunk({}, "length", index=1)) == NOTHING
    assert reader.read("message", chunk({}, "stop", index=0)) == END
    assert reader.verdict == "length_capped"


def test_usage_is_read_after_the_end_and_null_usage_is_none() -> None:
    reader = CHAT.reader()
    reader.read("message", chunk({"content": "a"}, usage=None))
    assert reader.usage is None
    reader.read("message", b"[DONE]")
    assert reader.read("message", b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}') == NOTHING
    assert reader.usage == Usage(input=1, output=2)
    assert CHAT.reader().read("message", b'{"choices":null,"usage":{"prompt_tokens":1}}') == NOTHING


@pytest.mark.parametrize(
    "told",
    [
        # @ai-sdk/deepseek 2.0.69, tokenUsageSchema; @ai-sdk/groq 3.0.71, groqChatChunkSchema
        {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4, "prompt_cache_hit_tokens": 6}},
        {"choices": [], "x_groq": {"usage": {"prompt_tokens": 9, "completion_tokens": 4,
                                             "prompt_tokens_details": {"cached_tokens": 6}}}},
    ],
)  # fmt: skip
def test_usage_has_more_than_one_place(told: dict[str, object]) -> None:
    reader = CHAT.reader()
    assert reader.read("message", json.dumps(told).encode()) == NOTHING
    assert reader.usage == Usage(input=9, output=4, cached=6)
    reader.read("message", chunk({}, x_groq={"id": "req_1"}))
    assert reader.usage == Usage(input=9, output=4, cached=6)


@pytest.mark.parametrize(
    "number",
    ["-1", "2147483648", "1.5", "true", '"7"', "null", "1e999", "9" * 40, pytest.param("9" * 5_000, id="5000 digits")],
)
def test_an_absurd_count_is_none(number: str) -> None:
    reader = CHAT.reader()
    data = b'{"choices":[],"usage":{"completion_tokens":%s,"prompt_tokens":3}}' % number.encode()
    assert reader.read("message", data) == NOTHING
    assert reader.usage == Usage(input=3)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        # openrouter.ai/docs/api-reference/streaming: a data event with an error field
        (b'{"id":"g","object":"chat.completion.chunk","error":{"code":502,"message":"Provider disconnected"},'
         b'"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}',
         InBandError("Provider disconnected", "502")),
        # LiteLLM's proxy
        (b'{"error": {"message": "litellm.RateLimitError: slow down", "type": "None", "param": "None", "code": "429"}}',
         InBandError("litellm.RateLimitError: slow down", "429", True)),
        # vLLM
        (b'{"error": {"message": "bad", "type": "BadRequestError", "param": null, "code": 400}}',
         InBandError("bad", "BadRequestError")),
        (b'{"object":"error","message":"busy","type":"ServiceUnavailableError","code":503}',
         InBandError("busy", "ServiceUnavailableError", True)),
        (b'{"error":{"message":"The server is overloaded","type":"server_error","code":"engine_overloaded"}}',
         InBandError("The server is overloaded", "server_error", True)),
        (b'{"error":"boom"}', InBandError("boom")),
        (b'{"error":"Too many requests"}', InBandError("Too many requests", None, True)),
        (b'{"error":{"message":"talk of rate limits","type":"invalid_request_error"}}',
         InBandError("talk of rate limits", "invalid_request_error")),
        (b'{"error":{}}', InBandError("an error without words")),
    ],
)  # fmt: skip
def test_an_error_inside_the_stream(data: bytes, error: InBandError) -> None:
    reader = CHAT.reader()
    assert reader.read("message", data) & ERROR
    assert reader.error == error


def test_an_event_named_error_is_one_whatever_its_shape() -> None:
    reader = CHAT.reader()
    assert reader.read("error", b'{"message":"gone","code":"overloaded"}') == ERROR
    assert reader.error == InBandError("gone", "overloaded", True)


def test_a_null_error_is_none_and_a_foreign_object_is_unknown() -> None:
    assert CHAT.reader().read("message", chunk({"content": "a"}, error=None)) == TEXT
    assert CHAT.reader().read("message", b'{"hello":1}') == UNKNOWN


def test_a_half_surrogate_or_a_cut_character_spoils_no_event() -> None:
    reader = CHAT.reader()
    assert reader.read("message", b'{"choices":[{"index":0,"delta":{"content":"a\\ud83d"}}]}') == TEXT
    assert reader.text == "a?"
    assert reader.read("message", b'{"choices":[{"index":0,"delta":{"content":"a\xf0\x9f"}}]}') == TEXT
    assert reader.text == "a\ufffd"


def test_the_request_asks_for_a_stream_with_usage() -> None:
    asked = CHAT.request("/v1/chat/completions", Ask("Hi", model="m", max_tokens=32, system="Be brief"))
    assert (asked.method, asked.path) == ("POST", "/v1/chat/completions")
    assert json.loads(asked.body) == {
        "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "model": "m",
        "max_tokens": 32,
        "stream_options": {"include_usage": True},
    }


def test_usage_can_be_left_out_and_an_unset_field_is_not_sent() -> None:
    asked = CHAT.request("/x", Ask("Hi", include_usage=False))
    assert json.loads(asked.body) == {"messages": [{"role": "user", "content": "Hi"}], "stream": True}


def test_the_token_limit_has_another_name_for_reasoning_models() -> None:
    newer = OpenAIChat(max_tokens_key="max_completion_tokens")
    body = json.loads(newer.request("/x", Ask("Hi", max_tokens=9)).body)
    assert body["max_completion_tokens"] == 9
    assert "max_tokens" not in body
    body = json.loads(CHAT.request("/x", Ask("Hi", max_tokens=9, extra={"max_completion_tokens": 7})).body)
    assert body["max_completion_tokens"] == 7
    assert "max_tokens" not in body


def test_extra_is_merged_at_every_depth() -> None:
    ask = Ask("Hi", extra={"temperature": 0, "stream_options": {"chunked": 1}, "stream": False})
    body = json.loads(CHAT.request("/x", ask).body)
    assert body["stream_options"] == {"include_usage": True, "chunked": 1}
    assert (body["temperature"], body["stream"]) == (0, False)


def test_a_deployment_in_the_path_is_filled_in() -> None:
    path = "/openai/deployments/{model}/chat/completions?api-version=2024-10-21"
    assert CHAT.request(path, Ask("Hi", model="gpt 4/o")).path == (
        "/openai/deployments/gpt%204%2Fo/chat/completions?api-version=2024-10-21"
    )
