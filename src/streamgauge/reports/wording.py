"""Numbers, signs and outcomes in words for people: what every form of a report shares.

Rules: a missing value is "n/a", never 0. Digits are those a decision needs: whole ms from 10 on, two figures of a small
share. A value that rounds to its limit keeps digits until the two differ, so that no line says "1,000 ms, limit 1,000
ms: fail". `plain` (of `wild`) takes out of foreign text whatever could move a cursor, turn the reading direction or
break a file; what a form needs besides is in `wild` too, a function for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from streamgauge.metrics import METRICS
from streamgauge.reports.document import Calibration
from streamgauge.sample import Outcome
from streamgauge.wild import plain as plain
from streamgauge.wild import shorten as shorten

NOTHING = "n/a"
"""What stands where a value is missing."""

BUSY = 0.25
"""Share of the cores that others may take before a calibration is said to be of a busy machine."""

RANK = {"fail": 0, "invalid": 1, "inconclusive": 2, "pass": 3}
"""Worst first."""


class Sign(NamedTuple):
    """A verdict as people see it: never by colour alone."""

    mark: str
    word: str
    meaning: str


SIGNS: dict[str, Sign] = {
    "pass": Sign("✓", "PASS", "Every criterion that could hold back the run is met, with the stated confidence."),
    "fail": Sign("✗", "FAIL", "At least one criterion is missed, with the stated confidence."),
    "inconclusive": Sign("?", "INCONCLUSIVE", "Too little was seen to say yes or no; nothing here is a pass."),
    "invalid": Sign("!", "INVALID", "The measurement itself is in doubt, so it says nothing about the service."),
}

_METRIC_NAMES = {
    "ttft_ms": "TTFT",
    "ttft_service_ms": "TTFT of the service",
    "ttfr_ms": "time to first reasoning",
    "ttfb_ms": "time to first byte",
    "queue_ms": "wait for a slot",
    "connect_ms": "TCP connect",
    "tls_ms": "TLS handshake",
    "e2e_ms": "whole request",
    "longest_gap_ms": "longest gap",
    "tpot_ms": "time per output token",
    "itl_ms": "gap between tokens",
    "output_rate": "output rate",
    "concurrency_held": "concurrency held",
    "open_streams_mean": "open streams, mean",
    "requests_per_s": "requests per second",
    "tokens_per_s": "tokens per second",
    "ttft_degradation": "TTFT p95 against the reference",
    "memory_growth_mb_per_h": "memory growth",
    "memory_cleanup": "memory given back after the burst",
    "memory_unbounded": "memory rising without end",
    "recovery_s": "recovery",
    "level_error_rate": "error rate at the worst level",
    "streams_complete": "streams that lived as long as wanted",
    "pace_kept": "pace kept to the end",
}
_STAT_NAMES = {"cv": "spread", "sd": "standard deviation"}
_OPS = {"<": "<", "<=": "≤", ">": ">", ">=": "≥", "==": "=", "=": "="}
_WHYS = {
    "censored": "too many requests gave no token",
    "merged": "our own reads merged too many events to tell",
    "too_few": "too few requests to tell",
    "no_text": "too many answers owed no visible text: raise max_tokens or judge ttfr",
    "not_measured": "not measured",
}


class Explanation(NamedTuple):
    """An outcome in plain words: what happened and what to do next."""

    what: str
    next_step: str


OUTCOMES: dict[Outcome, Explanation] = {
    Outcome.OK: Explanation("The answer came whole.", "Nothing to do."),
    Outcome.LENGTH_CAPPED: Explanation(
        "The answer came and ended at the token limit.", "Raise max_tokens if the limit was not meant."
    ),
    Outcome.FILTERED: Explanation(
        "The model declined or a content filter ended the answer.", "Look at the prompt if that is a surprise."
    ),
    Outcome.HTTP_ERROR: Explanation(
        "The server answered with an error status.", "Look for the trace id in the logs of who answered."
    ),
    Outcome.RATE_LIMITED: Explanation(
        "The request was refused for quota or overload before any output.",
        "Lower the load or raise the quota of who answered.",
    ),
    Outcome.AUTH_ERROR: Explanation(
        "The request was not let in (401, 403 or a redirect to a login).", "Check the target's headers with check."
    ),
    Outcome.DNS_ERROR: Explanation("The host's name could not be resolved.", "Check the name and the resolver."),
    Outcome.CONNECT_REFUSED: Explanation(
        "The host refused the connection.", "Check that the service listens and its backlog is not full."
    ),
    Outcome.UNREACHABLE: Explanation("No route led to the host.", "Check routes, security groups and address family."),
    Outcome.TLS_ERROR: Explanation(
        "No secure connection could be made.", "Check the certificate, its chain and its name."
    ),
    Outcome.CONNECT_TIMEOUT: Explanation(
        "The connection was not accepted in time.", "Check firewalls and how many connections the host can take."
    ),
    Outcome.FIRST_TOKEN_TIMEOUT: Explanation(
        "The request was taken, but no output came in time.", "Look for a queue in front of the model."
    ),
    Outcome.STALL_TIMEOUT: Explanation(
        "The stream began and then fell silent.", "Compare the time of silence with the idle time-outs on the path."
    ),
    Outcome.TOTAL_TIMEOUT: Explanation(
        "The stream ran longer than allowed.", "Raise the total time-out or shorten the answers."
    ),
    Outcome.DROPPED: Explanation(
        "The connection closed in the middle of the answer.",
        "Compare the time of the drop with time-outs of load balancer and CDN and with deployments.",
    ),
    Outcome.TRUNCATED: Explanation(
        "A 200 that ended early: the stream stopped without its closing event.",
        "Look for an exception after the first token in the logs of the app.",
    ),
    Outcome.STREAM_ERROR: Explanation(
        "The stream itself carried an error after a 200.", "The message below is the server's own; start there."
    ),
    Outcome.EMPTY: Explanation(
        "A 200 that held no output of any kind.", "Repeat one request with check and read what comes."
    ),
    Outcome.WRONG_ANSWER: Explanation("The answer failed its content check.", "Compare the answer with the check."),
    Outcome.PROTOCOL_ERROR: Explanation(
        "A 200, but not a stream of this dialect.", "Check path and dialect; check names the one that is spoken."
    ),
    Outcome.SHED: Explanation(
        "The request came due but no slot was free to start it.", "Raise the cap or lower the rate."
    ),
    Outcome.CLIENT_LIMIT: Explanation(
        "This machine ran out of descriptors or ports.", "Raise the limit of this machine; the run is not valid."
    ),
    Outcome.CANCELLED: Explanation("The plan ended before the answer did.", "Nothing to do: not counted."),
}


def number(value: float | None, digits: int | None = None) -> str:
    """A number with thousands separators; three figures below 100 unless `digits` (decimals) is given."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "never" if value > 0 else NOTHING
    if digits is None:
        size = abs(value)
        digits = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2
        text = f"{value:,.{digits}f}"
        return text.rstrip("0").rstrip(".") if digits else text
    return f"{value:,.{digits}f}"


