"""What a rule reads and what it gives: one target's `TargetFacts` in, a `Finding` with its evidence out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from streamgauge.columns import Columns, IntArray

IDS = 5
"""So many Samples are named as examples."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What a finding rests on."""

    k: int
    """How many of the `n` that were looked at show it."""
    n: int
    of: str
    """What was counted: `answers`, `streams`, `connections`, `requests`."""
    values: dict[str, float | None]
    """Numbers, units in their names."""
    from_s: float | None
    """When the first and the last of the k came due, from the run's start."""
    to_s: float | None
    samples: list[str]
    """Trace ids of some of the k, at most five."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was seen, why it may be so, how to make sure, and what to do."""

    name: str
    """The rule that found it."""
    target: str | None
    words: str
    evidence: Basis
    cause: str
    """The likely one: the data alone does not prove it."""
    check: str
    """How to make sure."""
    remedy: str


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """One target's requests of the judged phases."""

    target: str
    columns: Columns
    rows: IntArray
    way: frozenset[str]
    """Proxies that answers of this target name: nginx, Envoy... HAProxy tells no one."""
    start_ns: int
    """When the run began."""

    def basis(self, found: IntArray, n: int, of: str, **values: float | None) -> Basis:
        """The evidence that `found`, rows of these facts, are."""
        due = (self.columns.due[found] - self.start_ns) / 1e9
        picked = found[np.unique(np.linspace(0, len(found) - 1, IDS).round().astype(np.int64))] if len(found) else found
        return Basis(
            k=len(found),
            n=n,
            of=of,
            values={name: None if x is None else round(x, 2) for name, x in values.items()},
            from_s=round(float(due.min()), 2) if len(found) else None,
            to_s=round(float(due.max()), 2) if len(found) else None,
            samples=[_id(self.columns.facts["id"][row]) for row in picked],
        )


Rule = Callable[[TargetFacts], Iterator[Finding]]


def _id(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
