"""What a run saw of each line of the root-cause lists: the words that rule it out, or None where it could not see.

Each function takes the run's facts, and is asked only where no rule found anything for the line.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from streamgauge.columns import MISSING
from streamgauge.findings.cuts import ENDED, died_alike
from streamgauge.findings.cuts import LEAST as ALIKE_FROM
from streamgauge.findings.finding import RunFacts
from streamgauge.findings.memory import section
from streamgauge.findings.probes import HEAP, MB, cpu_share, series_of
from streamgauge.findings.steps import DATABASE, timed, under_load
from streamgauge.sample import GOOD, Outcome
from streamgauge.shares import share_of

LEAST = 20
TIMED = 3


def controls(run: RunFacts) -> str | None:
    """The provider alone."""
    told = []
    for target in run.scope.targets:
        took = run.of(run.controls[target]).values("ttft_service_ms") if target in run.controls else np.empty(0)
        if len(took) < LEAST:
            return None
        p95 = float(np.quantile(took, 0.95))
        told.append(f"{run.controls[target]} alone has its p95 TTFT at {p95:,.0f} ms")
    return "; ".join(told) or None


def network(run: RunFacts) -> str | None:
    """New connections were timed."""
    took = run.columns.values["connect_ms"][run.columns.select(targets=run.scope.targets)]
    took = took[~np.isnan(took)]
    if len(took) < TIMED:
        return None
    return f"{len(took):,} connections took {np.median(took):,.1f} ms at the median, {took.max():,.0f} ms at most"


def load(run: RunFacts) -> str | None:
    """More streams make it no slower, or the processor is not used up."""
    cores = [
        (one.name, share) for one in series_of(run.readings, "cpu_s") if (share := cpu_share(run, one)) is not None
    ]
    if cores:
        return "; ".join(f"{name} used {share_of(share, 'one core')}" for name, share in cores)
    told = [under_load(run.of(target)) for target in run.scope.targets]
    if not told or any(one is None for one in told):
        return None
    times = max(many / alone for alone, many, _ in (one for one in told if one is not None))
    return f"with all streams the median TTFT is {times:.1f} times that of one alone"


def database(run: RunFacts) -> str | None:
    """Server-Timing names a database, and it is not what the slow ones wait for."""
    took = [
        ms
        for target in run.scope.targets
        for _, steps in timed(run.of(target))
        for name, ms in steps.items()
        if DATABASE.search(name)
    ]
    if len(took) < TIMED:
        return None
    return f"Server-Timing of the slowest requests: {np.median(took):,.0f} ms for the database at the median"


def reused(run: RunFacts) -> str | None:
    """Connections were used again."""
    rows = run.columns.select(targets=run.scope.targets)
    sent = rows[(run.columns.facts["conn"][rows] >= 0) & (run.columns.facts["sent_ns"][rows] != MISSING)]
    again = int((run.columns.facts["conn_requests"][sent] > 0).sum())
    if not again:
        return None
    return f"{again:,} of {len(sent):,} requests went out on a connection that was there"


def none_of(words: str, *outcomes: Outcome) -> Callable[[RunFacts], str | None]:
    """Ruled out by counting: so many requests, none of them so."""

    def seen(run: RunFacts) -> str | None:
        rows = run.scope.rows(run.columns)
        k = int(run.columns.having(rows, outcomes).sum())
        return f"none of {len(rows):,} requests {words}" if len(rows) and not k else None

    return seen


def no_equal(words: str) -> Callable[[RunFacts], str | None]:
    """Streams broke off, enough to tell that it was not so; or none did."""

    def seen(run: RunFacts) -> str | None:
        rows = run.scope.rows(run.columns)
        k = int(run.columns.having(rows, ENDED).sum())
        return (
            f"{k:,} of {len(rows):,} streams broke off, {words}" if len(rows) and (not k or k >= ALIKE_FROM) else None
        )

    return seen


def no_losses(run: RunFacts) -> str | None:
    """Whatever was dropped was so by a time-out."""
    every = [run.of(target) for target in run.scope.targets]
    lost = sum(len(facts.ended(Outcome.DROPPED)) for facts in every)
    others = sum(len(np.setdiff1d(facts.ended(Outcome.DROPPED), died_alike(facts))) for facts in every)
    if others or not every:
        return None
    return f"all {lost:,} connections that were lost were so by a time-out" if lost else "no connection was lost"


def no_provider(run: RunFacts) -> str | None:
    """Controls answer well, or nothing speaks of overload."""
    for target in run.scope.targets:
        if target not in run.controls:
            return None
        rows = run.of(run.controls[target]).counted
        if len(rows) < LEAST or not run.columns.having(rows, GOOD).all():
            return None
    return "the controls, asked at the same time, had no errors"


def no_front(run: RunFacts) -> str | None:
    """CloudFront names itself in what it passes on."""
    ways = [run.of(target).way for target in run.scope.targets]
    told = any(one.target in run.scope.targets and (one.headers or one.answered_by) for one in run.columns.slowest)
    if not told:
        return None
    if not any("CloudFront" in way for way in ways):
        return "no answer names CloudFront as on the way"
    return "CloudFront is on the way, and no streams ended at equal ages or after equal silences"


def memory(run: RunFacts) -> str | None:
    """Growth was fitted, and is none."""
    told = [one for one in section(run) if one.judged and not one.mixed and one.high is not None]
    if not told:
        return None
    return "; ".join(f"{one.gauge} of {one.probe} grows by at most {one.high:,.0f} MB/h" for one in told)


def per_request(run: RunFacts) -> str | None:
    """What a request leaves behind was fitted."""
    told = [one for one in section(run) if one.judged and one.growth_kb_per_request is not None]
    return "; ".join(f"{one.growth_kb_per_request:,.1f} KB a request ({one.probe})" for one in told) or None


def heap(run: RunFacts) -> str | None:
    """The heap was read, apart from the process."""
    told = [one for one in section(run) if one.gauge == HEAP and one.high is not None]
    return "; ".join(f"the heap of {one.probe} grows by at most {one.high:,.0f} MB/h" for one in told) or None


def counts(*gauges: str) -> Callable[[RunFacts], str | None]:
    """Counts were read, and do not rise."""

    def seen(run: RunFacts) -> str | None:
        told = [(gauge, one) for gauge in gauges for one in series_of(run.readings, gauge)]
        words = (
            f"{gauge} of {one.name}: {one.values[0]:,.0f}, at the end {one.values[-1]:,.0f}" for gauge, one in told
        )
        return "; ".join(words) or None

    return seen


def collected(run: RunFacts) -> str | None:
    """What is left after a collection is not held by circles alone."""
    after = [one.values[HEAP] / MB for one in run.readings if one.collected and HEAP in one.values]
    if len(after) < TIMED:
        return None
    return f"after a collection {after[0]:,.0f} MB at first, {after[-1]:,.0f} MB at last: circles are collected"
