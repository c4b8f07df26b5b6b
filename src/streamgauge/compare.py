"""Differences between arms that ran side by side, with intervals: target against target, target against its control.

Rules: arms are compared over requests that came due in the same phases, interleaved by the plan, so that drift hits all
alike; never two runs one after the other. The difference is one of quantiles, by the order-statistic bootstrap
(`stats.quantile_difference_bounds`), censored requests counting as +infinity on either side. Targets are compared by
what the user waited (ttft); an app with its control by what the service took (ttft_service), so that neither our queue
nor the slots' think time enters what the app is said to add.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np

from streamgauge import stats
from streamgauge.columns import Columns, FloatArray, population
from streamgauge.metrics import METRICS
from streamgauge.slices import seen_quantile
from streamgauge.summary import Scope

STATS = {"p50": 0.5, "p95": 0.95}
Kind = Literal["targets", "control"]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """a - b of one stat of one metric, with a two-sided 90 % interval (each bound one-sided 95 %)."""

    kind: Kind
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


def comparisons(
    columns: Columns,
    scope: Scope,
    *,
    controls: Mapping[str, str] | None = None,
    seed: int = 0,
    confidence: float = stats.CONFIDENCE,
) -> list[Comparison]:
    """Every judged target against the fastest of them, and each target of `controls` against its control (p50 and p95).

    The fastest is the one with the lowest p95, of which the criteria speak; where none reaches its p95, the lowest p50.
    """
    best = fastest(columns, scope)
    pairs: list[tuple[Kind, str, str | None, str]] = [
        *(("targets", target, best, "ttft_ms") for target in scope.targets if target != best),
        *(("control", target, control, "ttft_service_ms") for target, control in (controls or {}).items()),
    ]
    return [
        compare(columns, scope, kind, a, b, metric, stat, seed=seed, confidence=confidence)
        for kind, a, b, metric in pairs
        if b is not None and a in columns.targets and b in columns.targets
        for stat in STATS
    ]


def fastest(columns: Columns, scope: Scope) -> str | None:
    """The judged target with the lowest ttft p95 (p50 where no p95 was reached); None where none reached either."""
    for q in (0.95, 0.5):
        reached: dict[str, float] = {}
        for target in scope.targets:
            value = stats.quantile(_ordered(columns, scope, target, "ttft_ms"), q)
            if value is not None and np.isfinite(value):
                reached[target] = value
        if reached:
            return min(reached, key=lambda name: (reached[name], name))
    return None


def compare(
    columns: Columns,
    scope: Scope,
    kind: Kind,
    a: str,
    b: str,
    metric: str,
    stat: str,
    *,
    seed: int = 0,
    confidence: float = stats.CONFIDENCE,
) -> Comparison:
    """One stat of target `a` less that of target `b` over the judged phases."""
    q = STATS[stat]
    arms = [_ordered(columns, scope, name, metric) for name in (a, b)]
    values = [_told(arm, q) for arm in arms]
    difference = None if values[0] is None or values[1] is None else values[0] - values[1]
    bounds = stats.NO_BOUNDS
    if difference is not None:
        bounds = stats.quantile_difference_bounds(arms[0], arms[1], q, np.random.default_rng(seed), confidence)
    return Comparison(
        kind=kind,
        a=a,
        b=b,
        metric=metric,
        stat=stat,
        unit=METRICS[metric].unit,
        value_a=values[0],
        value_b=values[1],
        difference=difference,
        low=bounds.low,
        high=bounds.high,
        confidence=confidence,
        n_a=len(arms[0]),
        n_b=len(arms[1]),
        sentence=_sentence(kind, a, b, stat, difference, bounds),
    )


def _ordered(columns: Columns, scope: Scope, target: str, metric: str) -> FloatArray:
    return np.sort(population(columns, METRICS[metric], columns.select(targets=[target], phases=scope.judged)).values)


def _told(ordered: FloatArray, q: float) -> float | None:
    value = stats.quantile(ordered, q)
    return None if value is None else seen_quantile(value, q, ordered)[0]


def _sentence(kind: Kind, a: str, b: str, stat: str, difference: float | None, bounds: stats.Bounds) -> str:
    which = {"p50": "the median", "p95": "p95"}[stat]
    if difference is None:
        return f"{a} and {b} cannot be compared at {which}: not enough of their requests gave a token"
    low, high = bounds.low, bounds.high
    if difference < 0:  # `89 ms faster [73 to 98]`: the bounds are told in the direction of the words
        low, high = (None if bound is None else -bound for bound in (high, low))
    seen, between = f"{_ms(abs(difference))} ms", _between(low, high)
    # In the direction of the words the difference is never below 0, so only its lower bound can tell it from 0.
    settled = low is not None and low > 0
    if kind == "control":
        verb = "adds" if difference >= 0 else "takes off"
        if settled:
            return f"{a} {verb} {seen} at {which} over {b}{between}"
        less = "" if difference >= 0 else " less"
        return f"{a} and its control {b} cannot be told apart at {which}: {seen}{less} seen{between}"
    slower = "slower" if difference >= 0 else "faster"
    if settled:
        return f"{a} is {seen} {slower} than {b} at {which}{between}"
    return f"{a} and {b} cannot be told apart at {which}: {a} was {seen} {slower}{between}"


def _between(low: float | None, high: float | None) -> str:
    """The interval in brackets; where only one bound is known that one."""
    if low is None and high is None:
        return " (too few to bound it)"
    if low is None or high is None:
        return f" [at most {_ms(high)}]" if high is not None else f" [at least {_ms(low or 0.0)}]"
    return f" [{_ms(low)} to {_ms(high)}]"


def _ms(value: float) -> str:
    """Whole ms from 10 on, one digit below, and so many that what is not 0 does not read as 0."""
    if 0 < abs(value) < 0.05:
        return f"{value:.1g}"
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.1f}"
