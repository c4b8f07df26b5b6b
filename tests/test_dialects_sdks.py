"""The official SDKs as judges: what they understand of a stream our readers understand, and what they send we send.

Streams are made at random (text, reasoning, tool calls, every finish, usage, pings, errors) by a generator that knows
the wire and shares nothing with the readers. They are read once by `openai`, `anthropic` and `google-genai` in a Python
of their own (STREAMGAUGE_REAL_PYTHON, default .real/venv/bin/python) and once here.
"""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from real import PYTHON, require
from streamgauge.dialects import DIALECTS, with_options
from streamgauge.dialects.contract import ERROR, REASONING, TEXT, TOOL, Ask
from streamgauge.dialects.errors import bare_error
from streamgauge.sse import SseDecoder

pytestmark = pytest.mark.real

ASK = {"prompt": 'Say "hi"\nπ', "model": "model-x", "max_tokens": 32, "system": "Be brief"}
WORDS = ["Hi", " there", "\n\n", "é", "日本", '"q"', "\\", "🙂", " ", "{}", "data: x", "\u2028"]
EACH = 60


def data(value: object, event: str | None = None) -> str:
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(value, ensure_ascii=False)}\n\n"


def pieces(rng: random.Random) -> list[tuple[str, list[str]]]:
    """A random answer: blocks of text, reasoning or a tool call, each with its pieces."""
    blocks: list[tuple[str, list[str]]] = []
    if rng.random() < 0.4:
        blocks.append(("reasoning", rng.choices(WORDS, k=rng.randrange(1, 5))))
    if rng.random() < 0.9:
        blocks.append(("text", rng.choices([*WORDS, ""], k=rng.randrange(1, 9))))
    if rng.random() < 0.4:
        blocks.append(("tool", ['{"city":', ' "Oslo', '"}']))
    return blocks


