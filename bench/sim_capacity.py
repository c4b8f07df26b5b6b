"""How late is the simulator at 1,000 streams of 20 tokens a second, on one core?

The server is pinned to one core and a client that only reads to another. Starts are spread over two seconds, as a ramp
would have them. Lateness is the server's own: the clock just before each true send less the time it was due. Prints one
table and ends 1 where the 99th percentile is above 10 ms. `python -m bench.sim_capacity [streams] [tokens]`.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import time

from streamgauge.simulator import Record, Simulator, start

LIMIT_MS = 10.0
SPREAD_S = 2.0


def main(streams: int = 1000, tokens: int = 200) -> int:
    cores = sorted(os.sched_getaffinity(0))
    with start() as sim:
        os.sched_setaffinity(sim.pid, {cores[0]})
        os.sched_setaffinity(0, {cores[-1]})
        before = cpu_s(sim.pid)
        began = time.monotonic()
        read_all(sim, streams, tokens)
        took = time.monotonic() - began
        used = cpu_s(sim.pid) - before
        records = sim.log(at_least=streams, within_s=10)
    return report(records, streams, tokens, took, used)


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
        for key, _ in selector.select(0.001 if opened < streams else 1.0):
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


def report(records: list[Record], streams: int, tokens: int, took: float, used: float) -> int:
    """Print the table; 1 where the limit is passed or an answer is not whole."""
    late_ms = sorted(late / 1e6 for record in records for late in record.late_ns)
    sends = len(late_ms)
    whole = sum(record.outcome == "ok" and record.text_tokens == tokens for record in records)
    held = sum(record.blocked_ns > 0 for record in records)

    def at(share: float) -> float:
        return late_ms[min(sends - 1, int(share * sends))]

    print(f"streams {streams}, 20 tok/s each, {tokens} tokens; whole {whole}, held up by the client {held}")
    print(f"sends {sends} in {took:.1f} s; server {used:.1f} s of one core ({used / sends * 1e6:.1f} us a send)")
    print("lateness ms   p50     p90     p95     p99   p99.9     max")
    print(
        "            " + "".join(f"{value:7.2f} " for value in (*map(at, (0.5, 0.9, 0.95, 0.99, 0.999)), late_ms[-1]))
    )
    good = at(0.99) <= LIMIT_MS and whole == streams
    print(f"{'ok' if good else 'FAIL'}: p99 {at(0.99):.2f} ms, limit {LIMIT_MS:g} ms")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
