"""A Sample's metrics and its row of the csv, written out plainly for one Sample: what the arrays must give.

Shares no code with what is tested but the Sample and the cell of a text.
"""

from __future__ import annotations

import math

from streamgauge.sample import Sample
from streamgauge.wild import csv_cell

STAMPS = ("due", "start", "sent", "first_byte", "first_output", "first_token", "last_output", "end")


def between(a: int | None, b: int | None) -> float | None:
    return None if a is None or b is None else (b - a) / 1e6


def steps(s: Sample, tokens: int | None) -> int | None:
    """Pauses between tokens, where they were spread over time."""
    if tokens is None or tokens < 2 or s.output_reads < 2:
        return None
    if s.first_output_ns is None or s.last_output_ns is None or s.last_output_ns <= s.first_output_ns:
        return None
    return tokens - 1


def tpot(s: Sample, tokens: int | None) -> float | None:
    pauses = steps(s, tokens)
    if pauses is None:
        return None
    assert s.first_output_ns is not None
    assert s.last_output_ns is not None
    return (s.last_output_ns - s.first_output_ns) / pauses / 1e6


def metrics(s: Sample) -> dict[str, float | None]:
    each = tpot(s, s.streamed_tokens)
    return {
        "ttft_ms": between(s.due_ns, s.first_token_ns),
        "ttft_service_ms": between(s.sent_ns, s.first_token_ns),
        "ttfr_ms": between(s.due_ns, s.first_reasoning_ns),
        "ttfb_ms": between(s.sent_ns, s.first_byte_ns),
        "queue_ms": between(s.due_ns, s.start_ns),
        "connect_ms": between(s.start_ns, s.connect_ns),
        "tls_ms": between(s.connect_ns, s.tls_ns),
        "e2e_ms": between(s.due_ns, s.end_ns),
        "longest_gap_ms": None if s.longest_gap_ns is None else s.longest_gap_ns / 1e6,
        "tpot_ms": each,
        "output_rate": None if not each else 1e3 / each,
    }


def moves(s: Sample) -> dict[str, float | None]:
    """How much smaller each could be."""
    late = s.late_ns
    pauses = steps(s, s.streamed_tokens)
    each = tpot(s, s.streamed_tokens)
    width = None if pauses is None else max(s.first_output_slack_ns, s.last_output_slack_ns) / pauses / 1e6
    return {
        "ttft_ms": (s.first_token_slack_ns + late) / 1e6,
        "ttft_service_ms": s.first_token_slack_ns / 1e6,
        "ttfr_ms": (s.first_reasoning_slack_ns + late) / 1e6,
        "ttfb_ms": s.first_byte_slack_ns / 1e6,
        "queue_ms": late / 1e6,
        "e2e_ms": (s.end_slack_ns + late) / 1e6,
        "longest_gap_ms": s.last_output_slack_ns / 1e6,
        "tpot_ms": width,
        "output_rate": None if width is None or not each else 1e3 / max(each - width, 1e-6) - 1e3 / each,
    }


def number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return ""
    return str(int(value)) if value == int(value) else f"{value:.6f}".rstrip("0").rstrip(".")


def row(s: Sample) -> str:
    slack = None if s.first_token_ns is None else s.first_token_slack_ns / 1e3
    return ",".join(
        (
            *map(csv_cell, (s.id, s.target, s.prompt, s.phase)), str(s.level), s.outcome.value, number(s.http_status),
            *(number(getattr(s, f"{name}_ns")) for name in STAMPS), number(slack), *map(number, metrics(s).values()),
        )
    )  # fmt: skip
