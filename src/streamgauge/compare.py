"""Differences between arms that ran side by side, with intervals: target against target, target against its control."""

from __future__ import annotations

from typing import Literal

import msgspec


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """a - b of one stat of one metric, with a two-sided 90 % interval (each bound one-sided 95 %)."""

    kind: Literal["targets", "control"]
    a: str
    b: str
    metric: str
    stat: str
    unit: str
    value_a: float | None
    value_b: float | None
    difference: float | None
    low: float | None
    high: float | None
    confidence: float
    n_a: int
    n_b: int
    sentence: str
