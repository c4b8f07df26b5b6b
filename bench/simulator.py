"""How late is the simulator at 1,000 streams of 20 tokens a second, on one core?

The server is pinned to one core and a client that only reads to another. Starts are spread over two seconds, as a ramp
would have them. Lateness is the server's own: the clock just before each true send less the time it was due.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import socket
import time

from bench.found import Bound, Found, at
from streamgauge.simulator import Record, Simulator, start

LIMIT_MS = 10.0
SPREAD_S = 2.0
LOOK_S = 0.002
"""How often the client looks. One that sleeps until each write has the server pay for waking it, half of a send on a
virtual machine, and no client under such a load sleeps that long."""


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--streams", type=int, default=1000, help="open at once")
    parser.add_argument("--tokens", type=int, default=200, help="of each answer")


def measure(asked: argparse.Namespace) -> Found:
    cores = sorted(os.sched_getaffinity(0))
    with start() as sim:
        os.sched_setaffinity(sim.pid, {cores[0]})
        os.sched_setaffinity(0, {cores[-1]})
        try:
            before = cpu_s(sim.pid)
            began = time.monotonic()
            read_all(sim, asked.streams, asked.tokens)
            took = time.monotonic() - began
            used = cpu_s(sim.pid) - before
        finally:
            os.sched_setaffinity(0, cores)
        records = sim.log(at_least=asked.streams, within_s=10)
    return table(records, asked.streams, asked.tokens, took, used)


def read_all(sim: Simulator, streams: int, tokens: int) -> None:
    """Open the streams one after the other and read each to its end."""
    body = json.dumps({
        "model": f"sim-t300-i50-n{tokens}", "stream": True, "messages": [{"role": "user", "content": "hello"}],
    }).encode()  # fmt: skip
    request = b"POST /v1/chat/completions HTTP/1.1\r\nhost: sim\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    selector = selectors.DefaultSelector()
    began = time.monotonic()
    opened = ended = 0
    while ended < streams:
        while opened < streams and time.monotonic() >= began + opened * SPREAD_S / streams:
            sock = socket.create_connection((sim.host, sim.port))
            sock.sendall(request)
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ)
            opened += 1
        time.sleep(LOOK_S)
        for key, _ in selector.select(0):
            assert isinstance(key.fileobj, socket.socket)
            data = key.fileobj.recv(65_536)
            if not data or data.endswith(b"0\r\n\r\n"):
                selector.unregister(key.fileobj)
                key.fileobj.close()
                ended += 1


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def table(records: list[Record], streams: int, tokens: int, took: float, used: float) -> Found:
    """The lateness of all sends of all records."""
    late_ms = sorted(late / 1e6 for record in records for late in record.late_ns)
    sends = len(late_ms)
    whole = sum(record.outcome == "ok" and record.text_tokens == tokens for record in records)
    held = sum(record.blocked_ns > 0 for record in records)
    p99 = at(late_ms, 0.99)
    return Found(
        f"The simulator itself: {streams:,} streams of 20 tok/s, {tokens} tokens each, the server on one core",
        ("sends", "late p50 ms", "p95", "p99", "p99.9", "max", "of a core", "us a send"),
        [
            (f"{sends:,}", *(f"{at(late_ms, share):.2f}" for share in (0.5, 0.95, 0.99, 0.999)), f"{late_ms[-1]:.2f}",
             f"{used / took:.0%}", f"{used / sends * 1e6:.1f}"),
        ],
        (
            Bound(f"late by {p99:.2f} ms at p99, limit {LIMIT_MS:g} ms", p99 <= LIMIT_MS),
            Bound(f"{whole} of {streams} answers whole, {held} held up by the client", whole == streams),
        ),
    )  # fmt: skip
