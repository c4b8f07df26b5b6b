"""Requests that were refused at once: by a rate, or by how many were open.

Which of the two is told by what was open when each request came. If nearly all that were refused met more open
requests than nearly all that were taken, it is a limit of how many there may be at once; else one of the rate, and then
the rate that got through while others were refused is what it lets through.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from streamgauge.columns import MISSING, BoolArray, IntArray
from streamgauge.findings.finding import Finding, TargetFacts
from streamgauge.sample import REPEATS, Outcome

LEAST = 3
SHARE_EXPLAINED = 0.9
REFUSED_WITHIN_S = 2.0
"""Who refuses at a limit does so soon; a 503 that took longer had tried."""
ALL_BUT = ("warmup", REPEATS)


def refused(facts: TargetFacts) -> tuple[IntArray, IntArray]:
    """(requests that were sent in any phase but the warm-up, those of them that were refused at once)."""
    columns = facts.columns
    phases = tuple(name for name in columns.phases if name not in ALL_BUT)
    rows = columns.select(targets=[facts.target], phases=phases)
    rows = rows[columns.facts["sent_ns"][rows] != MISSING]
    status = columns.facts["http_status"][rows]
    soon = columns.end[rows] - columns.facts["sent_ns"][rows] < REFUSED_WITHIN_S * 1e9
    busy = columns.having(rows, [Outcome.RATE_LIMITED])
    busy |= columns.having(rows, [Outcome.HTTP_ERROR]) & (status == 503)
    none = columns.first_output[rows] == MISSING
    return rows, rows[busy & soon & none]


def limit_at_once(facts: TargetFacts) -> Iterator[Finding]:
    """Requests beyond a number of open ones are refused."""
    rows, hit = refused(facts)
    found = _at_once(facts, rows, hit)
    if found is None:
        return
    most, explained = found
    yield Finding(
        name="limit_at_once",
        target=facts.target,
        words=f"{len(hit):,} of {len(rows):,} requests were refused: no more than {most:,} are taken at once",
        evidence=facts.basis(
            hit, len(rows), "requests", most_at_once=float(most), explained=explained, **_statuses(facts, hit)
        ),
        cause="a limit of connections or workers, and a queue before it that is full (both together are the number)",
        check="hold one stream less than that: none is refused (streamgauge run concurrent --concurrency N)",
        remedy=(
            "that many an instance is the number to scale out at; raise it only if CPU and memory allow, and have "
            "clients told to come back (Retry-After)"
        ),
        lost=_lost(facts, hit),
    )


def too_many_at_once(facts: TargetFacts) -> IntArray:
    """The requests that were refused because too many were open; none where that does not explain it."""
    rows, hit = refused(facts)
    return hit if _at_once(facts, rows, hit) is not None else hit[:0]


def rate_limited(facts: TargetFacts) -> Iterator[Finding]:
    """Requests are refused for their rate (429)."""
    rows, hit = refused(facts)
    hit = hit[facts.columns.facts["http_status"][hit] == 429]
    if len(hit) < LEAST or _at_once(facts, *refused(facts)) is not None:
        return
    columns = facts.columns
    started = np.sort(columns.facts["sent_ns"][rows]) / 1e9
    first = float(columns.facts["sent_ns"][hit].min()) / 1e9
    at_rate = float(((started > first - 1.0) & (started <= first)).sum())
    passed = _let_through(facts, rows, hit)
    minute = float(((started > first - 60.0) & (started < first)).sum())
    told = _told_limits(facts)
    through = f"; while it refused, {passed:.0f} requests/s got through" if passed is not None else ""
    seconds = first - facts.start_ns / 1e9
    yield Finding(
        name="rate_limited",
        target=facts.target,
        words=(
            f"429 for {len(hit):,} of {len(rows):,} requests, from {seconds:.1f} s on, at {at_rate:.0f} "
            f"requests/s{through}"
        ),
        evidence=facts.basis(
            hit, len(rows), "requests", began_at_per_s=at_rate, let_through_per_s=passed,
            in_the_minute_before=minute, **told,
        ),
        cause="a limit of requests (or tokens) a time, of the provider's quota or of a gateway or WAF on the way",
        check="the answers' own headers say which limit it is; what was not ok says who answered",
        remedy=(
            "ask for a higher quota, spread load over keys or regions, queue in the app and honour Retry-After; for "
            "this tool set rpm of the target"
        ),
        lost=_lost(facts, hit),
    )  # fmt: skip


def requests_run_out_first(facts: TargetFacts) -> Iterator[Finding]:
    """The quota of requests is used up while that of tokens is not: fewer, larger requests would fit."""
    limits = _headers(facts)
    shares = [(_left(one, "requests"), _left(one, "tokens")) for one in limits]
    both = [(a, b) for a, b in shares if a is not None and b is not None]
    rows, hit = refused(facts)
    hit = hit[facts.columns.facts["http_status"][hit] == 429]
    if len(hit) < LEAST or not both or min(a for a, _ in both) > 0.02 or min(b for _, b in both) < 0.5:
        return
    yield Finding(
        name="requests_run_out_first",
        target=facts.target,
        words=(
            f"the quota of requests is used up while {min(b for _, b in both):.0%} of that of tokens is left: few "
            "large requests would fit where many small ones do not"
        ),
        evidence=facts.basis(
            hit, len(rows), "requests", requests_left=min(a for a, _ in both), tokens_left=min(b for _, b in both)
        ),
        cause="small requests: the limit of requests a minute strikes long before that of tokens",
        check="compare the provider's two limits in its console",
        remedy="batch where possible: several small questions in one request, or the provider's batch interface",
        lost=_lost(facts, hit),
    )  # fmt: skip


def _at_once(facts: TargetFacts, rows: IntArray, hit: IntArray) -> tuple[int, float] | None:
    """(most that are taken at once, share of the refusals and takings that it explains), where it explains them."""
    if len(hit) < 2 * LEAST or len(hit) == len(rows):
        return None
    columns = facts.columns
    no = np.isin(rows, hit)
    begin, end = columns.facts["sent_ns"][rows], columns.end[rows]
    met = _open_at(begin[~no], end[~no], begin)  # a refused request holds no place
    most = _separates(met, no)
    if most < 1:
        return None
    explained = (float((met[no] >= most).mean()), float((met[~no] < most).mean()))
    # A rate that refuses by chance leaves many open ones untouched; so does one limit on each of many instances.
    full = met >= most
    if min(explained) < SHARE_EXPLAINED or float(no[full].mean()) < SHARE_EXPLAINED:
        return None
    return most, min(explained)


def _open_at(begin: IntArray, end: IntArray, at: IntArray) -> IntArray:
    """How many of the intervals [begin, end) are open at each moment, one that begins just then not counted."""
    return np.searchsorted(np.sort(begin), at, "left") - np.searchsorted(np.sort(end), at, "right")


def _separates(met: IntArray, no: BoolArray) -> int:
    """The number that parts the refused, who met at least so many, from the others best."""
    edges = np.unique(met)
    yes_below = np.searchsorted(np.sort(met[~no]), edges, "left") / max((~no).sum(), 1)
    no_above = 1 - np.searchsorted(np.sort(met[no]), edges, "left") / max(no.sum(), 1)
    return int(edges[int(np.argmax(yes_below + no_above))])


def _let_through(facts: TargetFacts, rows: IntArray, hit: IntArray) -> float | None:
    """Requests/s that were taken, on average over the whole seconds in which others were refused; None below two."""
    columns = facts.columns
    second = ((columns.facts["sent_ns"][rows] - columns.facts["sent_ns"][rows].min()) // 1_000_000_000).astype(np.int64)
    no = np.isin(rows, hit)
    refusing = np.bincount(second[no], minlength=int(second.max()) + 1) > 0
    taken = np.bincount(second[~no], minlength=int(second.max()) + 1)
    refusing[-1] = False  # the last second is not a whole one
    return float(taken[refusing].mean()) if int(refusing.sum()) >= 2 else None


def _lost(facts: TargetFacts, hit: IntArray) -> float:
    judged = np.isin(hit, facts.rows)
    return float(judged.sum()) / max(len(facts.counted), 1)


def _statuses(facts: TargetFacts, hit: IntArray) -> dict[str, float | None]:
    status, counts = np.unique(facts.columns.facts["http_status"][hit], return_counts=True)
    return {f"http_{code}": float(n) for code, n in zip(status.tolist(), counts.tolist(), strict=True) if code > 0}


def _headers(facts: TargetFacts) -> list[dict[str, str]]:
    """What kept answers and failures of this target say of limits."""
    told = [one.headers for one in facts.columns.failures if one.target == facts.target]
    told += [one.headers for one in facts.columns.slowest if one.target == facts.target]
    return [{k.lower(): v for k, v in one.items() if "ratelimit" in k.lower()} for one in told]


def _told_limits(facts: TargetFacts) -> dict[str, float | None]:
    """Retry-After, limit and least remaining, as the answers' headers tell them."""
    found: dict[str, float | None] = {}
    waits = [one.retry_after_s for one in facts.columns.failures if one.target == facts.target]
    known = [wait for wait in waits if wait is not None]
    if known:
        found["retry_after_s"] = max(known)
    for which, pick in (("limit", max), ("remaining", min)):
        for of in ("requests", "tokens"):
            values = [x for one in _headers(facts) if (x := _number(one, which, of)) is not None]
            if values:
                found[f"{which}_{of}"] = pick(values)
    return found


def _left(headers: dict[str, str], of: str) -> float | None:
    """The share of a quota that is left."""
    limit, remaining = _number(headers, "limit", of), _number(headers, "remaining", of)
    return None if not limit or remaining is None else remaining / limit


def _number(headers: dict[str, str], which: str, of: str) -> float | None:
    """A number out of `x-ratelimit-limit-requests` and its like (openai, anthropic); without a kind: of requests."""
    for name, text in headers.items():
        words = name.replace("anthropic-", "").removeprefix("x-").split("-")
        plain = of == "requests" and words in (["ratelimit", which],)
        if (which in words and of in words and "input" not in words and "output" not in words) or plain:
            try:
                return float(text.split(",")[0].split(";")[0])
            except ValueError:
                return None
    return None
