"""Processor time an event from bytes to meaning, in process: framing, SSE, the reader, and the whole stream machine.

The bytes are the simulator's own, one read an event. The stages take turns; of each the fastest turn counts. The ratio
is to json.loads of the same events' data, so that machines can be compared.
"""

from __future__ import annotations

import argparse
import json
import socket
import time
from collections.abc import Callable

from bench.found import Found
from bench.load import PROMPT
from streamgauge.dialects import DIALECTS
from streamgauge.dialects.contract import Ask, Dialect
from streamgauge.http1 import Response, request_bytes
from streamgauge.plan import Shot
from streamgauge.simulator import Simulator, start
from streamgauge.sse import SseDecoder
from streamgauge.stream import Limits, Stream


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=int, default=1000, help="text events of the answer")
    parser.add_argument("--times", type=int, default=30, help="turns of each stage")


def measure(asked: argparse.Namespace) -> Found:
    rows = []
    model = f"sim-t0-i0-n{asked.events}"
    with start(log=False, model=model) as sim:
        for name, dialect in DIALECTS.items():
            reads = split(fetch(sim, name, dialect, model))
            rows.append((name, *row(reads, dialect, asked.times)))
    return Found(
        f"Decoding: us an event, {asked.events} text events, one a read, fastest of {asked.times}",
        ("dialect", "events", "bytes an event", "http1", "sse", "reader", "whole stream", "MB/s", "json.loads",
         "reader / json.loads", "whole / json.loads"),
        rows,
    )  # fmt: skip


def fetch(sim: Simulator, name: str, dialect: Dialect, model: str) -> bytes:
    """One whole answer as it came over the wire."""
    asked = dialect.request(sim.endpoint(name, model).removeprefix(sim.url), Ask(PROMPT, model=model))
    headers = (("Host", "sim"), ("Connection", "close"), *asked.headers)
    with socket.create_connection((sim.host, sim.port)) as sock:
        sock.sendall(request_bytes(asked.method, asked.path, headers, asked.body))
        return b"".join(iter(lambda: sock.recv(1 << 16), b""))


def split(wire: bytes) -> list[bytes]:
    """The headers, then chunk by chunk, as a server that flushes each event sends it."""
    cut = wire.index(b"\r\n\r\n") + 4
    pieces, at = [wire[:cut]], cut
    while at < len(wire):
        line_end = wire.index(b"\r\n", at)
        end = line_end + 2 + int(wire[at:line_end], 16) + 2
        pieces.append(wire[at:end])
        at = end
    return pieces


def row(reads: list[bytes], dialect: Dialect, times: int) -> list[str]:
    """The fastest turn of each stage, divided by the events."""
    bodies = framed(reads)
    events = unpacked(bodies)
    datas = [data for _, data in events if data != b"[DONE]"]
    stages: dict[str, Callable[[], object]] = {
        "http1": lambda: framed(reads),
        "sse": lambda: unpacked(bodies),
        "reader": lambda: read(dialect, events),
        "whole": lambda: stream(dialect, reads),
        "json": lambda: [json.loads(data) for data in datas],
    }
    best = dict.fromkeys(stages, float("inf"))
    for _ in range(times):
        for name, work in stages.items():
            began = time.process_time()
            work()
            best[name] = min(best[name], time.process_time() - began)
    us = {name: took / len(events) * 1e6 for name, took in best.items()}
    size = sum(map(len, reads))
    return [
        str(len(events)),
        f"{size / len(events):.0f}",
        *(f"{us[name]:.2f}" for name in ("http1", "sse", "reader", "whole")),
        f"{size / best['whole'] / 1e6:.0f}",
        *(f"{ratio:.2f}" for ratio in (us["json"], us["reader"] / us["json"], us["whole"] / us["json"])),
    ]


def framed(reads: list[bytes]) -> list[bytes]:
    """Body bytes of each read."""
    response = Response()
    return [response.feed(data) for data in reads]


def unpacked(bodies: list[bytes]) -> list[tuple[str, bytes]]:
    """Events of all bodies."""
    decoder = SseDecoder()
    return [event for body in bodies for event in decoder.feed(body)]


def read(dialect: Dialect, events: list[tuple[str, bytes]]) -> int:
    """What all events brought."""
    reader = dialect.reader()
    bits = 0
    for event, data in events:
        bits |= reader.read(event, data)
    return bits


def stream(dialect: Dialect, reads: list[bytes]) -> Stream:
    """The whole machine, a read each ms."""
    found = Stream(Shot(0, "t", "own", 0, "hold", 1, 0, 0), "0" * 32, dialect, Limits())
    found.on_start(0, 0)
    found.on_sent(0)
    at = 0
    for data in reads:
        at += 1_000_000
        found.on_read(at, at, data)
    if not found.done:
        raise RuntimeError(f"{found} did not end with its bytes")
    return found
