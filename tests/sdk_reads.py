"""Run by the Python that has the official SDKs: each reads streams from a loopback server and says what it understood.

Standard input: a JSON list of {sdk, stream, ask}. Standard output: a JSON list of {text, reasoning, tool, finish,
usage, error, sent: {path, body, version}} in the same order. It imports nothing of the product.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anthropic
import openai
from google import genai
from google.genai import types


class Server(BaseHTTPRequestHandler):
    """Answers every POST with the stream it was given, and keeps the last request."""

    stream = b""
    sent: dict[str, Any] = {}  # noqa: RUF012

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        version = self.headers.get("anthropic-version")
        Server.sent = {"path": self.path, "body": json.loads(body), "version": version}
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(Server.stream)))
        self.end_headers()
        self.wfile.write(Server.stream)

    def log_message(self, *args: object) -> None:
        pass


def by_openai(base: str, ask: dict[str, Any], told: dict[str, Any]) -> None:
    client = openai.OpenAI(base_url=base + "/v1", api_key="none", max_retries=0)
    stream = client.chat.completions.create(
        model=ask["model"],
        messages=[{"role": "system", "content": ask["system"]}, {"role": "user", "content": ask["prompt"]}],
        max_tokens=ask["max_tokens"],
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in stream:
        for choice in chunk.choices:
            told["text"] += choice.delta.content or ""
            told["reasoning"] += (choice.delta.model_extra or {}).get("reasoning_content") or ""
            for call in choice.delta.tool_calls or []:
                told["tool"] += (call.function.name or "") + (call.function.arguments or "")
            told["finish"] = choice.finish_reason or told["finish"]
        if chunk.usage:
            usage = chunk.usage
            told["usage"] = [
                usage.prompt_tokens,
                usage.completion_tokens,
                usage.completion_tokens_details.reasoning_tokens,
                usage.prompt_tokens_details.cached_tokens,
            ]


def by_anthropic(base: str, ask: dict[str, Any], told: dict[str, Any]) -> None:
    client = anthropic.Anthropic(base_url=base, api_key="none", max_retries=0)
    with client.messages.stream(
        model=ask["model"],
        system=ask["system"],
        messages=[{"role": "user", "content": ask["prompt"]}],
        max_tokens=ask["max_tokens"],
    ) as stream:
        for event in stream:
            if event.type == "text":
                told["text"] += event.text
            elif event.type == "thinking":
                told["reasoning"] += event.thinking
            elif event.type == "input_json":
                told["tool"] += event.partial_json
            elif event.type == "content_block_start" and event.content_block.type == "tool_use":
                told["tool"] += event.content_block.name
        final = stream.get_final_message()
        told["finish"] = final.stop_reason
        usage = final.usage
        cache = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
        told["usage"] = [usage.input_tokens + cache, usage.output_tokens, None, usage.cache_read_input_tokens]


def by_gemini(base: str, ask: dict[str, Any], told: dict[str, Any]) -> None:
    client = genai.Client(api_key="none", http_options=types.HttpOptions(base_url=base, api_version="v1beta"))
    config = types.GenerateContentConfig(max_output_tokens=ask["max_tokens"], system_instruction=ask["system"])
    for chunk in client.models.generate_content_stream(model=ask["model"], contents=ask["prompt"], config=config):
        for candidate in chunk.candidates or []:
            for part in (candidate.content.parts if candidate.content else None) or []:
                if part.function_call:
                    told["tool"] += part.function_call.name
                told["reasoning" if part.thought else "text"] += part.text or ""
            if candidate.finish_reason:
                told["finish"] = candidate.finish_reason.value
        if usage := chunk.usage_metadata:
            output = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
            told["usage"] = [
                usage.prompt_token_count,
                output,
                usage.thoughts_token_count,
                usage.cached_content_token_count,
            ]


SDKS = {"openai-chat": by_openai, "anthropic": by_anthropic, "gemini": by_gemini}


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    results = []
    for job in json.load(sys.stdin):
        Server.stream = job["stream"].encode()
        told: dict[str, Any] = {"text": "", "reasoning": "", "tool": "", "finish": None, "usage": None, "error": None}
        try:
            SDKS[job["sdk"]](base, job["ask"], told)
        except Exception as error:
            told["error"] = f"{type(error).__name__}: {error}"
        results.append({**told, "sent": Server.sent})
    json.dump(results, sys.stdout)


main()