def milliseconds(value: float | None, extra: int = 0) -> str:
    """`1,240 ms`; below 10 ms with a decimal; from 100 s on in seconds. `extra` more decimals."""
    if value is None or not math.isfinite(value):
        return number(value)
    if abs(value) >= 100_000:
        return f"{value / 1000:,.{extra}f} s"
    return f"{number(value, (0 if abs(value) >= 9.95 or value == 0 else 1) + extra)} ms"


def percent(value: float | None, extra: int = 0) -> str:
    """A fraction as `0.24 %`; a share that is small but not 0 never reads as 0."""
    share = math.nan if value is None else value * 100
    if not math.isfinite(share):
        return number(share)
    if share == 0:
        return "0 %"
    if 0 < share < 0.01 and not extra:
        return "under 0.01 %"
    digits = (2 if abs(share) < 1 else 1 if abs(share) < 10 else 0) + extra
    if digits == 0 and 99.5 <= share < 100:
        digits = 2
    text = f"{share:,.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def seconds(value: float | None) -> str:
    """A length of time: `8.2 s`, `3m04s`, `1h05m`."""
    if value is None or not math.isfinite(value):
        return number(value)
    if value < 59.95:
        return f"{value:.0f} s" if value >= 10 else f"{value:.1f}".removesuffix(".0") + " s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def money(value: float | None) -> str:
    """`$0.65`; below a cent with two figures; `cost unknown`."""
    if value is None or not math.isfinite(value):
        return "cost unknown"
    return f"${value:,.2f}" if value == 0 or value >= 0.01 else f"${value:.2g}"


