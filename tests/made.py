"""Samples as tests want them: a request in ms, everything else plain. Shares no code with what is tested."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from streamgauge.sample import Outcome, Sample
from streamgauge.summary import MetricsCollector

MS = 1_000_000
START = 5_000 * MS
_TEXTLESS = {
    Outcome.SHED, Outcome.CLIENT_LIMIT, Outcome.CONNECT_REFUSED, Outcome.DNS_ERROR, Outcome.HTTP_ERROR,
    Outcome.RATE_LIMITED, Outcome.AUTH_ERROR, Outcome.TLS_ERROR, Outcome.FIRST_TOKEN_TIMEOUT, Outcome.EMPTY,
    Outcome.PROTOCOL_ERROR, Outcome.CONNECT_TIMEOUT, Outcome.UNREACHABLE,
}  # fmt: skip


def made(
    ttft_ms: float | None = 100.0,
    *,
    n: int = 0,
    due_ms: float | None = None,
    writes_ms: float = 900.0,
    outcome: Outcome = Outcome.OK,
    target: str = "app",
    prompt: str = "short",
    phase: str = "hold",
    level: int = 4,
    slot: int = 0,
    tokens: int | None = 33,
    text_events: int | None = None,
    gaps_ms: Iterable[float] = (),
    slack_ms: float = 0.0,
    late_ms: float = 0.0,
    end_ms: float | None = None,
    **facts: object,
) -> Sample:
    """The n-th request: due each 100 ms unless told, first token after `ttft_ms`, whole after `writes_ms` more.

    Without a first token (`ttft_ms` None, or an outcome that has none) it ends after `end_ms` or 1 s.
    """
    due = START + round((due_ms if due_ms is not None else 100.0 * n) * MS)
    if outcome in _TEXTLESS:
        ttft_ms = None
    first = None if ttft_ms is None else due + round(ttft_ms * MS)
    last = None if first is None else first + round(writes_ms * MS)
    end = due + round(end_ms * MS) if end_ms is not None else last if last is not None else due + 1_000 * MS
    started = outcome is not Outcome.SHED
    stamps: dict[str, object] = {
        "start_ns": due + round(late_ms * MS) if started else None,
        "sent_ns": due + round(late_ms * MS) if started else None,
        "first_byte_ns": first,
        "headers_ns": first,
        "first_event_ns": first,
        "first_output_ns": first,
        "last_output_ns": last,
        "first_token_ns": first,
        "last_token_ns": last,
    }
    events = (0 if first is None else 33) if text_events is None else text_events
    good = outcome in (Outcome.OK, Outcome.LENGTH_CAPPED, Outcome.FILTERED)
    gaps_ms = list(gaps_ms)
    longest = max(gaps_ms, default=writes_ms / 32 if events > 1 else None)
    others: dict[str, object] = {
        "text_events": events,
        "output_reads": events,
        "output_tokens": tokens if good else None,
        "streamed_tokens": tokens if good else None,
        "longest_gap_ns": None if longest is None else round(longest * MS),
        "gaps": array("I", [round(1_000 * gap) for gap in gaps_ms]).tobytes(),
        "first_token_slack_ns": round(slack_ms * MS),
        "late_ns": round(late_ms * MS),
    }
    return Sample(
        **{  # type: ignore[arg-type]
            "id": f"{n:032x}",
            "seq": n,
            "target": target,
            "prompt": prompt,
            "phase": phase,
            "level": level,
            "slot": slot,
            "worker": 0,
            "outcome": outcome,
            "due_ns": due,
            "end_ns": end,
            **stamps,
            **others,
            **facts,
        }
    )


def run_of(ttfts_ms: Iterable[float | None], **facts: object) -> list[Sample]:
    """A request for each; None owed a first token and never gave it (a time-out)."""
    return [
        made(ttft, n=n, **({"outcome": Outcome.FIRST_TOKEN_TIMEOUT} if ttft is None else {}), **facts)  # type: ignore[arg-type]
        for n, ttft in enumerate(ttfts_ms)
    ]


def collected(samples: Iterable[Sample]) -> MetricsCollector:
    """A collector that took them."""
    collector = MetricsCollector()
    for sample in samples:
        collector.add(sample)
    return collector
