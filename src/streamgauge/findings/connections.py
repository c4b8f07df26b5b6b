"""Connections that cannot be used again, or not for long: each new one costs TCP and TLS before the request.

Told by what happened, not by headers: so many connections were open at once, and each one more had to be made because
an earlier one was gone. Requests that failed closed theirs themselves and are not counted against the server; nor are
connections that we ended, as `endurance` does with half of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from streamgauge.columns import MISSING, FloatArray, IntArray
from streamgauge.connections import idle_limit, most_open
from streamgauge.findings.finding import Finding, TargetFacts
from streamgauge.sample import GOOD

LEAST = 6
"""So many connections that had to be made anew tell a rule from chance."""
SHARE = 0.05
"""Where a smaller share of requests needs a new connection, nothing is lost."""
MOST_ALIKE = 0.6
"""This share of them carrying the same number of requests is a limit by number."""
AGE_WITHIN = 1.1

CHECK = "streamgauge check tells whether the server closes; a proxy's log tells which side did"


@dataclass(frozen=True, slots=True)
class _Life:
    """The connections of one target, a row a connection. Ages in s from when its first request began."""

    last_row: IntArray
    carried: IntArray
    last_begun: FloatArray
    """Age at which it still took a request."""
    last_ended: FloatArray
    """Age at which that request ended."""
    ended_ns: IntArray


def no_keep_alive(facts: TargetFacts) -> Iterator[Finding]:
    """Every request needed a connection of its own, though earlier ones had ended."""
    rows, replaced, life = _replaced(facts)
    if replaced < LEAST or replaced * 2 < len(rows) or int(life.carried.max()) > 1:
        return
    yield Finding(
        name="no_keep_alive",
        target=facts.target,
        words=f"each of {len(rows):,} requests needed a connection of its own: connections are not kept alive",
        evidence=facts.basis(rows, len(rows), "requests", **_cost(facts, rows), connections=float(len(life.carried))),
        cause="the server answers with Connection: close or ends messages by closing, or a proxy before it does",
        check=CHECK,
        remedy="nginx: keepalive_timeout above 0; HAProxy: no option httpclose; the app: HTTP/1.1 with chunked answers",
        waits_ms=sum(value or 0.0 for value in _cost(facts, rows).values()),
    )


def keep_alive_cut(facts: TargetFacts) -> Iterator[Finding]:
    """Connections carry several requests, and are then closed: after a number of them, or at an age."""
    rows, replaced, life = _replaced(facts)
    if replaced < LEAST or replaced < SHARE * len(rows) or int(life.carried.max()) == 1:
        return
    gone = np.argsort(life.ended_ns, kind="stable")[:replaced]
    how, values = _how(facts, life, gone)
    retried = int(facts.columns.facts["retried"][rows].sum())
    again = f"; {retried} requests met one that was just gone and had to be sent again" if retried else ""
    yield Finding(
        name="keep_alive_cut",
        target=facts.target,
        words=f"{replaced:,} of {len(life.carried):,} connections were closed {how}{again}",
        evidence=facts.basis(
            life.last_row[gone], len(life.carried), "connections",
            **values, **_cost(facts, rows), retried=float(retried),
        ),
        cause="a limit of the server or proxy on a connection's requests, its age or its idle time",
        check=CHECK,
        remedy=(
            "nginx: keepalive_requests, keepalive_time, keepalive_timeout; HAProxy: timeout http-keep-alive; Envoy: "
            "max_requests_per_connection, max_connection_duration, idle_timeout"
        ),
        waits_ms=sum(value or 0.0 for value in _cost(facts, rows).values()) * replaced / len(rows),
    )  # fmt: skip


def _how(facts: TargetFacts, life: _Life, gone: IntArray) -> tuple[str, dict[str, float | None]]:
    """After how much the connections `gone` were closed."""
    idle = idle_limit(facts.run.closings.of(facts.target))
    most = int(life.carried.max())
    # Closed no earlier than it last took a request, and no later than the next one would have come.
    low, high = float(life.last_begun[gone].max()), float(life.last_ended[gone].min())
    values: dict[str, float | None] = {
        "requests_a_connection": float(np.median(life.carried[gone])),
        "took_requests_until_s": low,
        "gone_after_s": high,
        "idle_s": idle,
    }
    how = [
        f"after {idle:.1f} s without a request" if idle is not None else "",
        f"after {most} requests" if (life.carried[gone] == most).mean() >= MOST_ALIKE else "",
        f"at an age of about {max(low, high):.1f} s" if low <= AGE_WITHIN * high else "",
    ]
    return " or ".join(part for part in how if part) or "while they were free", values


def _cost(facts: TargetFacts, rows: IntArray) -> dict[str, float | None]:
    """Medians of what a new connection costs, in ms."""
    found: dict[str, float | None] = {}
    for name in ("connect_ms", "tls_ms"):
        values = facts.columns.values[name][rows]
        values = values[~np.isnan(values)]
        found[name] = float(np.median(values)) if len(values) else None
    return found


def _replaced(facts: TargetFacts) -> tuple[IntArray, int, _Life]:
    """The target's requests in all phases, how many connections had to be made anew, and the connections' lives."""
    columns = facts.columns
    rows = columns.select(targets=[facts.target])
    rows = rows[(columns.facts["conn"][rows] >= 0) & (columns.facts["sent_ns"][rows] != MISSING)]
    if not len(rows):
        empty = np.empty(0, dtype=np.int64)
        return rows, 0, _Life(empty, empty, empty.astype(float), empty.astype(float), empty)
    rows = rows[np.lexsort((columns.end[rows], columns.facts["conn"][rows], columns.facts["worker"][rows]))]
    key = columns.facts["worker"][rows].astype(np.int64) << 32 | columns.facts["conn"][rows]
    first = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1])))
    last = np.concatenate((first[1:], [len(rows)])) - 1
    begun, ended = columns.start[rows], columns.end[rows]
    life = _Life(
        last_row=rows[last],
        carried=columns.facts["conn_requests"][rows[last]].astype(np.int64) + 1,
        last_begun=(begun[last] - begun[first]) / 1e9,
        last_ended=(ended[last] - begun[first]) / 1e9,
        ended_ns=ended[last],
    )
    failed = int((~columns.having(rows, GOOD)).sum())
    workers = columns.facts["worker"][rows]
    at_once = sum(most_open(begun[workers == one], ended[workers == one]) for one in np.unique(workers))
    replaced = max(len(first) - at_once - failed, 0)
    ends = facts.run.closings.of(facts.target)
    if len(ends):
        replaced = min(replaced, int((~ends.ended_by("us")).sum()))
    return rows, replaced, life
