"""A chat that goes on after an answer that ended early: what the next turn is asked with, and when a new one begins."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cli import streamgauge
from streamgauge.chat import GO_ON, KEPT, Chat, after, begun
from streamgauge.dialects import DIALECTS
from streamgauge.dialects.contract import Ask
from streamgauge.stream import Stream
from test_stream import DONE, HEAD, LAST, MS, STOP, event, fed, stream

CHAT = Chat("c-1", "Why?", "Because", 3_000 * MS)
LIFE = 10_000 * MS


def said(text: str, at_ms: int, *, whole: bool = True) -> Stream:
    """A stream that kept its text and ended so long after it was sent."""
    reads = [(1, 0, HEAD + event(content=text)), *([(at_ms, 1, STOP + DONE + LAST)] if whole else [])]
    made = fed(*reads, made=stream(keep_text=True))
    made.on_close(made.sent_ns + at_ms * MS if made.sent_ns is not None else 0)
    return made


def test_an_answer_that_ended_early_is_gone_on_from() -> None:
    first = after(begun("Why?"), said("It rains.", 2_000), LIFE)
    assert first is not None
    assert (first.prompt, first.before, first.lasted_ns) == (GO_ON, (("Why?", "It rains."),), 2_000 * MS)
    second = after(first, said("Still.", 3_000), LIFE)
    assert second == Chat(first.id, "Why?", "Still.", 5_000 * MS), "the turn before the last is not sent again"


@pytest.mark.parametrize(
    ("chat", "turn"),
    [
        pytest.param(CHAT, said("More", 7_000), id="its answers lasted as long as one was to"),
        pytest.param(CHAT, said("More", 2_000, whole=False), id="the turn was lost"),
        pytest.param(begun("Why?"), said("", 2_000), id="it said nothing"),
    ],
)
def test_a_chat_is_over(chat: Chat, turn: Stream) -> None:
    assert after(chat, turn, LIFE) is None


def test_a_turn_is_no_longer_than_the_end_of_the_last_answer() -> None:
    chat = after(CHAT, said("x" * KEPT + "end", 1_000), LIFE)
    assert chat is not None
    assert chat.said == "x" * (KEPT - 3) + "end"


def messages(dialect: str, body: dict[str, Any]) -> list[tuple[str, str]]:
    """(role, text) of a request as its API reads it."""
    if dialect == "gemini":
        return [(one["role"].replace("model", "assistant"), one["parts"][0]["text"]) for one in body["contents"]]
    if dialect == "ai-sdk":
        assert len({one["id"] for one in body["messages"]}) == len(body["messages"])
        return [(one["role"], one["parts"][0]["text"]) for one in body["messages"]]
    return [(one["role"], one["content"]) for one in body["messages"]]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_sends_the_turns_before(dialect: str) -> None:
    ask = Ask(prompt="Go on.", model="m", before=(("Why?", "Because"), ("And?", "So")), chat_id="c-1")
    body = json.loads(DIALECTS[dialect].request(DIALECTS[dialect].default_path, ask).body)
    turns = [("user", "Why?"), ("assistant", "Because"), ("user", "And?"), ("assistant", "So"), ("user", "Go on.")]
    assert messages(dialect, body) == turns
    assert dialect != "ai-sdk" or body["id"] == "c-1"


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(url, bodies it got): a model that has said it all after three words."""
    bodies: list[dict[str, Any]] = []

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            one = b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'
            words = b"".join(one % word for word in (b"one ", b"two ", b"3"))
            out = words + b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("content-length", str(len(out)))
            self.end_headers()
            self.wfile.write(out)

        def log_message(self, *_: object) -> None:
            """Nothing is said of a request."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}/v1/chat/completions", bodies
        made.shutdown()
        thread.join()


def test_endurance_asks_a_model_that_ends_early_to_go_on(
    tmp_path: Path, server: tuple[str, list[dict[str, Any]]]
) -> None:
    url, bodies = server
    sets = [word for one in ("stream=2s", "duration=3s", "concurrency=2", "think_time=0.3s")
            for word in ("--set", f"tests.endurance.{one}")]  # fmt: skip
    streamgauge("run", "endurance", "--url", url, "--model", "m", *sets, "-q", "-y", cwd=tmp_path)
    chats = [messages("openai-chat", body) for body in bodies]
    begins = {one[0][1] for one in chats if len(one) == 1}
    later = [one for one in chats if len(one) == 3]

    assert len(later) >= 4
    assert all(one[1:] == [("assistant", "one two 3"), ("user", GO_ON)] for one in later)
    assert {one[0][1] for one in later} <= begins
    assert len({one[0][1] for one in later}) == 2, "a chat for each slot"


def test_a_body_of_ones_own_has_one_place_for_a_prompt_and_is_asked_anew(
    tmp_path: Path, server: tuple[str, list[dict[str, Any]]]
) -> None:
    url, bodies = server
    body = '{"messages":[{"role":"user","content":"{prompt}"}],"stream":true}'
    (tmp_path / "streamgauge.toml").write_text(
        f"[targets.app]\nurl = '{url}'\ndialect = 'openai-chat'\nbody = '{body}'\n"
        "[tests.endurance]\nstream = '2s'\nduration = '2.2s'\nconcurrency = 1\nthink_time = '0.4s'\n"
    )
    streamgauge("run", "endurance", "-q", "-y", cwd=tmp_path)
    asked = [messages("openai-chat", body) for body in bodies]
    assert len(asked) >= 3
    assert all(len(one) == 1 and one[0][1] != GO_ON for one in asked)
