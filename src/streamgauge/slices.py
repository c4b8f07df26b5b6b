"""The numbers of one slice of Columns: distributions, rates, counts, and what went on over time.

Rules:
- Missing is None, with its `why`; nothing here is 0 because it was not seen.
- Quantiles are nearest rank on raw values; a request that owed a value and gave none is above them all. A tail
  quantile is null (`too_few`) where not one value is expected beyond it: p95 below 20 values, p99 below 100.
- mean, sd and cv are of those that gave a value, and null (`censored`) once more than 5 % of those that owed one did
  not.
- What happens in time (streams, tokens, ends) is counted while the phases ran, whatever phase it came due in.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from streamgauge import occupancy, stats
from streamgauge.columns import MISSING, OUTCOMES, BoolArray, Columns, FloatArray, IntArray, population
from streamgauge.metrics import METRICS, TIMEOUTS, Metric
from streamgauge.sample import DROPS, GOOD, Outcome

TOLERATED = 0.05
"""Share of missing values up to which numbers made of the others stand."""
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
GAPS_A_MS = 1e3
BLOCK = 1 << 22
MOST_COUNTERS = 1 << 23
"""Gaps of over 8 s among few others are counted another way."""
MOMENTS: tuple[stats.Moment, ...] = ("mean", "sd", "cv")


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


def distribution(columns: Columns, metric: Metric, rows: IntArray) -> Distribution:
    """The values of a time, per-request or gap metric over `rows`."""
    if metric.kind != "gaps":
        of = population(columns, metric, rows)
        return _describe(of.values, of.censored, of.no_text)
    gaps, _ = columns.gaps_of(columns.counted(metric.name, rows))
    found = _describe_gaps(gaps)
    share = merged_share(columns, rows)
    merged = [stat for stat, q in QUANTILES.items() if share > 1 - q and getattr(found, stat) is not None]
    if not merged:
        return found
    return msgspec.structs.replace(found, why={**found.why, **dict.fromkeys(merged, "merged")}, **dict.fromkeys(merged))


def _describe(values: FloatArray, censored: int, no_text: int) -> Distribution:
    n = len(values)
    if n == 0:
        missing = "no_text" if no_text else "not_measured"
        return Distribution(n=0, no_text=no_text, why=dict.fromkeys(("min", *MOMENTS, *QUANTILES, "max"), missing))
    found: dict[str, float | None] = {}
    why: dict[str, str] = {}
    at = [stats.rank(q, n) - 1 for q in QUANTILES.values()]
    parts = np.partition(values, at)
    for (name, q), place in zip(QUANTILES.items(), at, strict=True):
        found[name], reason = seen_quantile(float(parts[place]), q, values)
        if reason:
            why[name] = reason
    moments = _moments(values[np.isfinite(values)] if censored else values)
    for which in MOMENTS:
        found[which] = None if censored > TOLERATED * n else moments[which]
        if found[which] is None:
            why[which] = "censored" if censored > TOLERATED * n else "too_few"
    for name, extreme in (("min", values.min()), ("max", values.max())):
        found[name] = float(extreme) if math.isfinite(extreme) else None
        if found[name] is None:
            why[name] = "censored"
    return Distribution(n=n, censored=censored, no_text=no_text, why=why, **found)


def tally(gaps: npt.NDArray[np.uint32]) -> tuple[IntArray, IntArray]:
    """(each different gap in ascending order, how often it came). Nothing is lost, and there are far fewer of them."""
    most = int(gaps.max(initial=0))
    if most >= min(8 * len(gaps), MOST_COUNTERS):
        values, counts = np.unique(gaps.astype(np.int64), return_counts=True)
        return values, counts
    counters = np.zeros(most + 1, dtype=np.int64)
    for at in range(0, len(gaps), BLOCK):
        counters += np.bincount(gaps[at : at + BLOCK], minlength=most + 1)
    values = np.flatnonzero(counters)
    return values, counters[values]


def _describe_gaps(gaps: npt.NDArray[np.uint32]) -> Distribution:
    """The same of gaps in us, of which there may be many millions: by how often each came."""
    n = len(gaps)
    if n == 0:
        return _describe(np.empty(0), 0, 0)
    values, counts = tally(gaps)
    up_to = np.cumsum(counts)
    mean = float(values @ counts) / n
    sd = math.sqrt(float(np.square(values - mean) @ counts) / (n - 1)) if n > 1 else None
    found: dict[str, float | None] = {
        name: values[np.searchsorted(up_to, stats.rank(q, n))] / GAPS_A_MS if stats.resolves(q, n) else None
        for name, q in QUANTILES.items()
    }
    found |= {"min": values[0] / GAPS_A_MS, "mean": mean / GAPS_A_MS, "max": values[-1] / GAPS_A_MS}
    found |= {"sd": None if sd is None else sd / GAPS_A_MS, "cv": sd / mean if sd is not None and mean else None}
    told = {name: None if value is None else float(value) for name, value in found.items()}
    why = {name: "too_few" for name, value in told.items() if value is None}
    return Distribution(n=n, censored=0, no_text=0, why=why, **told)


def _moments(values: FloatArray) -> dict[stats.Moment, float | None]:
    """mean, sd and cv (see stats.moment), block by block: no copy of the values is made."""
    n = len(values)
    if n < 2:
        return {"mean": float(values[0]) if n else None, "sd": None, "cv": None}
    mean = float(values.mean(dtype=np.float64))
    squares = sum(float(np.square(values[at : at + BLOCK] - mean).sum()) for at in range(0, n, BLOCK))
    sd = math.sqrt(squares / (n - 1))
    return {"mean": mean, "sd": sd, "cv": sd / mean if mean > 0 else None}


def seen_quantile(value: float, q: float, values: npt.NDArray[Any]) -> tuple[float | None, str | None]:
    """A nearest-rank quantile as it may be told, and why not: too few values to have a tail, or it was never reached.

    So few values that the rank is their maximum are too few, unless even the lower bound was never reached.
    """
    if not stats.resolves(q, len(values)):
        surely = stats.quantile_bounds(np.sort(values), q).low
        return None, "censored" if surely is not None and math.isinf(surely) else "too_few"
    return (value, None) if math.isfinite(value) else (None, "censored")


def merged_share(columns: Columns, rows: IntArray) -> float:
    """Share of text events whose own time is not known well, through us."""
    events = int(columns.text_events[rows].sum())
    return float(columns.merged[rows].sum()) / events if events else 0.0


def events_of(columns: Columns, name: str, rows: IntArray) -> tuple[BoolArray, IntArray]:
    """For a rate or a count of requests: which of its population count, and the population."""
    rows = columns.counted(name, rows)
    outcomes: Collection[Outcome] = {
        "error_rate": frozenset(OUTCOMES) - GOOD,
        "errors": frozenset(OUTCOMES) - GOOD,
        "drop_rate": DROPS,
        "drops": DROPS,
        "timeouts": TIMEOUTS,
    }[name]
    return columns.having(rows, outcomes), rows


def rate(columns: Columns, name: str, rows: IntArray) -> Rate:
    """A rate over `rows` with its exact bounds."""
    hits, of = events_of(columns, name, rows)
    k, n = int(hits.sum()), len(of)
    bounds = stats.rate_bounds(k, n)
    return Rate(k=k, n=n, value=k / n if n else None, low=bounds.low, high=bounds.high)


def count(columns: Columns, name: str, rows: IntArray) -> tuple[float | None, int]:
    """A count over `rows` and the size of its population; None of none, and of stalls where no gap could be seen."""
    if name == "stalls":
        of = columns.counted(name, rows)
        seen = not np.isnan(columns.values["longest_gap_ms"][of]).all()
        return (float(columns.stalls[of].sum()) if seen else None), len(of)
    hits, of = events_of(columns, name, rows)
    return (float(hits.sum()) if len(of) else None), len(of)


# Numbers over time


def over_time(
    columns: Columns,
    alongside: IntArray,
    windows: Sequence[occupancy.Window],
    limits: Mapping[str, float],
    *,
    on_time: bool = False,
) -> dict[str, float | None]:
    """The scalars that speak of time, over the windows in which a slice is judged.

    `alongside`: rows of the slice's targets and prompts in every phase. `limits`: what a request must keep to count in
    goodput, metric to the most it may be (the least, where higher is better); goodput is None without any.
    `on_time`: as if no start had been late through us.
    """
    length = occupancy.seconds(windows)
    names = ("concurrency_held", "open_streams_mean", "requests_per_s", "tokens_per_s", "goodput")
    found: dict[str, float | None] = dict.fromkeys(names)
    if length == 0:
        return found
    streams = alongside[(columns.start[alongside] != MISSING) & ~columns.having(alongside, [Outcome.CLIENT_LIMIT])]
    start, end = columns.start[streams], columns.end[streams]
    if on_time:
        start = start - np.round(columns.late_ms[streams].astype(np.float64) * 1e6).astype(np.int64)
    good = columns.having(streams, GOOD)
    between = occupancy.bridges(columns.slot[streams], start, end, good)
    found["concurrency_held"] = occupancy.held(
        np.concatenate((start, between[0])), np.concatenate((end, between[1])), windows
    )
    found["open_streams_mean"] = occupancy.amount_within(start, end, (end - start) / 1e9, windows) / length
    wrote = streams[columns.first_output[streams] != MISSING]
    tokens = columns.tokens[wrote].astype(np.float64)
    written = occupancy.amount_within(columns.first_output[wrote], columns.last_output[wrote], tokens, windows)
    found["tokens_per_s"] = written / length
    ended = streams[good & _inside(end, windows)]
    found["requests_per_s"] = len(ended) / length
    if limits:
        found["goodput"] = int(_within_limits(columns, limits, ended).sum()) / length
    return found


def degradation(columns: Columns, rows: IntArray, reference: IntArray) -> float | None:
    """ttft p95 of `rows` over that of `reference`; None where either has none."""
    under, calm = (distribution(columns, METRICS["ttft_ms"], of).p95 for of in (rows, reference))
    return under / calm if under is not None and calm else None


def _inside(stamps: IntArray, windows: Sequence[occupancy.Window]) -> BoolArray:
    inside = np.zeros(len(stamps), dtype=np.bool_)
    for begin, end in windows:
        inside |= (stamps >= begin) & (stamps <= end)
    return inside


def _within_limits(columns: Columns, limits: Mapping[str, float], rows: IntArray) -> BoolArray:
    """Whether each request kept every limit that it has a value for."""
    kept = np.ones(len(rows), dtype=np.bool_)
    for name, limit in limits.items():
        values = columns.values[name][rows]
        kept &= ~(values < limit if METRICS[name].higher_is_better else values > limit)
    return kept


def spread(values: npt.NDArray[Any]) -> dict[str, float | None]:
    """p50, p95, p99 and max of our own slack or lateness, whatever their number; None of none."""
    ordered = np.sort(values[~np.isnan(values)].astype(np.float64))
    return {
        "p50": stats.quantile(ordered, 0.5),
        "p95": stats.quantile(ordered, 0.95),
        "p99": stats.quantile(ordered, 0.99),
        "max": float(ordered[-1]) if len(ordered) else None,
    }


def starts_late(columns: Columns, rows: IntArray, over_ms: float = 50.0) -> tuple[int, int]:
    """How many of `rows` were started, and how many of them over 50 ms late through us."""
    started = rows[columns.start[rows] != MISSING]
    return len(started), int((columns.late_ms[started] > over_ms).sum())
