"""Random answers for the simulator, as scripts: everything a stream can hold, cut and ended in every way.

A script is made from a seed alone and says nothing of what should be measured: the simulator's log tells what it did.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

Script = list[list[Any]]

WORDS = ["Hi", " there", "\n\n", "é", "日本", '"q"', "\\", "🙂", " ", "{}", "data: x", "\u2028", "[DONE]", "a\r\nb"]
REASONS = ["stop", "stop", "stop", "length", "tool_calls", "content_filter"]
UNKNOWN = {
    "openai-chat": 'data: {"object":"chat.completion.note","x":1}\n\n',
    "anthropic": 'event: future\ndata: {"type":"future_event"}\n\n',
    "gemini": 'data: {"futureField":1}\r\n\r\n',
    "ai-sdk": 'data: {"type":"future-part"}\n\n',
}
MALFORMED = 'data: {"cut": tru\n\n'


def script(rng: random.Random, dialect: str) -> Script:
    """One answer for `dialect`. Pauses are at most 0.3 s, but for rare ones of 2.3 s."""
    if rng.random() < 0.05:
        return _status(rng)
    steps: Script = [["wait", rng.choice([0, 5, 40, 120])]]
    if rng.random() < 0.2:
        steps += [[rng.choice(["headers", "start"])], ["wait", rng.randrange(30)]]
    if rng.random() < 0.2:
        steps.append([rng.choice(["comment", "ping"])])
    if rng.random() < 0.1:
        steps.append(["lump", rng.choice([5, 25])])
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        steps += rng.choices(BLOCKS, weights=WEIGHTS)[0](rng, dialect)
    if rng.random() < 0.4:
        steps.append(_usage(rng))
    return [*steps, ["wait", rng.randrange(20)], *_ending(rng, dialect)]


def _texts(rng: random.Random, dialect: str) -> Script:
    """Text with pauses between, some of it empty, some in events worth several tokens."""
    steps: Script = []
    for _ in range(rng.randrange(1, 16)):
        word = "" if rng.random() < 0.04 else rng.choice(WORDS)
        steps += [["text", word, rng.choice([1, 1, 1, 4])], ["wait", rng.choice([0, 0, 2, 5, 11, 20, 35])]]
        if rng.random() < 0.05:
            steps += [[rng.choice(["ping", "comment"])], ["wait", 3]]
    return steps


def _reasonings(rng: random.Random, dialect: str) -> Script:
    steps: Script = []
    for _ in range(rng.randrange(1, 8)):
        steps += [["reasoning", rng.choice(WORDS)], ["wait", rng.choice([0, 4, 15])]]
    return steps


def _tool(rng: random.Random, dialect: str) -> Script:
    more: dict[str, Any] = {"pieces": rng.randrange(1, 6), "ms": rng.choice([0, 3, 9])}
    if rng.random() < 0.5:
        more["output"] = {"t": 4}
    return [["tool", "weather", {"city": "Oslo", "days": [1, 2, 3]}, more], ["wait", rng.randrange(1, 30)]]


def _merged(rng: random.Random, dialect: str) -> Script:
    """Several events in one write, when the last of them is due."""
    count = rng.randrange(2, 9)
    steps: Script = [["merge", count]]
    for _ in range(count):
        steps += [["text", rng.choice(WORDS)], ["wait", rng.choice([0, 3, 12])]]
    return steps


def _split(rng: random.Random, dialect: str) -> Script:
    """One event over several writes; the last of them may hold nothing of it but the end of its chunk."""
    steps: Script = []
    for _ in range(rng.randrange(1, 4)):
        count, gap = rng.choice([(2, 5), (3, 20), (12, 4), (40, 1), (500, 0)])
        said = rng.choice([["text", rng.choice(WORDS)], ["reasoning", rng.choice(WORDS)], _tool(rng, dialect)[0]])
        steps += [["split", count, gap], said, ["wait", 60]]
    return steps


def _pause(rng: random.Random, dialect: str) -> Script:
    """A long pause in the text; rarely one that counts as a stall."""
    long = rng.random() < 0.08
    return [["text", "a"], ["wait", 2300 if long else rng.randrange(100, 300)], ["text", "b"], ["wait", 10]]


def _strange(rng: random.Random, dialect: str) -> Script:
    """What no reader knows, between what it does."""
    return [["text", "x"], ["raw", rng.choice([UNKNOWN[dialect], MALFORMED])], ["wait", 8], ["text", "y"], ["wait", 4]]


def _step(rng: random.Random, dialect: str) -> Script:
    return [["text", "one"], ["wait", 6], ["step"], ["wait", 6], ["text", "two"], ["wait", 6]]


BLOCKS: list[Callable[[random.Random, str], Script]] = [
    _texts, _reasonings, _tool, _merged, _split, _pause, _strange, _step,
]  # fmt: skip
WEIGHTS = [6, 2, 2, 3, 2, 2, 1, 1]


BROKEN = ["zz\r\n", "-1\r\n", "\r\n", "HTTP/1.1 200 OK\r\n\r\n", "fffffffffffffffff1\r\n", "5\r\nno end", "\0\1\2"]
"""What is no chunk where one must begin."""
CUT = ["ff", "7f\r\n", 'fff\r\ndata: {"cut": tr', "0\r\n"]
"""A chunk that goes on: the connection ends before it does."""


def _usage(rng: random.Random) -> list[Any]:
    if rng.random() < 0.2:
        return ["usage", None]
    output = rng.randrange(1, 500)
    counts = {"input": rng.randrange(1, 900), "output": output, "cached": rng.randrange(50)}
    return ["usage", {**counts, "reasoning": rng.randrange(output + 1)} if rng.random() < 0.5 else counts]


def _status(rng: random.Random) -> Script:
    """A whole response instead of a stream."""
    code = rng.choice([400, 401, 403, 404, 429, 500, 502, 529, 200])
    headers = {"retry-after": "7"} if code == 429 else {}
    body = ['{"id": "no stream"}'] if code == 200 else []
    return [["wait", rng.randrange(40)], ["status", code, headers, *body]]


def _ending(rng: random.Random, dialect: str) -> Script:
    """How the answer ends: rightly in most cases."""
    if rng.random() < 0.55:
        return [["finish", rng.choice(REASONS)]]
    reason = "other" if dialect in ("ai-sdk", "gemini") else "length"
    pause = ["wait", rng.choice([0, 20])]
    endings: list[Script] = [
        [["finish", reason]],
        [["refuse"]],
        [["error"]],
        [["overload"]],
        [["abort"]],
        [["truncate"]],
        [["drop"]],
        [["reset"]],
        [["finish"], ["drop"]],
        [["finish"], ["wait", 30], ["reset"]],
        [["finish"], ["stall"]],
        [
            ["meant", "protocol_error"],
            ["text", "x"],
            pause,
            ["wire", rng.choice(BROKEN)],
            [rng.choice(["stall", "drop"])],
        ],
        [["text", "x"], pause, ["wire", rng.choice(CUT)], [rng.choice(["drop", "reset"])]],
        [["finish"], pause, ["wire", rng.choice(BROKEN)], ["stall"]],
        [["stall"]] if rng.random() < 0.3 else [["truncate"]],
    ]
    return rng.choice(endings)
