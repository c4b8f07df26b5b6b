"""The way to the target: refused connections, lost packets, distance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from streamgauge.columns import FloatArray, IntArray
from streamgauge.findings.finding import Finding, TargetFacts
from streamgauge.sample import Outcome

LEAST = 3
AGAIN_MS = 950.0
"""A SYN without an answer is sent again after 1 s (RFC 6298), then after 2 s more."""
FAR_MS = 40.0
"""A round trip that is worth a word: light takes 40 ms for 4,000 km there and back by fibre."""
FAR_SHARE = 0.1
NEAREST = 0.1


def connections_refused(facts: TargetFacts) -> Iterator[Finding]:
    """Nobody listens, or the backlog is full."""
    hit = facts.ended_in_service(Outcome.CONNECT_REFUSED)
    if len(hit) < LEAST:
        return
    some = f"; {len(facts.good):,} others were served" if len(facts.good) else ""
    yield Finding(
        name="connections_refused",
        target=facts.target,
        words=f"{len(hit):,} of {len(facts.counted):,} requests found no open door: the connection was refused{some}",
        evidence=facts.basis(hit, len(facts.counted), "requests"),
        cause="the process is gone or restarts, or its backlog of connections is full",
        check="did it restart at that time? ss -ltn shows the backlog (Send-Q) and how full it is (Recv-Q)",
        remedy="keep one instance up while another restarts; a larger backlog (somaxconn and the server's own)",
        lost=len(hit) / len(facts.counted),
    )


def connects_again(facts: TargetFacts) -> Iterator[Finding]:
    """Connections that took 1 s or 3 s while others took ms: their first packet was lost."""
    rows, took = _connects(facts)
    start = facts.columns.start[rows]
    amid = facts.run.amid_outage(start, start + (took * 1e6).astype(np.int64))
    rows, took = rows[~amid], took[~amid]
    hit = rows[took >= AGAIN_MS]
    if len(hit) < LEAST or float(np.median(took)) >= AGAIN_MS / 3:
        return
    yield Finding(
        name="connects_again",
        target=facts.target,
        words=(
            f"{len(hit):,} of {len(rows):,} new connections took {np.median(took[took >= AGAIN_MS]):,.0f} ms, the "
            f"others {np.median(took[took < AGAIN_MS]):,.3g} ms"
        ),
        evidence=facts.basis(
            hit, len(rows), "connections", slow_ms=float(np.median(took[took >= AGAIN_MS])),
            usual_ms=float(np.median(took[took < AGAIN_MS])),
        ),
        cause="packets are lost on the way, or the listener's backlog is full and drops them",
        check="nstat -az TcpExtListenOverflows TcpRetransSegs on the server, before and after",
        remedy="a larger backlog, more processes that accept; else mend the network",
        waits_ms=float(took[took >= AGAIN_MS].sum()) / max(len(facts.counted), 1),
    )  # fmt: skip


def far_away(facts: TargetFacts) -> Iterator[Finding]:
    """A long round trip: each request pays it once, each new connection two or three times."""
    rows, took = _connects(facts)
    first = facts.median("ttft_ms")
    if len(rows) < LEAST or first is None:
        return
    trip = float(np.quantile(took, NEAREST))  # no connection is made sooner than its packets travel
    if trip < FAR_MS or trip < FAR_SHARE * first or int((took >= trip).sum()) < LEAST:
        return
    yield Finding(
        name="far_away",
        target=facts.target,
        words=(
            f"the target is {trip:,.0f} ms away (TCP connect), {trip / first:.0%} of the median TTFT of {first:,.0f} ms"
        ),
        evidence=facts.basis(rows[took >= trip], len(rows), "connections", connect_ms=trip, ttft_ms=first),
        cause="distance between this machine and the target (or a proxy that answers slowly)",
        check="the same from a machine in the target's region; where do your users sit?",
        remedy="an edge or a region nearer to users; keep connections open, TLS 1.3 with session resumption",
        waits_ms=trip,
    )


def _connects(facts: TargetFacts) -> tuple[IntArray, FloatArray]:
    """(requests of all phases that made a connection, how long it took in ms), less what we were late to notice."""
    rows = facts.columns.select(targets=[facts.target])
    took = facts.columns.values["connect_ms"][rows]
    keep = ~np.isnan(took)
    return rows[keep], np.maximum(took[keep] - facts.columns.late_ms[rows[keep]], 0.0)
