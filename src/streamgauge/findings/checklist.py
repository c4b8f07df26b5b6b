"""The strategy's root-cause lists, line by line: found, ruled out, or not looked at, and then what to add to look.

Rules: a line is found where a rule of its own found something, silenced or not. It is ruled out only where the run
could have seen it, and says by what. All else was not looked at: nothing is ruled out by silence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec

from streamgauge.findings import Finding, Found, RunFacts, looked, wanted
from streamgauge.findings.probes import HEAP
from streamgauge.findings.steps import MODEL
from streamgauge.sample import Outcome

LONGER = "longer streams, or more of them: fewer than three broke off"
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
    add: str | Callable[[RunFacts], str]
    """What to add where it could not see: always the same, or by what the run lacks."""
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
    words = line.add if isinstance(line.add, str) else line.add(run)
    return Look(cause=cause, line=line.text, state="not_looked_at", words=words, findings=[])


_PROBE = "the server's memory over time: streamgauge run memory with a probe ([probes.NAME])"


def _idle(finding: Finding) -> bool:
    return bool(finding.evidence.values.get("alike_by_silence"))


def _total(finding: Finding) -> bool:
    return bool(finding.evidence.values.get("alike_by_age"))


def _of_provider(finding: Finding) -> bool:
    return finding.name != "step_slow" or MODEL.search(finding.words) is not None


ROOT_CAUSES: dict[str, tuple[Line, ...]] = {
    "High TTFT": (
        Line("Check provider API latency", ("provider_slow", "step_slow", "faster_target"), looked.controls,
             'a control: control = "NAME" in the target, a target that asks the provider itself', _of_provider),
        Line("Verify network connectivity", ("far_away", "connects_again", "connections_refused"), looked.network,
             "new connections: this run made too few to time them"),
        Line("Review server resource usage (CPU, memory)",
             ("cpu_busy", "slower_under_load", "uneven_instances", "ttft_rising", "pace_falling", "memory_limit_near",
              "collapses"), looked.load,
             wanted.gauge(("cpu_s",), "a probe of the server ([probes.NAME]), and the test concurrent, which compares "
                          "with one stream alone")),
        Line("Check database query performance", ("database_slow",), looked.database,
             "the app's own word: have it send Server-Timing: db;dur=MILLISECONDS with each answer"),
        Line("Validate connection pooling", ("no_keep_alive", "keep_alive_cut"), looked.reused,
             "more requests than streams, so that a connection could be used again"),
    ),
    "High error rates": (
        Line("Review server logs for exceptions", ("server_errors", "connections_refused", "crashed", "restart_seen"),
             looked.none_of("failed with a 5xx or an error in the stream",
                      Outcome.HTTP_ERROR, Outcome.STREAM_ERROR, Outcome.TRUNCATED, Outcome.EMPTY),
             FEW),
        Line("Check provider API status", ("provider_errors",), looked.no_provider,
             'a control: control = "NAME" in the target, a target that asks the provider itself'),
        Line("Verify authentication/authorization", ("not_let_in",),
             looked.none_of("got 401, 403 or a login page", Outcome.AUTH_ERROR), FEW),
        Line("Monitor rate limits", ("rate_limited", "limit_at_once", "requests_run_out_first", "sheds"),
             looked.none_of("were refused for their rate", Outcome.RATE_LIMITED), FEW),
        Line("Check timeout configurations", ("cut_at_equal_ages", "gave_up", "slow_failures"),
             looked.none_of("ran into a time-out of ours", Outcome.CONNECT_TIMEOUT,
                      Outcome.FIRST_TOKEN_TIMEOUT, Outcome.STALL_TIMEOUT, Outcome.TOTAL_TIMEOUT), FEW),
    ),
    "Memory leaks": (
        Line("Analyze heap snapshots", ("memory_grows", "memory_not_given_back"), looked.memory,
             wanted.growth(_PROBE)),
        Line("Review connection cleanup", ("connections_kept",), looked.counts("connections", "descriptors"),
             wanted.gauge(("connections", "descriptors"),
                          "a probe that tells connections or descriptors ([probes.NAME]; kind = \"process\" does)")),
        Line("Check for circular references", ("collector_sawtooth",), looked.collected,
             wanted.collected("heap_used after a collection: a JSON probe that can ask for one")),
        Line("Verify event listener cleanup", ("left_by_requests", "gauge_rises"), looked.per_request,
             wanted.growth("the server's memory beside its requests: streamgauge run memory with a probe; a gauge of "
                           "listeners")),
        Line("Profile with Chrome DevTools", ("outside_heap", "memory_grows"), looked.heap,
             wanted.gauge((HEAP,), "a probe that tells heap_used (the shipped route handlers do); DevTools themselves: "
                          "node --inspect")),
    ),
    "Connection drops": (
        Line("Check load balancer timeout settings", ("cut_at_equal_ages",),
             looked.no_equal("not after equal silences"),
             LONGER, _idle),
        Line("Verify Lambda/ECS timeout configs", ("cut_at_equal_ages",),
             looked.no_equal("not at equal ages"),
             LONGER, _total),
        Line("Review network stability", ("lost_at_any_age", "lost_together", "connects_again"),
             looked.no_losses, FEW),
        Line("Check client-side timeout handling", ("gave_up",),
             looked.none_of("were given up by this client", Outcome.CONNECT_TIMEOUT, Outcome.FIRST_TOKEN_TIMEOUT,
                      Outcome.STALL_TIMEOUT, Outcome.TOTAL_TIMEOUT), FEW),
        Line("Monitor CloudFront behavior", ("cut_at_equal_ages", "lumps", "answer_at_once"), looked.no_front,
             "answers with their headers: none was kept", lambda finding: "CloudFront" in finding.cause),
    ),
}  # fmt: skip
"""The strategy's lists, in its order and words."""

CALLED_BY: dict[str, frozenset[str]] = {
    "High TTFT": frozenset(
        ("ttft_ms", "ttft_service_ms", "ttfr_ms", "ttfb_ms", "queue_ms", "e2e_ms", "ttft_degradation", "output_rate",
         "tpot_ms", "itl_ms", "longest_gap_ms", "stalls", "goodput", "requests_per_s", "tokens_per_s", "pace_kept",
         "capacity", "recovery_s")
    ),
    "High error rates": frozenset(
        ("error_rate", "errors", "timeouts", "concurrency_held", "goodput", "capacity", "level_error_rate", "crashes")
    ),
    "Memory leaks": frozenset(),
    "Connection drops": frozenset(("drops", "drop_rate", "concurrency_held", "streams_complete")),
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
        "Memory Limits": ("memory_limit_near", "restart_seen", "crashed"),
    },
}
"""The strategy's optimisations, and the rules that suggest each where the data does."""
