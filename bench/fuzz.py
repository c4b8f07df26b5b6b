"""Wild streams through the pure machine, a dialect at a time: no exception, no hang, no growth, the right outcome.

Half of the cases are legal streams whose truth is known (see bench.wild_streams), written and cut in every way, whole
or broken off at any byte: counts, usage and outcome must be the truth's. The other half is damaged: bytes flipped,
lost, doubled, values replaced by wild ones; each is read whole and again in pieces, and both must tell the same.
A case is its dialect, seed and number alone: `one("gemini", 7, 1234)` is always the same bytes. Eight cases in a row
share a stream, because to make one costs more than to read it.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import time
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import msgspec

from bench.found import Bound, Found, progress
from bench.wild_streams import ERRORS, UNKNOWN, VOICES, Body, Event, Told, Wire, body, wire, write
from streamgauge.dialects import DIALECTS
from streamgauge.plan import Shot
from streamgauge.sample import Outcome, Sample
from streamgauge.secrets import Redactor
from streamgauge.stream import Limits, Stream

SHARED, LOOKED_AT = 8, 2_000
SLOW_S = 2.0
"""No case, of some KB, may take so long, on however busy a machine."""
_REDACT = Redactor(()).text
WILD = (
    b"\r\n", b"\n\n", b"\r", b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\xf0\x9f", b"data: ", b"event: error\n",
    b"id: \0\n",
    b"retry: 99999999999999999999\n", b":", b"NaN", b"Infinity", b"-1", b"1e999", b"9" * 40, b'"\\ud800"', b"[" * 300,
    b'{"a":' * 300, b"null", b"true", b"[]", b"{}", b'""', b"data: [DONE]\n\n", b"-5\r\n", b"FFFFFFFFFFFFFFFFF\r\n",
    b"7fffffffffffffff\r\n", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 100 X\r\n\r\n",
    b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Content-Encoding: gzip\r\n", b"Content-Type: text/html\r\n", b"\x1f\x8b\x08\0", b"\x1b[2J",
)  # fmt: skip
_VALUES = (
    None, True, 0, -1, 2**31, 2**63, 2**70, 1.5, 1e308, "", "x", "\x1b[2J", "\ud800", [], {}, [[]], {"a": {}}, [None],
    float("nan"), float("inf"), "9" * 400,
)  # fmt: skip


@dataclass(slots=True)
class Tally:
    """What the cases of a dialect came to."""

    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_s: float = 0.0


def one(dialect: str, seed: int, number: int) -> tuple[str, str | None]:
    """One case: (its outcome, what was wrong with it or None)."""
    rng = random.Random(f"{dialect}/{seed}/{number}")
    sent, soiled = _streams(dialect, seed, number // SHARED)
    return _legal(rng, dialect, sent) if number % 2 else _damaged(rng, dialect, rng.choice([sent, sent, soiled]))


@lru_cache(maxsize=1)
def _streams(dialect: str, seed: int, number: int) -> tuple[Wire, Wire]:
    """A legal stream, and one in which values were replaced by wild ones."""
    rng = random.Random(f"{dialect}/{seed}/stream {number}")
    return wire(rng, body(rng, dialect)), wire(rng, _soiled(rng, dialect))


def run(dialect: str, seed: int, cases: int, first: int = 0) -> Tally:
    """So many cases of a dialect; it stops at the tenth that is wrong."""
    tally = Tally()
    for number in range(first, first + cases):
        began = time.perf_counter()
        try:
            outcome, wrong = one(dialect, seed, number)
        except Exception as error:
            outcome, wrong = "exception", f"{type(error).__name__}: {error}"
        took = time.perf_counter() - began
        tally.slowest_s = max(tally.slowest_s, took)
        tally.cases += 1
        tally.outcomes[outcome] += 1
        if wrong is not None:
            tally.wrong.append(f"one({dialect!r}, {seed}, {number}): {wrong}")
            if len(tally.wrong) == 10:
                break
    return tally


# A stream from its first byte to its end.


def follow(dialect: str, reads: list[bytes], close: str, step_ns: int = 1_000) -> Sample:
    """The Sample of a stream that got these reads and was then closed: in order, by a `reset`, or left `open`."""
    stream = Stream(Shot(0, "t", "p", 0, "hold", 1, 0, 0), "0" * 32, DIALECTS[dialect], Limits())
    stream.on_start(0, 0)
    stream.on_sending(0)
    stream.on_sent(0)
    at = 0
    for data in reads:
        if stream.done:
            break
        at += step_ns
        stream.on_read(at, at - step_ns, data)
    if not stream.done and close != "open":
        stream.on_close(at + step_ns, reset="Connection reset by peer" if close == "reset" else None)
    for _ in range(3):
        if not stream.done:
            assert stream.deadline is not None, "a stream without an end"
            stream.on_timer(stream.deadline)
    sample = stream.sample(_REDACT)
    msgspec.msgpack.encode(sample)
    return sample


def cut(rng: random.Random, data: bytes) -> list[bytes]:
    """`data` in pieces: whole, in a few, or byte by byte."""
    how = rng.random()
    if how < 0.15:
        return [data]
    if how < 0.25 and len(data) < 1_000:
        return [data[i : i + 1] for i in range(len(data))]
    places = sorted(rng.sample(range(1, len(data)), min(rng.randrange(1, 12), len(data) - 1))) if len(data) > 1 else []
    return [data[a:b] for a, b in pairwise([0, *places, len(data)])]


# Legal streams, cut off anywhere.


def _legal(rng: random.Random, dialect: str, sent: Wire) -> tuple[str, str | None]:
    length = len(sent.data) if rng.random() < 0.6 else rng.randrange(len(sent.data) + 1)
    close = rng.choice(["close", "close", "reset", "open"])
    sample = follow(dialect, [read for read in cut(rng, sent.data[:length]) if read], close)
    told, expected = truth(sent, length, close)
    found = {
        "outcome": str(sample.outcome), "text": sample.text_events, "reasoning": sample.reasoning_events,
        "tool": sample.tool_events, "unknown": sample.unknown_events, "malformed": sample.malformed_events,
        "tokens": sample.output_tokens,
    }  # fmt: skip
    wanted = {"outcome": expected, **{name: getattr(told, name) for name in found if name != "outcome"}}
    wrong = {name: (value, wanted[name]) for name, value in found.items() if value != wanted[name]}
    return str(sample.outcome), f"(found, truth) {wrong}; {sent.framing}, {length} bytes, {close}" if wrong else None


def truth(sent: Wire, length: int, close: str) -> tuple[Told, str]:
    """What the first `length` bytes tell, and how the stream must end if it is closed so behind them."""
    inside = sent.inside(length)
    told = sent.body.told(inside)
    headers = sent.data.index(b"200 ") + sent.data[sent.data.index(b"200 ") :].index(b"\r\n\r\n") + 4
    whole = length == len(sent.data) and sent.framing != "close"
    if sent.framing == "close" and length >= headers:
        whole = close == "close"
    if told.failed:
        return told, "stream_error"
    if told.end is not None:
        return told, told.end if told.output else "empty"
    if whole:
        known = any(at <= inside and event.kind not in ("unknown", "malformed") for at, event in sent.body.events)
        commented = any(at <= inside for at in sent.body.comments)
        return told, "truncated" if known or commented or not inside else "protocol_error"
    if close != "open":
        return told, "dropped"
    return told, "stall_timeout" if told.output else "first_token_timeout"


# Damaged streams.


def _damaged(rng: random.Random, dialect: str, sent: Wire) -> tuple[str, str | None]:
    data = bytearray(sent.data)
    head = data.find(b"\r\n\r\n") + 4 if rng.random() < 0.8 else 0
    for _ in range(rng.choice([1, 1, 2, 5])):
        _damage(rng, data, min(head, len(data)))
    whole = bytes(data)
    close = rng.choice(["close", "reset", "open"])
    first = follow(dialect, [whole] if whole else [], close)
    again = follow(dialect, [read for read in cut(rng, whole) if read], close)
    wrong = _impossible(first, len(whole)) or _impossible(again, len(whole))
    if wrong is None and sent.packed is None and facts(first) != facts(again):
        wrong = f"whole {facts(first)}, in pieces {facts(again)}"
    return str(first.outcome), wrong


def facts(sample: Sample) -> tuple[object, ...]:
    """What must not depend on how bytes were cut into reads."""
    return (
        sample.outcome, sample.http_status, sample.text_events, sample.reasoning_events, sample.tool_events,
        sample.unknown_events, sample.malformed_events, sample.output_tokens, sample.input_tokens, sample.finish,
        sample.model,
    )  # fmt: skip


def _impossible(sample: Sample, size: int) -> str | None:
    """What no stream can be."""
    events = sample.text_events + sample.reasoning_events + sample.tool_events + sample.unknown_events
    counts = (sample.output_tokens, sample.input_tokens, sample.reasoning_tokens, sample.cached_tokens)
    if any(count is not None and not 0 <= count < 2**33 for count in counts):
        return f"counts {counts}"
    if events > 3 * size:
        return f"{events} events of {size} bytes"
    if max(map(len, (sample.error or "", sample.finish or "", sample.model or ""))) > 2_048:
        return "a text without bound"
    if sample.outcome is Outcome.OK and not events:
        return "ok without output"
    return None


def _soiled(rng: random.Random, dialect: str) -> Body:
    made = Body()
    events = [*VOICES[dialect](rng), Event("unknown", UNKNOWN[dialect]), Event("error", ERRORS[dialect])]
    for event in events:
        try:
            value = json.loads(event.data)
        except ValueError:
            value = event.data
        for _ in range(rng.choice([0, 0, 1, 2])):
            value = _replaced(rng, value)
        write(rng, made, Event("unknown", json.dumps(value), event.name), ["\n"], plain=True)
    return made


def _replaced(rng: random.Random, value: object) -> object:
    """`value` with one node of it replaced."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: _replaced(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        return [*value[:at], _replaced(rng, value[at]), *value[at + 1 :]]
    return rng.choice(_VALUES)


