"""What parent and worker say to each other over their socket: whole messages, length first.

Rules: secrets travel here and never by command line or environment. A message is small and complete; the parent's are
orders, the worker's are reports.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from streamgauge.plan import Phase
from streamgauge.sample import Outcome
from streamgauge.target import Address as Place
from streamgauge.target import Target


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker needs to know once; it comes over the control socket, never by the command line."""

    targets: tuple[Target, ...]
    prompts: dict[str, tuple[str, ...]]
    phases: tuple[Phase, ...]
    samples: str
    """The file to write."""
    shard: int
    shards: int
    seed: int
    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Without what is secret."""
        return f"<Job of shard {self.shard} of {self.shards}, {len(self.targets)} targets>"


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """Parent to worker: begin this phase at this time."""

    phase: int
    at_ns: int
    plan: Phase | None = None
    """The phase, where it was decided on while the load ran; else it is the job's."""


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Parent to worker: no new request; end what is open after `grace_ns`. `target`: only this one stops."""

    grace_ns: int
    why: str
    target: str | None = None


class Address(msgspec.Struct, frozen=True, tag="address"):
    """Parent to worker: a target's addresses were resolved anew."""

    target: str
    addresses: tuple[Place, ...]


Order = Begin | Stop | Address


class Brief(msgspec.Struct, frozen=True, array_like=True):
    """One ended request, as much as live progress and the load's limits need."""

    target: str
    phase: str
    outcome: Outcome
    http_status: int | None
    ttft_ns: int | None
    service_ns: int | None
    output_tokens: int | None
    input_tokens: int | None
    text_events: int
    error: str | None
    end_ns: int
    due_ns: int = 0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Worker to parent, every 100 ms or when something happened."""

    worker: int
    at_ns: int
    open_streams: int
    ended: list[Brief] = []
    phase_done: int | None = None
    drained: bool = False
    last_output_ns: dict[str, int] = {}
    """For each target, when a stream of it last gave output."""
    late_ns: int = 0
    cpu: float | None = None
    text_events: int = 0
    failed: str | None = None
    """A bug of ours: the traceback."""
    disk: str | None = None
    """Our disk failed: the words."""


_LENGTH = struct.Struct("<I")


def pack(message: msgspec.Struct) -> bytes:
    """A message as it goes over the control socket."""
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


class Unpacker:
    """Whole messages out of a byte stream."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that `data` completed."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= 4:
            size = _LENGTH.unpack_from(buffer)[0]
            if len(buffer) < 4 + size:
                return
            body = bytes(buffer[4 : 4 + size])
            del buffer[: 4 + size]  # before the yield: whoever takes only one message leaves the rest here
            yield body
