"""A stream in another dialect than the one asked for is told as that, by name, and never as a broken answer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import pytest

from streamgauge.client import StreamClient
from streamgauge.dialects import DIALECTS
from streamgauge.dialects.contract import Ask
from streamgauge.sample import Outcome
from streamgauge.simulator import Simulator, start
from test_stream import COMMENT, DONE, HEAD, LAST, data, ended, fed, stream

MODEL = "sim-t0-i0-n5"
PAIRS = list(permutations(DIALECTS, 2))

BEGINNINGS: dict[str, dict[str, object]] = {
    "openai-chat": {"choices": [{"index": 0, "delta": {"role": "assistant"}}]},
    "anthropic": {"type": "message_start", "message": {}},
    "gemini": {"candidates": [{"content": {"role": "model"}}]},
    "ai-sdk": {"type": "start"},
}
"""The first event of each dialect, without output."""


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with start(log=False, model=MODEL) as sim:
        yield sim


@pytest.mark.parametrize(("asked", "spoken"), PAIRS)
def test_a_whole_stream_of_another_dialect_is_a_protocol_error_that_names_it(
    simulator: Simulator, asked: str, spoken: str
) -> None:
    path = DIALECTS[spoken].default_path
    body = DIALECTS[spoken].request(path, Ask("Hi", model=MODEL, max_tokens=5)).body.decode()
    with StreamClient(simulator.endpoint(spoken, MODEL), dialect=asked, model=MODEL, body=body) as client:
        answer = client.ask("Hi")
    assert (answer.outcome, answer.sample.http_status) == (Outcome.PROTOCOL_ERROR, 200)
    assert f"it speaks {spoken}, not {asked}; it begins: " in (answer.sample.error or "")


@pytest.mark.parametrize(("asked", "spoken"), PAIRS)
def test_one_event_of_the_dialect_is_enough_for_a_stream_of_it(asked: str, spoken: str) -> None:
    mixed = data(BEGINNINGS[spoken]) * 3 + data(BEGINNINGS[asked])
    assert ended(fed((1, 0, HEAD + mixed + LAST), made=stream(asked))).outcome is Outcome.TRUNCATED


@pytest.mark.parametrize("asked", DIALECTS)
def test_a_last_word_that_every_dialect_knows_proves_none(asked: str) -> None:
    other = next(name for name in DIALECTS if name != asked)
    made = fed((1, 0, HEAD + COMMENT + data(BEGINNINGS[other]) + DONE + LAST), made=stream(asked))
    assert ended(made).outcome is Outcome.PROTOCOL_ERROR


def test_a_foreign_stream_that_never_ends_is_told_when_the_first_token_is_overdue() -> None:
    made = fed((1, 0, HEAD + data(BEGINNINGS["anthropic"])))
    assert made.deadline is not None
    made.on_timer(made.deadline)
    assert made.sample().outcome is Outcome.PROTOCOL_ERROR
