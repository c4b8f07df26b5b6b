"""Run by test_dial.py as a program: two families of which one loses every packet, told as JSON on stdout.

It leaves the machine's network for a new one, which ends with this process; 77 where that is not allowed. The black
hole is a cable whose other end is nobody: packets go to a hardware address that no one has.
"""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec

from engine import target
from in_namespace import NOT_ALLOWED, leave
from servers import answer_once, serving
from streamgauge.client import StreamClient
from streamgauge.clock import S
from streamgauge.stream import Limits
from streamgauge.target import Address

HOLES = {"IPv6 lost": "fd77::2", "IPv4 lost": "10.77.0.2"}
GOOD = {"IPv6 lost": "127.0.0.1", "IPv4 lost": "::1"}


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def ask(url: str, addresses: tuple[Address, ...], times: int, connect_s: float) -> list[tuple[str, str | None, float]]:
    """(outcome, peer, ms to connect) of each request."""
    limits = Limits(connect_ns=round(connect_s * S), first_output_ns=5 * S)
    at = msgspec.structs.replace(target("t", url, limits=limits), addresses=addresses)
    told = []
    with StreamClient.for_target(at) as one:
        for _ in range(times):
            sample = one.ask("hi").sample
            assert sample.start_ns is not None
            ended = sample.connect_ns or sample.end_ns
            told.append((sample.outcome.value, sample.peer, (ended - sample.start_ns) / 1e6))
    return told


def main() -> int:
    try:
        leave()
        ip("link", "add", "hole", "type", "veth", "peer", "name", "end")
    except (OSError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return NOT_ALLOWED
    for end in ("hole", "end"):
        ip("link", "set", end, "up")
    ip("addr", "add", "10.77.0.1/24", "dev", "hole")
    ip("addr", "add", "fd77::1/64", "dev", "hole", "nodad")
    for address in HOLES.values():
        ip("neigh", "add", address, "lladdr", "02:00:00:00:00:99", "dev", "hole", "nud", "permanent")
    found = {}
    for name, hole in HOLES.items():
        with serving(answer_once, host=GOOD[name]) as server:
            silent: Address = (hole, server.port)
            both = ask(server.url, (silent, (GOOD[name], server.port)), 4, 5)
            found[name] = {"good": GOOD[name], "both": both, "alone": ask(server.url, (silent,), 1, 0.5)}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
