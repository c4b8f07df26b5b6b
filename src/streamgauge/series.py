"""Samples to what pictures need: bounded series, however many Samples there are."""

from __future__ import annotations

import msgspec


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
