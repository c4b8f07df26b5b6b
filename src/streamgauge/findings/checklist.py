"""The strategy's root-cause lists, line by line: found, ruled out, or not looked at, and then what to add to look.

Rules: a line is found where a rule of its own found something, silenced or not. It is ruled out only where the run
could have seen it, and says by what. All else was not looked at: nothing is ruled out by silence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from streamgauge.columns import MISSING
from streamgauge.findings import Finding, Found, RunFacts
from streamgauge.findings.cuts import ENDED, died_alike
from streamgauge.findings.cuts import LEAST as ALIKE_FROM
from streamgauge.findings.memory import section
from streamgauge.findings.probes import HEAP, MB, cpu_share, series_of
from streamgauge.findings.steps import DATABASE, MODEL, timed, under_load
from streamgauge.sample import GOOD, Outcome

LEAST = 20
TIMED = 3
FEW = "more requests: too few were so to tell a cause"


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One line of one list, for the run."""

    cause: str
    """The list: High TTFT, High error rates, Memory leaks, Connection drops."""
    line: str
    """As the strategy has it."""
    state: Literal["found", "ruled_out", "not_looked_at"]
    words: str
    """What was found, what rules it out, or what to add so that it is looked at."""
    findings: list[str]
    """The rules that found it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a list."""

    text: str
    rules: tuple[str, ...]
    seen: Callable[[RunFacts], str | None]
    """What the run saw that rules it out where no rule found anything; None where it could not see."""
    add: str
    counts: Callable[[Finding], bool] = lambda finding: True
    """Which findings of its rules speak of this line."""


def checklist(run: RunFacts, found: Found) -> list[Look]:
    """Every line of the lists that a failed criterion calls for."""
    return [_look(run, found, cause, line) for cause in causes(run) for line in ROOT_CAUSES[cause]]


def causes(run: RunFacts) -> list[str]:
    """The lists that match what failed, in the strategy's order."""
    failed = {one.metric for one in run.judged if one.verdict == "fail" and not one.advisory}
    wanted = {cause for cause, metrics in CALLED_BY.items() if failed & metrics}
    wanted |= {"Memory leaks"} if any(metric.startswith("memory") for metric in failed) else set()
    rows = run.scope.rows(run.columns)
    lost = int(run.columns.having(rows, [Outcome.DROPPED, Outcome.TRUNCATED]).sum())
    wanted |= {"Connection drops"} if "High error rates" in wanted and lost else set()
    return [cause for cause in ROOT_CAUSES if cause in wanted]


def _look(run: RunFacts, found: Found, cause: str, line: Line) -> Look:
    hits = [one for one in found.findings if one.name in line.rules and line.counts(one)]
    quiet = [name for name in line.rules if found.silenced.get(name)]
    if hits or quiet:
        words = hits[0].words if hits else f"found, and silenced in the spec ({', '.join(quiet)})"
        names = list(dict.fromkeys([*(one.name for one in hits), *quiet]))
        return Look(cause=cause, line=line.text, state="found", words=words, findings=names)
    seen = line.seen(run)
    if seen is not None:
        return Look(cause=cause, line=line.text, state="ruled_out", words=seen, findings=[])
    return Look(cause=cause, line=line.text, state="not_looked_at", words=line.add, findings=[])


# What a run saw.


def _controls(run: RunFacts) -> str | None:
    """The provider alone."""
    told = []
    for target in run.scope.targets:
        took = run.of(run.controls[target]).values("ttft_service_ms") if target in run.controls else np.empty(0)
        if len(took) < LEAST:
            return None
        p95 = float(np.quantile(took, 0.95))
        told.append(f"{run.controls[target]} alone has its p95 TTFT at {p95:,.0f} ms")
    return "; ".join(told) or None


def _network(run: RunFacts) -> str | None:
    took = run.columns.values["connect_ms"][run.columns.select(targets=run.scope.targets)]
    took = took[~np.isnan(took)]
    if len(took) < TIMED:
        return None
    return f"{len(took):,} connections took {np.median(took):,.1f} ms at the median, {took.max():,.0f} ms at most"


