"""Criteria: what is asked of one number, in words a spec holds: `"ttft_ms.p95 < 1000"`.

Rules: a criterion is `metric[.stat] op limit[unit]`. Metrics come from the one table of metrics. Times, per-request
numbers and gaps take a stat (p50, p95, p99.9, mean, min, max, sd, cv); rates, counts and scalars take none. Limits are
kept in the metric's own unit: ms for times, fractions for rates and cv. A limit that is likely a slip (`error_rate <
0.5` is 50 %) is refused with both readings named, because a limit a hundred times too wide passes everything.

Scope: `target` and `prompt` are a name, `each` (judged one by one) or `all` (pooled). Without a word, what has a
value per request is judged for each target, and rates, counts and scalars over all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from streamgauge.metrics import METRICS, Metric
from streamgauge.spec.mistakes import did_you_mean

OPS = ("<", "<=", ">", ">=", "==")
Severity = Literal["P0", "P1", "P2"]
EACH = "each"
ALL = "all"

_RULE = re.compile(r"^\s*([A-Za-z_][\w]*)(?:\.([A-Za-z][\w.]*))?\s*(<=|>=|==|<|>|=<|=>|!=|=)\s*(\S.*?)\s*$")
_LIMIT = re.compile(r"^([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*)$")
_PERCENTILE = re.compile(r"^p(\d+(?:\.\d+)?)$")
_STATS = ("mean", "min", "max", "sd", "cv")
_TAKES_STAT = frozenset({"time", "per_request", "gaps"})
_LIKELY_PERCENT = {"rate": 0.1, "cv": 5.0}


@dataclass(frozen=True, slots=True)
class Rule:
    """A criterion without its scope. `limit` is in `unit`: ms for times, `` (a fraction) for rates and cv."""

    metric: str
    stat: str | None
    op: str
    limit: float
    unit: str
    text: str


@dataclass(frozen=True, slots=True)
class Criterion:
    """A rule with its scope. In a resolved test `target` and `prompt` are a name or None (all pooled)."""

    metric: str
    stat: str | None
    op: str
    limit: float
    unit: str
    text: str
    name: str
    target: str | None = None
    prompt: str | None = None
    phase: str | None = None
    """None: the judged phases."""
    advisory: bool = False
    severity: Severity | None = None
    """P0, P1 or P2 when it fails; None: by the strategy's thresholds."""
    may_gate: bool = True
    """False: shown, and a fail fails the run, but an undecided one cannot hold back a pass."""


def takes_stat(metric: Metric) -> bool:
    """Whether the metric has one value (or several) a request, so that a criterion must say which stat."""
    return metric.kind in _TAKES_STAT


def parse_rule(text: str) -> Rule:
    """`text` as a Rule; ValueError says what is wrong with it and what is allowed."""
    match = _RULE.match(text)
    if match is None:
        raise ValueError(f'"{text}" is not a criterion; write metric.stat op limit, as in "ttft_ms.p95 < 1000"')
    name, stat, op, limit_text = match.groups()
    metric = METRICS.get(name)
    if metric is None:
        hint = did_you_mean(name, METRICS)
        known = "" if hint != "." else f" Metrics: {', '.join(METRICS)}"
        raise ValueError(f'"{text}": no metric "{name}"{hint}{known}')
    _check_stat(text, metric, stat)
    if op not in OPS:
        raise ValueError(f'"{text}": "{op}" is no comparison here; use one of {" ".join(OPS)}')
    limit, unit = _limit(text, metric, stat, limit_text)
    return Rule(name, stat, op, limit, unit, " ".join(text.split()))


def _check_stat(text: str, metric: Metric, stat: str | None) -> None:
    allowed = "p50, p75, p90, p95, p99, p99.9 (any pNN), " + ", ".join(_STATS)
    if not takes_stat(metric):
        if stat is not None:
            raise ValueError(
                f'"{text}": {metric.name} is one number for all requests and takes no ".{stat}"; '
                f"write {metric.name} alone"
            )
        return
    if stat is None:
        raise ValueError(f'"{text}": {metric.name} needs a stat, as in {metric.name}.p95; allowed: {allowed}')
    percentile = _PERCENTILE.match(stat)
    if percentile is not None:
        if not 0 < float(percentile[1]) < 100:
            raise ValueError(f'"{text}": "{stat}" is not between p0 and p100')
    elif stat not in _STATS:
        raise ValueError(
            f'"{text}": no stat "{stat}"{did_you_mean(stat, (*_STATS, "p50", "p95", "p99"))} Allowed: {allowed}'
        )


def _limit(text: str, metric: Metric, stat: str | None, limit_text: str) -> tuple[float, str]:
    """The limit in the unit it is kept in."""
    match = _LIMIT.match(limit_text)
    value = float(match[1].replace("_", "")) if match else math.nan
    if match is None or not math.isfinite(value):
        raise ValueError(f'"{text}": the limit "{limit_text}" is not a finite number')
    if value < 0 or match[1].startswith("-"):
        raise ValueError(f'"{text}": the limit {match[1]} is negative; no metric is ever below 0')
    unit = "" if stat == "cv" else metric.unit
    fraction = stat == "cv" or metric.kind == "rate"
    scales = {"": 1.0, unit: 1.0}
    if fraction or metric.share:
        scales["%"] = 0.01
    elif unit == "ms":
        scales |= {"s": 1_000.0, "us": 0.001, "min": 60_000.0}
    given = match[2]
    if given not in scales:
        wanted = ", ".join(sorted(key for key in scales if key)) or "none"
        raise ValueError(f'"{text}": unit "{given}" does not fit {metric.name}; allowed: {wanted}')
    value = round(value * scales[given], 12)
    if fraction:
        _check_fraction(text, "cv" if stat == "cv" else "rate", value, given)
    return value, unit


