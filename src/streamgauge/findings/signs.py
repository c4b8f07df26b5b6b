"""Signs within one run: whether first tokens, errors and the pace of answers drift while the load stays the same.

How: the judged requests of a target, in order of due, in twelve equal bins; of each bin the median (of errors the
share). The bins have a trend where Kendall's tau says so at 1 % (two-sided), half of its Theil-Sen slope's 95 % bounds
do not matter beside it, and the change over the run is worth a word. Bins are long beside the bouts in which waits and
errors come, so that a bout in a steady service is a high bin and no trend.

How often a steady service alarms all the same stands in docs/findings.md, and `tests/test_signs.py` counts it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from streamgauge.columns import Columns, FloatArray, IntArray, population
from streamgauge.findings.finding import Finding, RunFacts, TargetFacts
from streamgauge.metrics import METRICS
from streamgauge.sample import GOOD
from streamgauge.shares import MOST, share_of

Way = Literal["rising", "falling", "steady"]

BINS = 12
LEAST_A_BIN = 8
ALPHA = 0.01
CHANGE = 0.15
"""A change of times or pace over the run that is smaller is nothing to act on."""
ERRORS_MORE, ERRORS_TIMES = 0.01, 2.0
"""Errors rise where their share does by so much, and to so many times what it was."""
LEAST_FAILED = 6


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """How one number of one target went over the judged part of the run."""

    target: str
    metric: str
    """`ttft_ms`, `output_rate`, `error_rate`."""
    way: Way | None
    """null: too few requests to tell, or the load was to change."""
    change: float | None
    """Over the run: of times and pace the share by which they changed, of error_rate the difference of shares."""
    low: float | None
    high: float | None
    """95 % bounds of it, by the slopes between all pairs of bins."""
    first: float | None
    last: float | None
    """Its first and its last bin, in the metric's unit."""
    p: float | None
    n: int
    sign: Literal["warning", "positive"] | None
    """What the strategy calls it."""
    words: str


@dataclass(frozen=True, slots=True)
class Drift:
    """How a number went over a run; None where it did not change at all. Times and pace: `change` is a share."""

    way: Way
    first: float
    last: float
    change: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


def drift(at_s: FloatArray, values: FloatArray, *, shares: bool) -> Drift:
    """Whether `values`, in order of due at `at_s`, have a trend. shares: they are 0 or 1, and their share is meant."""
    from scipy import stats as tests  # takes half a second to load, and most commands judge nothing

    at = np.array([part.mean() for part in np.array_split(at_s, BINS)])
    binned = np.array([part.mean() if shares else np.median(part) for part in np.array_split(values, BINS)])
    third = BINS // 3
    first, last = float(binned[:third].mean()), float(binned[-third:].mean())
    scaled = binned if shares else np.log(binned)
    if np.ptp(scaled) == 0 or np.ptp(at) == 0:
        return Drift("steady", first, last)
    p = float(tests.kendalltau(at, scaled).pvalue)
    slope, _, low, high = (float(x) for x in tests.theilslopes(scaled, at, alpha=0.95))
    change, low, high = (x * float(np.ptp(at)) for x in (slope, low, high))
    if shares:
        change = last - first  # of counts as small as errors are, most pairs of bins are equal
        much = abs(change) >= ERRORS_MORE and values.sum() >= LEAST_FAILED
        much = much and max(first, last) >= ERRORS_TIMES * min(first, last)
    else:
        change, low, high = (float(np.expm1(x)) for x in (change, low, high))
        much = abs(change) >= CHANGE and low * high > 0
    way: Way = "steady" if p >= ALPHA or not much else "rising" if change > 0 else "falling"
    return Drift(way, first, last, change, low, high, p)


def trends(run: RunFacts) -> list[Trend]:
    """Of each judged target: first tokens, pace, errors."""
    return [trend(run.of(target), metric) for target in run.scope.targets for metric in _SAYS]


def trend(facts: TargetFacts, metric: str) -> Trend:
    """How one number went."""
    columns = facts.columns
    rows, values = _values(columns, facts.counted, metric)
    if not facts.run.steady:
        return _trend(facts, metric, None, len(rows), "the load was to change")
    if len(rows) < BINS * LEAST_A_BIN or len(np.unique(columns.level[rows])) > 1:
        return _trend(facts, metric, None, len(rows), "too few requests of one level to tell")
    order = np.argsort(columns.due[rows], kind="stable")
    found = drift((columns.due[rows][order] - facts.start_ns) / 1e9, values[order], shares=metric == "error_rate")
    return _trend(facts, metric, found, len(rows), "")