def count(n: int, one: str, many: str | None = None) -> str:
    """`1 request`, `1,200 requests`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def amount(value: float | None, unit: str, metric: str = "", stat: str | None = None, extra: int = 0) -> str:
    """A value with its unit, as the metric wants it: shares in percent, times in ms, the rest as a number."""
    if value is None or not math.isfinite(value):
        return number(value)
    if metric == "memory_unbounded":
        return "yes" if value else "no"
    known = METRICS.get(metric)
    if stat == "cv" or (known is not None and (known.kind == "rate" or known.share)):
        return percent(value, extra) if unit != "%" else f"{number(value, extra)} %"
    if unit == "ms":
        return milliseconds(value, extra)
    if known is not None and known.kind == "count":
        return number(value, extra)
    digits = None if not extra else extra + 1
    if unit == "x":
        return f"{number(value, digits)} ×"
    if unit == "tok/s":
        digits = (0 if value >= 9.95 else 1) + extra
    return f"{number(value, digits)} {unit}".strip()


def fact(name: str, value: float) -> str:
    """A number of a finding's evidence, named as in the JSON: `step_ms` is `step 760 ms`, `mb_per_h` is `878 MB/h`.

    A name without a unit that is known here stands as it is, before the number.
    """
    for ending, shown in _UNITS.items():
        head = name.removesuffix(ending)
        if head != name or name == ending.lstrip("_"):
            head = "" if name == ending.lstrip("_") else head
            return f"{head.replace('_', ' ')} {shown(value)}".lstrip()
    return f"{name.replace('_', ' ')} {number(value)}"


_UNITS: dict[str, Callable[[float], str]] = {
    "_usd_per_1000": lambda value: f"{money(value)} for 1,000",
    "_mb_per_h": lambda value: f"{number(value)} MB/h",
    "_kb_per_request": lambda value: f"{number(value)} KB a request",
    "_per_s": lambda value: f"{number(value)} a second",
    "_in_h": lambda value: f"in {number(value)} h",
    "_mb": lambda value: f"{number(value)} MB",
    "_ms": lambda value: milliseconds(value),
    "_s": lambda value: seconds(value),
    "_rate": lambda value: f"rate {percent(value)}",
}
"""How names end in evidence, and how such a number is said."""


def beside(value: float | None, limit: float, unit: str, metric: str = "", stat: str | None = None) -> str:
    """`value` with as many digits as it takes to read differently from `limit`, unless they are equal."""
    for extra in range(7):
        text = amount(value, unit, metric, stat, extra)
        if value is None or value == limit or text != amount(limit, unit, metric, stat, extra):
            break
    return text


def interval(low: float | None, high: float | None, unit: str, metric: str = "", stat: str | None = None) -> str:
    """`1,130 to 1,370 ms`, `at least 1,130 ms`, `at most 1,370 ms`, or nothing ("") where both ends are missing."""
    ends = [v if v is not None and math.isfinite(v) else None for v in (low, high)]
    a, b = (None if v is None else amount(v, unit, metric, stat) for v in ends)
    if a is not None and a == b and low != high:  # as many more digits as it takes to see a width
        a, b = (amount(v, unit, metric, stat, 1) for v in ends)
    if a is None and b is None:
        return ""
    if a is None:
        return f"at most {b}"
    if b is None:
        return f"at least {a}"
    tail = a.rpartition(" ")[2]
    same_unit = " " in a and b.endswith(" " + tail)
    return f"{a.rpartition(' ')[0] if same_unit else a} to {b}"


def metric_name(metric: str) -> str:
    """A metric as people say it."""
    return _METRIC_NAMES.get(metric, metric.replace("_", " "))


def measure_name(metric: str, stat: str | None) -> str:
    """`TTFT p95`, `error rate`."""
    return f"{metric_name(metric)} {_STAT_NAMES.get(stat, stat)}" if stat else metric_name(metric)


def requirement(metric: str, stat: str | None, op: str, limit: float, unit: str) -> str:
    """A criterion in words: `TTFT p95 < 1,000 ms`."""
    return f"{measure_name(metric, stat)} {_OPS.get(op, op)} {amount(limit, unit, metric, stat)}"


def reason(why: str | None) -> str:
    """Why a value is missing, or the reason as it was given."""
    return "" if why is None else _WHYS.get(why, why)


def outcome_name(outcome: str) -> str:
    """`first token timeout`."""
    return outcome.replace("_", " ")


def explain(outcome: str) -> Explanation:
    """What an outcome means and what to do next; a name of a newer version explains itself."""
    try:
        return OUTCOMES[Outcome(outcome)]
    except ValueError:
        return Explanation(f"The request ended in {outcome_name(outcome)}.", "See the documentation of outcomes.")


def calibrated(found: Calibration) -> str:
    """What a calibration says of this machine, in one line."""
    day = found.at[:10]
    if found.stale is not None:
        return f"The calibration of {day} does not count here: {found.stale} (streamgauge check --calibrate)"
    if not found.streams or found.events_per_s is None:
        told = f"Calibrated {day}: numbers did not hold on this machine even at the fewest streams tried"
    else:
        most = "at least " if found.open_end else ""
        told = (
            f"Calibrated {day}: numbers hold up to {most}{found.streams:,} streams, {found.events_per_s:,.0f} events/s "
            f"(first tokens within {_floor(found.floor_ms)} at p95 with few streams, "
            f"{_floor(found.error_ms)} with the most)"
        )
    busy = found.others is not None and found.others > BUSY
    return f"{told} (the machine was busy: others took {percent(found.others)} of it)" if busy else told


def _floor(times_ms: dict[str, float]) -> str:
    """A p95 that is never said to be better than 0.1 ms."""
    p95 = times_ms.get("p95")
    return milliseconds(None if p95 is None else max(p95, 0.1))
