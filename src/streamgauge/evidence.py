"""What Samples say about one requirement: a value, its bounds, and pass, fail or inconclusive. Plain values in and out.

Rules:
- PASS: the one-sided bound lies inside the limit. FAIL: it lies outside. Else inconclusive, with how many more requests
  would settle it, were what was seen to stay as it is.
- A quantile whose rank falls among requests that never gave a token fails; a value that is missing for any other reason
  leaves the requirement undecided. Nothing missing ever passes, whichever way the limit points.
- Counts, minima, maxima and scalars are judged as observed.
- Slow requests that come in bouts are worth less than their number: a quantile's bounds are widened by the effective n
  of the judged indicator in order of due, each target on its own. Rates stay exact binomial: a bout of failures that
  was seen is a failure, and where none was seen there is nothing to tell dependence from.
- A `View` asks "what if": stamps moved as far as our own slack and lateness allow, or Samples in flight over a step of
  the clock at either extreme.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from streamgauge import stats
from streamgauge.columns import BoolArray, Columns, FloatArray, IntArray, Moved, Population, population
from streamgauge.metrics import METRICS, Metric
from streamgauge.slices import GAPS_A_MS, MOMENTS, TOLERATED, count, events_of, merged_share

Answer = Literal["pass", "fail", "inconclusive"]
OPS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}
LONGEST = 1e18
"""More than any value, and still one that was reached."""
NEEDS_WITHIN = 10
"""How many more are needed is told up to so many times n."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """What is asked of one number: `metric.stat op limit`, the limit in the metric's unit (fractions for rates, cv)."""

    metric: str
    stat: str | None
    op: str
    limit: float

    @property
    def upper(self) -> bool:
        """Whether small values are wanted."""
        return self.op in ("<", "<=")

    @property
    def quantile(self) -> float | None:
        """The quantile asked for, 0.95 of `p95`; None for any other stat."""
        if self.stat is None or not self.stat.startswith("p"):
            return None
        return round(float(self.stat[1:]) / 100, 9)

    def beyond(self, values: npt.NDArray[Any], per_unit: float = 1.0) -> BoolArray:
        """Which values, of which `per_unit` make one of the metric's unit, do not meet it."""
        found: BoolArray = np.logical_not(OPS[self.op](values, self.limit * per_unit))
        return found

    def met_by(self, value: float) -> bool:
        """Whether a value meets it."""
        return bool(OPS[self.op](value, self.limit))


@dataclass(frozen=True, slots=True)
class View:
    """How Samples are looked at: as they are, or as they could be."""

    moved: Moved = "as_is"
    flagged: Literal["as_is", "least", "most"] = "as_is"
    """Where the values of Samples in flight over a clock step are put; moments are taken without them instead."""


