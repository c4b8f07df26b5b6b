"""Samples to what pictures need: bounded series, however many Samples there are.

Rules: everything here is a picture, not a claim: a bin's p95 is the nearest rank of however few requests it holds, and
says nothing about the service that a verdict leans on. Which Samples a series holds is said at each: the timeline shows
all phases, the rest the judged ones. Targets include controls; the caller leaves out what it does not want to show.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import msgspec
import numpy as np

from streamgauge import bins, occupancy, stats
from streamgauge.columns import MISSING, Columns, FloatArray, IntArray, population, waited_ns
from streamgauge.courses import Course, courses
from streamgauge.heat import Heat, heat
from streamgauge.metrics import METRICS
from streamgauge.sample import GOOD, NOT_JUDGED, Reading, Sample
from streamgauge.slices import GAPS_A_MS, distribution, tally
from streamgauge.strips import Strips, strips
from streamgauge.summary import Scope

ECDF_POINTS = 300
TIMELINE_BINS = 240
LEAST_BINS = 20
REQUESTS_A_BIN = 8
"""Short runs get wider bins, so that most hold this many requests."""
SLOWEST_SHOWN = 10
KINDS_SHOWN = 50
BINS_A_DECADE = 10
REQUEST_IDS = ("x-request-id", "request-id", "x-amzn-requestid", "x-amz-request-id", "apim-request-id", "cf-ray")
"""Where servers put the id under which their own logs have the request, best first."""


class Ecdf(msgspec.Struct, frozen=True, kw_only=True):
    """Share of requests (y, 0..1, of all n, censored ones never reached) with a value of at most x."""

    metric: str
    target: str
    prompt: str | None
    phase: str | None
    n: int
    censored: int
    points: list[tuple[float, float]]
    """(x in the metric's unit, y), at most 300."""


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """One bin of the timeline; t_s from the run's start to the bin's start."""

    t_s: float
    n: int
    errors: int
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None
    open_mean: float
    tokens_per_s: float | None


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """At most 240 bins over the run; target None: all."""

    target: str | None
    bin_s: float
    bins: list[Bin]


class Slow(msgspec.Struct, frozen=True, kw_only=True):
    """One of the slowest, as a waterfall. `*_ms` from due; None where not reached. t_s: due, from the run's start."""

    id: str
    target: str
    prompt: str
    phase: str
    outcome: str
    t_s: float
    start_ms: float | None
    connect_ms: float | None
    tls_ms: float | None
    sent_ms: float | None
    headers_ms: float | None
    first_output_ms: float | None
    first_token_ms: float | None
    last_output_ms: float | None
    end_ms: float
    longest_gap_ms: float | None
    request_id: str | None
    server_timing: str | None
    conn_requests: int


class Gaps(msgspec.Struct, frozen=True, kw_only=True):
    """Inter-token gaps of one target, pooled over the judged phases. Histogram rows: (low_ms, high_ms, count)."""

    target: str
    n: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    over_2s: int
    histogram: list[tuple[float, float, int]]
    zero_reads_merged: int
    """Text events of ours that came merged (slack over 1 ms), not counted as gaps."""


class NotOk(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of failure: how many, who answered, an example."""

    outcome: str
    target: str
    count: int
    share: float
    http_status: int | None
    answered_by: str | None
    message: str | None
    example_id: str


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """All the pictures' data."""

    ecdf: list[Ecdf]
    timeline: list[Timeline]
    slowest: list[Slow]
    gaps: list[Gaps]
    not_ok: list[NotOk]
    heat: list[Heat] = []
    """TTFT over time, where there are enough requests."""
    strips: Strips | None = None
    """The lives of long streams; null where there are none."""
    courses: list[Course] = []
    """The server's memory, where probes read it."""


def series(
    columns: Columns,
    scope: Scope,
    *,
    start_ns: int,
    metric: str = "ttft_ms",
    readings: Sequence[Reading] = (),
    all_long: bool = False,
) -> Series:
    """All series of a run that began at `start_ns`, for every target.

    readings: of the probes, in order of time. all_long: the test is about long streams, so that each counts as one.
    """
    several = len(columns.targets) > 1
    return Series(
        ecdf=ecdf(columns, scope, metric),
        timeline=[
            timeline(columns, start_ns=start_ns),
            *(timeline(columns, start_ns=start_ns, target=target) for target in scope.in_order(columns) if several),
        ]
        if len(columns.due)
        else [],
        slowest=slowest(columns, scope, start_ns=start_ns),
        gaps=gaps(columns, scope),
        not_ok=not_ok(columns, scope),
        heat=heat(columns, [t for t in scope.targets if t in columns.targets], start_ns=start_ns),
        strips=strips(columns, scope.targets, start_ns=start_ns, all_long=all_long),
        courses=courses(readings, start_ns=start_ns),
    )


def ecdf(columns: Columns, scope: Scope, metric: str = "ttft_ms") -> list[Ecdf]:
    """One curve a target over the judged phases. Censored requests count in n and are never reached."""
    curves = []
    for target in scope.in_order(columns):
        of = population(columns, METRICS[metric], columns.select(targets=[target], phases=scope.judged))
        n = len(of.values)
        if not n:
            continue
        reached = np.sort(of.values[np.isfinite(of.values)])
        curves.append(
            Ecdf(
                metric=metric,
                target=target,
                prompt=None,
                phase=None,
                n=n,
                censored=of.censored,
                points=_steps(reached, n),
            )
        )
    return curves


def _steps(reached: FloatArray, n: int) -> list[tuple[float, float]]:
    """At most 300 points of the curve, evenly by rank, always with the first, the last and the told quantiles."""
    if not len(reached):
        return []
    told = [stats.rank(q, n) - 1 for q in (0.5, 0.9, 0.95, 0.99)]
    even = np.linspace(0, len(reached) - 1, min(len(reached), ECDF_POINTS - len(told))).round().astype(np.int64)
    at = np.unique(np.concatenate((even, [place for place in told if place < len(reached)]))).astype(np.int64)
    return [(float(reached[i]), float(i + 1) / n) for i in at]


def timeline(columns: Columns, *, start_ns: int, target: str | None = None) -> Timeline:
    """Requests by when they came due, streams and tokens by when they were there; every phase, at most 240 bins."""
    everything = columns.select(targets=None if target is None else [target])
    rows = everything[~columns.having(everything, NOT_JUDGED)]
    last = int(columns.end[everything].max()) if len(everything) else start_ns
    length = max(1e-9, (last - start_ns) / 1e9)
    wanted = min(TIMELINE_BINS, max(LEAST_BINS, len(rows) // REQUESTS_A_BIN))
    bin_s = bins.width_s(length, wanted)
    parts = bins.how_many(length, bin_s)
    edges = bins.edges_ns(start_ns, bin_s, parts)
    place = bins.place(edges, columns.due[rows])
    errors = np.bincount(place[~columns.having(rows, GOOD)], minlength=parts)
    sizes = np.bincount(place, minlength=parts)
    p50, p95 = _ttft_by_bin(columns, rows, place, parts)
    started = everything[columns.start[everything] != MISSING]
    start, end = columns.start[started], columns.end[started]
    open_mean = np.diff(occupancy.amount_by(start, end, (end - start) / 1e9, edges)) / bin_s
    wrote = everything[columns.first_output[everything] != MISSING]
    tokens = columns.tokens[wrote].astype(np.float64)
    rate = np.diff(occupancy.amount_by(columns.first_output[wrote], columns.last_output[wrote], tokens, edges)) / bin_s
    return Timeline(
        target=target,
        bin_s=bin_s,
        bins=[
            Bin(
                t_s=i * bin_s,
                n=int(sizes[i]),
                errors=int(errors[i]),
                ttft_p50_ms=p50[i],
                ttft_p95_ms=p95[i],
                open_mean=max(0.0, round(float(open_mean[i]), 6)),
                tokens_per_s=max(0.0, round(float(rate[i]), 6)) if len(wrote) else None,
            )
            for i in range(parts)
        ],
    )


def _ttft_by_bin(columns: Columns, rows: IntArray, place: IntArray, parts: int) -> tuple[list[float | None], ...]:
    """Nearest-rank p50 and p95 of ttft of each bin; None where it has no request or the rank was never reached."""
    of = population(columns, METRICS["ttft_ms"], rows)
    return bins.quantiles(of.values, place[np.searchsorted(rows, of.rows)], parts, (0.5, 0.95))


def slowest(columns: Columns, scope: Scope, *, start_ns: int) -> list[Slow]:
    """The ten whose user waited longest for a first token, longest first, of the judged phases.

    One that never gave a token counts with the time until its end: a 60 s time-out stands first, a refused connection
    does not push out the slow ones (it is told in `not_ok`).
    """
    judged = [sample for sample in columns.slowest if sample.phase in scope.judged]
    judged.sort(key=lambda sample: (-waited_ns(sample), sample.id))
    return [_slow(sample, start_ns) for sample in judged[:SLOWEST_SHOWN]]


def _slow(sample: Sample, start_ns: int) -> Slow:
    def since_due(stamp: int | None) -> float | None:
        return None if stamp is None else (stamp - sample.due_ns) / 1e6

    return Slow(
        id=sample.id,
        target=sample.target,
        prompt=sample.prompt,
        phase=sample.phase,
        outcome=sample.outcome.value,
        t_s=(sample.due_ns - start_ns) / 1e9,
        start_ms=since_due(sample.start_ns),
        connect_ms=since_due(sample.connect_ns),
        tls_ms=since_due(sample.tls_ns),
        sent_ms=since_due(sample.sent_ns),
        headers_ms=since_due(sample.headers_ns),
        first_output_ms=since_due(sample.first_output_ns),
        first_token_ms=since_due(sample.first_token_ns),
        last_output_ms=since_due(sample.last_output_ns),
        end_ms=(sample.end_ns - sample.due_ns) / 1e6,
        longest_gap_ms=None if sample.longest_gap_ns is None else sample.longest_gap_ns / 1e6,
        request_id=_header(sample, REQUEST_IDS),
        server_timing=_header(sample, ("server-timing",)),
        conn_requests=sample.conn_requests,
    )


def _header(sample: Sample, names: tuple[str, ...]) -> str | None:
    lower = {name.lower(): value for name, value in sample.headers.items()}
    return next((lower[name] for name in names if name in lower), None)


def gaps(columns: Columns, scope: Scope) -> list[Gaps]:
    """Inter-token gaps a target over the judged phases; quantiles as the summary tells them, ten bins a decade."""
    found = []
    for target in scope.in_order(columns):
        rows = columns.counted("itl_ms", columns.select(targets=[target], phases=scope.judged))
        values, counts = tally(columns.gaps_of(rows)[0])
        told = distribution(columns, METRICS["itl_ms"], rows)
        found.append(
            Gaps(
                target=target,
                n=told.n,
                p50_ms=told.p50,
                p95_ms=told.p95,
                p99_ms=told.p99,
                max_ms=told.max,
                over_2s=int(counts[values > 2_000_000].sum()),
                histogram=_histogram(values, counts),
                zero_reads_merged=int(columns.merged[rows].sum()),
            )
        )
    return found


def _histogram(values: IntArray, counts: IntArray) -> list[tuple[float, float, int]]:
    """How many gaps (us, as tallied) lie in logarithmic bins (ms) from the least to the largest; each is in one."""
    if not len(values):
        return []
    least, most = (max(1, int(extreme)) / GAPS_A_MS for extreme in (values[0], values[-1]))
    first = math.floor(math.log10(least) * BINS_A_DECADE)
    last = max(first + 1, math.ceil(math.log10(most) * BINS_A_DECADE))
    edges = 10 ** (np.arange(first, last + 1) / BINS_A_DECADE)
    parts = len(edges) - 1
    place = np.clip(np.searchsorted(edges, values / GAPS_A_MS, "right") - 1, 0, parts - 1)
    found = np.bincount(place, weights=counts, minlength=parts)
    return [(float(edges[i]), float(edges[i + 1]), int(found[i])) for i in range(parts)]


def not_ok(columns: Columns, scope: Scope, targets: Collection[str] | None = None) -> list[NotOk]:
    """What failed in the judged phases, most frequent first, with who answered and one example; at most 50 kinds.

    `share` is of the target's requests there. Cancelled ones (ended by the plan) are no failures.
    """
    kinds: dict[tuple[str, str, int | None, str | None], NotOk] = {}
    sizes: dict[str, int] = {}
    for failure in columns.failures:
        if failure.phase not in scope.judged or (targets is not None and failure.target not in targets):
            continue
        target = failure.target
        if target not in sizes:
            rows = columns.select(targets=[target], phases=scope.judged)
            sizes[target] = len(rows)
        key = (target, failure.outcome, failure.http_status, failure.answered_by)
        known = kinds.get(key)
        count = failure.count + (known.count if known else 0)
        kinds[key] = NotOk(
            outcome=failure.outcome,
            target=target,
            count=count,
            share=count / sizes[target],
            http_status=failure.http_status,
            answered_by=failure.answered_by,
            message=known.message if known else failure.message,
            example_id=known.example_id if known else failure.example_id,
        )
    ordered = sorted(kinds.values(), key=lambda kind: (-kind.count, kind.target, kind.outcome, kind.example_id))
    return ordered[:KINDS_SHOWN]
