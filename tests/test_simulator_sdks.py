"""The official SDKs judge the simulator: they read its streams without complaint and understand what it logged."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from real import NODE, PYTHON, require
from streamgauge.simulator import Simulator, start

pytestmark = pytest.mark.real
HERE = Path(__file__).parent / "real_clients"
SDKS = {"openai-chat": "openai", "anthropic": "anthropic", "gemini": "google-genai"}
TOOL = ["tool", "weather", {"city": "Oslo", "days": [1, 2]}, {"pieces": 4, "ms": 1, "output": {"t": 4}}]
FINISH = {
    "openai-chat": {"stop": "stop", "tool": "tool_calls", "length": "length", "content_filter": "content_filter"},
    "anthropic": {"stop": "end_turn", "tool": "tool_use", "length": "max_tokens", "content_filter": "refusal"},
    "gemini": {"stop": "STOP", "tool": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"},
    "ai-sdk": {"stop": "stop", "tool": "tool-calls", "length": "length", "content_filter": "content-filter"},
}


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with start() as running:
        yield running


def random_script(rng: random.Random) -> list[list[object]]:
    """Text, reasoning, tools, pauses, several events in a write, one event over several, signs of life."""
    steps: list[list[object]] = [["wait", rng.randrange(5)]]
    pieces = ["Hi", " there", "\n\n", "é", "日本", '"q"', "\\", "🙂", " ", "{}", "data: x", "\u2028"]
    for _ in range(rng.randrange(4)):
        steps.append(["reasoning", rng.choice(pieces)])
    for _ in range(rng.randrange(1, 9)):
        if rng.random() < 0.2:
            steps.append(["merge", rng.randrange(2, 4)])
        elif rng.random() < 0.2:
            steps.append(["split", rng.randrange(2, 6), 1])
        elif rng.random() < 0.2:
            steps.append(["ping"])
        steps.append(["text", rng.choice(pieces)])
        steps.append(["wait", rng.randrange(3)])
    if rng.random() < 0.4:
        steps.append(TOOL)
    else:
        steps.append(["finish", rng.choice(["stop", "length", "content_filter"])])
    return steps


def said(steps: list[list[object]], kind: str) -> str:
    return "".join(str(step[1]) for step in steps if step[0] == kind)


def finish_of(dialect: str, steps: list[list[object]]) -> str:
    return FINISH[dialect]["tool" if steps[-1] is TOOL else str(steps[-1][1])]


def headers(steps: list[list[object]], mark: str) -> dict[str, str]:
    return {"x-sim-script": json.dumps(steps), "traceparent": f"00-{mark}-{'1' * 16}-01"}


def understood(command: list[str], jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    done = subprocess.run(command, input=json.dumps(jobs), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def by_sdk(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    require(PYTHON.exists(), f"the official SDKs ({PYTHON}; scripts/real-setup venv)")
    return understood([str(PYTHON), str(HERE / "sdks.py")], jobs)


@pytest.mark.parametrize("dialect", SDKS)
def test_the_official_sdk_understands_what_the_log_says_was_sent(sim: Simulator, dialect: str):
    rng = random.Random(dialect)
    scripts = [random_script(rng) for _ in range(40)]
    marks = [f"{rng.getrandbits(128):032x}" for _ in scripts]
    jobs = [
        {"dialect": dialect, "url": sim.url, "model": "m", "headers": headers(steps, mark)}
        for steps, mark in zip(scripts, marks, strict=True)
    ]
    answers = by_sdk(jobs)
    records = {record.trace_id: record for record in sim.log(at_least=len(jobs))}
    for steps, mark, answer in zip(scripts, marks, answers, strict=True):
        assert answer["error"] is None, (steps, answer)
        assert answer["text"] == said(steps, "text")
        assert answer["reasoning"] == said(steps, "reasoning")
        assert answer["tools"] == ([["weather", TOOL[2]]] if steps[-1] is TOOL else [])
        assert answer["finish"] == finish_of(dialect, steps)
        assert answer["id"]
        record = records[mark]
        assert record.text_events == sum(step[0] == "text" for step in steps)
        assert record.usage is not None
        given, out, thought = answer["usage"]
        assert given == record.usage["input"]
        if dialect == "gemini":
            assert (out or 0) + (thought or 0) == record.usage["output"]
        else:
            assert out == record.usage["output"]
        assert dialect == "anthropic" or (thought or 0) == record.usage["reasoning"]


FAILURES = [
    *((dialect, fault, error) for dialect, error in (("openai-chat", "APIError"), ("anthropic", "Error"),
                                                     ("gemini", "ServerError")) for fault in ("error", "overload")),
    ("openai-chat", "429", "RateLimitError"), ("openai-chat", "401", "AuthenticationError"),
    ("openai-chat", "500", "InternalServerError"), ("anthropic", "429", "RateLimitError"),
    ("anthropic", "401", "AuthenticationError"), ("anthropic", "529", "OverloadedError"),
    ("gemini", "429", "ClientError"), ("gemini", "503", "ServerError"),
]  # fmt: skip


@pytest.fixture(scope="module")
def failed(sim: Simulator) -> dict[tuple[str, str], Any]:
    """What each SDK made of each failure; they run once."""
    asked = [(dialect, fault) for dialect, fault, _ in FAILURES]
    jobs = [{"dialect": d, "url": sim.url, "model": "m", "headers": {"x-sim-fault": fault}} for d, fault in asked]
    return dict(zip(asked, by_sdk(jobs), strict=True))


@pytest.mark.parametrize(("dialect", "fault", "error"), FAILURES)
def test_the_official_sdk_knows_the_providers_errors_of_http_and_inside_the_stream(
    failed: dict[tuple[str, str], Any], dialect: str, fault: str, error: str
):
    answer = failed[dialect, fault]
    assert answer["error"] is not None
    assert answer["error"][0].endswith(error), answer


def by_ai_sdk(jobs: list[dict[str, Any]], package: str = "ai") -> list[dict[str, Any]]:
    node = shutil.which("node")
    there = (NODE / "node_modules" / package).exists()
    require(node and there, f"Node with the npm package {package} ({NODE}; scripts/real-setup node)")
    return understood([str(node), str(HERE / "ai_chunks.mjs"), str(NODE), package], jobs)


@pytest.mark.parametrize("package", ["ai-5", "ai", "ai-7"])
def test_the_ai_sdk_accepts_every_event_and_makes_the_same_message(sim: Simulator, package: str):
    rng = random.Random(package)
    scripts = [random_script(rng) for _ in range(60)]
    scripts.append([["text", "a"], ["step"], ["text", "b"], ["usage", {"input": 3, "output": 9}], ["finish", "stop"]])
    marks = [f"{rng.getrandbits(128):032x}" for _ in scripts]
    jobs = [
        {"url": sim.endpoint("ai-sdk"), "headers": headers(steps, mark)}
        for steps, mark in zip(scripts, marks, strict=True)
    ]
    answers = by_ai_sdk(jobs, package)
    for steps, answer in zip(scripts, answers, strict=True):
        assert answer["bad"] == [], steps
        assert answer["error"] is None
        assert answer["text"] == said(steps, "text")
        assert answer["reasoning"] == said(steps, "reasoning")
        assert answer["tools"] == ([["weather", "output-available", TOOL[2], {"t": 4}]] if steps[-1] is TOOL else [])
        assert answer["finish"] == ("stop" if steps[-1] is TOOL else finish_of("ai-sdk", steps))
        assert answer["chunks"] >= 7


@pytest.mark.parametrize("fault", ["error", "error:at=0", "overload"])
def test_the_ai_sdk_accepts_the_events_of_a_failure_and_tells_it(sim: Simulator, fault: str):
    answer = by_ai_sdk([{"url": sim.endpoint("ai-sdk"), "headers": {"x-sim-fault": fault}}])[0]
    assert answer["bad"] == []
    assert answer["error"] in ("An error occurred.", "Overloaded")


def test_the_ai_sdk_accepts_an_abort(sim: Simulator):
    job = {"url": sim.endpoint("ai-sdk"), "headers": headers([["text", "a"], ["abort"]], "1" * 32)}
    answer = by_ai_sdk([job])[0]
    assert (answer["bad"], answer["text"], answer["finish"]) == ([], "a", None)
