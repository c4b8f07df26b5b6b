"""What a run is asked to do, as plain values, and how many workers that takes."""

from __future__ import annotations

import os

import msgspec

from streamgauge.clock import S
from streamgauge.guard import Limits
from streamgauge.plan import Phase
from streamgauge.target import Target

GRACE_NS = 30 * S
WORKER_STREAMS = 250
"""More streams than this at once are worth another worker, where there is a core for it."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a run needs, as plain values."""

    targets: tuple[Target, ...]
    prompts: dict[str, tuple[str, ...]]
    phases: tuple[Phase, ...]
    seed: int
    limits: Limits = Limits()
    secrets: tuple[str, ...] = ()
    grace_ns: int = GRACE_NS
    """What open streams get when the plan is over."""
    unjudged: tuple[str, ...] = ("warmup",)
    """Phases whose failures do not count towards the stop rule."""

    widest: int = 0
    """Streams at once that may follow the plan's own: it gets as many workers as they need."""
    workers: int | None = None
    """So many of them, whatever the cores; None: as many as `workers_for` says."""

    def __repr__(self) -> str:
        """Without what is secret."""
        return f"<Load of {len(self.targets)} targets, {len(self.phases)} phases>"


def workers_for(streams: int) -> int:
    """How many workers to start for so many streams at once: one a core but one, and no more than are of use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores - 1, -(-streams // WORKER_STREAMS)))