def openai_stream(rng: random.Random) -> str:
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "model-x"}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
        return data({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": None})

    out = [chunk({"role": "assistant", "content": ""})]
    for kind, parts in pieces(rng):
        for i, part in enumerate(parts):
            if kind == "tool":
                function = {"arguments": part} | ({"name": "weather"} if i == 0 else {})
                call = {"index": 0, "function": function} | ({"id": "call_1", "type": "function"} if i == 0 else {})
                out.append(chunk({"tool_calls": [call]}))
            else:
                out.append(chunk({"content" if kind == "text" else "reasoning_content": part}))
    if rng.random() < 0.1:
        return "".join([*out, data({"error": {"message": "boom", "type": "server_error"}})])
    out.append(chunk({}, rng.choice(["stop", "length", "tool_calls", "content_filter"])))
    usage = {"prompt_tokens": rng.randrange(99), "completion_tokens": rng.randrange(99), "total_tokens": 9}
    usage |= {"prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 4}}  # type: ignore[dict-item]
    out.append(data({**base, "choices": [], "usage": usage}))
    return "".join([*out, "data: [DONE]\n\n"])


def anthropic_stream(rng: random.Random) -> str:
    usage = {"input_tokens": rng.randrange(99), "cache_read_input_tokens": 5, "cache_creation_input_tokens": 2}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "model-x"}
    message |= {"stop_reason": None, "stop_sequence": None, "usage": {**usage, "output_tokens": 1}}
    out = [data({"type": "message_start", "message": message}, "message_start")]
    starts = {"text": {"text": ""}, "reasoning": {"thinking": "", "signature": ""}}
    names = {"text": "text", "reasoning": "thinking", "tool": "input_json"}
    for i, (kind, parts) in enumerate(pieces(rng)):
        block: dict[str, Any] = {"type": "text" if kind == "text" else "thinking", **starts.get(kind, {})}
        if kind == "tool":
            block = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
        out.append(data({"type": "content_block_start", "index": i, "content_block": block}, "content_block_start"))
        if rng.random() < 0.5:
            out.append(data({"type": "ping"}, "ping"))
        for part in parts:
            key = "partial_json" if kind == "tool" else names[kind]
            delta = {"type": f"{names[kind]}_delta", key: part}
            out.append(data({"type": "content_block_delta", "index": i, "delta": delta}, "content_block_delta"))
        if kind == "reasoning":
            delta = {"type": "signature_delta", "signature": "Eq"}
            out.append(data({"type": "content_block_delta", "index": i, "delta": delta}, "content_block_delta"))
        out.append(data({"type": "content_block_stop", "index": i}, "content_block_stop"))
    if rng.random() < 0.1:
        error = {"type": "overloaded_error", "message": "Overloaded"}
        return "".join([*out, data({"type": "error", "error": error}, "error")])
    stop = rng.choice(["end_turn", "max_tokens", "tool_use", "refusal", "stop_sequence", "pause_turn"])
    delta = {"stop_reason": stop, "stop_sequence": None}  # type: ignore[dict-item]
    ended = {"type": "message_delta", "delta": delta, "usage": {"output_tokens": rng.randrange(1, 99)}}
    return "".join([*out, data(ended, "message_delta"), data({"type": "message_stop"}, "message_stop")])


def gemini_stream(rng: random.Random) -> str:
    prompt = rng.randrange(1, 99)
    out = []
    for kind, found in pieces(rng):
        parts: list[dict[str, Any]] = [{"text": part} for part in found]
        if kind == "tool":
            parts = [{"functionCall": {"name": "weather", "args": {"city": "Oslo"}}}]
        while parts:
            n = rng.randrange(1, 3)
            now = [part | ({"thought": True} if kind == "reasoning" else {}) for part in parts[:n]]
            candidate = {"content": {"role": "model", "parts": now}, "index": 0}
            out.append(data({"candidates": [candidate], "usageMetadata": {"promptTokenCount": prompt}}))
            parts = parts[n:]
    if rng.random() < 0.1:
        error = {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}
        bare = json.dumps(error, indent=2)  # line by line, no event: the SDK reads both
        return "".join([*out, rng.choice([data(error), bare, bare + "\n"])])
    usage = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": 7,
        "thoughtsTokenCount": 5,
        "cachedContentTokenCount": 3,
    }
    finish = rng.choice(["STOP", "MAX_TOKENS", "SAFETY", "OTHER", "MALFORMED_FUNCTION_CALL"])
    last = {"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": finish, "index": 0}
    return "".join([*out, data({"candidates": [last], "usageMetadata": usage, "modelVersion": "model-x"})])


STREAMS = {"openai-chat": openai_stream, "anthropic": anthropic_stream, "gemini": gemini_stream}


def ours(name: str, stream: str) -> dict[str, Any]:
    """What our decoder and reader understand of it, in the SDK script's form."""
    reader, decoder = DIALECTS[name].reader(), SseDecoder()
    told: dict[str, Any] = {"text": "", "reasoning": "", "tool": "", "finish": None, "usage": None, "error": None}
    for event, body in decoder.feed(stream.encode()):
        bits = reader.read(event, body)
        for bit, kind in ((TEXT, "text"), (REASONING, "reasoning"), (TOOL, "tool")):
            if bits & bit:
                told[kind] += json.loads(reader.text)["name"] if (name, bit) == ("gemini", TOOL) else reader.text
        if bits & ERROR:
            told["error"] = reader.error.message if reader.error else ""
    bare = bare_error(decoder.unfinished_stray or b"".join(text for _, text in decoder.strays))
    if bare is not None and reader.read(*bare) & ERROR:
        told["error"] = reader.error.message if reader.error else ""
    told["finish"] = reader.finish
    if usage := reader.usage:
        told["usage"] = [usage.input, usage.output, usage.reasoning, usage.cached]
    return told


@pytest.fixture(scope="module")
def judged() -> list[tuple[str, str, dict[str, Any]]]:
    """(dialect, stream, what its SDK understood and sent) of all streams; the SDKs run once."""
    imports = [str(PYTHON), "-c", "import openai, anthropic, google.genai"]
    there = PYTHON.exists() and subprocess.run(imports, capture_output=True, timeout=300).returncode == 0
    require(there, f"a Python with openai, anthropic and google-genai ({PYTHON})")
    rng = random.Random(20_261_124)
    jobs = [{"sdk": name, "stream": make(rng), "ask": ASK} for name, make in STREAMS.items() for _ in range(EACH)]
    script = Path(__file__).with_name("sdk_reads.py")
    done = subprocess.run(
        [str(PYTHON), str(script)], input=json.dumps(jobs), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    results = json.loads(done.stdout)
    return [(str(job["sdk"]), str(job["stream"]), told) for job, told in zip(jobs, results, strict=True)]


def test_each_sdk_and_our_reader_understand_the_same(judged: list[tuple[str, str, dict[str, Any]]]) -> None:
    errors = 0
    for name, stream, sdk in judged:
        mine = ours(name, stream)
        if sdk["error"] or mine["error"]:  # the SDK raises where the reader says ERROR
            assert sdk["error"], (name, mine, stream)
            assert mine["error"], (name, sdk, stream)
            errors += 1
            continue
        for key in ("text", "reasoning", "tool", "finish", "usage"):
            assert mine[key] == sdk[key], (name, key, mine, sdk, stream)
    assert 0 < errors < len(judged) // 3


def test_we_send_what_each_sdk_sends(judged: list[tuple[str, str, dict[str, Any]]]) -> None:
    for name in STREAMS:
        sent = next(told["sent"] for dialect, _, told in judged if dialect == name)
        options = {"version": sent["version"]} if sent["version"] else {}  # ours is the oldest, theirs the newest
        asked = with_options(name, options).request(DIALECTS[name].default_path, Ask(**ASK))  # type: ignore[arg-type]
        assert asked.path == sent["path"]
        assert dict(asked.headers).get("anthropic-version") == sent["version"]
        mine, theirs = json.loads(asked.body), sent["body"]
        if name == "gemini":  # the SDK gives the instruction a role, which the API ignores
            theirs["systemInstruction"].pop("role", None)
        assert mine == theirs
