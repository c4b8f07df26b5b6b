"""The strategy's own tables, side by side with what was measured.

A row says what the strategy asks or calls typical, and what this run saw of it; a row this test does not measure says
which test would. Where there are several targets, what a request sees is told of the worst of them, by name: no row may
look good because a quick target makes up for a slow one. Nothing here decides: the verdict comes from the criteria.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import streamgauge.reports.wording as say
from streamgauge.reports.document import Baseline
from streamgauge.summary import Group, Summary

Measure = Callable[[Group], float | None]


@dataclass(frozen=True, slots=True)
class _Row:
    table: str
    name: str
    target: str
    typical: str | None
    test: str
    measure: Measure | None
    unit: str
    limit: float | None = None
    prompt: str | None = None
    at_least: bool = False
    note: str | None = None
    pooled: bool = False
    """Whether it is one number over all targets."""


def _of(metric: str, stat: str) -> Measure:
    def measure(group: Group) -> float | None:
        found = group.metrics.get(metric)
        if found is None:
            return None
        value = math.inf if found.why.get(stat) == "censored" else getattr(found, stat)
        return None if value is None else float(value)

    return measure


def _error_rate(group: Group) -> float | None:
    return group.rates["error_rate"].value


def _reliability(group: Group) -> float | None:
    errors = _error_rate(group)
    return None if errors is None else 1 - errors


def _scalar(name: str) -> Measure:
    return lambda group: group.scalars.get(name)


_P50, _P95, _P99 = (_of("ttft_ms", stat) for stat in ("p50", "p95", "p99"))
_RATE = _of("output_rate", "p50")
_MINI = "OpenAI GPT-4o-mini"

_TABLE = (
    _Row("criteria", "TTFT p95", "< 1000 ms", None, "ttft", _P95, "ms", 1000),
    _Row("criteria", "TTFT p99", "< 2000 ms", None, "ttft", _P99, "ms", 2000),
    _Row("criteria", "Coefficient of variation", "< 50 %", None, "ttft", _of("ttft_ms", "cv"), "%", 0.5,
         note="the strategy asks it per prompt length; see the criteria"),
    _Row("criteria", "Concurrent streams", "100+", None, "concurrent", _scalar("concurrency_held"), "streams", 100,
         at_least=True, pooled=True),
    _Row("criteria", "Error rate", "< 0.5 %", None, "concurrent", _error_rate, "%", 0.005, pooled=True),
    _Row("criteria", "Connection drops", "0", None, "concurrent", _scalar("drops"), "", 0.5, pooled=True),
    _Row("baselines", "TTFT p50 (short prompts)", "< 500 ms", "~300 ms", "ttft", _P50, "ms", 500, "short", note=_MINI),
    _Row("baselines", "TTFT p95 (short prompts)", "< 1000 ms", "~600 ms", "ttft", _P95, "ms", 1000, "short",
         note=_MINI),
    _Row("baselines", "TTFT p99 (short prompts)", "< 2000 ms", "~900 ms", "ttft", _P99, "ms", 2000, "short",
         note=_MINI),
    _Row("baselines", "Concurrent streams", "100+", "100", "concurrent", _scalar("concurrency_held"), "streams", 100,
         at_least=True, note="No degradation", pooled=True),
    _Row("baselines", "Error rate", "< 0.5 %", "~0.1 %", "", _error_rate, "%", 0.005, note="Normal operation",
         pooled=True),
    _Row("baselines", "Memory growth", "< 100 MB/h", "~30 MB/h", "memory", None, "MB/h", 100,
         note="10 concurrent streams"),
    _Row("baselines", "Throughput", "> 10 tok/s", "~50 tok/s", "", _RATE, "tok/s", 10, at_least=True,
         note="Model dependent"),
)  # fmt: skip

_PROVIDERS = {
    "gpt-4o-mini": ("OpenAI (GPT-4o-mini)", "~600 ms", "~50 tok/s", "99.9 %"),
    "claude-3-5-sonnet": ("Anthropic (Claude 3.5 Sonnet)", "~800 ms", "~40 tok/s", "99.8 %"),
    "gemini-2.0-flash": ("Google (Gemini 2.0 Flash)", "~700 ms", "~45 tok/s", "99.7 %"),
}


def baselines(
    test: str, summary: Summary, models: dict[str, str | None], *, growth: float | None = None
) -> list[Baseline]:
    """The strategy's rows for this test.

    models: each judged target's model, where it names one. growth: of the server's memory in MB/h, where it was judged.
    """
    rows = []
    for row in _TABLE:
        value, whose, why = None, None, None
        if row.measure is None:
            value = growth
            why = None if growth is not None or test == row.test else f"measured by {row.test}"
        elif row.test in ("", test):
            value, whose = _seen(row, summary)
            why = "too few requests" if value is None and row.name.startswith("TTFT") else None
        else:
            why = f"measured by {row.test}"
        notes = [row.note, whose, why]
        rows.append(
            Baseline(
                table=row.table, name=row.name, target=row.target, typical=row.typical,
                measured=_shown(value, row.unit), verdict=_meets(row, value),
                note="; ".join(note for note in notes if note) or None,
            )
        )  # fmt: skip
    for target, model in models.items():
        rows += _provider(target, model, summary)
    return rows


def _seen(row: _Row, summary: Summary) -> tuple[float | None, str | None]:
    """What was seen of a row, and of which target where there are several: the worst of them."""
    assert row.measure is not None
    if row.pooled:
        whole = Group(metrics=summary.metrics, rates=summary.rates, scalars=summary.scalars, outcomes=summary.outcomes)
        return row.measure(whole), None
    groups = [summary.group(target=name, prompt=row.prompt) for name in summary.judged_targets]
    found = [(value, g.target) for g in groups if g is not None and (value := row.measure(g)) is not None]
    if not found:
        return None, None
    value, name = (min if row.at_least else max)(found, key=lambda one: one[0])
    return value, f"the worst of {len(groups)}: {name}" if len(groups) > 1 else None


def _provider(target: str, model: str | None, summary: Summary) -> list[Baseline]:
    """A known provider's three rows beside the target that asks its model."""
    known = next((row for name, row in _PROVIDERS.items() if model and name in model), None)
    group = summary.group(target=target)
    if known is None or group is None:
        return []
    name, p95, rate, reliability = known
    told = (
        ("TTFT p95", p95, _shown(_P95(group), "ms")),
        ("throughput", rate, _shown(_RATE(group), "tok/s")),
        ("reliability", reliability, _shown(_reliability(group), "%")),
    )
    return [
        Baseline(table="providers", name=f"{name} {what}", target=wanted, typical=None, measured=seen, verdict=None,
                 note=target)
        for what, wanted, seen in told
    ]  # fmt: skip


def _meets(row: _Row, value: float | None) -> str | None:
    """Whether the point seen meets the row; the criteria know its uncertainty."""
    if value is None or row.limit is None:
        return None
    return "pass" if (value >= row.limit if row.at_least else value < row.limit) else "fail"


def _shown(value: float | None, unit: str) -> str | None:
    if value is None:
        return None
    if math.isinf(value):
        return "not reached"
    if unit == "%":
        return say.percent(value)
    return f"{value:,.0f} {unit}".strip()