def _load(run: RunFacts) -> str | None:
    """More streams make it no slower, or the processor is not used up."""
    cores = [
        (one.name, share) for one in series_of(run.readings, "cpu_s") if (share := cpu_share(run, one)) is not None
    ]
    if cores:
        return "; ".join(f"{name} used {share:.0%} of one core" for name, share in cores)
    told = [under_load(run.of(target)) for target in run.scope.targets]
    if not told or any(one is None for one in told):
        return None
    times = max(many / alone for alone, many, _ in (one for one in told if one is not None))
    return f"with all streams the median TTFT is {times:.1f} times that of one alone"


def _database(run: RunFacts) -> str | None:
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


def _reused(run: RunFacts) -> str | None:
    rows = run.columns.select(targets=run.scope.targets)
    sent = rows[(run.columns.facts["conn"][rows] >= 0) & (run.columns.facts["sent_ns"][rows] != MISSING)]
    again = int((run.columns.facts["conn_requests"][sent] > 0).sum())
    if not again:
        return None
    return f"{again:,} of {len(sent):,} requests went out on a connection that was there"


def _none_of(words: str, *outcomes: Outcome) -> Callable[[RunFacts], str | None]:
    """Ruled out by counting: so many requests, none of them so."""

    def seen(run: RunFacts) -> str | None:
        rows = run.scope.rows(run.columns)
        k = int(run.columns.having(rows, outcomes).sum())
        return f"none of {len(rows):,} requests {words}" if len(rows) and not k else None

    return seen


def _no_equal(words: str) -> Callable[[RunFacts], str | None]:
    """Streams broke off, enough to tell that it was not so; or none did."""

    def seen(run: RunFacts) -> str | None:
        rows = run.scope.rows(run.columns)
        k = int(run.columns.having(rows, ENDED).sum())
        return (
            f"{k:,} of {len(rows):,} streams broke off, {words}" if len(rows) and (not k or k >= ALIKE_FROM) else None
        )

    return seen


def _no_losses(run: RunFacts) -> str | None:
    """Whatever was dropped was so by a time-out."""
    every = [run.of(target) for target in run.scope.targets]
    lost = sum(len(facts.ended(Outcome.DROPPED)) for facts in every)
    others = sum(len(np.setdiff1d(facts.ended(Outcome.DROPPED), died_alike(facts))) for facts in every)
    if others or not every:
        return None
    return f"all {lost:,} connections that were lost were so by a time-out" if lost else "no connection was lost"


def _no_provider(run: RunFacts) -> str | None:
    """Controls answer well, or nothing speaks of overload."""
    for target in run.scope.targets:
        if target not in run.controls:
            return None
        rows = run.of(run.controls[target]).counted
        if len(rows) < LEAST or not run.columns.having(rows, GOOD).all():
            return None
    return "the controls, asked at the same time, had no errors"


def _no_front(run: RunFacts) -> str | None:
    """CloudFront names itself in what it passes on."""
    ways = [run.of(target).way for target in run.scope.targets]
    told = any(one.target in run.scope.targets and (one.headers or one.answered_by) for one in run.columns.slowest)
    if not told:
        return None
    if not any("CloudFront" in way for way in ways):
        return "no answer names CloudFront as on the way"
    return "CloudFront is on the way, and no streams ended at equal ages or after equal silences"


def _memory(run: RunFacts) -> str | None:
    """Growth was fitted, and is none."""
    told = [one for one in section(run) if one.judged and not one.mixed and one.high is not None]
    if not told:
        return None
    return "; ".join(f"{one.gauge} of {one.probe} grows by at most {one.high:,.0f} MB/h" for one in told)


def _per_request(run: RunFacts) -> str | None:
    told = [one for one in section(run) if one.judged and one.growth_kb_per_request is not None]
    return "; ".join(f"{one.growth_kb_per_request:,.1f} KB a request ({one.probe})" for one in told) or None


