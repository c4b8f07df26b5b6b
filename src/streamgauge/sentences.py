"""Evidence in words a team lead understands: `1 chat in 22 waits over 1 s: p95 is 980 ms, 95 % sure below 1,130 ms`.

Rules: one sentence, below 240 signs, no symbol that needs a course in statistics. A share is told as "1 in n"; a bound
as how sure we are; an open answer says what it lacks and how many more requests would settle it.
"""

from __future__ import annotations

from streamgauge.evidence import Answer, Evidence, Requirement
from streamgauge.metrics import METRICS

_WAITS = {
    "ttft_ms": ("chat", "waits"),
    "ttft_service_ms": ("chat", "waits"),
    "ttfr_ms": ("chat", "waits for reasoning"),
    "e2e_ms": ("chat", "takes"),
    "longest_gap_ms": ("chat", "stands still for"),
}
_FAILS = {"error_rate": "fails", "drop_rate": "is cut off half-way"}
_COUNTS = {
    "errors": ("request failed", "requests failed"),
    "drops": ("stream was cut off half-way", "streams were cut off half-way"),
    "timeouts": ("request timed out", "requests timed out"),
    "stalls": ("silence of over 2 s", "silences of over 2 s"),
}
_NEVER = {"text": "gave no token", "answer": "gave no whole answer"}
"""What a request that counts as never reached did not do, by what it owed."""
_ASKED = {"<": "less than", "<=": "at most", ">": "more than", ">=": "at least", "==": "exactly"}


def sentence(ask: Requirement, found: Evidence, answer: Answer, confidence: float, *, partial: bool = False) -> str:
    """What was seen of a requirement, why that is the answer, and what would settle it."""
    metric = METRICS[ask.metric]
    if found.said is not None:
        return f"undecided: {found.said}" if answer == "inconclusive" else found.said
    if found.why == "no_text":
        return (
            f"undecided: {found.no_text} of {found.n + found.no_text} answers held no visible text; "
            "raise max_tokens or judge ttfr"
        )
    if found.why == "not_measured":
        return "undecided: nothing was measured" + _needs(found)
    if found.why == "merged":
        return f"undecided: our own reads merged more than {_percent(1 - (ask.quantile or 0))} of the token events"
    if found.why == "censored":
        return f"{ask.stat or 'it'} not reached: {found.censored} of {found.n} {_NEVER.get(metric.owed, 'gave none')}"
    if metric.kind == "count":
        one, many = _COUNTS[metric.name]
        said = f"no {one}" if not found.value else f"{_number(found.value)} {one if found.value == 1 else many}"
        return f"{said}, but the run was cut short" if partial and answer == "inconclusive" else said
    if metric.name == "ttft_degradation" and found.value is None:
        return "undecided: too few requests, here or in the reference, to have a p95"
    if metric.kind == "scalar" and found.low is None and found.high is None:
        return f"{_amount(found.value, metric.unit)}, asked for {_ASKED[ask.op]} {_amount(ask.limit, metric.unit)}"
    head = _share(ask, found)
    value = "" if found.value is None else f"{_subject(ask)} {_told(found.value, ask)}"
    sure = _sure(ask, found, answer, confidence)
    clustered = (
        f" ({found.n:,} requests, but in bouts: worth {found.n_effective:,})" if found.n_effective is not None else ""
    )
    said = ": ".join(part for part in (head, ", ".join(part for part in (value, sure) if part)) if part) + clustered
    return f"undecided: {said}{_needs(found)}" if answer == "inconclusive" else said


def _share(ask: Requirement, found: Evidence) -> str:
    """How many are beyond the limit, as people meet them."""
    if found.beyond is None or not found.n:
        return ""
    if ask.metric in _FAILS:
        verb = _FAILS[ask.metric]
        if not found.beyond:
            return f"none of {found.n:,} requests {verb}"
        return f"1 request in {one_in(found.beyond / found.n)} {verb} ({found.beyond:,} of {found.n:,})"
    who, does = _WAITS.get(ask.metric, ("request", "is"))
    side = "over" if ask.upper else "under"
    edge = _amount(ask.limit, METRICS[ask.metric].unit, short=True)
    if not found.beyond:
        return f"none of {found.n:,} {who}s {does} {side} {edge}"
    failed = " or fails" if found.censored else ""
    if found.beyond == found.n:
        return f"every {who} {does} {side} {edge}{failed}"
    return f"1 {who} in {one_in(found.beyond / found.n)} {does} {side} {edge}{failed}"


def one_in(share: float) -> str:
    """A share as people count: `22` of 1/22; one digit below 5."""
    each = 1 / share
    return f"{each:.1f}" if each < 5 and abs(each - round(each)) > 0.05 else f"{round(each):,}"


def _sure(ask: Requirement, found: Evidence, answer: Answer, confidence: float) -> str:
    """The bound that decided; both where none did."""
    low, high = found.low, found.high
    sure = f"{confidence * 100:g} % sure"
    if METRICS[ask.metric].kind == "rate" and low == 0:
        low = None  # every share is at least 0
    above = None if low is None else f"above {_told(low, ask)}"
    below = None if high is None else f"below {_told(high, ask)}"
    if answer == "inconclusive":
        if found.why == "too_few" or (above is None and below is None):
            return f"{found.n:,} {'request is' if found.n == 1 else 'requests are'} too few to bound it"
        return f"{sure} {above or ''}{' and ' if above and below else ''}{below or ''}".replace("  ", " ")
    decided = below if (answer == "pass") == ask.upper else above
    return "" if decided is None else f"{sure} it is {decided}"


def _subject(ask: Requirement) -> str:
    if METRICS[ask.metric].kind == "rate":
        return "the rate is"
    if ask.stat == "cv":
        return "the spread is"
    return f"{ask.stat} is" if ask.stat else "it is"


def _needs(found: Evidence) -> str:
    if found.needs is None:
        return ""
    more = rounded_up(found.needs)
    return f"; needs about {more:,} more request{'s' * (more != 1)}"


def rounded_up(n: int) -> int:
    """Two figures are enough of an estimate, rounded up."""
    step: int = 10 ** max(0, len(str(n)) - 2)
    return -(-n // step) * step


def _told(value: float, ask: Requirement) -> str:
    metric = METRICS[ask.metric]
    if ask.stat == "cv" or metric.kind == "rate":
        return _percent(value)
    return _amount(value, metric.unit)


def _percent(share: float) -> str:
    percent = share * 100
    digits = 0 if percent >= 10 or percent == 0 else (1 if percent >= 1 else 2)
    return f"{percent:.{digits}f}".rstrip("0").rstrip(".") + " %" if digits else f"{percent:.0f} %"


def _amount(value: float | None, unit: str, *, short: bool = False) -> str:
    if value is None:
        return "n/a"
    if unit == "ms" and short and value >= 1_000:
        return f"{value / 1_000:g} s"
    if unit == "x":
        return f"{value:.2f} times"
    if unit == "streams" and value == 1:
        unit = "stream"
    return f"{_number(value)} {unit}".rstrip()


def _number(value: float | None) -> str:
    if value is None:
        return "n/a"
    if value == round(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3g}"
