"""A run of the C client (bench/epoll_client.c) that notes when it sent and when text came, as a plain program would."""

from __future__ import annotations

import json
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.load import PROMPT

CLIENT = Path(__file__).with_name("epoll_client.c")
_NOTE = struct.Struct("<16sqq")


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer by the client's own clock, ns. `trace` is its id in the server's log."""

    trace: str
    sent_ns: int
    first_ns: int


@dataclass(frozen=True, slots=True)
class Plain:
    """What it told. `from_ns` to `to_ns`: from the ramp's end to its last start; `cpu_ns` is what it used then."""

    heard: tuple[Heard, ...]
    from_ns: int
    to_ns: int
    cpu_ns: int

    @property
    def held(self) -> list[Heard]:
        """The answers that were asked for after the ramp."""
        return [one for one in self.heard if one.sent_ns >= self.from_ns]


def plain_run(
    client: str, port: int, folder: Path, model: str, streams: int, requests: int, ramp_s: float, *, kernel: bool
) -> Plain:
    """Hold `streams`, starts spread over `ramp_s`, until `requests` were sent after the ramp. `kernel`: its stamps."""
    log = folder / "heard.bin"
    more = requests if ramp_s else requests - streams  # with no ramp the first of each stream is one of them
    words = [client, *map(str, (port, streams, max(more, 0), round(ramp_s * 1e3))), "--log", str(log)]
    done = subprocess.run(words + ["--kernel"] * kernel, input=request_of(model), check=True, capture_output=True)
    told = json.loads(done.stdout)
    return Plain(heard_in(log), told["from_ns"], told["to_ns"], told["cpu_ns"])


def request_of(model: str) -> bytes:
    """The bytes it sends; the trace id's last digits are filled in anew each time."""
    body = json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": PROMPT}]}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: sim\r\nContent-Type: application/json\r\n"
        f"traceparent: 00-{'0' * 32}-{'1' * 16}-01\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def heard_in(log: Path) -> tuple[Heard, ...]:
    """What the client noted. The format stands at the head of epoll_client.c."""
    return tuple(Heard(trace.hex(), sent, first) for trace, sent, first in _NOTE.iter_unpack(log.read_bytes()))
