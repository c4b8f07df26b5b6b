"""Every kind of probe, by its name in the spec. A new kind: its source in `contract`, its function, its line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamgauge.clock import Clock
from streamgauge.probes.contract import Ask, OfJson, OfProcess, Source
from streamgauge.probes.page import page
from streamgauge.probes.process import process

KINDS: dict[str, tuple[type, Callable[[Any, Clock], Ask]]] = {
    "process": (OfProcess, process),
    "json": (OfJson, page),
}


def kind_of(source: Source) -> str:
    """Its name in the spec."""
    return next(name for name, (made_of, _) in KINDS.items() if isinstance(source, made_of))


def probe_of(source: Source, clock: Clock) -> Ask:
    """The function that reads `source`."""
    return KINDS[kind_of(source)][1](source, clock)