def _heap(run: RunFacts) -> str | None:
    told = [one for one in section(run) if one.gauge == HEAP and one.high is not None]
    return "; ".join(f"the heap of {one.probe} grows by at most {one.high:,.0f} MB/h" for one in told) or None


def _counts(*gauges: str) -> Callable[[RunFacts], str | None]:
    """Counts were read, and do not rise."""

    def seen(run: RunFacts) -> str | None:
        told = [(gauge, one) for gauge in gauges for one in series_of(run.readings, gauge)]
        words = (
            f"{gauge} of {one.name}: {one.values[0]:,.0f}, at the end {one.values[-1]:,.0f}" for gauge, one in told
        )
        return "; ".join(words) or None

    return seen


def _collected(run: RunFacts) -> str | None:
    """What is left after a collection is not held by circles alone."""
    after = [one.values[HEAP] / MB for one in run.readings if one.collected and HEAP in one.values]
    if len(after) < TIMED:
        return None
    return f"after a collection {after[0]:,.0f} MB at first, {after[-1]:,.0f} MB at last: circles are collected"


_PROBE = "the server's memory over time: streamgauge run memory with a probe ([probes.NAME])"


def _idle(finding: Finding) -> bool:
    return bool(finding.evidence.values.get("alike_by_silence"))


def _total(finding: Finding) -> bool:
    return bool(finding.evidence.values.get("alike_by_age"))


def _of_provider(finding: Finding) -> bool:
    return finding.name != "step_slow" or MODEL.search(finding.words) is not None


ROOT_CAUSES: dict[str, tuple[Line, ...]] = {
    "High TTFT": (
        Line("Check provider API latency", ("provider_slow", "step_slow", "faster_target"), _controls,
             'a control: control = "NAME" in the target, a target that asks the provider itself', _of_provider),
        Line("Verify network connectivity", ("far_away", "connects_again", "connections_refused"), _network,
             "new connections: this run made too few to time them"),
        Line("Review server resource usage (CPU, memory)",
             ("cpu_busy", "slower_under_load", "uneven_instances", "ttft_rising", "pace_falling", "memory_limit_near",
              "collapses"), _load,
             "a probe of the server ([probes.NAME]), and the test concurrent, which compares with one stream alone"),
        Line("Check database query performance", ("database_slow",), _database,
             "the app's own word: have it send Server-Timing: db;dur=MILLISECONDS with each answer"),
        Line("Validate connection pooling", ("no_keep_alive", "keep_alive_cut"), _reused,
             "more requests than streams, so that a connection could be used again"),
    ),
    "High error rates": (
        Line("Review server logs for exceptions", ("server_errors", "connections_refused", "crashed", "restart_seen"),
             _none_of("failed with a 5xx or an error in the stream",
                      Outcome.HTTP_ERROR, Outcome.STREAM_ERROR, Outcome.TRUNCATED, Outcome.EMPTY),
             FEW),
        Line("Check provider API status", ("provider_errors",), _no_provider,
             'a control: control = "NAME" in the target, a target that asks the provider itself'),
        Line("Verify authentication/authorization", ("not_let_in",),
             _none_of("were not let in", Outcome.AUTH_ERROR), FEW),
        Line("Monitor rate limits", ("rate_limited", "limit_at_once", "requests_run_out_first", "sheds"),
             _none_of("were refused for their rate", Outcome.RATE_LIMITED), FEW),
        Line("Check timeout configurations", ("cut_at_equal_ages", "gave_up", "slow_failures"),
             _none_of("ran into a time-out of ours", Outcome.CONNECT_TIMEOUT,
                      Outcome.FIRST_TOKEN_TIMEOUT, Outcome.STALL_TIMEOUT, Outcome.TOTAL_TIMEOUT), FEW),
    ),
    "Memory leaks": (
        Line("Analyze heap snapshots", ("memory_grows", "memory_not_given_back"), _memory, _PROBE),
        Line("Review connection cleanup", ("connections_kept",), _counts("connections", "descriptors"),
             "a probe that tells connections or descriptors ([probes.NAME]; kind = \"process\" does)"),
        Line("Check for circular references", ("collector_sawtooth",), _collected,
             "heap_used after a collection: a JSON probe that can ask for one"),
        Line("Verify event listener cleanup", ("left_by_requests", "gauge_rises"), _per_request,
             "the server's memory beside its requests: streamgauge run memory with a probe; a gauge of listeners"),
        Line("Profile with Chrome DevTools", ("outside_heap", "memory_grows"), _heap,
             "a probe that tells heap_used (the shipped route handlers do); DevTools themselves: node --inspect"),
    ),
    "Connection drops": (
        Line("Check load balancer timeout settings", ("cut_at_equal_ages",),
             _no_equal("not after equal silences"),
             "longer streams", _idle),
        Line("Verify Lambda/ECS timeout configs", ("cut_at_equal_ages",),
             _no_equal("not at equal ages"),
             "longer streams", _total),
        Line("Review network stability", ("lost_at_any_age", "lost_together", "connects_again"),
             _no_losses, FEW),
        Line("Check client-side timeout handling", ("gave_up",),
             _none_of("were given up by this client", Outcome.CONNECT_TIMEOUT, Outcome.FIRST_TOKEN_TIMEOUT,
                      Outcome.STALL_TIMEOUT, Outcome.TOTAL_TIMEOUT), FEW),
        Line("Monitor CloudFront behavior", ("cut_at_equal_ages", "lumps", "answer_at_once"), _no_front,
             "answers with their headers: none was kept", lambda finding: "CloudFront" in finding.cause),
    ),
}  # fmt: skip
"""The strategy's lists, in its order and words."""

