"""Every word that an official SDK's types allow has a meaning here on purpose: none is met by accident.

The words come from the SDKs themselves (Python: by their types; the npm package `ai` in versions 5, 6 and 7: out of its
`uiMessageChunkSchema`), what they mean from the tables below, which are written by hand. A new version of an SDK with a
new word fails here, and somebody decides.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from real import NODE, PYTHON, node, require
from streamgauge.dialects import DIALECTS
from streamgauge.dialects.contract import END, ERROR, NOTHING, REASONING, STEP, TEXT, TOOL, Ask
from transcripts import read as transcript

pytestmark = pytest.mark.real

FINISH = {
    "openai-chat": {
        "stop": "ok", "tool_calls": "ok", "function_call": "ok", "length": "length_capped",
        "content_filter": "filtered",
    },
    "anthropic": {
        "end_turn": "ok", "stop_sequence": "ok", "tool_use": "ok", "pause_turn": "ok", "compaction": "ok",
        "max_tokens": "length_capped", "model_context_window_exceeded": "length_capped", "refusal": "filtered",
    },
    "gemini": {
        "STOP": "ok", "MAX_TOKENS": "length_capped", "CONTINUATION": "length_capped",
        **dict.fromkeys(("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY",
                         "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "ESCALATION", "PUP_LIMITED_DISABLED",
                         "MODEL_ARMOR"), "filtered"),
        **dict.fromkeys(("FINISH_REASON_UNSPECIFIED", "OTHER", "MALFORMED_FUNCTION_CALL", "IMAGE_OTHER", "NO_IMAGE",
                         "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE",
                         "MALFORMED_RESPONSE"), "truncated"),
    },
    "ai-sdk": {
        "stop": "ok", "tool-calls": "ok", "length": "length_capped", "content-filter": "filtered",
        "error": "truncated", "other": "truncated", "unknown": "truncated", "interrupted": "truncated",
    },
}  # fmt: skip


def ended(dialect: str, word: str) -> bytes:
    """The event with which this word comes."""
    return json.dumps({
        "openai-chat": {"choices": [{"index": 0, "delta": {}, "finish_reason": word}]},
        "anthropic": {"type": "message_delta", "delta": {"stop_reason": word}},
        "gemini": {"candidates": [{"finishReason": word}]},
        "ai-sdk": {"type": "finish", "finishReason": word},
    }[dialect]).encode()  # fmt: skip


def check_finish(dialect: str, words: list[str]) -> None:
    """Each word is in the table, and the reader says what the table says."""
    assert len(words) > 4
    assert set(words) <= set(FINISH[dialect]), "a new word: decide what it means"
    for word in words:
        reader = DIALECTS[dialect].reader()
        reader.read("message", ended(dialect, word))
        assert (reader.finish, reader.verdict) == (word, FINISH[dialect][word])


@pytest.fixture(scope="module")
def words() -> dict[str, dict[str, list[str]]]:
    """What the Python SDKs allow."""
    require(PYTHON.exists(), f"the official SDKs ({PYTHON}; scripts/real-setup venv)")
    script = Path(__file__).parent / "real_clients" / "words.py"
    done = subprocess.run([str(PYTHON), str(script)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    found: dict[str, dict[str, list[str]]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("dialect", ["openai-chat", "anthropic", "gemini"])
def test_every_finish_reason_is_judged_on_purpose(words: dict[str, Any], dialect: str) -> None:
    check_finish(dialect, words[dialect]["finish"])
    assert set(words[dialect]["finish"]) == set(FINISH[dialect])


def read(dialect: str, value: object) -> int:
    return DIALECTS[dialect].reader().read("message", json.dumps(value).encode())


def test_every_field_of_an_openai_delta_is_known(words: dict[str, Any]) -> None:
    called = {"name": "f", "arguments": "{}"}
    meant = {
        "content": ("x", TEXT), "refusal": ("x", TEXT), "tool_calls": ([{"index": 0, "function": called}], TOOL),
        "function_call": (called, TOOL), "role": ("assistant", NOTHING), "audio": ({"transcript": "x"}, NOTHING),
    }  # fmt: skip
    assert set(words["openai-chat"]["deltas"]) == set(meant)
    for name, (value, bits) in meant.items():
        assert read("openai-chat", {"choices": [{"index": 0, "delta": {name: value}}]}) == bits, name


def test_every_event_delta_and_block_of_anthropic_is_known(words: dict[str, Any]) -> None:
    sdk = words["anthropic"]
    events = {
        "message_start": NOTHING, "content_block_start": NOTHING, "content_block_delta": NOTHING,
        "content_block_stop": STEP, "message_delta": NOTHING, "message_stop": END,
    }  # fmt: skip
    assert set(sdk["events"]) == set(events)
    empty = {"content_block": {"type": "text", "text": ""}, "delta": {"type": "text_delta", "text": ""}}
    for kind, bits in events.items():
        assert read("anthropic", {"type": kind, **empty}) == bits, kind
    said = {"text": "x", "thinking": "x", "partial_json": "x", "data": "x", "name": "x", "content": "x"}
    deltas = {"text_delta": TEXT, "thinking_delta": REASONING, "input_json_delta": TOOL}
    silent = {"citations_delta", "signature_delta", "compaction_delta"}
    assert set(sdk["deltas"]) == deltas.keys() | silent
    for kind in sdk["deltas"]:
        bits = read("anthropic", {"type": "content_block_delta", "delta": {"type": kind, **said}})
        assert bits == deltas.get(kind, NOTHING), kind
    blocks = {"text": TEXT, "thinking": REASONING, "redacted_thinking": REASONING}
    blocks |= dict.fromkeys(("tool_use", "server_tool_use", "mcp_tool_use"), TOOL)
    results = {kind for kind in sdk["blocks"] if kind.endswith("_tool_result")}
    silent = {"container_upload", "compaction", "fallback", "mcp_tool_listing"}
    assert set(sdk["blocks"]) == blocks.keys() | silent | results
    assert len(results) >= 7
    for kind in sdk["blocks"]:
        bits = read("anthropic", {"type": "content_block_start", "content_block": {"type": kind, **said}})
        assert bits == blocks.get(kind, NOTHING), kind


def test_every_kind_of_error_of_anthropic_is_one_and_two_mean_too_much_load(words: dict[str, Any]) -> None:
    kinds = words["anthropic"]["errors"]
    assert {"overloaded_error", "rate_limit_error", "api_error"} < set(kinds)
    for kind in kinds:
        reader = DIALECTS["anthropic"].reader()
        data = json.dumps({"type": "error", "error": {"type": kind, "message": "words"}}).encode()
        assert reader.read("error", data) == ERROR
        assert reader.error is not None
        assert reader.error.overloaded is (kind in ("overloaded_error", "rate_limit_error")), kind


def test_every_part_and_every_refusal_of_gemini_is_known(words: dict[str, Any]) -> None:
    sdk = words["gemini"]
    said = {"text": ("x", TEXT), **dict.fromkeys(("functionCall", "executableCode", "toolCall"), ({"id": "x"}, TOOL))}
    silent = {
        "codeExecutionResult", "functionResponse", "toolResponse", "inlineData", "fileData", "thought",
        "thoughtSignature", "mediaResolution", "videoMetadata", "partMetadata", "audioTranscription", "mediaProcessing",
        "speechMetadata", "documentMetadata", "spreadsheetMetadata", "audioMetadata",
    }  # fmt: skip
    assert set(sdk["parts"]) == said.keys() | silent
    for name in sdk["parts"]:
        value, bits = said.get(name, (True if name == "thought" else {"x": 1}, NOTHING))
        assert read("gemini", {"candidates": [{"content": {"parts": [{name: value}]}}]}) == bits, name
    assert read("gemini", {"candidates": [{"content": {"parts": [{"text": "x", "thought": True}]}}]}) == REASONING
    assert len(sdk["blocked"]) >= 8
    for word in sdk["blocked"]:
        reader = DIALECTS["gemini"].reader()
        assert reader.read("message", json.dumps({"promptFeedback": {"blockReason": word}}).encode()) == END
        assert (reader.finish, reader.verdict) == (word, "filtered")


PACKAGES = ("ai-5", "ai", "ai-7")
AI_EVENTS = {
    "text-delta": TEXT, "reasoning-delta": REASONING, "error": ERROR, "abort": ERROR, "finish": END,
    **dict.fromkeys(("tool-input-start", "tool-input-delta", "tool-input-available", "tool-input-error"), TOOL),
    **dict.fromkeys(("start-step", "finish-step", "reset-step"), STEP),
    **dict.fromkeys((
        "start", "text-start", "text-end", "reasoning-start", "reasoning-end", "message-metadata", "custom",
        "tool-approval-request", "tool-approval-response", "tool-output-available", "tool-output-error",
        "tool-output-denied", "source-url", "source-document", "file", "reasoning-file", "steering-message",
    ), NOTHING),
}  # fmt: skip


def ui_message_words(package: str) -> tuple[list[str], list[str]]:
    """(types of events, finish reasons) out of the schema in the package's own code."""
    folder = NODE / "node_modules" / package / "dist"
    require(folder.exists(), f"the npm package {package} ({folder}; scripts/real-setup node)")
    code = next(file for file in (folder / "index.mjs", folder / "index.js") if file.exists()).read_text("utf-8")
    schema = code.partition("uiMessageChunkSchema = ")[2].partition("function isDataUIMessageChunk")[0]
    kinds = dict.fromkeys(re.findall(r'type: [\w$]+\.literal\("([a-z-]+)"\)', schema))
    kinds.pop("text", None)  # the part of a steering-message
    reasons = re.search(r"finishReason: .*?enum\(\[(.*?)\]", schema, re.DOTALL)
    assert reasons is not None
    return list(kinds), re.findall(r'"([a-z-]+)"', reasons[1])