def _values(columns: Columns, rows: IntArray, metric: str) -> tuple[IntArray, FloatArray]:
    """(rows, values) that count: of times and pace with the prompt's own length taken out."""
    if metric == "error_rate":
        return rows, (~columns.having(rows, GOOD)).astype(np.float64)
    found = population(columns, METRICS[metric], rows)
    keep = np.isfinite(found.values) & (found.values > 0)
    rows, values = found.rows[keep], found.values[keep].copy()
    middle = float(np.median(values)) if len(values) else 1.0
    for prompt in np.unique(columns.prompt[rows]):
        own = columns.prompt[rows] == prompt
        values[own] *= middle / float(np.median(values[own]))
    return rows, values


_WARNS = {("ttft_ms", "rising"), ("output_rate", "falling"), ("error_rate", "rising")}
_GOOD = {("ttft_ms", "falling"), ("output_rate", "rising"), ("error_rate", "falling"), ("error_rate", "steady")}
_SAYS = {"ttft_ms": "TTFT", "output_rate": "pace of answers", "error_rate": "share of errors"}


def _trend(facts: TargetFacts, metric: str, found: Drift | None, n: int, why: str) -> Trend:
    way = None if found is None else found.way
    what, over = _SAYS[metric], "over the run"
    if found is None:
        words = f"{what}: not looked at: {why}"
    elif way == "steady":
        words = f"{what}: steady"
    elif metric == "error_rate":
        words = f"{what} {way}: from {found.first:.1%} to {found.last:.1%} {over}"
    elif (found.change or 0) > MOST:
        ends = " to ".join(f"{1 + (end or 0):,.1f}" for end in (found.low, found.high))
        words = f"{what} {way}: to {share_of(1 + (found.change or 0), 'what it was')} {over} [{ends}]"
    else:
        words = f"{what} {way}: {found.change or 0:+.0%} {over} [{found.low or 0:+.0%} to {found.high or 0:+.0%}]"
    sign: Literal["warning", "positive"] | None = None
    if (metric, way) in _WARNS:
        sign = "warning"
    elif (metric, way) in _GOOD and not (way == "steady" and found is not None and found.last > ERRORS_MORE):
        sign = "positive"
    told = {
        name: None if found is None or (x := getattr(found, name)) is None else round(x, 6)
        for name in ("change", "low", "high", "first", "last", "p")
    }
    return Trend(target=facts.target, metric=metric, way=way, n=n, sign=sign, words=words, **told)


# The rules.


def ttft_rising(facts: TargetFacts) -> Iterator[Finding]:
    """First tokens come later and later though the load stays the same."""
    found = trend(facts, "ttft_ms")
    if found.sign == "warning":
        yield _warning(
            facts, "ttft_rising", found,
            "the service gets slower with time: a queue that grows, memory or a cache that fills, a neighbour, a "
            "provider's quota that is used up",
            "watch CPU, memory and open connections of the app over the same time (a probe does: [probes.NAME])",
            "find what grows; until then fewer streams an instance, or more instances",
        )  # fmt: skip


def pace_falling(facts: TargetFacts) -> Iterator[Finding]:
    """Answers come slower and slower though the load stays the same."""
    found = trend(facts, "output_rate")
    if found.sign == "warning":
        yield _warning(
            facts, "pace_falling", found,
            "the model or the app has less and less to spare for each stream: throttled by the provider, a CPU whose "
            "credits are used up, work for each token that grows",
            "watch CPU over the same time; ask the provider itself beside it (control = ...)",
            "give it more CPU or another class of machine; take work off each token",
        )  # fmt: skip


def errors_rising(facts: TargetFacts) -> Iterator[Finding]:
    """More and more requests fail though the load stays the same."""
    found = trend(facts, "error_rate")
    if found.sign == "warning":
        yield _warning(
            facts, "errors_rising", found,
            "something is used up: connections, descriptors, memory, a quota",
            "the first failures tell most: look for their trace ids in the logs of who answered",
            "what was not ok says which failures these are; fix those first",
        )  # fmt: skip


def _warning(facts: TargetFacts, name: str, found: Trend, cause: str, check: str, remedy: str) -> Finding:
    rows = facts.counted
    late = rows[np.argsort(facts.columns.due[rows], kind="stable")][-len(rows) // 3 :]
    return Finding(
        name=name,
        target=facts.target,
        words=found.words,
        evidence=facts.basis(
            np.sort(late), len(rows), "requests of the last third", change=found.change, low=found.low, high=found.high,
            first=found.first, last=found.last, p=found.p,
        ),
        cause=cause, check=check, remedy=remedy, later=True,
    )  # fmt: skip
