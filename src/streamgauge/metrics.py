"""The one table of metrics, read by JSON, CSV, spec, verdicts and docs.

Rules: a metric is a pure function of what one Sample says (or of all of them: `rate`, `count`, `scalar`). Missing is
NaN in a formula and None outside, never 0. `owed` says what a missing value means: for `text` a request that owed a
first token and gave none counts as +infinity; for `answer` any failed request does; for `seen` it only leaves the n.
`early`/`late` bound how far the stamps could move through our own doing (slack, lateness), in the metric's unit; None
is not at all. tpot and output_rate have a second form that counts output events, for targets that report no usage.

A formula is written once and serves one Sample as well as a million: it asks a `Fact` for what it needs by the name of
the Sample's field and gets a number (`Metric.of`), or an array with a place a Sample (`facts`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from streamgauge.sample import Outcome, Sample

Kind = Literal["time", "per_request", "gaps", "rate", "count", "scalar", "run"]
Owed = Literal["text", "answer", "arrival", "seen"]
Number = Any
"""A float, or an array of them; NaN is missing."""
Fact = Callable[[str], Number]
"""What Samples say, by the name of a Sample's field; of stamps only differences mean anything."""
Formula = Callable[[Fact], Number]
_MS = 1e6


@dataclass(frozen=True, slots=True)
class Metric:
    """One number's name, unit and meaning.

    kind: `time` and `per_request` have one value a request and take a stat (p95, mean, ...); `gaps` many values a
    request, pooled; `rate`, `count` and `scalar` one value for all and take no stat; `run` one value of the whole run,
    which only the tests in `tests` look for.
    """

    name: str
    unit: str
    kind: Kind
    meaning: str
    owed: Owed = "seen"
    value: Formula | None = None
    early: Formula | None = None
    """How much smaller the true value may be, through our own slack and lateness; None: not at all."""
    late: Formula | None = None
    """How much larger the true value may be; None: not at all."""
    higher_is_better: bool = False
    share: bool = False
    """Of kind `run`: a share of 1, so that a limit may be given in %."""
    tests: tuple[str, ...] = ()
    """Of kind `run`: the tests that find it."""

    def of(self, sample: Sample) -> float | None:
        """Its value for one Sample; None where not reached, or where the metric has no value a request."""
        return None if self.value is None else _of_one(self.value, sample)


def _of_one(formula: Formula, sample: Sample) -> float | None:
    def fact(name: str) -> float:
        value = getattr(sample, name)
        return math.nan if value is None else value

    value = formula(fact)
    return None if math.isnan(value) else value


def _only(holds: Number, value: Number) -> Number:
    """The value where it holds, else missing."""
    if isinstance(holds, bool):
        return value if holds else math.nan
    import numpy as np  # whoever holds arrays has it; a script with one Sample need not load it

    return np.where(holds, value, np.nan)


def _larger(a: Number, b: Number) -> Number:
    """The larger of two; missing where `a` is."""
    if isinstance(a, int | float):
        return max(a, b)
    import numpy as np

    return np.maximum(a, b)


def _between(start: str, end: str) -> Formula:
    """ms from one stamp to another; missing unless both were reached."""
    return lambda fact: (fact(end) - fact(start)) / _MS


def _slack(name: str, *, own_lateness: bool = False) -> Formula:
    """ms by which the stamp `name` may be too late (and, from due, our own lateness)."""
    if own_lateness:
        return lambda fact: (fact(f"{name}_slack_ns") + fact("late_ns")) / _MS
    return lambda fact: fact(f"{name}_slack_ns") / _MS


def tokens(fact: Fact) -> Number:
    """Output tokens that were streamed, as the server counted them; missing where they cannot be told apart."""
    return fact("streamed_tokens")


def output_events(fact: Fact) -> Number:
    """Events with output of any kind: what stands for tokens where the server does not count them."""
    return fact("text_events") + fact("reasoning_events") + fact("tool_events")


def _steps(fact: Fact, count: Formula) -> Number:
    """Pauses between tokens; missing below 2 tokens, or where not two reads at two times brought them."""
    streamed = count(fact)
    spread = (fact("output_reads") >= 2) & (fact("last_output_ns") > fact("first_output_ns"))
    return _only(spread & (streamed >= 2), streamed - 1.0)


def _tpot(count: Formula) -> Formula:
    """(last_output - first_output) / (output_tokens - 1), in ms."""
    return lambda fact: (fact("last_output_ns") - fact("first_output_ns")) / _steps(fact, count) / _MS