@pytest.mark.parametrize("package", PACKAGES)
def test_every_event_and_finish_reason_of_the_ai_sdk_is_known(package: str) -> None:
    kinds, reasons = ui_message_words(package)
    assert len(kinds) > 20
    assert set(kinds) <= set(AI_EVENTS), "a new type: decide what it brings"
    said = {
        "delta": "x",
        "toolCallId": "c",
        "toolName": "f",
        "inputTextDelta": "x",
        "input": {"a": 1},
        "errorText": "e",
    }
    for kind in kinds:
        assert read("ai-sdk", {"type": kind, **said}) == AI_EVENTS[kind], kind
        assert DIALECTS["ai-sdk"].recognises("message", json.dumps({"type": kind, **said}).encode())
    check_finish("ai-sdk", reasons)


def test_together_the_versions_of_the_ai_sdk_have_every_word_that_we_know() -> None:
    found = [ui_message_words(package) for package in PACKAGES]
    assert {kind for kinds, _ in found for kind in kinds} == set(AI_EVENTS)
    assert {word for _, reasons in found for word in reasons} == set(FINISH["ai-sdk"])


@pytest.fixture(scope="module")
def spoken() -> dict[str, Any]:
    """What each version sends, to the route and back from it; Node runs once."""
    command = node()
    require(command and (NODE / "node_modules" / "ai-7").exists(), "Node with ai 5, 6, 7 (scripts/real-setup)")
    script = Path(__file__).parent / "real_clients" / "ai_speaks.mjs"
    done = subprocess.run(
        [str(command), str(script), str(NODE), *PACKAGES], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_an_answer_whose_provider_was_cut_is_truncated(spoken: dict[str, Any], package: str) -> None:
    got = transcript(DIALECTS["ai-sdk"], spoken[package]["cut"])
    assert (got.text, got.reader.verdict) == ("half an ", "truncated"), spoken[package]["cut"]


@pytest.mark.parametrize("package", PACKAGES)
def test_we_send_what_useChat_sends(spoken: dict[str, Any], package: str) -> None:
    theirs = spoken[package]["sent"]
    ask = Ask('Say "hi"\nπ', chat_id="chat-1", message_id="message-1", extra={"own": 1})
    asked = DIALECTS["ai-sdk"].request(DIALECTS["ai-sdk"].default_path, ask)
    assert (asked.path, json.loads(asked.body)) == (theirs["url"], theirs["body"])
    assert theirs["headers"]["content-type"] == dict(asked.headers)["content-type"]
