"""The one table of metrics, read by JSON, CSV, spec, verdicts and docs.

Rules: a metric is a pure function of one Sample (or of all of them: `rate`, `count`, `scalar`). None means it was not
reached or does not apply; it is never 0. `owed` says what a missing value means: for `text` a request that owed a first
token and gave none counts as +infinity; for `answer` any failed request does; for `seen` it only leaves the n.
`early`/`late` bound how far the stamps could move through our own doing (slack, lateness), in the metric's unit; None
is not at all. tpot and output_rate have a second form that counts output events, for targets that report no usage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from streamgauge.sample import DROPS, Outcome, Sample

Kind = Literal["time", "per_request", "gaps", "rate", "count", "scalar"]
Owed = Literal["text", "answer", "arrival", "seen"]
Value = Callable[[Sample], float | None]
_MS = 1e6


@dataclass(frozen=True, slots=True)
class Metric:
    """One number's name, unit and meaning.

    kind: `time` and `per_request` have one value a request and take a stat (p95, mean, ...); `gaps` many values a
    request, pooled; `rate`, `count` and `scalar` one value for all and take no stat.
    """

    name: str
    unit: str
    kind: Kind
    meaning: str
    owed: Owed = "seen"
    value: Value | None = None
    early: Value | None = None
    """How much smaller the true value may be, through our own slack and lateness; None: not at all."""
    late: Value | None = None
    """How much larger the true value may be; None: not at all."""
    higher_is_better: bool = False


def _between(start: str, end: str) -> Value:
    """ms from one stamp to another; None unless both were reached."""

    def value(sample: Sample) -> float | None:
        a, b = getattr(sample, start), getattr(sample, end)
        return None if a is None or b is None else (b - a) / _MS

    return value


def _slack(name: str, *, own_lateness: bool = False) -> Value:
    """ms by which the stamp `name` may be too late (and, from due, our own lateness)."""
    attribute = f"{name}_slack_ns"

    def value(sample: Sample) -> float:
        ns: int = getattr(sample, attribute)
        return (ns + sample.late_ns if own_lateness else ns) / _MS

    return value


def _streamed(sample: Sample, tokens: int | None) -> int | None:
    """`tokens` if they were spread between first and last output, None where tpot does not apply (see tpot_ms)."""
    if tokens is None or tokens < 2 or sample.output_reads < 2:
        return None
    if sample.first_output_ns is None or sample.last_output_ns is None:
        return None
    return tokens if sample.last_output_ns > sample.first_output_ns else None


def output_events(sample: Sample) -> int:
    """Events with output of any kind: what stands for tokens where the server does not count them."""
    return sample.text_events + sample.reasoning_events + sample.tool_events


def tpot_ms(sample: Sample) -> float | None:
    """(last_output - first_output) / (output_tokens - 1), in ms.

    None below 2 tokens, when all output came in one read, or when tokens that were never streamed cannot be told apart.
    """
    return _tpot(sample, sample.streamed_tokens)


def tpot_ms_by_events(sample: Sample) -> float | None:
    """tpot_ms with output events in place of tokens."""
    return _tpot(sample, output_events(sample))


def output_rate(sample: Sample) -> float | None:
    """(output_tokens - 1) / (last_output - first_output), in tokens/s: the inverse of tpot."""
    return _rate(tpot_ms(sample))


def output_rate_by_events(sample: Sample) -> float | None:
    """output_rate with output events in place of tokens."""
    return _rate(tpot_ms_by_events(sample))


def _tpot(sample: Sample, tokens: int | None) -> float | None:
    streamed = _streamed(sample, tokens)
    if streamed is None:
        return None
    assert sample.first_output_ns is not None
    assert sample.last_output_ns is not None
    return (sample.last_output_ns - sample.first_output_ns) / (streamed - 1) / _MS


def _rate(tpot: float | None) -> float | None:
    return None if not tpot else 1e3 / tpot


def tpot_slack(sample: Sample) -> float | None:
    """ms a token by which tpot could be off through slack at either end."""
    return _tpot_slack(sample, sample.streamed_tokens)


def tpot_slack_by_events(sample: Sample) -> float | None:
    """tpot_slack with output events in place of tokens."""
    return _tpot_slack(sample, output_events(sample))


def rate_slack(sample: Sample) -> float | None:
    """tokens/s by which output_rate could be off through slack at either end, to first order."""
    return _rate_slack(tpot_ms(sample), tpot_slack(sample))


def rate_slack_by_events(sample: Sample) -> float | None:
    """rate_slack with output events in place of tokens."""
    return _rate_slack(tpot_ms_by_events(sample), tpot_slack_by_events(sample))


def _tpot_slack(sample: Sample, tokens: int | None) -> float | None:
    streamed = _streamed(sample, tokens)
    if streamed is None:
        return None
    return max(sample.first_output_slack_ns, sample.last_output_slack_ns) / (streamed - 1) / _MS


def _rate_slack(tpot: float | None, slack: float | None) -> float | None:
    return None if slack is None or not tpot else 1e3 / max(tpot - slack, 1e-6) - 1e3 / tpot


def _longest_gap(sample: Sample) -> float | None:
    return None if sample.longest_gap_ns is None else sample.longest_gap_ns / _MS


def is_error(sample: Sample) -> bool:
    """Whether a judged Sample counts in error_rate: every outcome but ok, length_capped and filtered."""
    return not sample.good


def is_drop(sample: Sample) -> bool:
    """Whether a judged Sample counts in drop_rate: dropped or truncated."""
    return sample.outcome in DROPS


def in_population(metric: Metric, sample: Sample) -> bool:
    """Whether `sample` belongs to the metric's population: judged, and not `shed` unless the metric counts from due."""
    if not sample.judged:
        return False
    return sample.outcome is not Outcome.SHED or metric.name in FROM_DUE


