"""What a probe is: a function that is asked and tells gauges, or raises `ProbeError` with the words why not.

Rules: a probe reads the **server**, never this program. It may block up to its time-out, since it is asked from a
thread of its own, off the measured path. What it cannot know it leaves out; nothing is ever told as 0 instead. Time,
name, redaction and the file are not its business (`watch.Probe`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from streamgauge.target import Target

TIMEOUT_S = 5.0


class ProbeError(Exception):
    """No reading: why, and what to do about it, in one line."""


@dataclass(frozen=True, slots=True)
class Asking:
    """How a probe is asked. `snapshot`: in detail, some minutes apart. `collect`: garbage is to be collected first."""

    snapshot: bool = False
    collect: bool = False


@dataclass(frozen=True, slots=True)
class Gauges:
    """What a probe saw."""

    values: dict[str, float]
    instance: str = ""
    uptime_s: float | None = None
    pid: int | None = None
    collected: bool = False
    at_ns: int | None = None
    """When it was so, where that is not the middle of the asking."""
    who: str = ""
    """What was read, for `check`: `node server.js and 2 of its children`."""
    missing: tuple[str, ...] = field(default=())
    """What the spec asked for and was not there, a sentence each."""


Ask = Callable[[Asking], Gauges]
"""A probe."""


class OfProcess(msgspec.Struct, frozen=True, kw_only=True):
    """Processes of this machine: by `pid`, by the TCP `port` one listens on, or by a pattern in its command line."""

    pid: int | None = None
    port: int | None = None
    command: str | None = None

    @property
    def shown(self) -> str:
        """In words."""
        if self.pid is not None:
            return f"process {self.pid}"
        return f"what listens on port {self.port}" if self.port is not None else f"processes like {self.command!r}"


class Place(msgspec.Struct, frozen=True):
    """Where a number stands in a JSON answer, and by how much it is multiplied (MB to bytes, ms to s)."""

    keys: tuple[str, ...]
    times: float = 1.0

    @property
    def shown(self) -> str:
        """As it is written."""
        return ".".join(self.keys)


class OfJson(msgspec.Struct, frozen=True, kw_only=True):
    """A page that answers with JSON. `target`: the way there and the headers; its dialect is not used."""

    target: Target
    method: str = "GET"
    body: str | None = None
    places: dict[str, Place] = {}
    """Gauge or fact -> where. What is not named is looked for under its usual names."""
    collect: str | None = None
    """`?x=1`: added to the url where garbage is to be collected; `/path`: asked first."""
    timeout_s: float = TIMEOUT_S

    def __repr__(self) -> str:
        """Without what may be secret."""
        return f"<OfJson {self.shown}>"

    @property
    def shown(self) -> str:
        """In words, without the query."""
        return f"{self.target.origin}{self.target.path.partition('?')[0]}"


Source = OfProcess | OfJson
