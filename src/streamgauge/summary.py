"""Samples to numbers: `MetricsCollector` takes Samples one by one and gives a `Summary`."""

from __future__ import annotations

import msgspec


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """One metric's values over one group. Quantiles are nearest rank over n, censored ones counting as +infinity."""

    n: int
    """Size of the population, censored ones included."""
    censored: int = 0
    """Of them, those that gave no value and count as +infinity."""
    no_text: int = 0
    """Good answers that owed no text: not in n."""
    min: float | None = None
    mean: float | None = None
    sd: float | None = None
    cv: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None
    why: dict[str, str] = {}
    """For each stat that is null: why (censored, merged, too_few, no_text, not_measured)."""


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """k of n with exact one-sided 95 % bounds (fractions)."""

    k: int
    n: int
    value: float | None
    low: float | None
    high: float | None


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of one slice. None in target, prompt, phase or level: not sliced by it."""

    target: str | None = None
    prompt: str | None = None
    phase: str | None = None
    level: int | None = None
    metrics: dict[str, Distribution]
    rates: dict[str, Rate]
    scalars: dict[str, float | None]
    outcomes: dict[str, int]


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of the run. Level 0 in open loop."""

    name: str
    level: int
    start_ns: int
    end_ns: int