FROM_DUE = frozenset({"ttft_ms", "ttfr_ms", "e2e_ms", "error_rate", "errors"})
"""Metrics whose population holds `shed` requests: they came due and the user got nothing."""

_TABLE = (
    Metric("ttft_ms", "ms", "time", "first visible token - due: what the user waited", "text",
           _between("due_ns", "first_token_ns"), _slack("first_token", own_lateness=True), None),
    Metric("ttft_service_ms", "ms", "time", "first visible token - sent: what the service took", "text",
           _between("sent_ns", "first_token_ns"), _slack("first_token"), None),
    Metric("ttfr_ms", "ms", "time", "first reasoning - due", "arrival",
           _between("due_ns", "first_reasoning_ns"), _slack("first_reasoning", own_lateness=True), None),
    Metric("ttfb_ms", "ms", "time", "first byte of the response - sent", "arrival",
           _between("sent_ns", "first_byte_ns"), _slack("first_byte"), None),
    Metric("queue_ms", "ms", "time", "start - due: waited for a slot or for us", "seen",
           _between("due_ns", "start_ns"), lambda s: s.late_ns / _MS, None),
    Metric("connect_ms", "ms", "time", "until the target can be spoken to, new connections only", "seen",
           _between("start_ns", "connect_ns"), None, None),
    Metric("tls_ms", "ms", "time", "TLS handshake with the target, new connections only", "seen",
           _between("connect_ns", "tls_ns"), None, None),
    Metric("e2e_ms", "ms", "time", "end - due", "answer",
           _between("due_ns", "end_ns"), _slack("end", own_lateness=True), None),
    Metric("longest_gap_ms", "ms", "time", "longest wait between two reads with output", "seen",
           _longest_gap, _slack("last_output"), _slack("last_output")),
    Metric("tpot_ms", "ms", "time", "(last output - first output) / (output tokens - 1)", "seen",
           tpot_ms, tpot_slack, tpot_slack),
    Metric("output_rate", "tok/s", "per_request", "(output tokens - 1) / (last output - first output)", "seen",
           output_rate, rate_slack, rate_slack, higher_is_better=True),
    Metric("itl_ms", "ms", "gaps", "gaps between consecutive reads with visible text, pooled"),
    Metric("stalls", "", "count", "gaps over 2 s between reads with output"),
    Metric("error_rate", "", "rate", "share of requests that ended in anything but ok, length_capped, filtered"),
    Metric("drop_rate", "", "rate", "share of requests dropped or truncated"),
    Metric("errors", "", "count", "requests that ended in anything but ok, length_capped, filtered"),
    Metric("drops", "", "count", "requests dropped or truncated"),
    Metric("timeouts", "", "count", "requests that ended in a connect, first-token, stall or total time-out"),
    Metric("concurrency_held", "streams", "scalar",
           "5 % quantile over time of slots in use in the judged phases", higher_is_better=True),
    Metric("open_streams_mean", "streams", "scalar", "time-mean of open streams", higher_is_better=True),
    Metric("requests_per_s", "1/s", "scalar", "good requests ended a second", higher_is_better=True),
    Metric("tokens_per_s", "tok/s", "scalar", "output tokens a second over all streams", higher_is_better=True),
    Metric("goodput", "1/s", "scalar", "requests a second that were good and within the per-request limits",
           higher_is_better=True),
    Metric("ttft_degradation", "x", "scalar", "ttft p95 in the judged phase over that of the reference phase"),
)  # fmt: skip

METRICS: dict[str, Metric] = {metric.name: metric for metric in _TABLE}

TIMEOUTS = frozenset(
    {Outcome.CONNECT_TIMEOUT, Outcome.FIRST_TOKEN_TIMEOUT, Outcome.STALL_TIMEOUT, Outcome.TOTAL_TIMEOUT}
)

BY_EVENTS: dict[str, tuple[Value, Value]] = {
    "tpot_ms": (tpot_ms_by_events, tpot_slack_by_events),
    "output_rate": (output_rate_by_events, rate_slack_by_events),
}
"""Value and slack of the metrics that need tokens, by output events instead."""
