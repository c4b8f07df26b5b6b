"""Every single text event under load: its stamp and its slack, against the write that sent it.

The engine's own loop and streams, in this process, with each event's trace kept (as StreamClient keeps it), against the
server in C (truth_server.c): the n-th text event is the n-th write, so nothing is guessed. Exact: events that claim no
slack. Beyond: how far such a stamp lies outside the (before, after) of its write. Holds: of the others, those whose
write lies in (stamp - slack, stamp]. Keeping traces costs time, so it reads later and has more slack than a worker.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
from pathlib import Path

from bench.found import Bound, Found, at, progress
from bench.load import PROMPT, RAMP_S, compiled
from bench.truth_log import SERVER, Answer, read_log, serving
from streamgauge.client import target_from_url
from streamgauge.clock import MS, S, SystemClock
from streamgauge.dialects.contract import TEXT
from streamgauge.loop import Loop
from streamgauge.plan import Shot
from streamgauge.sample import MERGED_NS
from streamgauge.stream import Stream
from streamgauge.target import Target, request_for

MODEL = "sim-t300-i20-n100"
BEYOND_MS = (0.2, 0.5, 1.0)
"""What an exact stamp may lie beyond its write, at p50, p95 and p99."""
MISSED = 1 / 1_000
COLUMNS = (
    "streams", "requests", "events", "exact", "beyond ms p50 / p95 / p99 / max", "with slack", "slack ms p50 / p99",
    "holds", "slack over 1 ms",
)  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--streams", type=int, nargs="+", default=[100, 500, 1000], help="levels")
    parser.add_argument("--model", default=MODEL, help="its schedule")
    parser.add_argument("--ramp-s", type=float, default=RAMP_S, help="over which the starts are spread")
    parser.add_argument("--rounds", type=int, default=2, help="requests of each stream")


def measure(asked: argparse.Namespace) -> Found:
    title, rows, bounds = f"Every event's stamp and slack, model {asked.model}", [], []
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        server = compiled(SERVER, Path(made))
        if server is None:
            return Found(title, COLUMNS, [("-",) * len(COLUMNS)], notes=("no C compiler (cc) here: not measured",))
        for streams in asked.streams:
            progress(f"{streams} streams")
            log = Path(made) / f"truth-{streams}.bin"
            with serving(server, log) as (port, _):
                url = f"http://127.0.0.1:{port}/v1/chat/completions"
                target = target_from_url(
                    url, dialect="openai-chat", model=asked.model, addresses=(("127.0.0.1", port),)
                )
                ended = driven(target, streams, streams * asked.rounds, round(asked.ramp_s * S))
            told, own = judged(streams, ended, read_log(log))
            rows.append(told)
            bounds += own
    return Found(title, COLUMNS, rows, tuple(bounds))


def driven(target: Target, streams: int, requests: int, ramp_ns: int) -> list[Stream]:
    """Closed loop: `streams` at a time, their starts spread over `ramp_ns`, until `requests` were sent."""
    clock, ended, fresh = SystemClock(), [], []
    loop = Loop(clock, fresh.append)
    begin, opened, again = clock.now(), 0, 0
    gc.collect()
    gc.disable()  # as in a worker: what is kept here would be looked through again and again
    try:
        while len(ended) < requests:
            now = clock.now()
            while opened < streams and now >= begin + ramp_ns * opened // streams:
                _ask(loop, target, now)
                opened += 1
            for stream in fresh:
                ended.append(stream)
                if streams + again < requests:
                    _ask(loop, target, clock.now())
                    again += 1
            fresh.clear()
            if len(ended) < requests:
                loop.turn(begin + ramp_ns * opened // streams if opened < streams else now + 100 * MS)
    finally:
        gc.enable()
        loop.close()
    return ended


def _ask(loop: Loop, target: Target, now: int) -> None:
    dialect = target.speaks()
    stream = Stream(
        Shot(0, target.name, "own", 0, "hold", 1, 0, now), os.urandom(16).hex(), dialect, target.limits,
        keep_events=True,
    )  # fmt: skip
    request = request_for(target, dialect, PROMPT, stream.id, os.urandom(8).hex())
    stream.on_start(now, 0)
    loop.fire(stream, target, request)


def judged(streams: int, ended: list[Stream], truth: dict[str, Answer]) -> tuple[tuple[str, ...], list[Bound]]:
    """A level's row and bounds."""
    beyond, slacks, holds = [], [], []
    for stream in ended:
        writes = truth[stream.id].writes[:-1]
        texts = [event for event in stream.events or () if event.bits & TEXT]
        for event, (before, after) in zip(texts, writes, strict=True):
            if event.slack_ns:
                slacks.append(event.slack_ns / 1e6)
                holds.append(before <= event.at_ns and after > event.at_ns - event.slack_ns)
            else:
                beyond.append(max(before - event.at_ns, event.at_ns - after, 0) / 1e6)
    beyond.sort()
    slacks.sort()
    events, wide = len(beyond) + len(slacks), sum(slack * 1e6 > MERGED_NS for slack in slacks)
    off = [at(beyond, share) for share in (0.5, 0.95, 0.99)]
    row = (
        str(streams),
        str(len(ended)),
        f"{events:,}",
        f"{len(beyond) / events:.1%}",
        _listed(*off, beyond[-1]),
        f"{len(slacks):,}",
        _listed(at(slacks, 0.5), at(slacks, 0.99)) if slacks else "-",
        f"{sum(holds) / len(holds):.2%}" if holds else "-",
        f"{wide / events:.2%}",
    )
    missed = holds.count(False)
    words = f"{streams} streams: exact stamps beyond their write by {_listed(*off)} ms, limits {_listed(*BEYOND_MS)}"
    return row, [
        Bound(words, all(value <= limit for value, limit in zip(off, BEYOND_MS, strict=True))),
        Bound(f"{streams} streams: {missed} of {len(holds)} events outside their slack, limit 1 in 1,000",
              missed <= len(holds) * MISSED),
    ]  # fmt: skip


def _listed(*values: float) -> str:
    return " / ".join(f"{value:.2f}" for value in values)
