"""Run by test_outcomes_midrun.py as a program: what only a network of one's own can show, told as JSON on stdout.

It leaves the machine's network for a new one with nothing but a loopback, which ends with this process. Where that is
not allowed it says so on stderr and ends with 77.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import socket
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from engine import lane, phase, run, target
from servers import CA, Talk, answer_once, certificate, serving
from streamgauge.clock import S
from streamgauge.plan import Phase
from streamgauge.stream import Limits
from streamgauge.target import Tls

CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFADDR, IFF_UP = 0x8913, 0x8914, 0x8916, 1
PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
NO_IPV6 = Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6")
NOT_ALLOWED = 77

TRANSPORTS = ("tcp", "tls")
Told = dict[str, list[tuple[str, str]]]
"""(phase, outcome) of each Sample, for each transport."""


def leave() -> None:
    """Into a network of our own. OSError where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    switch("lo", on=True)
    PORTS.write_text("32768 60999")


def switch(interface: str, *, on: bool) -> None:
    """An interface up or down; an alias (lo:1) that goes down is gone."""
    with socket.socket() as sock:
        asked = struct.pack("16sH14s", interface.encode(), 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(sock, SIOCGIFFLAGS, asked))[1]
        flags = flags | IFF_UP if on else flags & ~IFF_UP
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14s", interface.encode(), flags, b""))


def add_address(alias: str, address: str) -> None:
    """A further IPv4 address of the loopback."""
    with socket.socket() as sock:
        packed = struct.pack("HH4s8s", socket.AF_INET, 0, socket.inet_aton(address), b"")
        fcntl.ioctl(sock, SIOCSIFADDR, struct.pack("16s16s", alias.encode(), packed))


def ask(folder: Path, places: dict[str, tuple[str, int]], *phases: Phase, began: Callable[[str], None]) -> Told:
    """Run the phases against one target for each transport."""
    targets = [
        target(
            name,
            f"{'https' if name == 'tls' else 'http'}://localhost:{port}",
            tls=Tls(ca=CA, server_name="localhost"),
            limits=Limits(connect_ns=S, first_output_ns=S),
            addresses=((host, port),),
        )
        for name, (host, port) in places.items()
    ]
    ran = run(folder, targets, *phases, began=began)
    return {name: [(s.phase, s.outcome.value) for s in ran.of(name)] for name in places}


def of_both(name: str, requests: int) -> Phase:
    return phase(name, [lane(transport, requests) for transport in TRANSPORTS], settles=True)


@contextlib.contextmanager
def both(talk: Talk, host: str = "127.0.0.1") -> Iterator[dict[str, tuple[str, int]]]:
    """Where a server of each transport listens."""
    with serving(talk, None, host) as plain, serving(talk, certificate(), host) as tls:
        yield {"tcp": (host, plain.port), "tls": (host, tls.port)}


def hang(conn: socket.socket) -> None:
    while conn.recv(65_536):
        pass


def ports_used_up(folder: Path) -> Told:
    """Seven requests at once to each place, where there are four ports."""
    with both(hang) as places:
        return ask(folder, places, of_both("hold", 7), began=lambda _: _ports("40000 40003"))


def black_hole(folder: Path) -> Told:
    """Between two phases the loopback goes down: packets vanish."""
    with both(answer_once) as places:
        return ask(
            folder, places, of_both("before", 2), of_both("after", 2),
            began=lambda name: switch("lo", on=name == "before"),
        )  # fmt: skip


def no_route(folder: Path) -> Told:
    """Between two phases the network of the address goes away."""

    def began(name: str) -> None:
        if name == "after":
            switch("lo:1", on=False)

    add_address("lo:1", "10.9.9.9")
    with both(answer_once, "10.9.9.9") as places:
        return ask(folder, places, of_both("before", 2), of_both("after", 2), began=began)


def nobody_but_oneself(folder: Path) -> Told:
    """Where nothing listens on a port that clients are given, TCP may connect a socket with itself."""
    places = {"tcp": ("127.0.0.1", 40_100), "tls": ("127.0.0.1", 40_101)}
    phases = [phase(name, [lane(name, 1)], settles=True) for name in TRANSPORTS]
    return ask(folder, places, *phases, began=lambda name: _ports(f"{places[name][1]} {places[name][1]}"))


def no_ipv6_here(folder: Path) -> Told:
    """An IPv6 address, and none of our own to reach it from."""
    NO_IPV6.write_text("1")
    return ask(folder, dict.fromkeys(TRANSPORTS, ("::1", 8080)), of_both("hold", 2), began=lambda _: None)


def _ports(low_high: str) -> None:
    PORTS.write_text(low_high)


SHOWN = (ports_used_up, nobody_but_oneself, no_route, black_hole, no_ipv6_here)


def main() -> int:
    try:
        leave()
    except OSError as error:
        print(error, file=sys.stderr)
        return NOT_ALLOWED
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for show in SHOWN:
            found[show.__name__] = show(Path(folder))
            _ports("32768 60999")
            switch("lo", on=True)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
