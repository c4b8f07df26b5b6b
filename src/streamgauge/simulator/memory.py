"""The memory that the simulator says it has: by a script, so that a test knows the truth, or its own.

`GET /probe` tells it as JSON, in the shape of the handlers that streamgauge ships for Node and Python. With a script
(`memory="leak=400,saw=30:20"`) the figures follow FORMULA exactly; what the process really takes stands beside, under
`real`.

Rules: no I/O but the look at its own process, no clock: the time comes with each call. The same script, seed, time and
requests give the same figures.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from random import Random

from streamgauge.clock import MS, S
from streamgauge.errors import UsageError

PATH = "/probe"
MB = 1_000_000
FORMULA = (
    "base + leak x hours + request x requests + cache x min(1, requests / filled) + keep x (most open at a time) + "
    "open x (open now) + saw x (share of its period gone since the last collection) + noise x N(0, 1) of each 100 ms"
)
_CHUNK = 8 * MB


@dataclass(frozen=True, slots=True)
class Script:
    """What memory does, in MB. Requests are those of the APIs since the server's start; so are the hours."""

    base: float = 100.0
    leak: float = 0.0
    """An hour, for ever."""
    request: float = 0.0
    """A request, for ever."""
    saw: float = 0.0
    """Garbage that grows to this much, then is collected..."""
    period: float = 30.0
    """... after so many seconds (`saw=30:20`), or when asked."""
    cache: float = 0.0
    """A cache that fills to this much..."""
    filled: float = 1_000.0
    """... over so many requests (`cache=80:1000`), and stops."""
    open: float = 0.0
    """An open request, given back at its end."""
    keep: float = 0.0
    """A request of the most that were ever open at a time, never given back."""
    noise: float = 0.0
    limit: float = math.inf
    """The server is ended and started again when it reaches this."""
    instances: int = 1
    """So many answer in turn; only the last one leaks, and each began 1,000 s before the one before it."""
    ids: int = 1
    """0: they do not say which one answers, nor their pid."""


_SECOND = {"saw": "period", "cache": "filled"}
_PART = re.compile(r"([a-z]+)=(\d+(?:\.\d+)?)(?::(\d+(?:\.\d+)?))?")
EXAMPLE = "leak=400,saw=30:20,limit=512"


def parse(text: str) -> Script:
    """A script out of `name=number[:number],...`. UsageError names the wrong part and what is allowed."""
    given: dict[str, float] = {}
    names = [field.name for field in fields(Script) if field.name not in _SECOND.values()]
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None or match[1] not in names or (match[3] and match[1] not in _SECOND):
            raise UsageError(
                f"memory {part!r}: write parts such as {EXAMPLE}; there are {', '.join(names)} (MB; saw=MB:SECONDS, "
                "cache=MB:REQUESTS)"
            )
        given[match[1]] = float(match[2])
        if match[3]:
            given[_SECOND[match[1]]] = float(match[3])
    for name in ("period", "filled", "instances"):
        if given.get(name, 1.0) < 1:
            raise UsageError(f"memory {text!r}: {name} must be at least 1")
    whole = {name: int(given.pop(name)) for name in ("instances", "ids") if name in given}
    script = Script(**given, **whole)  # type: ignore[arg-type]  # names are checked, whole ones are whole
    if script.limit <= script.base + script.open + script.keep:
        raise UsageError(f"memory {text!r}: limit is not above what the server begins with; make it higher")
    return script


class Memory:
    """The memory of one running simulator."""

    def __init__(self, script: Script | None, seed: int, now: int, real: Callable[[], int] | None = None) -> None:
        self._script, self._seed = script, seed
        self._real = real_rss if real is None else real
        self._began = self._collected = now
        self.requests = self.open = self.most = self.connections = 0
        self.restarts = 0
        self._told = 0

    def came(self) -> None:
        """A request came."""
        self.requests += 1
        self.open += 1
        self.most = max(self.most, self.open)

    def ended(self) -> None:
        """A request is over."""
        self.open -= 1

    def restart(self, now: int) -> None:
        """The server is another process from here on."""
        self.restarts += 1
        self._began = self._collected = now
        self.requests = self.most = 0
        self.open = 0

    def over(self, now: int) -> bool:
        """Whether the limit is reached."""
        return self._script is not None and self.used(now) >= self._script.limit * MB

    def used(self, now: int, *, leaks: bool = True) -> float:
        """Bytes in use at `now`: FORMULA. `leaks`: whether it is an instance that does."""
        script = self._script
        assert script is not None
        hours = (now - self._began) / (3_600 * S)
        gone = (now - self._collected) / S % script.period / script.period
        grown = script.leak * hours + script.request * self.requests if leaks else 0.0
        noise = script.noise * Random(f"{self._seed}/{now // (100 * MS)}").gauss(0, 1) if script.noise else 0.0
        cached = script.cache * min(1.0, self.requests / script.filled)
        kept = script.keep * self.most + script.open * self.open
        return MB * (script.base + grown + cached + kept + script.saw * gone + noise)

    def page(self, now: int, wall_s: int, *, collect: bool) -> str:
        """The answer to GET /probe. `collect`: garbage is collected first."""
        script = self._script
        told: dict[str, object] = {"instance": "sim", "pid": os.getpid() + self.restarts}
        uptime = (now - self._began) / S
        if script is None:
            told |= {"rss": self._real(), "collected": False}
        else:
            if collect:
                self._collected = now
            turn = self._told % script.instances
            self._told += 1
            if script.instances > 1:
                uptime += 1_000 * turn
                told |= {"instance": f"sim/{turn + 1}", "pid": os.getpid() + 1_000 * turn + self.restarts}
            if not script.ids:
                told.clear()
            used = self.used(now, leaks=turn == script.instances - 1)
            heap = used - MB * script.base / 2
            told |= {
                "rss": round(used), "heap_used": round(heap), "heap_total": math.ceil(heap / _CHUNK) * _CHUNK,
                "external": round(MB * script.base / 8), "collected": collect,
            }  # fmt: skip
            if script.limit < math.inf:
                told["memory_limit"] = round(script.limit * MB)
        told |= {
            "uptime_s": uptime, "time_ms": wall_s * 1_000, "connections": self.connections, "requests": self.requests,
            "open": self.open, "real": {"rss": self._real()},
        }  # fmt: skip
        return json.dumps(told)


def real_rss() -> int:
    """Bytes of this process in memory; what it took at most where the system does not tell."""
    if sys.platform != "linux":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
