"""Requests that failed: whose failure it was, as outcomes, statuses and the servers' own words tell."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from streamgauge.columns import MISSING, Failure, IntArray
from streamgauge.findings.cuts import TIME_OUT_STATUS, died_alike
from streamgauge.findings.finding import Finding, TargetFacts, median_of
from streamgauge.findings.limits import refused, too_many_at_once
from streamgauge.sample import GOOD, Outcome

LEAST = 3
BROKEN = (Outcome.STREAM_ERROR, Outcome.TRUNCATED, Outcome.EMPTY, Outcome.PROTOCOL_ERROR)
OURS = {
    Outcome.CONNECT_TIMEOUT: "timeouts.connect",
    Outcome.FIRST_TOKEN_TIMEOUT: "timeouts.first_token",
    Outcome.STALL_TIMEOUT: "timeouts.stall",
    Outcome.TOTAL_TIMEOUT: "timeouts.total",
}
"""Outcomes that a time-out of ours made, and its key in the spec."""
BUSY = re.compile(r"overload|over capacity|at capacity|temporarily unavailable|resource.?exhausted|UNAVAILABLE")
SLOW_S = 2.0
"""Who fails sooner than that holds nobody up."""


def server_errors(facts: TargetFacts) -> Iterator[Finding]:
    """The app failed: 5xx, an error in the stream, a stream without its end, an empty one."""
    hit = _broken(facts)
    if len(hit) < LEAST:
        return
    kinds = _kinds(facts, hit)
    told = next((one for one in kinds if one.message), kinds[0] if kinds else None)
    by = f", answered by {told.answered_by}" if told is not None and told.answered_by else ""
    said = f"; it says: {told.message[:120]}" if told is not None and told.message else ""
    yield Finding(
        name="server_errors",
        target=facts.target,
        words=f"{len(hit):,} of {len(facts.counted):,} requests failed at the server: {_counted(facts, hit)}{by}",
        evidence=facts.basis(hit, len(facts.counted), "requests"),
        cause=f"an exception in the app or behind it{said}",
        check="look for these trace ids in the logs of the app: the time of each stands in the CSV",
        remedy=(
            "fix what the logs show; an error after the first token needs an error event, or the user sees half "
            "an answer"
        ),
        lost=len(hit) / len(facts.counted),
    )  # fmt: skip


def provider_errors(facts: TargetFacts) -> Iterator[Finding]:
    """The model's provider is overloaded, or fails for its control as well."""
    columns = facts.columns
    rows = np.setdiff1d(facts.counted, too_many_at_once(facts), assume_unique=True)  # in order: not sorted again
    busy = rows[columns.having(rows, [Outcome.RATE_LIMITED]) & (columns.facts["http_status"][rows] != 429)]
    said = [one for one in columns.failures if one.target == facts.target and BUSY.search(one.message or "")]
    if len(busy) < LEAST and sum(one.count for one in said if one.phase in facts.run.scope.judged) >= LEAST:
        ends = {(one.outcome, one.http_status) for one in said}
        status = columns.facts["http_status"][rows]
        busy = rows[[(outcome, code if code >= 0 else None) in ends
                     for outcome, code in zip(_outcomes(facts, rows), status.tolist(), strict=True)]]  # fmt: skip
    control = facts.run.controls.get(facts.target)
    beside = None if control is None else facts.run.of(control)
    theirs = 0 if beside is None else int((~columns.having(beside.counted, GOOD)).sum())
    same = beside is not None and theirs >= LEAST and theirs / len(beside.counted) * 2 >= _failing(facts)
    hit = busy if len(busy) >= LEAST else rows[~columns.having(rows, GOOD)] if same else busy
    if len(hit) < LEAST:
        return
    too = f"; {control} fails too, {theirs:,} of {len(beside.counted):,}" if same and beside is not None else ""
    yield Finding(
        name="provider_errors",
        target=facts.target,
        words=f"{len(hit):,} of {len(rows):,} requests failed for overload or at the provider{too}",
        evidence=facts.basis(hit, len(rows), "requests", control_failed=float(theirs) if same else None),
        cause="the provider has no room, or fails, just now",
        check="its status page; a control (the same prompts straight to the provider) fails in the same minutes",
        remedy="a second provider or region to fall back to, and a circuit breaker that turns to it",
        lost=len(hit) / len(rows),
    )


def not_let_in(facts: TargetFacts) -> Iterator[Finding]:
    """Requests without, or with the wrong, rights."""
    hit = facts.ended(Outcome.AUTH_ERROR)
    if len(hit) < LEAST:
        return
    first = hit[np.argmin(facts.columns.due[hit])]
    before = int((facts.columns.due[facts.good] < facts.columns.due[first]).sum())
    later = f", the first after {before:,} good ones" if before else ""
    cause = (
        "a session or token that ran out during the run, or one user's limit"
        if before
        else "the key, cookie or its rights"
    )
    yield Finding(
        name="not_let_in",
        target=facts.target,
        words=f"{len(hit):,} of {len(facts.counted):,} requests were not let in (401, 403 or a login page){later}",
        evidence=facts.basis(hit, len(facts.counted), "requests", good_before=float(before)),
        cause=cause,
        check="streamgauge check says what is answered to one request",
        remedy="renew what headers carry; have the app renew it before it ends",
        lost=len(hit) / len(facts.counted),
    )  # fmt: skip


