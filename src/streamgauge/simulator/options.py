"""Everything the simulator can be told, in one frozen value: the same for the command, the module and tests.

Rules: units are in the names; `check` reports what cannot work before a socket is opened.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from streamgauge.errors import UsageError
from streamgauge.simulator import faults, memory, models


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a simulator. Every field has a default; see docs/simulator.md."""

    host: str = "localhost"
    """`localhost` listens on 127.0.0.1 and ::1, `all` on every address of both families; else one address."""
    port: int = 0
    """0 takes a free one."""
    seed: int = 1
    model: str = "gpt-4o-mini"
    """For requests that name none."""
    faults: tuple[str, ...] = ()
    reliability: str = "1"
    """Share of requests that succeed, or `strategy`: each model loses what the strategy says of its provider."""
    capacity: int | None = None
    """Generations at once; more of them wait."""
    queue: int | None = None
    """Requests that may wait; None: any number."""
    over: int = 503
    """Status for requests past the queue."""
    slowdown: float = 0.0
    """Each other open generation stretches the waits of a new one by this share."""
    leak_mb_per_request: float = 0.0
    leak_mb_per_hour: float = 0.0
    memory: str | None = None
    """What `GET /probe` says of memory, by `simulator.memory.Script`; None: the process's own."""
    gzip: str | None = None
    """`flush`: compressed, flushed after each event; `buffered`: every 2 KB of events, which merges tokens."""
    tls_cert: str | None = None
    tls_key: str | None = None
    require_key: str | None = None
    idle_s: float | None = None
    """Idle connections are closed after this."""
    log: str | None = None
    """File of the truth log."""
    for_s: float | None = None
    """Stop after this time."""
    parent_pid: int | None = None
    """Stop when this process is no longer the parent."""

    def check(self) -> None:
        """UsageError for the first value that cannot work."""
        for text in self.faults:
            faults.parse(text)
        self.failing(models.Pace(0))
        if self.memory is not None:
            memory.parse(self.memory)
        if models.find(self.model) is None:
            raise UsageError(
                f"model {self.model!r}: a sim- name reads like sim-t300-i20-n100 (TTFT ms, gap ms, tokens)"
            )
        _within("port", self.port, 0, 65_535)
        _within("over", self.over, 400, 599)
        for name, low in (("capacity", 1), ("queue", 0), ("slowdown", 0), ("leak_mb_per_request", 0),
                          ("leak_mb_per_hour", 0), ("idle_s", 0.001), ("for_s", 0.001)):  # fmt: skip
            value = getattr(self, name)
            if value is not None:
                _within(name, value, low, 10**9)
        if self.gzip not in (None, "flush", "buffered"):
            raise UsageError(f"gzip {self.gzip!r}: there are flush and buffered")
        if self.queue is not None and self.capacity is None:
            raise UsageError("queue without capacity: requests only wait where --capacity limits those at work")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UsageError("tls-cert and tls-key belong together: give both or neither")
        for path in (self.tls_cert, self.tls_key):
            if path is not None and not Path(path).is_file():
                raise UsageError(f"TLS file {path!r} is not there; give a PEM file that exists")
        if self.log is not None and Path(self.log).is_dir():
            raise UsageError(f"log {self.log!r} is a folder; name a file")
        if self.require_key == "":
            raise UsageError("require-key is empty; give the key that requests must carry")

    def failing(self, pace: models.Pace) -> float:
        """The share of a model's requests that are to fail."""
        if self.reliability == "strategy":
            return pace.failing
        try:
            share = float(self.reliability)
        except ValueError:
            share = math.nan
        if not 0 <= share <= 1:
            raise UsageError(f"reliability {self.reliability!r}: a share from 0 to 1, such as 0.999, or strategy")
        return 1 - share

    def to_json(self) -> str:
        """As the module's one argument."""
        return json.dumps({k: v for k, v in asdict(self).items() if v is not None})

    @classmethod
    def from_json(cls, text: str) -> Options:
        """Out of the module's argument. UsageError for anything else."""
        try:
            value = json.loads(text)
            known = {f.name for f in fields(cls)}
            if not isinstance(value, dict) or not set(value) <= known:
                raise ValueError(f"known are {', '.join(sorted(known))}")
            return cls(**value | {"faults": tuple(value.get("faults", ()))})
        except (ValueError, TypeError) as e:
            raise UsageError(f"simulator options must be a JSON object: {e}") from None


def _within(name: str, value: float, low: float, high: float) -> None:
    """UsageError unless low <= value <= high."""
    if not low <= value <= high:
        raise UsageError(f"{name.replace('_', '-')} {value!r}: must be from {low} to {high}")
