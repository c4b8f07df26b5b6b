"""Run by the Python that has the official SDKs: each reads a stream of the simulator and says what it understood.

Standard input: a JSON list of {dialect, url, model, headers}. Standard output: a JSON list, in the same order, of
{text, reasoning, tools, finish, usage, error, id}. It imports nothing of the product.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import anthropic
import openai
from google import genai
from google.genai import types

warnings.simplefilter("error", UserWarning)  # a model that does not fit its schema warns, and that is a failure here


def read_openai(job: dict[str, Any], told: dict[str, Any]) -> None:
    client = openai.OpenAI(base_url=job["url"] + "/v1", api_key="none", max_retries=0)
    stream = client.chat.completions.create(
        model=job["model"],
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
        stream_options={"include_usage": True},
        extra_headers=job["headers"],
    )
    told["id"] = stream.response.headers["x-request-id"]
    calls: dict[int, list[str]] = {}
    for chunk in stream:
        if chunk.usage:
            details = chunk.usage.completion_tokens_details
            told["usage"] = [
                chunk.usage.prompt_tokens,
                chunk.usage.completion_tokens,
                details and details.reasoning_tokens,
            ]
        for choice in chunk.choices:
            told["text"] += choice.delta.content or ""
            told["reasoning"] += (choice.delta.model_extra or {}).get("reasoning_content") or ""
            told["finish"] = choice.finish_reason or told["finish"]
            for call in choice.delta.tool_calls or []:
                assert call.function is not None
                parts = calls.setdefault(call.index, ["", ""])
                parts[0] += call.function.name or ""
                parts[1] += call.function.arguments or ""
    told["tools"] = [[name, json.loads(args)] for name, args in calls.values()]


def read_anthropic(job: dict[str, Any], told: dict[str, Any]) -> None:
    client = anthropic.Anthropic(base_url=job["url"], api_key="none", max_retries=0)
    with client.messages.stream(
        model=job["model"],
        max_tokens=1000,
        messages=[{"role": "user", "content": "hello"}],
        extra_headers=job["headers"],
    ) as stream:
        told["id"] = stream.request_id
        told["text"] = "".join(stream.text_stream)
        message = stream.get_final_message()
    told["reasoning"] = "".join(block.thinking for block in message.content if block.type == "thinking")
    told["tools"] = [[block.name, block.input] for block in message.content if block.type == "tool_use"]
    told["finish"] = message.stop_reason
    told["usage"] = [message.usage.input_tokens, message.usage.output_tokens, None]
    assert all(block.signature for block in message.content if block.type == "thinking")


def read_gemini(job: dict[str, Any], told: dict[str, Any]) -> None:
    for version in ("v1beta", "v1"):
        options = types.HttpOptions(base_url=job["url"], api_version=version, headers=job["headers"])
        client = genai.Client(api_key="none", http_options=options)
        told.update(text="", reasoning="", tools=[])
        for chunk in client.models.generate_content_stream(model=job["model"], contents="hello"):
            told["id"] = chunk.response_id
            usage = chunk.usage_metadata
            if usage:
                told["usage"] = [usage.prompt_token_count, usage.candidates_token_count, usage.thoughts_token_count]
            candidate = (chunk.candidates or [None])[0]
            if candidate is None:
                continue
            told["finish"] = candidate.finish_reason.value if candidate.finish_reason else told["finish"]
            for part in (candidate.content and candidate.content.parts) or []:
                if part.function_call:
                    told["tools"].append([part.function_call.name, part.function_call.args])
                elif part.text:
                    told["reasoning" if part.thought else "text"] += part.text


READ = {"openai-chat": read_openai, "anthropic": read_anthropic, "gemini": read_gemini}


def main() -> None:
    answers = []
    for job in json.load(sys.stdin):
        told: dict[str, Any] = {"text": "", "reasoning": "", "tools": [], "finish": None, "usage": None, "error": None}
        try:
            READ[job["dialect"]](job, told)
        except Exception as e:
            told["error"] = [type(e).__name__, str(e)]
        answers.append(told)
    json.dump(answers, sys.stdout)


main()