def _check_fraction(text: str, kind: str, value: float, given: str) -> None:
    if kind == "rate" and value > 1:
        raise ValueError(f'"{text}": a rate is at most 1 (100 %)')
    if given != "%" and value >= _LIKELY_PERCENT[kind]:
        raise ValueError(
            f'"{text}" means {value * 100:g} %; write "{value:g}%" or "{value * 100:g}%" to say which you mean'
        )


def criterion(
    text: str,
    *,
    target: str | None = None,
    prompt: str | None = None,
    phase: str | None = None,
    advisory: bool = False,
    severity: Severity | None = None,
    name: str | None = None,
    may_gate: bool = True,
) -> Criterion:
    """A Criterion from its text and scope (`each`, `all`, a name; None: what is usual). ValueError as parse_rule."""
    rule = parse_rule(text)
    usual = EACH if takes_stat(METRICS[rule.metric]) else ALL
    return Criterion(
        metric=rule.metric,
        stat=rule.stat,
        op=rule.op,
        limit=rule.limit,
        unit=rule.unit,
        text=rule.text,
        name=name or rule.text,
        target=target or usual,
        prompt=prompt or ALL,
        phase=phase,
        advisory=advisory,
        severity=severity,
        may_gate=may_gate,
    )


def default_criteria(
    test: str, preset: str, *, prompts: Collection[str], level: float, open_loop: bool, probes: bool = False
) -> tuple[Criterion, ...]:
    """What `test` is judged by when the spec says nothing, scopes still unexpanded.

    `level` is the concurrency asked for; in open loop no level is held, so none is judged. In stress it is what must be
    within the criteria: users, in open loop requests a second. probes: whether the server's memory is read; where it is
    not, endurance shows its criterion on it and does not wait for it.
    """
    if test == "ttft":
        short = (criterion("ttft_ms.p50 < 500", prompt="short"),) if "short" in prompts else ()
        return (
            criterion("ttft_ms.p95 < 1000"),
            criterion("ttft_ms.p99 < 2000"),
            *short,
            criterion("output_rate.p50 > 10"),
            criterion("ttft_ms.cv < 50%", prompt=EACH, may_gate=preset == "full"),
            criterion("error_rate < 0.5%"),
        )
    if test == "concurrent":
        held = () if open_loop else (criterion(f"concurrency_held >= {level}"),)
        return (
            *held,
            criterion("error_rate < 0.5%"),
            criterion("drops == 0"),
            criterion("ttft_degradation <= 1.5", advisory=True),
        )
    if test == "memory":
        return (
            criterion("memory_growth_mb_per_h < 100"),
            criterion("memory_cleanup > 50%"),
            criterion("memory_unbounded == 0"),
        )
    if test == "endurance":
        return (
            criterion("streams_complete >= 100%"),
            criterion("drops == 0"),
            criterion("timeouts == 0"),
            criterion("pace_kept > 80%"),
            criterion("memory_growth_mb_per_h < 100", may_gate=probes),
            criterion("stalls == 0", advisory=True),
        )
    if test == "stress":
        return (
            criterion(f"capacity >= {level:g}"),
            criterion("ttft_ms.p95 < 1000", may_gate=False),
            criterion("level_error_rate < 5%"),
            criterion("crashes == 0"),
            criterion("recovery_s < 30"),
        )
    raise ValueError(f"no test {test!r}")


def speaks_of_the_same(a: Criterion, b: Criterion) -> bool:
    """Whether two criteria judge the same number in the same direction: one's own takes the default's place."""
    return (a.metric, a.stat, a.op[0], a.target, a.prompt, a.phase) == (
        b.metric,
        b.stat,
        b.op[0],
        b.target,
        b.prompt,
        b.phase,
    )


def expand(
    criteria: Iterable[Criterion], *, targets: tuple[str, ...], prompts: tuple[str, ...]
) -> tuple[Criterion, ...]:
    """Criteria with `each` written out and `all` as None; the name says the scope where there is a choice."""
    out = []
    for one in criteria:
        for target in _scope(one.target, targets):
            for prompt in _scope(one.prompt, prompts):
                words = [word for word, names in ((target, targets), (prompt, prompts)) if word and len(names) > 1]
                words += [one.phase] if one.phase else []
                name = f"{one.name} ({', '.join(words)})" if words else one.name
                out.append(replace(one, target=target, prompt=prompt, name=name))
    return tuple(out)


def _scope(word: str | None, names: tuple[str, ...]) -> tuple[str | None, ...]:
    if word == EACH:
        return names
    return (None,) if word in (None, ALL) else (word,)