CALLED_BY: dict[str, frozenset[str]] = {
    "High TTFT": frozenset(
        ("ttft_ms", "ttft_service_ms", "ttfr_ms", "ttfb_ms", "queue_ms", "e2e_ms", "ttft_degradation", "output_rate",
         "tpot_ms", "itl_ms", "longest_gap_ms", "stalls", "goodput", "requests_per_s", "tokens_per_s")
    ),
    "High error rates": frozenset(("error_rate", "errors", "timeouts", "concurrency_held", "goodput")),
    "Memory leaks": frozenset(),
    "Connection drops": frozenset(("drops", "drop_rate", "concurrency_held")),
}  # fmt: skip
"""Which failed metrics call for a list; metrics of memory call for theirs by their name."""

OPTIMISATIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "TTFT Optimization": {
        "Provider Selection": ("faster_target", "cheaper_target", "provider_slow", "step_slow"),
        "Caching": ("cached", "not_cached"),
        "Connection Pooling": ("no_keep_alive", "keep_alive_cut"),
        "Edge Deployment": ("far_away",),
        "Request Batching": ("requests_run_out_first",),
    },
    "Concurrency Optimization": {
        "Auto-scaling": ("scale_out", "limit_at_once", "slower_under_load"),
        "Load Balancing": ("uneven_instances",),
        "Connection Limits": ("limit_at_once", "sheds", "collapses", "connections_refused"),
        "Resource Allocation": ("cpu_busy", "slower_under_load", "ttft_rising", "pace_falling"),
        "Circuit Breakers": ("slow_failures", "provider_errors", "collapses"),
    },
    "Memory Optimization": {
        "Stream Cleanup": ("memory_grows", "left_by_requests"),
        "Connection Cleanup": ("connections_kept",),
        "Buffer Management": ("memory_not_given_back", "outside_heap", "slows_within"),
        "Garbage Collection": ("collector_sawtooth",),
        "Memory Limits": ("memory_limit_near", "restart_seen"),
    },
}
"""The strategy's optimisations, and the rules that suggest each where the data does."""