def _damage(rng: random.Random, data: bytearray, first: int) -> None:
    """One injury, in place, at or behind `first`."""
    at = rng.randrange(first, len(data) + 1)
    to = min(at + rng.choice([1, 1, 2, 9, 80]), len(data))
    how = rng.randrange(7)
    if how == 0:
        del data[at:to]
    elif how == 1:
        data[at:to] = rng.randbytes(to - at)
    elif how == 2:
        data[at:at] = data[at:to] * rng.choice([1, 2, 30])
    elif how == 3:
        del data[at:]
    elif how == 4 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif how == 5:
        other = rng.randrange(len(data) + 1)
        data[at:to] = data[other : other + to - at]
    else:
        data[at:at] = rng.choice(WILD)


# The long form.


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", type=int, default=100_000, help="of each dialect")
    parser.add_argument("--seed", type=int, default=None, help="new each time unless told")
    parser.add_argument("--dialects", nargs="*", default=list(VOICES), choices=list(VOICES), help="which to read")


def measure(asked: argparse.Namespace) -> Found:
    """Each dialect's cases, and what memory they left behind."""
    seed = random.SystemRandom().randrange(2**31) if asked.seed is None else asked.seed
    rows, wrong, grown = [], [], 0.0
    slowest = 0.0
    for dialect in asked.dialects:
        progress(dialect)
        run(dialect, seed, min(asked.cases, 200))
        began = time.perf_counter()
        tally = run(dialect, seed, asked.cases)
        took = time.perf_counter() - began
        left = left_behind(dialect, seed, min(asked.cases, LOOKED_AT))
        grown, slowest = max(grown, left), max(slowest, tally.slowest_s)
        wrong += tally.wrong
        outcomes = ", ".join(f"{name} {count:,}" for name, count in tally.outcomes.most_common())
        rows.append((dialect, f"{tally.cases:,}", f"{took:.0f} s", f"{1e3 * tally.slowest_s:.0f} ms", outcomes))
    for words in wrong:
        progress(words)
    looked = min(asked.cases, LOOKED_AT)
    bounds = (
        Bound("every case ended as it must, none by an exception", not wrong),
        Bound(f"no case took {SLOW_S:g} s (slowest {slowest:.2f} s)", slowest < SLOW_S),
        Bound(f"{looked:,} cases leave at most 256 KB behind: {grown / 1024:.0f} KB", grown < 256 * 1024),
    )
    notes = (f"seed {seed}; a case is found again by `bench.fuzz.one(dialect, seed, number)`", *wrong)
    return Found("Hostile streams", ("dialect", "cases", "took", "slowest case", "outcomes"), rows, bounds, notes)


def left_behind(dialect: str, seed: int, cases: int) -> float:
    """Bytes that so many cases left allocated."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        run(dialect, seed, cases)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
