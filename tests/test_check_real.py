"""`check` against a chat route of the AI SDK in Node, in each of its ways to answer and to fail."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from real import NODE, node, require
from streamgauge.check.look import Looked, look
from streamgauge.client import target_from_url
from streamgauge.clock import SystemClock
from test_real_targets import BAD, GOOD, TOKENS, Server, serving

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    require(node() and (NODE / "node_modules/ai/package.json").exists(), "npm package ai (scripts/real-setup node)")
    with serving("ai_server.mjs", tmp_path_factory.mktemp("ai") / "log.jsonl") as running:
        yield running


def asked(server: Server, mode: str, **more: str) -> Looked:
    url = f"http://127.0.0.1:{server.port}/api/chat?mode={mode}"
    return look(target_from_url(url, **{"dialect": "ai-sdk", **more}), SystemClock(), prompt="How are you?")


@pytest.mark.parametrize("mode", GOOD)
def test_a_real_chat_route_is_usable_and_told_as_it_answered(server: Server, mode: str) -> None:
    looked = asked(server, mode)
    found = {finding.what: finding for finding in looked.findings}
    assert looked.usable
    assert found["finish"].facts["outcome"] == GOOD[mode]
    usage = found["usage"].facts
    assert (usage["input_tokens"], usage["output_tokens"], usage["reasoning_tokens"]) == TOKENS[mode]
    assert found["events"].facts["unknown_events"] == 0
    assert found["status"].facts["answered_by"] == "the app (AI SDK)"
    assert looked.length is None if mode == "capped" else looked.length[0] == usage["output_tokens"]


@pytest.mark.parametrize("mode", BAD)
def test_a_real_chat_route_that_fails_is_told_by_its_outcome(server: Server, mode: str) -> None:
    looked = asked(server, mode)
    assert not looked.usable
    assert looked.findings[-1].facts["outcome"] == BAD[mode]
    assert looked.findings[-1].next


def test_a_real_chat_route_asked_in_another_dialect_is_named(server: Server) -> None:
    body = '{"id":"{chat}","messages":[{"id":"{uuid}","role":"user","parts":[{"type":"text","text":"{prompt}"}]}]}'
    last = asked(server, "text", dialect="openai-chat", body=body, model="m").findings[-1]
    assert (last.what, last.facts["spoken"]) == ("dialect", "ai-sdk"), json.dumps(last.facts)