def _tpot_slack(count: Formula) -> Formula:
    """ms a token by which tpot could be off through slack at either end."""

    def slack(fact: Fact) -> Number:
        either = _larger(fact("first_output_slack_ns"), fact("last_output_slack_ns"))
        return either / _steps(fact, count) / _MS

    return slack


def _rate(count: Formula) -> Formula:
    """(output_tokens - 1) / (last_output - first_output), in tokens/s: the inverse of tpot."""
    tpot = _tpot(count)
    return lambda fact: 1e3 / tpot(fact)


def _rate_slack(count: Formula) -> Formula:
    """tokens/s by which output_rate could be off through slack at either end, to first order."""
    tpot, slack = _tpot(count), _tpot_slack(count)
    return lambda fact: 1e3 / _larger(tpot(fact) - slack(fact), 1e-6) - 1e3 / tpot(fact)


FROM_DUE = frozenset({"ttft_ms", "ttfr_ms", "e2e_ms", "error_rate", "errors"})
"""Metrics whose population holds `shed` requests: they came due and the user got nothing."""

_TPOT_SLACK, _RATE_SLACK, _LAST_SLACK = _tpot_slack(tokens), _rate_slack(tokens), _slack("last_output")

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
           _between("due_ns", "start_ns"), lambda fact: fact("late_ns") / _MS, None),
    Metric("connect_ms", "ms", "time", "until the target can be spoken to, new connections only", "seen",
           _between("start_ns", "connect_ns"), None, None),
    Metric("tls_ms", "ms", "time", "TLS handshake with the target, new connections only", "seen",
           _between("connect_ns", "tls_ns"), None, None),
    Metric("e2e_ms", "ms", "time", "end - due", "answer",
           _between("due_ns", "end_ns"), _slack("end", own_lateness=True), None),
    Metric("longest_gap_ms", "ms", "time", "longest wait between two reads with output", "seen",
           lambda fact: fact("longest_gap_ns") / _MS, _LAST_SLACK, _LAST_SLACK),
    Metric("tpot_ms", "ms", "time", "(last output - first output) / (output tokens - 1)", "seen",
           _tpot(tokens), _TPOT_SLACK, _TPOT_SLACK),
    Metric("output_rate", "tok/s", "per_request", "(output tokens - 1) / (last output - first output)", "seen",
           _rate(tokens), _RATE_SLACK, _RATE_SLACK, higher_is_better=True),
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
    Metric("memory_growth_mb_per_h", "MB/h", "run",
           "growth of the server's memory under load, after its warm-up: heap where a probe gives it, else RSS",
           tests=("endurance", "memory")),
    Metric("memory_cleanup", "", "run", "share of what a burst raised that came back: (peak - after) / (peak - before)",
           higher_is_better=True, share=True, tests=("memory",)),
    Metric("memory_unbounded", "", "run", "1 where the server's memory rises on a line without end, else 0",
           tests=("memory",)),
    Metric("streams_complete", "", "run", "share of long streams that lived as long as they were to", share=True,
           higher_is_better=True, tests=("endurance",)),
    Metric("pace_kept", "", "run", "tokens a second at the end of the long streams over those at their beginning",
           share=True, higher_is_better=True, tests=("endurance",)),
    Metric("capacity", "", "run", "highest level (users, in open loop requests a second) within all criteria",
           higher_is_better=True, tests=("stress",)),
    Metric("level_error_rate", "", "run", "error rate of the level where it is highest", share=True, tests=("stress",)),
    Metric("crashes", "", "run", "times the service was gone or began anew", tests=("stress",)),
    Metric("recovery_s", "s", "run", "longest time after an overload until TTFT and errors were back",
           tests=("stress",)),
)  # fmt: skip

METRICS: dict[str, Metric] = {metric.name: metric for metric in _TABLE}

TIMEOUTS = frozenset(
    {Outcome.CONNECT_TIMEOUT, Outcome.FIRST_TOKEN_TIMEOUT, Outcome.STALL_TIMEOUT, Outcome.TOTAL_TIMEOUT}
)

BY_EVENTS: dict[str, tuple[Formula, Formula]] = {
    "tpot_ms": (_tpot(output_events), _tpot_slack(output_events)),
    "output_rate": (_rate(output_events), _rate_slack(output_events)),
}
"""Value and slack of the metrics that need tokens, by output events instead."""
