"""What holds for every dialect: the dict, options, recognition, wild input, and that their files stand alone."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import streamgauge.dialects
from streamgauge.dialects import DIALECTS, recognise_event, recognise_request, with_options
from streamgauge.dialects.ai_sdk import AiSdk
from streamgauge.dialects.contract import MALFORMED, MOST_TOKENS, OUTPUT, Ask, Usage, count
from streamgauge.errors import UsageError

SHARED = {"contract", "template", "errors"}


def test_the_dict_names_each_dialect_as_it_names_itself() -> None:
    assert list(DIALECTS) == ["openai-chat", "anthropic", "gemini", "ai-sdk"]
    for name, dialect in DIALECTS.items():
        assert dialect.name == name
        assert dialect.default_path.startswith("/")
        assert dialect.content_types == ("text/event-stream",)
        assert dialect.has_max_tokens is (name != "ai-sdk")


def test_the_files_of_dialects_never_import_each_other() -> None:
    folder = Path(streamgauge.dialects.__file__).parent
    for file in folder.glob("*.py"):
        if file.name == "__init__.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("streamgauge"):
                module = node.module or ""
                allowed = {f"streamgauge.{name}" for name in ("errors", "secrets", *(f"dialects.{s}" for s in SHARED))}
                assert module in allowed, f"{file.name} imports {module}"


# Options.


def test_options_come_as_a_spec_gives_them() -> None:
    options = {"usage_paths": ["stats"], "verdicts": {"other": "ok"}}
    assert with_options("ai-sdk", options) == AiSdk(usage_paths=("stats",), verdicts={"other": "ok"})
    assert with_options("gemini", {}) == DIALECTS["gemini"]
    assert DIALECTS["ai-sdk"] == AiSdk()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (
            "ai-sdk",
            {"usage_path": "x"},
            "no option 'usage_path'; known: usage_paths, verdicts; did you mean 'usage_paths'",
        ),
        ("ai-sdk", {"verdicts": {"other": "fine"}}, "Invalid enum value 'fine'"),
        ("anthropic", {"default_max_tokens": "many"}, "Expected `int`, got `str` - at option `default_max_tokens`"),
        ("openai-chat", {"max_tokens_key": "tokens"}, "Invalid enum value 'tokens' - at option `max_tokens_key`"),
        (
            "openai",
            {},
            "no dialect 'openai'; known: openai-chat, anthropic, gemini, ai-sdk; did you mean 'openai-chat'",
        ),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(name: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError) as told:
        with_options(name, options)
    assert words in str(told.value)


# Recognition.


EVENTS = {
    "openai-chat": [
        ("message", '{"id":"","object":"chat.completion.chunk","choices":[],"usage":{}}'),
        ("message", '{"choices":[{"index":0,"delta":{"content":"a"}}]}'),
    ],
    "anthropic": [
        ("message_start", '{"type":"message_start","message":{}}'),
        ("content_block_delta", '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}'),
        ("ping", '{"type": "ping"}'),
        ("error", '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'),
    ],
    "gemini": [
        ("message", '{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}'),
        ("message", '{"promptFeedback":{"blockReason":"SAFETY"}}'),
    ],
    "ai-sdk": [
        ("message", '{"type":"start"}'),
        ("message", '{"type":"text-delta","id":"t","delta":"a"}'),
        ("message", '{"type":"data-weather","data":{}}'),
        ("message", '{"type":"error","errorText":"no"}'),
        ("message", '{"type":"start-step"}'),
    ],
}


@pytest.mark.parametrize(("name", "event", "data"), [(n, e, d) for n, found in EVENTS.items() for e, d in found])
def test_one_event_names_its_dialect_and_only_that(name: str, event: str, data: str) -> None:
    assert [n for n, d in DIALECTS.items() if d.recognises(event, data.encode())] == [name]
    assert recognise_event(event, data.encode()) == name


def test_what_tells_nothing_is_no_ones() -> None:
    for data in (b"[DONE]", b"", b"{}", b"[]", b"null", b'{"type":"response.created"}', b'{"type":[]}', b"\xff"):
        assert recognise_event("message", data) is None


MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize("name", DIALECTS)
def test_each_dialect_recognises_its_own_request(name: str) -> None:
    asked = DIALECTS[name].request(DIALECTS[name].default_path, Ask("Hi", model="m", max_tokens=3))
    assert recognise_request(asked.path, dict(asked.headers), json.loads(asked.body)) == name
    by_shape = recognise_request("/chat/42", {}, json.loads(asked.body))
    assert by_shape == ("openai-chat" if name == "anthropic" else name)  # only its header tells them apart


@pytest.mark.parametrize(
    ("path", "headers", "body", "name"),
    [
        ("/api/chat", {}, {"id": "1", "messages": [{"role": "user", "parts": []}], "modelId": "x"}, "ai-sdk"),
        ("/api/chat", {}, {"messages": MESSAGES}, "ai-sdk"),  # as useChat of version 3 sends it
        ("/api/chat", {}, {"messages": MESSAGES, "model": "m", "stream": True}, "openai-chat"),
        ("/generate", {}, {"messages": MESSAGES}, "openai-chat"),
        ("/openai/deployments/x/chat/completions?api-version=1", {}, None, "openai-chat"),
        ("/proxy", {"Anthropic-Version": "2023-06-01"}, {"messages": MESSAGES, "model": "m"}, "anthropic"),
        ("/v1/messages?beta=true", {}, {"messages": MESSAGES}, "anthropic"),
        ("/v1/models/x:streamGenerateContent?alt=sse", {}, None, "gemini"),
        ("/x", {}, {"contents": [{"parts": [{"text": "a"}]}]}, "gemini"),
        ("/x", {}, {"prompt": "Hi"}, None),
        ("/x", {}, None, None),
        ("/x", {}, [1, {"messages": 1}], None),
        ("/x", {}, {"messages": ["Hi", None]}, None),
        ("/x", {}, {"messages": "Hi", "contents": {"parts": 1}}, None),
    ],
)
def test_a_foreign_request_is_recognised_by_sign_or_shape(
    path: str, headers: dict[str, str], body: object, name: str | None
) -> None:
    assert recognise_request(path, headers, body) == name


# Wild input: whatever a server sends, a reader says what it is and never raises.

SEEDS = [data for found in EVENTS.values() for _, data in found] + [
    '{"choices":[{"index":0,"delta":{"content":[{"type":"text","text":"a"}],"reasoning":"r","refusal":"x","tool_calls":'
    '[{"function":{"name":"f","arguments":"{}"}}],"function_call":{"name":"g"}},"finish_reason":"stop"}],"model":"m",'
    '"usage":{"prompt_tokens":1,"completion_tokens":2,"completion_tokens_details":{"reasoning_tokens":1},'
    '"prompt_tokens_details":{"cached_tokens":1}},"error":{"message":"m","type":"t","code":429}}',
    '{"type":"message_start","message":{"model":"m","usage":{"input_tokens":1,"cache_read_input_tokens":1}}}',
    '{"type":"content_block_start","content_block":{"type":"tool_use","name":"f","text":"t","thinking":"x"}}',
    '{"type":"content_block_start","content_block":{"type":"redacted_thinking","data":"d"}}',
    '{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1,"output_tokens_details":'
    '{"thinking_tokens":1}}}',
    '{"candidates":[{"content":{"parts":[{"text":"a","thought":true},{"functionCall":{"name":"f"}}]},"finishReason":'
    '"STOP"}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":1,"thoughtsTokenCount":1},"modelVersion":"m",'
    '"promptFeedback":{"blockReason":"OTHER"},"error":{"code":1,"status":"s","message":"m"}}',
    '{"type":"tool-input-available","toolCallId":"c","toolName":"f","input":{"a":1},"errorText":"e"}',
    '{"type":"tool-input-delta","toolCallId":"c","inputTextDelta":"x"}',
    '{"type":"abort","reason":"r"}',
    '{"type":"finish","finishReason":"stop","messageMetadata":{"usage":{"outputTokens":{"total":1},"inputTokens":2},'
    '"model":"m"}}',
]
KEYS = sorted({key for seed in SEEDS for key in seed.split('"')[1::2]})
numbers = st.integers(-(10**30), 10**30) | st.floats()
leaves = st.none() | st.booleans() | numbers | st.text(max_size=5) | st.sampled_from(KEYS)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """A real event in which one value, somewhere, is another."""
    event = json.loads(draw(st.sampled_from(SEEDS)))
    at: Any = event
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = draw(st.sampled_from(keys))
        if isinstance(at[key], dict | list) and at[key] and draw(st.booleans()):
            at = at[key]
            continue
        at[key] = draw(values)
        return json.dumps(event).encode()


def sane(reader: Any, bits: int) -> None:
    assert type(bits) is int
    assert 0 <= bits < 256
    reader.text.encode()  # no lone surrogate, no other type
    for word in (reader.finish, reader.verdict, reader.model):
        assert word is None or isinstance(word, str)
    assert reader.error is None or (isinstance(reader.error.message, str) and len(reader.error.message) <= 320)
    usage = reader.usage or Usage()
    for n in (usage.input, usage.output, usage.reasoning, usage.cached):
        assert n is None or (type(n) is int and 0 <= n < 3 * MOST_TOKENS)
    repr(reader)


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(["message", "error", "message_stop", "\ufffd"]),
    st.binary(max_size=60) | values.map(lambda v: json.dumps(v).encode()) | spoiled(),
)
@example("message", b"")
@example("message", b"[DONE]")
@example("message", b'{"choices":[{"index":[]}]}')
@example("message", b'{"type":["a"],"content_block":{"type":{}}}')
@example("message", b'{"type":"content_block_delta","delta":{"type":[],"text":"a"}}')
@example("message", b'{"a":1,"a":2,"choices":[],"choices":[{"delta":{"content":"x"}}]}')
@example("message", b'\xef\xbb\xbf{"choices":[]}')
def test_any_bytes_are_read_without_an_exception(event: str, data: bytes) -> None:
    for dialect in DIALECTS.values():
        reader = dialect.reader()
        sane(reader, reader.read(event, data))
        sane(reader, reader.read(event, data))
        dialect.recognises(event, data)


@pytest.mark.parametrize("depth", [50, 900, 5_000, 200_000])
@pytest.mark.parametrize("name", DIALECTS)
def test_deep_nesting_is_no_exception(name: str, depth: int) -> None:
    for field in [
        "x",
        "choices",
        "usage",
        "message",
        "content_block",
        "candidates",
        "messageMetadata",
        "input",
        "error",
    ]:
        for left, right in ((b"[", b"]"), (b'{"error":', b"}")):
            inner = left * depth + (b"1" if right == b"}" else b"") + right * depth
            reader = DIALECTS[name].reader()
            sane(reader, reader.read("message", b'{"type":"start","%s":%s}' % (field.encode(), inner)))


@pytest.mark.parametrize("name", DIALECTS)
def test_what_is_no_object_of_json_is_malformed(name: str) -> None:
    for data in (b"", b"NaN", b"{", b'{"type":"start","x":NaN}', b"<html>", b"data", b"1", b'"x"', b"[1]", b"null"):
        assert DIALECTS[name].reader().read("message", data) == MALFORMED, data


@pytest.mark.parametrize(
    ("name", "template"),
    [("openai-chat", '{"choices":[{"delta":{"content":"%s"}}]}'),
     ("anthropic", '{"type":"content_block_delta","delta":{"type":"text_delta","text":"%s"}}'),
     ("gemini", '{"candidates":[{"content":{"parts":[{"text":"%s"}]}}]}'),
     ("ai-sdk", '{"type":"text-delta","delta":"%s"}')],
)  # fmt: skip
@given(text=st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])))
@settings(max_examples=50, deadline=None)
def test_visible_text_comes_through_as_it_was_sent(name: str, template: str, text: str) -> None:
    for ascii_only in (True, False):
        data = (template % json.dumps(text, ensure_ascii=ascii_only)[1:-1]).encode()
        reader = DIALECTS[name].reader()
        assert reader.read("message", data) & OUTPUT == 1
        assert reader.text == text


@pytest.mark.parametrize("value", [-1, 2**31, 2**70, 1.0, float("nan"), True, "7", None, [], {}])
def test_what_cannot_be_a_number_of_tokens_is_none(value: object) -> None:
    assert count(value) is None
    assert [count(0), count(2**31 - 1)] == [0, 2**31 - 1]