AS_IS = View()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen of one requirement."""

    answer: Answer
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    why: str | None = None
    """For a null value or an open answer: censored, merged, too_few, no_text, not_measured."""
    needs: int | None = None
    beyond: int | None = None
    """How many requests of n lie beyond the limit (or failed, for a rate)."""
    censored: int = 0
    no_text: int = 0
    n_effective: int | None = None
    """How many independent requests the n are worth, where that is fewer."""
    said: str | None = None
    """Its own words, where what was seen is no share of requests."""


Weigh = Callable[["Requirement", float], Evidence]
"""What one test found out, held against a requirement, with bounds at this confidence."""

NOT_MEASURED = Evidence("inconclusive", why="not_measured")


def weigh(
    columns: Columns,
    ask: Requirement,
    rows: IntArray,
    *,
    confidence: float = stats.CONFIDENCE,
    seed: int = 0,
    view: View = AS_IS,
) -> Evidence:
    """Evidence on a requirement of a time, per-request, gap, rate or count metric over `rows`."""
    metric = METRICS[ask.metric]
    if metric.kind == "rate":
        return _weigh_rate(columns, ask, rows, confidence)
    if metric.kind == "count":
        return _weigh_count(columns, ask, rows, view)
    if metric.kind == "gaps":
        return _weigh_gaps(columns, ask, rows, confidence, seed, view)
    of = population(columns, metric, rows, view.moved)
    values = of.values
    if view.flagged != "as_is" and ask.quantile is not None:
        values = _stepped(columns, of.rows, values, view)
    elif view.flagged != "as_is":
        values = values[~columns.clock_step[of.rows]]
    # Flagged Samples lie side by side: put at an extreme they would look like a bout of our own making. The dependence
    # stays that of the values as they are.
    found = _weigh_values(columns, ask, of.rows, values, of.values, of.censored, confidence, seed)
    if metric.owed != "text":
        return found
    return _mind_no_text(found, of)


def _weigh_count(columns: Columns, ask: Requirement, rows: IntArray, view: View) -> Evidence:
    """A count as it is; a stall may also be made, or hidden, by a step of the clock: at most one a flagged request."""
    value, n = count(columns, ask.metric, rows)
    if view.flagged != "as_is" and ask.metric == "stalls":
        flagged = columns.clock_step[rows]
        value, _ = count(columns, ask.metric, rows[~flagged])
        value = (value or 0.0) + (flagged.sum() if view.flagged == "most" else 0)
    return observed(ask, value, n)


def observed(ask: Requirement, value: float | None, n: int) -> Evidence:
    """Evidence on a number that is judged as it is: count, scalar, minimum, maximum."""
    if value is None or n == 0:
        return NOT_MEASURED
    return Evidence("pass" if ask.met_by(value) else "fail", value, n=n)


def by_bounds(ask: Requirement, bounds: stats.Bounds) -> Answer:
    """PASS where every value within the bounds meets the requirement, FAIL where none does."""
    worst, best = (bounds.high, bounds.low) if ask.upper else (bounds.low, bounds.high)
    if worst is not None and ask.met_by(worst):
        return "pass"
    if best is not None and not ask.met_by(best):
        return "fail"
    return "inconclusive"


def _mind_no_text(found: Evidence, of: Population) -> Evidence:
    """More than 5 % of answers without a text they did not owe: ttft does not speak for them."""
    n, no_text = len(of.values), of.no_text
    if no_text <= TOLERATED * (n + no_text):
        return replace(found, no_text=no_text)
    return replace(found, n=n, no_text=no_text, answer="inconclusive", why="no_text", needs=None)


# One value a request


def _weigh_values(
    columns: Columns,
    ask: Requirement,
    rows: IntArray,
    values: FloatArray,
    seen: FloatArray,
    censored: int,
    confidence: float,
    seed: int,
) -> Evidence:
    if not len(values):
        return NOT_MEASURED
    if not ask.upper:
        # One that was owed and never came is worse than all, whichever way the limit points.
        values, seen = (np.where(np.isinf(x), -np.inf, x) for x in (values, seen))
    if ask.quantile is not None:
        worth = _effective_n(columns, rows, ask.beyond(seen))
        return _weigh_quantile(ask, ask.quantile, values, censored, confidence, worth)
    if ask.stat in ("min", "max"):
        extreme = float(values.max() if ask.stat == "max" else values.min())
        if not math.isfinite(extreme):
            return Evidence("fail", n=len(values), why="censored", censored=censored)
        return replace(observed(ask, extreme, len(values)), censored=censored)
    return _weigh_moment(ask, values, censored, confidence, seed)


def _weigh_quantile(
    ask: Requirement, q: float, values: FloatArray, censored: int, confidence: float, worth: float
) -> Evidence:
    n = len(values)
    beyond = int(ask.beyond(values).sum())
    ordered = np.sort(values)
    value = stats.quantile(ordered, q)
    assert value is not None
    bounds = stats.quantile_bounds(ordered, q, confidence, worth)
    answer = by_bounds(ask, bounds) if ask.op != "==" else ("pass" if ask.met_by(value) else "fail")
    reached, why = math.isfinite(value), None
    if not stats.resolves(q, n) and answer != "fail":
        why, reached, answer = "too_few", False, "inconclusive"
    elif not reached:
        why, answer = "censored", "fail"
    elif answer == "inconclusive" and (bounds.high if ask.upper else bounds.low) is None:
        why = "too_few"
    share = 1 - q if ask.upper else q
    return Evidence(
        answer,
        value if reached else None,
        _finite(bounds.low),
        _finite(bounds.high),
        n,
        why,
        _needs(beyond, n, share, confidence, worth) if answer == "inconclusive" else None,
        beyond,
        censored,
        n_effective=math.floor(worth) if worth < n else None,
    )


def _weigh_moment(ask: Requirement, values: FloatArray, censored: int, confidence: float, seed: int) -> Evidence:
    """mean, sd or cv of the values that were reached; a fail once more than 5 % of those owed were not."""
    n = len(values)
    if censored > TOLERATED * n:
        return Evidence("fail", n=n, why="censored", censored=censored)
    reached = values[np.isfinite(values)]
    which = next(moment for moment in MOMENTS if moment == ask.stat)
    value = stats.moment(reached, which)
    if value is None:
        return Evidence("inconclusive", n=n, why="too_few", censored=censored)
    bounds = stats.moment_bounds(reached, which, np.random.default_rng(seed), confidence)
    answer = by_bounds(ask, bounds) if ask.op != "==" else observed(ask, value, n).answer
    needs = _needs_for_moment(value, bounds, ask, n) if answer == "inconclusive" else None
    why = "too_few" if answer == "inconclusive" and bounds == stats.NO_BOUNDS else None
    return Evidence(answer, value, bounds.low, bounds.high, n, why, needs, censored=censored)


def _needs_for_moment(value: float, bounds: stats.Bounds, ask: Requirement, n: int) -> int | None:
    """More requests until the bound would reach the limit, its distance on the log scale shrinking with sqrt(n)."""
    if bounds.low is None or bounds.high is None or min(value, bounds.low, ask.limit) <= 0 or value == ask.limit:
        return None
    width = math.log(bounds.high / value) if value < ask.limit else math.log(value / bounds.low)
    wanted = n * (width / math.log(value / ask.limit)) ** 2
    return math.ceil(wanted - n) if n < wanted <= NEEDS_WITHIN * n else None


# Rates


def _weigh_rate(columns: Columns, ask: Requirement, rows: IntArray, confidence: float) -> Evidence:
    hits, of = events_of(columns, ask.metric, rows)
    k, n = int(hits.sum()), len(of)
    if not n:
        return replace(NOT_MEASURED, needs=_needs(0, 0, ask.limit, confidence, 0.0) if ask.upper else None)
    bounds = stats.rate_bounds(k, n, confidence)
    answer = by_bounds(ask, bounds) if ask.op != "==" else observed(ask, k / n, n).answer
    needs = _needs(k, n, ask.limit, confidence, float(n)) if answer == "inconclusive" else None
    return Evidence(answer, k / n, bounds.low, bounds.high, n, needs=needs, beyond=k)


def _needs(k: int, n: int, share: float, confidence: float, worth: float) -> int | None:
    if not 0 < share < 1:
        return None
    scale = n / worth if worth else 1.0
    more = stats.more_needed(k / scale, n / scale, share, confidence, factor=NEEDS_WITHIN)
    return None if not more else math.ceil(more * scale)


def _effective_n(columns: Columns, rows: IntArray, hits: BoolArray) -> float:
    """Independent requests that the rows are worth, as to who is hit; each target in its own order of due."""
    total = 0.0
    for target in np.unique(columns.target[rows]):
        own = columns.target[rows] == target
        order = np.argsort(columns.due[rows[own]], kind="stable")
        total += stats.effective_n(hits[own][order].astype(np.float64))
    return total


# Gaps, pooled over requests


def _weigh_gaps(
    columns: Columns, ask: Requirement, rows: IntArray, confidence: float, seed: int, view: View
) -> Evidence:
    rows = columns.counted(ask.metric, rows)
    if view.flagged == "least":
        rows = rows[~columns.clock_step[rows]]
    gaps, lengths = columns.gaps_of(rows)
    if view.flagged == "most":  # a step lies in one gap of a request
        gaps, stepped = gaps.copy(), columns.clock_step[rows] & (lengths > 0)
        gaps[(np.cumsum(lengths) - lengths)[stepped]] = np.iinfo(gaps.dtype).max
    n = int((lengths > 0).sum())
    if not n:
        return NOT_MEASURED
    q = ask.quantile
    if q is None:
        return _weigh_gap_moment(ask, gaps / GAPS_A_MS, lengths[lengths > 0], confidence, seed)
    if merged_share(columns, rows) > 1 - q:
        return Evidence("inconclusive", n=n, why="merged")
    found = stats.clustered_quantile(gaps, lengths, q, confidence)
    assert found is not None
    low, high = (None if x is None else x / GAPS_A_MS for x in (found.bounds.low, found.bounds.high))
    value = found.value / GAPS_A_MS
    answer = by_bounds(ask, stats.Bounds(low, high)) if ask.op != "==" else observed(ask, value, n).answer
    beyond = int(ask.beyond(gaps, GAPS_A_MS).sum())
    needs = None
    if answer == "inconclusive":
        # Counted in gaps that stand alone, told in requests.
        scale = found.n_effective / len(gaps)
        more = _needs(round(beyond * scale), round(found.n_effective), 1 - q if ask.upper else q, confidence, 0.0)
        needs = None if more is None else math.ceil(more * n / max(1.0, found.n_effective))
    why = "too_few" if answer == "inconclusive" and (high if ask.upper else low) is None else None
    return Evidence(answer, value, low, high, n, why, needs)


def _weigh_gap_moment(ask: Requirement, gaps: FloatArray, lengths: IntArray, confidence: float, seed: int) -> Evidence:
    if ask.stat in ("min", "max"):
        return observed(ask, float(gaps.max() if ask.stat == "max" else gaps.min()), len(lengths))
    which = next(moment for moment in MOMENTS if moment == ask.stat)
    value = stats.moment(gaps, which)
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    sums = np.stack((lengths, np.add.reduceat(gaps, starts), np.add.reduceat(gaps * gaps, starts)), axis=1)
    bounds = stats.clustered_moment_bounds(sums, which, np.random.default_rng(seed), confidence)
    if value is None:
        return Evidence("inconclusive", n=len(lengths), why="too_few")
    answer = by_bounds(ask, bounds) if ask.op != "==" else observed(ask, value, len(lengths)).answer
    why = "too_few" if answer == "inconclusive" and bounds == stats.NO_BOUNDS else None
    needs = _needs_for_moment(value, bounds, ask, len(lengths)) if answer == "inconclusive" else None
    return Evidence(answer, value, bounds.low, bounds.high, len(lengths), why, needs)


# The hold against the reference


def weigh_degradation(
    columns: Columns,
    ask: Requirement,
    rows: IntArray,
    reference: IntArray,
    *,
    confidence: float = stats.CONFIDENCE,
    seed: int = 0,
    view: View = AS_IS,
) -> Evidence:
    """Evidence on ttft p95 of `rows` over that of `reference`; only the former is moved by a view."""
    metric = METRICS["ttft_ms"]
    under, calm = population(columns, metric, rows, view.moved), population(columns, metric, reference)
    found = _weigh_ratio(ask, np.sort(under.values), np.sort(calm.values), under.censored, confidence, seed)
    minded = [_mind_no_text(found, of) for of in (under, calm)]
    return next((one for one in minded if one.why == "no_text"), minded[0])


def _weigh_ratio(
    ask: Requirement, a: FloatArray, b: FloatArray, censored: int, confidence: float, seed: int
) -> Evidence:
    """p95 of `a` over that of `b`, both in ascending order."""
    worst, base = stats.quantile(a, 0.95), stats.quantile(b, 0.95)
    if worst is None or base is None:
        return NOT_MEASURED
    if not stats.resolves(0.95, len(b)) or not stats.resolves(0.95, len(a)):
        return Evidence("inconclusive", n=len(a), why="too_few")
    if not math.isfinite(base) or base <= 0:
        return Evidence("inconclusive", n=len(a), why="not_measured")
    if not math.isfinite(worst):
        return Evidence("fail" if ask.upper else "inconclusive", n=len(a), why="censored", censored=censored)
    bounds = stats.quantile_ratio_bounds(a, b, 0.95, np.random.default_rng(seed), confidence)
    answer = by_bounds(ask, bounds) if ask.op != "==" else observed(ask, worst / base, len(a)).answer
    why = "too_few" if answer == "inconclusive" and (bounds.high if ask.upper else bounds.low) is None else None
    return Evidence(answer, worst / base, bounds.low, bounds.high, len(a), why, censored=censored)


def _stepped(columns: Columns, rows: IntArray, values: FloatArray, view: View) -> FloatArray:
    """The values, those in flight over a step of the clock moved as far as it stepped in the whole run."""
    by = -columns.step_ms if view.flagged == "least" else columns.step_ms
    moved, flagged = values.copy(), columns.clock_step[rows] & np.isfinite(values)
    moved[flagged] = np.clip(values[flagged] + by, 0.0, LONGEST)
    return moved


def reach(columns: Columns, ask: Requirement, metric: Metric, rows: IntArray, views: Iterable[View]) -> float | None:
    """How far the quantile or mean asked for moves at most in these views, in the metric's unit; inf: beyond telling.

    None for any other stat, and where there is no value to move. A quantile that was never reached does not move.
    """
    q = ask.quantile
    if metric.kind not in ("time", "per_request") or (q is None and ask.stat != "mean"):
        return None

    def value(view: View) -> float | None:
        of = population(columns, metric, rows, view.moved)
        values = of.values if view.flagged == "as_is" else _stepped(columns, of.rows, of.values, view)
        if q is not None:
            return stats.nearest(values, q)
        reached = values[np.isfinite(values)]
        return float(reached.mean()) if len(reached) else None

    here = value(AS_IS)
    if here is None or not math.isfinite(here):
        return None
    found = [value(view) for view in views]
    furthest = max(abs(here - there) for there in found if there is not None)
    return furthest if furthest < LONGEST / 2 else math.inf


def movement(columns: Columns, metric: Metric, rows: IntArray) -> FloatArray:
    """How far our own slack and lateness could have moved each value of the metric, in its unit, ascending."""
    of = population(columns, metric, rows)
    width = np.zeros(len(of.rows))
    for moves in (columns.early, columns.late):
        if metric.name in moves:
            width = np.maximum(width, np.nan_to_num(moves[metric.name][of.rows]))
    return np.sort(width)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