def gave_up(facts: TargetFacts) -> Iterator[Finding]:
    """We gave up, by a time-out of ours, as a user's browser would."""
    hit = facts.ended(*OURS)
    if len(hit) < LEAST:
        return
    counts = {key: int(facts.columns.having(hit, [outcome]).sum()) for outcome, key in OURS.items()}
    keys = [key for key, n in counts.items() if n]
    waited = median_of((facts.columns.end[hit] - facts.columns.start[hit]) / 1e9)
    silent = hit[facts.columns.first_output[hit] == MISSING]
    cause = (
        "requests wait in a queue that is too long, or for something that never answers"
        if 2 * len(silent) >= len(hit)
        else "streams begin and then stand still: the model or what stands before it stopped without closing"
    )
    yield Finding(
        name="gave_up",
        target=facts.target,
        words=(
            f"{len(hit):,} of {len(facts.counted):,} requests were given up by us after {waited or 0:.1f} s "
            f"({', '.join(keys)})"
        ),
        evidence=facts.basis(hit, len(facts.counted), "requests", waited_s=waited, without_output=float(len(silent))),
        cause=cause,
        check=(
            "do they end by themselves if given longer? raise that time-out and run again; compare with the "
            "browser's own"
        ),
        remedy=(
            "the server should end them before the client does: a time-out of its own on each call to the model, "
            "with an error that the user sees"
        ),
        lost=len(hit) / len(facts.counted),
    )  # fmt: skip


def slow_failures(facts: TargetFacts) -> Iterator[Finding]:
    """Failures that take long: every one holds a connection and a user all that time."""
    columns = facts.columns
    none = columns.first_output[facts.counted] == MISSING
    failed = facts.counted[none & ~columns.having(facts.counted, GOOD)]
    failed = failed[columns.start[failed] != MISSING]
    usual = facts.median("ttft_service_ms", facts.good)
    took = (columns.end[failed] - columns.start[failed]) / 1e9
    edge = max(SLOW_S, 5 * (usual or 0.0) / 1e3)
    hit = failed[took > edge]
    if len(hit) < LEAST or 2 * len(hit) < len(failed):
        return
    each = float(np.median(took[took > edge]))
    yield Finding(
        name="slow_failures",
        target=facts.target,
        words=(
            f"{len(hit):,} requests failed only after {each:.1f} s without a token; a good one has its first "
            f"after {(usual or 0) / 1e3:.1f} s"
        ),
        evidence=facts.basis(hit, len(facts.counted), "requests", failed_after_s=each, good_ttft_ms=usual),
        cause=(
            "calls to something that does not answer are waited for to the end, so that one failing part holds "
            "up all"
        ),
        check="the app's logs: which call did these requests wait for?",
        remedy=(
            "a circuit breaker: after some failures in a row fail at once for a while; a short time-out on each "
            "call"
        ),
        waits_ms=each * 1e3 * len(hit) / len(facts.counted),
    )  # fmt: skip


def _broken(facts: TargetFacts) -> IntArray:
    """Requests that the server failed, other than by a time-out or a limit."""
    columns, rows = facts.columns, facts.counted
    status = columns.facts["http_status"][rows]
    http = columns.having(rows, [Outcome.HTTP_ERROR]) & (status >= 500) & ~np.isin(status, TIME_OUT_STATUS)
    hit = rows[http | columns.having(rows, BROKEN)]
    return np.setdiff1d(np.setdiff1d(hit, died_alike(facts)), refused(facts)[1])


def _failing(facts: TargetFacts) -> float:
    return float((~facts.columns.having(facts.counted, GOOD)).mean()) if len(facts.counted) else 0.0


def _outcomes(facts: TargetFacts, rows: IntArray) -> list[str]:
    names = tuple(one.value for one in Outcome)
    return [names[code] for code in facts.columns.outcome[rows].tolist()]


def _counted(facts: TargetFacts, hit: IntArray) -> str:
    """`8 HTTP 500, 4 truncated`."""
    status = facts.columns.facts["http_status"][hit].tolist()
    words = [f"HTTP {code}" if name == "http_error" else name.replace("_", " ")
             for name, code in zip(_outcomes(facts, hit), status, strict=True)]  # fmt: skip
    counts = {word: words.count(word) for word in dict.fromkeys(words)}
    return ", ".join(f"{n:,} {word}" for word, n in sorted(counts.items(), key=lambda one: -one[1]))


def _kinds(facts: TargetFacts, hit: IntArray) -> list[Failure]:
    """The kinds of failure that these are, most frequent first."""
    ends = set(_outcomes(facts, hit))
    own = [one for one in facts.columns.failures
           if one.target == facts.target and one.outcome in ends and one.phase in facts.run.scope.judged]  # fmt: skip
    return sorted(own, key=lambda one: -one.count)
